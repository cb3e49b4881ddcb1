"""What every file of weights must be, whatever a model makes of it: numbers that are real, and finite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blink.checksums import tensors_of
from blink.errors import CheckpointError, DataError, MissingFileError

if TYPE_CHECKING:
    from torch import Tensor

_FLOATS = ("F16[", "BF16[", "F32[", "F64[", "F8_")
"""How the types of weights begin, as `tensors_of` writes them."""
_BUFFERS = ("position_ids", "token_type_ids")
"""Ends of names of tensors that are no weights."""
_REMEDY = "copy the model folder again"


def require_floats(path: Path) -> None:
    """Check the types of a ``.safetensors`` file's tensors, by its header alone.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it holds something else, or weights that are no floating-point numbers.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; {_REMEDY}, or train one with `blink train`")
    try:
        tensors = tensors_of(path)
    except (DataError, OSError) as error:
        raise CheckpointError(f"{error}; {_REMEDY}") from error
    for name, of in tensors.items():
        if not of.startswith(_FLOATS) and not name.endswith(_BUFFERS):
            raise CheckpointError(_not_float(path, name, of))


def require_finite(path: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that weights are finite numbers.

    Args:
        path: what they were read from, for the error.
        arrays: by name, of any shape.

    Raises:
        CheckpointError: one holds NaN, infinity, or no floating-point numbers.
    """
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise CheckpointError(_not_float(path, name, array.dtype))
        if not np.isfinite(array).all():
            raise CheckpointError(_not_finite(path, name))


def require_finite_tensors(path: Path | str, tensors: Mapping[str, Tensor]) -> None:
    """The same of tensors of PyTorch."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise CheckpointError(_not_float(path, name, tensor.dtype))
        if not (tensor.float() if tensor.element_size() == 1 else tensor).isfinite().all():
            raise CheckpointError(_not_finite(path, name))


def _not_float(path: Path | str, name: str, kind: object) -> str:
    return f"{path}: the tensor {name!r} is {kind}, weights are floating-point numbers; {_REMEDY}"


def _not_finite(path: Path | str, name: str) -> str:
    return f"{path}: the tensor {name!r} holds NaN or infinity; {_REMEDY}"
