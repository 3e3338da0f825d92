"""Pretrain SimSiam, BYOL or VI-SimSiam on images; a stopped training is resumed exactly where it was.

Start with a configuration, such as experiments/configs/vi_simsiam.yaml, and change any field of it on the
command line: --config experiments/configs/vi_simsiam.yaml --training.epochs 20 --out runs/first. Several
--config files are read in order. Without one, the defaults below are used: the recipe of arXiv:2203.11437v1 on
ImageNette. The run's folder receives config.yaml, metrics.csv, TensorBoard's files, checkpoints and, at the end,
encoder.safetensors, for python -m experiments.evaluate and python -m experiments.embed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import yaml

from experiments.pretraining.configuration import PretrainConfig

_PROGRAM = "python -m experiments.pretrain"


class _Parser(jsonargparse.ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # noqa: ARG002
        """Print one line and exit."""
        print(f"{self.prog}: error: {' '.join(message.split())} (see --help)", file=sys.stderr)
        raise SystemExit(2)


def parser() -> jsonargparse.ArgumentParser:
    """Every field of the configuration, `--config` and `--resume`."""
    usage = f"{_PROGRAM} [--config FILE ...] [--out FOLDER] [--resume] [--FIELD VALUE ...]"
    made = _Parser(prog=_PROGRAM, usage=usage, description=__doc__)
    made.add_argument("--config", action="config", help="YAML file with any of the fields below; may be repeated")
    made.add_argument(
        "--resume",
        nargs="?",
        const="last",
        choices=["last", "previous", "auto"],
        help="go on with the run in --out, whose configuration is used: from its last checkpoint, or the previous one "
        "if the last is damaged; auto starts the run where there is none yet",
    )
    made.add_argument(
        "--from", type=str, metavar="ENCODER", help="short for --init_from: start with the weights of another run"
    )
    made.add_argument("--download", action="store_true", help="short for --data.download true")
    made.add_argument("--skip-broken", action="store_true", help="short for --data.skip_broken true")
    made.add_class_arguments(PretrainConfig)
    return made


def parse(arguments: Sequence[str] | None) -> tuple[PretrainConfig, Any]:
    """Configuration and where to resume, a `Resume` or `None`; exits with status 2 on a mistake."""
    made = parser()
    given, files = _files_first(list(sys.argv[1:] if arguments is None else arguments))
    for file in files:
        _require_plain(made, Path(file))
    options = made.parse_args(given)
    of_the_run = Path(options.out or "").expanduser() / "config.yaml"
    try:
        going_on = options.resume is not None and of_the_run.exists()
    except OSError as error:  # such as a name that is too long
        made.error(f"argument --out: {options.out}: {error.strerror}")
    if going_on:
        _require_plain(made, of_the_run)
        options = made.parse_args(["--config", str(of_the_run), *given])
    values = options.as_dict()
    try:
        config = PretrainConfig.from_dict({entry.name: values[entry.name] for entry in fields(PretrainConfig)})
        download, skip_broken = (getattr(config.data, name) or values[name] for name in ("download", "skip_broken"))
        data = replace(config.data, download=download, skip_broken=skip_broken)
        config = replace(config, data=data, init_from=config.init_from if values["from"] is None else values["from"])
    except ValueError as error:
        made.error(str(error))
    return config, options.resume


def _require_plain(made: jsonargparse.ArgumentParser, file: Path) -> None:
    """Refuse what is no text of YAML, aliases, by which a few lines become gigabytes, and other files' names."""
    try:
        text = file.read_text(encoding="utf-8")
        aliased = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader))
        content = None if aliased else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        made.error(f"{file}: expected a configuration in YAML, got: {reason}")
    if not isinstance(content, dict) or not content:
        made.error(f"{file}: expected a configuration in YAML, fields and values without aliases (*name), got others")
    if "config" in content:
        made.error(f"{file}: expected the fields of a configuration; --config belongs on the command line")


def _files_first(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Move configuration files before all else, so that what is typed counts wherever it stands; name them, too."""
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    files.add_argument("--config", action="append", nargs="?", const="", default=[])
    found, others = files.parse_known_args(arguments)
    return [part for file in found.config for part in ("--config", file)] + others, found.config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    config, resume = parse(arguments)
    # The training stack takes seconds to import, which --help and a mistake do not wait for.
    from experiments.pretraining.training import TrainingFailedError, pretrain  # noqa: PLC0415

    try:
        exported = pretrain(config, resume)
    except (ValueError, OSError) as error:
        return _fail(str(error), 2)
    except TrainingFailedError as error:
        return _fail(str(error), error.status)
    except KeyboardInterrupt:
        return _fail("stopped; go on from the last checkpoint, if one was saved, with --resume", 130)
    if exported is not None:
        beside = [name for name in ("metrics.csv", "training_curves.png") if (exported.parent / name).exists()]
        print(f"Saved {exported}{' and, beside it, ' if beside else ''}{' and '.join(beside)}. Next:")
        print(f"  python -m experiments.evaluate {shlex.quote(str(Path(config.out)))}")
    return 0


def _fail(message: str, status: int) -> int:
    if message:
        print(f"{_PROGRAM}: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
