"""A whole pretraining: images, pair and Trainer put together, started or resumed, exported at the end."""

from __future__ import annotations

import logging
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy

from experiments.command_line.lock import alone
from experiments.figures import save_figure, training_curves_figure
from experiments.images.batches import ViewBatches
from experiments.pretraining.building import build_learner, build_pair
from experiments.pretraining.configuration import EngineConfig, PretrainConfig
from experiments.pretraining.export import load_pretrained, load_weights, save_pretrained, weights
from experiments.pretraining.images import TrainingImages, collapse_warning
from experiments.pretraining.interruption import StoppedAtOnceError
from experiments.pretraining.loop import PretrainingLoop
from experiments.pretraining.metrics import history, read_rows
from experiments.pretraining.run_folder import Resume, RunFolder
from inference.fitting.checkpointing import CheckpointError
from inference.fitting.cuda_graphs import RecordingError
from inference.fitting.finiteness import NotFiniteError
from inference.fitting.memory import keep_freed_memory
from inference.fitting.pyro_settings import settings_for_training
from ssl_as_inference.graphical_model import MultiViewPair


class TrainingFailedError(RuntimeError):
    """The training met NaN or infinity, or a step that cannot be recorded; the message says where and what remains.

    Attributes:
        status: With which the command ends.
    """

    status = 1


class TrainingInterruptedError(TrainingFailedError):
    """A signal stopped the training; its state is saved. The message is empty in all processes of a run but one."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.status = 128 + signal


def pretrain(config: PretrainConfig, resume: Resume | None = None) -> Path | None:
    """Run a pretraining to its end.

    Args:
        config: Everything that defines it.
        resume: Where to go on from: the `"last"` checkpoint, the `"previous"` one, or `"auto"`: the last if there is
            one. `None` starts, in a folder that holds no run.

    Returns:
        The exported encoder; `None` in the processes of a run that do not write it, which are all but one.

    Raises:
        ValueError: If a setting, the images or a checkpoint cannot be used; the message is one line, or a list of
            broken images.
        TrainingFailedError: If the loss is NaN or infinite, or the step cannot be recorded as a CUDA graph.
        TrainingInterruptedError: If a signal stopped it.
    """
    folder = RunFolder(config.out)
    with _quiet_lightning(), ExitStack() as stack:
        trainer = _trainer(config)
        if trainer.is_global_zero:
            stack.enter_context(alone(folder.path))
        saved = folder.open(config, resume, write=trainer.is_global_zero)
        pair = build_pair(config)
        if saved is not None:
            load_weights(pair, saved["weights"], folder.last)
        elif config.init_from is not None:
            start_from(pair, config, Path(config.init_from).expanduser())
        images = TrainingImages.open(config, trainer.strategy.root_device, watch=trainer.is_global_zero)
        if saved is not None:
            folder.require_same_images(saved, images.images)
        order = images.order(trainer.world_size, trainer.global_rank)
        steps = config.training.epochs * order.batches_per_epoch
        learner = build_learner(config, pair, steps, order.batches_per_epoch, record=config.engine.cuda_graphs)
        if saved is not None:
            learner.resume(saved["step"], saved["optimizer"])
        loop = PretrainingLoop(config, folder, learner, images, steps, saved)
        if trainer.is_global_zero:
            print(_summary(loop, trainer))
        if learner.step < steps:
            trainer.callbacks.append(loop)  # type: ignore[attr-defined]
            batches = images.batches(order, learner.step, steps, compile_views=config.engine.compile)
            _fit(trainer, loop, batches)
        return export_run(pair, config, folder) if trainer.is_global_zero else None


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Train without Lightning's notes on devices, services and what it takes for oversights; it stays quiet after."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Lightning's own use of a helper that torch has since deprecated.
        warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", ".*GPU available but not used.*")
        yield


def start_from(pair: MultiViewPair, config: PretrainConfig, path: Path) -> None:
    """Give the pair the weights of a run that has ended, or of its checkpoint."""
    given = load_pretrained(path)
    try:
        load_weights(pair, weights(given.pair), path)
    except CheckpointError as error:
        deciding = ("backbone", "method", "data", "views.size")  # the size decides a stem that is not asked for
        different = "; ".join(line for line in given.config.differences(config) if line.startswith(deciding)) or error
        raise CheckpointError(f"{path} holds other networks than this run is to have: {different}") from error


def export_run(pair: MultiViewPair, config: PretrainConfig, folder: RunFolder) -> Path:
    """Write what the run was for, draw its curves, and say so if nothing was learned."""
    save_pretrained(pair, config, folder.exported)
    rows = read_rows(folder.metrics)
    if not rows:
        print(f"warning: {folder.metrics} holds no rows: no curves are drawn", file=sys.stderr)
    elif config.monitor.curves:
        save_figure(training_curves_figure({config.method.name: history(rows, config)}), folder.curves)
    if rows and (warning := collapse_warning(rows[-1], pair.dim)):
        print(f"warning: at the end {warning}", file=sys.stderr)
    return folder.exported


def prepare_device(engine: EngineConfig) -> torch.device:
    """Where a run computes; the process is told how.

    Raises:
        ValueError: If a GPU is requested and there is none.
    """
    if engine.threads is not None:
        torch.set_num_threads(engine.threads)
    on_gpu = engine.accelerator == "gpu" or (engine.accelerator == "auto" and torch.cuda.is_available())
    if on_gpu and not torch.cuda.is_available():
        raise ValueError("engine.accelerator is gpu, but torch sees none: use cpu or auto")
    if not on_gpu:
        keep_freed_memory()
        return torch.device("cpu")
    torch.set_float32_matmul_precision("high")  # TF32, as convolutions have it by default
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


def _trainer(config: PretrainConfig) -> lightning.Trainer:
    engine = config.engine
    on_gpu = prepare_device(engine).type == "cuda"
    if on_gpu and engine.devices > torch.cuda.device_count():
        raise ValueError(f"engine.devices is {engine.devices}, but torch sees {torch.cuda.device_count()} GPU(s)")
    if engine.cuda_graphs and not on_gpu:
        raise ValueError("engine.cuda_graphs is true, but torch sees no GPU here: set it to false")
    many = engine.processes > 1
    trainer = lightning.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=engine.devices,
        num_nodes=engine.nodes,
        strategy=DDPStrategy(gradient_as_bucket_view=True) if many else "auto",
        sync_batchnorm=on_gpu and many,
        precision="32-true" if engine.precision == "32" else engine.precision,
        max_epochs=1,  # of Lightning's: one pass over all steps that are left
        use_distributed_sampler=False,
        plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else None,
        barebones=True,  # no logger, checkpoint, bar or summary of its own
    )
    epoch_loop: Any = trainer.fit_loop.epoch_loop
    if many and hasattr(epoch_loop, "_broadcast_sigterm_tensor"):
        # Lightning 2.6 asks all processes before each step whether one is to end, and waits for the device to do so.
        # PretrainingLoop asks every so many steps, together with what it reads anyway.
        epoch_loop._broadcast_sigterm_tensor = lambda: None  # noqa: SLF001
    return trainer


def _fit(trainer: lightning.Trainer, loop: PretrainingLoop, batches: ViewBatches) -> None:
    learner, path = loop.learner, loop.folder.last
    try:
        with settings_for_training():
            trainer.fit(learner, batches)
    except StoppedAtOnceError as error:
        raise KeyboardInterrupt from error
    except (OSError, NotFiniteError, torch.OutOfMemoryError) as error:
        last = (
            f"the last good checkpoint is {path} (after step {loop.saved_step})" if loop.saved_step else "none is saved"
        )
        reason = f"{error}; {last}. A smaller training.learning_rate or training.gradient_clip may help, in a new run"
        if isinstance(error, OSError):
            reason = f"cannot write the run in {loop.folder.path}: {error.strerror or error}; {last}. "
            reason += "Go on with --resume when there is room"
        elif isinstance(error, torch.OutOfMemoryError):
            # What it says of the GPU, and of settings of the allocator, is a paragraph.
            reason = f"{str(error).partition(' GPU ')[0]} A smaller training.batch_size or views.size, or "
            reason += f"engine.precision bf16-mixed, needs less memory, in a new run; {last}"
        raise TrainingFailedError(reason) from error
    except RuntimeError as error:
        # After a recording that failed, Lightning's tidying up of the GPU may fail, too, and hide why.
        behind: BaseException | None = error
        while behind is not None and not isinstance(behind, RecordingError):
            behind = behind.__context__
        if behind is None:
            raise
        raise TrainingFailedError(f"{behind}; train with --engine.cuda_graphs false") from error
    if loop.interruption.received is not None and learner.step < loop.steps:
        message = f"stopped after step {learner.step} of {loop.steps}, saved in {path}; go on with: "
        message += f"python -m experiments.pretrain --out {shlex.quote(str(loop.folder.path))} --resume"
        raise TrainingInterruptedError(message if trainer.is_global_zero else "", loop.interruption.received)


def _summary(loop: PretrainingLoop, trainer: lightning.Trainer) -> str:
    config, images, learner = loop.config, loop.images, loop.learner
    views = f"{config.views.global_views} views of {config.views.size} pixels"
    if config.views.local_views:
        views += f" and {config.views.local_views} of {config.views.local_size}"
    processes = f"{trainer.world_size} × " if trainer.world_size > 1 else ""
    skipped = f" ({images.images.skipped} broken ones left out)" if images.images.skipped else ""
    parameters = sum(parameter.numel() for parameter in learner.pair.parameters() if parameter.requires_grad)
    held_out = "" if images.held_out is None else f", {len(images.held_out.indices):,} watched"
    begin = f", going on after step {learner.step:,}" if learner.step else ""
    return (
        f"{images.images.name}: {len(images.images):,} images{skipped}{held_out}; {views} of each\n"
        f"{config.method.name}, {config.backbone.name}: {parameters:,} parameters; "
        f"{config.training.epochs} epochs of {loop.steps_per_epoch:,} steps of {config.training.batch_size} images "
        f"on {processes}{trainer.strategy.root_device.type}{begin}\n"
        f"Run in {config.out}: metrics.csv grows every {config.monitor.every_steps} steps"
    )
