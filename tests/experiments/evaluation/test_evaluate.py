"""`python -m experiments.evaluate`: the numbers by another way, the record, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from experiments import evaluate
from experiments.evaluation import measures as measuring
from experiments.evaluation.measures import QUANTILES, quantiles
from experiments.images.augmentations.batched import sample_center_view
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.digits import load
from experiments.images.image_sets import ArraySource, ImageSet
from experiments.pretraining.export import FORMAT, Pretrained, load_pretrained, save_pretrained, weights
from inference.fitting.checkpointing import save_checkpoint
from inference.judging.collapse import effective_rank, standard_deviation
from inference.judging.evaluation import knn_accuracy, nearest_neighbour_is_right
from inference.judging.linear_probe import ProbeSettings, hold_out, linear_probe
from inference.judging.representation import Embedding, represent
from inference.judging.uncertainty import correctness_auroc

MakeFolder = Callable[..., Path]


def run(*arguments: object) -> int:
    few = [] if "--epochs" in arguments else ["--epochs", "3"]
    return evaluate.main([*map(str, arguments), *few, "--threads", "2", "--device", "cpu"])


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def digits(part: int, pair: Any) -> tuple[Embedding, Tensor]:
    data, recipe = load()[part], ViewRecipe(16, mean=(0.5,), std=(0.25,))
    pixels = (255 * data.images[:, 0]).round().to(torch.uint8).numpy()
    views = torch.stack([sample_center_view(Image.fromarray(image), recipe) for image in pixels])
    return represent(pair, views), data.labels


@pytest.fixture(scope="module")
def judged(run_folder: MakeFolder) -> tuple[Path, dict[str, Any], str]:
    """One evaluation on digits: the folder, the record and what was printed."""
    folder = run_folder()
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *parts, **_: printed.append(" ".join(map(str, parts))))
        assert run(folder, "--epochs", 20) == 0
    return folder, read(folder / "evaluation_digits.json"), "\n".join(printed)


def test_every_number_is_that_of_the_functions_on_the_middle_of_the_images(judged: Any) -> None:
    folder, content, _ = judged
    pair = load_pretrained(folder).pair
    (train, train_labels), (test, test_labels) = digits(0, pair), digits(1, pair)
    labelled = (train.features, train_labels, test.features, test_labels)
    found = content["measures"]
    assert found["knn"]["accuracy"] == pytest.approx(knn_accuracy(*labelled), abs=1e-9)
    probe = linear_probe(*labelled, ProbeSettings(epochs=20))
    assert found["linear"]["top1"] == pytest.approx(probe.top1, abs=1e-9)
    assert found["linear"]["top5"] == pytest.approx(probe.top5, abs=1e-9)
    assert found["linear"]["learning_rate"] == probe.learning_rate
    right = nearest_neighbour_is_right(*labelled)
    assert found["correctness_auroc"] == pytest.approx(correctness_auroc(test.concentration, right), abs=1e-4)
    for name, part in (("train", train), ("held_out", test)):
        assert found[name]["images"] == len(part.features)
        assert found[name]["standard_deviation"] == pytest.approx(standard_deviation(part.outputs), rel=1e-4)
        assert found[name]["effective_rank"] == pytest.approx(effective_rank(part.outputs), rel=1e-4)
        expected = torch.quantile(part.concentration.double(), torch.tensor(QUANTILES, dtype=torch.float64))
        assert list(found[name]["concentration"].values()) == pytest.approx(expected.tolist(), rel=1e-4)


def test_random_features_already_carry_labels_and_the_classifiers_find_them(judged: Any) -> None:
    found = judged[1]["measures"]
    assert found["knn"]["accuracy"] > 0.8
    assert found["linear"]["top1"] > 0.6
    assert found["linear"]["top5"] > 0.9


def test_the_table_shows_the_numbers_of_the_record(judged: Any) -> None:
    _, content, printed = judged
    found = content["measures"]
    for title, value in (
        ("linear, top-1", f"{100 * found['linear']['top1']:.1f} %"),
        ("linear, top-5", f"{100 * found['linear']['top5']:.1f} %"),
        ("20 nearest neighbours", f"{100 * found['knn']['accuracy']:.1f} %"),
        ("effective rank of outputs", f"{found['held_out']['effective_rank']:.1f}"),
        ("κ: AUROC of a right neighbour", f"{found['correctness_auroc']:.3f}"),
    ):
        line = next(line for line in printed.splitlines() if title in line)
        assert line.endswith(f" {value}")
    assert "1,347 training and 450 held-out images of 10 classes, 16×16 pixels" in printed


def test_the_record_says_how_it_was_made(judged: Any) -> None:
    folder, content, _ = judged
    assert content["checkpoint"] == str(folder)
    assert content["config"] == load_pretrained(folder).config.to_dict()
    assert content["seed"] == 0
    assert content["views"] == "centre"
    assert content["probe"]["epochs"] == 20
    assert content["probe"]["batch_size"] == 512
    assert content["data"]["classes"] == [str(digit) for digit in range(10)]
    assert content["versions"]["torch"] == torch.__version__
    assert content["device"].startswith("CPU")


@pytest.mark.parametrize("kind", ["folder", "exported", "checkpoint", "folder_of_a_run_that_goes_on"])
def test_checkpoints_exported_encoders_and_run_folders_give_the_same(kind: str, judged: Any, tmp_path: Path) -> None:
    folder, content, _ = judged
    pretrained = load_pretrained(folder)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    saved = {"config": json.dumps(pretrained.config.to_dict()), "weights": weights(pretrained.pair)}
    save_checkpoint(saved, last, FORMAT)
    given = {
        "folder": folder,
        "exported": folder / "encoder.safetensors",
        "checkpoint": last,
        "folder_of_a_run_that_goes_on": tmp_path / "run",
    }[kind]
    assert run(given, "--epochs", 20, "--out", tmp_path / "out.json") == 0
    assert read(tmp_path / "out.json")["measures"] == content["measures"]


def test_encoders_that_lie_in_one_folder_have_files_of_their_own(judged: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(judged[0] / "encoder.safetensors", tmp_path / f"{name}.safetensors")
        assert run(tmp_path / f"{name}.safetensors", "--epochs", 1, "--learning-rates", 1.6) == 0
    expected = {f"{name}_evaluation_digits.json" for name in ("a", "b")}
    assert {path.name for path in tmp_path.glob("*.json")} == expected


def test_the_seed_changes_the_classifier_and_nothing_else(judged: Any, tmp_path: Path) -> None:
    folder, content, _ = judged
    assert run(folder, "--epochs", 20, "--seed", 1, "--out", tmp_path / "out.json") == 0
    other = read(tmp_path / "out.json")["measures"]
    assert other["linear"]["held_out_accuracy"] != content["measures"]["linear"]["held_out_accuracy"]
    assert other["knn"] == content["measures"]["knn"]
    assert other["held_out"]["concentration"] == content["measures"]["held_out"]["concentration"]


@pytest.mark.parametrize("path", ["resident", "streamed"])
def test_the_classifier_can_be_trained_on_augmented_views(
    path: str, run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path
) -> None:
    images = digit_folders(classes=2, train=20, val=20)
    folder = run_folder(path=path)
    arguments = (folder, "--data", images, "--epochs", 10, "--learning-rates", 12.8, "--batch-size", 8)
    assert run(*arguments, "--views", "augmented", "--out", tmp_path / "augmented.json") == 0
    assert run(*arguments, "--out", tmp_path / "centre.json") == 0
    augmented, centre = (read(tmp_path / f"{name}.json") for name in ("augmented", "centre"))
    assert augmented["views"] == "augmented"
    assert augmented["measures"]["linear"]["top1"] > 0.7
    assert augmented["measures"]["linear"] != centre["measures"]["linear"]
    assert augmented["measures"]["knn"] == centre["measures"]["knn"]


def test_few_classes_have_no_top5_and_few_images_few_neighbours(
    run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    images = digit_folders(classes=3, train=5, val=4)
    assert run(run_folder(), "--data", images, "--out", tmp_path / "out.json") == 0
    found = read(tmp_path / "out.json")["measures"]
    assert found["linear"]["top5"] is None
    assert found["knn"]["k"] == 15
    assert re.search(r"linear, top-5 +–\n", capsys.readouterr().out)


@pytest.mark.parametrize(("method", "kappa"), [("simsiam", "1.00"), ("byol", "1.00"), ("constant", "7.00")])
def test_a_constant_concentration_is_called_so(
    method: str, kappa: str, run_folder: MakeFolder, digit_folders: MakeFolder, capsys: Any
) -> None:
    folder, images = run_folder(method), digit_folders(classes=2, train=10, val=10)
    assert run(folder, "--data", images) == 0
    printed = capsys.readouterr().out
    assert re.search(rf"κ, a constant of the method +{kappa} +{kappa}\n", printed)
    assert "AUROC" not in printed
    found = read(folder / f"evaluation_{images.name}.json")["measures"]
    assert found["correctness_auroc"] is None
    assert set(found["held_out"]["concentration"].values()) == {float(kappa)}


def test_a_set_without_a_validation_part_is_split_on_request_alone(
    run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    images, out = digit_folders(classes=3, train=20, val=0, parts=False), tmp_path / "out.json"
    assert run(run_folder(), "--data", images, "--out", out) == 2
    assert "--hold-out 0.2" in capsys.readouterr().err
    assert run(run_folder(), "--data", images, "--out", out, "--hold-out", 0.99) == 2
    assert "argument --hold-out: held_out must leave an image or more for each of 3" in capsys.readouterr().err
    assert not out.exists()
    assert run(run_folder(), "--data", images, "--out", out, "--hold-out", 0.25) == 0
    content = read(out)
    assert (content["data"]["train"]["images"], content["data"]["held_out"]["images"]) == (45, 15)
    assert content["data"]["held_out_fraction"] == 0.25


def test_a_class_whose_name_is_no_utf_8_costs_no_evaluation(
    run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path
) -> None:
    images = digit_folders(classes=2, train=10, val=5)
    for part in ("train", "val"):
        (images / part / "class 1").rename(images / part / os.fsdecode(b"caf\xe9"))
    assert run(run_folder(), "--data", images, "--out", tmp_path / "out.json") == 0
    assert read(tmp_path / "out.json")["data"]["classes"] == [r"caf\xe9", "class 0"]


def test_held_out_images_of_a_split_are_of_every_class_and_no_training_images() -> None:
    labels = torch.arange(3).repeat_interleave(20)
    pixels = np.arange(60, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    images = ImageSet("numbers", ArraySource(pixels), labels, ("a", "b", "c"))
    train, held_out = images.divided(0.3, 5)
    numbers = [[int(np.asarray(part.read(index))[0, 0]) for index in range(len(part))] for part in (train, held_out)]
    assert sorted(numbers[0] + numbers[1]) == list(range(60))
    assert numbers[1] == sorted(hold_out(labels, 0.3, 5)[1].tolist())
    assert held_out.labels.bincount().tolist() == [6, 6, 6]
    assert all(labels[number] == label for number, label in zip(numbers[1], held_out.labels, strict=True))


@pytest.mark.parametrize("count", [1, 2, 11, 1000])
def test_quantiles_are_those_of_numpy(count: int) -> None:
    values = torch.rand(count, generator=torch.Generator().manual_seed(count)) * 100
    expected = np.quantile(values.double().numpy(), QUANTILES)
    assert list(quantiles(values).values()) == pytest.approx(expected.tolist(), abs=1e-12)


def test_the_rank_is_taken_of_a_bounded_number_of_outputs(
    run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_OUTPUTS_KEPT", 12)
    images = digit_folders(classes=3, train=20, val=3)
    assert run(run_folder(), "--data", images, "--out", tmp_path / "out.json", "--encode-batch", 7) == 0
    found = read(tmp_path / "out.json")["measures"]
    assert (found["train"]["outputs"], found["held_out"]["outputs"]) == (12, 9)


def test_a_diverged_network_is_named(
    make_pretrained: Callable[..., Pretrained], digit_folders: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    pretrained = make_pretrained()
    next(pretrained.pair.model.encoder.parameters()).data.fill_(3e38)
    save_pretrained(pretrained.pair, pretrained.config, tmp_path / "bad.safetensors")
    assert run(tmp_path / "bad.safetensors", "--data", digit_folders(classes=2, train=4, val=2)) == 2
    assert "the network gives NaN or infinity, first near " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: expected a whole number of at least 1, got '0'"),
        (["--learning-rates", "1.6", "-1"], "argument --learning-rates: expected a positive number, got '-1'"),
        (["--learning-rates", "1.6", "1.6"], "argument --learning-rates: expected different rates, got [1.6, 1.6]"),
        (["--hold-out", "1"], "argument --hold-out: expected a number between 0 and 1, got '1'"),
        (["--views", "all"], "argument --views: invalid choice: 'all'"),
        (
            ["--device", "cuda:77"],
            "argument --device: expected a device that is there and computes in float32, such as cpu, got 'cuda:77'",
        ),
        (["--out", "encoder.safetensors/out.json"], "expected a folder that can be written to, got"),
        (["--out", "ONE_CLASS"], "argument --out: expected a file, got the folder "),
        (["--data", "nowhere"], "nowhere: expected a known set"),
        (["--data", "ONE_CLASS"], "linear evaluation needs labels of at least 2 classes"),
        (["--data", "FLAT"], "linear evaluation needs labels of at least 1 classes"),
        (["--data", "CLASS_OF_ONE"], "linear evaluation needs at least 2 images of each class; "),
        (["--data", "CLASS_OF_ONE"], " has 1 of lonely"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_users_mistake_gets_one_line_and_status_2(
    arguments: list[str], message: str, run_folder: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    for name in (
        "ONE_CLASS/train/a/1.png",
        "ONE_CLASS/train/a/2.png",
        "ONE_CLASS/val/a/3.png",
        "ONE_CLASS/val/a/4.png",
        "FLAT/train/1.png",
        "FLAT/train/2.png",
        "FLAT/val/3.png",
        "FLAT/val/4.png",
        "CLASS_OF_ONE/train/a/1.png",
        "CLASS_OF_ONE/train/a/2.png",
        "CLASS_OF_ONE/train/lonely/3.png",
        "CLASS_OF_ONE/val/a/4.png",
        "CLASS_OF_ONE/val/a/5.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    folder = run_folder()
    given = [str(tmp_path / text) if (tmp_path / text).exists() else text for text in arguments]
    given = [text.replace("encoder", f"{folder}/encoder") for text in given]
    try:
        status = evaluate.main([str(folder), *given])
    except SystemExit as exit_:
        status = exit_.code  # type: ignore[assignment]
    assert status == 2
    printed = capsys.readouterr()
    assert message in printed.err
    *found, last = printed.err.splitlines()
    assert last.startswith("python -m experiments.evaluate: error: ")
    assert all(" images in " in line for line in found), "only what lies in the folders is said before"
    assert [path.name for path in folder.iterdir()] == ["encoder.safetensors"]


def test_help_explains_every_option(capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        evaluate.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for option in ("CHECKPOINT", "--data", "--hold-out", "--views", "--learning-rates", "--k", "--seed", "--out"):
        assert option in text


def test_a_collapse_is_said(
    make_pretrained: Callable[..., Pretrained], digit_folders: MakeFolder, judged: Any, tmp_path: Path, capsys: Any
) -> None:
    assert "COLLAPSED" not in judged[2]
    assert judged[1]["collapsed"] is False
    pretrained = make_pretrained(size=16)
    projector: Any = pretrained.pair.model.encoder.projector
    projector[-2].weight.data.zero_()  # the output no longer depends on the image
    projector[-1].running_mean.fill_(-1)
    save_pretrained(pretrained.pair, pretrained.config, tmp_path / "flat.safetensors")
    assert (
        run(
            tmp_path / "flat.safetensors",
            "--data",
            digit_folders(classes=2, train=10, val=4),
            "--out",
            tmp_path / "out.json",
        )
        == 0
    )
    assert "COLLAPSED: the outputs are nearly the same for all images" in capsys.readouterr().out
    assert read(tmp_path / "out.json")["collapsed"] is True


def test_a_models_file_does_not_choose_where_is_written(
    run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path
) -> None:
    cache = tmp_path / "chosen by the file"
    folder = run_folder(cache=str(cache))
    images = digit_folders(classes=2, train=10, val=4)
    assert run(folder, "--data", images, "--out", tmp_path / "out.json") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert run(folder, "--data", images, "--out", tmp_path / "out.json", "--cache", tmp_path / "mine") == 0
    assert (tmp_path / "mine").is_dir()
    assert not cache.exists()
