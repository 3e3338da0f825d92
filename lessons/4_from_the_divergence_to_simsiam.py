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
# # 4 · From the divergence to SimSiam
#
# Here lessons 1 and 3 meet. You start from the Kullback–Leibler divergence between a
# guide and a posterior. You insert the model and the guide of [lesson
# 3](3_a_latent_with_many_views.py). You arrive at the loss of [lesson
# 1](1_simsiam_byol_and_the_puzzle.py), in six small steps. Each line comes with the
# reason why it follows from the line before. Below each step a folded cell has SymPy
# check it. Open it to see the same chain as SymPy objects, whose terms SymPy prints in
# an order of its own. Then numbers, then a training.
#
# *You need:* lessons 2 and 3. *Time:* 20 minutes to read, seconds to run.

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import copy
import os
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from experiments.figures.style import MUTED, PALETTE, SETTINGS

FAST = os.environ.get("LESSONS_FAST") == "1"
torch.manual_seed(0)
plt.rcParams.update(SETTINGS)
BLUE, ORANGE, GREEN = PALETTE[:3]

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from experiments.images.digits import DigitViews, load
from experiments.special_cases.stop_gradient import turning_pair
from inference.fitting.kl_objective import KLObjective
from models.networks import VonMisesFisherHead, two_layer_mlp
from ssl_as_inference import cross_entropy
from ssl_as_inference.derivations import (
    dirac_guide,
    multimodal_vi,
    product_of_experts,
    simsiam,
)
from ssl_as_inference.derivations.evaluation import compile_loss
from ssl_as_inference.derivations.step import Derivation, DerivationError, Step

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from ssl_as_inference.distributions import (
    DeltaMixture,
    ProductOfExperts,
    SphericalMixture,
    SphericalUniform,
    VonMisesFisher,
)
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel

# %% [markdown]
# ## Step 1. What variational inference minimises
#
# There is a posterior $p(z\mid\mathbb{X})$ that we would like to have, and a guide
# $q_\phi(z)$ that we can handle. Make them alike (Eq. (2)): minimise
#
# $$\mathrm{KL}(q_\phi\,\|\,p) =
# \int q_\phi(z)\,\big[\log q_\phi(z) - \log p(z\mid\mathbb{X})\big]\,dz.$$
#
# We cannot evaluate the posterior. *Bayes' rule (Eq. (3)) says what it is made of:*
#
# $$= \int q_\phi(z)\,\big[\log q_\phi(z) - \log p_\theta(\mathbb{X}\mid z) - \log p(z)
# + \log p_\theta(\mathbb{X})\big]\,dz.$$
#
# *The integral of a sum is the sum of the integrals. The evidence
# $p_\theta(\mathbb{X})$ does not depend on $z$, and the guide integrates to one, so the
# evidence comes out:*
#
# $$= \underbrace{-\,\mathbb{E}_{q_\phi}[\log p_\theta(\mathbb{X}\mid z)]
# + \mathrm{KL}\big(q_\phi(z)\,\|\,p(z)\big)}_{\text{negative ELBO, Eq. (4)}}
# \;+\; \log p_\theta(\mathbb{X}).$$

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true}
multimodal_vi.KL_IS_NEGATIVE_ELBO_PLUS_LOG_EVIDENCE.verify()
multimodal_vi.KL_IS_NEGATIVE_ELBO_PLUS_LOG_EVIDENCE

# %% [markdown]
# The first two terms are the negative ELBO. The last one, $\log p_\theta(\mathbb{X})$,
# does not depend on the guide. So the best guide is the same with or without it. The
# best *model* is not the same: the evidence is what rewards a model that explains the
# data. Step 2 loses it.
#
# In numbers: the observations are the three directions of lesson 3. The guide points
# where the posterior points, and we vary its concentration.

# %%
directions = torch.tensor([[1.0, 0.2, 0.3], [0.1, 1.0, 0.2], [0.6, 0.3, 1.0]])
kappas = torch.tensor([4.0, 8.0, 2.0]).double()
product = ProductOfExperts(VonMisesFisher(normalize(directions.double()), kappas))
posterior = product.normalized()
uniform = SphericalUniform(3, dtype=torch.float64)

taus = torch.logspace(0, 2.5, 60, dtype=torch.float64)
guides = [VonMisesFisher(posterior.mean_direction, tau) for tau in taus]
divergence = torch.stack([kl_divergence(q, posterior) for q in guides])
negative_elbo = torch.stack(
    [cross_entropy(q, product) + kl_divergence(q, uniform) for q in guides]
)
# log p(m₁, m₂, m₃) = log Z + log C(0)
log_evidence = product.log_normalizer() - uniform.entropy()

# %%
figure, axis = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
axis.plot(taus, negative_elbo, color=ORANGE, label="negative ELBO")
axis.plot(taus, divergence, color=BLUE, label="KL to the posterior")
axis.axvline(
    posterior.concentration.item(), color=MUTED, linewidth=1, linestyle="dashed"
)
best = int(divergence.argmin())
axis.plot(taus[best], negative_elbo[best], "k.")
axis.plot(taus[best], divergence[best], "k.")
axis.set(xscale="log", xlabel=r"concentration $\tau$ of the guide", ylabel="nats")
axis.legend()
plt.show()

# %% tags=["hide-input"] jupyter={"source_hidden": true}
gap = divergence - negative_elbo
print(f"KL − negative ELBO: {gap.min():.6f} to {gap.max():.6f}")
print(f"log evidence:       {log_evidence:.6f}")
assert (gap - log_evidence).abs().max() < 1e-10
assert negative_elbo.argmin() == divergence.argmin()
assert abs(taus[best] / posterior.concentration - 1) < 0.1

# %% [markdown]
# Two curves, one above the other, at a constant distance: the log evidence. Both have
# their minimum where the guide is as concentrated as the posterior (dashed).
#
# ## Step 2. A posterior of one's own
#
# Self-supervised learning wants no generative model of pixels. *So the paper puts a
# network's posterior $p_\psi(z\mid\mathbb{X})$ in the place of the true one:*
#
# $$\mathrm{KL}(q_\phi\,\|\,p_\psi) =
# \int q_\phi(z)\,\big[\log q_\phi(z) - \log p_\psi(z\mid\mathbb{X})\big]\,dz.$$
#
# *The integral of a sum is the sum of the integrals.* This is Eq. (5), a cross-entropy
# minus the guide's entropy $\mathrm{H}(q_\phi)$:
#
# $$= -\,\mathbb{E}_{q_\phi}[\log p_\psi(z\mid\mathbb{X})] \;-\; \mathrm{H}(q_\phi),
# \qquad \mathrm{H}(q_\phi) = -\,\mathbb{E}_{q_\phi}[\log q_\phi(z)].$$

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true}
multimodal_vi.KL_IS_CROSS_ENTROPY_MINUS_ENTROPY.verify()
multimodal_vi.KL_IS_CROSS_ENTROPY_MINUS_ENTROPY

# %% [markdown]
# Here collapse comes in. Nothing ties $p_\psi$ to the data any more: the evidence is
# gone. Let $q_\phi$ and $p_\psi$ be *the same distribution for all images*, any one you
# like. *Then the two terms are equal, with opposite signs:*
#
# $$-\,\mathbb{E}_{q_\phi}[\log p_\psi] - \mathrm{H}(q_\phi)
# = -\,\mathbb{E}_{q_\phi}[\log q_\phi] + \mathbb{E}_{q_\phi}[\log q_\phi] = 0.$$
#
# *And a divergence is never negative (Jensen's inequality for $-\log$):*
#
# $$-\,\mathbb{E}_{q_\phi}\Big[\log\frac{p_\psi(z\mid\mathbb{X})}{q_\phi(z)}\Big]
# \;\ge\; -\log\int p_\psi(z\mid\mathbb{X})\,dz = 0.$$

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true}
multimodal_vi.KL_IS_NOT_NEGATIVE.verify()
multimodal_vi.COLLAPSE_IS_OPTIMAL.verify()
multimodal_vi.COLLAPSE_IS_OPTIMAL

# %% [markdown]
# So a collapsed pair is at the minimum. That is what the theory has to say about the
# puzzle's second half: **the objective does not forbid collapse, it invites it.**
# Whatever saves SimSiam is not in Eq. (5).
#
# ## Step 3. Experts
#
# What does $p_\psi(z\mid\mathbb{X})$ look like for several views? *Bayes' rule:*
#
# $$\log p(z\mid\mathbb{X})
# = \log p(\mathbb{X}\mid z) + \log p(z) - \log p(\mathbb{X}).$$
#
# *The views are independent given $z$, so the likelihood is a product:*
#
# $$= \sum_i \log p(x_i\mid z) + \log p(z) - \log p(\mathbb{X}).$$
#
# *Bayes' rule again, for each view, the other way round:*
#
# $$= \sum_i \big[\log p(z\mid x_i) + \log p(x_i) - \log p(z)\big]
# + \log p(z) - \log p(\mathbb{X}).$$
#
# *The prior is uniform: $\log p(z) = \log C(0)$ is a number, like all else that does
# not contain $z$. Call these numbers together $-\log Z(\mathbb{X})$:*
#
# $$= \sum_i \log p(z\mid x_i) - \log Z(\mathbb{X}), \qquad \log Z(\mathbb{X}) =
# \log p(\mathbb{X}) - \sum_i \log p(x_i) + (M-1)\log C(0).$$

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true}
product_of_experts.PRODUCT_OF_EXPERTS.verify()
product_of_experts.PRODUCT_OF_EXPERTS

# %% [markdown]
# A product of experts, one a view, divided by $Z(\mathbb{X})$. The paper prints "="
# where it should print "$\propto$" (Eq. (6)): it leaves $Z(\mathbb{X})$ out. That
# matters as soon as the experts are trained, because $Z(\mathbb{X})$ depends on them.
# We follow the paper, and come back to this in step 6.
#
# ## Step 4. Atoms
#
# The guide is the mixture of points at the target's outputs (Eq. (8)). *Insert it into
# an expectation, and exchange the integral with the finite sum:*
#
# $$\mathbb{E}_q[h(z)] = \int \frac1M\sum_j\delta(z-f_j)\,h(z)\,dz
# = \frac1M\sum_j\int \delta(z-f_j)\,h(z)\,dz.$$
#
# *A point mass at $f_j$ picks out the value at $f_j$:*
#
# $$= \frac1M\sum_j h(f_j).$$
#
# So expectations are means over atoms. (Below Eq. (9) the paper forgets the $1/M$.)

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true}
dirac_guide.EXPECTATION.verify()
dirac_guide.EXPECTATION

# %% [markdown]
# ## Step 5. The loss of Eq. (9)
#
# *Insert the product (without $Z$) and the atoms into Eq. (5). The guide's entropy does
# not depend on $\psi$ and is left out:*
#
# $$-\,\mathbb{E}_q\Big[\sum_i\log p_\psi(z\mid x_i)\Big] =
# -\int \frac1M\sum_j\delta(z-f_j)\,\sum_i \log p_\psi(z\mid x_i)\,dz.$$
#
# *The experts are von Mises–Fisher distributions of one constant $\kappa$ (Eq. (7)), so
# $\log p_\psi(z\mid x_i) = \log C(\kappa) + \kappa\,\mu_i^\top z$:*
#
# $$= -\int \frac1M\sum_j\delta(z-f_j)\,
# \sum_i \big[\log C(\kappa) + \kappa\,\mu_i^\top z\big]\,dz.$$
#
# *Split the sum. The constant occurs $M$ times, and the guide integrates to one:*
#
# $$= -\,M\log C(\kappa)
# - \kappa\int \frac1M\sum_j\delta(z-f_j)\,\sum_i\mu_i^\top z\,dz.$$
#
# *Each point mass picks out its atom (step 4):*
#
# $$= -\,M\log C(\kappa) \;-\; \frac{\kappa}{M}\sum_i\sum_j\mu_i^\top f_j.$$

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true}
simsiam.LOSS.verify()
simsiam.LOSS

# %% [markdown]
# A constant, and minus the cosine of every guess with every target. This is Eq. (9),
# which is printed with "$\propto$" and without the constant.
#
# ## Step 6. Each expert against the other views
#
# The terms $i = j$ compare a view with itself. SimSiam does not have them, and the
# paper drops them. For two views there remains, with $1/M = 1/2$, half of $\kappa$
# times Eq. (1), the loss of lesson 1:
#
# $$-\log C(\kappa) - \frac{\kappa}{2}\,\big(\mu_1^\top f_2 + \mu_2^\top f_1\big)
# = -\log C(\kappa) + \frac{\kappa}{2}\,\mathcal{L}_{SSL}.$$
#
# But dropping terms of a divergence is no derivation. There is a reading in which
# nothing is dropped. *Compare each expert, by itself, with the guide over the **other**
# views,*
#
# $$q_{-i}(z) = \frac{1}{M-1}\sum_{j\ne i}\delta(z-f_j).$$
#
# *Each comparison is a step 2 with one expert, and the $M$ divergences are added. The
# point masses pick out their atoms:*
#
# $$\sum_i \mathrm{KL}\big(q_{-i}\,\|\,p_\psi(z\mid x_i)\big) + \text{const}
# = -\sum_i\mathbb{E}_{q_{-i}}[\log p_\psi(z\mid x_i)]
# = -\sum_i \frac{1}{M-1}\sum_{j\ne i}\log p_\psi(f_j\mid x_i).$$
#
# *For two views each guide is a single atom, and with Eq. (7)*
#
# $$= -\,2\log C(\kappa) - \kappa\,\big(\mu_1^\top f_2 + \mu_2^\top f_1\big)
# = -\,2\log C(\kappa) + \kappa\,\mathcal{L}_{SSL}.$$
#
# A single expert is a density as it stands. There is no product, and no $Z$ to forget.

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true}
simsiam.OFF_DIAGONAL.verify()
simsiam.CROSS_LOSS.verify()
simsiam.CROSS_PAIRS.verify()
simsiam.CROSS_PAIRS

# %% [markdown]
# The sum is the paper's Algorithm 1, and it is what `KLObjective` computes unless told
# otherwise. A picture of which pairs count, for four views:

# %%
figure, axes = plt.subplots(1, 2, figsize=(6, 2.9), layout="constrained")
weights = {"Eq. (9), pairs='all'": torch.full((4, 4), 1 / 4)}
weights["Algorithm 1, pairs='cross'"] = (1 - torch.eye(4)) / 3
for axis, (title, weight) in zip(axes, weights.items(), strict=True):
    axis.imshow(weight.numpy(), cmap="Blues", vmin=0, vmax=0.6)
    for i, row in enumerate(weight.tolist()):
        for j, value in enumerate(row):
            axis.text(j, i, f"{value:.2f}", ha="center", va="center")
    numbers = ["1", "2", "3", "4"]
    axis.set(title=title, xlabel="atom $f_j$", xticks=range(4), xticklabels=numbers)
    axis.set(ylabel=r"expert $\mu_i$", yticks=range(4), yticklabels=numbers)
plt.show()

# %% [markdown]
# Each row is one expert, and its weights add up to one: they are the guide that it is
# compared with. On the right every row has a guide of its own, which leaves the
# expert's own view out.
#
# **What is true, then?** SimSiam minimises a *sum of $M$ divergences, one an expert,
# each from the guide over the other views*. It is **not** the divergence from the
# model's joint posterior $p_\psi(z\mid\mathbb{X})$, and neither is Eq. (9): both lack
# $\log Z(\mathbb{X})$. `KLObjective(pairs="all", normalized=True)` adds it: that
# objective is the divergence, up to the guide's entropy. Lesson 8 shows what changes.
#
# ## The same formula, three times
#
# A derivation could be right and the code wrong. So compile the SymPy result into a
# function of numbers, compute the objective of the Pyro pair, and compare the two, for
# one image in four views. Then compute the divergence from the joint posterior as well.

# %%
encoder = nn.Linear(6, 3).double()
head = VonMisesFisherHead(nn.Linear(3, 3).double(), concentration=5.0)
model, guide = MultiViewModel(encoder, head), MultiViewGuide(encoder)
views = [torch.randn(1, 6, dtype=torch.float64) for _ in range(4)]

formula = compile_loss(simsiam.LOSS.result, "von Mises–Fisher", views=4)
guesses = torch.cat([model.expert(view).mean_direction for view in views])
targets = guide.locations(views)[0]
from_formula = float(formula(3, [5.0] * 4, (guesses @ targets.T).tolist()))
from_program = KLObjective(pairs="all")(model, guide)(views).item()
print(f"SymPy's formula {from_formula:.10f}, the Pyro pair {from_program:.10f}")

experts = ProductOfExperts(VonMisesFisher(guesses, 5.0))
joint = cross_entropy(DeltaMixture(targets), experts.normalized()).item()
normalized = KLObjective(pairs="all", normalized=True)(model, guide)(views).item()
print(f"from the joint posterior: {joint:.10f}, normalized=True {normalized:.10f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
one_by_one = 0.0  # the sum of four cross-entropies, each from the other three atoms
for i in range(4):
    others = DeltaMixture(targets[[j for j in range(4) if j != i]])
    one_by_one += cross_entropy(others, VonMisesFisher(guesses[i], 5.0)).item()
cross = KLObjective()(model, guide)(views).item()
print(f"expert by expert: {one_by_one:.10f}, KLObjective() {cross:.10f}")
assert abs(from_formula - from_program) < 1e-10
assert abs(one_by_one - cross) < 1e-10
assert abs(joint - normalized) < 1e-10
assert abs(joint - from_program) > 0.1
assert abs(joint - from_program - experts.log_normalizer().item()) < 1e-10

# %% [markdown]
# And the training. On one side SimSiam as in lesson 1, with its `detach`. On the other
# a `MultiViewModel` and a `MultiViewGuide` under `KLObjective`. Same initial weights,
# same views, float64. If the derivation is right, they stay equal, step by step.


# %%
def network() -> nn.Sequential:
    """An encoder, small."""
    return nn.Sequential(nn.Flatten(), two_layer_mlp(256, 64, 8)).double()


encoder, predictor = network(), two_layer_mlp(8, 16, 8).double()
encoder_twin, predictor_twin = copy.deepcopy(encoder), copy.deepcopy(predictor)
head = VonMisesFisherHead(predictor_twin, concentration=1.0)
pair = MultiViewModel(encoder_twin, head), MultiViewGuide(encoder_twin)
objective = KLObjective()(*pair)  # the pairs of different views
optimizers = [
    torch.optim.SGD([*f.parameters(), *h.parameters()], lr=0.1, momentum=0.9)
    for f, h in ((encoder, predictor), (encoder_twin, predictor_twin))
]

# %%
images, augment = load()[0].images, DigitViews(torch.Generator().manual_seed(0))
simsiam_losses, kl_losses = [], []
for step in range(20 if FAST else 100):
    x1, x2 = (augment(images[64 * (step % 20) :][:64]).double() for _ in range(2))
    z1, z2 = encoder(x1), encoder(x2)
    g1, g2 = normalize(predictor(z1)), normalize(predictor(z2))
    f1, f2 = normalize(z1.detach()), normalize(z2.detach())
    simsiam_loss = -((g1 * f2).sum(1) + (g2 * f1).sum(1)).mean() / 2
    kl_loss = objective([x1, x2]) / len(x1) / 2
    for loss, optimizer in zip((simsiam_loss, kl_loss), optimizers, strict=True):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    simsiam_losses.append(simsiam_loss.item())
    kl_losses.append(kl_loss.item())

# %%
figure, axis = plt.subplots(figsize=(5.5, 2.6), layout="constrained")
axis.plot(simsiam_losses, color=BLUE, label="SimSiam")
axis.plot(kl_losses, color=ORANGE, label="KL objective / 2")
axis.set(xlabel="step", ylabel="loss")
axis.legend()
plt.show()

# %% tags=["hide-input"] jupyter={"source_hidden": true}
weights_of_both = zip(encoder.parameters(), encoder_twin.parameters(), strict=True)
apart = max((a - b).abs().max().item() for a, b in weights_of_both)
shifts = [kl - cos for kl, cos in zip(kl_losses, simsiam_losses, strict=True)]
print(f"largest difference of the weights after {len(shifts)} steps: {apart:.1e}")
print(f"the curves' distance, −log C(1): {min(shifts):.12f} … {max(shifts):.12f}")
constant = -VonMisesFisher(torch.eye(8).double()[0], 1.0).log_prob(
    torch.eye(8).double()[1]
)
assert apart < 1e-10
assert max(shifts) - min(shifts) < 1e-12
assert abs(shifts[0] - constant.item()) < 1e-10  # at cosine 0 the density is C(1)

# %% [markdown]
# SimSiam's loss *is* that sum of divergences, one an expert, with $\kappa = 1$. (BYOL's
# is the same with a guide that has a network of its own.) `python -m
# experiments.recover simsiam` runs this comparison with the full networks.
#
# ## So, what is it minimising?
#
# Read the stop-gradient as it stands in the guide. At each step the guide is *frozen*,
# and the model takes a step down
#
# $$\psi \;\mapsto\; \sum_i \mathrm{KL}\big(q_{-i}^{\text{frozen}}\,\big\|\,
# p_\psi(z\mid x_i)\big) + \text{const}
# = -\sum_i\mathbb{E}_{q_{-i}^{\text{frozen}}}[\log p_\psi(z\mid x_i)]:$$
#
# **maximum likelihood**, with the target's outputs as data. That does go down. Then the
# target takes over the new weights, the guide changes, and with it the data: the next
# step goes down *another* function. The toy of lesson 1, whose loss rose, shows it when
# the target is renewed only every 25 steps:

# %%
toy, toy_views = turning_pair()
values: list[float] = []
optimizer = torch.optim.SGD(toy.model.parameters(), lr=1e-2)
for step in range(100):
    if step % 25 == 0:
        frozen = MultiViewGuide(copy.deepcopy(toy.model.encoder))
        objective = KLObjective()(toy.model, frozen)
    loss = objective(toy_views) / 32
    values.append(loss.item())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
figure, axis = plt.subplots(figsize=(5.5, 2.6), layout="constrained")
for start in range(0, 100, 25):
    steps = range(start, start + 25)
    axis.plot(steps, values[start : start + 25], color=BLUE)
for start in (25, 50, 75):
    axis.plot([start - 1, start], values[start - 1 : start + 1], ":", color=MUTED)
axis.set(xlabel="step; the target is renewed every 25", ylabel="KL up to a constant")
plt.show()

# %% tags=["hide-input"] jupyter={"source_hidden": true}
changes = [after - before for before, after in pairwise(values)]
within = [change for n, change in enumerate(changes, start=1) if n % 25]
renewals = [change for n, change in enumerate(changes, start=1) if n % 25 == 0]
print(f"largest change within a phase {max(within):.4f}")
print(f"changes at the renewals {[round(x, 3) for x in renewals]}")
assert max(within) < 0
assert min(renewals) > 0

# %% [markdown]
# Down in every phase, up at every renewal. The first half of the puzzle is solved:
# **SimSiam takes turns. It fits the model to the guide by maximum likelihood, and lets
# the guide follow.** What the whole minimises, if anything, is not known. It is not the
# number that is printed.
#
# The authors of SimSiam suspected as much. In Section 5 of [Chen and He
# (2020)](https://arxiv.org/abs/2011.10566) they propose that SimSiam works like
# **expectation–maximisation** (EM): one set of variables is the network's weights, the
# other is a representation $\eta_x$ of each image, and the two are optimised in turns.
# The stop-gradient follows, because $\eta_x$ is fixed while the weights move. Their
# $\eta_x$ is our frozen guide, and their step in the weights is our maximum likelihood.
# They also renewed the target every 10 or 100 steps, as above, and SimSiam still
# learned.
#
# One difference is worth knowing. In EM both turns lower *one* function, so its value
# cannot rise. Here the second turn does not look for the guide that fits the model
# best: that one would sit at the guesses $\mu_i$. It puts the atoms at the encoder's
# outputs, before the predictor. That is why the value may rise at a renewal, and why
# "EM-like" is the right word. Chen and He say themselves that their hypothesis does not
# explain why collapse is prevented. Neither does ours: why the turns do not end in a
# point is open, and now you know that the objective cannot be what answers it.
#
# ## Exercises
#
# Each exercise has a cell to start from. The solutions stand folded at the end.
#
# **Exercise 1.** (easy) Does `verify` notice anything? Take the last step of
# `simsiam.LOSS`, change the sign of its right-hand side, and verify. A `Step` is a
# frozen dataclass.

# %% tags=["starter"]
from dataclasses import replace

last = simsiam.LOSS.steps[-1]
# Your turn: replace(last, right=…) makes a changed copy. What does its verify() say?

# %% [markdown]
# **Exercise 2.** (hard) Write a derivation of your own. With the bilinearity of
# `Inner`, show that for two views the sum over *all* pairs in Eq. (9) is the inner
# product of sums, $\sum_{ij}\mu_i^\top f_j = (\mu_1+\mu_2)^\top(f_1+f_2)$. What does it
# say about what the loss with $i = j$ compares?

# %% tags=["starter"]
from sympy import Sum

from ssl_as_inference.derivations.notation import Inner, M, f, i, j, mu

all_pairs = Sum(Inner(mu[i], f[j]), (i, 1, M), (j, 1, M)).subs(M, 2).doit()
# Your turn: a Step(reason, all_pairs, …), and a Derivation of it.

# %% [markdown]
# **Exercise 3.** (medium) "The second term in Eq. (5) is constant", says the paper of
# the guide's entropy. Give the atoms a finite concentration $\tau = 100$ and estimate
# the entropy by sampling, for three orthogonal atoms and for three equal ones. When is
# it a constant, then?

# %% tags=["starter"]
orthogonal = torch.eye(3, dtype=torch.float64)
mixture = SphericalMixture(VonMisesFisher(orthogonal, 100.0))
draws = mixture.sample((20_000,))
# Your turn: the entropy, −E log q. Then the same for three equal atoms.

# %% [markdown]
# ## Solutions

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 1. The residual is shown: twice the right-hand side, not 0.
wrong = replace(last, right=-last.right)
try:
    wrong.verify()
except DerivationError as error:
    noticed = str(error)
print(noticed[:90], "…")
assert "not 0" in noticed
last.verify()

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 2. All pairs together compare the mean guess with the mean target: what the
# views have in common, wherever the single guesses are. The cross pairs ask more: each
# guess must predict the other view's target.
of_sums = Inner(mu[1] + mu[2], f[1] + f[2])
step_of_mine = Step("bilinearity", all_pairs, of_sums)
mine = Derivation("Eq. (9)", "all pairs compare sums", (step_of_mine,))
mine.verify()
assert mine.steps[0].residual() == 0
mine

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 3. H(q) = h(τ) + I with 0 ≤ I ≤ log M: here I is log 3 for distinct atoms, 0
# for equal ones. It is constant only while the atoms stay distinct compared with their
# width (and h(τ) → −∞ as τ → ∞). It would reward atoms that keep apart. But behind the
# stop-gradient it gives no gradient at all, and so does not keep them apart.
equal = SphericalMixture(VonMisesFisher(orthogonal[[0, 0, 0]], 100.0))
entropy = -mixture.log_prob(draws).mean()
of_equal = -equal.log_prob(equal.sample((20_000,))).mean()
gap_of_entropies = (entropy - of_equal).item()
print(f"difference of the entropies {gap_of_entropies:.3f}, log 3 = 1.099")
assert abs(gap_of_entropies - 1.0986) < 0.05

# %% [markdown]
# **Next:** what if $\kappa$ is not a constant? Then the expert can say how sure it is.
# → [Lesson 5: VI-SimSiam and the paper's errata](5_vi_simsiam_and_the_errata.py)
