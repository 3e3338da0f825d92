"""The commands that look at κ, from a checkpoint and a folder of images to table, record and figures."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.covariance import LedoitWolf
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from experiments import figure4, uncertainty
from experiments.command_line.parser import CommandLineParser
from experiments.evaluation.extremes import pairs_of_views
from experiments.evaluation.opening import Opener
from experiments.evaluation.options import add_options
from experiments.evaluation.uncertainty.ensemble import ensemble_name
from experiments.evaluation.uncertainty.observations import Observations, look_at
from experiments.evaluation.uncertainty.rivals import EDGES, KAPPA, MAHALANOBIS, SOFTMAX, TWO_VIEWS, Rivals, edge_energy
from experiments.evaluation.uncertainty.subject import Subject, fresh_generator, middles, random_view
from experiments.images.device_images import DeviceImages, StreamedImages
from experiments.images.opening import open_images
from experiments.pretraining.building import build_pair
from experiments.pretraining.configuration import (
    BackboneConfig,
    DataConfig,
    MethodConfig,
    PretrainConfig,
    TrainingConfig,
    ViewsConfig,
)
from experiments.pretraining.export import save_pretrained
from experiments.records.record import Record
from inference.judging.evaluation import nearest_other_is_right
from inference.judging.linear_probe import linear_probe
from inference.judging.representation import Embedding, represent
from ssl_as_inference.graphical_model import MultiViewPair
from ssl_as_inference.sphere import normalize

CPU = torch.device("cpu")
SIZE = 16
FEATURES = 128  # of the small convolutional network


def write_images(folder: Path, count: int, *, seed: int, labelled: bool = True) -> None:
    """Stripes along or across, with noise: two classes that any network tells apart."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        place = folder / ("along", "across")[number % 2] if labelled else folder
        place.mkdir(parents=True, exist_ok=True)
        stripes = np.where(np.arange(24) // 4 % 2, 200, 50)[:, None].repeat(24, 1)
        pixels = (stripes.T if number % 2 else stripes) + generator.normal(0, 25, (24, 24))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB").save(place / f"{number}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("images")
    write_images(made / "stripes" / "train", 24, seed=0)
    write_images(made / "stripes" / "val", 14, seed=1)
    write_images(made / "unlabelled" / "train", 10, seed=2, labelled=False)
    write_images(made / "unlabelled" / "val", 8, seed=3, labelled=False)
    return made


@pytest.fixture(scope="module")
def config(folder: Path) -> PretrainConfig:
    return PretrainConfig(
        data=DataConfig(name=str(folder / "stripes")),
        views=ViewsConfig(size=SIZE, local_views=0),
        backbone=BackboneConfig("small_convolutional"),
        method=MethodConfig(dim=8, hidden=16),
        training=TrainingConfig(batch_size=8),
    )


def simsiam(config: PretrainConfig) -> PretrainConfig:
    return replace(config, method=replace(config.method, name="simsiam"))


def constant(config: PretrainConfig) -> PretrainConfig:
    return replace(config, method=replace(config.method, concentration_map="constant", concentration=7.0))


@pytest.fixture(scope="module")
def checkpoints(config: PretrainConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("checkpoints")
    configs = {"first": config, "second": replace(config, seed=1), "simsiam": simsiam(config)}
    configs["constant"] = constant(config)
    return {name: save_pretrained(acquainted(one), one, place / f"{name}.safetensors") for name, one in configs.items()}


def acquainted(config: PretrainConfig) -> MultiViewPair:
    """A pair whose batch normalisations have seen images: without, all outputs of random weights are nearly equal."""
    pair = build_pair(config)
    images = torch.rand(64, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    pair.train()
    with torch.no_grad():
        for _ in range(40):
            pair.model.expert(images)
    return pair.eval()


def opened(config: PretrainConfig, split: str) -> DeviceImages:
    return DeviceImages.load(open_images(config.data.name, "data", split), CPU)  # type: ignore[arg-type]


def observe(
    subject: Subject,
    train: DeviceImages,
    test: DeviceImages,
    foreign: dict[str, DeviceImages],
    *,
    images: int,
    **settings: Any,
) -> Observations:
    return look_at(Rivals.fit(subject, train, **settings), test, foreign, images=images, progress=False)


def test_the_command_prints_and_saves_what_it_measured(
    checkpoints: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(checkpoints["first"]), str(checkpoints["second"]), "--compare", str(checkpoints["simsiam"])]
    given += ["--device", "cpu", "--foreign", str(folder / "unlabelled"), "--images", "10", "--resamples", "3"]
    assert uncertainty.main([*given, "--name", "stripes", "--out", str(tmp_path)]) == 0
    record = Record.load(tmp_path / "stripes.json")
    assert record.seeds == (0, 1)
    assert record.command.startswith("python -m experiments.uncertainty ")
    assert record.configuration["training"][1]["seed"] == 1
    table = record.tables[0]
    assert table.columns[:2] == (KAPPA, "aim")
    assert "U5 AUROC against unlabelled" in table.rows
    assert {EDGES, SOFTMAX, "kNN distance", f"{TWO_VIEWS}, simsiam"} <= set(table.columns)
    for prefix in ("U1", "U2", "U3", "U4", "U5", "U6", "U7", "U8", "Partial"):
        cells = [cells[KAPPA] for name, cells in table.rows.items() if name.startswith(prefix) and KAPPA in cells]
        assert cells
        assert all(len(cell.each) == 2 for cell in cells)
    ensemble = ensemble_name(2)
    assert table.columns[2] == ensemble
    assert not any(ensemble in table.rows[name] for name in table.rows if name.startswith(("U6", "U7")))
    assert len(set(table.rows["U2 P(u of crop > u of whole)"][ensemble].each)) == 1
    over_seeds = record.tables[1]
    assert over_seeds.title == "κ and its rivals, over seeds"
    assert ensemble not in over_seeds.columns
    for name, row in over_seeds.rows.items():
        for column, cell in row.items():
            assert cell.value == pytest.approx(table.rows[name][column].value)
    for figure in record.figures:
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    assert len(record.figures) == 2
    printed = capsys.readouterr().out
    assert "U3 R-AUROC" in printed
    assert "Only 2 seeds" in printed
    assert "effective rank" in printed
    page = Record.load(tmp_path / "stripes.json").page()
    assert f"| measure | κ | aim | {ensemble} |" in page


def test_checkpoints_that_differ_in_more_than_the_seed_are_no_ensemble(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    given = [str(checkpoints["first"]), str(checkpoints["simsiam"]), "--device", "cpu", "--images", "6"]
    assert uncertainty.main([*given, "--resamples", "2", "--out", str(tmp_path)]) == 0
    record = Record.load(tmp_path / "uncertainty.json")
    assert len(record.tables) == 2
    assert not any("ensemble" in column for column in record.tables[0].columns)
    assert any("differ in more than the seed" in note for note in record.notes)


def test_trainings_on_other_sets_need_one_to_be_asked_about(
    checkpoints: dict[str, Path], config: PretrainConfig, tmp_path: Path, capsys: Any
) -> None:
    other = replace(config, data=replace(config.data, name="elsewhere"), seed=1)
    second = save_pretrained(acquainted(config), other, tmp_path / "second.safetensors")
    assert uncertainty.main([str(checkpoints["first"]), str(second), "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert "trained on different sets, " in (said := capsys.readouterr().err)
    assert said.strip().endswith("elsewhere: name one with --data")


@pytest.mark.parametrize("again", ["first", "path", "copy"])
def test_an_encoder_that_is_given_twice_is_not_two_seeds(
    again: str, checkpoints: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    first = checkpoints["first"]
    copy = Path(shutil.copy(first, tmp_path / "copy.safetensors"))
    second = {"first": first, "path": first.parent / ".." / first.parent.name / first.name, "copy": copy}
    given = ["--images", "6", "--resamples", "2", "--device", "cpu", "--out", str(tmp_path)]
    assert uncertainty.main([str(checkpoints["second"]), str(first), str(second[again]), *given]) == 2
    assert f"{first} and {second[again]} hold the same encoder" in capsys.readouterr().err


def test_a_record_of_other_encoders_or_images_is_not_replaced(
    checkpoints: dict[str, Path], folder: Path, tmp_path: Path, capsys: Any
) -> None:
    given = ["--images", "6", "--resamples", "2", "--device", "cpu", "--out", str(tmp_path)]
    first, second = str(checkpoints["first"]), str(checkpoints["second"])
    assert uncertainty.main([first, *given]) == 0
    kept = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for other in ([second], [first, second], [first, "--data", str(folder / "unlabelled")]):
        assert uncertainty.main([*other, *given]) == 2
        error = capsys.readouterr().err
        assert f"{tmp_path / 'uncertainty.json'} holds what another encoder or other images gave" in error
        assert "--name" in error
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == kept
    assert uncertainty.main([second, *given, "--name", "second"]) == 0
    assert {file: file.read_bytes() for file in kept} == kept
    assert uncertainty.main([first, *given, "--seed", "1"]) == 0  # the same asked anew
    assert Record.load(tmp_path / "uncertainty.json").configuration["seed"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--jobs", "2"], "--jobs belongs to --heads"), (["--heads", "1", "--compare", "x"], "--compare belongs to")],
)
def test_an_option_that_says_nothing_is_refused(options: list[str], message: str, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        uncertainty.main(["nowhere.ckpt", *options, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err


def test_images_are_decoded_for_each_size_that_an_encoder_stores(config: PretrainConfig) -> None:
    parser = CommandLineParser(prog="x")
    add_options(parser)
    opener = Opener(parser.parse_args(["--device", "cpu"]))
    sides = []
    for size in (8, 12):
        stored = replace(config, data=replace(config.data, storage_size=size))
        sides.append(opener.decoded(stored, "val").canvas.size(-1))
    assert sides == [8, 12]


@pytest.mark.parametrize("method", ["simsiam", "constant"])
def test_without_labels_and_with_a_constant_concentration_there_is_less_to_say(
    method: str, checkpoints: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(checkpoints[method]), "--data", str(folder / "unlabelled"), "--device", "cpu", "--resamples", "2"]
    assert uncertainty.main([*given, "--images", "6", "--out", str(tmp_path)]) == 0
    record = Record.load(tmp_path / "uncertainty.json")
    assert not any(name.startswith(("U3", "U4", "U8")) for name in record.tables[0].rows)
    assert SOFTMAX not in record.tables[0].columns
    assert record.figures == ()
    assert "κ is constant" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("uncertainty", ["--data", "nowhere"], "nowhere: expected a known set"),
        ("uncertainty", ["--foreign", "a/b", "c/b"], "--foreign must name sets whose folders have different names"),
        ("figure4", ["--data", "nowhere"], "nowhere: expected a known set"),
        ("uncertainty", ["--data", "digits"], "digits .* has 1 channel.*trained on 3"),
        ("figure4", ["--data", "digits"], "digits .* has 1 channel.*trained on 3"),
        ("uncertainty", ["--data", "ONE"], r"a test of κ needs at least 2 images; .*ONE has 1"),
    ],
)
def test_missing_or_unfit_images_are_said_in_one_line(
    command: str, arguments: list[str], message: str, checkpoints: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_images(tmp_path / "ONE" / "train", 8, seed=0)
    write_images(tmp_path / "ONE" / "val", 1, seed=1)
    main = {"uncertainty": uncertainty.main, "figure4": figure4.main}[command]
    arguments = [str(tmp_path / text) if text == "ONE" else text for text in arguments]
    assert main([str(checkpoints["first"]), *arguments, "--device", "cpu", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"python -m experiments.{command}: error: ")
    assert re.search(message, error)


@pytest.mark.parametrize("main", [uncertainty.main, figure4.main])
def test_a_checkpoint_that_is_not_there_is_said_in_one_line(main: Any, tmp_path: Path, capsys: Any) -> None:
    assert main(["nowhere.ckpt", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "nowhere.ckpt does not exist: give the folder of a run, a .ckpt or a .safetensors file" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["../evil", "a/b", "Évil", "", "a.b"])
def test_a_records_name_is_no_path_and_said_so_before_any_image_is_read(
    name: str, checkpoints: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit) as exit_:
        uncertainty.main(
            [str(checkpoints["first"]), "--data", "nowhere", "--name", name, "--out", str(tmp_path / "out")]
        )
    assert exit_.value.code == 2
    assert "argument --name: expected lower-case letters, digits and underscores, got " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] in ([], ["out"])


@pytest.mark.parametrize("main", [uncertainty.main, figure4.main])
def test_a_network_that_gives_nan_is_said_in_one_line(
    main: Any, config: PretrainConfig, tmp_path: Path, capsys: Any
) -> None:
    pair = acquainted(config)
    next(pair.model.encoder.parameters()).data.fill_(3e38)  # NaN itself is refused with the file
    bad = save_pretrained(pair, config, tmp_path / "bad.safetensors")
    assert main([str(bad), "--device", "cpu", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert re.search("the network gives NaN or infinity, .*: its training has diverged", error)
    assert error.count("error:") == 1
    assert "Traceback" not in error


def test_figure_4_shows_the_images_of_any_checkpoint(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(DeviceImages, "load")  # the whole set may be larger than the memory
    assert figure4.main([str(checkpoints["first"]), "--device", "cpu", "--columns", "3", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figure4.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    for name in ("lowest", "highest"):
        numbers = re.search(
            rf"the images of {name} κ: (\S+), from (\S+) to (\S+); κ of the views expects (\S+)\n", said
        )
        assert numbers is not None
        mean, least, most, expected = map(float, numbers.groups())
        assert least <= mean <= most <= 1
        assert 0 < expected < 1
    for method, told in (
        ("simsiam", "κ is a constant of simsiam (κ = 1.00)"),
        ("constant", "κ is a constant of vi_simsiam (κ = 7.00)"),
    ):
        assert figure4.main([str(checkpoints[method]), "--device", "cpu", "--out", str(tmp_path)]) == 2
        assert f"no figure: {told}, so there is no ranking. VI-SimSiam predicts κ" in capsys.readouterr().err


def test_each_view_of_an_image_predicts_each_other_one(subject: Subject, config: PretrainConfig) -> None:
    images = open_images(config.data.name, "data", "val")
    found = pairs_of_views(subject, StreamedImages(images, CPU), 3)
    stored = opened(config, "val")
    canvas, sizes = stored.canvas[3].expand(16, -1, -1, -1), stored.sizes[3].expand(16, 2)
    seen = random_view(canvas, sizes, subject, fresh_generator(0, 3))
    of_pair = cosine_similarity(seen.mean_direction.double(), seen.outputs.double())
    others = [(i, j) for i in range(16) for j in range(16) if i != j]
    np.testing.assert_allclose(found.cosine, [of_pair[pair] for pair in others], atol=1e-5)
    np.testing.assert_allclose(found.concentration, [float(seen.concentration[i]) for i, _ in others], rtol=1e-5)
    assert len(set(found.cosine.tolist())) > 200  # the views are different ones


def test_figure_4_of_one_image_says_that_there_is_one(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "one", 1, seed=0, labelled=False)
    given = ["--data", str(tmp_path / "one"), "--split", "all", "--device", "cpu", "--out", str(tmp_path)]
    for method in ("first", "constant"):
        assert figure4.main([str(checkpoints[method]), *given]) == 2
        assert "no figure: there is one image" in capsys.readouterr().err


@pytest.fixture(scope="module")
def subject(config: PretrainConfig) -> Subject:
    return Subject.of(acquainted(config), config, CPU)


def test_the_middles_are_looked_at_as_the_network_was_trained_to(subject: Subject, config: PretrainConfig) -> None:
    images = opened(config, "val")
    pixels = middles(images, subject.recipe, torch.arange(len(images)))
    assert pixels.shape == (14, 3, SIZE, SIZE)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.views.mean, config.views.std))
    expected = represent(subject.pair, (pixels - mean) / std)
    assert torch.allclose(subject.look(pixels).concentration, expected.concentration)
    assert torch.allclose(subject.look(pixels).features, expected.features)


def test_rivals_are_what_they_are_called(subject: Subject, config: PretrainConfig) -> None:
    train, test = (opened(config, split) for split in ("train", "val"))
    pixels = [middles(images, subject.recipe, torch.arange(len(images))) for images in (train, test)]
    features = [subject.look(batch).features for batch in pixels]
    probe = linear_probe(features[0], train.labels, features[1], test.labels).classifier
    fitted = LedoitWolf().fit(features[0].double().numpy())
    judged = Rivals(subject, normalize(features[0]), probe, gaussian=fitted)(pixels[1])

    def same(name: str, certain: Tensor) -> None:
        assert torch.allclose(judged[name], -certain.double(), atol=1e-5), name

    same(KAPPA, subject.look(pixels[1]).concentration)
    same(EDGES, edge_energy(pixels[1]))
    same("feature norm", features[1].square().sum(1).sqrt())
    same("kNN distance", torch.from_numpy(cosine_similarity(features[1], features[0]).max(1)))
    same(SOFTMAX, (features[1] @ probe.weight.T + probe.bias).softmax(1).amax(1))
    inverse = np.linalg.inv(fitted.covariance_)
    centred = features[1].double().numpy() - features[0].double().numpy().mean(0)
    same(MAHALANOBIS, -torch.tensor([math.sqrt(row @ inverse @ row) for row in centred]))
    assert (judged[TWO_VIEWS].abs() <= 1 + 1e-6).all()
    assert judged[TWO_VIEWS].unique().numel() == len(pixels[1])


def test_two_views_of_an_image_without_any_augmentation_agree_as_the_network_does_with_itself(
    config: PretrainConfig,
) -> None:
    still = ViewsConfig(
        size=SIZE, local_views=0, global_crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), jitter_probability=0.0,
        grey_probability=0.0, blur_probability=0.0, flip_probability=0.0,
    )  # fmt: skip
    still_config = replace(config, views=still)
    subject = Subject.of(acquainted(still_config), still_config, CPU)
    pixels = middles(opened(config, "val"), subject.recipe, torch.arange(5))
    pixels = (255 * pixels).round() / 255
    seen = subject.look(pixels)
    judged = Rivals(subject, normalize(seen.features))(pixels)
    assert torch.allclose(judged[TWO_VIEWS], -(seen.mean_direction * seen.outputs).sum(1).double(), atol=1e-4)


def test_the_same_seed_sees_the_same_and_nothing_depends_on_torchs_own_generator(
    subject: Subject, config: PretrainConfig
) -> None:
    train, test = (opened(config, split) for split in ("train", "val"))
    torch.manual_seed(1)
    first = observe(subject, train, test, {}, images=9, seed=4)
    torch.manual_seed(2)
    second = observe(subject, train, test, {}, images=9, seed=4)
    other = observe(subject, train, test, {}, images=9, seed=5)
    for name, u in first.clean.items():
        assert torch.equal(u, second.clean[name])
        assert torch.equal(first.degraded["noise"][name], second.degraded["noise"][name])
    assert torch.equal(first.fresh.cosine, second.fresh.cosine)
    assert not torch.equal(first.fresh.cosine, other.fresh.cosine)


def test_observations_are_of_new_images_with_their_own_labels(subject: Subject, config: PretrainConfig) -> None:
    train, test = (opened(config, split) for split in ("train", "val"))
    seen = observe(subject, train, test, {"self": test}, images=100)
    pixels = middles(test, subject.recipe, torch.arange(len(test)))
    features = subject.look(pixels).features
    assert seen.neighbour_is_right is not None
    assert torch.equal(seen.neighbour_is_right, nearest_other_is_right(features, test.labels))
    assert torch.allclose(seen.clean[KAPPA], seen.foreign["self"][KAPPA])
    for levels in seen.degraded.values():
        assert torch.allclose(levels[KAPPA][0], seen.clean[KAPPA], rtol=1e-4)
    assert torch.allclose(seen.ambiguous[KAPPA][0], seen.clean[KAPPA], rtol=1e-4)
    fresh = seen.fresh
    assert torch.allclose(fresh.expected, fresh.concentration / (fresh.concentration + 7), atol=1e-9)
    assert (fresh.cosine.abs() <= 1 + 1e-6).all()


def test_the_probe_is_told_the_labels_of_training_images_alone(subject: Subject, config: PretrainConfig) -> None:
    train, test = (opened(config, split) for split in ("train", "val"))
    swapped = replace(test, labels=1 - test.labels)
    honest, lied = (observe(subject, train, images, {}, images=100, two_views=False) for images in (test, swapped))
    assert honest.probe_is_right is not None and lied.probe_is_right is not None  # noqa: PT018
    assert torch.equal(lied.probe_is_right, ~honest.probe_is_right)
    assert honest.neighbour_is_right is not None and lied.neighbour_is_right is not None  # noqa: PT018
    assert torch.equal(lied.neighbour_is_right, honest.neighbour_is_right)  # both labels of a pair have changed


def test_with_few_training_images_of_a_class_there_is_no_probe_and_it_is_said(
    subject: Subject, config: PretrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train = opened(config, "train")
    lonely = replace(train, labels=torch.arange(len(train)).clamp(max=1))
    assert Rivals.fit(subject, lonely).probe is None
    assert "No linear probe, nor what needs one: a class has 1 training images" in capsys.readouterr().out
    assert Rivals.fit(subject, train).probe is not None


def test_a_view_is_compared_with_another_one(
    subject: Subject, config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def view(canvas: Tensor, _: Tensor, subject: Subject, generator: torch.Generator) -> Embedding:
        """Predicts itself without an error, and another view not at all."""
        return selfish(subject.pair, torch.randn(len(canvas), FEATURES, generator=generator))

    def selfish(pair: MultiViewPair, features: Tensor) -> Embedding:
        direction = normalize(features[:, : pair.dim])
        return Embedding(features, direction, direction, torch.ones(len(features)))

    for module in ("observations", "rivals"):
        monkeypatch.setattr(f"experiments.evaluation.uncertainty.{module}.random_view", view)
    monkeypatch.setattr("experiments.evaluation.uncertainty.observations.embed_features", selfish)
    train, test = (opened(config, split) for split in ("train", "val"))
    seen = observe(subject, train, test, {}, images=100)
    for cosine in (seen.fresh.cosine, -seen.clean[TWO_VIEWS]):
        assert cosine.abs().max() < 0.99
        assert cosine.unique().numel() == len(test)


def test_ambiguous_images_are_of_two_classes_and_those_of_the_control_of_one(
    subject: Subject, config: PretrainConfig
) -> None:
    train, test = (opened(config, split) for split in ("train", "val"))
    alone = replace(test, labels=torch.zeros(len(test), dtype=torch.long).index_fill(0, torch.tensor([3]), 1))
    seen = observe(subject, train, alone, {}, images=100, two_views=False)
    assert seen.ambiguous[KAPPA].size(1) == len(test)
    assert seen.control[KAPPA].size(1) == len(test) - 1  # the only one of its class has no other beside it
