"""The folder of a run: what lies where, and the rules for starting in it and going on from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import yaml

from experiments.images.image_sets import ImageSet
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import CHECKPOINTS, EXPORTED, FORMAT, LAST
from inference.fitting.checkpointing import CheckpointError, load_checkpoint, replace_text, save_checkpoint

Resume = Literal["last", "previous", "auto"]

_BEGINNING = """\
# The configuration of this run, complete. It can be given again:
#   python -m experiments.pretrain --config THIS_FILE --out ANOTHER_FOLDER
"""


class RunFolder:
    """Paths of a run, its configuration and its checkpoints.

    Args:
        path: The folder; made when a run starts. A ~ stands for the home folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.csv"
        self.curves = self.path / "training_curves.png"
        self.tensorboard = self.path / "tensorboard"
        self.exported = self.path / EXPORTED
        self.last = self.path / CHECKPOINTS / LAST
        self.previous = self.path / CHECKPOINTS / "previous.ckpt"

    def holds_a_run(self) -> bool:
        """Whether something of a run is there that another start would write over."""
        return any(path.exists() for path in (self.last, self.previous, self.exported))

    def open(self, config: PretrainConfig, resume: Resume | None, *, write: bool = True) -> dict[str, Any] | None:
        """Start a run, or go on with one.

        Args:
            config: What is asked for.
            resume: Where to go on from; `None` to start. `"auto"` goes on where there is a checkpoint.
            write: Whether this process writes the folder; one of the processes of a run does.

        Returns:
            The content of the checkpoint to go on from; `None` at the start.

        Raises:
            CheckpointError: If the folder holds a run and none was to go on, or none and one was, or the checkpoint is
                damaged, foreign, or of other settings.
        """
        chosen = self.previous if resume == "previous" else self.last
        if resume is None and self.holds_a_run():
            raise CheckpointError(f"{self.path} holds a run already: give another folder as --out, or --resume it")
        if resume in {"last", "previous"} and not self.config.exists():
            raise CheckpointError(f"{self.path} holds no run to go on with: start one without --resume")
        content = None
        if resume is not None and chosen.exists():
            content = self._load(chosen)
            _require_same_settings(content, config, chosen)
        elif resume == "previous":
            raise CheckpointError(f"{self.path} holds no {chosen.name} yet: --resume goes on from {self.last.name}")
        elif resume is not None and self.previous.exists():
            raise CheckpointError(f"{self.last} is missing: go on from {self.previous} by --resume previous")
        elif resume is not None and self.exported.exists():
            raise CheckpointError(
                f"{self.path} holds a run that has ended and no checkpoint of it: start another one with another --out"
            )
        if write:
            text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
            replace_text(self.config, _BEGINNING + text)
        return content

    def require_same_images(self, content: dict[str, Any], images: ImageSet) -> None:
        """Refuse to go on with other images than those of a checkpoint, wherever they lie now.

        Raises:
            CheckpointError: If their number or their content is another.
        """
        remedy = "put the same images there, or start a run in another folder with --out"
        was, number = f"the run in {self.path} was of", content["images"]
        if number != len(images):
            raise CheckpointError(f"{was} {number} images, and {images.name} now has {len(images)}: {remedy}")
        # Runs of before the content was kept say nothing of it.
        if content.get("content", images.content) != images.content:
            raise CheckpointError(f"{was} other images than {images.name} now has: {remedy}")

    def save(self, content: dict[str, Any]) -> None:
        """Make this the last checkpoint, and the last one the previous one."""
        save_checkpoint(content, self.last, FORMAT, keep=self.previous)

    def _load(self, path: Path) -> dict[str, Any]:
        try:
            return load_checkpoint(path, FORMAT)
        except CheckpointError as error:
            other = self.previous if path == self.last else self.last
            name = "--resume previous" if path == self.last else "--resume"
            remedy = f"go on from {other} by {name}" if other.exists() else "start a run in another folder with --out"
            raise CheckpointError(f"{error}; {remedy}") from error


def _require_same_settings(content: dict[str, Any], config: PretrainConfig, path: Path) -> None:
    try:
        saved = PretrainConfig.from_dict(json.loads(content["config"]))
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"checkpoint {path} was made by another version of this project: {error}") from error
    different = saved.differences(config)
    if config.init_from not in {None, saved.init_from}:
        different.append(f"init_from {saved.init_from!r}, now {config.init_from!r}")
    if "content" not in content and saved.data.name != config.data.name:
        different.append(f"data.name {saved.data.name!r}, now {config.data.name!r}")
    if different:
        more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        raise CheckpointError(
            f"checkpoint {path} is of a run with other settings: {different[0]}{more}; go on with the same ones, or "
            "start a run in another folder with --out"
        )
