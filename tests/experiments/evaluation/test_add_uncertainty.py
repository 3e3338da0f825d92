"""`python -m experiments.add_uncertainty`: encoders of every kind, the report, and what is refused."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import squeezenet1_1

from experiments import add_uncertainty, embed, evaluate, figure4, uncertainty
from experiments.evaluation import encoders
from experiments.evaluation import view_features as module
from experiments.evaluation.encoders import load_added, load_encoder
from experiments.images.randomness import derived_generator
from experiments.pretraining.building import build_pair
from experiments.pretraining.configuration import BackboneConfig, MethodConfig, PretrainConfig, ViewsConfig
from experiments.pretraining.export import load_pretrained, save_pretrained
from experiments.records.record import Record
from inference.fitting.checkpointing import CheckpointError
from inference.judging.calibration import power_spherical_likelihood_gain
from models.frozen_encoder import FrozenEncoderPair

arrow: Any = pa  # its names come from a compiled module
MakeFolder = Callable[..., Path]
FEW = ("--dim", "4", "--hidden", "16", "--epochs", "3", "--device", "cpu", "--threads", "2", "--judged", "6")


def run(*arguments: object) -> int:
    return add_uncertainty.main([*FEW, *map(str, arguments)])


@pytest.fixture(scope="module")
def added(run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An uncertainty for an encoder of this project: the file, the encoder, the images, what was printed."""
    encoder, images = run_folder("simsiam", channels=3), digit_folders(classes=3, train=12, val=6)
    out = tmp_path_factory.mktemp("added") / "mine.safetensors"
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *parts, **_: printed.append(" ".join(map(str, parts))))
        assert run(encoder, images, "--out", out) == 0
    return out, encoder, images, "\n".join(printed)


def test_the_report_has_gain_calibration_degradations_and_the_figure(added: Any) -> None:
    out, _, _, printed = added
    record = Record.load(out.with_name("mine.json"))
    worth, calibration, degraded = record.tables
    assert worth.rows["nats per dimension gained over one κ for all"]["held-out items"].value is not None
    assert sum(int(cells["items"].text) for cells in calibration.rows.values()) == 18
    assert set(degraded.rows) == {"blur", "noise", "occlusion", "crop", "down-scaling"}
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert (out.with_name("mine.md")).exists()
    assert "36 images to fit to, 18 to judge on, 4 views of each" in printed
    for table in record.tables:
        assert table.title in printed


def test_the_numbers_are_those_of_the_features_on_disk(added: Any) -> None:
    out, encoder, _, _ = added
    kept = {part: torch.from_numpy(np.load(out.with_suffix(".features") / part / "features.npy")) for part in
            ("train", "held_out")}  # fmt: skip
    assert kept["train"].shape[:2] == (36, 4)
    pair, config = load_added(out)
    assert config is not None
    backbone = load_pretrained(encoder).pair.model.encoder.get_submodule("backbone").state_dict()
    assert all(torch.equal(tensor, pair.model.encoder.get_submodule("backbone").state_dict()[name])
               for name, tensor in backbone.items())  # fmt: skip
    held_out = kept["held_out"].movedim(0, 1)
    expert = pair.expert(held_out[0])
    target = pair.guide.network.get_submodule("projector")(held_out[1])
    cosine = (expert.mean_direction * target).sum(-1)
    worth, calibration, _ = Record.load(out.with_name("mine.json")).tables
    gain = power_spherical_likelihood_gain(4, expert.concentration, cosine.clamp(-1, 1))
    assert worth.rows["nats per dimension gained over one κ for all"]["held-out items"].value == pytest.approx(
        gain, abs=1e-5
    )
    seen = [cells["seen"].value for cells in calibration.rows.values()]
    weights = [int(cells["items"].text) for cells in calibration.rows.values()]
    assert np.average(seen, weights=weights) == pytest.approx(float(cosine.mean()), abs=1e-5)  # type: ignore[arg-type]


def test_embed_evaluate_uncertainty_and_figure4_take_it(added: Any, tmp_path: Path, capsys: Any) -> None:
    out, encoder, images, _ = added
    common = ("--device", "cpu", "--threads", "2")
    assert embed.main([str(out), str(images), "--out", str(tmp_path / "rows.npz"), *common, "--shown", "2"]) == 0
    assert embed.main([str(encoder), str(images), "--out", str(tmp_path / "own.npz"), *common]) == 0
    with np.load(tmp_path / "rows.npz") as rows, np.load(tmp_path / "own.npz") as own:
        assert np.array_equal(rows["features"], own["features"])  # the encoder's own, with κ beside them
        assert rows["mean_direction"].shape == (54, 4)
        assert len(np.unique(rows["concentration"])) > 40
    assert "an uncertainty that was added to small_convolutional" in capsys.readouterr().out
    assert evaluate.main([str(out), "--epochs", "2", "--out", str(tmp_path / "e.json"), *common]) == 0
    given = [str(out), "--images", "8", "--resamples", "2", "--out", str(tmp_path), *common]
    assert uncertainty.main(given) == 0
    assert figure4.main([str(out), "--out", str(tmp_path), *common, "--columns", "3"]) == 0


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_another_encoder_begins_anew(
    run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, images = run_folder("simsiam"), digit_folders(classes=2, train=20, val=6)
    computed: list[int] = []

    def count(*key: int) -> torch.Generator:
        computed.append(key[2])
        if len(computed) == stop:
            raise OSError("stopped")
        return derived_generator(*key)

    monkeypatch.setattr(module, "derived_generator", count)
    given = (encoder, images, "--encode-batch", 16, "--views", 2, "--threads", 1)
    stop = 9  # 52 images in batches of 8, each with a generator for either view
    assert run(*given, "--out", tmp_path / "a.safetensors") == 2
    stop = 0
    computed.clear()
    assert run(*given, "--out", tmp_path / "a.safetensors") == 0
    assert len(computed) == 2 * 3
    computed.clear()
    assert run(*given, "--out", tmp_path / "b.safetensors") == 0
    assert len(computed) == 2 * 7
    read = [np.load(tmp_path / f"{name}.features" / "train" / "features.npy") for name in ("a", "b")]
    np.testing.assert_allclose(read[0], read[1], rtol=1e-5, atol=1e-6)
    computed.clear()
    assert run(*given, "--out", tmp_path / "b.safetensors") == 0
    assert computed == []
    other = run_folder("vi_simsiam", size=18)
    assert run(other, *given[1:], "--out", tmp_path / "b.safetensors") == 0
    assert len(computed) == 2 * 7


def test_a_start_that_breaks_off_leaves_no_features_that_pass_for_those_of_before(
    run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (run_folder("simsiam"), digit_folders(classes=2, train=20, val=6), "--out", tmp_path / "a.safetensors")
    file = tmp_path / "a.features" / "train" / "features.npy"
    assert run(*given) == 0
    before = np.load(file)

    def no_room(*_: object) -> None:
        raise OSError("no room")

    with monkeypatch.context() as full:
        full.setattr(module, "replace_text", no_room)  # when other views' first features are written already
        assert run(*given, "--seed", 1) == 2
    assert not np.array_equal(np.load(file), before)
    assert run(*given) == 0
    assert np.array_equal(np.load(file), before)


@pytest.mark.parametrize("name", ["features.npy", "about.json"])
def test_kept_features_that_were_cut_off_are_computed_anew(
    name: str, run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path
) -> None:
    given = (run_folder("simsiam"), digit_folders(classes=2, train=20, val=6), "--out", tmp_path / "a.safetensors")
    assert run(*given) == 0
    file = tmp_path / "a.features" / "train" / name
    whole = file.read_bytes()
    for left in (len(whole) - 4, 60, 0):
        file.write_bytes(whole[:left])
        assert run(*given) == 0
        assert file.read_bytes() == whole


def test_two_commands_do_not_write_the_same_features(
    run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def held(*_: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(fcntl, "lockf", held)
    assert (
        run(run_folder("simsiam"), digit_folders(classes=2, train=20, val=6), "--out", tmp_path / "a.safetensors") == 2
    )
    assert "a.features/train is in use by another command" in capsys.readouterr().err


@pytest.mark.parametrize("names", ["own", "foreign"])
def test_a_model_of_timm_takes_weights_from_a_file_whatever_it_calls_them(
    names: str, digit_folders: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    images = digit_folders(classes=2, train=8, val=0, parts=False)
    torch.manual_seed(0)
    state = timm.create_model("test_resnet").state_dict()
    if names == "foreign":
        state = {f"net/{number}.{name.rpartition('.')[2]}": tensor for number, (name, tensor) in
                 enumerate(state.items())}  # fmt: skip
    torch.save(state, tmp_path / "weights.pth")
    out = tmp_path / "out.safetensors"
    given = ("timm:test_resnet", images, "--weights", tmp_path / "weights.pth", "--size", 32, "--views", 2)
    assert run(*given, "--out", out) == 0
    printed = capsys.readouterr().out
    assert ("taken in order" in printed) is (names == "foreign")
    assert "Not used of the file: " in printed  # the classifier
    backbone = load_encoder(out).pair.model.encoder.get_submodule("backbone").state_dict()
    for found, given_tensor in zip(backbone.values(), state.values(), strict=False):
        assert torch.equal(found, given_tensor)
    published = timm.get_pretrained_cfg("test_resnet")
    assert published is not None
    assert load_encoder(out).config.views.mean == published.mean


def features_file(path: Path, *, items: int = 40, views: int = 3, change: Any = None) -> Path:
    generator = np.random.default_rng(0)
    shared = np.repeat(generator.normal(size=(items, 6)), views, 0)
    table: dict[str, Any] = {
        "item": np.array([f"text {n // views}" for n in range(items * views)]),
        "view": np.tile(np.arange(views), items),
        "vector": (shared + 0.3 * generator.normal(size=shared.shape)).astype(np.float32),
    }
    order = generator.permutation(items * views)
    table = {name: column[order] for name, column in table.items()}
    table = table if change is None else change(table)
    if path.suffix == ".npz":
        np.savez(path, **table)
    else:
        pq.write_table(arrow.table({**table, "vector": list(table["vector"])}), path)
    return path


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_features_from_a_file_need_no_encoder_and_no_images(form: str, tmp_path: Path, capsys: Any) -> None:
    file, out = features_file(tmp_path / f"texts.{form}"), tmp_path / "texts.safetensors"
    assert run("--features", file, "--out", out) == 0
    assert "Items of lowest and highest κ" in capsys.readouterr().out
    features, names = module.read_features(file)
    assert features.shape == (3, 40, 6)
    assert names == sorted(f"text {n}" for n in range(40))
    spread = features.std(0).mean() / features.mean(0).std()
    assert spread < 0.6  # the rows of one item are together
    pair, config = load_added(out)
    assert config is None
    assert isinstance(pair, FrozenEncoderPair)
    concentration: Tensor = pair.expert(features[0]).concentration
    assert concentration.shape == (40,)
    for applied in (tmp_path / "applied.npz", tmp_path / "applied.parquet"):
        assert embed.main([str(out), "--features", str(file), "--out", str(applied)]) == 0
        found = np.load(applied) if applied.suffix == ".npz" else pq.read_table(applied).to_pydict()
        pairs = zip(found["item"], found["view"], strict=True)
        rows = {(str(item), int(view)): row for row, (item, view) in enumerate(pairs)}
        for view in range(3):
            expert = pair.expert(features[view])
            here = [rows[name, view] for name in names]
            np.testing.assert_allclose(np.array(found["concentration"])[here], expert.concentration, rtol=1e-5)
            promised = np.array(found["mean_resultant_length"])[here]
            np.testing.assert_allclose(promised, expert.mean_resultant_length, rtol=1e-5)
    given = [str(out), "--features", str(file), "--out", str(tmp_path / "x.npz")]
    assert embed.main([*given, "--device", "none"]) == 2
    assert "none" in capsys.readouterr().err
    assert embed.main([str(out), str(tmp_path), "--out", str(tmp_path / "x.npz")]) == 2
    assert "was fitted to features from a file and has no encoder" in capsys.readouterr().err


def test_no_figure_is_put_among_the_images(run_folder: MakeFolder, digit_folders: MakeFolder, capsys: Any) -> None:
    images = digit_folders(classes=2, train=8, val=2)
    assert run(run_folder("simsiam"), images, "--out", images / "a.safetensors") == 2
    assert f"argument --out: expected a file outside of {images}, which" in capsys.readouterr().err
    assert not [*images.glob("a*")]


def test_a_report_is_called_as_its_file_is(tmp_path: Path) -> None:
    features = features_file(tmp_path / "texts.npz")
    names = ("head_1", "head-1", "Head 1.2")
    for name in names:
        assert run("--features", features, "--out", tmp_path / f"{name}.safetensors") == 0
    for name in names:
        assert f"{name}.safetensors" in Record.load(tmp_path / f"{name}.json").command
        assert (tmp_path / f"{name}.md").exists()


def missing(table: dict[str, Any]) -> dict[str, Any]:
    return {name: column[1:] for name, column in table.items()}


def twice(table: dict[str, Any]) -> dict[str, Any]:
    return {name: np.concatenate([column, column]) for name, column in table.items()}


def without_items(table: dict[str, Any]) -> dict[str, Any]:
    return {name: column for name, column in table.items() if name != "item"}


def with_nan(table: dict[str, Any]) -> dict[str, Any]:
    table["vector"][5, 2] = np.nan
    return table


def without_a_view(table: dict[str, Any]) -> dict[str, Any]:
    return {**table, "view": [None, *table["view"].tolist()[1:]]}


def with_columns(table: dict[str, Any]) -> dict[str, Any]:
    return {**table, "item": table["item"][:, None]}


def with_complex(table: dict[str, Any]) -> dict[str, Any]:
    return {**table, "vector": table["vector"] * 1j}


def with_words(table: dict[str, Any]) -> dict[str, Any]:
    return {**table, "vector": table["vector"].astype(str)[:, :1] + "?"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "WORDS"], "words.npz cannot be read, or has no item, view and vector: could not convert"),
        (["--features", "COMPLEX"], "complex.npz cannot be read, or has no item, view and vector: vector is complex"),
        (["--features", "NOVIEW"], "noview.parquet cannot be read, or has no item, view and vector: view is empty"),
        (["--features", "COLUMNS"], r"columns.npz must have as many .*; got items of shape \(\d+, 1\), views of "),
        (["--features", "MISSING"], "must have the same number of views of each item, at least 2, got 2 of 'text"),
        (["--features", "TWICE"], r"must have each view of an item once, got view 0 of 'text 0' twice"),
        (["timm:resnet18", "--features", "NAN"], "ENCODER says nothing beside --features"),
        (["--views", "7", "--features", "NAN"], "--views says nothing beside --features"),
        (["--features", "NOITEM"], "has no item, view and vector"),
        (["--features", "NAN"], "features must be finite"),
        (["--features", "TEXT"], "must end in .npz or .parquet"),
        (["--features", "nowhere.npz"], "cannot be read"),
        (["ENCODER"], "one of the arguments FOLDER --features is required"),
        (["ENCODER", "IMAGES", "--features", "NAN"], "argument --features: not allowed with argument FOLDER"),
        (["timm:resnet18", "IMAGES"], "timm:resnet18 needs --weights FILE, its state dict: nothing is downloaded"),
        (["timm:resnet18", "IMAGES", "--weights", "SQUEEZE"], "does not hold the weights of this model: bn1.bias and"),
        (["timm:no_such_net", "IMAGES", "--weights", "SQUEEZE"], "must be a model of torchvision or timm"),
        (["timm:resnet18", "IMAGES", "--weights", "PICKLE"], "holds more than tensors, which could run code"),
        (["timm:resnet18", "IMAGES", "--weights", "TEXT"], "cannot be read as a state dict|holds more than tensors"),
        (["ENCODER", "IMAGES", "--weights", "SQUEEZE"], "--weights belongs to timm:NAME or torchvision:NAME"),
        (["nowhere", "IMAGES"], "nowhere does not exist"),
        (["ENCODER", "nowhere"], "nowhere"),
        (["ENCODER", "IMAGES", "--dim", "200"], "dim must lie between 2 and the width of the features, 128, got 200"),
        (["ENCODER", "IMAGES", "--dim", "100"], "features must be of more items than dim, 100, got"),
        (["ENCODER", "IMAGES", "--out", "x.npz"], "argument --out: expected a file that ends in .safetensors"),
        (["ENCODER", "IMAGES", "--hold-out", "1"], "argument --hold-out: expected a number between 0 and 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_users_mistake_gets_one_line_and_status_2(
    arguments: list[str], message: str, run_folder: MakeFolder, digit_folders: MakeFolder, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "text").write_text("nothing")
    torch.save(squeezenet1_1().state_dict(), tmp_path / "squeeze.pth")
    torch.save({"weight": Path("x")}, tmp_path / "pickle.pth")
    made = {
        "MISSING": lambda: features_file(tmp_path / "m.npz", change=missing),
        "TWICE": lambda: features_file(tmp_path / "t.npz", change=twice),
        "NOITEM": lambda: features_file(tmp_path / "n.npz", change=without_items),
        "COMPLEX": lambda: features_file(tmp_path / "complex.npz", change=with_complex),
        "NOVIEW": lambda: features_file(tmp_path / "noview.parquet", change=without_a_view),
        "COLUMNS": lambda: features_file(tmp_path / "columns.npz", change=with_columns),
        "WORDS": lambda: features_file(tmp_path / "words.npz", change=with_words),
        "NAN": lambda: features_file(tmp_path / "nan.npz", change=with_nan),
        "TEXT": lambda: tmp_path / "text",
        "SQUEEZE": lambda: tmp_path / "squeeze.pth",
        "PICKLE": lambda: tmp_path / "pickle.pth",
        "ENCODER": lambda: run_folder("simsiam"),
        "IMAGES": lambda: digit_folders(classes=2, train=8, val=2),
    }
    given = [str(made[text]()) if text in made else text for text in arguments]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "out.safetensors")]
    if "--dim" not in given:
        given += ["--dim", "4"]
    try:
        status = add_uncertainty.main([*given, "--device", "cpu", "--threads", "2", "--epochs", "1"])
    except SystemExit as exit_:
        status = exit_.code  # type: ignore[assignment]
    error = capsys.readouterr().err
    assert status == 2
    assert re.search(message, error)
    assert error.splitlines()[-1].startswith("python -m experiments.add_uncertainty: error: ")
    assert "Traceback" not in error
    assert not (tmp_path / "out.safetensors").exists()
    assert not (tmp_path / "out.features").exists()  # said before an hour of computing


def test_a_flipped_bit_is_noticed(added: Any, tmp_path: Path) -> None:
    whole = added[0].read_bytes()
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        place, bit = (int(torch.randint(limit, (), generator=generator)) for limit in (len(whole), 8))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path = tmp_path / "damaged.safetensors"
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_added(path)
    with pytest.raises(CheckpointError, match=r"is no file: expected what experiments\.add_uncertainty wrote"):
        load_added(tmp_path)


def _damaged(content: bytes) -> Iterator[bytes]:
    """The content cut off in many places, and with eight bytes in many places exchanged."""
    for place in range(0, len(content), max(1, len(content) // 40)):
        yield content[:place]
        yield content[:place] + bytes(255 - byte for byte in content[place : place + 8]) + content[place + 8 :]


@pytest.mark.parametrize("ending", [".npz", ".parquet", ".pth", ".safetensors"])
def test_a_damaged_file_is_named_wherever_it_is_damaged(ending: str, tmp_path: Path) -> None:
    file, numbers = tmp_path / f"a{ending}", np.random.default_rng(0).random((40, 8), dtype=np.float32)
    columns: dict[str, Any] = {"item": np.repeat(np.arange(20), 2), "view": np.tile([0, 1], 20)}
    read: Callable[[Path], object] = module.read_features
    if ending == ".npz":
        np.savez_compressed(file, **columns, vector=numbers)
    elif ending == ".parquet":
        pq.write_table(arrow.table({**columns, "vector": list(numbers)}), file)
    else:
        read = encoders._read_state
        save = torch.save if ending == ".pth" else save_file
        save({"weight": torch.from_numpy(numbers)}, file)
    refused = []
    for content in _damaged(file.read_bytes()):
        file.write_bytes(content)
        try:
            read(file)  # bytes of numbers may be others unnoticed
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 40
    assert all(str(file) in message for message in refused)


@pytest.mark.parametrize(
    ("name", "was", "size"), [("resnet18", 32, 96), ("resnet18", 96, 32), ("mobilenet_v3_small", 32, 64)]
)
def test_a_network_that_is_given_views_of_another_size_is_read_again(
    name: str, was: int, size: int, tmp_path: Path
) -> None:
    config = PretrainConfig(
        views=ViewsConfig(size=was, local_views=0), backbone=BackboneConfig(name), method=MethodConfig(dim=4, hidden=8)
    )
    save_pretrained(build_pair(config), config, tmp_path / "encoder.safetensors")
    opened = encoders.open_frozen_encoder(str(tmp_path), None, size=size, data="images")
    views = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = opened.network(views)
    pair = FrozenEncoderPair.of(torch.randn(2, 12, features.size(1)), dim=4, hidden=8).with_encoder(opened.network)
    encoders.save_added(pair, opened.config, tmp_path / "added.safetensors")
    again = load_encoder(tmp_path / "added.safetensors")
    assert again.config.views.size == size
    with torch.no_grad():
        torch.testing.assert_close(again.pair.model.encoder.get_submodule("backbone")(views), features)


def test_a_network_that_takes_one_size_alone_is_refused_another(tmp_path: Path) -> None:
    config = PretrainConfig(
        views=ViewsConfig(size=64, local_views=0),
        backbone=BackboneConfig("timm/vit_tiny_patch16_224"),
        method=MethodConfig(dim=4, hidden=8),
    )
    save_pretrained(build_pair(config), config, tmp_path / "encoder.safetensors")
    with pytest.raises(ValueError, match=r"--size 96: timm/vit_tiny\S+ was built for views of 64 pixels and takes no"):
        encoders.open_frozen_encoder(str(tmp_path), None, size=96, data="images")
