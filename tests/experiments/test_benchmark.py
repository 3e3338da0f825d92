"""The comparison with other implementations: it runs, its references are right, and it says what it leaves out."""

from __future__ import annotations

import importlib
import math
import sys
import types
import weakref
from pathlib import Path
from typing import Any

import flint
import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf
from torch import Tensor

from experiments.benchmark import main
from experiments.benchmarks import distributions
from experiments.benchmarks.distributions import Error, Sizes, measure_accuracy, measure_log_prob, measure_sampling
from experiments.benchmarks.peers import OURS, Array, SciPyLaw, TorchLaw, load_implementations, ours
from experiments.benchmarks.references import power_spherical_reference, von_mises_fisher_reference
from experiments.benchmarks.timing import Stopwatch, Times, Unsupported
from experiments.records.record import Cell, Record
from inference.fitting.cuda_graphs import RecordingError

TINY = Sizes(8, (3, 64), 50, (3, 16), (3, 128), (1e-3, 1.0, 1e3))
VMF, PS = ours()
CPU = torch.device("cpu")


def once() -> Stopwatch:
    return Stopwatch(CPU, 1)


@pytest.mark.parametrize("concentration", [1e-6, 0.3, 30.0, 1e6])
def test_references_in_space_are_the_elementary_functions(concentration: float) -> None:
    vmf, ps = von_mises_fisher_reference(3, concentration), power_spherical_reference(3, concentration)
    with mpmath.workdps(60):
        k = mpf(concentration)
        expected = {
            "log_normalizer": mpmath.log(k / (4 * mpmath.pi)) - mpmath.log(mpmath.sinh(k)),
            "slope": mpmath.coth(k) - 1 / k,
            "curvature": 1 / k**2 - mpmath.csch(k) ** 2,
        }
        for name, value in expected.items():
            assert abs(getattr(vmf, name) - value) < mpf(10) ** -40 * max(1, abs(value)), name
        assert abs(ps.log_normalizer - mpmath.log((k + 1) / (mpmath.pi * 2 ** (k + 2)))) < 1e-40
        assert abs(ps.kl_to_uniform - (mpmath.log1p(k) - k / (k + 1))) < 1e-40


@pytest.mark.parametrize(("dim", "concentration"), [(2, 1e4), (128, 1e6), (2048, 5e4), (8192, 5e4), (65536, 1e6)])
def test_references_in_many_dimensions_are_in_the_balls_of_arb(
    dim: int, concentration: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flint.ctx, "dps", 600)
    order, kappa = flint.arb(dim) / 2 - 1, flint.arb(concentration)
    exact = order * kappa.log() - (order + 1) * (2 * flint.arb.pi()).log() - kappa.bessel_i(order).log()
    found = von_mises_fisher_reference(dim, concentration).log_normalizer
    assert abs(flint.arb(mpmath.nstr(found, 80)) - exact) < flint.arb("1e-55") * abs(exact)


@pytest.mark.parametrize("law", [VMF, PS], ids=lambda one: one.family)
def test_accuracy_of_this_project_is_as_promised(law: TorchLaw) -> None:
    cells = measure_accuracy(law, (2, 16, 128, 2048), (1e-6, 1.0, 100.0, 1e6))
    single = cells.pop("log C, float32")
    assert single.error < 2e-7
    assert all(cell.error < 1e-14 for cell in cells.values()), cells
    assert cells["KL to uniform"].relative < 1e-13  # at κ = 1e-6 it is 1e-16 and smaller
    assert sum(cell.non_finite for cell in [*cells.values(), single]) == 0


def test_scipys_known_failures_are_counted() -> None:
    cells = measure_accuracy(SciPyLaw(), (3, 2048), (1e-3, 1.0, 1e4))
    assert list(cells) == ["log C, float64"]
    assert cells["log C, float64"].non_finite == 2  # small κ at d = 2048
    assert cells["log C, float64"].error < 1e-13
    assert cells["log C, float64"].cell().show(3).endswith(" (2)")


class _OffByOne(SciPyLaw):
    """Wrong by 0.001 where κ = 1, not a number where κ = 1000."""

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        right = VMF.quantities(dim, concentration)["log_normalizer"]
        wrong = right + np.where(concentration == 1, 1e-3, 0)
        return {"log_normalizer": np.where(concentration == 1000, np.nan, wrong)}


def test_an_error_is_found_with_its_place() -> None:
    cell = measure_accuracy(_OffByOne(), (2, 3), (0.1, 1.0, 1000.0))["log C, float64"]
    reference = abs(float(von_mises_fisher_reference(3, 1.0).log_normalizer))
    assert cell.error == pytest.approx(
        1e-3 / min(reference, abs(float(von_mises_fisher_reference(2, 1.0).log_normalizer)))
    )
    assert (cell.non_finite, cell.concentration) == (2, 1.0)
    assert cell.relative >= cell.error


def test_a_sampler_with_a_wrong_mean_is_marked() -> None:
    class Wrong(SciPyLaw):
        def sampler(self, mean_direction: torch.Tensor, concentration: float, count: int, seed: int) -> Any:
            return super().sampler(mean_direction, 1.1 * concentration, count, seed)

    stopwatch = once()
    rows = measure_sampling([Wrong()], Sizes(draws=2000, sampling_dims=(16,)), 0, stopwatch)
    assert rows["SciPy | vMF"]["z-score, d = 16"].show(0).endswith(", wrong**")
    assert not stopwatch.left_out
    rows = measure_sampling([VMF, PS, SciPyLaw()], Sizes(draws=2000, sampling_dims=(3, 16, 128)), 0, stopwatch)
    scores = [cells[f"z-score, d = {dim}"].value for cells in rows.values() for dim in (3, 16, 128)]
    assert len(scores) == 9
    assert all(score is not None and abs(score) < 4 for score in scores), scores
    assert all((cells["off the sphere"].value or 1) < 1e-6 for cells in rows.values())


def test_log_density_near_the_mode_has_seven_digits_and_who_has_none_is_left_out() -> None:
    for per_sample in (False, True):
        stopwatch = once()
        rows = measure_log_prob([VMF, PS, SciPyLaw()], Sizes(64, (16, 128)), stopwatch, per_sample=per_sample)
        assert list(rows) == ["dot product | –", VMF.name, PS.name]
        for one in (VMF, PS):
            assert 0 < (rows[one.name]["error"].value or 1) < 1e-6
            assert (rows[one.name]["ratio, d = 128"].value or 0) > 0
        assert list(stopwatch.left_out) == ["SciPy | vMF"]


def test_a_density_that_is_wrong_is_found_out() -> None:
    class Wrong(SciPyLaw):
        def log_prob_step(self, *inputs: torch.Tensor) -> Any:
            right = VMF.log_prob_step(*inputs)
            return lambda: (right()[0] * 1.01, ())

    rows = measure_log_prob([Wrong()], Sizes(64, (16,)), once(), per_sample=True)
    assert rows["SciPy | vMF"]["error"].value == pytest.approx(0.01, rel=0.01)


def test_ratios_compare_measurements_of_the_same_round() -> None:
    assert Times((2.0, 8.0, math.nan)).ratio_to(Times((1.0, 2.0, 5.0))) == 3.0
    assert Times((math.nan, 8.0, 2.0)).median == 5.0


def test_contestants_take_turns() -> None:
    called: list[str] = []
    entrants = {name: lambda name=name: lambda: called.append(name) for name in "ab"}
    times = Stopwatch(CPU, 20, shortest=0.0).measure_in_turns(entrants)  # one call a measurement
    rounds = ["".join(called[start : start + 2]) for start in range(0, len(called), 2)]
    assert rounds[:2] == ["aa", "bb"]
    assert set(rounds[2:]) == {"ab", "ba"}  # neither always has the other's traces in the cache
    assert len(rounds) == 22
    assert all(len(times[name].seconds) == 20 and min(times[name].seconds) >= 0 for name in "ab")


def test_one_that_cannot_take_part_leaves_the_others_their_rows() -> None:
    def cannot() -> Any:
        raise Unsupported("no CUDA")

    def fails() -> None:
        raise RecordingError("waits for the device")

    entrants = {"a": cannot, "b": lambda: fails, "c": lambda: int}
    stopwatch = once()
    assert list(stopwatch.measure_in_turns(entrants)) == ["c"]
    assert stopwatch.left_out == {"a": "no CUDA", "b": "waits for the device"}


def test_a_contestant_that_is_a_context_is_entered_for_its_turns() -> None:
    class Loader:
        entered, calls, turns = False, 0, 0

        def __enter__(self) -> None:
            self.entered, self.turns = True, self.turns + 1

        def __exit__(self, *_: object) -> None:
            self.entered = False

        def __call__(self) -> None:
            assert self.entered
            self.calls += 1

    loader = Loader()
    Stopwatch(CPU, 3, shortest=0.0, warm_up=5).measure_in_turns({"loader": lambda: loader})
    assert (loader.turns, loader.calls, loader.entered) == (4, 8, False)


def test_other_memory_is_held_in_each_round_so_that_results_lie_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where a result lies depends on the gaps of the process's memory as well; what is held does not.
    empty, given = torch.empty, list[tuple[weakref.ref[Tensor], int]]()

    def watched(size: int) -> Tensor:
        memory = empty(size)
        given.append((weakref.ref(memory), memory.nbytes))
        return memory

    monkeypatch.setattr(torch, "empty", watched)
    held: list[int] = []
    stopwatch = Stopwatch(CPU, 9, shortest=0.0)
    stopwatch.measure_in_turns(
        {"a": lambda: lambda: held.append(sum(size for memory, size in given if memory() is not None))}
    )
    warm_up, rounds = held[: stopwatch.warm_up], held[stopwatch.warm_up :]
    assert set(warm_up) == {0}
    assert len(set(rounds)) == len(rounds) == 9
    assert min(rounds) > 0


def test_the_summary_takes_each_number_from_its_table() -> None:
    def density(low: float, high: float) -> dict[str, Cell]:
        return {"d = 128, ms": Cell(low, form=".3g"), "ratio, d = 2048": Cell(high, form=".2f")}

    log_prob = {"one | PS": density(2, 1.2), "one, compiled | PS": density(3, 0.8)}
    sampling = {
        name: {"d = 128, ms": Cell(12.8, form=".3g"), "z-score, d = 128": Cell(score)}
        for name, score in (("one | PS", 0.5), ("wrong | PS", 30.0))
    }
    errors = {"one | PS": {"KL to uniform": Error(1e-3, 1.0, 3, 1.0, 2)}, "wrong | PS": {}}
    one, wrong = distributions.summary(errors, log_prob, sampling, Sizes()).markdown().splitlines()[2:]
    assert one == "| one | PS | 2 | 3 | 1.20 | 0.80 | 12.8 | – | – | 1.0e−03 (2) |"
    assert set(wrong.split("|")[3:-1]) == {" – "}  # its draws are, too, since their mean is not right


def test_a_peer_of_a_version_that_lacks_its_distribution_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "power_spherical", types.ModuleType("power_spherical"))
    found, left_out = load_implementations()
    assert "SciPy" in {law.library.split()[0] for law in found}
    assert "PowerSpherical" in left_out["power_spherical (authors')"]


@pytest.fixture
def _no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the peers are not installed, which makes the command quick."""
    import_module = importlib.import_module

    def refuse(name: str, *arguments: Any) -> Any:
        if name.split(".", maxsplit=1)[0] in {"jax", "tensorflow_probability", "power_spherical"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return import_module(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", refuse)
    monkeypatch.setattr(distributions, "QUICK", TINY)


@pytest.mark.usefixtures("_no_peers")
def test_the_command_prints_and_saves_and_names_missing_peers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    options = ["--quick", "--device", "cpu", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)]
    try:
        assert main(["distributions", *options]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    printed = capsys.readouterr().out
    page = (tmp_path / "benchmark_distributions.md").read_text(encoding="utf-8")
    assert page.strip() in printed
    assert "| TensorFlow Probability (JAX), vMF | jax is not installed: pip install -e '.[peers]' |" in page
    assert "| power_spherical (authors') | power_spherical is not installed: pip install -e '.[peers]' |" in page
    assert "| SciPy, vMF | one direction" in page
    titles = ["In short", "Forward and backward of log_prob", "Sampling", "Largest errors", "Largest relative errors"]
    record = Record.load(tmp_path / "benchmark_distributions.json")
    assert [table.title for table in record.tables] == [*titles, "Left out"]
    assert record.configuration["repeats"] == 1
    assert (record.seeds, record.versions["torch"]) == ((0,), torch.__version__)
    (seconds,) = record.tables[1].rows[f"{OURS} | vMF | constant"]["d = 64, ms"].each
    assert seconds is not None
    assert seconds > 0
    assert record.details["largest errors"][VMF.name]["log C, float64"]["dim"] in {3, 128}


def test_a_peer_that_fails_on_import_is_skipped_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise AttributeError(f"{name} has changed\nbeyond recognition")

    monkeypatch.setattr(importlib, "import_module", broken)
    found, skipped = load_implementations()
    assert {one.library for one in found} == {OURS, "SciPy"}
    assert next(iter(skipped.values())) == "does not import: AttributeError: jax has changed"


ERRORS = {
    "no_part": ([], "required: PART"),
    "unknown_part": (["nothing"], "invalid choice: 'nothing'"),
    "no_repeats": (["distributions", "--repeats", "0"], "a whole number of at least 1, got '0'"),
    "threads": (["distributions", "--threads", "many"], "a whole number of at least 1, got 'many'"),
    "device": (["distributions", "--device", "tpu"], "invalid choice: 'tpu'"),
    "folder": (["distributions", "--out", "/dev/null/here"], "a folder that can be written to"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_arguments_give_one_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = ERRORS[case]
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_gives_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distributions", "--device", "cuda", "--out", str(tmp_path)]) == 2
    assert "argument --device: expected a device that is there" in capsys.readouterr().err


def test_help_teaches_what_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (["--help"], "distributions"), (["distributions", "--help"], "dot product"):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        assert words in capsys.readouterr().out


def test_the_compiled_contestant_computes_what_the_other_does() -> None:
    compiled = PS.compile()
    assert compiled.name == f"{OURS}, compiled | PS"
    directions = torch.nn.functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    value = directions.roll(1, 0).requires_grad_()
    arguments = (value, directions.requires_grad_(), torch.linspace(0.5, 40, 8).requires_grad_())
    try:
        step = compiled.log_prob_step(*arguments)
    except Unsupported as reason:
        pytest.skip(str(reason))
    for one, other in zip(torch.utils._pytree.tree_leaves(step()), _leaves_of(PS, arguments), strict=True):
        torch.testing.assert_close(one, other)


def _leaves_of(law: TorchLaw, arguments: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    values, derivatives = law.log_prob_step(*arguments)()
    assert torch.equal(values, law.make(*arguments[1:]).log_prob(arguments[0]))
    return [values, *derivatives]


def test_what_cannot_be_compiled_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(Unsupported, match=r"torch\.compile fails: no C\+\+ compiler"):
        VMF.compile().sampler(torch.eye(3)[0], 2.0, 4, seed=0)
