"""``blink kb build``."""

from __future__ import annotations

import sys
from typing import Any

from blink.apps.common import Bar, say
from blink.files import require_file
from blink.kb.knowledge_base import BuildProgress, build_knowledge_base


def build_kb(
    catalogue: str, out: str, model: str | None, *, batch_size: int, precision: str, device: str | None, **options: Any
) -> None:
    """Encode a catalogue and index it, with progress on standard error."""
    from blink.apps.starter import starter_model
    from blink.model.loading import load_model
    from blink.model.precision import resolve_device, resolve_precision

    source = require_file(catalogue, "give a catalogue: one JSON object with a title a line")
    encoder = load_model(model if model is not None else starter_model(), context=False, candidate=True)
    fingerprint = encoder.candidate_fingerprint()
    where = resolve_device(device)
    assert encoder.candidate_encoder is not None
    encoder.to(where)
    encoder.candidate_encoder.to(resolve_precision(precision, where))
    shown: list[Bar] = []

    def stage(name: str, total: int) -> None:
        while shown:
            shown.pop().close()
        if total:
            shown.append(Bar(name, total, "entity"))
        elif sys.stderr.isatty():  # like the bars, which are silent elsewhere
            say(f"{name} ...")

    hooks = BuildProgress(stage, lambda rows: shown[-1].advance(rows))
    manifest = build_knowledge_base(
        source, out, lambda entities: encoder.encode_entities(entities, batch_size), fingerprint, progress=hooks, **options
    )
    say(
        f"{out}: {manifest.entities:,} entities, vectors of {manifest.dim} numbers, "
        f"index {manifest.index}, {manifest.skipped} lines skipped"
    )
