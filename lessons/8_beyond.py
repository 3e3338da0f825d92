# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8 · Beyond
#
# Once a method is a model and a guide, its parts can be exchanged. Here are three
# exchanges that the paper did not make: normalise the product of experts, give the
# guide a width, and write an expert of your own, in twenty lines, for views that are
# sometimes wrong. At the end stands what we know about the puzzle.
#
# *You need:* lessons 3 and 4. *Time:* 15 minutes to read, seconds to run.

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import math
import os

import matplotlib.pyplot as plt
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor, nn
from torch.distributions import kl_divergence

from experiments.figures.style import INK, PALETTE, SETTINGS

FAST = os.environ.get("LESSONS_FAST") == "1"
torch.manual_seed(0)
plt.rcParams.update(SETTINGS)
BLUE, ORANGE, GREEN = PALETTE[:3]

# %%
from experiments.figures.interactive import narrowing_guide
from experiments.images.digits import DigitViews, load
from inference.fitting.kl_objective import KLObjective
from models.networks import two_layer_mlp
from ssl_as_inference import cross_entropy
from ssl_as_inference.derivations import product_of_experts
from ssl_as_inference.distributions import (
    DeltaMixture,
    ProductOfExperts,
    SphericalMixture,
    VonMisesFisher,
    stack_experts,
)
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel
from ssl_as_inference.special import von_mises_fisher_mean_resultant_length
from ssl_as_inference.sphere import log_surface_area, normalize


# %%
def on_a_circle(angle: Tensor, dim: int = 3) -> Tensor:
    """Unit vectors at an angle from the first axis, towards the second."""
    zeros = torch.zeros(*angle.shape, dim - 2, dtype=torch.float64)
    return torch.cat([angle.cos()[..., None], angle.sin()[..., None], zeros], dim=-1)


# %% [markdown]
# ## 1. A product that is a density
#
# The paper multiplies experts and does not divide by $Z(\mathbb{X})$. Divide, and the
# objective is the true divergence, up to the guide's entropy. With von Mises–Fisher
# experts it is $\mathcal L = -\log C(R) - \eta^\top \bar f$, where
# $\eta = \sum_i\kappa_i\mu_i$, $R = \lVert\eta\rVert$ and $\bar f$ is the mean of the
# targets. Its gradient is a moment condition that you met in lesson 2:
#
# $$\nabla_\eta \mathcal{L} = A(R)\,\frac{\eta}{R} - \bar f .$$
#
# *The product's mean should be the targets' mean.* If the targets disagree, $\lVert\bar
# f\rVert < 1$, and $R$ should come down to $A(R) = \lVert\bar f\rVert$. So the
# normalised product can say "these views disagree", even if the $\kappa$ of each expert
# is a constant: by turning the guesses apart. Let two guesses stand at the angles
# $\pm\theta$ from a common target. SimSiam pulls them towards it with a force
# $\propto\sin\theta$. The normaliser weakens the force:
#
# $$\frac{\partial\mathcal L}{\partial\theta} = 2\kappa\,\sin\theta\,\big(1 - A(R)\big),
# \qquad R = 2\kappa\cos\theta.$$

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true}
product_of_experts.ATTENUATION.verify()
product_of_experts.ATTENUATION

# %%
theta = torch.linspace(0.01, 1.55, 150, dtype=torch.float64)
target = on_a_circle(torch.zeros((), dtype=torch.float64))
errors = []
figure, axis = plt.subplots(figsize=(5.5, 3), layout="constrained")
for kappa, shade in ((1.0, "#9ecae1"), (5.0, "#3182bd"), (50.0, "#08306b")):
    angle = theta.clone().requires_grad_()
    guesses = torch.stack([on_a_circle(angle), on_a_circle(-angle)], dim=-2)
    product = ProductOfExperts(VonMisesFisher(guesses, kappa))
    loss = -product.log_prob(target) + product.log_normalizer()
    (pull,) = torch.autograd.grad(loss.sum(), angle)
    label = rf"normalised, $\kappa = {kappa:g}$"
    axis.plot(theta, pull / (2 * kappa), color=shade, label=label)
    length = von_mises_fisher_mean_resultant_length(3, 2 * kappa * theta.cos())
    errors.append(pull / (2 * kappa) - theta.sin() * (1 - length))
axis.plot(theta, theta.sin(), "--", color=INK, label=r"as the paper, $\sin\theta$")
axis.set(xlabel=r"angle $\theta$ of guesses and target", ylabel=r"pull / $2\kappa$")
axis.legend()
plt.show()

# %% tags=["hide-input"] jupyter={"source_hidden": true}
largest = torch.stack(errors).abs().max().item()
print(f"largest difference of autograd and sin θ (1 − A(R)): {largest:.1e}")
assert largest < 1e-6

# %% [markdown]
# Two guesses that are each wrong but right together (their product is centred on the
# target) feel hardly any pull once they are confident. In `KLObjective` the switch is
# `normalized=True`. Does it prevent collapse? No: a guide and a model that ignore the
# images can still agree (lesson 4).
#
# ## 2. A guide with a width
#
# The Dirac guide has no width, so $\mathrm{KL}(q\,\|\,p)$ is infinite. We dropped the
# infinite part, its entropy, because it does not depend on the model. Give the atoms a
# finite concentration $\tau$: a mixture of von Mises–Fisher distributions. The
# cross-entropy still has a closed form, and the paper's loss appears as the limit
# $\tau\to\infty$, with an error that falls as $1/\tau$:

# %%
atoms = normalize(torch.randn(2, 16, dtype=torch.float64))
experts = VonMisesFisher(
    normalize(torch.randn(2, 16, dtype=torch.float64)),
    torch.tensor([5.0, 20.0]).double(),
)
product = ProductOfExperts(experts)
dirac = cross_entropy(DeltaMixture(atoms), product)
widths = [10.0, 100.0, 1_000.0, 10_000.0, 100_000.0]
errors = []
for tau in widths:
    guide = SphericalMixture(VonMisesFisher(atoms, tau))
    errors.append((cross_entropy(guide, product) - dirac).abs().item())

sampled = SphericalMixture(VonMisesFisher(atoms, 10.0))
draws = -product.log_prob(sampled.sample((20_000,)))
exact = cross_entropy(sampled, product)
deviation = draws.std() / math.sqrt(len(draws))
print(f"τ = 10: cross-entropy {exact:.3f}")
print(f"by sampling {draws.mean():.3f} ± {deviation:.3f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert abs(exact - draws.mean()) < 4 * deviation

# %%
figure, axis = plt.subplots(figsize=(4.5, 2.8), layout="constrained")
axis.loglog(widths, errors, "o-", color=BLUE)
axis.set(
    xlabel=r"concentration $\tau$ of the guide", ylabel="distance to the paper's loss"
)
plt.show()
slope = math.log(errors[-1] / errors[-2]) / math.log(10)
print(f"slope at the end: {slope:.3f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert abs(slope + 1) < 0.01

# %% [markdown]
# Move $\tau$ yourself, and watch both the guide and its distance to the limit.

# %% tags=["turnable-figure", "remove-cell"]
narrowing_guide()

# %% [markdown]
# A width is a new setting: a guide that says "the target network is only roughly right"
# asks less of the experts. We have not tried whether it helps. You have all the pieces.
# MCInfoNCE has such a guide with another loss ([related
# work](../docs/related_work.md)).
#
# ## 3. Your own expert
#
# Sometimes a view is simply wrong: a crop that misses the object, a frame from another
# film. A von Mises–Fisher expert takes every target seriously. Here is one with a
# doubt: with probability $\varepsilon$ the target has nothing to do with it,
#
# $$p(z \mid x) = (1-\varepsilon)\,\mathrm{vMF}(z;\mu,\kappa)
# + \varepsilon\,\frac{1}{\mathrm{area}}.$$
#
# An expert needs a `log_prob`, a shape, and the names of its parameters with what is
# allowed for them. Nothing else.


# %%
PARAMETERS: dict[str, constraints.Constraint] = {
    "mu": constraints.sphere,
    "kappa": constraints.nonnegative,
    "doubt": constraints.unit_interval,
}


# %%
class Doubting(TorchDistribution):
    """A von Mises–Fisher expert that is mistaken with probability `doubt`."""

    arg_constraints = PARAMETERS
    support = constraints.sphere

    def __init__(
        self, mu: Tensor, kappa: Tensor, doubt: Tensor, **options: bool
    ) -> None:
        self.mu, self.kappa, self.doubt = mu, kappa, doubt
        self.expert = VonMisesFisher(mu, kappa, **options)
        super().__init__(self.expert.batch_shape, mu.shape[-1:], **options)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log of the mixture, without leaving the logarithms."""
        right = (-self.doubt).log1p() + self.expert.log_prob(value)
        wrong = self.doubt.log() - log_surface_area(value.size(-1))
        return torch.logaddexp(right, wrong)


# %%
def number(value: float) -> Tensor:
    """A float64 tensor."""
    return torch.tensor(value, dtype=torch.float64)


believing = VonMisesFisher(target, 20.0)
doubting = Doubting(target, number(20.0), number(0.1))
angle = torch.linspace(0, math.pi, 300, dtype=torch.float64)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
both = ((believing, "vMF", BLUE), (doubting, "with doubt 0.1", ORANGE))
for each, name, colour in both:
    at = angle.clone().requires_grad_()
    loss = -each.log_prob(on_a_circle(at))
    (pull,) = torch.autograd.grad(loss.sum(), at)
    left.plot(angle, loss.detach(), color=colour, label=name)
    right.plot(angle, pull, color=colour)
left.set(xlabel="angle of guess and target", title="loss")
right.set(xlabel="angle of guess and target", title="pull")
left.legend()
plt.show()

# %%
z = normalize(torch.randn(400_000, 3, dtype=torch.float64))  # uniform on the sphere
mass = (doubting.log_prob(z).exp() * 4 * math.pi).mean()
print(f"integral of the density: {mass:.3f}")
print(f"pull at 120°: {pull[200]:.1e} against {20 * math.sin(angle[200]):.1f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert abs(mass - 1) < 0.03
assert abs(pull[200]) < 1e-3

# %% [markdown]
# Near the target both pull alike. Far from it, the doubting expert lets go. What is it
# good for? Let 40 % of the targets belong to something else, all at the same wrong
# place, and fit one guess by gradient descent on the mean loss:

# %%
places = torch.tensor([[1.0, 0.0, 0.0], [-0.5, 1.0, 0.5]], dtype=torch.float64)
around, elsewhere = normalize(places)
majority = VonMisesFisher(around, 50.0).sample((60,))
targets = torch.cat([majority, VonMisesFisher(elsewhere, 50.0).sample((40,))])
fitted = {
    "vMF": lambda mean: VonMisesFisher(mean, 20.0),
    "with doubt": lambda mean: Doubting(mean, number(20.0), number(0.4)),
}

# %%
off = {}
for name, make in fitted.items():
    raw = targets.mean(0).clone().requires_grad_()  # from the mean of all
    optimizer = torch.optim.SGD([raw], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        (-make(normalize(raw)).log_prob(targets).mean()).backward()
        optimizer.step()
    off[name] = math.degrees(math.acos(float(normalize(raw.detach()) @ around)))
    print(f"{name:>10}: the guess is {off[name]:4.1f}° from where it belongs")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert off["vMF"] > 20
assert off["with doubt"] < 5


# %% [markdown]
# The plain expert ends between the two groups. With doubt it finds the majority. Does
# the rest of the library accept a distribution that it has never seen? Make a head that
# returns it. Model, guide and objective stay as they are:


# %%
class DoubtingHead(nn.Module):
    """Projection to an expert with doubt."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, projection: Tensor) -> Doubting:
        """The expert of each image."""
        mean_direction = normalize(self.network(projection))
        kappa = mean_direction.new_full(mean_direction.shape[:-1], 10.0)
        return Doubting(mean_direction, kappa, torch.full_like(kappa, 0.1))


# %%
encoder = nn.Sequential(nn.Flatten(), two_layer_mlp(256, 64, 8))
head = DoubtingHead(two_layer_mlp(8, 16, 8))
model, guide = MultiViewModel(encoder, head), MultiViewGuide(encoder)
objective = KLObjective()(model, guide)
optimizer = torch.optim.SGD(objective.parameters(), lr=0.02, momentum=0.9)
images, augment = load()[0].images, DigitViews(torch.Generator().manual_seed(0))
losses = []
for step in range(40 if FAST else 200):
    batch = images[64 * (step % 20) :][:64]
    loss = objective([augment(batch), augment(batch)]) / len(batch)
    losses.append(loss.item())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
print(f"mean loss of the first ten steps {first:.2f}, of the last ten {last:.2f} nats")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert last < first - 0.5

# %%
both = stack_experts([model.expert(augment(images[:4])) for _ in range(2)])
together = ProductOfExperts(both)
print("two views of four images as one product:", tuple(together.batch_shape))

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert tuple(together.batch_shape) == (4,)

# %% [markdown]
# ## What we know about the puzzle
#
# **What is SimSiam minimising?** At each step, a sum of divergences, one for each
# view's expert, from the frozen guide over the other views, up to a constant. It fits
# von Mises–Fisher experts by maximum likelihood to the outputs of the target network
# (lesson 4). As a whole, not the number that one prints: the guide moves after each
# step, and that number may rise (lessons 1 and 4). Whether it minimises some other
# function, these lessons do not say.
#
# **Why does it not collapse?** Not because of the objective, for which collapse is
# optimal (lesson 4), nor, in the trainings of lesson 6, because of batch normalisation,
# which changed only what a collapse looked like. It is the *dynamics* of predictor and
# stop-gradient together: a predictor that knows how well each direction can be
# predicted makes the predictable ones grow, and weight decay removes the others. That
# part is understood in simple models; in a ResNet it is still research.
#
# **What is probability good for here?** It gives the parts names, so that they can be
# exchanged. It gives a $\kappa$ that predicts how far away other views are, and cannot
# be trusted beyond that (lessons 5 and 7). And it lets one find the errors of a paper
# by running it.
#
# ## Exercises
#
# Each exercise has a cell to start from. The solutions stand folded at the end.
#
# **Exercise 1.** (easy) A view that says nothing has $\kappa = 0$. Check that it
# changes neither the posterior nor the pull on the other views. What does this offer
# for data of which some views are missing?

# %% tags=["starter"]
directions = torch.cat([experts.mean_direction, atoms[:1]])  # any third direction
# Your turn: a VonMisesFisher with a third κ of 0, and its ProductOfExperts.

# %% [markdown]
# **Exercise 2.** (medium) SimSiam has $d = 2048$ and, in our reading, $\kappa = 1$. How
# much does the normaliser weaken the pull there? From which $\kappa$ on does it matter?

# %% tags=["starter"]
weakening = von_mises_fisher_mean_resultant_length(2048, number(2.0))  # A(R) at κ = 1
# Your turn: the same at larger κ.

# %% [markdown]
# **Exercise 3.** (medium) With *one* view the best guide of finite width can be found:
# which $\tau$ minimises
# $\mathrm{KL}(\mathrm{vMF}(\mu,\tau)\,\|\,\mathrm{vMF}(\mu,\kappa))$? So in which sense
# is the Dirac guide a bad one, and why does SimSiam not mind?

# %% tags=["starter"]
choices = torch.logspace(0, 3, 301, dtype=torch.float64)
guides = VonMisesFisher(target, choices)
# Your turn: kl_divergence(guides, …) to the expert of κ = 20.

# %% [markdown]
# ## Solutions

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 1. κ = 0 adds the zero vector to η, and posterior and pull depend on the
# experts through η alone. A missing view is an expert of κ = 0: no imputation, no
# special case.
kappas = torch.cat([experts.concentration, number(0.0)[None]])
silent = VonMisesFisher(directions, kappas)
before, after = product.normalized(), ProductOfExperts(silent).normalized()
difference = (before.mean - after.mean).abs().max().item()
print(f"largest change of the posterior's mean: {difference:.1e}")
assert difference < 1e-14

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 2. R ≤ 2κ = 2, and A(2) = 2/2048 nearly: by a thousandth. It matters when R
# is of the order of d (lesson 2).
weakening = {
    k: von_mises_fisher_mean_resultant_length(2048, number(2 * k)).item()
    for k in (1.0, 100.0, 1000.0)
}
print({k: round(value, 4) for k, value in weakening.items()})
assert abs(weakening[1.0] - 2 / 2048) < 1e-5
assert weakening[1000.0] > 0.5

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 3. τ = κ, with divergence 0; a Dirac guide is infinitely far from every
# density. SimSiam does not mind, because q is not fitted to p: q is the data, and p is
# fitted to it.
divergences = kl_divergence(guides, VonMisesFisher(target, 20.0))
best = choices[divergences.argmin()].item()
print(f"best τ = {best:.1f} for κ = 20, divergence {divergences.min():.1e}")
assert abs(best - 20) < 0.5
assert divergences.min() < 1e-3

# %% [markdown]
# **Where to go from here.** `python -m experiments.verify` checks every equation that
# you have met, and more ([how](../docs/verification.md)); [the
# distributions](../docs/distributions.md) serve any PyTorch or Pyro program; the README
# says how to train. And if an expert of yours beats these, tell us.
#
# ← [All lessons](README.md)
