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
# # 6 · The collapse laboratory
#
# The objective invites collapse ([lesson 4](4_from_the_divergence_to_simsiam.py)), and
# still SimSiam works. Which part prevents it? Here are three switches (stop-gradient,
# predictor, batch normalisation of the output), eight trainings, and all their curves.
# There will be *two* kinds of collapse, and one of them is easy to miss. At the end a
# model with two numbers explains what you saw, and what the predictor is for.
#
# *You need:* lessons 1 and 4. *Time:* 15 minutes to read, one or two to run.

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from experiments.figures.live import LiveFigure
from experiments.figures.style import INK, PALETTE, SETTINGS

FAST = os.environ.get("LESSONS_FAST") == "1"
plt.rcParams.update(SETTINGS)
BLUE, ORANGE, GREEN, PINK = PALETTE[:4]

# %%
from experiments.images.digits import DigitViews, load
from inference.fitting.kl_objective import KLObjective
from inference.fitting.targets import (
    ExponentialMovingAverage,
    NoStopGradient,
    StopGradientCopy,
    TargetRule,
)
from inference.judging.collapse import effective_rank, standard_deviation
from inference.judging.evaluation import knn_accuracy
from models.networks import Encoder, VonMisesFisherHead, two_layer_mlp
from ssl_as_inference import graphical_model as graph
from ssl_as_inference.special import von_mises_fisher_concentration
from ssl_as_inference.sphere import normalize

# %% [markdown]
# ## The bench
#
# A pair is built with or without its predictor, and with or without batch normalisation
# of the encoder's output, which SimSiam has. The stop-gradient is a **target rule**:
# `StopGradientCopy` is SimSiam's, `NoStopGradient` lets the gradient into the guide.
# Everything else is the same: weights, views, optimiser, $d = 8$.


# %%
@dataclass
class Training:
    """One setting of the switches, and what came of it."""

    stop_gradient: bool
    predictor: bool
    output_norm: bool
    history: dict[str, list[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        """Name, for legends."""
        names = ["stop-gradient"] * self.stop_gradient + ["predictor"] * self.predictor
        return " + ".join(names) or "neither"


# %%
DIM = 8
train, test = load()
judge = DigitViews(torch.Generator().manual_seed(1))
# as in lesson 1, the judge compares views
train_views, test_views = judge(train.images), judge(test.images)
of_pixels = knn_accuracy(
    train_views.flatten(1), train.labels, test_views.flatten(1), test.labels
)


# %%
def build(*, predictor: bool, output_norm: bool) -> graph.MultiViewPair:
    """A small pair with von Mises–Fisher experts."""
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Flatten(), nn.Linear(256, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()
    )
    projector: nn.Module = two_layer_mlp(64, 64, DIM)
    if output_norm:
        projector = nn.Sequential(projector, nn.BatchNorm1d(DIM, affine=False))
    encoder = Encoder(backbone, projector)
    head = VonMisesFisherHead(
        two_layer_mlp(DIM, 16, DIM) if predictor else nn.Identity()
    )
    model, guide = graph.MultiViewModel(encoder, head), graph.MultiViewGuide(encoder)
    return graph.MultiViewPair(DIM, model, guide)


# %%
@torch.no_grad()
def measure(pair: graph.MultiViewPair, augment: DigitViews) -> dict[str, float]:
    """The collapse of the targets, and the κ that would describe the guesses best."""
    x1, x2 = augment(train.images[:400]), augment(train.images[:400])
    guesses = pair.model.expert(x1).mean_direction
    targets = normalize(pair.model.encoder(x2))
    cosine = (guesses * targets).sum(-1).mean().double().clamp(0, 1 - 1e-6)
    pair.eval()
    seen, new = pair.model.encoder(train_views), pair.model.encoder(test_views)
    pair.train()
    return {
        "loss": -cosine.item(),
        "standard deviation": standard_deviation(targets),
        "effective rank": effective_rank(targets),
        "κ": von_mises_fisher_concentration(DIM, cosine).item(),
        "accuracy": knn_accuracy(seen, train.labels, new, test.labels),
    }


# %%
Pair = graph.MultiViewPair
History = dict[str, list[float]]
Watch = Callable[[History], None]


def loss_of_a_batch(objective: nn.Module, augment: DigitViews) -> Tensor:
    """Half the sum over the two cross pairs, as SimSiam publishes it."""
    order = torch.randperm(len(train), generator=augment.generator)
    batch = train.images[order[: 64 if FAST else 128]]
    loss: Tensor = objective([augment(batch), augment(batch)]) / len(batch) / 2
    return loss


# %%
def fit(
    pair: Pair, rule: TargetRule, steps: int, watch: Watch = lambda _: None
) -> History:
    """Train; ten measurements along the way, which `watch` is shown as they come."""
    augment = DigitViews(torch.Generator().manual_seed(0))
    objective = KLObjective()(pair.model, rule.guide(pair))
    weights = [weight for weight in pair.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=1e-3)
    history: History = {}
    for step in range(steps + 1):
        if step % (steps // 10) == 0:
            for name, value in {"step": step, **measure(pair, augment)}.items():
                history.setdefault(name, []).append(value)
            watch(history)
        optimizer.zero_grad()
        loss_of_a_batch(objective, augment).backward()
        optimizer.step()
        rule.update(pair)
    return history


# %% [markdown]
# $\kappa$ is constant in SimSiam, so what is plotted is the $\kappa$ *that would fit
# best*: the concentration whose mean resultant length is the mean cosine of guess and
# target (the maximum likelihood of lesson 2).
#
# **Before you run it**, fill in the eight cells of this table: learns, or collapses?
#
# | | stop-gradient + predictor | stop-gradient | predictor | neither |
# |---|---|---|---|---|
# | without output normalisation | | | | |
# | with output normalisation | | | | |

# %%
steps = 60 if FAST else 200
switches = itertools.product([True, False], repeat=3)
trainings = [Training(*each) for each in switches]
quantities = ["loss", "standard deviation", "effective rank", "κ", "accuracy"]

figure, axes = plt.subplots(2, 5, figsize=(13, 4.6), layout="constrained", sharex=True)
parts = [str(training) for training in trainings[::2]]
colours = dict(zip(parts, (BLUE, ORANGE, GREEN, PINK), strict=True))
for axis, quantity in zip(axes.T, quantities, strict=True):
    axis[0].set(title=quantity, xlim=(0, steps))
    axis[1].set(title=quantity, xlabel="step")
    for cell in axis:
        cell.set_yscale("log" if quantity == "κ" else "linear")
axes[0, 0].set_ylabel("without output norm.")
axes[1, 0].set_ylabel("with output norm.")
names = [plt.Line2D([], [], color=c, label=name) for name, c in colours.items()]
figure.legend(handles=names, loc="outside upper center", ncols=4)

# %%
# In a notebook, or in a window, the curves grow as the trainings run.
live = LiveFigure(figure)
for training in trainings:
    rule = StopGradientCopy() if training.stop_gradient else NoStopGradient()
    pair = build(predictor=training.predictor, output_norm=training.output_norm)
    row = dict(zip(quantities, axes[int(training.output_norm)], strict=True))
    curves = live.curves(row, over="step", color=colours[str(training)])
    training.history = fit(pair, rule, steps, curves)
live.finish()

# %%
untrained = trainings[0].history["accuracy"][0]
best = max(training.history["accuracy"][-1] for training in trainings)
print(f"accuracy on views: raw pixels {of_pixels:.2f}, ", end="")
print(f"untrained {untrained:.2f}, best of the trained {best:.2f}")
print(f"{'training':25} {'norm.':5} | " + " | ".join(quantities))
for training in trainings:
    end = {quantity: training.history[quantity][-1] for quantity in quantities}
    name = f"{training!s:25} {'yes' if training.output_norm else 'no':5}"
    print(name + " | " + " | ".join(f"{value:.3g}" for value in end.values()))

# %% tags=["hide-input"] jupyter={"source_hidden": true}
for training in trainings:
    end = {quantity: training.history[quantity][-1] for quantity in quantities}
    if training.stop_gradient and training.predictor:
        gain = end["accuracy"] - training.history["accuracy"][0]
        assert gain > (0.1 if FAST else 0.25)
        assert end["standard deviation"] > 0.8
        assert end["effective rank"] > 4.8
    elif training.output_norm:  # spread out, but in few directions
        assert end["standard deviation"] > 0.7
        assert end["effective rank"] < 4.8
    else:  # a point
        assert end["standard deviation"] < 0.1
        assert end["loss"] < -0.99

# %% [markdown]
# ## Reading the eight curves
#
# **Top row, no output normalisation.** Only the training with both parts does not
# collapse. The other three become points within a few steps: standard deviation near 0,
# loss near $-1$, and a $\kappa$ in the thousands. A collapsed encoder is easy to
# predict, so *a $\kappa$ that explodes is an alarm*. The effective rank sees nothing.
# It looks at the directions of the small differences that are left, and not at their
# size.
#
# **Bottom row.** Batch normalisation forces each of the 8 outputs to vary over the
# batch. A single point is impossible, and the standard deviation is high for all.
# Solved? Look at the effective rank: without stop-gradient or predictor the outputs
# vary along about three directions only. This is **dimensional collapse**, and now it
# is the standard deviation that sees nothing. The accuracy is lower too.
#
# So the three switches do different things. *Normalisation changes the form of the
# collapse. Stop-gradient and predictor together prevent it.* This holds in these
# trainings: a small network, easy images, one seed. Change the seed in `build` before
# you believe it.
#
# ## One direction at a time
#
# Why these two, and why together? Make the problem as small as possible, after [Tian,
# Chen and Ganguli (2021)](https://arxiv.org/abs/2102.06810): one number $x$ a view, two
# views $x_1, x_2$ of the same $z$ with variance 1, each with its own noise of variance
# $\sigma^2$. The encoder is $f = wx$, the predictor a factor $p$, the loss
# $\frac12(p\,w x_1 - w x_2)^2$ without any normalisation. Write $s = w^2$ for the size
# of the representation, $\eta$ for weight decay (not the resultant of other lessons),
# and $g = 1 - (1+\sigma^2)\,p$ for how far the predictor is behind. Gradient descent
# then moves the two numbers by
#
# | | predictor | encoder |
# |---|---|---|
# | both parts | $\dot p = s g - \eta p$ | $\dot s = 2 p s g - 2\eta s$ |
# | no predictor | $p = 1$ | $\dot s = -2\sigma^2 s - 2\eta s$ |
# | no stop-gradient | as above | $\dot s = -2s\,\mathbb{E}(p x_1 - x_2)^2 - 2\eta s$ |
#
# Read the encoder's column. Without predictor or without stop-gradient, *both terms are
# negative whatever happens*: the representation shrinks to nothing. With both, the
# first term is positive as long as $p < 1/(1+\sigma^2)$. That number is the best linear
# prediction of one view from another: **a predictor that is a little behind makes the
# representation grow.** Which part of it grows? Let us integrate.


# %%
def flow(
    noise: float,
    *,
    predictor: bool = True,
    stop_gradient: bool = True,
    decay: float = 0.02,
) -> tuple[list[float], float]:
    """Representation s over time from w = 0.5, p = 0.3, and the final p."""
    p, s, dt = (0.3 if predictor else 1.0), 0.25, 0.2
    path = [s]
    for _ in range(4_000):
        gain = 2 * p * (1 - (1 + noise) * p)
        if not stop_gradient:
            gain = -2 * (p**2 * (1 + noise) - 2 * p + 1 + noise)
        step_p = s * (1 - (1 + noise) * p) - decay * p if predictor else 0.0
        p, s = p + dt * step_p, s + dt * s * (gain - 2 * decay)
        path.append(s)
    return path, p


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
time = [0.2 * n for n in range(501)]
paths = {
    "both parts": flow(0.5)[0],
    "no predictor": flow(0.5, predictor=False)[0],
    "no stop-gradient": flow(0.5, stop_gradient=False)[0],
}
for (name, path), colour in zip(paths.items(), (BLUE, ORANGE, GREEN), strict=True):
    left.plot(time, path[:501], color=colour, label=name)
left.set(xlabel="time", ylabel="size s of the representation")
left.set(title=r"noise $\sigma^2 = 0.5$")
left.legend()
noises = [0.0, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 15, 20]
sizes = [flow(noise)[0][-1] for noise in noises]
right.plot(noises, sizes, "o-", color=BLUE)
right.axvline(1 / (4 * 0.02) - 1, color=INK, linewidth=0.8, linestyle="dashed")
right.set(xlabel=r"noise $\sigma^2$ between the views", ylabel="final size s")
right.set(yscale="log", ylim=(1e-4, 2))
plt.show()

# %% tags=["hide-input"] jupyter={"source_hidden": true}
path, p = flow(0.5)
# larger root of p [1 − (1+σ²) p] = η
fixed_point = (1 + math.sqrt(1 - 4 * 0.02 * 1.5)) / (2 * 1.5)
print(f"final predictor {p:.4f}, by algebra {fixed_point:.4f}")
print(f"final size {path[-1]:.4f}, by algebra p² = {p**2:.4f}")
assert abs(p - fixed_point) < 1e-3
assert abs(path[-1] - p**2) < 1e-3
assert flow(0.5, predictor=False)[0][-1] < 1e-6
assert flow(0.5, stop_gradient=False)[0][-1] < 1e-6

# %% [markdown]
# On the right is what an encoder with many directions would do, each with its own
# noise. **Directions on which the views agree survive. Directions on which they differ
# vanish**, beyond a sharp threshold. So taking turns, as in lesson 4, not only avoids a
# point. It selects: the predictor measures how predictable a direction is, the encoder
# keeps what is predictable, and the weight decay removes the rest.
#
# This is the best answer to the puzzle's second half that we can offer. It has limits.
# The model is linear and has no sphere. And it is about the *dynamics* of the gradient,
# about which the divergence of lesson 4 says nothing. The variational view tells what
# each turn minimises. It does not tell where taking turns leads.
#
# ## Exercises
#
# Each exercise has a cell to start from. The solutions stand folded at the end.
#
# **Exercise 1.** (medium) The table claims the encoder's equation. Derive it, or check
# it: draw many $(x_1, x_2)$, let autograd differentiate the loss with `detach` in $w$,
# and compare $\dot s = -2w\,\partial_w\,\mathrm{loss}$ with the formula at $\eta = 0$.

# %% tags=["starter"]
torch.manual_seed(0)
z = torch.randn(1_000_000, dtype=torch.float64)
x1, x2 = (z + math.sqrt(0.5) * torch.randn_like(z) for _ in range(2))
w = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
# Your turn: the loss with p = 0.4, and its slope in w.

# %% [markdown]
# **Exercise 2.** (hard) Where exactly is the threshold in the right figure, for weight
# decay $\eta$? What happens *without* weight decay?

# %% tags=["starter"]
without_decay = flow(20.0, decay=0.0)  # the path of s, and the final p
# Your turn: when does p [1 − (1+σ²) p] = η have a solution?

# %% [markdown]
# **Exercise 3.** (easy) BYOL has a predictor *and* a slow target. Is the slow target
# enough? Take the pair without a predictor, give it a target of its own and
# `ExponentialMovingAverage(0.9)`. Does it collapse?

# %% tags=["starter"]
import copy

alone = build(predictor=False, output_norm=False)
target = copy.deepcopy(alone.model.encoder).requires_grad_(requires_grad=False)
alone.guide = graph.MultiViewGuide(target)
# Your turn: fit it, and follow the standard deviation.

# %% [markdown]
# ## Solutions

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 1. ∂w ½(p w x₁ − sg(w x₂))² = (p w x₁ − w x₂) p x₁, with the mean w p
# [p(1+σ²) − 1]; times −2w.
loss = 0.5 * (0.4 * w * x1 - (w * x2).detach()).square().mean()
(slope,) = torch.autograd.grad(loss, w)
by_autograd, by_formula = (-2 * w * slope).item(), 2 * 0.4 * 0.49 * (1 - 1.5 * 0.4)
print(f"rate of s: {by_autograd:.4f} by autograd, {by_formula:.4f} by the formula")
assert abs(by_autograd - by_formula) < 3e-3

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 2. A steady state with s > 0 needs p[1 − (1+σ²)p] = η, which has a real root
# only if 1 ≥ 4η(1+σ²). So it is at σ² = 1/(4η) − 1, which is 11.5 for η = 0.02. Without
# decay ṡ = 2pṗ, so the flow keeps s − p² as it was (steps of 0.2 do so only roughly).
# That is positive here, so every direction survives, with p = 1/(1+σ²): nothing is
# selected.
threshold = 1 / (4 * 0.02) - 1
below, above = flow(threshold - 1.5)[0][-1], flow(threshold + 1.5)[0][-1]
print(f"threshold σ² = {threshold}; size below {below:.2e}, above {above:.2e}")
print("σ² = 20 without decay:")
print(f"size {without_decay[0][-1]:.3f}, predictor {without_decay[1]:.4f}")
assert below > 1e-3
assert above < 1e-4
assert without_decay[0][-1] > 0.05
assert abs(without_decay[1] - 1 / 21) < 1e-3

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 3. It does; the slow target only delays the collapse. In the equations above
# p = 1 still gives a negative rate. (With momentum 1 the target never moves and there
# is no collapse, but nothing to learn except a random network.)
slow = fit(alone, ExponentialMovingAverage(0.9), steps)
print(
    "standard deviation:",
    " → ".join(f"{value:.3f}" for value in slow["standard deviation"][::5]),
)
assert slow["standard deviation"][-1] < 0.15

# %% [markdown]
# **Next:** a collapsed encoder has a huge $\kappa$. When does $\kappa$ tell the truth?
# → [Lesson 7: is κ an uncertainty?](7_is_kappa_an_uncertainty.py)
