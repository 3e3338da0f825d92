"""Many heads over one encoder: what each is, that all see the same, and that a look is paid for once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments import add_uncertainty, uncertainty
from experiments.evaluation import view_features
from experiments.evaluation.uncertainty import heads as module
from experiments.evaluation.uncertainty.rivals import EDGES, KAPPA, SOFTMAX, TWO_TARGETS
from experiments.evaluation.view_features import KeptFeatures
from experiments.images.degradations import DEGRADATIONS
from experiments.records.record import Record
from ssl_as_inference.distributions import VonMisesFisher
from ssl_as_inference.sphere import normalize

MakeFolder = Callable[..., Path]
QUICK = ["--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def result(
    run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    images = digit_folders(classes=3, train=24, val=8)
    out = tmp_path_factory.mktemp("added") / "out.safetensors"
    given = [str(run_folder("simsiam")), str(images), "--out", str(out), "--dim", "4", "--epochs", "2"]
    assert add_uncertainty.main([*given, "--views", "3", "--images", "60", *QUICK]) == 0
    return out, images


@pytest.mark.slow
def test_the_command_judges_all_heads_on_the_same_features_and_looks_once(
    result: tuple[Path, Path], digit_folders: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.fitting.features._STEPS", 20)  # of each head: there are some sixty
    out, images = result
    foreign = digit_folders(classes=2, train=2, val=9)
    given = [str(out), "--heads", "2", "--study", "--images", "20", "--degraded", "6", "--resamples", "2", *QUICK]
    given += ["--foreign", str(foreign), "--out", str(tmp_path)]
    assert uncertainty.main(given) == 0
    record = Record.load(tmp_path / "uncertainty.json")
    assert record.seeds == (0, 1)
    titles = [table.title for table in record.tables]
    known, unseen = (record.tables[titles.index(f"{folder.name}: κ and its rivals")] for folder in (images, foreign))
    shared = {KAPPA, module.OTHER_FAMILY, module.MC_INFO_NCE, module.LOSS_PREDICTION, EDGES, TWO_TARGETS, SOFTMAX}
    assert shared <= set(known.columns)
    assert not any("seed" in column for column in known.columns)
    ranks = known.rows["U3 R-AUROC"]
    assert len(set(ranks[EDGES].each)) == 1  # the same pixels for all seeds
    lead = known.rows["U3 κ's R-AUROC minus this one's"]
    assert set(lead) == set(ranks) - {KAPPA}
    assert lead[EDGES].value == pytest.approx(float(ranks[KAPPA].value or 0) - float(ranks[EDGES].value or 0))
    assert len(set(known.rows["U1 Spearman with severity, mean of all"][module.OTHER_FAMILY].each)) == 2
    assert f"U5 AUROC against {foreign.name}" in known.rows
    assert not any(name.startswith("U4") for name in unseen.rows)  # a probe knows nothing of other classes
    assert "U3 R-AUROC" in unseen.rows
    assert "0.7" in known.rows["U3 R-AUROC"]["aim"].text
    assert "0.65" in unseen.rows["U3 R-AUROC"]["aim"].text
    study = record.tables[titles.index("What decides it")]
    assert "d = 8" in study.rows
    cropped = [row for row in study.rows if "crops from" in row]
    assert cropped == [f"60 images, crops from {least} of the area" for least in ("0.08", "0.2", "0.5")]
    assert len({study.rows[row]["U1 mean"].each for row in cropped}) == 3
    choice = record.tables[titles.index("The choice of d")]
    assert set(choice.rows) == {"d = 8", "d = 16", "d = 32"}  # 45 images to fit to
    for cells in choice.rows.values():
        followed = [cells[f"U1 {series.name}"].each for series in DEGRADATIONS]
        for seed, least in enumerate(cells["over the aims"].each):
            each = [float(of[seed]) for of in followed]  # type: ignore[arg-type]
            over = [min(each) - 0.3, sum(each) / len(each) - 0.6]
            ranked = cells["R-AUROC held-out training images"].each[seed]
            over += [] if ranked is None else [ranked - 0.7]
            assert least == pytest.approx(min(over))
    assert (tmp_path / record.figures[0]).read_bytes().startswith(b"\x89PNG")
    left_out = record.tables[titles.index("A kind of defect left out")]
    kinds = {series.name for series in DEGRADATIONS}
    assert {f"all but {kind} among the views" for kind in kinds} < set(left_out.rows)
    assert {f"U1 {kind}" for kind in kinds} < set(left_out.columns)

    kept = {file: file.stat().st_mtime_ns for file in out.with_suffix(".features").rglob("*.npy")}
    assert uncertainty.main([argument for argument in given if argument != "--study"]) == 0
    again = Record.load(tmp_path / "uncertainty.json")
    assert again.tables == record.tables[: len(again.tables)]
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert len([*out.with_suffix(".features").rglob("*.npy")]) == len(kept)  # no look was new


def test_features_of_other_images_are_refused(
    result: tuple[Path, Path], digit_folders: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    other = digit_folders(classes=2, train=40, val=8)
    given = [str(result[0]), "--heads", "1", "--data", str(other), "--out", str(tmp_path), *QUICK]
    assert uncertainty.main(given) == 2
    assert "has features of 60 images that are not those of" in capsys.readouterr().err


def test_a_record_of_other_heads_is_not_replaced(result: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    other = Record("uncertainty", "Other", "python -m others", {"encoders": ["other"], "data": "there"}, (), ())
    kept = other.save(tmp_path).read_bytes()
    given = [str(result[0]), "--heads", "1", "--images", "8", "--resamples", "2", "--out", str(tmp_path), *QUICK]
    assert uncertainty.main(given) == 2
    assert "uncertainty.json holds what another encoder or other images gave" in capsys.readouterr().err
    assert (tmp_path / "uncertainty.json").read_bytes() == kept


def test_a_result_of_a_folder_without_parts_has_no_held_out_images_to_judge_heads_on(
    run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    out, images = tmp_path / "out.safetensors", digit_folders(classes=2, train=20, val=0, parts=False)
    given = [str(run_folder("simsiam")), str(images), "--out", str(out), "--dim", "4", "--epochs", "1"]
    assert add_uncertainty.main([*given, "--views", "2", *QUICK]) == 0
    assert uncertainty.main([str(out), "--heads", "1", "--out", str(tmp_path), *QUICK]) == 2
    error = capsys.readouterr().err
    assert f"{images}: expected a folder named val" in error
    assert "--heads needs a set with the parts train and val: divide the images so" in error
    assert "start experiments.add_uncertainty anew" in error


def test_a_batch_is_computed_once_and_another_one_is_not_mistaken_for_it(tmp_path: Path) -> None:
    class Counted(nn.Linear):
        calls = 0

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            Counted.calls += 1
            return super().forward(input)

    network = Counted(3, 2)
    views = torch.randn(5, 3)
    first = KeptFeatures(network, tmp_path)(views)
    again = KeptFeatures(network, tmp_path)(views.clone())
    assert torch.equal(first, again)
    assert Counted.calls == 1
    KeptFeatures(network, tmp_path)(views + 1e-6)
    KeptFeatures(network, tmp_path)(views.T.contiguous().T[:, :3])
    assert Counted.calls == 2
    network.weight.data.add_(1)
    assert not torch.equal(KeptFeatures(network, tmp_path)(views), first)


def test_two_commands_may_keep_the_same_look_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, views, save = nn.Linear(3, 2), torch.randn(5, 3), view_features._save

    def save_while_another_command_does(path: Path, features: Tensor) -> None:
        save(path, features)
        monkeypatch.setattr(view_features, "_save", save)
        KeptFeatures(network, tmp_path)(views)

    monkeypatch.setattr(view_features, "_save", save_while_another_command_does)
    assert torch.equal(KeptFeatures(network, tmp_path)(views), network(views))
    assert len([*tmp_path.iterdir()]) == 1


def test_monte_carlo_info_nce_is_info_nce_where_the_experts_are_certain() -> None:
    class Certain(nn.Module):
        def forward(self, features: Tensor) -> VonMisesFisher:
            return VonMisesFisher(normalize(features), features.new_full((len(features),), 1e9))

    torch.manual_seed(0)
    views = [torch.randn(6, 4, dtype=torch.float64) for _ in range(2)]
    first, second = (normalize(view) for view in views)
    similarity = 20 * first @ second.T
    labels = torch.arange(6)
    entropy = nn.functional.cross_entropy
    expected = entropy(similarity, labels, reduction="sum") + entropy(similarity.T, labels, reduction="sum")
    found = module.MonteCarloInfoNCE(Certain(), samples=3)(views)
    assert float(found) == pytest.approx(float(expected), rel=1e-3)


def test_its_expectation_lies_inside_the_logarithm() -> None:
    """−log of a mean is no more than the mean of −log (Jensen), and less where the samples differ."""

    class Vague(nn.Module):
        def forward(self, features: Tensor) -> VonMisesFisher:
            return VonMisesFisher(normalize(features), features.new_full((len(features),), 3.0))

    torch.manual_seed(1)
    views = [torch.randn(5, 3) for _ in range(2)]
    many = torch.stack([module.MonteCarloInfoNCE(Vague(), samples=1)(views) for _ in range(300)]).mean()
    one = module.MonteCarloInfoNCE(Vague(), samples=300)(views)
    assert one < many / 3


def two_groups(items: int = 600) -> tuple[Tensor, Tensor, Tensor]:
    """Views, class and whether an item is hard: its views disagree, and say less of its class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(items) % 2
    hard = torch.rand(items, generator=generator) < 0.5
    shared = torch.randn(items, 6, generator=generator)
    shared[:, 0] = (2.0 * labels - 1) * torch.where(hard, 0.3, 2.0)
    noise = torch.randn(3, items, 6, generator=generator) * torch.where(hard, 1.5, 0.1)[:, None]
    told = hard.float().expand(3, items)[..., None]
    return torch.cat([shared + noise, 0.3 * told], dim=2), labels, hard


def test_every_head_is_less_certain_of_what_is_hard() -> None:
    views, labels, hard = two_groups()
    size: dict[str, Any] = {"dim": 4, "hidden": 32}
    losses = module.probe_losses(views, labels)
    assert losses.shape == views.shape[:2]
    assert losses[:, hard].mean() > 2 * losses[:, ~hard].mean()
    longer: dict[str, Any] = {"epochs": 30, "learning_rate": 1e-2}
    fitted = [
        module.fit_kappa(KAPPA, views, 0, family="power_spherical", **size, **longer),
        module.fit_mc_info_nce(views, 0, **size, **longer),
        module.fit_loss_prediction(views, losses, 0, hidden=32),
    ]
    for head in fitted:
        certain = head.certain(views[0])
        assert certain[~hard].double().mean() > certain[hard].double().mean(), head.name


def test_the_losses_are_those_of_a_probe_that_did_not_see_the_image() -> None:
    """With random labels a probe of its own images is right, one of others is not better than chance."""
    generator = torch.Generator().manual_seed(0)
    bank = 3 * torch.randn(60, 100, generator=generator)
    labels = torch.arange(60) % 2
    losses = module.probe_losses(bank[None], labels)
    assert float(losses.mean()) > math.log(2)


def test_each_variant_differs_from_the_head_in_one_thing() -> None:
    found = module.variants(16, (4, 100, 40))
    assert next(iter(found.items())) == ("as above: d = 16", {})
    assert {"d = 8", "d = 32"} <= set(found)
    assert not {"d = 16", "d = 64", "d = 128"} & set(found)
    for name, changes in list(found.items())[1:]:
        assert len(changes) == (2 if "product" in name else 1), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["OTHER", "--heads", "2"], "--heads belongs to one result of experiments.add_uncertainty"),
        (["--study"], "--study and --degraded belong to --heads"),
        (["--degraded", "3"], "--study and --degraded belong to --heads"),
        (["--heads", "2", "--data", "a/b", "--foreign", "c/b"], "--data and --foreign must name sets whose folders"),
        (["--heads", "2"], "must hold the features that experiments.add_uncertainty kept"),
    ],
)
def test_a_users_mistake_gets_one_line(
    arguments: list[str], message: str, result: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(result[0].read_bytes())
    given = [str(alone), *(str(alone) if text == "OTHER" else text for text in arguments)]
    try:
        status = uncertainty.main([*given, "--out", str(tmp_path), *QUICK])
    except SystemExit as exit_:
        status = exit_.code  # type: ignore[assignment]
    error = capsys.readouterr().err
    assert status == 2
    assert message in error
    assert "Traceback" not in error
    assert np.size(error.splitlines()[-1:]) == 1
