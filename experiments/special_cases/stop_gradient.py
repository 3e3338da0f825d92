"""What the stop-gradient leaves out, and what that costs: the loss need not fall (C27)."""

from __future__ import annotations

from itertools import pairwise, repeat

import torch
from torch import Tensor, nn

from experiments.special_cases.methods import predictor_network
from experiments.special_cases.negative_results import small_pair
from experiments.special_cases.plain import negative_cosine
from experiments.special_cases.recovery import Sgd, Training, Views, digit_views, losses_of, pair_loss
from inference.fitting.targets import NoStopGradient, StopGradientCopy
from models.networks import VonMisesFisherHead
from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel, MultiViewPair


def target_path_error(seed: int, device: torch.device) -> float:
    """Largest difference between full minus stop-gradient, by the pairs, and the target's path, by hand.

    The path is the gradient of minus the sum of both cosines in which the *prediction* is held constant: what flows
    through z alone.
    """
    pair = small_pair(seed).to(device)
    views = [view.to(device) for view in next(digit_views(1, batch_size=64, seed=seed))]
    encoder, predictor = pair.model.encoder, predictor_network(pair)
    parameters = list(pair.model.parameters())
    full = gradient(pair_loss(pair, NoStopGradient())(views), parameters)
    stopped = gradient(pair_loss(pair, StopGradientCopy())(views), parameters)
    z = [encoder(view) for view in views]
    with torch.no_grad():
        p = [predictor(encoder(view)) for view in views]
    path = gradient(negative_cosine(p[0], z[1]) + negative_cosine(p[1], z[0]), parameters)
    return float((full - stopped - path).abs().max())


def gradient(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """All derivatives in one vector, zero where a parameter does not matter."""
    return nn.utils.parameters_to_vector(torch.autograd.grad(loss, parameters, materialize_grads=True))


def turning_pair() -> tuple[MultiViewPair, Views]:
    r"""A linear encoder and a linear predictor W that mostly turns, with views of one direction.

    With both views at z the loss is −2 cos(Wz, z). Its derivative in z is along (W + Wᵀ)z, of which the stop-gradient
    keeps Wᵀz. For W = S + A, symmetric and antisymmetric, their inner product is 2(|Sz|² − ⟨Sz, Az⟩), up to the
    normalisation of the vectors: negative here, so that a step along the one goes up the other.
    """
    encoder, predictor = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        encoder.weight.copy_(torch.eye(2))
        predictor.weight.copy_(torch.tensor([[-1.0, -4.0], [4.0, 1.0]]))
    pair = MultiViewPair(2, MultiViewModel(encoder, VonMisesFisherHead(predictor)), MultiViewGuide(encoder)).double()
    generator = torch.Generator().manual_seed(0)
    direction = torch.ones(32, 2, dtype=torch.float64)
    views = [direction + 0.05 * torch.randn(32, 2, dtype=torch.float64, generator=generator) for _ in range(2)]
    return pair, views


def losses_of_gradient_descent(*, stopped: bool, steps: int = 100) -> list[float]:
    """The loss along plain gradient descent on the same views at every step, from `turning_pair`."""
    pair, views = turning_pair()
    loss = pair_loss(pair, StopGradientCopy() if stopped else NoStopGradient())
    training = Training(loss, nn.ModuleList([pair.model]), Sgd(1e-2, 0.0, 0.0))
    return losses_of(training, repeat(views, steps))


def rises(values: list[float]) -> int:
    """Steps after which the value was larger than before."""
    return sum(after > before for before, after in pairwise(values))
