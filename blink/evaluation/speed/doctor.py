"""Whether an installation works on this machine: versions, processor, memory, backends, and the starter."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Mapping
from typing import Any

from blink.errors import BlinkError
from blink.evaluation.speed.machine import machine
from blink.machine import free_bytes
from blink.model.backends.onnx_backend import n_threads
from blink.progress import Bars, no_bars

BACKENDS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "faiss": "FAISS"}
"""Module of each, with its name for readers."""
LEAST_MIB = 700
"""Free memory that the starter needs, with room."""
EXAMPLE = "who was born in Paris, Texas?"


def diagnose(bars: Bars = no_bars) -> dict[str, Any]:
    """Examine the installation.

    Returns:
        ``machine``, ``threads``, ``free_mib`` (None where unknown), ``backends`` (name to whether it is installed), ``starter``
        (how long it takes to open and to link a text, or its ``error``), and ``problems``, sentences; empty if all is well.
    """
    free = free_bytes()
    found: dict[str, Any] = {
        "machine": machine(),
        "threads": n_threads(),
        "free_mib": None if free is None else free >> 20,
        "backends": {name: importlib.util.find_spec(module) is not None for module, name in BACKENDS.items()},
        "starter": _starter(bars),
    }
    return found | {"problems": list(_problems(found))}


def _starter(bars: Bars) -> dict[str, Any]:
    from blink.linking.opening import open_linker

    began = time.perf_counter()
    try:
        linker = open_linker(None, None, bars=bars)
        opened = time.perf_counter()
        linked = linker(EXAMPLE)
    except (BlinkError, OSError, ImportError) as error:
        return {"error": " ".join(str(error).split())}
    seconds = {"open_s": round(opened - began, 2), "first_text_s": round(time.perf_counter() - opened, 2)}
    return seconds | {"text": EXAMPLE, "links": [link.title for link in linked.links]}


def _problems(found: Mapping[str, Any]) -> Iterator[str]:
    backends = found["backends"]
    if not (backends["PyTorch"] or backends["ONNX Runtime"]):
        yield "neither PyTorch nor ONNX Runtime is installed; run: pip install onnxruntime"
    if "error" in found["starter"]:
        yield f"the starter does not open: {found['starter']['error']}"
    elif not found["starter"]["links"]:
        yield f"the starter finds nothing in {EXAMPLE!r}; install the package again"
    if found["free_mib"] is not None and found["free_mib"] < LEAST_MIB:
        yield f"only {found['free_mib']} MiB of memory are free; the starter needs {LEAST_MIB}"


def as_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A diagnosis as lines of text."""
    about, starter = found["machine"], found["starter"]
    yield f"processor   {about['processor']}, {about['cores']} cores, {found['threads']} threads used"
    yield f"features    {', '.join(about['features']) or 'none of those that matter for speed'}"
    free = "unknown" if found["free_mib"] is None else f"{found['free_mib']:,} MiB free"
    yield f"memory      {free} of {about['memory_gib']} GiB"
    yield f"versions    {', '.join(f'{name} {version}' for name, version in about['versions'].items())}"
    backends = (f"{name}: {'installed' if has else 'missing'}" for name, has in found["backends"].items())
    yield f"backends    {', '.join(backends)}"
    if "error" not in starter:
        yield f"starter     opens in {starter['open_s']} s; {starter['text']!r}: {', '.join(starter['links']) or 'nothing'}"
    yield from (f"problem     {problem}" for problem in found["problems"])
    if not found["problems"]:
        yield "all is well; how fast each backend is here: blink doctor --fast"
