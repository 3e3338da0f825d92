"""Pyro's checks in a training: in force inside, put back outside, untouched where they are in force already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyro
import pytest
import torch

from inference.fitting.pyro_settings import settings_for_training

CHECKS = [f"validate_{part}" for part in ("distributions_pyro", "distributions_torch", "infer", "poutine")]


@pytest.fixture(autouse=True)
def settings_are_put_back() -> Iterator[None]:
    before = pyro.settings.get()
    yield
    pyro.settings.set(**before)


def in_force() -> dict[str, Any]:
    return {name: pyro.settings.get(name) for name in CHECKS}


def test_nothing_is_checked() -> None:
    pyro.enable_validation(True)
    before = in_force()
    with settings_for_training():
        assert in_force() == dict.fromkeys(CHECKS, False)
        assert not torch.distributions.Distribution._validate_args
        assert not pyro.distributions.Normal(0.0, 1.0)._validate_args
    assert in_force() == before
    with pytest.raises(RuntimeError, match="in a step"), settings_for_training():
        raise RuntimeError("in a step")
    assert in_force() == before


@pytest.mark.parametrize("name", CHECKS)
def test_what_is_set_already_is_left_and_put_back(name: str) -> None:
    pyro.enable_validation(True)
    with settings_for_training():
        wanted = pyro.settings.get(name)
    with pyro.settings.context(**{name: wanted}):
        before = in_force()
        with settings_for_training():
            pass
        assert in_force() == before


def test_inside_a_training_a_step_changes_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[Any] = []
    with settings_for_training():
        monkeypatch.setattr(pyro.settings, "set", lambda **changed: changes.append(changed))
        with settings_for_training():
            assert not any(in_force()[name] for name in CHECKS)
        monkeypatch.undo()
    assert changes == []
