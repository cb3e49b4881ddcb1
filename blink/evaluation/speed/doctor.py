"""Whether an installation works on this machine, what fits on it, and what to do next."""

from __future__ import annotations

import importlib.util
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blink.errors import BlinkError
from blink.evaluation.speed.machine import machine
from blink.files import user_cache
from blink.hub.names import local_folder
from blink.kb.index.budget import most_vectors
from blink.kb.index.kinds import BEST_FIRST, KINDS
from blink.kb.manifest import read_manifest
from blink.kb.verifying import file_faults, unverified_files
from blink.linking.bundle import bundle_of
from blink.linking.starter import starter_kb, starter_model
from blink.machine import free_bytes, free_disk_bytes, gpus
from blink.model.backends.onnx_backend import n_threads
from blink.model.folder import require_model
from blink.model.stored_files import has_checksums, model_faults, without_checksums
from blink.progress import Bars, no_bars

BACKENDS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "faiss": "FAISS"}
"""Module of each, with its name for readers."""
LEAST_MIB = 700
"""Free memory that the starter needs, with room."""
LEAST_DISK_MIB = 500
"""Free disk that the starter's vectors and exported encoder need, with room."""
EXAMPLE = "who was born in Paris, Texas?"
DIM = 384
"""Dimension of the vectors of the starter model."""
ENTITY_BYTES = 2600
"""Bytes on the disk of an entity with a vector of `DIM` dimensions in fp32; 97,081 with introductions take 2.6 kB each."""


def diagnose(model: str | None = None, kb: str | None = None, bars: Bars = no_bars) -> dict[str, Any]:
    """Examine the installation.

    Args:
        model: folder or name of a model; None for the starter.
        kb: folder of a knowledge base; None for that of the starter.
        bars: for what is done once, such as encoding the starter's entities.

    Returns:
        ``machine``, ``gpus``, ``threads``, ``free_mib`` (None where unknown), ``disk_mib`` (folder to free MiB), ``backends``
        (name to whether it is installed), ``capacity`` (kind of index to the entities that fit), ``linker`` (how long it takes
        to open and to link a text, or its ``error``), ``files`` (faults of all their bytes), ``notes``, ``problems``,
        sentences, empty if all is well, and ``next``, a command.
    """
    free = free_bytes()
    here = Path.cwd()
    disk: dict[str, int] = {}
    for folder in (here, user_cache()):
        if free_disk_bytes(folder) not in disk.values():  # as a rule both are on one disk
            disk[str(folder)] = free_disk_bytes(folder)
    found: dict[str, Any] = {
        "machine": machine(),
        "gpus": gpus(),
        "threads": n_threads(),
        "free_mib": None if free is None else free >> 20,
        "disk_mib": {folder: size >> 20 for folder, size in disk.items()},
        "backends": {name: importlib.util.find_spec(module) is not None for module, name in BACKENDS.items()},
        "capacity": {} if free is None else _capacity(free, disk[str(here)]),
        "model": model or "the starter",
        "kb": kb or "the starter's",
        "linker": _linker(model, kb, bars),
    }
    found["files"], found["notes"] = _files(model, kb, bars)
    problems = list(_problems(found))
    return found | {"problems": problems, "next": _next_command(model, kb, problems)}


def _linker(model: str | None, kb: str | None, bars: Bars) -> dict[str, Any]:
    from blink.linking.opening import open_linker

    began = time.perf_counter()
    try:
        linker = open_linker(model, kb, bars=bars)
        opened = time.perf_counter()
        text = EXAMPLE if kb is None else next((f"{e.title}." for e in linker.catalogue if e.title), EXAMPLE)
        linked = linker(text)
    except (BlinkError, OSError, ImportError) as error:
        return {"error": " ".join(str(error).split())}
    seconds = {"open_s": round(opened - began, 2), "first_text_s": round(time.perf_counter() - opened, 2)}
    return seconds | {
        "text": text,
        "links": [link.title for link in linked.links],
        "entities": len(linker.catalogue),
        "index": "" if linker.kb.manifest is None else linker.kb.manifest.index,
    }


def _folders(model: str | None, kb: str | None, bars: Bars) -> tuple[Path, Path]:
    """The folders of model and knowledge base; of a linker, both are in its folder."""
    bundle = None if model is None else bundle_of(model)
    if bundle is not None:
        return bundle.model, bundle.kb if kb is None else local_folder(kb)
    folder = starter_model() if model is None else require_model(model)
    return folder, starter_kb(bars) if kb is None else local_folder(kb)


def _files(model: str | None, kb: str | None, bars: Bars) -> tuple[list[str], list[str]]:
    """Read all files of a model and a knowledge base: those that are missing, damaged or changed (opening names the first
    alone), and notes about what has no checksums.
    """
    try:
        folder, base = _folders(model, kb, bars)
        notes = [] if has_checksums(folder) else [without_checksums(folder)]
        faults = list(model_faults(folder))
        manifest = read_manifest(base)
        if unverified_files(manifest):
            notes.append(f"{base} has hashes of samples alone; store those of all bytes: blink kb verify {base} --record")
        return faults + [fault for _name, fault in file_faults(base, manifest, whole=True)], notes
    except (BlinkError, OSError):
        return [], []  # the error of opening says it


def _capacity(free: int, disk: int) -> dict[str, int]:
    on_disk = disk // ENTITY_BYTES
    fits = {name: most_vectors(KINDS[name], DIM, free) for name in BEST_FIRST}
    return {name: min(n, on_disk) for name, n in fits.items()}


def _problems(found: Mapping[str, Any]) -> Iterator[str]:
    backends, linker = found["backends"], found["linker"]
    if not (backends["PyTorch"] or backends["ONNX Runtime"]):
        yield "neither PyTorch nor ONNX Runtime is installed; run: pip install onnxruntime"
    yield from found["files"]
    if "error" in linker:
        yield f"{_subject(found)} does not open: {linker['error']}"
    elif not linker["links"] and found["kb"] == "the starter's" and found["model"] == "the starter":
        yield f"the starter finds nothing in {EXAMPLE!r}; install the package again"
    if found["free_mib"] is not None and found["free_mib"] < LEAST_MIB:
        yield f"only {found['free_mib']} MiB of memory are free; the starter needs {LEAST_MIB}; end other programs"
    for folder, free in found["disk_mib"].items():
        if free < LEAST_DISK_MIB:
            yield f"only {free} MiB are free on the disk of {folder}; the starter needs {LEAST_DISK_MIB}; make room there"


def _subject(found: Mapping[str, Any]) -> str:
    if found["kb"] == "the starter's" and found["model"] == "the starter":
        return "the starter"
    return f"a linker of {found['model']} and knowledge base {found['kb']}"


def _next_command(model: str | None, kb: str | None, problems: list[str]) -> str:
    options = [*([] if model is None else ["--model", model]), *([] if kb is None else ["--kb", kb])]
    if problems:
        return shlex.join(["blink", "doctor", *options])
    return shlex.join(["blink", "link", EXAMPLE, *options]) if kb is None else shlex.join(["blink", "shell", *options])


def as_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A diagnosis as lines of text."""
    about, linker = found["machine"], found["linker"]
    yield f"processor   {about['processor']}, {about['cores']} cores, {found['threads']} threads used"
    yield f"features    {', '.join(about['features']) or 'none of those that matter for speed'}"
    yield f"devices     cpu{''.join(f', {name}' for name in found['gpus'])}{'' if found['gpus'] else '; no NVIDIA GPU'}"
    free = "unknown" if found["free_mib"] is None else f"{found['free_mib']:,} MiB free"
    yield f"memory      {free} of {about['memory_gib']} GiB"
    for folder, size in found["disk_mib"].items():
        yield f"disk        {size:,} MiB free at {folder}"
    yield f"versions    {', '.join(f'{name} {version}' for name, version in about['versions'].items())}"
    backends = (f"{name}: {'installed' if has else 'missing'}" for name, has in found["backends"].items())
    yield f"backends    {', '.join(backends)}"
    if found["capacity"]:
        sizes = (f"{n / 1e6:.1f} million ({name})" for name, n in found["capacity"].items())
        yield f"fits        entities of dimension {DIM} in free memory and on the disk, by index: {', '.join(sizes)}"
    if "error" not in linker:
        entities = f"{linker['entities']:,} entities, index {linker['index']}"
        links = ", ".join(linker["links"]) or "nothing"
        yield f"linker      {_subject(found)}: {entities}, opens in {linker['open_s']} s; {linker['text']!r}: {links}"
    yield from (f"note        {note}" for note in found["notes"])
    yield from (f"problem     {problem}" for problem in found["problems"])
    if not found["problems"]:
        yield "all is well; how fast each backend is here: blink doctor --fast"
    yield f"next        {found['next']}{' (after the problems are solved)' if found['problems'] else ''}"
