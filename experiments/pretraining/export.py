"""Pretrained weights in one file: tensors and the configuration that made them, readable without running any code."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from experiments.pretraining.building import build_pair
from experiments.pretraining.configuration import PretrainConfig
from inference.fitting.checkpointing import CheckpointError, digest, load_checkpoint, replace_file
from ssl_as_inference.graphical_model import MultiViewPair

EXPORTED = "encoder.safetensors"
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
FORMAT = "ssl-as-inference/pretraining/1"
"""Says that a checkpoint is ours, and how it is laid out; so did exported encoders before they had a checksum."""
EXPORT_FORMAT = "ssl-as-inference/pretraining/2"
"""The same of an exported encoder."""


@dataclass(frozen=True)
class Pretrained:
    """A pair with its weights, in evaluation mode on the CPU, and the configuration that it was trained with."""

    pair: MultiViewPair
    config: PretrainConfig


def save_pretrained(pair: MultiViewPair, config: PretrainConfig, path: str | Path) -> Path:
    """Write a pair's weights and its configuration as safetensors; an existing file is replaced in one piece.

    Args:
        pair: What `build_pair(config)` made, trained.
        config: Its configuration.
        path: The file; named after `EXPORTED` in a run's folder.
    """
    return write_weights(Path(path), EXPORT_FORMAT, json.dumps(config.to_dict()), pair)


def write_weights(path: Path, kind: str, config: str, pair: MultiViewPair) -> Path:
    """Write weights as safetensors with a text that says what they are of, and a checksum of both.

    Args:
        path: The file, which is replaced in one piece.
        kind: Name of the format.
        config: The text.
        pair: Whose weights.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in weights(pair).items()}
    metadata = {"format": kind, "config": config, "checksum": digest({"config": config, "weights": tensors})}

    def write(temporary: Path) -> None:
        temporary.write_bytes(save(tensors, metadata))  # its own way to a file ignores the umask

    replace_file(path, write)
    return path


def load_pretrained(path: str | Path) -> Pretrained:
    """Read a pretrained pair from a run's folder, an exported encoder or a checkpoint.

    A folder gives its exported encoder and, where the run has not ended, its last checkpoint. Nothing in a file is
    executed: they hold tensors and text alone.

    Args:
        path: Folder of a run, `….safetensors`, or `….ckpt`.

    Raises:
        CheckpointError: If there is no such file, it is damaged, or it is not one of this project's; a ValueError,
            whose one line says what to do.
    """
    path = _find(Path(path))
    if path.suffix == ".safetensors":
        content, state = read_weights(path, EXPORT_FORMAT)
    else:
        content, state = itemgetter("config", "weights")(load_checkpoint(path, FORMAT))
    try:
        config = config_of_a_file(json.loads(content))
        pair = build_pair(config)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} was made by another version of this project: {error}") from error
    load_weights(pair, state, path)
    return Pretrained(pair.eval(), config)


def config_of_a_file(content: dict[str, Any]) -> PretrainConfig:
    """A configuration that came with weights: it decides neither where something is written nor what is fetched."""
    config = PretrainConfig.from_dict(content)
    return replace(config, data=replace(config.data, cache=None, download=False))


def load_weights(pair: MultiViewPair, state: dict[str, Tensor], path: Path) -> None:
    """Put the weights of a file into a pair that was built for them.

    Raises:
        CheckpointError: If names, shapes or types of numbers are not the pair's, or a number is not finite.
    """
    expected = weights(pair)
    kinds, found = ({name: (t.shape, t.dtype) for name, t in tensors.items()} for tensors in (expected, state))
    wrong = sorted(name for name in kinds.keys() | found.keys() if kinds.get(name) != found.get(name))
    if wrong:
        raise CheckpointError(
            f"{path} does not hold the weights of its own configuration: {wrong[0]} and {len(wrong) - 1} more differ"
        )
    for name, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{path} holds NaN or infinity in {name}: the training that wrote it had failed")
    pair.load_state_dict(state, strict=False)  # the other names are aliases, which are filled with their twins


def weights(pair: MultiViewPair) -> dict[str, Tensor]:
    """The pair's parameters and buffers, each once, detached.

    SimSiam's guide has the model's own encoder: the state dict names its tensors twice, a file holds them once.
    """
    seen: set[int] = set()
    kept = {}
    # keep_vars: the objects themselves, of which an alias is the same one. A detached copy would be another.
    for name, tensor in pair.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            kept[name] = tensor.detach()
    return kept


def _find(path: Path) -> Path:
    candidates = [path / EXPORTED, path / CHECKPOINTS / LAST] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise CheckpointError(f"{path} holds neither {EXPORTED} nor {CHECKPOINTS}/{LAST}: it is not a run's folder")
    raise CheckpointError(f"{path} does not exist: give the folder of a run, a .ckpt or a .safetensors file")


def read_weights(path: Path, kind: str) -> tuple[str, dict[str, Tensor]]:
    """Read the text and the weights that `write_weights` wrote.

    Raises:
        CheckpointError: If the file is damaged or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
            # Exported encoders had no checksum at first, and the format of a checkpoint.
            unchecked = kind == EXPORT_FORMAT and metadata.get("format") == FORMAT
            if metadata.get("format") != kind and not unchecked:
                raise CheckpointError(f"{path} was written by another program: its format is not {kind!r}")
            content = metadata["config"]
            if not unchecked and metadata["checksum"] != digest({"config": content, "weights": state}):
                raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
            return content, state
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error
