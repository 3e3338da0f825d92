"""Everything that defines a pretraining, as frozen dataclasses: what the command line shows, config.yaml keeps.

The defaults are the recipe of Section 6.2 of arXiv:2203.11437v1 for VI-SimSiam on ImageNette, with the choices that the
paper leaves open made and named. The docstrings are the help of the command line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Self, get_type_hints

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
        _require("data.name", self.name, self.name != "", "a data set or a folder")
        _require("data.storage_size", self.storage_size, self.storage_size is None or self.storage_size >= 1, ">= 1")
        _require("data.workers", self.workers, self.workers >= 0, ">= 0")
        _require("data.images", self.images, self.images is None or self.images >= 1, ">= 1")
        _require("data.held_out", self.held_out, 0 <= self.held_out < 1, "in [0, 1)")


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
        noise_probability: Probability of Gaussian noise. SimSiam has neither noise nor occlusion; with them some views
            say less than others, and there is more for κ to learn.
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
    noise_probability: float = 0.0
    noise_std: Range = (0.05, 0.3)
    occlusion_probability: float = 0.0
    occlusion_scale: Range = (0.1, 0.5)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for name in ("size", "local_size", "global_views"):
            _require(f"views.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        _require("views.local_views", self.local_views, self.local_views >= 0, ">= 0")
        for name in ("mean", "std"):
            value = getattr(self, name)
            _require(f"views.{name}", value, len(value) in {1, 3}, "one number or three")
        # Ranges and probabilities are checked where they are used, by the recipe of a view.

    @property
    def count(self) -> int:
        """Number M of views of an image."""
        return self.global_views + self.local_views


@dataclass(frozen=True)
class BackboneConfig:
    """The network that is pretrained, always from random weights.

    Attributes:
        name: Any torchvision or timm model, such as resnet18 or vit_tiny_patch16_224, without its classifier
            (torchvision's where both have it; timm/resnet18 asks for timm's); small_convolutional and
            strided_convolutional are networks of four and five convolutions, for images of about 16 and 32 pixels.
        small_image_stem: Give a ResNet a first convolution of 3 by 3 without stride and no max-pooling, which images of
            about 32 pixels need; when not given, where views.size is at most 64.
    """

    name: str = "resnet18"
    small_image_stem: bool | None = None


@dataclass(frozen=True)
class MethodConfig:
    """Model and guide.

    Attributes:
        name: simsiam, byol or vi_simsiam.
        dim: Dimension of the latent space (BYOL's own is 256).
        hidden: Width of the predictor's hidden layer, and of BYOL's projector; when not given, a quarter of dim, and
            for BYOL 4096.
        concentration: The constant concentration κ of SimSiam, of BYOL, and of VI-SimSiam with concentration_map
            constant.
        concentration_map: How VI-SimSiam's κ is made positive. relative predicts κ/(dim − 1), bounded; softplus, of
            the raw output and without a scale, is the literal reading of the paper, which names none. constant
            predicts no κ: Power Spherical experts of the constant method.concentration, a control; with nats per
            dimension a κ of the order of dim − 1 belongs to it.
        concentration_gradient: Where the gradient of VI-SimSiam's κ goes. through the whole network, as in the paper,
            or to the head alone, which is κ's own row of the predictor's last layer: what comes before then learns
            from the mean direction only, with κ as a weight.
        momentum: BYOL's momentum of the moving average.
    """

    name: Literal["simsiam", "byol", "vi_simsiam"] = "vi_simsiam"
    dim: int = 2048
    hidden: int | None = None
    concentration: float = 1.0
    concentration_map: Literal["relative", "softplus", "constant"] = "relative"
    concentration_gradient: Literal["through", "head"] = "through"
    momentum: float = 0.996

    def __post_init__(self) -> None:
        _require("method.dim", self.dim, self.dim >= 2, ">= 2")
        _require("method.hidden", self.hidden, self.hidden is None or self.hidden >= 1, ">= 1")
        _require("method.concentration", self.concentration, 0 < self.concentration < math.inf, "positive and finite")
        _require("method.momentum", self.momentum, 0 <= self.momentum <= 1, "in [0, 1]")
        _require(
            "method.concentration_gradient",
            self.concentration_gradient,
            self.concentration_gradient == "through" or self.predicts_concentration,
            f"through for {self.name} with a constant κ",
        )

    @property
    def predicts_concentration(self) -> bool:
        """Whether κ depends on the image."""
        return self.name == "vi_simsiam" and self.concentration_map != "constant"


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised, a mean over images.

    Attributes:
        pairs: cross compares each view's expert with the guide over the other views (Algorithm 1); all includes the
            view's own (Eqs. 9 and 12).
        normalized: Whether the product of experts is normalised.
        nats_per: Unit of the loss: nats for an image, as printed, or for a dimension of the sphere (dim − 1 of them):
            κ, and with it the gradient, grows with dim, and with nats per dimension one learning rate serves every dim.
            image leaves the loss undivided, which the weight pull asks for.
        over_views: sum over the views, as in Algorithm 1, or their mean; with SimSiam, κ = 1 and two views the mean is
            SimSiam's published loss up to a constant. With M views the sum is M times the mean, and so is its gradient.
        weight: What each term, a view's expert at another view's representation, is multiplied by, behind a
            stop-gradient. one is the likelihood. pull is 1/κ for SimSiam and BYOL and (1 + cosine)/κ for VI-SimSiam:
            the mean direction then learns as in SimSiam, and κ from weighted likelihoods; the loss is in the unit of
            SimSiam's, not in nats, and nats_per must be image. concentration is (κ/(dim − 1))^−beta.
        beta: Exponent β of the weight concentration, from 0 (the likelihood) to 1 (κ no longer decides how hard a view
            pulls on the mean direction), as in β-NLL (arXiv:2203.09168).
    """

    pairs: Literal["cross", "all"] = "cross"
    normalized: bool = False
    nats_per: Literal["image", "dimension"] = "dimension"
    over_views: Literal["sum", "mean"] = "sum"
    weight: Literal["one", "pull", "concentration"] = "one"
    beta: float = 0.5

    def __post_init__(self) -> None:
        _require("objective.beta", self.beta, 0 <= self.beta <= 1, "in [0, 1]")
        _require(
            "objective.nats_per",
            self.nats_per,
            not (self.weight == "pull" and self.nats_per == "dimension"),
            "image with objective.weight pull, under which the loss is in no nats and does not grow with dim",
        )
        _require(
            "objective.weight",
            self.weight,
            self.weight == "one" or not self.normalized,
            "one with objective.normalized, whose normaliser belongs to all terms of an image together",
        )


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe of Section 6.2: momentum SGD with a cosine schedule.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images of a step, of all devices together: each takes an equal part.
        learning_rate: At the start of the cosine schedule, which ends at zero. It belongs to batch_size and is used as
            it stands: it is not rescaled with the batch or the number of devices.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD, on every parameter.
        warmup_epochs: Epochs over which the rate first rises linearly.
        gradient_clip: Largest norm of the gradient; no clipping when not given. The gradient of a Power Spherical
            expert is unbounded (κ/(1 + cosine)).
        concentration_rate: Factor on the learning rate of κ's own row of VI-SimSiam's last layer, the same as if the
            row were in a parameter group of its own.
    """

    epochs: int = 200
    batch_size: int = 64
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 0.0
    gradient_clip: float | None = 1.0
    concentration_rate: float = 1.0

    def __post_init__(self) -> None:
        _require("training.epochs", self.epochs, self.epochs >= 1, ">= 1")
        _require("training.batch_size", self.batch_size, self.batch_size >= 2, ">= 2 (batch normalisation needs it)")
        for name in ("learning_rate", "gradient_clip", "concentration_rate"):
            value = getattr(self, name)
            _require(f"training.{name}", value, value is None or 0 < value < math.inf, "positive and finite")
        _require("training.momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")
        _require("training.weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "finite and >= 0")
        _require("training.warmup_epochs", self.warmup_epochs, 0 <= self.warmup_epochs < self.epochs, "in [0, epochs)")


@dataclass(frozen=True)
class EngineConfig:
    """The machine.

    Attributes:
        accelerator: gpu, cpu, or auto for a GPU where there is one.
        devices: GPUs (or CPU processes) of each machine.
        nodes: Machines; the command is then started on each by torchrun or srun.
        precision: bf16-mixed runs the networks in bfloat16; the objective is in float32 either way.
        channels_last: Keep images and convolutions with the channels last, as tensor cores want them.
        compile: Compile encoder, predictor and the augmentation on the device with torch.compile.
        threads: Threads of each process for computations on the CPU; torch's choice when not given.
    """

    accelerator: Literal["auto", "gpu", "cpu"] = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Literal["32", "bf16-mixed"] = "32"
    channels_last: bool = True
    compile: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("devices", "nodes"):
            _require(f"engine.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        _require("engine.threads", self.threads, self.threads is None or self.threads >= 1, ">= 1")


@dataclass(frozen=True)
class CheckpointConfig:
    """When the state of the run is saved; the end always is.

    Attributes:
        every_steps: Save every so many steps, wherever in an epoch; not in between when not given.
        every_epochs: Save at the end of every so many epochs.
        seconds_apart: Pass over a save that is due sooner than this after the one before: where an epoch takes a
            second, saving would take longer than training.
    """

    every_steps: int | None = 1000
    every_epochs: int = 1
    seconds_apart: float = 20.0

    def __post_init__(self) -> None:
        _require("checkpoints.every_steps", self.every_steps, self.every_steps is None or self.every_steps >= 1, ">= 1")
        _require("checkpoints.every_epochs", self.every_epochs, self.every_epochs >= 1, ">= 1")
        _require("checkpoints.seconds_apart", self.seconds_apart, self.seconds_apart >= 0, ">= 0")


@dataclass(frozen=True)
class MonitorConfig:
    """What is watched during the training; nothing here changes the weights.

    Attributes:
        every_steps: Steps between two rows of metrics.csv (loss, gradient, images a second); the loss is also checked
            for NaN and infinity then.
        every_epochs: Epochs between evaluations on held-out images (nearest neighbours, collapse, κ); the last is
            always evaluated.
        neighbours: Training images among which neighbours are sought, at most; the first ones of a fixed random order.
        images: Held-out images that are evaluated, at most; chosen likewise.
        k: Neighbours that vote.
        tensorboard: Whether to write TensorBoard's files too.
        curves: Whether to draw training_curves.png at the end.
        progress: Whether to show a progress bar.
    """

    every_steps: int = 50
    every_epochs: int = 10
    neighbours: int = 10_000
    images: int = 4_000
    k: int = 20
    tensorboard: bool = True
    curves: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("every_steps", "every_epochs", "neighbours", "k"):
            _require(f"monitor.{name}", getattr(self, name), getattr(self, name) >= 1, ">= 1")
        _require("monitor.images", self.images, self.images >= 2, ">= 2")


@dataclass(frozen=True)
class PretrainConfig:
    """The run.

    Attributes:
        out: Folder of the run: config.yaml, metrics.csv, TensorBoard's files, checkpoints and the exported encoder.
        seed: Of weights, order of the images and views; the same seed gives the same run.
        data: Images.
        views: Augmented views of an image.
        backbone: The network that is pretrained.
        method: Model and guide.
        objective: What is minimised.
        training: Optimiser and schedule.
        engine: The machine.
        checkpoints: When the state is saved.
        monitor: What is watched.
    """

    out: str = "runs/pretrain"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)

    def __post_init__(self) -> None:
        _require("seed", self.seed, 0 <= self.seed < 2**32, "a whole number from 0 to 4294967295")
        processes = self.engine.devices * self.engine.nodes
        _require(
            "training.batch_size",
            self.training.batch_size,
            self.training.batch_size % processes == 0 and self.training.batch_size >= 2 * processes,
            f"a multiple of engine.devices × engine.nodes = {processes} with at least 2 images each",
        )
        if self.objective.pairs == "cross":
            _require("views.global_views", self.views.global_views, self.views.global_views >= 2, '>= 2 for "cross"')
        _require(
            "objective.normalized",
            self.objective.normalized,
            not (self.objective.normalized and self.method.name == "vi_simsiam" and self.views.count > 2),
            f"false for vi_simsiam with {self.views.count} views: the normaliser is known for 2",
        )
        if not self.method.predicts_concentration:
            rate, weight, constant = self.training.concentration_rate, self.objective.weight, "with a constant κ"
            _require("training.concentration_rate", rate, rate == 1, f"1 for {self.method.name} {constant}")
            _require(
                "objective.weight", weight, weight != "concentration", f"one or pull for {self.method.name} {constant}"
            )
        for name in ("mean", "std"):
            value = getattr(self.views, name)
            _require(
                f"views.{name}", value, len(value) in {1, self.data.channels}, f"1 or {self.data.channels} numbers"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries of numbers, texts, lists and None."""
        return _plain(asdict(self))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `to_dict` gave; missing entries have their defaults.

        Raises:
            ValueError: If an entry is unknown or has a value that is not allowed.
        """
        made: Self = _from_dict(cls, values, "")
        return made

    def differences(self, other: PretrainConfig) -> list[str]:
        """What differs between two configurations and changes the weights that come out, one line each.

        Folders, machine, checkpoints and what is watched do not count.
        """
        return [
            f"{name} {ours!r}, now {theirs!r}"
            for (name, ours), (_, theirs) in zip(_leaves(self), _leaves(other), strict=True)
            if ours != theirs and not name.startswith(_NO_EFFECT_ON_WEIGHTS)
        ]


_NO_EFFECT_ON_WEIGHTS = (
    "out",
    "data.root",
    "data.download",
    "data.cache",
    "data.workers",
    "engine.accelerator",
    "engine.devices",
    "engine.nodes",
    "engine.threads",
    "checkpoints.",
    "monitor.",
)


def _require(name: str, value: object, allowed: bool, expected: str) -> None:
    if not allowed:
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name, value


def _from_dict(cls: Any, values: Mapping[str, Any], prefix: str) -> Any:
    types = get_type_hints(cls)
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise ValueError(f"configuration has unknown entries: {', '.join(prefix + name for name in unknown)}")
    arguments = {}
    for name, value in values.items():
        if is_dataclass(types[name]):
            arguments[name] = _from_dict(types[name], value, f"{prefix}{name}.")
        else:
            arguments[name] = tuple(value) if isinstance(value, list) else value
    return cls(**arguments)
