"""Checkpoints of a run, written atomically. A run resumes from the newest one that is not damaged."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from blink.errors import CheckpointError
from blink.files import atomic_open, sha256
from blink.work_folders import own_files, plain_folder

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

CHECKPOINTS_FOLDER = "checkpoints"
MAX_CHECKPOINTS = 2
"""Checkpoints to keep: the newest, and one more in case the newest is damaged."""
FORMAT = 1

_NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.pt")


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the state after ``step`` steps (tensors and plain values), and remove all but the newest `MAX_CHECKPOINTS`.

    The name contains a hash of the content, since torch does not detect values that changed on the disk.
    """
    plain_folder(folder)
    unnamed = folder / "unnamed.pt"
    with atomic_open(unnamed, "wb") as f:
        torch.save({"format": FORMAT, "step": step, **state}, f)
    named = folder / f"step-{step:09d}-{sha256(unnamed)[:16]}.pt"
    unnamed.replace(named)
    before = [path for path in checkpoints(folder) if _step(path) < step]
    for path in checkpoints(folder):
        # Includes the checkpoint before this step's validation, and damaged ones of later steps.
        if path != named and path not in before[1 - MAX_CHECKPOINTS :]:
            path.unlink()


def learning_state(model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> dict[str, Any]:
    """State of the trained weights, the optimizer and the fp16 scaler for a checkpoint."""
    scaler = accelerator.scaler
    return {
        "model": {n: p.detach() for n, p in model.named_parameters() if p.requires_grad},
        "optimizer": optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
    }


def load_learning_state(
    state: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> None:
    """Restore a state of `learning_state`."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(state["model"][name])
    optimizer.load_state_dict(state["optimizer"])
    if accelerator.scaler is not None and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that is not damaged, onto the CPU; None if there is no checkpoint.

    A damaged checkpoint is skipped with a warning.

    Raises:
        CheckpointError: all are damaged.
    """
    paths = checkpoints(folder)
    for path in reversed(paths):
        try:
            state = _read(path)
        except CheckpointError as error:
            before = paths[paths.index(path) - 1] if path != paths[0] else None
            if before is None:
                raise CheckpointError(f"{error}; there is no older checkpoint: start again without --resume") from error
            logger.warning("%s; continuing from %s, the one before it", error, before.name)
        else:
            return state
    return None


def clear_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of an earlier run."""
    for path in checkpoints(folder):
        path.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(own_files(folder, _NAME), key=lambda p: (_step(p), p.stat().st_mtime_ns))


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _read(path: Path) -> dict[str, Any]:
    damaged = f"the checkpoint {path} is cut short or damaged"
    if not path.stem.endswith(sha256(path)[:16]):
        raise CheckpointError(damaged)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(damaged) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"the checkpoint {path} is of another version")
    return state
