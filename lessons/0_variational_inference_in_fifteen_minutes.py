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
# # 0 · Variational inference in fifteen minutes
#
# The other lessons read self-supervised learning as *variational inference*. This one
# is for readers who have never met it. We infer a single number from a single noisy
# measurement, so that everything can be drawn. You will meet the five words that all
# later lessons use: *latent*, *model*, *guide*, *divergence*, *plate*.
#
# *You need:* the normal distribution and Bayes' rule. *Time:* 15 minutes to read, a few
# seconds to run.

# %%
import math

import matplotlib.pyplot as plt
import pyro
import torch
from pyro import poutine
from pyro.distributions import Normal
from torch import Tensor

from experiments.figures.style import PALETTE, SETTINGS

plt.rcParams.update(SETTINGS)
BLUE, ORANGE, GREEN = PALETTE[:3]

# %% [markdown]
# ## A model: how the data came about
#
# A room should have 20 degrees. A thermometer says that it is $x = 2$ degrees too warm.
# The true deviation $z$ is not seen; it is the **latent**. Before looking we believe
# that $z$ is near 0. The thermometer errs by about half a degree. As a **model**, a
# story of how the data came about:
#
# $$z \sim \mathcal N(0, 1), \qquad x \mid z \sim \mathcal N(z, 0.5^2).$$
#
# What we want is the **posterior** $p(z\mid x)$: what to believe of $z$ after seeing
# $x$. Bayes' rule gives it:
#
# $$p(z\mid x) = \frac{p(x\mid z)\,p(z)}{p(x)},
# \qquad p(x) = \int p(x\mid z)\,p(z)\,dz.$$
#
# The number $p(x)$ is called the **evidence**. It does not depend on $z$.

# %%
x = torch.tensor(2.0)
z = torch.linspace(-4, 6, 1001)
step = float(z[1] - z[0])

log_joint = Normal(z, 0.5).log_prob(x) + Normal(0.0, 1.0).log_prob(z)
evidence = float(log_joint.exp().sum() * step)  # p(x), by adding up a thousand strips
posterior = log_joint.exp() / evidence

figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.plot(z, Normal(0.0, 1.0).log_prob(z).exp(), color=BLUE, label="prior p(z)")
axis.plot(z, Normal(z, 0.5).log_prob(x).exp(), color=GREEN, label="likelihood p(x|z)")
axis.plot(z, posterior, color=ORANGE, label="posterior p(z|x)")
axis.set(xlabel="z", ylabel="density", xlim=(-3, 4))
axis.legend()
plt.show()

# %% tags=["hide-input"] jupyter={"source_hidden": true}
# In this one example the answer is known on paper: a normal distribution with mean 1.6.
mean, deviation = float((z * posterior).sum() * step), 0.2**0.5
print(f"p(x) = {evidence:.4f}, posterior mean {mean:.3f}")
assert abs(evidence - float(Normal(0.0, 1.25**0.5).log_prob(x).exp())) < 1e-4
assert abs(mean - 1.6) < 1e-3

# %% [markdown]
# The posterior lies between prior and measurement, and it is narrower than both.
#
# Here we could add up strips because $z$ is one number. With $z$ in 2,048 dimensions
# nobody can: the strips would be too many. Variational inference replaces the sum by a
# *search*.
#
# ## A guide, and how far it is from the posterior
#
# Choose a family of distributions that are easy to handle, such as all normal ones. A
# member of it is called a **guide** $q(z)$. Among all guides, find the one that is
# closest to the posterior. "Close" is measured by the **Kullback–Leibler divergence**:
#
# $$\mathrm{KL}(q\,\|\,p) = \int q(z)\,\log\frac{q(z)}{p(z\mid x)}\,dz \;\ge\; 0,$$
#
# which is 0 only if the two agree. As a picture it is the signed area under the curve
# $q\log(q/p)$. Where $q$ has mass and $p$ has none, the area is large.


# %%
def draw_divergence(axis: plt.Axes, guide: Normal, title: str) -> float:
    """Shade the integrand; the area is the divergence."""
    q = guide.log_prob(z).exp()
    integrand = q * (guide.log_prob(z) - posterior.log())
    axis.plot(z, posterior, color=ORANGE, label="posterior")
    axis.plot(z, q, color=BLUE, label="guide q")
    axis.fill_between(z, 0, integrand, color=GREEN, alpha=0.4, label="q log(q/p)")
    area = float(integrand.sum() * step)
    axis.set(title=f"{title}: KL = {abs(area):.2f}")
    axis.set(xlabel="z", xlim=(-2, 4), ylim=(-0.7, 2.8))
    return area


# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
areas = [
    draw_divergence(axes[0], Normal(0.7, 0.4), "too far left"),
    draw_divergence(axes[1], Normal(1.6, 0.9), "too wide"),
    draw_divergence(axes[2], Normal(1.6, deviation), "the posterior"),
]
axes[0].set(ylabel="density, integrand")
axes[0].legend()
plt.show()

# %% tags=["hide-input"] jupyter={"source_hidden": true}
print(f"divergences: {', '.join(f'{abs(area):.3f}' for area in areas)}")
# Between normal distributions: log(s_p/s_q) + (s_q² + (m_q − m_p)²)/(2 s_p²) − 1/2.
by_hand = math.log(deviation / 0.4) + (0.4**2 + 0.9**2) / (2 * 0.2) - 0.5
assert abs(areas[0] - by_hand) < 1e-3
assert areas[1] > 0.1
assert abs(areas[2]) < 1e-3

# %% [markdown]
# ## The ELBO: the divergence without the number that nobody knows
#
# The divergence contains the posterior, and the posterior contains $p(x)$, which we
# could not compute. But $p(x)$ is a constant: it does not depend on the guide. Move it
# to the other side:
#
# $$\log p(x) = \underbrace{\mathbb E_q\big[\log p(x, z) - \log q(z)\big]}_{\text{ELBO}}
# \;+\; \mathrm{KL}\big(q(z)\,\|\,p(z\mid x)\big).$$
#
# The left side is fixed. So raising the **ELBO** lowers the divergence by the same
# amount. And the ELBO needs only things that we can evaluate. Its name, *evidence lower
# bound*, says the rest: the divergence is not negative, so the ELBO is at most the log
# evidence.


# %%
def elbo(guide: Normal) -> float:
    """The expectation, by strips; in real problems, by draws from the guide."""
    q = guide.log_prob(z).exp()
    return float((q * (log_joint - guide.log_prob(z))).sum() * step)


guides = [Normal(0.7, 0.4), Normal(1.6, 0.9), Normal(1.6, deviation)]
for candidate, area in zip(guides, areas, strict=True):
    total = elbo(candidate) + area
    print(f"ELBO {elbo(candidate):.3f} + KL {abs(area):.3f} = {total:.3f} = log p(x)")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
for candidate, area in zip(guides, areas, strict=True):
    assert abs(elbo(candidate) + area - math.log(evidence)) < 1e-3

# %% [markdown]
# ## The same as a program: Pyro
#
# In [Pyro](https://pyro.ai) model and guide are Python functions. `pyro.sample` makes a
# random choice and gives it a name; `obs=` says that the choice was observed. Model and
# guide talk about the same latent because they use the same name, `"z"`.


# %%
def model(observed: Tensor) -> None:
    """The story: a latent z, and a measurement of it."""
    latent = pyro.sample("z", Normal(0.0, 1.0))
    pyro.sample("x", Normal(latent, 0.5), obs=observed)


def guide(observed: Tensor) -> None:  # noqa: ARG001  # takes what the model takes
    """A normal distribution whose mean and width are to be found."""
    mean = pyro.param("mean", torch.tensor(0.0))
    log_width = pyro.param("log_width", torch.tensor(0.0))
    pyro.sample("z", Normal(mean, log_width.exp()))


pyro.set_rng_seed(0)
trace = poutine.trace(model).get_trace(x)
trace.compute_log_prob()
sites = {name: trace.nodes[name] for name in ("z", "x")}
for name, site in sites.items():
    print(f"{name}: value {site['value']:.3f}, log density {site['log_prob']:.3f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
for name, site in sites.items():
    assert site["is_observed"] == (name == "x")
drawn = sites["z"]["value"]
by_hand = Normal(0.0, 1.0).log_prob(drawn) + Normal(drawn, 0.5).log_prob(x)
assert abs(trace.log_prob_sum() - by_hand) < 1e-6

# %% [markdown]
# What you see is a **trace**: one run of the story, with every random choice and its
# log density. Their sum is $\log p(x, z)$. An objective such as `Trace_ELBO` runs the
# guide, replays its choices in the model, and takes the difference of the two sums.
# `SVI` follows the gradient of that.

# %%
pyro.clear_param_store()
optimizer = pyro.optim.Adam({"lr": 0.02})
svi = pyro.infer.SVI(
    model, guide, optimizer, loss=pyro.infer.Trace_ELBO(num_particles=20)
)
means = []
for _ in range(600):
    svi.step(x)
    means.append(pyro.param("mean").item())

figure, axis = plt.subplots(figsize=(6, 2.2), layout="constrained")
axis.plot(means, color=BLUE, label="mean of the guide")
axis.axhline(1.6, color=ORANGE, label="posterior mean")
axis.set(xlabel="step", ylabel="z")
axis.legend()
plt.show()

# %% tags=["hide-input"] jupyter={"source_hidden": true}
found = pyro.param("mean").item(), pyro.param("log_width").exp().item()
print(
    f"found mean {found[0]:.2f}, width {found[1]:.2f}; exact 1.60 and {deviation:.2f}"
)
assert abs(found[0] - 1.6) < 0.1
assert abs(found[1] - deviation) < 0.1

# %% [markdown]
# ## Many at once: the plate
#
# A hundred thermometers measure a hundred rooms. The latents are independent, and a
# **plate** says so. It turns one story into a hundred, computed at once. In the other
# lessons the plate holds a batch of images, and each image has a latent of its own.


# %%
def model_of_rooms(observed: Tensor) -> None:
    """One latent and one measurement a room."""
    with pyro.plate("rooms", len(observed)):
        latent = pyro.sample("z", Normal(0.0, 1.0))
        pyro.sample("x", Normal(latent, 0.5), obs=observed)


rooms = torch.linspace(-2, 2, 100)
trace = poutine.trace(model_of_rooms).get_trace(rooms)
print(f"shape of z: {tuple(trace.nodes['z']['value'].shape)}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert trace.nodes["z"]["value"].shape == (100,)

# %% [markdown]
# ## What comes next
#
# In these lessons the latent is a unit vector, the measurements are views of an image,
# and the guide is a *point* on the sphere, or several. For a guide that is a point at
# $a$, the divergence has one term that can be computed, $-\log p(a\mid x)$. The other
# term, minus the entropy of a point, is infinite, but it does not depend on the model.
# So fitting the model to such a guide means making $\log p(a\mid x)$ large: maximum
# likelihood. That is all the machinery that you need.
#
# ## Exercises
#
# Each exercise has a cell to start from. The solutions stand folded at the end.
#
# **Exercise 1.** (easy) The divergence is not symmetric. Compute
# $\mathrm{KL}(p\,\|\,q)$ for the guide that is too wide, and compare it with
# $\mathrm{KL}(q\,\|\,p)$. Which of the two punishes a wide guide more?

# %% tags=["starter"]
wide = Normal(1.6, 0.9).log_prob(z)  # log q, at the points z
# Your turn: backwards, the area under p log(p/q). `posterior` is p, `step` a strip.

# %% [markdown]
# **Exercise 2.** (medium) The thermometer may also be read upside down: $x$ is $+z$ or
# $-z$ with equal chance, so the posterior has two hills. Draw $\mathrm{KL}(q\,\|\,p)$
# over the mean of a guide of width 0.45. Where are its minima, and what does the guide
# do with the other hill?

# %% tags=["starter"]
z2 = torch.linspace(-5, 5, 2001)
left, right = Normal(-1.6, 0.45), Normal(1.6, 0.45)
hills = (left.log_prob(z2).exp() + right.log_prob(z2).exp()) / 2
places = torch.linspace(-2.5, 2.5, 101)  # of the guide's mean
# Your turn: the divergence for each place, and a figure.

# %% [markdown]
# ## Solutions

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 1. KL(q‖p) does. It punishes mass of q where p has none, and a wide guide has
# such mass. KL(p‖q) punishes mass of p that q misses, and a wide guide misses none.
backwards = float((posterior * (posterior.log() - wide)).sum() * step)
print(f"KL(q‖p) = {areas[1]:.3f}, KL(p‖q) = {backwards:.3f}")
assert areas[1] > backwards > 0

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 2. Two minima, one at each hill: KL(q‖p) chooses a hill and ignores the
# other, because mass between the hills costs more than a hill that is missed (log 2).
width = float(z2[1] - z2[0])
divergences = []
for place in places:
    log_q = Normal(place, 0.45).log_prob(z2)
    divergences.append(float((log_q.exp() * (log_q - hills.log())).sum() * width))
figure, axis = plt.subplots(figsize=(5, 2.2), layout="constrained")
axis.plot(places, divergences, color=BLUE)
axis.set(xlabel="mean of the guide", ylabel="KL(q‖p)")
plt.show()
print(
    f"at a hill {min(divergences):.3f}, which is log 2; between {divergences[50]:.2f}"
)
assert abs(min(divergences) - math.log(2)) < 0.02
assert divergences[50] > 3

# %% [markdown]
# **Next:** a method that learns from images without labels, and a puzzle in it. →
# [Lesson 1: SimSiam, BYOL and the puzzle](1_simsiam_byol_and_the_puzzle.py)
