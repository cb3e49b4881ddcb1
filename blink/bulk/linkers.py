"""Bulk runs of a linker that is named by its folders: hashes that identify it, and how each process opens it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.bulk.run import BulkJob, layout_of, link_files
from blink.data.prior_file import NO_PRIOR
from blink.errors import DataError
from blink.evaluation.saved import kb_hash, model_hash
from blink.files import require_file, sha256
from blink.hub.names import local_folder
from blink.linking.bundle import bundle_of
from blink.linking.starter import prior_of, require_kb, starter_kb, starter_model
from blink.model.folder import require_model
from blink.progress import Bars, no_bars
from blink.workers import worker_count

if TYPE_CHECKING:
    from blink.linking.linker import Linker

WITHOUT_EFFECT = ("batch_size", "device", "max_ram", "verify", "bars", "warn")
"""Options of a linker that change no link."""
LISTS = ("allow", "deny")
"""Options of a linker that name files of ids."""


def link_by_name(
    files: Sequence[str],
    *,
    out: str,
    workers: str,
    strict: bool,
    linker: Mapping[str, Any],
    say: Callable[[str], None],
    bars: Bars = no_bars,
    **records: Any,
) -> None:
    """Link files with a linker that options name.

    Args:
        files: see `BulkJob`.
        out: see `BulkJob`.
        workers: see `worker_count`.
        strict: whether records with errors make the run fail when it has ended.
        linker: options of `blink.linking.opening.open_linker`, and ``batch_size``.
        say: called with warnings, and with the counts at the end.
        bars: for the progress.
        **records: see `layout_of`.

    Raises:
        DataError: there are records with errors, and ``strict``.
        BlinkError: see `link_files`.
    """
    options = dict(linker)
    batch_size, layout, count = options.pop("batch_size"), layout_of(files, **records), worker_count(workers, options["device"])
    job = BulkJob(tuple(files), Path(out), layout, linker_settings(options, bars), batch_size)
    counts = link_files(job, LinkerSource(options), workers=count, warn=say, bars=bars)
    say(f"{out}: {counts.records:,} texts, {counts.links:,} links")
    if counts.errors:
        say(counts.describe())
        if strict:
            raise DataError("some records have errors, which --strict does not allow; the output has them in their places")


def linker_hashes(options: Mapping[str, Any], bars: Bars = no_bars) -> dict[str, str]:
    """Hashes that identify a linker.

    Args:
        options: those of `blink.linking.opening.open_linker`.
        bars: for building the starter's knowledge base, once.

    Raises:
        BlinkError: the model, the knowledge base or the prior is missing; before any work begins.
    """
    model, kb = options["model"], options["kb"]
    require_kb(model, kb)
    bundle, prior = (None if model is None else bundle_of(model)), prior_of(model, kb, options)
    if bundle is not None:
        prior = bundle.prior if kb is None and options.get("prior") is None else prior
        model, kb = bundle.model, bundle.kb if kb is None else kb
    model = starter_model() if model is None else require_model(model)
    kb = None if kb is None else local_folder(kb)
    hashes = {"model": model_hash(model), "kb": kb_hash(starter_kb(bars) if kb is None else kb)}
    if prior is not None:
        hashes["prior"] = sha256(require_file(prior, "give a file that `blink kglm prior` wrote"))
    for name in LISTS:
        files = (require_file(file, "give a file of ids, one a line") for file in options.get(name) or ())
        hashes |= {f"{name} {number}": sha256(file) for number, file in enumerate(files, 1)}
    return hashes


def linker_settings(options: Mapping[str, Any], bars: Bars = no_bars) -> dict[str, Any]:
    """What the links of a linker depend on, as plain values: its options, and hashes in place of its files."""
    named = {name: v for name, v in options.items() if name not in (*WITHOUT_EFFECT, *LISTS)}
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in named.items() if name != "where" or v is not None}
    return plain | {"prior": options.get("prior") if options.get("prior") == NO_PRIOR else None} | linker_hashes(options, bars)


class LinkerSource:
    """Opens a linker; it can be sent to other processes.

    Args:
        options: those of `blink.linking.opening.open_linker`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        paths = {name: str(Path(options[name]).resolve()) for name in ("model", "kb") if _is_folder(options.get(name))}
        lists = {name: [str(Path(file).resolve()) for file in options[name]] for name in LISTS if options.get(name)}
        self._options = dict(options) | paths | lists

    def __call__(self, warn: Callable[[str], None]) -> Linker:
        """Open it; ``warn`` is called with warnings."""
        from blink.linking.opening import open_linker

        return open_linker(**self._options, warn=warn, bulk=True)


def _is_folder(name: Any) -> bool:
    return name is not None and Path(name).is_dir()
