"""Where a run computes: the CPU, a GPU, or several of them with a process for each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import GradScalerKwargs, InitProcessGroupKwargs

from blink.apps.common import say
from blink.errors import SettingsError
from blink.runs.signals import Interrupted
from examples.luke.settings import TuneSettings

MIXED = {"bf16": "bf16", "fp16": "fp16", "fp32": "no"}
PATIENCE = timedelta(hours=12)
"""How long processes wait for the first of them, which converts archives on its own."""
MODULE = "examples.cli"


def in_process_group() -> bool:
    """Whether this is one of several processes that a launcher has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def resolve_gpus(requested: int | None, available: int) -> int:
    """GPUs to use.

    Args:
        requested: as many as were asked for; None is one, if there is one.
        available: as many as there are.

    Raises:
        SettingsError: more are asked for than there are.
    """
    if requested is None:
        return min(available, 1)
    if requested > available:
        raise SettingsError(
            f"--num-gpus is {requested}, and there {'is' if available == 1 else 'are'} {available}; --num-gpus 0 takes the CPU"
        )
    return requested


def launch_command(gpus: int, port: int, arguments: Sequence[str]) -> list[str]:
    """The command that runs this program again, in a process for each GPU."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(gpus)]
    return [*launcher, "--master-addr", "127.0.0.1", "--master-port", str(port), "-m", MODULE, *arguments]


def launch(command: Sequence[str]) -> int:
    """Run a launcher to its end; its processes end their step and save when this one is asked to stop.

    Returns:
        its exit status.
    """
    process = subprocess.Popen(command)

    def passed_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(signal.SIGTERM)  # the one that launchers know how to hand on

    # Ctrl-C reaches the launcher from the terminal; here it must not end the wait.
    handlers: dict[int, Any] = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: passed_on, signal.SIGUSR1: passed_on}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_accelerator(settings: TuneSettings, gpus: int) -> Accelerator:
    """Start the accelerator of a run on the CPU (0 GPUs) or a GPU; of several processes, each on its own."""
    # The library keeps device and number format for the whole process; a process may run several tasks.
    AcceleratorState._reset_state(reset_partial_state=not PartialState._shared_state or PartialState().num_processes == 1)
    # The factor begins at its greatest, is halved when gradients overflow, and grows back; see Stepper._bound_scale.
    scaler = GradScalerKwargs(init_scale=settings.fp16_max_loss_scale, growth_interval=200)
    return Accelerator(
        mixed_precision=MIXED[settings.precision],
        cpu=gpus == 0,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE), scaler],
    )


@contextmanager
def ending_in_a_line(accelerator: Accelerator, remedy: str) -> Iterator[None]:
    """Let a run end in one line when it is stopped, or when memory is not enough.

    Args:
        accelerator: of the run.
        remedy: what helps where memory is not enough.

    Raises:
        SystemExit: a signal stopped the run, whose state is saved.
        SettingsError: there is not enough memory on the GPU.
    """
    try:
        yield
    except Interrupted as stop:
        if accelerator.is_main_process:
            say(f"{stop}; go on with the same command and --resume")
        raise SystemExit(128 + stop.signal) from stop
    except torch.OutOfMemoryError as error:
        raise SettingsError(f"out of GPU memory; {remedy} for the same step") from error


def settings_for(values: dict[str, Any], gpus: int) -> dict[str, Any]:
    """Settings of a run with a number format that its device has: float16 is for GPUs."""
    if values["precision"] != "fp16" or gpus:
        return values
    say("--fp16 needs a GPU; going on in float32")
    return {**values, "precision": "fp32"}


def gpu_count() -> int:
    """GPUs that torch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
