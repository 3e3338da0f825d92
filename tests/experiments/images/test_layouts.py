from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from experiments.images.errors import BrokenImageError, ImageSetError, MissingSplitError
from experiments.images.image_sets import FileSource, ImageSet
from experiments.images.layouts import find_images

Save = Callable[..., Path]


def paths(images: ImageSet) -> list[str]:
    assert isinstance(images.source, FileSource)
    return list(images.source.paths)


def touch(folder: Path, *names: str) -> Path:
    """Make empty files: listing opens none of them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_split_and_class_folders_give_parts_with_labels(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/b.jpg", "train/cat/a.jpg", "train/dog/c.jpg", "val/dog/d.jpg")
    train, val, everything = (find_images(tmp_path, split) for split in ("train", "val", "all"))
    assert paths(train) == ["train/cat/a.jpg", "train/cat/b.jpg", "train/dog/c.jpg"]
    assert train.labels.tolist() == [0, 0, 1]
    assert paths(val) == ["val/dog/d.jpg"]
    assert val.labels.tolist() == [1], "a class that the part lacks keeps its number"
    assert train.class_names == val.class_names == ("cat", "dog")
    assert paths(everything) == paths(train) + paths(val)
    assert everything.labels.tolist() == [0, 0, 1, 1]


def test_folders_without_images_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "bird/README", "cat/deep/a.jpg", "dog/b.jpg", "__pycache__/c.pyc")
    (tmp_path / "ant").mkdir()
    images = find_images(tmp_path, "train")
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 1]


def test_split_folders_without_classes_give_parts_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "train/b.jpg", "val/c.jpg")
    train = find_images(tmp_path, "train")
    assert (train.labels.tolist(), train.class_names, train.labelled) == ([-1, -1], (), False)
    assert len(find_images(tmp_path, "val")) == 1


def test_class_folders_alone_are_the_training_part(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg", "dog/b.jpg")
    for split in ("train", "all"):
        assert find_images(tmp_path, split).labels.tolist() == [0, 1]
    with pytest.raises(MissingSplitError, match=r"expected a folder named val or .* in it, got no split folders"):
        find_images(tmp_path, "val")


def test_a_flat_folder_is_a_training_part_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.jpg")
    images = find_images(tmp_path, "train")
    assert paths(images) == ["a.jpg", "b.jpg"]
    assert images.labels.tolist() == [-1, -1]


def test_nested_folders_belong_to_the_outermost_class(tmp_path: Path) -> None:
    touch(tmp_path, "cat/wild/big/a.jpg", "cat/b.jpg", "dog/c.jpg", "loose.jpg")
    images = find_images(tmp_path, "train")
    assert dict(zip(paths(images), images.labels.tolist(), strict=True)) == {
        "cat/b.jpg": 0,
        "cat/wild/big/a.jpg": 0,
        "dog/c.jpg": 1,
        "loose.jpg": -1,
    }
    assert not images.labelled


@pytest.mark.parametrize("validation", ["val", "validation", "valid", "test"])
def test_the_validation_part_has_several_names(tmp_path: Path, validation: str) -> None:
    touch(tmp_path, "train/cat/a.jpg", f"{validation}/cat/b.jpg")
    assert paths(find_images(tmp_path, "val")) == [f"{validation}/cat/b.jpg"]


def test_val_comes_before_test(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/a.jpg", "val/cat/b.jpg", "test/cat/c.jpg")
    assert paths(find_images(tmp_path, "val")) == ["val/cat/b.jpg"]


@pytest.mark.parametrize(
    ("training", "held_out"),
    [("Train", "Val"), ("TRAIN", "TEST"), ("training_set", "test_set"), ("train2017", "val2017"), ("training", "Dev")],
)
def test_usual_names_of_parts_are_known_in_any_case(tmp_path: Path, training: str, held_out: str) -> None:
    touch(tmp_path, f"{training}/cat/a.jpg", f"{held_out}/cat/b.jpg")
    assert paths(find_images(tmp_path, "train")) == [f"{training}/cat/a.jpg"]
    assert paths(find_images(tmp_path, "val")) == [f"{held_out}/cat/b.jpg"]


def test_all_parts_are_everything_there_is(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/a.jpg", "val/cat/b.jpg", "test/cat/c.jpg")
    assert paths(find_images(tmp_path, "all")) == ["train/cat/a.jpg", "val/cat/b.jpg", "test/cat/c.jpg"]


def test_two_training_parts_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "Train/b.jpg", "val/c.jpg")
    with pytest.raises(ImageSetError, match="expected one training part, got Train, train"):
        find_images(tmp_path, "train")


def test_what_was_found_and_what_was_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"Train/cat/{number}.jpg" for number in range(3)] + ["Train/dog/a.JFIF", "Train/loose.png"]
    names += [f"Train/dog/{number}.heic" for number in range(20)] + ["Train/dog/@eaDir/a.jpg", "Train/notes"]
    touch(tmp_path, *names, "val/cat/b.jpg", "__MACOSX/Train/cat/0.jpg", "extra/c.jpg", "README.txt")
    assert len(find_images(tmp_path, "train")) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"{tmp_path}: 5 images in Train of 2 classes (cat 3, dog 1, without a class 1); not used here: "
    )
    assert "not used here: val (1); left out, being no images: 20 .heic, " in line
    for part in ("1 @eaDir/", "1 __MACOSX/", "1 extra/", "1 files beside the split folders", "1 without a suffix"):
        assert part in line


def test_a_class_called_train_among_other_classes_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "plane/a.jpg", "ship/b.jpg", "train/c.jpg")
    assert find_images(tmp_path, "train").class_names == ("plane", "ship", "train")


@pytest.mark.parametrize(
    ("present", "asked", "message"),
    [
        ("train", "val", "expected a folder named val or validation or .* or testing in it, got train"),
        ("val", "train", "expected a folder named train or training in it, got val"),
    ],
)
def test_a_missing_part_is_named(tmp_path: Path, present: str, asked: Literal["train", "val"], message: str) -> None:
    touch(tmp_path, f"{present}/cat/a.jpg")
    assert len(find_images(tmp_path, "all")) == 1
    with pytest.raises(MissingSplitError, match=message):
        find_images(tmp_path, asked)


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{name}/{number}.jpg" for name in "cab" for number in (10, 9, 1)))
    expected = paths(find_images(tmp_path, "train"))
    assert expected == sorted(expected)
    scandir = os.scandir

    class Backwards:
        def __init__(self, folder: Path) -> None:
            with scandir(folder) as entries:
                self._entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self._entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Backwards)
    assert paths(find_images(tmp_path, "train")) == expected


def test_other_files_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.JPG", "cat/._a.jpg", "cat/.DS_Store", "cat/notes.txt", ".cache/b.jpg", "README", "dog/c.Png")
    images = find_images(tmp_path, "train")
    assert paths(images) == ["cat/a.JPG", "dog/c.Png"]
    assert images.class_names == ("cat", "dog")


def test_links_are_followed_and_a_circle_ends(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "elsewhere", "a.jpg", "b.jpg")
    folder = touch(tmp_path / "set", "cat/c.jpg")
    (folder / "dog").symlink_to(elsewhere)
    (folder / "cat" / "d.jpg").symlink_to(elsewhere / "a.jpg")
    (folder / "cat" / "gone.jpg").symlink_to(tmp_path / "nothing")
    (folder / "cat" / "round").symlink_to(folder)
    assert paths(find_images(folder, "train")) == [
        "cat/c.jpg",
        "cat/d.jpg",
        "cat/gone.jpg",
        "dog/a.jpg",
        "dog/b.jpg",
    ]


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path: Path, save_image: Save) -> None:
    save_image(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("b.png")
    images = find_images(tmp_path, "train")
    assert paths(images) == ["a.png", "b.png"]
    with pytest.raises(BrokenImageError, match=r"b\.png: Too many levels of symbolic links"):
        images.read(1)


def test_folders_may_be_nested_as_deep_as_the_system_allows(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("a.jpg", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    try:
        assert paths(find_images(tmp_path, "train")) == ["d/" * 1500 + "a.jpg"]
    finally:  # pytest's own removal is recursive
        (tmp_path / ("d/" * 1500) / "a.jpg").unlink()
        for depth in range(1500, 0, -1):
            (tmp_path / ("d/" * depth)).rmdir()


def test_a_pipe_named_like_an_image_is_left_out(tmp_path: Path) -> None:
    # Opening it would wait for ever.
    touch(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    assert paths(find_images(tmp_path, "train")) == ["a.jpg"]


def test_file_names_of_any_bytes_are_kept(tmp_path: Path, save_image: Save) -> None:
    plain = save_image(tmp_path / "a.png")
    for name in ("é ü\n.png".encode(), b"\xff\xfe.png", "日本.png".encode()):
        os.link(plain, os.path.join(os.fsencode(tmp_path), name))  # noqa: PTH118 - bytes are no Path
    images = find_images(tmp_path, "train")
    assert len(images) == 4
    assert {images.read(index).size for index in range(4)} == {(6, 8)}


def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "cat/a.jpg")
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "cat":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ImageSetError, match="cat: expected a folder that can be read, got: Permission denied"):
        find_images(tmp_path, "train")


def test_empty_and_missing_folders_are_named_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ImageSetError, match=r"expected images \(.*\.jpg.*\), got nothing"):
        find_images(tmp_path, "train")
    touch(tmp_path, "README", "notes.txt", ".DS_Store")
    with pytest.raises(ImageSetError, match=r"expected images .*, got 2 other files"):
        find_images(tmp_path, "train")
    with pytest.raises(ImageSetError, match=r"nothing-here: expected a folder of images, got nothing"):
        find_images(tmp_path / "nothing-here", "train")
    with pytest.raises(ImageSetError, match=r"README: expected a folder of images, got a file"):
        find_images(tmp_path / "README", "train")
    touch(tmp_path, "train/README", "val/cat/a.jpg")
    with pytest.raises(ImageSetError, match=r"train: expected images .*, got 3 other files"):
        find_images(tmp_path, "train")
