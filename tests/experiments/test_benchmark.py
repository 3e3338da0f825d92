"""The comparison with other implementations: it runs, its references are right, and it says what it leaves out."""

from __future__ import annotations

import importlib
import json
import math
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf

from experiments.benchmark import main
from experiments.benchmarks import distributions, log_prob_speed, report, sampling_speed
from experiments.benchmarks.accuracy import Cell, measure_accuracy
from experiments.benchmarks.peers import Array, Implementation, Unsupported, load_implementations
from experiments.benchmarks.peers.compiled import Compiled
from experiments.benchmarks.peers.with_torch import OurPowerSpherical, OurVonMisesFisher
from experiments.benchmarks.references import power_spherical_reference, von_mises_fisher_reference
from experiments.benchmarks.timing import Stopwatch, Times, keeping_memory

TINY = distributions.Sizes(8, (3, 64), 50, (3, 16), (3, 128), (1e-3, 1.0, 1e3))
OURS = [one for one in load_implementations()[0] if not one.peer]


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


@pytest.mark.parametrize(("dim", "concentration"), [(2, 1e4), (128, 1e6), (2048, 5e4), (8192, 1e4)])
def test_hankels_expansion_and_the_power_series_agree(dim: int, concentration: float) -> None:
    exact = von_mises_fisher_reference(dim, concentration)  # by Hankel's expansion
    with mpmath.workdps(80):
        order = mpf(dim) / 2 - 1
        bessel = mpmath.besseli(order, concentration, maxterms=10**7)
        log_c = order * mpmath.log(concentration) - (order + 1) * mpmath.log(2 * mpmath.pi) - mpmath.log(bessel)
        assert abs(exact.log_normalizer - log_c) < mpf(10) ** -50 * abs(log_c)


@pytest.mark.parametrize("implementation", OURS, ids=lambda one: one.family)
def test_accuracy_of_this_project_is_as_promised(implementation: Implementation) -> None:
    cells = measure_accuracy(implementation, (2, 16, 128, 2048), (1e-6, 1.0, 100.0, 1e6))
    single = cells.pop("log C, float32")
    assert single.error < 2e-7
    assert all(cell.error < 1e-14 for cell in cells.values()), cells
    assert cells["KL to uniform"].relative < 1e-13  # at κ = 1e-6 it is 1e-16 and smaller
    assert sum(cell.non_finite for cell in [*cells.values(), single]) == 0


def test_scipys_known_failures_are_counted() -> None:
    (scipy,) = (one for one in load_implementations()[0] if one.library == "SciPy")
    cells = measure_accuracy(scipy, (3, 2048), (1e-3, 1.0, 1e4))
    assert list(cells) == ["log C, float64"]
    assert cells["log C, float64"].non_finite == 2  # small κ at d = 2048
    assert cells["log C, float64"].error < 1e-13
    assert str(cells["log C, float64"]).endswith(" (2)")


class _OffByOne(type(OURS[0])):  # type: ignore[misc]
    """Wrong by 0.001 where κ = 1, not a number where κ = 1000."""

    def quantities(self, dim: int, concentration: Array) -> dict[str, Array]:
        right = super().quantities(dim, concentration)["log_normalizer"]
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
    class Wrong(type(OURS[0])):  # type: ignore[misc]
        def sampler(self, mean_direction: torch.Tensor, concentration: float, count: int, seed: int) -> Any:
            return super().sampler(mean_direction, 1.1 * concentration, count, seed)

    stopwatch = Stopwatch(torch.device("cpu"), 1)
    (wrong,) = sampling_speed.measure_sampling([Wrong()], (16,), 2000, 0, stopwatch)
    assert not wrong.correct
    right = sampling_speed.measure_sampling(OURS, (3, 16, 128), 2000, 0, stopwatch)
    assert all(row.correct for row in right), [row.z_score for row in right]
    assert all(row.off_sphere < 1e-6 for row in right)


def test_log_density_near_the_mode_has_seven_digits() -> None:
    rows = log_prob_speed.measure_log_prob(OURS, (16, 128), 64, Stopwatch(torch.device("cpu"), 1))
    assert all(row.error < 1e-6 for row in rows if row.family)


def test_ratios_compare_measurements_of_the_same_round() -> None:
    assert Times((2.0, 8.0, None)).ratio_to(Times((1.0, 2.0, 5.0))) == 3.0
    assert Times((None, 8.0, 2.0)).median == 5.0


def test_contestants_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.benchmarks.timing._SHORTEST", 0.0)  # one call a measurement
    called: list[str] = []
    contestants = {name: lambda name=name: called.append(name) for name in "ab"}
    times = Stopwatch(torch.device("cpu"), 20).measure_in_turns(contestants)
    rounds = ["".join(called[start : start + 2]) for start in range(0, len(called), 2)]
    assert rounds[:2] == ["aa", "bb"]
    assert set(rounds[2:]) == {"ab", "ba"}  # neither always has the other's traces in the cache
    assert len(rounds) == 22
    assert all(len(times[name].measured) == 20 for name in "ab")


def test_results_do_not_always_lie_at_the_same_place() -> None:
    offsets: set[int] = set()  # within a page, where two vectors that lie alike are in each other's way
    with keeping_memory():
        stopwatch = Stopwatch(torch.device("cpu"), 9)
        stopwatch.measure_in_turns({"a": lambda: offsets.add(torch.empty(2**18).data_ptr() % 4096)})
    assert len(offsets) > 3


def test_the_summary_takes_each_number_from_its_table() -> None:
    def density(library: str, dim: int, seconds: float, *, per_sample: bool = True) -> log_prob_speed.Row:
        family = "" if library == log_prob_speed.DOT_PRODUCT else "PS"
        return log_prob_speed.Row(library, family, dim, per_sample, Times((seconds,)), 0.0)

    densities = [density(log_prob_speed.DOT_PRODUCT, 128, 1e-3), density(log_prob_speed.DOT_PRODUCT, 2048, 5e-3)]
    densities += [density("one", 128, 2e-3), density("one", 128, 9e-3, per_sample=False), density("one", 2048, 6e-3)]
    densities += [density("one, compiled", 128, 3e-3), density("one, compiled", 2048, 4e-3)]
    sampling = [sampling_speed.Row("one", "PS", dim, Times((dim * 1e-4,)), 0.5) for dim in (3, 128, 2048)]
    sampling += [sampling_speed.Row("wrong", "PS", dim, Times((1e-4,)), 30.0) for dim in (3, 128, 2048)]
    cells = {("one", "PS"): {"KL to uniform": Cell(1e-3, 1.0, 2, 3, 1.0)}, ("wrong", "PS"): {}}
    one, wrong = report.summary_table(densities, sampling, cells).splitlines()[2:]
    assert one == "| one | PS | 2 | 3 | 1.20 | 0.80 | 12.8 | – | – | 1.0e-03 (2) |"
    assert set(wrong.split("|")[3:-1]) == {" – "}  # its draws are, too, since their mean is not right


_PAGE_FAULTS = """
import resource, torch
from experiments.benchmarks.timing import keeping_memory

def faults_of_large_blocks():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(12 * 2**20)  # 48 MiB, above the size that glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults_of_large_blocks()
with keeping_memory() as kept:
    faults_of_large_blocks(), faults_of_large_blocks()  # takes the memory
    print(kept, usual, faults_of_large_blocks())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_memory_that_is_kept_costs_no_page_faults_when_it_is_taken_again() -> None:
    # In a process of its own: what other tests freed would be taken here.
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _PAGE_FAULTS]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603  # the text above
    kept, usual, fewer = done.stdout.split()
    assert kept == "True"
    assert int(usual) >= 5 * 24  # of 2 MiB at most each
    assert int(fewer) < int(usual) / 2


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
    table = (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert table.strip() in printed
    assert "- TensorFlow Probability (JAX): jax is not installed: pip install -e '.[peers]'" in table
    assert "- power_spherical (authors'): power_spherical is not installed: pip install -e '.[peers]'" in table
    assert "- hyperspherical VAE (s-vae-pytorch): not in the package registry" in table
    for title in ("forward and backward of log_prob", "sampling", "largest error"):
        assert f"| {title} | law |" in table
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows if "log_prob" in line} == {9}
    record = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert set(record) == {"setting", "versions", "log_prob", "sampling", "accuracy", "left out"}
    assert record["setting"]["repeats"] == 1
    assert record["setting"]["seed"] == 0
    assert record["versions"]["torch"] == torch.__version__
    assert math.isfinite(record["log_prob"][0]["seconds"][0])
    assert any("SciPy (vMF) in log_prob" in line for line in record["left out"])


def test_a_peer_that_fails_on_import_is_skipped_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise AttributeError(f"{name} has changed\nbeyond recognition")

    monkeypatch.setattr(importlib, "import_module", broken)
    found, skipped = load_implementations()
    assert all(not one.peer for one in found)
    assert next(peer.reason for peer in skipped) == "does not import: AttributeError: jax has changed"


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
    assert capsys.readouterr().err.startswith("error: --device cuda: PyTorch sees no GPU here")


def test_help_teaches_what_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (["--help"], "distributions"), (["distributions", "--help"], "dot product"):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        assert words in capsys.readouterr().out


def test_the_compiled_contestant_computes_what_the_other_does() -> None:
    (inner,) = (one for one in OURS if one.family == "PS")
    assert isinstance(inner, OurPowerSpherical)
    compiled = Compiled(inner)
    directions = torch.nn.functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    value = directions.roll(1, 0).requires_grad_()
    arguments = (value, directions.requires_grad_(), torch.linspace(0.5, 40, 8).requires_grad_())
    try:
        step = compiled.log_prob_step(*arguments)
    except Unsupported as reason:
        pytest.skip(str(reason))
    np.testing.assert_allclose(compiled.log_prob(*arguments), inner.log_prob(*arguments), rtol=1e-5)
    expected, actual = inner.log_prob_step(*arguments)(), step()
    assert isinstance(expected, tuple)
    assert isinstance(actual, tuple)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_what_cannot_be_compiled_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    (inner,) = (one for one in OURS if one.family == "vMF")
    assert isinstance(inner, OurVonMisesFisher)
    with pytest.raises(Unsupported, match=r"torch\.compile fails: no C\+\+ compiler"):
        Compiled(inner).sampler(torch.eye(3)[0], 2.0, 4, seed=0)
