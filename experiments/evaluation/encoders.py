"""Encoders that somebody else trained, and pairs over them: read from files of tensors alone, nothing is downloaded."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.pretraining.configuration import BackboneConfig, DataConfig, MethodConfig, PretrainConfig, ViewsConfig
from experiments.pretraining.export import (
    Pretrained,
    config_of_a_file,
    load_pretrained,
    load_weights,
    read_weights,
    write_weights,
)
from inference.fitting.checkpointing import CheckpointError
from models.backbones import named_backbone, wants_small_image_stem
from models.frozen_encoder import FrozenEncoderPair

FORMAT = "ssl-as-inference/added-uncertainty/1"
LIBRARIES = ("timm", "torchvision")

_HEAD = ("features", "dim", "hidden", "family")  # what a pair over a frozen encoder is built from


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder as it is.

    Attributes:
        network: Views `(images, channels, size, size)` to features `(images, features)`, in evaluation mode.
        config: What it is called, and which views it takes.
        notes: What a user should know of how it was read.
    """

    network: nn.Module
    config: PretrainConfig
    notes: tuple[str, ...] = ()

    @property
    @torch.no_grad()
    def width(self) -> int:
        """Number of features."""
        size = self.config.views.size
        features: Tensor = self.network.eval()(torch.zeros(1, self.config.data.channels, size, size))
        return features.size(-1)


def open_frozen_encoder(name: str, file: Path | None, *, size: int | None, data: str) -> FrozenEncoder:
    """An encoder of this project, or one of timm's or torchvision's with weights from a file.

    Args:
        name: Folder of a run, `….safetensors` or `….ckpt`; or `timm:NAME` or `torchvision:NAME`.
        file: State dict for the latter two: safetensors, or what `torch.save` wrote of tensors alone.
        size: Height and width of the views; by default those that it was trained with, or 128 pixels.
        data: What the images are called, for the file that is written.

    Raises:
        ValueError: If there is no such encoder, it takes no views of that size, or the file has not its weights.
    """
    library, _, plain = name.partition(":")
    if library not in LIBRARIES:
        if file is not None:
            raise ValueError(f"--weights belongs to timm:NAME or torchvision:NAME, got the encoder {name!r}")
        pretrained = load_encoder(Path(name))
        config = pretrained.config
        views = replace(config.views, size=size or config.views.size, local_views=0, global_views=2)
        stored = config.data.storage_size if size is None else None  # what suits views of the training may be too small
        network = pretrained.pair.model.encoder.get_submodule("backbone")
        set_of_images = replace(config.data, name=data, storage_size=stored)
        changed = replace(config, views=views, data=set_of_images)
        if views.size != config.views.size:
            changed = _same_network(network, config, changed)
        return FrozenEncoder(network, changed)
    if file is None:
        raise ValueError(f"{name} needs --weights FILE, its state dict: nothing is downloaded")
    views = ViewsConfig(size=size or 128, local_views=0)
    if library == "timm" and timm.is_model(plain):
        published = timm.get_pretrained_cfg(plain)
        if published is not None:
            views = replace(views, mean=tuple(published.mean), std=tuple(published.std))
    config = PretrainConfig(
        data=DataConfig(name=data),
        views=views,
        backbone=BackboneConfig(name=f"{library}/{plain}", small_image_stem=False),
    )
    network, _ = _backbone(config)
    notes = _load_state(network, _read_state(file), file)
    return FrozenEncoder(network.eval(), config, notes)


def _same_network(network: nn.Module, config: PretrainConfig, changed: PretrainConfig) -> PretrainConfig:
    """A configuration for views of another size, of which the file that is written can build the network again."""
    was, size = config.views.size, changed.views.size
    if config.backbone.small_image_stem is None:
        stem = wants_small_image_stem(network, was)
        changed = replace(changed, backbone=replace(config.backbone, small_image_stem=stem))
    try:
        _backbone(changed)[0].load_state_dict(network.state_dict())
    except (RuntimeError, ValueError) as error:
        why = f"--size {size}: {config.backbone.name} was built for views of {was} pixels and takes no others"
        raise ValueError(why) from error
    return changed


def save_added(pair: FrozenEncoderPair, config: PretrainConfig | None, path: Path) -> None:
    """Write a fitted pair, the encoder in it, as safetensors.

    Args:
        pair: The pair; where its features came from a file, without an encoder.
        config: Of the encoder; `None` without one.
        path: The file.
    """
    head = {name: getattr(pair, name) for name in _HEAD}
    about = {"head": head, "config": None if config is None else config.to_dict()}
    write_weights(path, FORMAT, json.dumps(about), pair)


def load_encoder(path: Path) -> Pretrained:
    """Read what `experiments.pretrain` or `experiments.add_uncertainty` wrote; nothing in a file is executed.

    Raises:
        CheckpointError: If there is no such file, it is damaged, or it has no encoder.
    """
    pair, config = load_added(path) if _is_added(path) else (None, None)
    if pair is None:
        return load_pretrained(path)
    if config is None:
        raise CheckpointError(
            f"{path} was fitted to features from a file and has no encoder: load it with "
            "experiments.evaluation.encoders.load_added and give the pair's `expert` the features"
        )
    return Pretrained(pair, config)


def load_added(path: Path) -> tuple[FrozenEncoderPair, PretrainConfig | None]:
    """Read what `save_added` wrote: the pair in evaluation mode, and the configuration of its encoder, if any.

    Raises:
        CheckpointError: If the file is damaged or of another form.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is no file: expected what experiments.add_uncertainty wrote, ….safetensors")
    text, tensors = read_weights(path, FORMAT)
    try:
        about = json.loads(text)
        pair = FrozenEncoderPair(**{name: about["head"][name] for name in _HEAD})
        config = None
        if about["config"] is not None:
            config = config_of_a_file(about["config"])
            pair.with_encoder(_backbone(config)[0])
    except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path} was made by another version of this project: {error}") from error
    load_weights(pair, tensors, path)
    return pair.eval(), config


def added_config(config: PretrainConfig, pair: FrozenEncoderPair) -> PretrainConfig:
    """The encoder's configuration with the method of the head, as the commands that say what it says read it."""
    return replace(config, method=MethodConfig(name="vi_simsiam", dim=pair.dim, hidden=pair.hidden))


def describe(pretrained: Pretrained) -> str:
    """What a pair is, in a line."""
    config = pretrained.config
    if isinstance(pretrained.pair, FrozenEncoderPair):
        return f"an uncertainty that was added to {config.backbone.name} on {config.data.name}"
    return f"{config.method.name}, {config.backbone.name}, pretrained on {config.data.name}"


def _backbone(config: PretrainConfig) -> tuple[nn.Module, int]:
    backbone = config.backbone
    return named_backbone(
        backbone.name,
        channels=config.data.channels,
        sizes=[config.views.size],
        small_image_stem=backbone.small_image_stem,
    )


def _is_added(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def _read_state(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file} holds more than tensors, which could run code: save its state dict alone") from error
    except Exception as error:  # a damaged file fails anywhere in the reader
        reason = [*str(error).splitlines(), type(error).__name__][0]
        raise ValueError(f"{file} cannot be read as a state dict: {reason}") from error
    for name in ("state_dict", "model"):
        content = content.get(name, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError(f"{file} must hold a state dict, names and tensors, got something else")
    return content


def _load_state(network: nn.Module, state: dict[str, Tensor], file: Path) -> tuple[str, ...]:
    """Put a file's tensors into the network, by name; or by order, where all kinds and shapes agree.

    What the file has beyond that, such as the classifier that the network no longer has, is left out, and said.
    """
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    notes = []
    if not set(expected) <= set(state):
        in_order = list(state.items())[: len(expected)]
        if [_kind(*entry) for entry in in_order] != [_kind(*entry) for entry in network.state_dict().items()]:
            missing = sorted(set(expected) - set(state))
            raise ValueError(
                f"{file} does not hold the weights of this model: {missing[0]} and {len(missing) - 1} more are missing"
            )
        notes.append(
            "The file names its tensors differently; they were taken in order, in which kinds and shapes agree."
        )
        state = dict(list(state.items())[len(expected) :]) | dict(zip(expected, dict(in_order).values(), strict=True))
    wrong = [name for name, shape in expected.items() if state[name].shape != shape]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{file} does not fit this model: {name} has shape {tuple(state[name].shape)}, not {tuple(expected[name])}"
        )
    left = [name for name in state if name not in expected]
    if left:
        notes.append(f"Not used of the file: {', '.join(left[:4])}{', …' if len(left) > 4 else ''}.")
    network.load_state_dict({name: state[name] for name in expected})
    return tuple(notes)


def _kind(name: str, tensor: Tensor) -> tuple[str, torch.Size]:
    """The last part of a name, such as weight or running_mean, and the shape."""
    return name.rpartition(".")[2], tensor.shape
