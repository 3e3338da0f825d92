"""Features of random views, of images or of anything else: computed once, and gone on with after a stop."""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from experiments.command_line.lock import alone
from experiments.evaluation.embedding_files import new_array
from experiments.evaluation.encoders import FrozenEncoder
from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.parameters import draw_parameters
from experiments.images.device_images import StreamedImages
from experiments.images.image_sets import ImageSet
from experiments.images.randomness import Stream, derived_generator
from experiments.pretraining.images import storage_size, view_groups
from inference.fitting.checkpointing import CheckpointError, digest, replace_file, replace_text


@torch.no_grad()
def view_features(encoder: FrozenEncoder, images: ImageSet, folder: Path, *, views: int, options: Namespace) -> Tensor:
    """Features of random views of every image, shape `(views, images, features)`, read from disk as far as they go.

    The file `features.npy` in `folder` grows a batch at a time. `about.json` says of which encoder, images and views it
    is, and how many images are done: another start with the same goes on there. With anything else, or where a file is
    damaged, it begins anew.

    Args:
        encoder: As it is.
        images: The set.
        folder: Where the features are kept.
        views: Of each image.
        options: Device, threads, seed, and about how many views are encoded at a time; the views depend on both
            numbers.

    Raises:
        CheckpointError: If the encoder gives NaN or infinity.
        OSError: If the disk has too little room for all of them.
        ValueError: If another process computes features there.
    """
    recipe, shorter_side = view_groups(encoder.config)[0][0], storage_size(encoder.config)
    size, seed = max(1, options.encode_batch // views), options.seed
    key = {
        "encoder": digest(encoder.network.state_dict()),
        "images": hashlib.sha256(images.source.fingerprint().encode()).hexdigest(),
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "storage_size": shorter_side,
        "views": views,
        "batch": size,
        "seed": seed,
    }
    file, about = folder / "features.npy", folder / "about.json"
    network, transform = fast(encoder.network).to(options.device).eval(), BatchedViews(recipe)
    with alone(folder):
        known: dict[str, Any] = {}
        with suppress(OSError, EOFError, ValueError):  # not there, or damaged
            np.load(file, mmap_mode="r")  # "r+" would fill up with zeros what is cut off
            known = json.loads(about.read_text("utf-8"))
        done = known["done"] if known.get("key") == key else 0
        starts = range(done, len(images), size)
        rest = [torch.arange(start, min(start + size, len(images))) for start in starts]
        said = f"{views} views each, by {size} images"
        source = StreamedImages(images, options.device, shorter_side, options.threads, description=said)
        kept = open_memmap(file, "r+") if done else None
        for start, (canvas, sizes) in zip(starts, source.canvases(rest), strict=True):
            generators = [derived_generator(seed, Stream.VIEWS, start, 0, view) for view in range(views)]
            shown = [transform(canvas, sizes, draw_parameters(recipe, sizes, generator)) for generator in generators]
            found = network(torch.cat(shown)).unflatten(0, (views, -1)).movedim(0, 1).float().cpu()
            if not found.isfinite().all():
                raise CheckpointError(f"the encoder gives NaN or infinity, first near {images.location(start)}")
            if kept is None:
                about.unlink(missing_ok=True)  # first: it would pass for that of what is overwritten now
                kept = new_array(file, np.dtype(np.float32), (len(images), views, found.size(-1)))
            kept[start : start + len(found)] = found.numpy()
            kept.flush()
            replace_text(about, json.dumps({"key": key, "content": images.content, "done": start + len(found)}))
    return kept_views(folder)


def some_of(images: ImageSet, most: int | None) -> ImageSet:
    """At most so many of the images, the same in every start; all when not given."""
    if most is None or most >= len(images):
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.select(order[:most].sort().values)


def fast(network: nn.Module) -> nn.Module:
    """The network, its convolutions with channels last: on a CPU those of one channel each take half the time."""
    return network.to(memory_format=torch.channels_last)


def kept_views(folder: Path, images: ImageSet | None = None) -> Tensor:
    """What `view_features` kept, shape `(views, images, features)`.

    Args:
        folder: Where it is kept.
        images: The set that it should be of, or that the images were chosen from.

    Raises:
        ValueError: If there is nothing, it is not complete, or it is of other images.
    """
    try:
        features, about = np.load(folder / "features.npy"), json.loads((folder / "about.json").read_text("utf-8"))
        done = about["done"]
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise ValueError(f"{folder} must hold the features that experiments.add_uncertainty kept: {error}") from error
    if done < len(features):
        raise ValueError(f"{folder} has {done:,} of {len(features):,} images: start add_uncertainty again")
    if images is not None and (len(features) > len(images) or about.get("content", images.content) != images.content):
        raise ValueError(f"{folder} has features of {len(features):,} images that are not those of {images.name}")
    return torch.from_numpy(features).movedim(0, 1)  # as it lies: a copy may not fit


class KeptFeatures(nn.Module):
    """A frozen network that keeps what it computed: a batch that it has seen, in this start or another, is read.

    A batch is known by its numbers, so that no view can be mistaken for another; heads that are tried later cost no
    look.

    Args:
        network: Views to features `(images, features)`, in evaluation mode.
        folder: Where the features are kept, a file a batch.
    """

    def __init__(self, network: nn.Module, folder: Path) -> None:
        super().__init__()
        self.network = network
        self.folder = folder
        self._key = digest(network.state_dict())

    @torch.no_grad()
    def forward(self, views: Tensor) -> Tensor:
        """Features of a batch of views.

        Raises:
            CheckpointError: If the network gives NaN or infinity.
        """
        file = self.folder / f"{digest({'network': self._key, 'views': views})}.npy"
        if not file.exists():
            found: Tensor = self.network(views)
            if not found.isfinite().all():
                raise CheckpointError("the encoder gives NaN or infinity")
            ours = file.with_name(f"{uuid4().hex}.npy")  # another command may keep the same look at this moment
            replace_file(ours, lambda temporary: _save(temporary, found))
            ours.replace(file)
        return torch.from_numpy(np.load(file)).to(views.device)


def _save(path: Path, features: Tensor) -> None:
    with path.open("wb") as stream:
        np.save(stream, features.float().cpu().numpy())


def read_features(file: Path) -> tuple[Tensor, list[str]]:
    """Features that somebody else computed, with the names of the items, in their order.

    Args:
        file: npz with the arrays, or Parquet with the columns, `item`, `view` and `vector`: a row a view. Every item
            has the same number of views, at least two.

    Returns:
        Features `(views, items, features)` and names.

    Raises:
        ValueError: If something is missing or has another form, or a view is there twice.
    """
    item, view, vector = read_columns(file)
    names, number, counts = np.unique(item.astype(str), return_inverse=True, return_counts=True)
    if counts.min() != counts.max() or counts.min() < 2:
        least = names[counts.argmin()]
        raise ValueError(
            f"{file} must have the same number of views of each item, at least 2, got {counts.min()} of "
            f"{str(least)!r} and up to {counts.max()} of others"
        )
    order = np.lexsort((view, number))
    twice = (np.diff(number[order]) == 0) & (view[order][1:] == view[order][:-1])
    if twice.any():
        row = order[twice.argmax()]
        raise ValueError(
            f"{file} must have each view of an item once, got view {view[row]} of {str(item[row])!r} twice"
        )
    shaped = vector[order].reshape(len(names), counts[0], vector.shape[1])
    return torch.from_numpy(shaped).movedim(0, 1), names.tolist()


def read_columns(file: Path) -> tuple[Any, Any, Any]:
    """Item, view and vector of each row, the vectors in float32.

    Raises:
        ValueError: If something is missing or has another form.
    """
    names = ("item", "view", "vector")
    if file.suffix not in {".npz", ".parquet"}:
        raise ValueError(f"{file} must end in .npz or .parquet")
    try:
        if file.suffix == ".npz":
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                found = {name: archive[name] for name in names}
        else:
            table = pq.read_table(file, columns=list(names))
            for name in names:
                if table[name].null_count:
                    raise ValueError(f"{name} is empty in a row")  # noqa: TRY301  # its file is named below
            found = {name: table[name].to_numpy() for name in names}
            found["vector"] = np.stack(found["vector"])
        if np.iscomplexobj(found["vector"]):
            raise ValueError("vector is complex")  # noqa: TRY301
        found["vector"] = np.ascontiguousarray(found["vector"], dtype=np.float32)
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise ValueError(f"{file} cannot be read, or has no item, view and vector: {error}") from error
    item, view, vector = (found[name] for name in names)
    if vector.ndim != 2 or not item.shape == view.shape == vector.shape[:1] or not len(item):
        raise ValueError(
            f"{file} must have as many item, view and vector, the vectors of one width; got items of shape "
            f"{item.shape}, views of shape {view.shape} and vectors of shape {vector.shape}"
        )
    return item, view, vector
