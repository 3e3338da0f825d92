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
# # 3 · A latent z with many views
#
# A likelihood needs a model. Here you write one, as a program: a hidden unit vector $z$
# for each image, and several views that were made from it. You condition the program on
# the views and get a **product of experts**; you average instead and get a **mixture**.
# The product will be the model, the mixture the guide. SimSiam trains the first by the
# second.
#
# *You need:* [lesson 2](2_distributions_on_the_sphere.py) and Bayes' rule. *Time:* 15
# minutes to read, seconds to run.

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import math

import matplotlib.pyplot as plt
import pyro
import torch
from pyro.distributions import TorchDistribution
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

from experiments.figures.style import MUTED, PALETTE, SETTINGS

plt.rcParams.update(SETTINGS)
BLUE, ORANGE, GREEN = PALETTE[:3]
pyro.set_rng_seed(0)

# %%
from experiments.figures.interactive import product_of_experts
from inference.fitting.kl_objective import KLObjective
from models.networks import VonMisesFisherHead
from ssl_as_inference import cross_entropy
from ssl_as_inference.distributions import (
    DeltaMixture,
    PowerSpherical,
    ProductOfExperts,
    SphericalUniform,
    VonMisesFisher,
    monte_carlo_log_normalizer,
)
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel
from ssl_as_inference.sphere import normalize

# %% [markdown]
# ## A model is a program that tells a story
#
# The story of the paper (its Fig. 2): *what an image shows* is a unit vector $z$, of
# which we know nothing beforehand, so it is uniform. Each view is made from $z$
# independently of the other views.
#
# ![A latent z with two observed views](../docs/figures/graphical_model.png)
#
# In [Pyro](https://pyro.ai) one writes the story down: `pyro.sample(name,
# distribution)` draws, and `obs=value` says "and this is what was seen". To begin with,
# let a view be nothing but a unit vector $m_i$ scattered around $z$; pixels come later.


# %%
def story(directions: Tensor, kappas: Tensor) -> Tensor:
    """Draw z, observe M directions around it: shapes (M, 3) and (M,)."""
    z = pyro.sample("z", SphericalUniform(3, dtype=torch.float64))
    for i, direction in enumerate(directions):
        pyro.sample(f"m_{i + 1}", VonMisesFisher(z, kappas[i]), obs=direction)
    return z


towards = [[1.0, 0.2, 0.3], [0.1, 1.0, 0.2], [0.6, 0.3, 1.0]]
directions = normalize(torch.tensor(towards, dtype=torch.float64))
kappas = torch.tensor([4.0, 8.0, 2.0], dtype=torch.float64)

trace = pyro.poutine.trace(story).get_trace(directions, kappas)
trace.compute_log_prob()
names = [name for name, site in trace.nodes.items() if site["type"] == "sample"]
print("sites:", names)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert names == ["z", "m_1", "m_2", "m_3"]

# %% [markdown]
# ## What the views say about z: a product of experts
#
# We have seen $m_1, \dots, m_M$; where is $z$? Bayes' rule, with independent views and
# a uniform prior:
#
# $$p(z \mid m_{1:M}) \;\propto\; p(z)\prod_i p(m_i \mid z)
# \;\propto\; \prod_i \mathrm{vMF}(m_i; z, \kappa_i)
# \;=\; \prod_i \mathrm{vMF}(z; m_i, \kappa_i).$$
#
# The last step holds because the density depends on $m^\top z$ alone, so $z$ and $m$
# may change places. Each view becomes an **expert**: a distribution over $z$. The
# posterior multiplies them. The exponents add up,
#
# $$\sum_i \kappa_i m_i^\top z = \eta^\top z,
# \qquad \eta = \sum_i \kappa_i m_i, \qquad R = \lVert\eta\rVert,$$
#
# so the product is again a von Mises–Fisher distribution, $\mathrm{vMF}(z; \eta/R, R)$.
# Let the program check it: its own log joint at many $z$, normalised by brute force
# over a grid of the sphere, against the closed form.

# %%
rows = 200
# equal steps in height cover equal areas
t = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows * 2 - 1
angle = (torch.arange(2 * rows, dtype=torch.float64) + 0.5) / rows * math.pi
height, turn = torch.meshgrid(t, angle, indexing="ij")
sine = (1 - height**2).sqrt()
grid = torch.stack([sine * turn.cos(), sine * turn.sin(), height], dim=-1)
grid = grid.reshape(-1, 3)
cell = 4 * math.pi / len(grid)

# %%
log_joint = torch.zeros(len(grid), dtype=torch.float64)
with pyro.plate("grid", len(grid)):
    conditioned = pyro.condition(story, data={"z": grid})
    trace = pyro.poutine.trace(conditioned).get_trace(directions, kappas)
    trace.compute_log_prob()
log_joint = sum((trace.nodes[name]["log_prob"] for name in names), start=log_joint)
by_brute_force = (log_joint - log_joint.logsumexp(0)).exp() / cell

product = ProductOfExperts(VonMisesFisher(directions, kappas))
posterior = product.normalized()
error = (by_brute_force - posterior.log_prob(grid).exp()).abs().max().item()
print(f"κ of the experts {kappas.tolist()}")
print(f"R of the posterior {posterior.concentration:.3f}")
print(f"largest error of the closed form against the grid: {error:.1e}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert error < 1e-4
assert posterior.concentration < kappas.sum()

# %% [markdown]
# $R \le \sum_i \kappa_i$, with equality only if the experts agree. **Disagreement costs
# certainty**: two experts of $\kappa = 8$ that point in opposite directions leave $R =
# 0$, and we are back at the uniform distribution. On a circle ($d = 2$) one can draw
# it. The alternative to multiplying opinions is averaging them, which gives a
# *mixture*:

# %%
theta = torch.linspace(-math.pi, math.pi, 801, dtype=torch.float64)
circle = torch.stack([theta.cos(), theta.sin()], dim=-1)
half_angles = {"agreeing": 0.3, "at odds": 1.0, "opposed": math.pi / 2}
resultants = {}
figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), layout="constrained", sharey=True)
for axis, (title, half_angle) in zip(axes, half_angles.items(), strict=True):
    centres = torch.tensor([-half_angle, half_angle], dtype=torch.float64)
    experts = VonMisesFisher(torch.stack([centres.cos(), centres.sin()], dim=-1), 8.0)
    each = experts.log_prob(circle[:, None]).exp()
    both = ProductOfExperts(experts).normalized()
    resultants[title] = both.concentration.item()
    axis.plot(theta, each, color=MUTED, linewidth=1, linestyle="dashed")
    axis.plot(theta, both.log_prob(circle).exp(), color=BLUE, label="product")
    axis.plot(theta, each.mean(1), color=ORANGE, label="mixture")
    axis.set(title=f"{title}: R = {resultants[title]:.1f}", xlabel="angle of z")
    axis.set_xticks([-math.pi, 0, math.pi], ["−π", "0", "π"])
axes[0].set_ylabel("density (dashed: experts)")
axes[0].legend(loc="upper left")
plt.show()

# %%
for title, resultant in resultants.items():
    by_hand = 16 * math.cos(half_angles[title])
    print(f"{title}: R = {resultant:.3f}, 16 cos of half the angle {by_hand:.3f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
for title, resultant in resultants.items():
    assert abs(resultant - 16 * math.cos(half_angles[title])) < 1e-6

# %% [markdown]
# Move the angle between two experts of $\kappa_1 = 4$ and $\kappa_2 = 8$ yourself. The
# arrows are $\kappa_1 m_1$ and $\kappa_2 m_2$, and their sum is $\eta$. Beyond about
# 105° the product is less certain than the better expert alone.

# %% tags=["turnable-figure", "remove-cell"]
product_of_experts()

# %% [markdown]
# A product says **and**: every expert must approve. A mixture says **or**: any of them
# may be right. The paper needs both. The *model* $p$ is a product (all views are of one
# $z$, Eq. (6)); the *guide* $q$ is a mixture (the target network's output on any one
# view is a proposal for $z$, Eq. (8)).
#
# ## The guide: a mixture of points
#
# A *guide* is a distribution over the latent that we can handle, and that we compare
# with the posterior (lesson 0). The paper's is as sharp as can be: all its mass sits on
# the target's outputs $f_j$, one **atom** a view,
#
# $$q(z \mid \mathbb{X}) = \frac1M \sum_j \delta(z - f_j) \quad\Longrightarrow\quad
# \mathbb{E}_q[h(z)] = \frac1M \sum_j h(f_j).$$
#
# Expectations under it are finite sums. Nothing has to be sampled: one goes through the
# atoms.

# %%
atoms = normalize(torch.tensor([[0.9, 0.5, 0.2], [0.4, 0.9, 0.5]], dtype=torch.float64))
q = DeltaMixture(atoms)
by_hand = -torch.stack([product.log_prob(atom) for atom in atoms]).mean()
by_library = cross_entropy(q, product)
print(f"−E_q[log Π p_i]: {by_hand:.6f} by hand, {by_library:.6f} by cross_entropy")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert abs(by_hand - by_library) < 1e-12

# %% [markdown]
# ## From directions to images
#
# Now the real thing. The views are images $x_i$, and we have no program that draws
# images from $z$: that would be a generative model of pixels, which is what
# self-supervised learning wants to avoid. The paper turns the arrow around instead.
# Bayes' rule says $p(x_i \mid z) \propto p(z \mid x_i)$ as a function of $z$, the prior
# being uniform. So parametrise the **expert** $p_\psi(z\mid x_i)$ directly by a
# network: encoder, then predictor, then a vMF around the predictor's output.
# `MultiViewModel` is this program and `MultiViewGuide` the mixture of atoms. That the
# prior is uniform is a condition: over all images the experts must average to it.
# Nothing in the loss enforces that, and trained encoders need not fulfil it
# ([checked](../docs/verification.md#is-the-prior-uniform)).

# %%
encoder = nn.Linear(5, 3).double()  # stands for backbone and projector
predictor = VonMisesFisherHead(nn.Linear(3, 3).double(), concentration=4.0)
model, guide = MultiViewModel(encoder, predictor), MultiViewGuide(encoder)
# two views of six images of five pixels
views = [torch.randn(6, 5, dtype=torch.float64) for _ in range(2)]

expert: TorchDistribution = model.expert(views[0])
print(f"{type(expert).__name__}, one for each image: {tuple(expert.batch_shape)}")
print(f"on a sphere in dimension {expert.event_shape[0]}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert (*expert.batch_shape, *expert.event_shape) == (6, 3)

# %%
sites = {
    program: {
        name: [plate.name for plate in site["cond_indep_stack"]]
        for name, site in pyro.poutine.trace(network).get_trace(views).nodes.items()
        if site["type"] == "sample"
    }
    for program, network in (("model", model), ("guide", guide))
}
print(sites)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert sites["model"] == {"z": ["images"], "x_1": ["images"], "x_2": ["images"]}
assert sites["guide"] == {"z": ["images"]}

# %% [markdown]
# Each site stands in the plate `images`: six independent copies of the story. Model and
# guide share the site `z`, which is all that Pyro asks of a pair. `KLObjective`
# enumerates the guide's atoms and evaluates the model at each; with `pairs="all"` every
# expert meets every atom. By hand it is three lines. Pyro's own `TraceEnum_ELBO` knows
# nothing about us and computes the same, up to the guide's entropy, here $\log M$ an
# image:

# %%
experts = [model.expert(view) for view in views]
targets = [normalize(encoder(view)).detach() for view in views]
by_hand = -sum(p.log_prob(f).sum() for p in experts for f in targets) / 2

ours = KLObjective(pairs="all")(model, guide)(views)
pyros = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, views)
print(f"by hand {by_hand:.6f}, KLObjective {ours:.6f}")
print(f"TraceEnum_ELBO + 6 log 2 {pyros + 6 * math.log(2):.6f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert abs(ours - by_hand) < 1e-10
assert abs(ours - (pyros + 6 * math.log(2))) < 1e-10

# %% [markdown]
# Open `ssl_as_inference/graphical_model.py` and look at `MultiViewGuide.forward`. There
# it is, `.detach()`: **the stop-gradient stands in the guide.** It says that while we
# fit the model to the guide, the guide is a given. No gradient reaches it:

# %%
# a target network of its own, as in BYOL
theirs = MultiViewGuide(nn.Linear(5, 3).double())
KLObjective()(model, theirs)(views).backward()
print("gradient of the target's weights:", theirs.network.weight.grad)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert theirs.network.weight.grad is None
assert encoder.weight.grad is not None
assert encoder.weight.grad.abs().max() > 0

# %% [markdown]
# ## Exercises
#
# Each exercise has a cell to start from. The solutions stand folded at the end.
#
# **Exercise 1.** (medium) The product of densities is not a density: it lacks $1/Z$,
# where the paper prints "=". For von Mises–Fisher experts, derive $\log Z = \sum_i \log
# C(\kappa_i) - \log C(R)$ and check `product.log_normalizer()` by the grid.

# %% tags=["starter"]
log_z_by_grid = (product.log_prob(grid).logsumexp(0) + math.log(cell)).item()
# Your turn: Σ log C(κ_i) − log C(R). At a right angle, VonMisesFisher(m, κ).log_prob
# is log C(κ).

# %% [markdown]
# **Exercise 2.** (easy) Show the product the *same* view ten times. What is $R$? Is
# that a reasonable certainty? Which assumption of the story has been broken?

# %% tags=["starter"]
copies = VonMisesFisher(directions[:1].expand(10, 3), kappas[:1].expand(10))
# Your turn: the concentration of their product.

# %% [markdown]
# **Exercise 3.** (hard) Multiply two Power Spherical experts, $\kappa_1 = 5$, $\kappa_2
# = 9$, at an angle of 60°. Is the product again Power Spherical? Find $\log Z$ in three
# ways: `log_normalizer`, `monte_carlo_log_normalizer`, the grid.

# %% tags=["starter"]
corner = torch.tensor([[1.0, 0.0, 0.0], [0.5, math.sqrt(0.75), 0.0]]).double()
concentrations = torch.tensor([5.0, 9.0], dtype=torch.float64)
powers = ProductOfExperts(PowerSpherical(normalize(corner), concentrations))
# Your turn: log Z, three times.

# %% [markdown]
# ## Solutions

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 1. Π C(κ_i) exp(κ_i m_iᵀz) = Π C(κ_i) · exp(ηᵀz), and ∫exp(ηᵀz)dz = 1/C(R),
# because C makes the density integrate to one.
right_angle = torch.eye(3, dtype=torch.float64)[:2]
each_and_r = torch.cat([kappas, posterior.concentration[None]])
log_c = VonMisesFisher(right_angle[0], each_and_r).log_prob(right_angle[1])
log_z = log_c[:3].sum() - log_c[3]
print(f"log Z: {log_z:.6f}, by the library {product.log_normalizer():.6f}")
print(f"by the grid {log_z_by_grid:.6f}")
assert abs(product.log_normalizer() - log_z) < 1e-10
assert abs(product.log_normalizer() - log_z_by_grid) < 1e-4
assert abs(log_z_by_grid) > 0.1  # the printed "=" would be 0

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 2. R = 10 κ: ten times the certainty from one observation. The story says
# that views are independent given z; copies are not. Augmentations of one photograph
# are not quite either, so a product of many of them is too sure.
tenfold = ProductOfExperts(copies).normalized().concentration.item()
print(f"one view κ = {kappas[0]:.0f}, ten copies R = {tenfold:.1f}")
assert abs(tenfold - 40) < 1e-9

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 3. (1 + m₁ᵀz)^κ₁ (1 + m₂ᵀz)^κ₂ is not a power of one linear function: the
# family is not closed, and `normalized` has no answer. For two experts Z has a closed
# form (a hypergeometric function); for more one samples.
estimate, standard_error = monte_carlo_log_normalizer(powers, 20_000)
by_grid = (powers.log_prob(grid).logsumexp(0) + math.log(cell)).item()
print(f"log Z: {powers.log_normalizer():.5f}, by the grid {by_grid:.5f}")
print(f"sampled {estimate:.4f} ± {standard_error:.4f}")
assert abs(powers.log_normalizer() - by_grid) < 1e-4
assert abs(powers.log_normalizer() - estimate) < 4 * standard_error

# %% [markdown]
# **Next:** model, guide and divergence are there. Put them together, one verified line
# at a time, and SimSiam falls out. → [Lesson 4: from the divergence to
# SimSiam](4_from_the_divergence_to_simsiam.py)
