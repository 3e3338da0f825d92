"""Pretrainings side by side in one process: the weights of each are those that it would have alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.pretraining import side_by_side
from experiments.pretraining.configuration import BackboneConfig, PretrainConfig, ViewsConfig
from experiments.pretraining.export import load_pretrained
from experiments.pretraining.images import TrainingImages
from experiments.pretraining.metrics import read_rows
from experiments.pretraining.run_folder import RunFolder
from experiments.pretraining.side_by_side import FEATURES, PretrainingsSideBySide
from experiments.pretraining.training import pretrain
from inference.fitting.cuda_graphs import GraphedStep
from inference.fitting.finiteness import NotFiniteError
from inference.fitting.stepwise import StepwiseLearner
from inference.judging.representation import represent

Make = Callable[..., PretrainConfig]


def weights_of(config: PretrainConfig) -> dict[str, torch.Tensor]:
    return load_pretrained(config.out).pair.state_dict()


def require_same_weights(ours: PretrainConfig, theirs: PretrainConfig) -> None:
    expected = weights_of(theirs)
    for name, tensor in weights_of(ours).items():
        assert torch.equal(tensor, expected[name]), f"{ours.out}: {name}"


def shorter(config: PretrainConfig, **engine: Any) -> PretrainConfig:
    return replace(
        config,
        training=replace(config.training, epochs=3),
        monitor=replace(config.monitor, every_epochs=2),
        engine=replace(config.engine, **engine),
    )


@pytest.fixture(scope="module")
def three(configuration: Make, tmp_path_factory: pytest.TempPathFactory) -> list[PretrainConfig]:
    """Two methods with one seed and a third with another, trained side by side in bfloat16, after some timed steps."""
    folder = tmp_path_factory.mktemp("together")
    methods = {"byol": 0, "vi_simsiam": 0, "simsiam": 1}
    configs = [configuration(folder / name, name, seed=seed) for name, seed in methods.items()]
    configs = [shorter(config, precision="bf16-mixed") for config in configs]
    together = PretrainingsSideBySide(configs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side, "_TIMED_STEPS", 2)
        assert together.fitting_epochs(3600) == 3
    assert together.train() == {}
    return configs


def test_each_run_ends_with_the_weights_that_it_would_have_alone(three: list[PretrainConfig], tmp_path: Path) -> None:
    for config in three:
        alone = replace(config, out=str(tmp_path / config.method.name))
        pretrain(alone)
        require_same_weights(config, alone)
    ours, theirs = (read_rows(folder / "byol" / "metrics.csv") for folder in (Path(three[0].out).parent, tmp_path))
    for name in ("step", "epoch", "learning_rate", "knn", "effective_rank", "kappa_q50"):
        assert ours[-1][name] == theirs[-1][name]
    assert [row["epoch"] for row in ours if "knn" in row] == [2, 3]


@pytest.mark.slow
def test_networks_that_draw_random_numbers_draw_those_of_a_run_alone(configuration: Make, tmp_path: Path) -> None:
    drops = BackboneConfig("efficientnet_b0")  # dropout and drop-path
    views = ViewsConfig(size=32, local_views=0)
    configs = [
        configuration(tmp_path / str(seed), "simsiam", seed=seed, backbone=drops, views=views) for seed in (0, 1)
    ]
    configs = [replace(shorter(config), training=replace(config.training, epochs=1)) for config in configs]
    PretrainingsSideBySide(configs).train()
    alone = replace(configs[1], out=str(tmp_path / "alone"))
    pretrain(alone)
    require_same_weights(configs[1], alone)


def test_features_of_the_held_out_images_are_written_in_half_precision(three: list[PretrainConfig]) -> None:
    config = three[1]
    watched = TrainingImages.open(config, torch.device("cpu")).held_out
    assert watched is not None
    expected = represent(load_pretrained(config.out).pair, watched)
    with np.load(Path(config.out) / FEATURES) as saved:
        assert saved["features"].dtype == np.float16
        np.testing.assert_allclose(saved["features"], expected.features, rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose(saved["concentration"], expected.concentration, rtol=1e-4)
        assert saved["labels"].tolist() == watched.labels.tolist()


def test_views_of_a_seed_are_drawn_once_for_all_its_runs(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    whole = side_by_side._Views.__call__

    def noted(self: Any, step: int) -> Any:
        drawn.append(step)
        return whole(self, step)

    monkeypatch.setattr(side_by_side._Views, "__call__", noted)
    configs = [configuration(tmp_path / f"{n}{s}", n, seed=s) for n in ("simsiam", "vi_simsiam") for s in (0, 1)]
    PretrainingsSideBySide(configs).train(epochs=1)
    assert sorted(drawn) == [0, 0, 1, 1, 2, 2]  # of three steps, twice for two seeds


@pytest.mark.parametrize("defects", [0.0, 0.5])
def test_recorded_views_are_those_that_are_drawn_without(
    defects: float, configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the graph: a replay sees only what was copied to the recorded inputs."""

    class Graph:
        def __init__(self, step: GraphedStep) -> None:
            self.taken = step

        def replay(self) -> None:
            self.taken._output = self.taken.step(*self.taken._inputs)

    def record(self: GraphedStep, inputs: Any) -> None:
        self._inputs = [one.clone() for one in inputs]
        self._graph = Graph(self)

    monkeypatch.setattr(GraphedStep, "_can_record", staticmethod(lambda _: True))
    monkeypatch.setattr(GraphedStep, "_warm_up", lambda self, inputs: self.step(*inputs))
    monkeypatch.setattr(GraphedStep, "_record", record)
    views = ViewsConfig(size=8, local_views=1, local_size=6, noise_probability=defects, downscale_probability=defects)
    config = configuration(tmp_path / "run", views=views)
    images = TrainingImages.open(config, torch.device("cpu"))
    batches: Any = images.batches(images.order(), 0, 24)
    recorded, drawn = (side_by_side._Views(batches, record=record) for record in (True, False))
    for step in range(9):
        for ours, theirs in zip(recorded(step), drawn(step), strict=True):
            assert torch.equal(ours, theirs)
    assert isinstance(recorded.made, GraphedStep)
    assert recorded.made.recorded


def test_the_epochs_are_those_that_fit_the_time(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = PretrainingsSideBySide([configuration(tmp_path / "run", "simsiam")])
    # 9 s of preparation; 20 steps in 40 s, of 3 an epoch; an evaluation, every 3 epochs, in 7 s.
    clock, prepared = iter([9.0, 49.0, 49.0, 56.0] * 3), 56.0
    monkeypatch.setattr(together, "_now", lambda: next(clock))
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    assert together.fitting_epochs(prepared + 3 * 6 + 7 + 0.1) == 3
    assert together.fitting_epochs(1e6) == 8
    with pytest.raises(ValueError, match=r"^12 s are left .*; an epoch of 1 runs and an evaluation take 13\.0 s"):
        together.fitting_epochs(prepared + 12)


def test_a_run_that_diverges_leaves_the_others_alone(
    configuration: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (configuration(tmp_path / name, name) for name in ("simsiam", "vi_simsiam"))
    read = StepwiseLearner.read_steps

    def fail_once(self: StepwiseLearner) -> Any:
        if self.pair is together._runs[1].learner.pair:
            raise NotFiniteError(2, "the loss is nan")
        return read(self)

    together = PretrainingsSideBySide([good, bad])
    monkeypatch.setattr(StepwiseLearner, "read_steps", fail_once)
    assert together.train(epochs=2) == {bad.out: "step 2: the loss is nan"}
    assert together._runs[1].learner.step == 3
    assert RunFolder(good.out).exported.exists()
    assert not RunFolder(bad.out).exported.exists()


MISTAKES: dict[str, tuple[Callable[[PretrainConfig], PretrainConfig], str]] = {
    "epochs": (lambda c: replace(c, training=replace(c.training, epochs=5)), r"the same training\.epochs"),
    "data": (lambda c: replace(c, data=replace(c.data, max_pixels=10**6)), "the same data"),
    "size of the views": (lambda c: replace(c, views=replace(c.views, size=9)), r"the same views\.size"),
    "folder": (lambda c: c, "folders of their own as out"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_runs_that_do_not_go_together_are_refused(mistake: str, configuration: Make, tmp_path: Path) -> None:
    change, message = MISTAKES[mistake]
    config = configuration(tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        PretrainingsSideBySide([config, change(config)])
    with pytest.raises(ValueError, match="at least one"):
        PretrainingsSideBySide([])
    streamed = replace(config, data=replace(config.data, path="streamed"))
    with pytest.raises(ValueError, match=r"data\.path resident"):
        PretrainingsSideBySide([streamed])


def test_a_folder_that_holds_a_run_is_refused_before_anything_is_read(three: list[PretrainConfig]) -> None:
    elsewhere = replace(three[0], data=replace(three[0].data, name="nowhere"))
    with pytest.raises(ValueError, match="holds a run already, and none of these goes on: give another --out"):
        PretrainingsSideBySide([elsewhere])


def test_given_weights_and_a_rising_momentum_are_as_in_a_run_alone(
    three: list[PretrainConfig], configuration: Make, tmp_path: Path
) -> None:
    config = configuration(tmp_path / "together", "byol")
    config = replace(
        config, init_from=three[0].out, method=replace(config.method, momentum=0.5, momentum_schedule="cosine")
    )
    PretrainingsSideBySide([config], record=False).train(epochs=2)
    alone = replace(config, out=str(tmp_path / "alone"), training=replace(config.training, epochs=2))
    pretrain(alone)
    require_same_weights(config, alone)
