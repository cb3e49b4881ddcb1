"""ONNX Runtime, which reports its use to its makers unless it is told not to before it is imported."""

from __future__ import annotations

import os
from typing import Any

SILENCE = "ORT_DISABLE_TELEMETRY"
"""Variable that keeps ONNX Runtime from writing an id of the machine into the user's cache, and from sending events."""


def onnx_runtime() -> Any:
    """The module ``onnxruntime``, which then sends nothing; a value that the user gave is kept."""
    os.environ.setdefault(SILENCE, "1")
    import onnxruntime

    return onnxruntime
