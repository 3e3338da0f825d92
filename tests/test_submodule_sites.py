"""Parameters of submodules are announced to Pyro where Pyro keeps them, and not where they stay in their modules."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

from ssl_as_inference.graphical_model import MultiViewPair


def _parameters(pair: MultiViewPair, views: list[Tensor]) -> set[str]:
    trace = poutine.trace(pair.model).get_trace(views)
    return {name for name, site in trace.nodes.items() if site["type"] == "param"}


def test_global_parameters_are_announced(
    make_pair: Callable[..., MultiViewPair], make_views: Callable[..., list[Tensor]]
) -> None:
    pair = make_pair("ps")
    with pyro.settings.context(module_local_params=False):
        assert _parameters(pair, make_views(2)) == {
            name.replace("encoder.", "encoder$$$").replace("predictor.", "predictor$$$")
            for name, _ in pair.model.named_parameters()
        }


def test_local_parameters_are_not(
    make_pair: Callable[..., MultiViewPair], make_views: Callable[..., list[Tensor]]
) -> None:
    pair = make_pair("ps")
    with pyro.settings.context(module_local_params=True):
        assert _parameters(pair, make_views(2)) == set()
        assert isinstance(pair.model.encoder, torch.nn.Module)
        with pytest.raises(AttributeError, match="nothing"):
            _ = pair.model.nothing
