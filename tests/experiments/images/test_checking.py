from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.images import checking
from experiments.images.cache import Cache
from experiments.images.checking import check_images
from experiments.images.errors import ImageSetError
from experiments.images.image_sets import ArraySource, FileSource, ImageSet

Make = Callable[..., ImageSet]


def break_files(images: ImageSet, *numbers: int) -> None:
    assert isinstance(images.source, FileSource)
    for number in numbers:
        file = images.source.path(number)
        file.write_bytes(file.read_bytes()[:-30])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the images that are read from now on."""
    read, numbers = FileSource.read, []

    def counted(source: FileSource, index: int) -> Image.Image:
        numbers.append(index)
        return read(source, index)

    monkeypatch.setattr(FileSource, "read", counted)
    return numbers


def test_a_set_without_faults_passes_unchanged_and_is_measured(make_set: Make) -> None:
    images = make_set({"cat": 3, "dog": 2}, sizes=((8, 6), (5, 9)))
    checked = check_images(images)
    assert checked.source is images.source
    assert checked.sizes is not None and checked.sizes.tolist() == [[8, 6], [5, 9], [8, 6], [5, 9], [8, 6]]  # noqa: PT018


def test_one_error_lists_every_broken_file(make_set: Make) -> None:
    images = make_set({"cat": 3, "dog": 2})
    break_files(images, 1, 4)
    with pytest.raises(ImageSetError) as raised:
        check_images(images)
    lines = str(raised.value).splitlines()
    assert lines[0] == "set: 2 of 5 images cannot be read:"
    assert [images.location(1) in lines[1], images.location(4) in lines[2]] == [True, True]
    assert lines[3] == "Repair or remove them, or leave them out with --skip-broken."


def test_a_long_list_ends_after_twenty_with_the_count_of_the_rest(make_set: Make) -> None:
    images = make_set({"cat": 1, "dog": 25})
    break_files(images, *range(1, 26))
    with pytest.raises(ImageSetError, match="25 of 26 images cannot be read") as raised:
        check_images(images)
    assert str(raised.value).count("dog") == 20
    assert "… and 5 more" in str(raised.value)


def test_skipped_images_are_counted_and_their_labels_go_with_them(
    make_set: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_set({"cat": 3, "dog": 2})
    break_files(images, 0, 3)
    kept = check_images(images, skip_broken=True)
    assert [kept.location(index) for index in range(3)] == [images.location(index) for index in (1, 2, 4)]
    assert kept.labels.tolist() == [0, 0, 1]
    assert kept.skipped == 2
    lines = capsys.readouterr().err.splitlines()[-3:]
    assert lines[0] == "set: 2 of 5 images cannot be read and are skipped:"
    assert [images.location(0) in lines[1], images.location(3) in lines[2]] == [True, True]


def test_a_set_of_broken_images_only_is_refused_even_when_they_may_be_skipped(make_set: Make) -> None:
    images = make_set({"cat": 2})
    break_files(images, 0, 1)
    with pytest.raises(ImageSetError, match="2 of 2 images cannot be read"):
        check_images(images, skip_broken=True)


def test_a_second_start_reads_nothing(make_set: Make, tmp_path: Path, reads: list[int]) -> None:
    images = make_set({"cat": 3, "dog": 2})
    check_images(images, cache_folder=tmp_path / "cache")
    assert sorted(reads) == [0, 1, 2, 3, 4]
    reads.clear()
    check_images(images, cache_folder=tmp_path / "cache")
    assert reads == []


def test_a_lower_limit_of_pixels_is_checked_anew(make_set: Make, tmp_path: Path) -> None:
    images = make_set({"cat": 2}, sizes=((8, 6), (20, 30)))
    check_images(images, cache_folder=tmp_path / "cache")
    assert isinstance(images.source, FileSource)
    lower = replace(images, source=replace(images.source, max_pixels=200))
    with pytest.raises(ImageSetError, match="1 of 2 images cannot be read"):
        check_images(lower, cache_folder=tmp_path / "cache")


def test_without_a_cache_folder_nothing_is_written(make_set: Make, tmp_path: Path, reads: list[int]) -> None:
    images = make_set({"cat": 3})
    before = sorted(tmp_path.rglob("*"))
    for _ in range(2):
        check_images(images)
    assert len(reads) == 6
    assert sorted(tmp_path.rglob("*")) == before


def test_a_changed_file_is_found_in_spite_of_the_cache(make_set: Make, tmp_path: Path) -> None:
    images = make_set({"cat": 3})
    check_images(images, cache_folder=tmp_path / "cache")
    break_files(images, 2)
    with pytest.raises(ImageSetError, match="1 of 3"):
        check_images(images, cache_folder=tmp_path / "cache")


def test_a_remembered_fault_is_tried_again(
    make_set: Make, tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file that could not be read may become readable with no change of its size or time: its permissions changed.
    images = make_set({"cat": 3})
    break_files(images, 1)
    for _ in range(2):
        with pytest.raises(ImageSetError, match="1 of 3"):
            check_images(images, cache_folder=tmp_path / "cache")
    assert sorted(set(reads)) == [0, 1, 2]
    assert reads.count(0) == 1
    monkeypatch.setattr(FileSource, "read", lambda *_: Image.new("RGB", (1, 1)))
    assert check_images(images, cache_folder=tmp_path / "cache").source is images.source


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04"], ids=str)
def test_a_damaged_cache_is_replaced_with_a_word(
    make_set: Make, tmp_path: Path, reads: list[int], content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_set({"cat": 3})
    check_images(images, cache_folder=tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(content)
    reads.clear()
    check_images(images, cache_folder=tmp_path / "cache")
    assert sorted(reads) == [0, 1, 2]
    assert f"checkpoint {file} is damaged" in capsys.readouterr().err
    assert file.read_bytes() == whole
    assert list(folder.iterdir()) == [file]


def test_two_that_fill_a_cache_at_once_both_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (Cache("set", tmp_path, "kind") for _ in range(2))
    whole, content = torch.save, {"numbers": torch.arange(3)}

    def meanwhile(*given: Any) -> None:
        whole(*given)
        monkeypatch.setattr(torch, "save", whole)
        second.write(0, content)

    monkeypatch.setattr(torch, "save", meanwhile)
    first.write(0, content)
    assert not capsys.readouterr().err
    for cache in (first, second):
        found = cache.read(0)
        assert found is not None
        assert found["numbers"].tolist() == [0, 1, 2]
    assert first.folder is not None
    assert [path.name for path in first.folder.iterdir()] == ["00000000.ckpt"]


def test_a_cache_folder_that_cannot_be_made_is_no_obstacle(
    make_set: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    images = make_set({"cat": 2})
    assert len(check_images(images, cache_folder=tmp_path / "file" / "cache")) == 2
    assert "going on without" in capsys.readouterr().err


def test_threads_change_nothing(make_set: Make) -> None:
    images = make_set({"cat": 70, "dog": 30})
    break_files(images, 3, 40, 99)
    messages = []
    for threads in (1, 2, 7):
        with pytest.raises(ImageSetError) as raised:
            check_images(images, threads=threads)
        messages.append(str(raised.value))
    assert len(set(messages)) == 1


def test_arrays_need_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    images = ImageSet("grey", ArraySource(np.zeros((2, 4, 3, 1), np.uint8)), torch.tensor([0, 0]), ("a",))
    monkeypatch.setattr(checking, "in_threads", None)
    assert check_images(images).source is images.source
