"""The sections of a configuration about images and their views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from experiments.pretraining.requirement import require

Range = tuple[float, float]


@dataclass(frozen=True)
class DataConfig:
    """Images.

    Attributes:
        name: imagenette, imagewoof, cifar10, digits (which need no files), or the path of any folder of images.
        root: Folder that holds the named data sets.
        download: Fetch a named data set that is missing; otherwise the run stops and says what to put where.
        skip_broken: Leave out images that cannot be decoded, and count them, instead of stopping before the training.
        channels: 3 for colour, 1 for grey images.
        path: resident keeps all decoded images on the device and augments them there in batches; streamed reads and
            augments them in worker processes, with the same distribution, for sets that outgrow the device's memory.
        storage_size: Images larger than this on the shorter side are kept downscaled to it (resident path only); a
            quarter more than views.size when not given.
        cache: Folder for the decoded images, so that the next run starts at once (resident path only); none when not
            given.
        workers: Worker processes of each training process on the streamed path.
        images: At most so many training images, of each class equally many: a fixed choice, the same for every seed;
            all when not given.
        held_out: Fraction of the training images of each class that is kept from the training and takes the place of
            the validation images, which are then not opened: for choosing settings without looking at those. The
            choice is the same for every seed.
    """

    name: str = "imagenette"
    root: str = "data"
    download: bool = False
    skip_broken: bool = False
    channels: Literal[1, 3] = 3
    path: Literal["resident", "streamed"] = "resident"
    storage_size: int | None = None
    cache: str | None = None
    workers: int = 8
    images: int | None = None
    held_out: float = 0.0

    def __post_init__(self) -> None:
        require("data.name", self.name, self.name != "", "a data set or a folder")
        require("data.storage_size", self.storage_size, self.storage_size is None or self.storage_size >= 1, ">= 1")
        require("data.workers", self.workers, self.workers >= 0, ">= 0")
        require("data.images", self.images, self.images is None or self.images >= 1, ">= 1")
        require("data.held_out", self.held_out, 0 <= self.held_out < 1, "in [0, 1)")


@dataclass(frozen=True)
class ViewsConfig:
    """Augmented views of an image.

    SimSiam's augmentations (arXiv:2011.10566). The paper trains with "multi-crop" and names neither sizes nor counts;
    the choice here is SwAV's (arXiv:2006.09882) at 128 pixels with two small views less: two global views, which the
    guide holds, and four local ones of half the size, which the model explains and the guide does not hold. Local
    views cover less of an image than global ones.

    Attributes:
        size: Height and width of a global view, in pixels.
        global_views: Number of global views; the guide is the mixture over them.
        global_crop_scale: Smallest and largest fraction of the image that a global view covers.
        local_views: Number of local views (multi-crop); 0 for none.
        local_size: Height and width of a local view, in pixels.
        local_crop_scale: Smallest and largest fraction of the image that a local view covers.
        crop_ratio: Smallest and largest ratio of width to height of a crop.
        brightness: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        saturation: Largest relative change of saturation.
        hue: Largest shift of hue, in turns, at most 0.5.
        jitter_probability: Probability of the four changes above.
        grey_probability: Probability of a view without colour.
        blur_probability: Probability of a Gaussian blur.
        blur_sigma: Smallest and largest standard deviation of the blur, in pixels.
        flip_probability: Probability of a horizontal flip.
        downscale_probability: Probability that a view is made smaller and enlarged again. SimSiam has neither this nor
            noise nor occlusion; with them some views say less than others, and there is more for κ to learn.
        downscale_factor: Smallest and largest factor by which it is made smaller.
        noise_probability: Probability of Gaussian noise.
        noise_std: Smallest and largest standard deviation of the noise, on values in [0, 1].
        occlusion_probability: Probability that a grey rectangle covers a part of a view.
        occlusion_scale: Smallest and largest fraction of a view's area that is covered.
        mean: Mean that is subtracted from each channel (values in [0, 1]); one number serves all channels.
        std: Standard deviation that each channel is divided by; one number serves all channels.
    """

    size: int = 128
    global_views: int = 2
    global_crop_scale: Range = (0.2, 1.0)
    local_views: int = 4
    local_size: int = 64
    local_crop_scale: Range = (0.05, 0.2)
    crop_ratio: Range = (3 / 4, 4 / 3)
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_probability: float = 0.8
    grey_probability: float = 0.2
    blur_probability: float = 0.5
    blur_sigma: Range = (0.1, 2.0)
    flip_probability: float = 0.5
    downscale_probability: float = 0.0
    downscale_factor: Range = (1.5, 4.0)
    noise_probability: float = 0.0
    noise_std: Range = (0.05, 0.3)
    occlusion_probability: float = 0.0
    occlusion_scale: Range = (0.1, 0.5)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for name in ("size", "local_size", "global_views"):
            require(f"views.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        require("views.local_views", self.local_views, self.local_views >= 0, ">= 0")
        for name in ("mean", "std"):
            value = getattr(self, name)
            require(f"views.{name}", value, len(value) in {1, 3}, "one number or three")
        # Ranges and probabilities are checked where they are used, by the recipe of a view.

    @property
    def count(self) -> int:
        """Number M of views of an image."""
        return self.global_views + self.local_views
