"""``blink kb build``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from blink.apps.common import Bar, say
from blink.files import require_file
from blink.kb.knowledge_base import BuildProgress, build_knowledge_base
from blink.kb.vectors import Encoder


@dataclass(frozen=True)
class LoadedEncoder:
    """A candidate encoder, ready to encode, and the fingerprint of it as it was stored."""

    encode: Encoder
    fingerprint: str


def load_encoder(model: str | None, precision: str, device: str | None, batch_size: int) -> LoadedEncoder:
    """Load the candidate encoder of a model, or of the starter; see the options of ``blink kb build``.

    Raises:
        BlinkError: there is no such model, or it is damaged, or there is no such device.
    """
    from blink.apps.starter import starter_model
    from blink.model.loading import load_model
    from blink.model.precision import resolve_device, resolve_precision

    loaded = load_model(model if model is not None else starter_model(), context=False, candidate=True)
    fingerprint = loaded.candidate_fingerprint()  # of the weights in the precision that they are stored in
    where = resolve_device(device)
    assert loaded.candidate_encoder is not None
    loaded.to(where)
    loaded.candidate_encoder.to(resolve_precision(precision, where))
    return LoadedEncoder(lambda entities: loaded.encode_entities(entities, batch_size), fingerprint)


def build_kb(
    catalogue: str, out: str, model: str | None, *, batch_size: int, precision: str, device: str | None, **options: Any
) -> None:
    """Encode a catalogue and index it, with progress on standard error."""
    source = require_file(catalogue, "give a catalogue: one JSON object with a title a line")
    encoder = load_encoder(model, precision, device, batch_size)
    shown: list[Bar] = []

    def stage(name: str, total: int) -> None:
        while shown:
            shown.pop().close()
        if total:
            shown.append(Bar(name, total, "entity"))
        elif sys.stderr.isatty():  # like the bars, which are silent elsewhere
            say(f"{name} ...")

    hooks = BuildProgress(stage, lambda rows: shown[-1].advance(rows))
    manifest = build_knowledge_base(source, out, encoder.encode, encoder.fingerprint, progress=hooks, **options)
    say(
        f"{out}: {manifest.entities:,} entities, vectors of {manifest.dim} numbers, "
        f"index {manifest.index}, {manifest.skipped} lines skipped"
    )
