"""The accelerator of a run: device, precision and processes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import InitProcessGroupKwargs

from blink.errors import SettingsError
from blink.files import read_json
from blink.model.precision import SLOW_BF16, has_bf16
from blink.runs.folder import SETTINGS_FILE
from blink.runs.trackers import require_tracker
from blink.training.settings import TrainSettings

MIXED = {"bf16": "bf16", "fp16": "fp16", "fp32": "no"}
PATIENCE = timedelta(hours=12)
"""Timeout of the processes that wait for the main one, which validates and encodes catalogues alone."""


def with_precision(settings: TrainSettings, device: torch.device, resumed: Path | None = None) -> TrainSettings:
    """The settings with a precision in place of ``auto``.

    It is that of the run that is resumed, else bf16 where the hardware of ``device`` has it, else fp32.

    Args:
        settings: of the run.
        device: of the training.
        resumed: folder of the run that is resumed, if any.
    """
    if settings.precision != "auto":
        return settings
    stored = resumed / SETTINGS_FILE if resumed is not None else None
    precision = read_json(stored).get("precision") if stored is not None and stored.is_file() else None
    return settings.replace({"precision": precision or ("bf16" if has_bf16(device) else "fp32")})


def precision_note(precision: str, device: torch.device) -> str:
    """A line for the user about the precision of a training on a device."""
    notes = {
        ("bf16", True): "precision bf16",
        ("bf16", False): f"warning: {SLOW_BF16 % device.type}",
        ("fp32", True): f"precision fp32; this {device.type} has bfloat16, which is faster (--precision bf16)",
        ("fp32", False): f"precision fp32, as this {device.type} has no bfloat16",
    }
    return notes.get((precision, has_bf16(device)), f"precision {precision}")


def make_accelerator(settings: TrainSettings, device: torch.device, folder: Path) -> Accelerator:
    """Start the accelerator of a run on ``device``; with several processes, each uses its own device.

    The precision in ``settings`` is not ``auto``, see `with_precision`.

    Raises:
        SettingsError: the precision needs another device, or the tracker is not installed.
    """
    require_tracker(settings.tracker)
    if settings.precision == "fp16" and device.type == "cpu":
        raise SettingsError("precision is 'fp16', which needs a GPU; on the CPU take auto, bf16 or fp32")
    _forget_last_run()
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return Accelerator(
        mixed_precision=MIXED[settings.precision],
        cpu=device.type == "cpu",
        project_dir=str(folder),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


def _forget_last_run() -> None:
    # The library stores device and precision per process, and a process may train several times.
    alone = not PartialState._shared_state or PartialState().num_processes == 1
    AcceleratorState._reset_state(reset_partial_state=alone)
