"""Backbones by name: any model of torchvision or timm without its classifier."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from models.networks import small_convolutional_backbone, strided_convolutional_backbone

_OWN = {
    "small_convolutional": small_convolutional_backbone,
    "strided_convolutional": strided_convolutional_backbone,
}
_RGB = 3
_SMALL_SIZE = 64  # up to it, a stem that halves the size twice leaves too little


def named_backbone(
    name: str,
    *,
    channels: int = 3,
    sizes: Sequence[int] = (128,),
    small_image_stem: bool | None = None,
    zero_init_residual: bool = False,
) -> tuple[nn.Module, int]:
    """Build a model of torchvision or timm with random weights, which gives features instead of classes.

    Args:
        name: Name in torchvision (searched first) or timm. `torchvision/…` or `timm/…` searches one of them only.
            `small_convolutional` and `strided_convolutional` are those of `models.networks`.
        channels: Channels of the images.
        sizes: Heights and widths of the images that it will see. A transformer is built for the first (the others work
            if timm's model can resample its position embedding).
        small_image_stem: Replace the first convolution of a ResNet by one of 3×3 without stride and drop its
            max-pooling, for images of about 32×32; `None` does so to a ResNet whose first size is at most 64.
        zero_init_residual: Let the last batch normalisation of each residual block begin at zero, so that the blocks
            begin as identities: part of SimSiam's published recipe (its code for arXiv:2011.10566). timm's ResNets
            begin so in any case, torchvision's do not.

    Returns:
        The network, images `(images, channels, height, width)` to features `(images, width)`, and the width.

    Raises:
        ValueError: If there is no such model (with the nearest names), it does not take such images, or
            `small_image_stem` is true and its stem is not a ResNet's, or `zero_init_residual` is true and it has no
            residual blocks of a ResNet.

    Example:
        >>> network, width = named_backbone("resnet18", channels=1, sizes=(32,))
        >>> width, tuple(network.conv1.weight.shape)
        (512, (64, 1, 3, 3))
    """
    library, _, plain = name.rpartition("/")
    network: nn.Module
    if name in _OWN:
        network = _OWN[name](channels)
    elif library in {"", "torchvision"} and plain in _torchvision_names():
        network = _from_torchvision(plain, channels, sizes[0])
    elif library in {"", "timm"} and timm.is_model(plain):
        network = _from_timm(plain, channels, sizes[0])
    else:
        raise ValueError(f"backbone.name must be a model of torchvision or timm, got {name!r}{_nearest(plain)}")
    if small_image_stem and not _has_resnet_stem(network):
        raise ValueError(
            f"backbone.small_image_stem is for ResNets, whose first layers are conv1 and maxpool; {name} has other ones"
        )
    if small_image_stem or (small_image_stem is None and wants_small_image_stem(network, sizes[0])):
        network.conv1 = nn.Conv2d(channels, network.conv1.out_channels, kernel_size=3, padding=1, bias=False)  # type: ignore[union-attr, arg-type]
        network.maxpool = nn.Identity()
    if zero_init_residual:
        _zero_last_normalizations(network, name)
    widths = [_width(network, name, channels, size) for size in sizes]
    return network, widths[0]


def _zero_last_normalizations(network: nn.Module, name: str) -> None:
    lasts: dict[type[nn.Module], str] = {
        torchvision.models.resnet.BasicBlock: "bn2",
        torchvision.models.resnet.Bottleneck: "bn3",
    }
    lasts |= {timm.models.resnet.BasicBlock: "bn2", timm.models.resnet.Bottleneck: "bn3"}
    found = [block.get_submodule(lasts[type(block)]) for block in network.modules() if type(block) in lasts]
    if not found:
        raise ValueError(f"backbone.zero_init_residual is for ResNets; {name} has none of their blocks")
    for normalization in found:
        nn.init.zeros_(normalization.get_parameter("weight"))


def wants_small_image_stem(network: nn.Module, size: int) -> bool:
    """Whether a network for views of this size has a stem for small images where nothing else is asked for."""
    return size <= _SMALL_SIZE and _has_resnet_stem(network)


def _has_resnet_stem(network: nn.Module) -> bool:
    return isinstance(getattr(network, "conv1", None), nn.Conv2d) and hasattr(network, "maxpool")


def _torchvision_names() -> list[str]:
    # Detection, segmentation and video models live in modules of their own and have no features of an image.
    names: list[str] = torchvision.models.list_models(module=torchvision.models)  # type: ignore[attr-defined]
    return names


def _nearest(name: str) -> str:
    known = {*_torchvision_names(), *timm.list_models(), *_OWN}
    close = difflib.get_close_matches(name, sorted(known), 4)
    return f"; did you mean {', '.join(close)}?" if close else ""


def _from_torchvision(name: str, channels: int, size: int) -> nn.Module:
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = size
    if name in {"googlenet", "inception_v3"}:
        options.update(aux_logits=False, init_weights=True)
    try:
        network: nn.Module = torchvision.models.get_model(name, weights=None, **options)  # type: ignore[attr-defined]
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(f"torchvision cannot build {name} for {size}×{size} images: {_line(error)}") from error
    # The classifier is the last layer that is linear in the features; SqueezeNet's is a convolution.
    last_name, last = [
        (path, module) for path, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))
    ][-1]
    if not isinstance(last, nn.Linear):
        raise ValueError(  # noqa: TRY004  # the name is at fault, not a type
            f"backbone.name must be a model with a linear classifier to remove, which torchvision's {name} has not; "
            f"timm's models of that family, if any, have names timm/…"
        )
    network.set_submodule(last_name, nn.Identity())
    if channels != _RGB:
        _replace_first_convolution(network, channels)
    return network


def _from_timm(name: str, channels: int, size: int) -> nn.Module:
    options: dict[str, Any] = {"pretrained": False, "num_classes": 0, "in_chans": channels}
    # Transformers are built for one size and, with a position embedding that is resampled, take the others of a
    # multi-crop too. Each option is unknown to most of the other models.
    attempts: list[dict[str, Any]] = [{"img_size": size, "dynamic_img_size": True}, {"img_size": size}, {}]
    for more in attempts:
        try:
            network: nn.Module = timm.create_model(name, **options, **more)
        except TypeError:
            continue
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(f"timm cannot build {name} for {size}×{size} images: {_line(error)}") from error
        return network
    raise ValueError(f"timm cannot build {name} with {channels} channels and no classifier")


def _replace_first_convolution(network: nn.Module, channels: int) -> None:
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == _RGB:
            network.set_submodule(
                path,
                nn.Conv2d(
                    channels,
                    module.out_channels,
                    module.kernel_size,  # type: ignore[arg-type]
                    module.stride,  # type: ignore[arg-type]
                    module.padding,  # type: ignore[arg-type]
                    bias=module.bias is not None,
                ),
            )
            return


def _width(network: nn.Module, name: str, channels: int, size: int) -> int:
    """Find the number of features by a forward pass, in evaluation mode so that no statistic changes."""
    network.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes on the layout of memory from inside some models
            features = network(torch.zeros(1, channels, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f"backbone {name} does not take images of {size}×{size} pixels: {_line(error)}") from error
    finally:
        network.train()
    if not isinstance(features, torch.Tensor) or features.dim() != 2:
        shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise ValueError(f"backbone {name} must give a vector of features for each image, got {shape}")
    return features.size(1)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
