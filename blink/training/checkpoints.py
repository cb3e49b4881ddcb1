"""Checkpoints of a run: written whole or not at all, the newest sound one is gone on from."""

from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from blink.errors import CheckpointError
from blink.files import atomic_open

logger = logging.getLogger(__name__)

CHECKPOINTS_FOLDER = "checkpoints"
KEPT = 2
"""Checkpoints that are kept: the newest, and one in case that is damaged."""
FORMAT = 1

_NAME = re.compile(r"step-(\d+)\.pt$")


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the state after ``step`` steps, tensors and plain values only, and remove all but the newest `KEPT`."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_open(folder / f"step-{step:09d}.pt", "wb") as f:
        torch.save({"format": FORMAT, "step": step, **state}, f)
    for path in checkpoints(folder)[:-KEPT]:
        path.unlink()


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that is sound, onto the CPU; None where there is none at all.

    One that is damaged is passed over, with a warning that names it.

    Raises:
        CheckpointError: all are damaged.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            state = _read(path)
        except CheckpointError as error:
            before = found[found.index(path) - 1] if path != found[0] else None
            if before is None:
                raise CheckpointError(f"{error}; there is no older checkpoint: start anew without --resume") from error
            logger.warning("%s; going on from %s, the one before it", error, before.name)
        else:
            return state
    return None


def clear_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of an earlier run."""
    for path in checkpoints(folder):
        path.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(p for p in folder.glob("step-*.pt") if _NAME.search(p.name))


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"the checkpoint {path} is cut short or damaged") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"the checkpoint {path} is of another version")
    return state
