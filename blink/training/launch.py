"""The accelerator of a run: device, precision, processes and trackers."""

from __future__ import annotations

import importlib.util
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import InitProcessGroupKwargs

from blink.errors import SettingsError
from blink.training.settings import TrainSettings

MIXED = {"bf16": "bf16", "fp16": "fp16", "fp32": "no"}
PATIENCE = timedelta(hours=12)
"""Timeout of the processes that wait for the main one, which validates and encodes catalogues alone."""


def make_accelerator(settings: TrainSettings, device: torch.device, folder: Path) -> Accelerator:
    """Start the accelerator of a run on ``device``; with several processes, each uses its own device.

    Raises:
        SettingsError: the precision needs another device, or the tracker is not installed.
    """
    if settings.tracker == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
        raise SettingsError("the tracker tensorboard is not installed; run: pip install tensorboard, or leave --tracker out")
    if settings.precision == "fp16" and device.type == "cpu":
        raise SettingsError("precision is 'fp16', which needs a GPU; on the CPU take bf16 or fp32")
    _forget_last_run()
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return Accelerator(
        mixed_precision=MIXED[settings.precision],
        cpu=device.type == "cpu",
        log_with=None if settings.tracker == "none" else settings.tracker,
        project_dir=str(folder),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


def _forget_last_run() -> None:
    # The library stores device and precision per process, and a process may train several times.
    alone = not PartialState._shared_state or PartialState().num_processes == 1
    AcceleratorState._reset_state(reset_partial_state=alone)
