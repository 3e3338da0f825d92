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
# # 2 · Distributions on the sphere
#
# In [lesson 1](1_simsiam_byol_and_the_puzzle.py) everything that mattered was a unit
# vector, and the loss was a cosine. Here you meet the probability distributions that
# live on the sphere, and you learn to read their one parameter of width, the
# **concentration** $\kappa$. In many dimensions it does not mean what three dimensions
# suggest. At the end the loss of SimSiam turns out to be a negative log-likelihood.
#
# *You need:* densities and expectations. *Time:* 15 minutes to read, a few seconds to
# run.

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import math
import os

import matplotlib.pyplot as plt
import torch
from scipy.integrate import quad
from torch import Tensor
from torch.distributions import kl_divergence

from experiments.figures.style import INK, MUTED, PALETTE, SETTINGS

FAST = os.environ.get("LESSONS_FAST") == "1"
torch.manual_seed(0)
plt.rcParams.update(SETTINGS)
BLUE, ORANGE, GREEN = PALETTE[:3]

# %%
from experiments.figures.interactive import density_on_the_sphere
from ssl_as_inference.distributions import (
    PowerSpherical,
    RotationallySymmetric,
    SphericalUniform,
    VonMisesFisher,
)
from ssl_as_inference.special import (
    von_mises_fisher_log_normalizer,
    von_mises_fisher_mean_resultant_length,
)
from ssl_as_inference.sphere import log_surface_area, normalize


def pole(dim: int) -> Tensor:
    """The unit vector along the first axis, in float64."""
    return torch.eye(dim, dtype=torch.float64)[0]


# %% [markdown]
# ## The von Mises–Fisher distribution
#
# The sphere $S^{d-1}$ is the set of unit vectors of $\mathbb{R}^d$. The simplest
# distribution on it is uniform. The next simplest prefers one direction $\mu$, and the
# more so the larger $\kappa \ge 0$ is (Eq. (7) of the paper):
#
# $$\mathrm{vMF}(z;\mu,\kappa) = C(\kappa)\, e^{\kappa\,\mu^\top z}.$$
#
# It is what the normal distribution is in flat space: among all distributions on the
# sphere with a given mean, it has the largest entropy. Here is the sphere of $d = 3$,
# seen from the front, its shade the density, with 300 draws.


# %%
def front_of_the_sphere(pixels: int = 200) -> tuple[Tensor, Tensor]:
    """Unit vectors that face the reader, one a pixel, and where there are any."""
    y, x = torch.meshgrid(
        *[torch.linspace(-1, 1, pixels, dtype=torch.float64)] * 2, indexing="ij"
    )
    inside = x**2 + y**2 < 1
    z = torch.stack([x, y, (1 - x**2 - y**2).clamp_min(0).sqrt()], dim=-1)
    return normalize(z), inside


# %%
mu = normalize(torch.tensor([0.45, 0.35, 0.82], dtype=torch.float64))
points, inside = front_of_the_sphere()
look = {"origin": "lower", "extent": (-1, 1, -1, 1), "cmap": "Blues", "vmin": 0}
figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
for axis, kappa in zip(axes, (0.0, 3.0, 30.0, 300.0), strict=True):
    distribution = VonMisesFisher(mu, kappa)
    density = distribution.log_prob(points).exp().where(inside, math.nan)
    peak = distribution.log_prob(mu).exp().item()
    top = max(4 * math.exp(-log_surface_area(3)), peak)  # the uniform one is not dark
    axis.imshow(density.numpy(), vmax=top, **look)
    seen = [z for z in distribution.sample((300,)) if z[2] > 0]
    axis.scatter([z[0] for z in seen], [z[1] for z in seen], s=3, color=ORANGE)
    axis.add_patch(plt.Circle((0, 0), 1, fill=False, color=INK, linewidth=0.8))
    axis.set(title=rf"$\kappa = {kappa:g}$", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
plt.show()

# %% [markdown]
# The constant $C(\kappa)$ makes the density integrate to one. This can be checked.
# A density that depends on $z$ through $t = \mu^\top z$ alone is easy to integrate over
# the sphere of *any* dimension: the points with cosine $t$ form a smaller sphere of
# radius $\sqrt{1-t^2}$, and a step $dt$ is a ring of width $dt/\sqrt{1-t^2}$, so that
#
# $$\int_{S^{d-1}} h(\mu^\top z)\,dz =
# \mathrm{area}(S^{d-2}) \int_{-1}^{1} h(t)\,(1-t^2)^{(d-3)/2}\,dt .$$


# %%
def at_cosine(cosine: Tensor, dim: int) -> Tensor:
    """Unit vectors whose cosine with the pole is given."""
    second = torch.eye(dim, dtype=torch.float64)[1]
    return cosine[..., None] * pole(dim) + (1 - cosine**2).sqrt()[..., None] * second


def log_density_of_the_cosine(p: RotationallySymmetric, cosine: Tensor) -> Tensor:
    """Logarithm of the density of t = μᵀz, the integrand above; μ is the pole."""
    ring = log_surface_area(p.dim - 1) + (p.dim - 3) / 2 * torch.log1p(-(cosine**2))
    return p.log_prob(at_cosine(cosine, p.dim)) + ring


# %%
def integral(p: RotationallySymmetric) -> float:
    """Over the whole sphere."""

    def integrand(t: float) -> float:
        cosine = torch.tensor(t, dtype=torch.float64)
        return float(log_density_of_the_cosine(p, cosine).exp())

    peak = float(p.mean_resultant_length)
    total, _ = quad(integrand, -1, 1, points=[peak], epsabs=1e-11)
    return float(total)


totals = []
for dim, kappa in ((3, 5.0), (8, 40.0), (128, 200.0)):
    totals.append(integral(VonMisesFisher(pole(dim), kappa)))
    print(f"d = {dim:3}, κ = {kappa:3.0f}: the density integrates to {totals[-1]:.10f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert all(abs(total - 1) < 1e-8 for total in totals)

# %% [markdown]
# ## What κ means: the mean resultant length
#
# A number for "how concentrated" that you can imagine is the expected cosine with the
# centre, which is also the length of the mean vector:
#
# $$A_d(\kappa) = \mathbb{E}[\mu^\top z] = \lVert \mathbb{E}[z] \rVert \in [0, 1).$$
#
# It is called the mean resultant length. 0 is uniform, 1 a point. Let us plot it
# against $\kappa$ in several dimensions.

# %%
dims = (3, 32, 512, 2048)
shades = ["#9ecae1", "#6baed6", "#3182bd", "#08306b"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for dim, shade in zip(dims, shades, strict=True):
    kappa = torch.logspace(-1, 5, 200, dtype=torch.float64)
    resultant = von_mises_fisher_mean_resultant_length(dim, kappa)
    left.plot(kappa.numpy(), resultant.numpy(), color=shade, label=f"d = {dim}")
    right.plot((kappa / dim).numpy(), resultant.numpy(), color=shade)
left.axvline(10, color=MUTED, linewidth=0.8, linestyle="dotted")
left.set(
    xscale="log", xlabel=r"$\kappa$", ylabel=r"mean resultant length $A_d(\kappa)$"
)
right.set(xscale="log", xlabel=r"$\kappa / d$", xlim=(1e-3, 1e2))
left.legend()
plt.show()

ten = torch.tensor(10.0, dtype=torch.float64)
for dim in dims:
    expected = von_mises_fisher_mean_resultant_length(dim, ten)
    print(f"κ = 10 in d = {dim:4}: expected cosine {expected:.4f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
# coth κ − 1/κ in space
assert abs(von_mises_fisher_mean_resultant_length(3, ten) - 0.9) < 1e-8
assert abs(expected - 10 / 2048) < 1e-6  # the last of them, d = 2048

# %% [markdown]
# The same $\kappa = 10$ is a sharp peak in space and *nearly uniform* in $d = 2048$,
# where SimSiam lives. So a bare $\kappa$ says nothing. **What counts is $\kappa$
# relative to $d$** (right): for large $d$ all curves become one, $A \approx
# 2r/(1+\sqrt{1+4r^2})$ with $r = \kappa/d$.
#
# ## High dimensions: most of the sphere is equator
#
# Why? Because a sphere of high dimension has hardly any room near a pole. The cosine of
# a *uniform* draw with any fixed direction has variance $1/d$: random directions are
# nearly orthogonal. Nearly all of the sphere is at a cosine near 0, and a peak at $\mu$
# has to outweigh all that room.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
cosine = torch.linspace(-0.9999, 0.9999, 4001, dtype=torch.float64)
for axis, ratio in zip(axes, (0.0, 1.0), strict=True):
    for dim, shade in zip(dims, shades, strict=True):
        distribution = VonMisesFisher(pole(dim), ratio * dim)
        density = log_density_of_the_cosine(distribution, cosine).exp()
        axis.plot(cosine, density, color=shade, label=f"d = {dim}")
axes[0].set(title="uniform", xlabel=r"cosine with $\mu$")
axes[0].set(ylabel="density of the cosine", ylim=(0, 34))
axes[1].set(title=r"vMF with $\kappa = d$", xlabel=r"cosine with $\mu$")
axes[0].legend()
plt.show()

# %%
draws = 2_000 if FAST else 20_000
golden = VonMisesFisher(pole(2048), 2048.0)
cosines = golden.sample((draws,))[:, 0]
print(f"κ = d = 2048: the cosines of {draws} draws")
print(f"average {cosines.mean():.3f} and never exceed {cosines.max():.2f}")
variance = SphericalUniform(2048).variance[0].item()
print(f"variance of the cosine of a uniform draw × d: {variance * 2048:.6f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
# the golden ratio, from the formula above at r = 1
assert abs(cosines.mean() - 2 / (1 + math.sqrt(5))) < 2e-3
assert cosines.max() < 0.7
assert abs(variance * 2048 - 1) < 1e-5

# %% [markdown]
# Read the right picture twice. The density on the sphere is *largest* at $\mu$. Yet no
# draw comes near $\mu$: all of them lie in a thin ring at cosine 0.618, because there
# is so much more room in the ring. So a cosine of 0.6 between two embeddings in
# $d = 2048$ is an enormous agreement, for directions that are spread evenly. Trained
# embeddings often use few of the directions (lesson 6), and then it is less.
#
# ## The Power Spherical distribution
#
# $C(\kappa)$ of the vMF contains a Bessel function, which is awkward where $\kappa$ has
# to be learned. The paper's method (lesson 5) uses another family ([De Cao and Aziz,
# 2020](https://arxiv.org/abs/2006.04437)), Eq. (11):
#
# $$\mathrm{PS}(z;\mu,\kappa) = C(\kappa)\,(1+\mu^\top z)^{\kappa}.$$
#
# Its normaliser, entropy and moments need no Bessel function. Its mean resultant length
# is $\kappa/(\kappa+d-1)$: again only $\kappa$ relative to $d$ counts. Compare the
# families at the same mean resultant length:

# %%
dim, resultant = 128, 0.8
power = PowerSpherical(pole(dim), (dim - 1) * resultant / (1 - resultant))
samples = power.sample((draws,))
fisher = VonMisesFisher(pole(dim), VonMisesFisher.fit(samples).concentration)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
for family, name, colour in ((fisher, "vMF", BLUE), (power, "Power Spherical", ORANGE)):
    label = rf"{name}, $\kappa$ = {family.concentration:.0f}"
    density = log_density_of_the_cosine(family, cosine).exp()
    left.plot(cosine, density, color=colour, label=label)
    right.plot(cosine, -family.log_prob(at_cosine(cosine, dim)), color=colour)
left.set(xlabel=r"cosine with $\mu$", xlim=(0.6, 0.95))
left.set(title=f"density of the cosine, d = {dim}")
right.set(xlabel=r"cosine with $\mu$", ylim=(-300, 1500))
right.set(title="negative log density on the sphere")
left.legend()
plt.show()

for name, p in {"Power Spherical": power, "vMF, fitted to its draws": fisher}.items():
    print(f"{name}: κ = {p.concentration:.0f}, ", end="")
    print(f"mean resultant length {p.mean_resultant_length:.4f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert abs(integral(power) - 1) < 1e-8
assert abs(power.mean_resultant_length - resultant) < 1e-12
assert abs(fisher.mean_resultant_length - resultant) < 5e-3
assert abs(fisher.concentration - 283) < 8

# %% [markdown]
# Nearly the same distribution on the left, different tails on the right. There the
# negative log density of the vMF is a straight line; that of the Power Spherical bends
# up to $\infty$ at $-\mu$. Keep the right picture in mind: it decides how the two treat
# a pair of views that disagree. And compare the labels: two equally wide distributions,
# one with a $\kappa$ of 508 and one of about 283. *Compare widths, never raw
# concentrations, between families.* For $\kappa$ much larger than $d$ the rule is
# $\mathrm{PS}(\kappa) \approx \mathrm{vMF}(\kappa/2)$:

# %%
divergences = {}
for kappa in (1e2, 1e3, 1e4):
    half = VonMisesFisher(pole(3), kappa / 2)
    divergences[kappa] = kl_divergence(PowerSpherical(pole(3), kappa), half).item()
    print(f"KL(PS({kappa:g}) ‖ vMF({kappa / 2:g})) = {divergences[kappa]:.2e}, d = 3")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
for kappa, expected in {1e2: 2.4e-4, 1e3: 2.5e-6, 1e4: 2.5e-8}.items():
    assert abs(divergences[kappa] / expected - 1) < 0.05

# %% [markdown]
# Turn $\mathrm{vMF}(\kappa/2)$ and $\mathrm{PS}(\kappa)$ yourself, and move $\kappa$.
# At large $\kappa$ the two spheres look alike. At $\kappa = 1$ turn them to the side
# opposite to $\mu$: there the Power Spherical density falls to zero, and the other does
# not.

# %% tags=["turnable-figure", "remove-cell"]
density_on_the_sphere()

# %% [markdown]
# ## The cosine is a log-likelihood
#
# Take the logarithm of Eq. (7), change the sign, and insert the guess $g$ for $\mu$ and
# the target $f$ for $z$:
#
# $$-\log \mathrm{vMF}(f;\, g, \kappa) \;=\; -\kappa\; g^\top f \;-\; \log C(\kappa).$$
#
# For constant $\kappa$ the last term does not depend on the network at all. **Minus the
# cosine is the negative log-likelihood of a von Mises–Fisher distribution**, as the
# squared error is that of a normal distribution. When SimSiam's predictor outputs $g$,
# we may say: it outputs a *distribution* over where the target will be.

# %%
# five guesses, five targets
g, f = normalize(torch.randn(2, 5, 64, dtype=torch.float64))
kappa = torch.tensor(7.0, dtype=torch.float64)
likelihood = -VonMisesFisher(g, kappa).log_prob(f)
right_side = -kappa * (g * f).sum(-1) - von_mises_fisher_log_normalizer(64, kappa)
difference = (likelihood - right_side).abs().max().item()
print(f"largest difference between the two sides: {difference:.1e}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert difference < 1e-12

# %% [markdown]
# That answers a small part of "what is SimSiam minimising?". A likelihood of what,
# though, and where does the target come from? For that we need a model.
#
# ## Exercises
#
# Each exercise has a cell to start from. The solutions stand folded at the end.
#
# **Exercise 1.** (easy) Compute $\log C(\kappa) = \nu\log\kappa - \frac d2 \log 2\pi -
# \log I_\nu(\kappa)$, $\nu = \frac d2 - 1$, with `scipy.special.iv` for $d = 2048$ and
# $\kappa = 10$. What goes wrong, and does `von_mises_fisher_log_normalizer` get it
# right? (Ask `mpmath.besseli`, which computes with as many digits as you like.)

# %% tags=["starter"]
import mpmath
from scipy.special import iv

naive, bessel = iv(1023, 10.0), mpmath.besseli(1023, 10)  # I_ν(κ), twice
# Your turn: log C from `bessel`, and from von_mises_fisher_log_normalizer(2048, ten).

# %% [markdown]
# **Exercise 2.** (medium) Draw from a vMF with $d = 64$ and $\kappa = 50$. Maximum
# likelihood asks for the $\hat\kappa$ with $A_d(\hat\kappa) = \lVert\bar z\rVert$. Why?
# Solve it by bisection and compare with `VonMisesFisher.fit`.

# %% tags=["starter"]
data = VonMisesFisher(pole(64), 50.0).sample((20_000,))
low, high = torch.tensor([0.0, 1e4], dtype=torch.float64)
# Your turn: halve the interval 60 times. On which side of A is ‖z̄‖?

# %% [markdown]
# **Exercise 3.** (easy) Two views scatter independently around the same $z$: $f_1, f_2
# \sim \mathrm{vMF}(z, \kappa)$. What is the expected cosine between them, in terms of
# $A_d(\kappa)$? Check it by sampling.

# %% tags=["starter"]
around = VonMisesFisher(pole(64), 100.0)
first, second = around.sample((20_000,)), around.sample((20_000,))
# Your turn: their mean cosine, and your formula in around.mean_resultant_length.

# %% [markdown]
# ## Solutions

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 1. I_ν(κ) is about (κ/2)^ν/Γ(ν+1), here 10^−1922: zero in float64, whose
# smallest number is 5 · 10^−324. Its logarithm is −∞. A normaliser for large d has to
# be computed in logarithms from the start.
powers = 1023 * mpmath.log(10) - 1024 * mpmath.log(2 * mpmath.pi)
exact = float(powers - mpmath.log(bessel))
ours = von_mises_fisher_log_normalizer(2048, ten).item()
print(f"the Bessel function: SciPy {naive}, mpmath {mpmath.nstr(bessel, 3)}")
print(f"log C: mpmath {exact:.6f}, this library {ours:.6f}")
assert naive == 0.0
assert round(float(mpmath.log10(bessel))) == -1922
assert abs(ours / exact - 1) < 1e-12

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 2. The mean log-likelihood is κ μᵀz̄ + log C(κ). Its derivative in κ is μᵀz̄
# − A(κ), since (log C)′ = −A; and the best μ is z̄/‖z̄‖. Moment matching: the fitted
# distribution has the mean of the data. Lesson 8 meets this equation again.
length = data.mean(0).norm()
for _ in range(60):
    middle = (low + high) / 2
    below = von_mises_fisher_mean_resultant_length(64, middle) < length
    low, high = torch.where(below, middle, low), torch.where(below, high, middle)
fitted = VonMisesFisher.fit(data).concentration
print(f"κ by bisection {low:.4f}, by fit {fitted:.4f}; the truth is 50")
assert abs(low - fitted) < 1e-6
assert abs(fitted - 50) < 1

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 3. E[f₁ᵀf₂] = E[f₁]ᵀE[f₂] = A². Views whose cosine is 0.8 each have a cosine
# of only √0.8 ≈ 0.89 with the z that they share: the truth is closer to either than
# they are to each other.
agreement, length = (first * second).sum(-1).mean(), around.mean_resultant_length
print(f"mean cosine of two draws {agreement:.4f}, A² = {length**2:.4f}")
assert abs(agreement - length**2) < 5e-3

# %% [markdown]
# **Next:** a probabilistic program for a thing seen several times. → [Lesson 3: a
# latent z with many views](3_a_latent_with_many_views.py)
