"""Everything that defines a pretraining, as frozen dataclasses: what the command line shows, config.yaml keeps.

The defaults are the recipe of Section 6.2 of arXiv:2203.11437v1 for VI-SimSiam on ImageNette, with the choices that the
paper leaves open made and named. The docstrings, of the sections' classes too, are the help of the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Self, get_type_hints

from experiments.pretraining.image_settings import DataConfig, ViewsConfig
from experiments.pretraining.method_settings import BackboneConfig, MethodConfig, ObjectiveConfig, TrainingConfig
from experiments.pretraining.requirement import require
from experiments.pretraining.run_settings import CheckpointConfig, EngineConfig, MonitorConfig


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
        require("seed", self.seed, 0 <= self.seed < 2**32, "a whole number from 0 to 4294967295")
        processes = self.engine.devices * self.engine.nodes
        require(
            "training.batch_size",
            self.training.batch_size,
            self.training.batch_size % processes == 0 and self.training.batch_size >= 2 * processes,
            f"a multiple of engine.devices × engine.nodes = {processes} with at least 2 images each",
        )
        if self.objective.pairs == "cross":
            require("views.global_views", self.views.global_views, self.views.global_views >= 2, '>= 2 for "cross"')
        require(
            "objective.normalized",
            self.objective.normalized,
            not (self.objective.normalized and self.method.name == "vi_simsiam" and self.views.count > 2),
            f"false for vi_simsiam with {self.views.count} views: the normaliser is known for 2",
        )
        if not self.method.predicts_concentration:
            rate, weight, constant = self.training.concentration_rate, self.objective.weight, "with a constant κ"
            require("training.concentration_rate", rate, rate == 1, f"1 for {self.method.name} {constant}")
            decay = self.training.concentration_decay
            require(
                "training.concentration_decay", decay, decay is None, f"not given for {self.method.name} {constant}"
            )
            require(
                "objective.weight", weight, weight != "concentration", f"one or pull for {self.method.name} {constant}"
            )
        for name in ("mean", "std"):
            value = getattr(self.views, name)
            require(f"views.{name}", value, len(value) in {1, self.data.channels}, f"1 or {self.data.channels} numbers")

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
    "engine.cuda_graphs",
    "engine.threads",
    "checkpoints.",
    "monitor.",
)


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
