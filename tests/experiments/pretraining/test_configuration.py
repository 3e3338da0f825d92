"""The command line and the configurations: every field explained, every file valid, every mistake in one line."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from experiments import pretrain
from experiments.pretraining.configuration import (
    BackboneConfig,
    DataConfig,
    EngineConfig,
    MethodConfig,
    ObjectiveConfig,
    PretrainConfig,
    TrainingConfig,
    ViewsConfig,
)
from experiments.pretraining.images import view_groups

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "experiments" / "configs"
DATA_SETS = ("imagenette", "imagewoof", "cifar10", "digits")
METHODS = ("simsiam", "byol", "vi_simsiam")


def parsed(*arguments: object) -> PretrainConfig:
    return pretrain.parse([str(argument) for argument in arguments])[0]


def fields_of(config: Any, prefix: str = "") -> list[str]:
    types = get_type_hints(config)
    names = []
    for entry in fields(config):
        if is_dataclass(types[entry.name]):
            names += fields_of(types[entry.name], f"{prefix}{entry.name}.")
        else:
            names.append(prefix + entry.name)
    return names


def test_help_explains_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        pretrain.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for name in fields_of(PretrainConfig):
        explained = re.search(rf"\n  --{re.escape(name)} .*?\n? +\S(.*?)\(type:", text, re.DOTALL)
        assert explained, name
        assert len(explained.group(1).strip()) > 10, name


def test_the_defaults_are_the_recipe_of_the_paper() -> None:
    config = PretrainConfig()
    training = config.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (200, 64, 1e-3)
    assert (training.momentum, training.weight_decay, training.warmup_epochs) == (0.9, 1e-4, 0)
    assert (config.backbone.name, config.method.name, config.data.name) == ("resnet18", "vi_simsiam", "imagenette")
    assert config.views.count > 2
    assert parsed() == config


@pytest.mark.parametrize("data", DATA_SETS)
@pytest.mark.parametrize("method", METHODS)
def test_there_is_a_configuration_of_every_method_on_every_set(data: str, method: str) -> None:
    small = (CONFIGS / f"{data}.yaml").exists()
    of_the_set = ("--config", CONFIGS / f"{data}.yaml") if small else ("--data.name", data)
    config = parsed("--config", CONFIGS / f"{method}.yaml", *of_the_set)
    assert (config.method.name, config.data.name) == (method, data)
    assert config.training.gradient_clip == (1 if method == "vi_simsiam" else None)
    assert small == (config.views.size < 64)
    if not small:
        assert config.training == replace(TrainingConfig(), gradient_clip=config.training.gradient_clip)
        assert config.views == ViewsConfig()


def test_every_configuration_holds_known_fields_and_no_other_files_lie_there() -> None:
    files = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
    expected = {*(f"{method}.yaml" for method in METHODS), "cifar10.yaml", "digits.yaml"}
    changes = {path.name for path in files if path.parent.name == "changes"}
    assert {str(path) for path in files if path.parent.name != "changes"} == expected
    assert changes == {*(f"tuned_{method}.yaml" for method in METHODS),
                       "vi_simsiam_as_printed.yaml", "two_views.yaml", "gpu.yaml",
                       "defects_among_views.yaml"}  # fmt: skip
    for path in files:
        PretrainConfig.from_dict(yaml.safe_load((CONFIGS / path).read_text(encoding="utf-8")))


def test_changes_are_laid_over_a_configuration() -> None:
    vi = CONFIGS / "vi_simsiam.yaml"
    tuned = parsed("--config", vi, "--config", CONFIGS / "changes" / "tuned_vi_simsiam.yaml")
    assert tuned.training.learning_rate == 0.03
    assert tuned.training.batch_size == 64
    printed = parsed("--config", vi, "--config", CONFIGS / "changes" / "vi_simsiam_as_printed.yaml")
    assert printed.method.concentration_map == "softplus"
    assert printed.objective == ObjectiveConfig(nats_per="image")
    assert printed.training.gradient_clip is None
    assert printed.training.learning_rate == 1e-3
    assert printed.views.count == 2


def test_defects_are_among_the_views_of_every_size_when_asked_for_and_never_else() -> None:
    file = CONFIGS / "vi_simsiam.yaml"
    assert not any(recipe.has_defects for recipe, _ in view_groups(parsed("--config", file)))
    config = parsed("--config", file, "--config", CONFIGS / "changes" / "defects_among_views.yaml")
    groups = view_groups(config)
    assert len(groups) == 2
    for recipe, _ in groups:
        assert (recipe.noise_probability, recipe.noise_std) == (0.25, (0.05, 0.3))
        assert (recipe.occlusion_probability, recipe.occlusion_scale) == (0.25, (0.1, 0.5))


def test_what_is_typed_counts_wherever_it_stands() -> None:
    file = CONFIGS / "digits.yaml"
    for arguments in (
        ("--out", "x", "--config", file),
        ("--config", file, "--out", "x"),
        ("--out=x", f"--config={file}"),
    ):
        assert parsed(*arguments).out == "x"
        assert parsed(*arguments).data.name == "digits"


def test_the_short_switches_stand_for_their_fields() -> None:
    config = parsed("--download", "--skip-broken")
    assert config.data.download
    assert config.data.skip_broken


def test_a_configuration_survives_json_and_yaml() -> None:
    config = replace(PretrainConfig(), views=ViewsConfig(mean=(0.5,), std=(0.25,)), seed=3)
    assert PretrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert PretrainConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


def test_a_configuration_of_before_the_recipes_is_the_plain_likelihood() -> None:
    saved = PretrainConfig().to_dict()
    for group, name in (
        ("method", "concentration_gradient"), ("objective", "weight"), ("objective", "beta"),
        ("training", "concentration_rate"),
    ):  # fmt: skip
        del saved[group][name]
    config = PretrainConfig.from_dict(saved)
    assert config == PretrainConfig()
    assert (config.method.concentration_gradient, config.objective.weight) == ("through", "one")
    assert config.training.concentration_rate == 1


def test_only_vi_simsiam_without_a_constant_predicts_a_concentration() -> None:
    assert MethodConfig("vi_simsiam").predicts_concentration
    assert MethodConfig("vi_simsiam", concentration_map="softplus").predicts_concentration
    assert not MethodConfig("vi_simsiam", concentration_map="constant").predicts_concentration
    assert not MethodConfig("simsiam").predicts_concentration
    assert not MethodConfig("byol").predicts_concentration


def test_resume_takes_the_configuration_of_the_folder(tmp_path: Path) -> None:
    saved = replace(PretrainConfig(), out=str(tmp_path), training=TrainingConfig(epochs=7))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved.to_dict()), encoding="utf-8")
    config, resume = pretrain.parse(["--out", str(tmp_path), "--resume"])
    assert (config, resume) == (saved, "last")
    config, resume = pretrain.parse(["--resume", "previous", "--out", str(tmp_path), "--monitor.every_steps", "5"])
    assert resume == "previous"
    assert config == replace(saved, monitor=replace(saved.monitor, every_steps=5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.epochs", "0"], "training.epochs must be >= 1, got 0"),
        (["--training.epochs", "many"], r'"training.epochs".*Got value: many'),
        (["--training.learning_rate", "-1"], "training.learning_rate must be positive and finite, got -1"),
        (["--training.batch_size", "1"], "training.batch_size must be >= 2"),
        (["--training.warmup_epochs", "200"], r"training.warmup_epochs must be in \[0, epochs\), got 200"),
        (["--engine.devices", "3"], "must be a multiple of engine.devices × engine.nodes = 3 with at least 2 images"),
        (
            ["--engine.cuda_graphs", "true", "--engine.accelerator", "cpu"],
            "engine.cuda_graphs must be false with engine.accelerator cpu, which has none, got True",
        ),
        (
            ["--engine.cuda_graphs", "true", "--engine.devices", "2"],
            "engine.cuda_graphs must be false with engine.devices × engine.nodes = 2: a recorded step averages no",
        ),
        (["--method.name", "moco"], r'"method.name".*Got value: moco'),
        (["--objective.normalized", "true"], "objective.normalized must be false for vi_simsiam with 6 views"),
        (
            ["--objective.weight", "pull"],
            "objective.nats_per must be image with objective.weight pull, .*, got 'dimension'",
        ),
        (["--objective.beta", "1.5"], r"objective.beta must be in \[0, 1\], got 1.5"),
        (
            ["--objective.weight", "concentration", "--objective.normalized", "true"],
            "objective.weight must be one with objective.normalized, .* got 'concentration'",
        ),
        (
            ["--objective.weight", "concentration", "--method.name", "simsiam"],
            "objective.weight must be one or pull for simsiam with a constant κ, got 'concentration'",
        ),
        (
            ["--method.concentration_map", "constant", "--method.concentration_gradient", "head"],
            "method.concentration_gradient must be through for vi_simsiam with a constant κ, got 'head'",
        ),
        (
            ["--training.concentration_rate", "2", "--method.concentration_map", "constant"],
            "training.concentration_rate must be 1 for vi_simsiam with a constant κ, got 2.0",
        ),
        (
            ["--training.concentration_decay", "0.1", "--method.concentration_map", "constant"],
            "training.concentration_decay must be not given for vi_simsiam with a constant κ, got 0.1",
        ),
        (["--training.concentration_decay", "-1"], "training.concentration_decay must be finite and >= 0, got -1"),
        (["--training.concentration_rate", "0"], "training.concentration_rate must be positive and finite, got 0"),
        (["--method.concentration_map", "exponential"], r'"method.concentration_map".*Got value: exponential'),
        (["--views.global_views", "1"], 'views.global_views must be >= 2 for "cross", got 1'),
        (["--views.mean", "[0.5, 0.5]"], "views.mean must be one number or three"),
        (["--data.channels", "1"], "views.mean must be one number with data.channels 1, got"),
        (["--views.std", "0"], "views.std must be positive and finite, got 0"),
        (["--views.mean", "[.nan]"], r"views.mean must be finite, got \(nan,\)"),
        (["--views.hue", "0.7"], r"views.hue must be in \[0, 0.5\], got 0.7"),
        (["--views.noise_probability", "1.2"], r"views.noise_probability must be in \[0, 1\]"),
        (["--views.occlusion_scale", "[0.5, 1.5]"], "views.occlusion_scale must be"),
        (["--monitor.images", "1"], "monitor.images must be >= 2, got 1"),
        (["--seed", "-1"], "seed must be a whole number from 0 to 4294967295, got -1"),
        (["--unknown", "3"], "unrecognized arguments: --unknown"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--resume", "sometime"], "invalid choice: 'sometime'"),
        (["--resume", "--out", "x" * 300], "argument --out: x+: File name too long"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        pretrain.main(arguments)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.name", "nowhere"], "nowhere: expected a known set"),
        (["--backbone.name", "resnet81"], "did you mean .*resnet18"),
        (["--resume"], "holds no run to go on with"),
    ],
)
def test_what_turns_out_later_gets_one_line_too(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main([*arguments, "--out", str(tmp_path / "run"), "--engine.accelerator", "cpu"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]


def test_the_command_trains_and_says_what_comes_next(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a run"
    arguments = ["--config", CONFIGS / "simsiam.yaml", "--data.name", image_folder, "--out", out]
    arguments += ["--views.size", 8, "--views.local_views", 0, "--backbone.name", "small_convolutional"]
    arguments += ["--method.dim", 8, "--training.epochs", 1, "--training.batch_size", 8, "--engine.accelerator", "cpu"]
    assert pretrain.main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr().out
    assert f"Saved {out / 'encoder.safetensors'}" in printed
    assert shlex.split(printed.splitlines()[-1]) == ["python", "-m", "experiments.evaluate", str(out)]


def test_unknown_entries_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown entries: training\.rate"):
        PretrainConfig.from_dict({"training": {"rate": 1.0}})
    with pytest.raises(ValueError, match=r"training must be fields and values, got \[1\]"):
        PretrainConfig.from_dict({"training": [1]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  epochs:\n", "training.epochs must have a value, got none"),
        ("seed: 1\nobjective:\n", "objective must have a value, got none"),
        ("seed: 1\nout:\n", "out must have a value, got none"),
        ("seed: 1\ndata:\n", "data must have a value, got none"),
        ("from: [1, 2]\n", '"from"'),
        ("config: 1\n", "config belongs on the command line"),
        ("", "expected a configuration in YAML, fields and values"),
        ("seed: 1\n---\nseed: 2\n", "expected a configuration in YAML, got: expected a single document"),
        ("seed: 2001-99-99\n", "mine.yaml: expected a configuration in YAML, got: month must be in 1..12"),
        ("seed: " + 2000 * "[" + 2000 * "]", "expected a configuration in YAML, got: maximum recursion depth"),
    ],
)
def test_a_file_with_something_left_out_or_out_of_place_gets_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SystemExit) as exit_:
        pretrain.main(["--config", str(tmp_path / "mine.yaml")])
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_differences_name_what_changes_the_weights_and_nothing_else() -> None:
    config = PretrainConfig()
    other = replace(config, out="elsewhere", engine=EngineConfig(devices=2), data=DataConfig(workers=1, root="/data"))
    assert config.differences(other) == []
    other = replace(config, seed=1, backbone=BackboneConfig("resnet50"))
    assert config.differences(other) == ["seed 0, now 1", "backbone.name 'resnet18', now 'resnet50'"]
