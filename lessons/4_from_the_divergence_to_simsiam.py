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
# Here the two halves meet. You start from the Kullback–Leibler divergence between a guide and a posterior, insert the
# model and the guide of [lesson 3](3_a_latent_with_many_views.py), and arrive at the loss of [lesson
# 1](1_simsiam_byol_and_the_puzzle.py), in small steps. The formulas below are not typed: they are printed from SymPy
# objects, and each cell has SymPy check that every line follows from the one before. Then numbers, then a training.
#
# *You need:* lessons 2 and 3. *Time:* 20 minutes to read, seconds to run.

# %%
import copy
import os
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from experiments.figures.style import MUTED, PALETTE, SETTINGS
from experiments.images.digits import DigitViews, load
from experiments.special_cases.stop_gradient import turning_pair
from inference.fitting.kl_objective import KLObjective
from models.networks import VonMisesFisherHead, two_layer_mlp
from ssl_as_inference import cross_entropy
from ssl_as_inference.derivations import dirac_guide, multimodal_vi, product_of_experts, simsiam
from ssl_as_inference.derivations.evaluation import compile_loss
from ssl_as_inference.derivations.step import Derivation, DerivationError, Step
from ssl_as_inference.distributions import ProductOfExperts, SphericalMixture, SphericalUniform, VonMisesFisher
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel

FAST = os.environ.get("LESSONS_FAST") == "1"
torch.manual_seed(0)
plt.rcParams.update(SETTINGS)
BLUE, ORANGE, GREEN = PALETTE[:3]

# %% [markdown]
# ## Step 1. What variational inference minimises
#
# There is a posterior $p(z\mid\mathbb{X})$ that we would like to have, and a guide $q_\phi(z)$ that we can handle. Make
# them alike (Eq. (2)): minimise $\mathrm{KL}(q_\phi\,\|\,p)$. A generative model $p_\theta(\mathbb{X}\mid z)$ and
# Bayes' rule (Eq. (3)) turn that into something computable:

# %%
multimodal_vi.KL_IS_NEGATIVE_ELBO_PLUS_LOG_EVIDENCE.verify()
multimodal_vi.KL_IS_NEGATIVE_ELBO_PLUS_LOG_EVIDENCE

# %% [markdown]
# The first two terms are the negative ELBO (Eq. (4)). The last, $\log p_\theta(\mathbb{X})$, does not depend on the
# guide, so the best guide is the same with or without it. The best *model* is not: the evidence is what forbids a model
# to explain nothing. Remember this; it is about to be lost.
#
# In numbers, with the three directions of lesson 3 as observations and any guide you like:

# %%
directions = normalize(torch.tensor([[1.0, 0.2, 0.3], [0.1, 1.0, 0.2], [0.6, 0.3, 1.0]], dtype=torch.float64))
product = ProductOfExperts(VonMisesFisher(directions, torch.tensor([4.0, 8.0, 2.0], dtype=torch.float64)))
uniform = SphericalUniform(3, dtype=torch.float64)
q = VonMisesFisher(normalize(torch.tensor([0.3, 1.0, 0.6], dtype=torch.float64), dim=0), 6.0)

divergence = kl_divergence(q, product.normalized())
negative_elbo = cross_entropy(q, product) + kl_divergence(q, uniform)
log_evidence = product.log_normalizer() - uniform.entropy()  # log p(m₁, m₂, m₃) = log Z + log C(0)
print(f"KL {divergence:.6f} = negative ELBO {negative_elbo:.6f} + log evidence {log_evidence:.6f}")
assert abs(divergence - (negative_elbo + log_evidence)) < 1e-10

# %% [markdown]
# ## Step 2. A posterior of one's own
#
# Self-supervised learning wants no generative model of pixels. So the paper replaces the posterior by a network's,
# $p_\psi(z\mid\mathbb{X})$, and the divergence becomes Eq. (5): a cross-entropy minus the guide's entropy.

# %%
multimodal_vi.KL_IS_CROSS_ENTROPY_MINUS_ENTROPY.verify()
multimodal_vi.KL_IS_CROSS_ENTROPY_MINUS_ENTROPY

# %% [markdown]
# It looks harmless, and it is where collapse comes in. Nothing ties $p_\psi$ to the data any more: the evidence is
# gone. Let $q$ and $p$ be *any* distribution, the same for all images, and the loss is at its minimum:

# %%
multimodal_vi.COLLAPSE_IS_OPTIMAL.verify()
multimodal_vi.COLLAPSE_IS_OPTIMAL

# %% [markdown]
# This is the theory's honest word on the puzzle's second half: **the objective does not forbid collapse, it invites
# it.** Whatever saves SimSiam is not in Eq. (5).
#
# ## Step 3. Experts
#
# Views are independent given $z$, and $z$ is uniform. Then the posterior is a product of experts, one a view, divided
# by a number $Z$ that does not depend on $z$ (Eq. (6), where "=" should be "$\propto$"):

# %%
product_of_experts.PRODUCT_OF_EXPERTS.verify()
product_of_experts.PRODUCT_OF_EXPERTS

# %% [markdown]
# ## Step 4. Atoms
#
# The guide is the mixture of points at the target's outputs (Eq. (8)), so expectations are means over atoms. (Below
# Eq. (9) the paper forgets the $1/M$.)

# %%
dirac_guide.EXPECTATION.verify()
dirac_guide.EXPECTATION

# %% [markdown]
# ## Step 5. SimSiam
#
# Insert all of it into Eq. (5), with von Mises–Fisher experts of one constant $\kappa$. The guide's entropy does not
# depend on $\psi$ and is left out. Four steps:

# %%
simsiam.LOSS.verify()
simsiam.LOSS

# %% [markdown]
# A constant, and minus the cosine of every guess with every target (Eq. (9), which is printed with "$\propto$" and
# without the constant). The terms $i = j$ compare a view with itself; the paper drops them. For two views, $1/M = 1/2$,
# there remains half of $\kappa$ times Eq. (1), the loss of lesson 1:

# %%
simsiam.OFF_DIAGONAL.verify()
simsiam.OFF_DIAGONAL

# %% [markdown]
# Dropping terms of a divergence is no derivation. But there is a reading in which nothing is dropped: hold each expert
# against the guide over the *other* views, one divergence an expert. With two views that guide is a single atom. The
# sum is the paper's Algorithm 1, it is what `KLObjective` computes unless told otherwise, and now the factor is
# $\kappa$:

# %%
simsiam.CROSS_PAIRS.verify()
simsiam.CROSS_PAIRS

# %% [markdown]
# ## The same formula, three times
#
# A derivation could be right and the code wrong. So: compile the SymPy result into a function of numbers, run the Pyro
# pair through the objective, and compare, for one image in four views.

# %%
encoder = nn.Linear(6, 3).double()
model = MultiViewModel(encoder, VonMisesFisherHead(nn.Linear(3, 3).double(), concentration=5.0))
guide = MultiViewGuide(encoder)
views = [torch.randn(1, 6, dtype=torch.float64) for _ in range(4)]

formula = compile_loss(simsiam.LOSS.result, "von Mises–Fisher", views=4)
guesses = torch.cat([model.expert(view).mean_direction for view in views])
targets = guide.locations(views)[0]
from_formula = float(formula(3, [5.0] * 4, (guesses @ targets.T).tolist()))
from_program = KLObjective(pairs="all")(model, guide)(views).item()
print(f"SymPy's formula {from_formula:.10f}, the Pyro pair {from_program:.10f}")
assert abs(from_formula - from_program) < 1e-10

# %% [markdown]
# And the training. On the left of the comparison SimSiam as in lesson 1, with its `detach`; on the right a
# `MultiViewModel` and a `MultiViewGuide` under `KLObjective`. Same initial weights, same views, float64. If the paper
# is right, they stay equal, step by step.


# %%
def network() -> nn.Sequential:
    """An encoder, small."""
    return nn.Sequential(nn.Flatten(), two_layer_mlp(256, 64, 8)).double()


encoder, predictor = network(), two_layer_mlp(8, 16, 8).double()
encoder_twin, predictor_twin = copy.deepcopy(encoder), copy.deepcopy(predictor)
pair = MultiViewModel(encoder_twin, VonMisesFisherHead(predictor_twin, concentration=1.0)), MultiViewGuide(encoder_twin)
objective = KLObjective()(*pair)  # the pairs of different views
optimizers = [
    torch.optim.SGD([*f.parameters(), *h.parameters()], lr=0.1, momentum=0.9)
    for f, h in ((encoder, predictor), (encoder_twin, predictor_twin))
]
images, augment = load()[0].images, DigitViews(torch.Generator().manual_seed(0))
shifts = []
for step in range(20 if FAST else 100):
    x1, x2 = (augment(images[64 * (step % 20) :][:64]).double() for _ in range(2))
    z1, z2 = encoder(x1), encoder(x2)
    g1, g2, f1, f2 = (normalize(v) for v in (predictor(z1), predictor(z2), z1.detach(), z2.detach()))
    simsiam_loss = -((g1 * f2).sum(1) + (g2 * f1).sum(1)).mean() / 2
    kl_loss = objective([x1, x2]) / len(x1) / 2
    for loss, optimizer in zip((simsiam_loss, kl_loss), optimizers, strict=True):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shifts.append((kl_loss - simsiam_loss).item())

weights = zip(encoder.parameters(), encoder_twin.parameters(), strict=True)
apart = max((a - b).abs().max().item() for a, b in weights)
print(f"largest difference between the weights after {len(shifts)} steps: {apart:.1e}")
print(f"KL objective / 2 − SimSiam's loss: {min(shifts):.12f} … {max(shifts):.12f}, the constant −log C(1)")
assert apart < 1e-10
assert max(shifts) - min(shifts) < 1e-12

# %% [markdown]
# SimSiam *is* variational inference with this model, this guide and $\kappa = 1$. (BYOL is the same with a guide that
# has a network of its own.) `python -m experiments.recover simsiam` runs this comparison with the full networks.
#
# ## So, what is it minimising?
#
# Read the stop-gradient as it stands in the guide. At each step $q$ is *frozen*, and the model takes a step down
#
# $$\psi \;\mapsto\; \mathrm{KL}\big(q_{\text{frozen}} \,\big\|\, p_\psi\big) + \text{const} \;=\;
# -\mathbb{E}_{z\sim q_{\text{frozen}}}[\log p_\psi(z\mid \mathbb{X})]:$$
#
# **maximum likelihood**, with the target's outputs as data. That does go down. Then the target takes over the new
# weights, $q$ changes, and with it the data: the next step goes down *another* function. The toy of lesson 1, whose
# loss rose, shows it when the target is renewed only every 25 steps:

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

figure, axis = plt.subplots(figsize=(5.5, 2.6), layout="constrained")
for start in range(0, 100, 25):
    axis.plot(range(start, start + 25), values[start : start + 25], color=BLUE)
    if start:
        axis.plot([start - 1, start], values[start - 1 : start + 1], color=MUTED, linewidth=1, linestyle="dotted")
axis.set(xlabel="step; the target is renewed every 25", ylabel="KL up to a constant")
plt.show()

changes = [after - before for before, after in pairwise(values)]
within = [change for n, change in enumerate(changes, start=1) if n % 25]
renewals = [change for n, change in enumerate(changes, start=1) if n % 25 == 0]
print(f"largest change within a phase {max(within):.4f}; changes at the renewals {[round(x, 3) for x in renewals]}")
assert max(within) < 0
assert min(renewals) > 0

# %% [markdown]
# Down in every phase, up at every renewal. The first half of the puzzle is solved: **SimSiam takes turns. It fits the
# model to the guide by maximum likelihood, and lets the guide follow.** No single function is minimised by the whole.
# The second half, why the turns do not end in a point, is open, and now you know that the objective cannot be what
# answers it.
#
# ## Exercises
#
# **Exercise 1.** Does `verify` notice anything? Take the last step of `simsiam.LOSS`, change the sign of its right-hand
# side, and verify. (A `Step` is a frozen dataclass: `dataclasses.replace`.)

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 1. The residual is shown: twice the right-hand side, not 0.
from dataclasses import replace

last = simsiam.LOSS.steps[-1]
wrong = replace(last, right=-last.right)
try:
    wrong.verify()
except DerivationError as error:
    noticed = str(error)
print(noticed[:90], "…")
assert "not 0" in noticed
last.verify()

# %% [markdown]
# **Exercise 2.** Write a derivation of your own: with the bilinearity of `Inner`, show that for two views the sum over
# *all* pairs in Eq. (9) is the inner product of sums, $\sum_{ij}\mu_i^\top f_j = (\mu_1+\mu_2)^\top(f_1+f_2)$. What
# does it say about what the loss with $i = j$ compares?

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 2. All pairs together compare the mean guess with the mean target: what the views have in common, wherever
# the single guesses are. The cross pairs ask more: each guess must predict the other view's target.
from sympy import Sum

from ssl_as_inference.derivations.notation import Inner, M, f, i, j, mu

all_pairs = Sum(Inner(mu[i], f[j]), (i, 1, M), (j, 1, M)).subs(M, 2).doit()
mine = Derivation(
    "Eq. (9)", "all pairs compare sums", (Step("bilinearity", all_pairs, Inner(mu[1] + mu[2], f[1] + f[2])),)
)
mine.verify()
assert mine.steps[0].residual() == 0
mine

# %% [markdown]
# **Exercise 3.** "The second term in Eq. (5) is constant", says the paper of the guide's entropy. Give the atoms a
# finite width $\tau$ (`SphericalMixture`) and estimate the entropy by sampling, for three orthogonal atoms and for
# three equal ones, $\tau = 100$. When is it a constant, then?

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 3. H(q) = h(τ) + I with 0 ≤ I ≤ log M: here I is log 3 for distinct atoms, 0 for equal ones. It is constant
# only while the atoms stay distinct compared with their width (and h(τ) → −∞ as τ → ∞). It would reward atoms that
# keep apart. But behind the stop-gradient it gives no gradient at all, and so does not keep them apart.
axes_of_space = torch.eye(3, dtype=torch.float64)
entropies = {}
for name, atoms in {"orthogonal": axes_of_space, "equal": axes_of_space[[0, 0, 0]]}.items():
    mixture = SphericalMixture(VonMisesFisher(atoms, 100.0))
    entropies[name] = -mixture.log_prob(mixture.sample((20_000,))).mean().item()
gap = entropies["orthogonal"] - entropies["equal"]
print(f"difference of the entropies {gap:.3f}, log 3 = 1.099")
assert abs(gap - 1.0986) < 0.05

# %% [markdown]
# **Next:** what if $\kappa$ is not a constant? Then the expert can say how sure it is. →
# [Lesson 5: VI-SimSiam and the paper's errata](5_vi_simsiam_and_the_errata.py)
