"""Every example in a docstring runs as it stands, with the names that its own module and imports provide."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

ROOMS = ("ssl_as_inference", "models", "inference", "experiments")


def public_modules() -> list[str]:
    names = []
    for room in ROOMS:
        package = importlib.import_module(room)
        names.append(room)
        names.extend(module.name for module in pkgutil.walk_packages(package.__path__, prefix=f"{room}."))
    return [name for name in names if not any(part.startswith("_") for part in name.split("."))]


@pytest.mark.parametrize("name", public_modules())
def test_the_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


def test_examples_are_found_at_all() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = ("ssl_as_inference.distributions.delta_mixture", "models.simsiam", "inference.fitting.kl_objective")
    for name in modules:
        assert any(example.examples for example in finder.find(importlib.import_module(name))), name
