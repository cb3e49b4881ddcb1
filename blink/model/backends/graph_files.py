"""Graphs for ONNX Runtime on disk: fused, with their weights in a file that it maps; and arrays next to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blink.files import atomic_open
from blink.model.backends.runtime import onnx_runtime


def weights_file(graph: Path) -> Path:
    """The file of a graph's weights."""
    return graph.with_suffix(".bin")


def move_graph(graph: Path, target: Path) -> None:
    """Move a graph with its weights to another folder; the graph last, since it names the other."""
    weights_file(graph).replace(target.parent / weights_file(graph).name)
    graph.replace(target)


def optimize(graph: Path, out: Path) -> Any:
    """Fuse operators of a graph, and write it with its weights in a file of their own, which ONNX Runtime maps.

    Only what any processor can run is fused, so that the files can be copied to another.

    Returns:
        a session of the optimized graph.
    """
    onnxruntime = onnx_runtime()

    options = _session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights_file(out).name)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return onnxruntime.InferenceSession(str(out), _session_options(), providers=["CPUExecutionProvider"])


def _session_options() -> Any:
    onnxruntime = onnx_runtime()

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name into one file."""
    with atomic_open(file, "wb") as f:
        np.savez(f, **arrays)  # type: ignore[arg-type]
