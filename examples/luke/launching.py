"""Devices and processes of a run: the CPU, a GPU, or several GPUs with a process each."""

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
from blink.model.precision import SLOW_BF16, has_bf16
from blink.runs.signals import Interrupted
from examples.luke.settings import TuneSettings

MIXED = {"bf16": "bf16", "fp16": "fp16", "fp32": "no"}
TIMEOUT = timedelta(hours=12)
"""How long processes wait for the first one, which converts archives."""
MODULE = "examples.cli"


def in_process_group() -> bool:
    """Whether this is one of several processes of a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def resolve_gpus(requested: int | None, available: int) -> int:
    """GPUs to use.

    Args:
        requested: requested number; None for one if available.
        available: available number.

    Raises:
        SettingsError: more are requested than available.
    """
    if requested is None:
        return min(available, 1)
    if requested > available:
        raise SettingsError(
            f"--num-gpus is {requested}, and there {'is' if available == 1 else 'are'} {available}; --num-gpus 0 takes the CPU"
        )
    return requested


def launch_command(gpus: int, port: int, arguments: Sequence[str]) -> list[str]:
    """The command that starts this program with a process for each GPU."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(gpus)]
    return [*launcher, "--master-addr", "127.0.0.1", "--master-port", str(port), "-m", MODULE, *arguments]


def launch(command: Sequence[str]) -> int:
    """Run a launcher; a signal to this process makes its processes finish their step and save.

    Returns:
        its exit status.
    """
    process = subprocess.Popen(command)

    def forward_signal(number: int, frame: FrameType | None) -> None:
        process.send_signal(signal.SIGTERM)  # launchers forward this signal

    # The launcher gets Ctrl-C from the terminal; this process must continue to wait.
    handlers: dict[int, Any] = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: forward_signal, signal.SIGUSR1: forward_signal}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_accelerator(settings: TuneSettings, gpus: int) -> Accelerator:
    """Create the accelerator of a run on the CPU (0 GPUs) or on the GPU of this process."""
    # The library keeps device and precision for the whole process; a process may run several tasks.
    AcceleratorState._reset_state(reset_partial_state=not PartialState._shared_state or PartialState().num_processes == 1)
    # The loss scale starts at its maximum, is halved when gradients overflow, and grows again; see Stepper._bound_scale.
    scaler = GradScalerKwargs(init_scale=settings.fp16_max_loss_scale, growth_interval=200)
    return Accelerator(
        mixed_precision=MIXED[settings.precision],
        cpu=gpus == 0,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT), scaler],
    )


@contextmanager
def errors_in_one_line(accelerator: Accelerator, remedy: str) -> Iterator[None]:
    """End a run with one line if it is stopped or runs out of memory.

    Args:
        accelerator: of the run.
        remedy: advice for running out of memory.

    Raises:
        SystemExit: a signal stopped the run after its state was saved.
        SettingsError: the GPU is out of memory.
    """
    try:
        yield
    except Interrupted as stop:
        if accelerator.is_main_process:
            say(f"{stop}; continue with the same command and --resume")
        raise SystemExit(128 + stop.signal) from stop
    except torch.OutOfMemoryError as error:
        raise SettingsError(f"out of GPU memory; {remedy} for the same step") from error


def settings_for(values: dict[str, Any], gpus: int) -> dict[str, Any]:
    """Settings of a run with a precision of its device: float16 is for GPUs, and bfloat16 is slow where there is none."""
    if values["precision"] == "bf16" and not has_bf16(device := torch.device("cuda" if gpus else "cpu")):
        say(f"warning: {SLOW_BF16 % device.type}")
    if values["precision"] != "fp16" or gpus:
        return values
    say("--fp16 needs a GPU; continuing in float32")
    return {**values, "precision": "fp32"}


def gpu_count() -> int:
    """GPUs that torch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
