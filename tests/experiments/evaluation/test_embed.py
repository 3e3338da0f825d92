"""`python -m experiments.embed`: the numbers, the file, the contact sheet, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from experiments import embed
from experiments.evaluation import embedding, encoding
from experiments.evaluation import embedding_files as files
from experiments.figures import contact_sheet_figure
from experiments.images.augmentations.batched import sample_center_view
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.errors import BrokenImageError
from experiments.pretraining.export import EXPORTED, Pretrained, load_pretrained, save_pretrained
from inference.judging.representation import embed as embed_batch

MakeFolder = Callable[..., Path]


def center_views(paths: list[Path], channels: int = 1) -> Tensor:
    recipe = ViewRecipe(16, mean=(0.5,) * channels, std=(0.25,) * channels)
    return torch.stack([sample_center_view(Image.open(path), recipe) for path in paths])


def run(*arguments: object) -> int:
    few = [] if "--shown" in arguments else ["--shown", "2"]  # drawing takes longest
    return embed.main([*map(str, arguments), *few, "--threads", "2", "--device", "cpu"])


@pytest.fixture
def folder(digit_folders: MakeFolder) -> Path:
    return digit_folders(classes=3, train=10, val=4)


@pytest.mark.parametrize("form", ["npz", "parquet"])
@pytest.mark.parametrize("batch", [4, 100])
def test_the_file_holds_what_the_network_says_of_the_middle_of_each_image(
    form: str, batch: int, folder: Path, run_folder: MakeFolder, tmp_path: Path
) -> None:
    checkpoint = run_folder()
    assert run(checkpoint, folder, "--out", tmp_path / f"out.{form}", "--encode-batch", batch) == 0
    found = read_rows(tmp_path / f"out.{form}")
    paths = sorted(folder.rglob("*.png"))
    assert found["file"] == [path.relative_to(folder).as_posix() for path in paths]
    assert len(paths) == 42
    expected = embed_batch(load_pretrained(checkpoint).pair, center_views(paths))
    for name in ("features", "mean_direction", "concentration"):
        torch.testing.assert_close(torch.from_numpy(found[name]), getattr(expected, name), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found["mean_direction"], axis=1), 1, atol=1e-5)
    assert found["about"]["config"] == load_pretrained(checkpoint).config.to_dict()
    assert found["about"]["versions"]["torch"] == torch.__version__


def read_rows(path: Path) -> dict[str, Any]:
    if path.suffix == ".npz":
        with np.load(path) as archive:
            found = dict(archive)
        return {**found, "file": found["file"].tolist(), "about": json.loads(str(found["about"]))}
    import pyarrow.parquet as pq  # noqa: PLC0415

    table = pq.read_table(path)
    return {
        "file": table["file"].to_pylist(),
        "features": np.array(table["features"].to_pylist(), dtype=np.float32),
        "mean_direction": np.array(table["mean_direction"].to_pylist(), dtype=np.float32),
        "concentration": np.array(table["concentration"].to_pylist(), dtype=np.float32),
        "about": json.loads(table.schema.metadata[b"about"]),
    }


def watch_drawing(patch: pytest.MonkeyPatch) -> list[Any]:
    """What the contact sheet is drawn of."""
    drawn: list[Any] = []

    def draw(*groups: Any) -> Any:
        drawn.append(groups)
        return contact_sheet_figure(*groups)

    patch.setattr(embedding, "contact_sheet_figure", draw)
    return drawn


def test_the_contact_sheet_shows_the_lowest_and_the_highest_concentrations_in_order(
    folder: Path, run_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    drawn = watch_drawing(monkeypatch)
    assert run(run_folder(), folder, "--out", tmp_path / "out.npz", "--shown", 5) == 0
    found = read_rows(tmp_path / "out.npz")
    order = np.argsort(found["concentration"])
    least, most, _ = drawn[0]
    assert [tile.name for tile in least] == [found["file"][number] for number in order[:5]]
    assert [tile.name for tile in most] == [found["file"][number] for number in order[::-1][:5]]
    assert [tile.concentration for tile in most] == pytest.approx(np.sort(found["concentration"])[::-1][:5].tolist())
    shown = center_views([folder / tile.name for tile in least]) * 0.25 + 0.5
    torch.testing.assert_close(torch.stack([tile.image for tile in least]), shown.clamp(0, 1), atol=1e-6, rtol=0)
    with Image.open(tmp_path / "out_contact_sheet.png") as image:
        assert image.width > 800
    printed = capsys.readouterr().out
    assert f"Saved {tmp_path / 'out.npz'}" in printed
    assert "out_contact_sheet.png" in printed
    assert "κ: 0% " in printed


def test_no_image_is_shown_at_both_ends(digit_folders: MakeFolder, run_folder: MakeFolder, tmp_path: Path) -> None:
    folder = digit_folders(classes=1, train=3, val=0, parts=False)
    with pytest.MonkeyPatch.context() as patch:
        drawn = watch_drawing(patch)
        assert run(run_folder(), folder, "--out", tmp_path / "out.npz", "--shown", 9) == 0
    least, most, _ = drawn[0]
    assert (len(least), len(most)) == (2, 1)
    assert not {tile.name for tile in least} & {tile.name for tile in most}


@pytest.mark.parametrize(("method", "kappa"), [("simsiam", 1.0), ("byol", 1.0), ("constant", 7.0)])
def test_a_constant_concentration_gets_no_ranking_and_an_older_sheet_goes(
    method: str, kappa: float, folder: Path, run_folder: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "out_contact_sheet.png").write_bytes(b"of another network")
    assert run(run_folder(method), folder, "--out", tmp_path / "out.npz") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]
    assert set(read_rows(tmp_path / "out.npz")["concentration"].tolist()) == {kappa}
    printed = capsys.readouterr().out
    name = "vi_simsiam" if method == "constant" else method
    assert f"No contact sheet: κ is a constant of {name} (κ = {kappa:.2f}), so there is no ranking." in printed


def test_one_image_is_embedded_without_a_ranking(
    digit_folders: MakeFolder, run_folder: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    folder = digit_folders(classes=1, train=1, val=0, parts=False)
    assert run(run_folder(), folder, "--out", tmp_path / "out.parquet") == 0
    assert len(read_rows(tmp_path / "out.parquet")["file"]) == 1
    assert "No contact sheet: there is one image" in capsys.readouterr().out


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_shown_to_the_network_in_the_mode_that_it_takes(
    channels: int, run_folder: MakeFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    colours = np.random.default_rng(0).integers(0, 256, (20, 17, 3), dtype=np.uint8)
    Image.fromarray(colours).save(folder / "colour.png")
    Image.fromarray(colours[:, :, 0]).save(folder / "grey.png")
    checkpoint = run_folder(channels=channels)
    assert run(checkpoint, folder, "--out", tmp_path / "out.npz") == 0
    expected = embed_batch(load_pretrained(checkpoint).pair, center_views(sorted(folder.iterdir()), channels))
    found = read_rows(tmp_path / "out.npz")["concentration"]
    torch.testing.assert_close(torch.from_numpy(found), expected.concentration, rtol=1e-4, atol=1e-5)


@pytest.fixture
def with_broken(folder: Path) -> Path:
    copy = folder.parent / f"{folder.name} with broken"
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    for name in ("train/class 1/1_000.png", "val/class 2/2_010.png"):
        (copy / name).write_bytes((folder / name).read_bytes()[:60])
    return copy


def test_broken_images_stop_with_a_list_and_write_nothing(
    with_broken: Path, run_folder: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    assert run(run_folder(), with_broken, "--out", tmp_path / "out.npz") == 2
    error = capsys.readouterr().err
    assert "2 of 42 images cannot be read" in error
    assert "1_000.png" in error
    assert "2_010.png" in error
    assert "--skip-broken" in error
    assert list(tmp_path.iterdir()) == []


def test_broken_images_are_left_out_on_request(with_broken: Path, run_folder: MakeFolder, tmp_path: Path) -> None:
    assert run(run_folder(), with_broken, "--out", tmp_path / "out.npz", "--skip-broken") == 0
    names = read_rows(tmp_path / "out.npz")["file"]
    assert len(names) == 40
    assert not {"train/class 1/1_000.png", "val/class 2/2_010.png"} & set(names)


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_a_run_that_fails_midway_leaves_the_file_of_the_last_one_and_nothing_else(
    form: str, folder: Path, run_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out, checkpoint = tmp_path / f"out.{form}", run_folder("simsiam")
    assert run(checkpoint, folder, "--out", out) == 0
    before = out.read_bytes()
    center_view = encoding.center_view

    def breaks(images: Any, index: int, config: Any) -> Tensor:
        assert out.read_bytes() == before  # the name is never a half-written file's
        if index == 40:  # when 32 images are through: threads take them by 32
            raise BrokenImageError("gone.png: No such file")
        return center_view(images, index, config)

    monkeypatch.setattr(encoding, "center_view", breaks)
    assert run(checkpoint, folder, "--out", out, "--encode-batch", 8) == 2
    assert "error: gone.png: No such file" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_no_contact_sheet_is_put_among_the_images(folder: Path, run_folder: MakeFolder, capsys: Any) -> None:
    assert run(run_folder(), folder, "--out", folder / "train" / "out.npz") == 2
    assert f"argument --out: expected a file outside of {folder}, which" in capsys.readouterr().err
    assert not [*folder.rglob("out*")]


def test_a_diverged_network_is_named_instead_of_writing_nan(
    folder: Path, make_pretrained: Callable[..., Pretrained], tmp_path: Path, capsys: Any
) -> None:
    pretrained = make_pretrained()
    next(pretrained.pair.model.encoder.parameters()).data.fill_(3e38)
    save_pretrained(pretrained.pair, pretrained.config, tmp_path / "bad.safetensors")
    assert run(tmp_path / "bad.safetensors", folder, "--out", tmp_path / "out.npz") == 2
    place = folder / "train/class 0/0_000.png"
    assert (
        f"the network gives NaN or infinity, first near {place}: its training has diverged" in capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.safetensors"]


def test_names_in_any_script_and_with_dollars_are_kept_and_drawn(
    run_folder: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    names = ["$1_{x.png", "é ü.png", "图.png", "a\nb.png", "long " * 20 + ".png"]
    for number, name in enumerate(names):
        Image.fromarray(np.full((20, 20), 40 * number, dtype=np.uint8)).save(folder / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(run_folder(), folder, "--out", tmp_path / "out.parquet", "--shown", 9) == 0
    assert sorted(read_rows(tmp_path / "out.parquet")["file"]) == sorted(names)
    assert "contact_sheet" in capsys.readouterr().out


def test_a_folder_called_like_a_set_is_that_folder(
    folder: Path, run_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "val", tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert run(run_folder(), "digits", "--out", "out.npz") == 0
    assert len(read_rows(tmp_path / "out.npz")["file"]) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": "out.csv"}, "argument --out: expected a file that ends in .parquet or .npz, got "),
        ({"out": "taken.npz"}, "argument --out: expected a file, got the folder "),
        ({"folder": "nowhere"}, "nowhere"),
        ({"folder": "empty"}, "expected images"),
        ({"checkpoint": "nowhere"}, "does not exist: give the folder of a run, a .ckpt or a .safetensors file"),
        ({"checkpoint": "empty"}, f"holds neither {EXPORTED} nor checkpoints/last.ckpt"),
        ({"checkpoint": "text.safetensors"}, "is damaged or not a safetensors file"),
        ({"checkpoint": "text.ckpt"}, "is damaged or foreign"),
        (
            {"device": "cuda:77"},
            "argument --device: expected a device that is there and computes in float32, such as cpu, got 'cuda:77'",
        ),
        (
            {"device": "tpu"},
            "argument --device: expected a device that is there and computes in float32, such as cpu, got 'tpu'",
        ),
    ],
    ids=lambda value: "_".join(value.values()) if isinstance(value, dict) else "",
)
def test_a_users_mistake_gets_one_line_and_status_2(
    change: dict[str, str], message: str, folder: Path, run_folder: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    for name in ("empty", "taken.npz"):
        (tmp_path / name).mkdir()
    for name in ("text.safetensors", "text.ckpt"):
        (tmp_path / name).write_text("not what it is called")
    given: dict[str, Any] = {"checkpoint": run_folder(), "folder": folder, "out": "out.npz", "device": "cpu"}
    given.update({name: value if name == "device" else tmp_path / value for name, value in change.items()})
    arguments = [str(given["checkpoint"]), str(given["folder"]), "--out", str(tmp_path / given["out"])]
    before = sorted(tmp_path.iterdir())
    try:
        status = embed.main([*arguments, "--device", str(given["device"])])
    except SystemExit as exit_:
        status = exit_.code  # type: ignore[assignment]
    assert status == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.startswith("python -m experiments.embed: error: ")
    assert printed.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_names_that_are_no_text_stay_apart(run_folder: MakeFolder, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in (b"caf\xe8.png", b"caf\xe9.png"):
        Image.new("L", (20, 20)).save(folder / "a.png")
        (folder / "a.png").rename(folder / os.fsdecode(name))
    assert run(run_folder(), folder, "--out", tmp_path / "out.npz") == 0
    assert sorted(read_rows(tmp_path / "out.npz")["file"]) == ["caf\\xe8.png", "caf\\xe9.png"]


def test_a_folder_that_cannot_be_written_to_is_named_before_the_work(
    folder: Path, run_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(files, "write_embeddings", pytest.fail)
    assert run(run_folder(), folder, "--out", tmp_path / "file" / "out.npz") == 2
    assert capsys.readouterr().err.count("error: ") == 1
