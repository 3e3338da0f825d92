"""The list of mutants fits the code as it is; `python tests/mutations/run.py` runs them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def _mutants() -> Any:
    spec = importlib.util.spec_from_file_location("mutants", HERE / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("mutants", module)
    spec.loader.exec_module(module)
    return module.MUTANTS


MUTANTS = _mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{Path(mutant.path).stem} {mutant.new.strip()[:50]}")
def test_the_place_exists_once(mutant: Any) -> None:
    text = (HERE.parents[1] / mutant.path).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    assert mutant.claims or mutant.tests
    for name in mutant.tests.split():  # pytest fails for a test that is not there, which would count as caught
        file, _, test = name.partition("::")
        assert f"def {test}" in (HERE.parents[1] / file).read_text(encoding="utf-8")
    compile(text.replace(mutant.old, mutant.new), mutant.path, "exec")


def test_there_are_at_least_160_of_all_kinds() -> None:
    assert len(MUTANTS) >= 160
    assert sum("derivations" in mutant.path for mutant in MUTANTS) >= 15
    assert sum(bool(mutant.tests) for mutant in MUTANTS) >= 80
