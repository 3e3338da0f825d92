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
# # 1 · SimSiam, BYOL and the puzzle
#
# You will write SimSiam in plain PyTorch, train it on handwritten digits, and take one
# word out of it: `detach`. With the word it learns. Without it, the loss gets *better*
# and the network forgets every image. After this lesson you can say precisely why that
# is strange. Lessons 2 to 8 are about what to make of it.
#
# *You need:* some PyTorch. *Time:* 15 minutes to read, half a minute to run.

# %%
import os

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from experiments.figures.style import PALETTE, SETTINGS
from experiments.images.digits import DigitViews, load
from inference.judging.collapse import effective_rank, standard_deviation
from inference.judging.evaluation import knn_accuracy

FAST = os.environ.get("LESSONS_FAST") == "1"  # shorter trainings, for automatic checks
plt.rcParams.update(SETTINGS)
BLUE, ORANGE = PALETTE[:2]

# %% [markdown]
# ## Two views of one image
#
# Self-supervised learning has no labels. What it has is *augmentation*: crop, rotate,
# change the contrast, cover a part, and you still know which digit it was. So each
# image $x$ yields **views** $x_1, x_2, \dots$ that show the same thing. We use
# scikit-learn's digits, which need no download.

# %%
train, test = load()
views_of = DigitViews(torch.Generator().manual_seed(0))

figure, axes = plt.subplots(3, 8, figsize=(8, 3.2), layout="constrained")
digits = test.images[:8]
for row, (name, images) in enumerate(
    {"image": digits, "view 1": views_of(digits), "view 2": views_of(digits)}.items()
):
    for axis, image in zip(axes[row], images, strict=True):
        axis.imshow(image[0].numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[row, 0].set_ylabel(name)
plt.show()

print(f"{len(train)} images to train on, {len(test)} held out")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert (len(train), len(test)) == (1347, 450)

# %% [markdown]
# ## SimSiam in twenty lines
#
# An **encoder** $f$ maps a view to a vector; a **predictor** $h$ maps that vector to a
# guess of what $f$ says about the *other* view. Write $g = h \circ f$. The outputs of
# $f$ and $g$ are scaled to unit length before they are compared, so all that counts is
# their direction: they live on a sphere. The loss is minus the cosine of guess and
# target, both ways round (Eq. (1) of [Nakamura et
# al.](https://arxiv.org/abs/2203.11437v1), the paper that these lessons follow):
#
# $$\mathcal{L}_{SSL} = -\,g(x_1)^\top f(x_2) \;-\; g(x_2)^\top f(x_1),
# \qquad \lVert f\rVert = \lVert g\rVert = 1.$$
#
# The loss that [SimSiam](https://arxiv.org/abs/2011.10566) publishes is half of this.
# And it adds one thing that the formula does not show: the target $f$ is treated as a
# **constant**. Gradients flow through the guess $g$ and not through the target $f$. In
# PyTorch that is `detach`; in papers, a *stop-gradient*.


# %%
def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, batch normalisation, ReLU, linear."""
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


# %%
class SimSiam(nn.Module):
    """SimSiam, small: 16 × 16 pixels to a sphere in 8 dimensions."""

    def __init__(self, *, stop_gradient: bool = True) -> None:
        super().__init__()
        backbone = nn.Sequential(
            nn.Flatten(), nn.Linear(256, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()
        )
        self.encoder = nn.Sequential(backbone, mlp(64, 64, 8))
        self.predictor = mlp(8, 16, 8)
        self.stop_gradient = stop_gradient

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """The published loss, L / 2."""
        z1, z2 = self.encoder(x1), self.encoder(x2)
        g1, g2 = normalize(self.predictor(z1)), normalize(self.predictor(z2))
        f1, f2 = normalize(z1), normalize(z2)
        if self.stop_gradient:
            f1, f2 = f1.detach(), f2.detach()  # the word
        return -((g1 * f2).sum(1) + (g2 * f1).sum(1)).mean() / 2


# %% [markdown]
# ## What would the loss like best?
#
# Before you train anything, ask a loss what its minimum is. A cosine is at most 1, so
# $\mathcal{L}_{SSL}/2 \ge -1$. And here is an encoder that attains it: one that answers
# every image with the same vector.


# %%
class Constant(nn.Module):
    """Looks at nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """The same eight numbers for every image."""
        return torch.ones(len(x), 8)


lazy = SimSiam()
lazy.encoder, lazy.predictor = Constant(), nn.Identity()
loss_of_lazy = lazy(views_of(digits), views_of(digits)).item()
print(f"loss of the encoder that looks at nothing: {loss_of_lazy:.6f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert abs(loss_of_lazy - (-1)) < 1e-6

# %% [markdown]
# The best possible score, for nothing. This is **collapse**, and it is a global
# minimum. A method that minimised this loss would have every reason to go there. Let us
# train and see.
#
# ## Two trainings that differ by one word
#
# Next to the loss we watch the encoder's outputs on held-out digits:
#
# - their **standard deviation**, scaled so that vectors spread evenly over the sphere
#   have 1 and equal ones have 0;
# - their **effective rank**: in how many directions they vary, however little, from 1
#   to 8;
# - and, as a judge that training never sees, the **accuracy of nearest neighbours**:
#   for each view of a held-out digit, the labels of the nearest training views vote.
#
# The judge compares *views*, because whole digits are too easy: raw pixels find the
# right neighbour of a whole digit 97 times in 100, and of a view about 80 times.

# %%
judge = DigitViews(torch.Generator().manual_seed(1))
train_views, test_views = judge(train.images), judge(test.images)


def accuracy_of(seen: Tensor, new: Tensor) -> float:
    """How often the neighbours of held-out views vote for the right digit."""
    return knn_accuracy(seen, train.labels, new, test.labels)


def held_out(model: SimSiam) -> dict[str, float]:
    """What the encoder makes of views of images that it was not trained on."""
    model.eval()
    with torch.no_grad():
        seen, new = model.encoder(train_views), model.encoder(test_views)
    model.train()
    return {
        "standard deviation": standard_deviation(new),
        "effective rank": effective_rank(new),
        "accuracy": accuracy_of(seen, new),
    }


# %%
of_pixels = accuracy_of(train_views.flatten(1), test_views.flatten(1))
of_whole_digits = accuracy_of(train.images.flatten(1), test.images.flatten(1))
print("accuracy of raw pixels:")
print(f"{of_pixels:.2f} of views, {of_whole_digits:.2f} of whole digits")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert 0.7 < of_pixels < 0.9
assert abs(of_whole_digits - 0.97) < 0.01


# %%
def fit(model: SimSiam, steps: int, *, seed: int = 0) -> dict[str, list[float]]:
    """Momentum SGD on random batches; what was measured along the way."""
    generator = torch.Generator().manual_seed(seed)
    augment = DigitViews(generator)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3
    )
    history: dict[str, list[float]] = {}
    for step in range(steps + 1):
        batch = train.images[torch.randperm(len(train), generator=generator)[:128]]
        loss = model(augment(batch), augment(batch))
        if step % (steps // 20) == 0:
            now = {"step": step, "loss": loss.item(), **held_out(model)}
            for name, value in now.items():
                history.setdefault(name, []).append(value)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return history


# %%
steps = 200 if FAST else 800
runs = {}
for name, stop_gradient in {"with stop-gradient": True, "without": False}.items():
    torch.manual_seed(0)
    runs[name] = fit(SimSiam(stop_gradient=stop_gradient), steps)

# %%
quantities = ["loss", "standard deviation", "effective rank", "accuracy"]
figure, axes = plt.subplots(1, 4, figsize=(11, 2.6), layout="constrained")
for axis, quantity in zip(axes, quantities, strict=True):
    for (name, run), colour in zip(runs.items(), (BLUE, ORANGE), strict=True):
        axis.plot(run["step"], run[quantity], color=colour, label=name)
    axis.set(title=quantity, xlabel="step")
axes[0].legend()
axes[3].axhline(of_pixels, color="gray", linestyle=":", label="raw pixels")
axes[3].legend()
plt.show()

# %%
end = {name: {q: run[q][-1] for q in quantities} for name, run in runs.items()}
for name, values in end.items():
    row = ", ".join(f"{quantity} {value:.3f}" for quantity, value in values.items())
    print(f"{name:>18}: {row}")
untrained = runs["with stop-gradient"]["accuracy"][0]
trained = end["with stop-gradient"]["accuracy"]
print(f"accuracy: raw pixels {of_pixels:.2f}, untrained {untrained:.2f}, ", end="")
print(f"trained {trained:.2f}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert end["without"]["loss"] < -0.99 < end["with stop-gradient"]["loss"]
assert end["without"]["standard deviation"] < 0.05
assert end["with stop-gradient"]["standard deviation"] > 0.5
assert trained > untrained + 0.2
assert trained > end["without"]["accuracy"] + 0.1

# %% [markdown]
# Look at the two curves of the loss. The training with the *better* loss is the one
# whose outputs have become one point. All that is left of the images are the last
# decimals of a nearly constant vector, and neighbours still guess some digits from
# them. The training with the worse loss has learned. With eight numbers a digit it
# recognises views about as well as their 256 pixels do, and far better than the same
# network before the training. On digits, do not expect more, because their pixels are a
# strong opponent. An accuracy says little until you know what pixels and an untrained
# network reach.
#
# The effective rank did not notice. It asks in how many directions the outputs vary,
# not how far, so it is the measure for another failure (outputs spread along a few
# directions only). No single number describes a representation.
#
# ## BYOL: the same loss, another target
#
# [BYOL](https://arxiv.org/abs/2006.07733) came first. Its target $f$ has weights of its
# own, a slow moving average of the encoder's, and its loss is a squared distance,
# $\lVert g(x_1)-f(x_2)\rVert^2 + \lVert g(x_2)-f(x_1)\rVert^2$. That looks different
# and is not. *Between unit vectors, $\lVert g-f\rVert^2 = 2 - 2\,g^\top f$:*
#
# $$\lVert g(x_1)-f(x_2)\rVert^2 + \lVert g(x_2)-f(x_1)\rVert^2
# = 4 + 2\,\mathcal{L}_{SSL}.$$
#
# This repository keeps the equations as SymPy objects whose every step can be checked.
# Open the folded cell to see this one.

# %% tags=["hide-cell"] jupyter={"source_hidden": true, "outputs_hidden": true}
from ssl_as_inference.derivations.ssl_loss import BYOL_IS_AFFINE_IN_SSL

BYOL_IS_AFFINE_IN_SSL.verify()  # raises an error if a step does not follow
BYOL_IS_AFFINE_IN_SSL

# %% [markdown]
# A constant and a factor of two: the same direction of the gradient in the weights, the
# same minima, the same collapse available. So what SimSiam and BYOL share is Eq. (1)
# and a target that no gradient reaches.
#
# ## The puzzle
#
# You might say: "with the stop-gradient it is simply another loss." It is worse than
# that. The stop-gradient changes the *gradient* without changing the *value*. So the
# update is not the gradient of the number that we print, and nothing says that the
# number must fall. Here is a toy, two linear maps in the plane with plain gradient
# descent on the same few points, in which it rises at most steps. The toy is
# *contrived*: its predictor is a matrix that mostly turns, chosen so that it shows the
# effect at its clearest. In a real training the number usually falls.


# %%
from itertools import pairwise

generator = torch.Generator().manual_seed(0)
x1, x2 = 1 + 0.05 * torch.randn(2, 32, 2, dtype=torch.float64, generator=generator)


# %%


def contrived_descent(*, stopped: bool) -> list[float]:
    """The loss along gradient descent; the predictor turns by nearly 90°."""
    encoder = torch.eye(2).double().requires_grad_()
    predictor = torch.tensor([[-1.0, -4.0], [4.0, 1.0]]).double().requires_grad_()
    losses = []
    for _ in range(100):
        z1, z2 = x1 @ encoder.T, x2 @ encoder.T
        g1, g2 = normalize(z1 @ predictor.T), normalize(z2 @ predictor.T)
        f1, f2 = (normalize(z.detach() if stopped else z) for z in (z1, z2))
        loss = -((g1 * f2).sum(1) + (g2 * f1).sum(1)).mean()
        gradients = torch.autograd.grad(loss, [encoder, predictor])
        for matrix, gradient in zip([encoder, predictor], gradients, strict=True):
            matrix.data -= 0.01 * gradient
        losses.append(loss.item())
    return losses


# %%
figure, axis = plt.subplots(figsize=(5.5, 2.6), layout="constrained")
rises = {}
for (name, stopped), colour in zip(
    {"with stop-gradient": True, "without": False}.items(), (BLUE, ORANGE), strict=True
):
    losses = contrived_descent(stopped=stopped)
    axis.plot(losses, color=colour, label=name)
    rises[name] = sum(after > before for before, after in pairwise(losses))
axis.set(xlabel="step", ylabel="loss")
axis.legend()
plt.show()

print(f"steps at which the loss rose, of 99: {rises}")

# %% tags=["hide-input"] jupyter={"source_hidden": true}
assert rises["without"] == 0
assert rises["with stop-gradient"] > 50

# %% [markdown]
# Now the puzzle can be stated. It has two halves, and we shall keep them apart:
#
# 1. **What is SimSiam minimising?** Not the number it prints, as you have just seen. Is
#    there a quantity that each step does improve, and a principle that explains why the
#    targets are held fixed?
# 2. **Why does it not collapse?** The collapsed solution is there, and optimal.
#    Something keeps the training away.
#
# The paper answers the first half with probability: the target network is a *guide*,
# the predictor's output a *model*, and the loss a Kullback–Leibler divergence between
# them. That is lessons 2 to 4. The second half it does not answer, although it is often
# read as if it did; in lesson 6 you will take the method apart and see what matters.
#
# ## Exercises
#
# Each exercise has a cell to start from. The solutions stand folded at the end. Try
# first; they are short.
#
# **Exercise 1.** (easy) Keep the stop-gradient but replace the predictor by the
# identity. Predict what happens to the standard deviation, then train.

# %% tags=["starter"]
torch.manual_seed(0)
no_predictor = SimSiam()
# Your turn: put nn.Identity() in the place of the predictor, then `fit` it.

# %% [markdown]
# **Exercise 2.** (medium) Collapse is not the only global minimum. Describe an encoder
# that reaches a loss of exactly $-1$ with the identity as predictor, and whose outputs
# have a standard deviation of about 1. What does it tell you about the loss as a
# measure of what was learned?

# %% tags=["starter"]
torch.manual_seed(0)
look_up = torch.zeros(1000, 8)  # row n: the answer to every view of image n
# Your turn: fill it so that −(look_up * look_up).sum(1).mean() is −1.

# %% [markdown]
# **Exercise 3.** (medium) Check the identity for BYOL with numbers: for random unit
# vectors compare the *gradients* in $g(x_1)$ of BYOL's loss and of Eq. (1). They are
# not exactly proportional as vectors in $\mathbb{R}^8$. Why does it not matter?

# %% tags=["starter"]
torch.manual_seed(0)
raw = torch.randn(8, dtype=torch.float64, requires_grad=True)
g1, f2 = normalize(raw, dim=0), normalize(torch.randn(8, dtype=torch.float64), dim=0)
# Your turn: torch.autograd.grad of both losses in `raw`, of which g1 is made.

# %% [markdown]
# ## Solutions

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 1. It collapses as well. Guess and target are now the same function of two
# views, so the loss is −f₁ᵀf₂. Its gradient in f₁ is −f₂, and with the stop-gradient
# −f₂/2: half as long, in the same direction. The stop-gradient alone is not enough. It
# takes both parts.
no_predictor.predictor = nn.Identity()
solution = fit(no_predictor, steps)
spread, last_loss = solution["standard deviation"][-1], solution["loss"][-1]
print(f"no predictor: standard deviation {spread:.4f}, loss {last_loss:.4f}")
assert spread < 0.05
assert last_loss < -0.99

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 2. Any encoder that gives all views of one image the same answer, for example
# a random direction for each image. So −1 means "invariant to the augmentations", and
# says nothing on whether images can be told apart. The loss alone cannot rank encoders;
# that is why we watch other quantities beside it.
look_up = normalize(torch.randn(1000, 8))
loss_of_look_up = -(look_up * look_up).sum(1).mean().item()
print(
    f"loss {loss_of_look_up:.6f}, standard deviation {standard_deviation(look_up):.3f}"
)
assert abs(loss_of_look_up + 1) < 1e-6
assert abs(standard_deviation(look_up) - 1) < 0.02

# %% tags=["solution", "hide-cell"] jupyter={"source_hidden": true}
# Solution 3. d‖g − f‖²/dg = 2(g − f), while d(−gᵀf)/dg = −f. The difference to twice
# the latter is 2g, which points away from the sphere. As g = normalize(…), only the
# part along the sphere reaches the weights, and it is the same.
byol, ssl = (g1 - f2).square().sum(), -g1 @ f2
(byol_gradient,) = torch.autograd.grad(byol, raw, retain_graph=True)
(ssl_gradient,) = torch.autograd.grad(ssl, raw)
difference = (byol_gradient - 2 * ssl_gradient).abs().max().item()
print(f"BYOL's gradient less twice that of Eq. (1): {difference:.1e}")
assert difference < 1e-14

# %% [markdown]
# **Next:** a cosine between unit vectors looks like geometry. It is also a
# log-probability, and that is the door to everything that follows. → [Lesson 2:
# distributions on the sphere](2_distributions_on_the_sphere.py)
