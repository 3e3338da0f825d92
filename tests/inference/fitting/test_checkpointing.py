from __future__ import annotations

import json
import os
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.fitting.checkpointing import (
    CheckpointError,
    load_checkpoint,
    replace_file,
    replace_text,
    save_checkpoint,
)

FORM = "test/1"


def content(step: int = 1) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(step)
    return {
        "step": step,
        "name": "ψ",
        "nothing": None,
        "rate": 0.1,
        "weights": {
            "float": torch.randn(3, 4, generator=draw),
            "strided": torch.randn(3, 4, generator=draw).T,
            "half": torch.randn(5, generator=draw).bfloat16(),
            "empty": torch.zeros(0, 2),
            "count": torch.tensor(step),
        },
        "optimizer": {0: {"momentum_buffer": torch.ones(2)}, 1: {"momentum_buffer": None}},
        "pending": [[1, 0.5, float("inf")]],
    }


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[name], second[name]) for name in first)
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    return bool(first == second)


def test_what_was_saved_is_loaded_and_nothing_else_lies_around(tmp_path: Path) -> None:
    save_checkpoint(content(), tmp_path / "made" / "last.ckpt", FORM)
    assert equal(load_checkpoint(tmp_path / "made" / "last.ckpt", FORM), content())
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["last.ckpt"]


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    for step in (1, 2, 3):
        save_checkpoint(content(step), last, FORM, keep=previous)
    assert load_checkpoint(last, FORM)["step"] == 3
    assert load_checkpoint(previous, FORM)["step"] == 2


def test_it_is_kept_on_file_systems_without_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    test_the_one_before_is_kept(tmp_path)


def test_a_save_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    save_checkpoint(content(1), last, FORM)

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half a ")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(last, fail, keep=previous)
    assert load_checkpoint(last, FORM)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_name_that_is_no_utf_8_can_be_written_and_comes_back_from_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xa9")
    file = replace_text(tmp_path / "a.json", json.dumps(name, ensure_ascii=False))
    assert json.loads(file.read_text(encoding="utf-8")) == name


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(fraction: float, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(content(), path, FORM)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged or foreign"):
        load_checkpoint(path, FORM)


def test_a_flipped_bit_is_refused_wherever_it_changes_anything(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(content(), path, FORM)
    whole, refused = path.read_bytes(), 0
    draw = random.Random(0)  # noqa: S311
    for _ in range(300):
        position, bit = draw.randrange(len(whole)), draw.randrange(8)
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(path, FORM)
        except CheckpointError:
            refused += 1
        else:
            assert equal(loaded, content())  # padding between the parts of the file, which means nothing
    assert refused > 30


def test_a_flipped_bit_among_the_weights_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(content(), path, FORM)
    whole = path.read_bytes()
    weights = content()["weights"]["float"].numpy().tobytes()
    position = whole.index(weights) + 5
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    torch.load(path, weights_only=True)  # torch itself takes it
    with pytest.raises(CheckpointError, match="content does not match its checksum"):
        load_checkpoint(path, FORM)


class Foreign:
    pass


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"state_dict": {"weight": torch.zeros(2)}}, "is foreign: it does not have the form 'test/1'"),
        ([1, 2], "is foreign"),
        ({"format": "test/2"}, "is foreign"),
        ({"format": FORM}, "is damaged"),
        ({"format": FORM, "object": Foreign()}, "it holds more than tensors and plain values"),
    ],
    ids=["another program's", "a list", "another form", "no checksum", "an object"],
)
def test_a_foreign_file_is_refused_and_not_executed(saved: Any, message: str, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "foreign.ckpt", FORM)


def test_a_text_and_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(CheckpointError, match="damaged or foreign"):
        load_checkpoint(tmp_path / "text.ckpt", FORM)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "none.ckpt", FORM)


def test_only_plain_values_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"tensors and plain values only, got Foreign at /'a'/'b'"):
        save_checkpoint({"a": {"b": Foreign()}}, tmp_path / "last.ckpt", FORM)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"a": np.float64(1.5)}, TypeError, "tensors and plain values only, got float64 at /'a'"),
        ({"a": np.str_("b")}, TypeError, "tensors and plain values only, got str_ at /'a'"),
        ({"a": {np.int64(1): 2}}, TypeError, "keys are texts and integers, got int64 at /'a'"),
        ({(3, "b"): 2}, TypeError, "keys are texts and integers, got tuple"),
        ({"format": "mine"}, ValueError, "content must not have the keys 'format' and 'checksum', got format"),
        ({"checksum": "mine"}, ValueError, "content must not have the keys .* got checksum"),
    ],
)
def test_what_could_not_be_read_again_is_not_saved(
    content: dict[Any, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    save_checkpoint({"step": 3}, tmp_path / "last.ckpt", FORM)
    with pytest.raises(error, match=message):
        save_checkpoint(content, tmp_path / "last.ckpt", FORM)
    assert load_checkpoint(tmp_path / "last.ckpt", FORM) == {"step": 3}


def test_every_type_that_is_saved_is_loaded_as_it_was(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, True, "b", b"c", (3, "d")], "e": {1: OrderedDict(f=torch.Size([2, 3]))}}
    save_checkpoint(content, tmp_path / "last.ckpt", FORM)
    assert load_checkpoint(tmp_path / "last.ckpt", FORM) == content
