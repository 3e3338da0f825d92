"""Everything that defines a pretraining, as frozen dataclasses: the fields of the command line and of config.yaml.

The defaults are the recipe of Section 6.2 of arXiv:2203.11437v1 for VI-SimSiam on ImageNette, with the choices that the
paper leaves open made and named. The docstrings, of the sections' classes too, are the help of the command line.
Nothing here needs torch, so that the help and a mistake are quick.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Self, get_args, get_type_hints

from experiments.command_line import bounds
from experiments.images.augmentations.recipe import IMAGENET_MEAN, IMAGENET_STD, Augmentation


@dataclass(frozen=True)
class DataConfig(bounds.Bounded, prefix="data."):
    """Images.

    Attributes:
        name: imagenette, imagewoof, cifar10, digits (which need no files), or the path of any folder of images.
        root: Folder that holds the named data sets.
        download: Download a named data set that is missing; otherwise the run stops and tells where to put it.
        skip_broken: Leave out images that cannot be decoded, and count them, instead of stopping before the training.
        channels: 3 for colour, 1 for grey images; image files of colours are then read as grey.
        path: resident keeps all decoded images on the device; streamed decodes them when they are needed, for sets
            larger than the device's memory. The views are the same, and are made on the device.
        storage_size: Images larger than this on the shorter side are downscaled to it before views are made; a quarter
            more than views.size when not given.
        cache: Folder that keeps the decoded images, so the next run starts at once (resident path only); none when not
            given.
        workers: Threads of each training process that decode batches ahead on the streamed path; with 0 nothing is
            decoded ahead.
        max_pixels: Height times width of the largest image that is decoded; larger ones count as broken.
        images: Largest number of training images, equally many of each class: a fixed choice, the same for every seed;
            all when not given.
        held_out: Fraction of the training images of each class that is not trained on and replaces the validation
            images, which are then not opened. Use it to choose settings. The choice of images is the same for every
            seed.
    """

    name: str = "imagenette"
    root: str = "data"
    download: bool = False
    skip_broken: bool = False
    channels: Literal[1, 3] = 3
    path: Literal["resident", "streamed"] = "resident"
    storage_size: bounds.Count | None = None
    cache: str | None = None
    workers: bounds.Natural = 8
    max_pixels: bounds.Count = 2**26
    images: bounds.Count | None = None
    held_out: bounds.FractionBelowOne = 0.0

    def _check(self) -> None:
        self.require("name", bool, "a data set or a folder")


@dataclass(frozen=True)
class ViewsConfig(Augmentation, prefix="views."):
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
        mean: Mean that is subtracted from each channel (values in [0, 1]); one number serves all channels.
        std: Standard deviation that each channel is divided by; one number serves all channels.
    """

    size: bounds.Count = 128
    global_views: bounds.Count = 2
    global_crop_scale: bounds.PositiveFractionRange = (0.2, 1.0)
    local_views: bounds.Natural = 4
    local_size: bounds.Count = 64
    local_crop_scale: bounds.PositiveFractionRange = (0.05, 0.2)
    mean: float | tuple[float, ...] = IMAGENET_MEAN
    std: float | tuple[float, ...] = IMAGENET_STD

    def _check(self) -> None:
        for name in ("mean", "std"):
            self.require(name, lambda value: len(each(value, 1)) in {1, 3}, "one number or three")
        self.require("mean", lambda value: all(map(math.isfinite, each(value, 1))), "finite")
        self.require("std", lambda value: all(0 < one < math.inf for one in each(value, 1)), "positive and finite")

    @property
    def count(self) -> int:
        """Number M of views of an image."""
        return self.global_views + self.local_views

    def normalization(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel; one number serves all of them."""
        return each(self.mean, channels), each(self.std, channels)


def each(value: float | tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A number for each channel; one serves all of them."""
    values = value if isinstance(value, tuple) else (value,)
    return values * channels if len(values) == 1 else values


@dataclass(frozen=True)
class BackboneConfig:
    """The network that is pretrained, always from random weights.

    Attributes:
        name: Any torchvision or timm model, such as resnet18 or vit_tiny_patch16_224, without its classifier
            (torchvision's where both have it; timm/resnet18 is timm's); small_convolutional and
            strided_convolutional are networks of four and five convolutions, for images of about 16 and 32 pixels.
        small_image_stem: Give a ResNet a first convolution of 3 by 3 without stride and no max-pooling, as images of
            about 32 pixels need; when not given, true if views.size is at most 64.
        zero_init_residual: Let the last batch normalisation of each residual block of a ResNet begin at zero, as
            SimSiam's authors do.
    """

    name: str = "resnet18"
    small_image_stem: bool | None = None
    zero_init_residual: bool = False


@dataclass(frozen=True)
class MethodConfig(bounds.Bounded, prefix="method."):
    """Model and guide.

    Attributes:
        name: simsiam, byol or vi_simsiam.
        dim: Dimension of the latent space (BYOL's own is 256).
        hidden: Width of the predictor's hidden layer, and of BYOL's projector; when not given, a quarter of dim, and
            for BYOL 4096.
        concentration: The constant concentration κ of SimSiam, of BYOL, and of VI-SimSiam with concentration_map
            constant.
        concentration_map: How VI-SimSiam's κ is made positive. relative predicts κ/(dim − 1), bounded; softplus, of
            the raw output and without a scale, is the literal reading of the paper, which names no map; scaled_softplus
            is dim − 1 times that, a control. constant predicts no κ: a control with Power Spherical experts of the
            constant method.concentration; with nats per dimension choose a κ of the order of dim − 1.
        concentration_gradient: Where the gradient of VI-SimSiam's κ goes. through the whole network, as in the paper,
            or only to the head, κ's own row of the predictor's last layer: the layers before then learn from the mean
            direction only, with κ as a weight.
        momentum: BYOL's momentum of the moving average.
        momentum_schedule: constant, or cosine: from momentum to 1 over the training, as in BYOL's code.
    """

    name: Literal["simsiam", "byol", "vi_simsiam"] = "vi_simsiam"
    dim: bounds.Several = 2048
    hidden: bounds.Count | None = None
    concentration: bounds.Positive = 1.0
    concentration_map: Literal["relative", "softplus", "scaled_softplus", "constant"] = "relative"
    concentration_gradient: Literal["through", "head"] = "through"
    momentum: bounds.Fraction = 0.996
    momentum_schedule: Literal["constant", "cosine"] = "constant"

    def _check(self) -> None:
        if not self.predicts_concentration:
            through = f"through for {self.name} with a constant κ"
            self.require("concentration_gradient", lambda gradient: gradient == "through", through)

    @property
    def predicts_concentration(self) -> bool:
        """Whether κ depends on the image."""
        return self.name == "vi_simsiam" and self.concentration_map != "constant"


@dataclass(frozen=True)
class ObjectiveConfig(bounds.Bounded, prefix="objective."):
    """What is minimised, a mean over images.

    Attributes:
        pairs: cross compares each view's expert with the guide over the other views (Algorithm 1); all includes the
            view's own (Eqs. 9 and 12).
        normalized: Whether the product of experts is normalised.
        nats_per: Unit of the loss: nats for an image, as printed, or for a dimension of the sphere (dim − 1 of them):
            κ, and with it the gradient, grows with dim, and with nats per dimension one learning rate serves every dim.
            image leaves the loss undivided; the weight pull needs it.
        over_views: sum over the views, as in Algorithm 1, or their mean; with SimSiam, κ = 1 and two views the mean is
            SimSiam's published loss up to a constant. With M views the sum is M times the mean, and so is its gradient.
        weight: Factor of each term (a view's expert at another view's representation), behind a stop-gradient. one is
            the likelihood. pull is 1/κ for SimSiam and BYOL and (1 + cosine)/κ for VI-SimSiam: the mean direction then
            learns as in SimSiam, and κ from weighted likelihoods; the loss is in the unit of SimSiam's, not in nats,
            and nats_per must be image. concentration is (κ/(dim − 1))^−beta.
        beta: Exponent β of the weight concentration, from 0 (the likelihood) to 1 (the gradient on the mean direction
            no longer depends on κ), as in β-NLL (arXiv:2203.09168).
    """

    pairs: Literal["cross", "all"] = "cross"
    normalized: bool = False
    nats_per: Literal["image", "dimension"] = "dimension"
    over_views: Literal["sum", "mean"] = "sum"
    weight: Literal["one", "pull", "concentration"] = "one"
    beta: bounds.Fraction = 0.5

    def _check(self) -> None:
        if self.weight == "pull":
            image = "image with objective.weight pull, under which the loss is not in nats and does not grow with dim"
            self.require("nats_per", lambda unit: unit == "image", image)
        if self.normalized:
            one = "one with objective.normalized, whose normaliser belongs to all terms of an image together"
            self.require("weight", lambda weight: weight == "one", one)


@dataclass(frozen=True)
class TrainingConfig(bounds.Bounded, prefix="training."):
    """The recipe of Section 6.2: momentum SGD with a cosine schedule.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images of a step, of all devices together: each takes an equal part.
        learning_rate: At the start of the cosine schedule, which ends at zero. It is not rescaled with the batch or the
            number of devices.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD, on every parameter.
        predictor_rate: Learning rate of the predictor, the same in every step, as in SimSiam's code; the schedule's
            when not given.
        warmup_epochs: Epochs over which the rate first rises linearly.
        gradient_clip: Largest norm of the gradient; no clipping when not given. The gradient of a Power Spherical
            expert is unbounded (κ/(1 + cosine)).
        concentration_rate: Factor on the learning rate of κ's own row of VI-SimSiam's last layer, the same as if the
            row were in a parameter group of its own.
        concentration_decay: Weight decay of that row; weight_decay when not given.
    """

    epochs: bounds.Count = 200
    batch_size: int = 64
    learning_rate: bounds.Positive = 1e-3
    momentum: bounds.FractionBelowOne = 0.9
    weight_decay: bounds.NotNegative = 1e-4
    predictor_rate: bounds.Positive | None = None
    warmup_epochs: float = 0.0
    gradient_clip: bounds.Positive | None = 1.0
    concentration_rate: bounds.Positive = 1.0
    concentration_decay: bounds.NotNegative | None = None

    def _check(self) -> None:
        self.require("batch_size", lambda size: size >= 2, ">= 2 (batch normalisation needs it)")
        self.require("warmup_epochs", lambda warmup: 0 <= warmup < self.epochs, "in [0, epochs)")


@dataclass(frozen=True)
class EngineConfig(bounds.Bounded, prefix="engine."):
    """The machine.

    Attributes:
        accelerator: gpu, cpu, or auto for a GPU where there is one.
        devices: GPUs (or CPU processes) of each machine.
        nodes: Machines; the command is then started on each by torchrun or srun.
        precision: bf16-mixed runs the networks in bfloat16; the objective is in float32 either way.
        channels_last: Keep images and convolutions with the channels last, which is faster on tensor cores.
        compile: Compile encoder, predictor and the augmentation on the device with torch.compile.
        cuda_graphs: Record the training step once and replay it as one launch, without Python: on one GPU, with one
            process. The operations and their order stay the same. A network that waits for the GPU within a step cannot
            be recorded. (Tried on a CPU, where the recording is stood in for; not yet on a GPU.)
        threads: Threads of each process for computations on the CPU; torch's choice when not given.
    """

    accelerator: Literal["auto", "gpu", "cpu"] = "auto"
    devices: bounds.Count = 1
    nodes: bounds.Count = 1
    precision: Literal["32", "bf16-mixed"] = "32"
    channels_last: bool = True
    compile: bool = False
    cuda_graphs: bool = False
    threads: bounds.Count | None = None

    def _check(self) -> None:
        if self.cuda_graphs:
            none = "false with engine.accelerator cpu, which has none"
            self.require("cuda_graphs", lambda _: self.accelerator != "cpu", none)
            one = f"false with engine.devices × engine.nodes = {self.processes}: a recorded step averages no gradients"
            self.require("cuda_graphs", lambda _: self.processes == 1, one)

    @property
    def processes(self) -> int:
        """Of the whole run."""
        return self.devices * self.nodes


@dataclass(frozen=True)
class CheckpointConfig(bounds.Bounded, prefix="checkpoints."):
    """When the state of the run is saved; the end always is.

    Attributes:
        every_steps: Steps between two saves, also within an epoch; saves only at the ends of epochs when not given.
        every_epochs: Epochs between two saves at the end of an epoch.
        seconds_apart: Smallest number of seconds between two saves, because saving may take longer than a short epoch.
    """

    every_steps: bounds.Count | None = 1000
    every_epochs: bounds.Count = 1
    seconds_apart: bounds.NotNegative = 20.0


@dataclass(frozen=True)
class MonitorConfig(bounds.Bounded, prefix="monitor."):
    """What is watched during the training; nothing here changes the weights.

    Attributes:
        every_steps: Steps between two rows of metrics.csv (loss, gradient, images a second); the loss is also checked
            for NaN and infinity then.
        every_epochs: Epochs between evaluations on held-out images (nearest neighbours, collapse, κ); the last is
            always evaluated.
        neighbours: Largest number of training images among which neighbours are searched; the first ones of a fixed
            random order.
        images: Largest number of held-out images that are evaluated; chosen in the same way.
        k: Neighbours that vote.
        tensorboard: Whether to write TensorBoard's files too.
        curves: Whether to draw training_curves.png at the end.
        progress: Whether to show a progress bar.
    """

    every_steps: bounds.Count = 50
    every_epochs: bounds.Count = 10
    neighbours: bounds.Count = 10_000
    images: bounds.Several = 4_000
    k: bounds.Count = 20
    tensorboard: bool = True
    curves: bool = True
    progress: bool = True


@dataclass(frozen=True)
class PretrainConfig(bounds.Bounded):
    """The run.

    Attributes:
        out: Folder of the run: config.yaml, metrics.csv, TensorBoard's files, checkpoints and the exported encoder.
        seed: Of weights, order of the images and views; the same seed gives the same run.
        init_from: A run's folder, an exported encoder or a checkpoint whose weights the run starts with; random ones
            when not given. The networks must be the same; all else, the images too, may differ.
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
    seed: bounds.Word = 0
    init_from: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)

    def _check(self) -> None:
        method, objective, training, views = self.method, self.objective, self.training, self.views
        self.require("out", bool, "a folder")
        self.require("init_from", lambda path: path is None or bool(path), "a run's folder or a file")
        processes = self.engine.processes
        of_each = f"a multiple of engine.devices × engine.nodes = {processes} with at least 2 images each"
        training.require("batch_size", lambda n: n % processes == 0 and n >= 2 * processes, of_each)
        if objective.pairs == "cross":
            views.require("global_views", lambda count: count >= 2, '>= 2 for "cross"')
        if method.name == "vi_simsiam" and views.count > 2:
            plain = f"false for vi_simsiam with {views.count} views: the normaliser is known for 2"
            objective.require("normalized", lambda normalized: not normalized, plain)
        if not method.predicts_concentration:
            constant = f"for {method.name} with a constant κ"
            training.require("concentration_rate", lambda rate: rate == 1, f"1 {constant}")
            training.require("concentration_decay", lambda _: False, f"not given {constant}")
            objective.require("weight", lambda w: w != "concentration", f"one or pull {constant}")
        if self.engine.cuda_graphs:
            recorded = "constant with engine.cuda_graphs: a recorded step does not know its number"
            method.require("momentum_schedule", lambda schedule: schedule == "constant", recorded)
        expected = "one number" + (" or three" if self.data.channels == 3 else " with data.channels 1")
        for name in ("mean", "std"):
            views.require(name, lambda value: len(each(value, self.data.channels)) == self.data.channels, expected)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries of numbers, texts, lists and None."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `to_dict` gave; missing entries have their defaults.

        Raises:
            ValueError: If an entry is unknown, has no value, or has one that is not allowed.
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


# Of init_from, what came of it is in the checkpoint; of data.name, the images are compared.
_NO_EFFECT_ON_WEIGHTS = (
    "out", "init_from", "data.name", "data.root", "data.download", "data.skip_broken", "data.max_pixels", "data.cache",
    "data.workers", "engine.accelerator", "engine.devices", "engine.nodes", "engine.cuda_graphs", "engine.threads",
    "checkpoints.", "monitor.",
)  # fmt: skip


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name, value


def _from_dict(cls: Any, values: Mapping[str, Any], prefix: str) -> Any:
    if not isinstance(values, Mapping):
        name = prefix.rstrip(".") or "configuration"
        raise ValueError(f"{name} must be fields and values, got {values!r}")  # noqa: TRY004  # a file is wrong
    hints = get_type_hints(cls)
    unknown = sorted(values.keys() - {entry.name for entry in fields(cls)})
    if unknown:
        raise ValueError(f"configuration has unknown entries: {', '.join(prefix + name for name in unknown)}")

    def made(name: str, value: Any) -> Any:
        if value is None and type(None) not in get_args(hints[name]):
            raise ValueError(f"{prefix}{name} must have a value, got none")
        if is_dataclass(hints[name]):
            return _from_dict(hints[name], value, f"{prefix}{name}.")
        return tuple(value) if isinstance(value, list) else value

    return cls(**{name: made(name, value) for name, value in values.items()})
