"""Opens the linker of a model and a knowledge base by name; the starter is the default."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.data.prior_file import NO_PRIOR
from blink.extras import extras_for, is_installed
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.vectors import CandidateEncoder, Encoder
from blink.kb.where import WhereLike, where_from
from blink.linking.starter import prior_of, require_kb, starter_fingerprint, starter_kb, starter_model
from blink.model.entity_encoder import EntityEncoder
from blink.model.folder import require_model
from blink.model.linking_model import backend_for_bulk, require_backend, resolve_backend
from blink.progress import Bars, no_bars

if TYPE_CHECKING:
    from blink.linking.linker import Linker

logger = logging.getLogger(__name__)

FEW_ENTITIES = 1200
"""Up to so many PyTorch's import takes longer than it saves, on an AMD EPYC."""


def open_linker(
    model: str | None,
    kb: str | None,
    threshold: float | None = None,
    *,
    warn: Callable[[str], None] = logger.warning,
    bars: Bars = no_bars,
    bulk: bool = False,
    where: WhereLike = None,
    allow: Sequence[str] | None = None,
    deny: Sequence[str] | None = None,
    **options: Any,
) -> Linker:
    """Open a linker.

    Args:
        model: folder or name of a model, or folder of a linker; None for the starter. Names of the hub begin with ``hf://``.
        kb: folder of a knowledge base, or its name on the hub; None for that of the starter, or of the linker.
        threshold: see `Linker`.
        warn: called with a warning about the threshold, and with what the index needs where there is a limit of memory.
        bars: for what is done once: building the starter's knowledge base, exporting the encoder.
        bulk: many texts are to be linked, see `backend_for_bulk`.
        where: which entities may be linked, see `Linker`.
        allow: files of ids: only entities of each list are linked, see `blink.kb.where.Where.of_files`.
        deny: files of ids of entities that are never linked.
        **options: those of `Linker.from_pretrained`.

    Raises:
        SettingsError: a model is named without a knowledge base.
    """
    from blink.linking.linker import Linker

    require_kb(model, kb)
    # Not `model or ...`: an empty name is a mistake (perhaps an unset variable), not the starter.
    bundled = model is not None and kb is None  # the folder of a linker, which has both and perhaps a prior
    if kb is None and not bundled:  # before minutes of encoding
        require_backend(starter_model(), **{k: options[k] for k in ("backend", "precision", "device") if k in options})
    folders = (starter_model() if model is None else model, starter_kb(bars) if kb is None and not bundled else kb)
    # A linker without a prior has that of the starter: "none" stays "none".
    prior = None if bundled and options.get("prior") is None else prior_of(model, kb, options) or NO_PRIOR
    options |= {"prior": prior, "where": where_from(where, allow, deny) or None}
    if bulk:
        options |= {"backend": backend_for_bulk(options.get("backend", "auto"), options.get("precision", "auto"))}
    linker = Linker.from_pretrained(*folders, threshold=threshold, bars=bars, **options)
    if linker.kb.memory is not None:
        warn(str(linker.kb.memory))
    warning = None if threshold is None else threshold_warning(linker.mode, threshold)
    if warning:
        warn(warning)
    return linker


def twin_of(linker: Linker) -> Linker:
    """A linker with the same model, knowledge base and options, for another thread: each thread uses a linker of its own.

    Args:
        linker: whose model and knowledge base it shares.
    """
    open_again, (_, kb, options) = linker.__reduce__()
    return open_again(linker._model, kb, options)


def threshold_warning(mode: str, threshold: float) -> str | None:
    """A warning about a threshold outside the scores of a linker in ``mode``; None where there is no reason for one.

    Minus infinity is right in every mode: it keeps every link.
    """
    if mode in ("joint", "joint_0") and threshold >= 0:
        return f"scores are log-probabilities, at most 0, and the threshold is {threshold:g}: no link is above it"
    if mode != "probability" or 0 <= threshold <= 1 or threshold == float("-inf"):
        return None
    consequence = "every link is" if threshold < 0 else "no link is"
    return f"scores are probabilities, from 0 to 1, and the threshold is {threshold:g}: {consequence} above it"


def open_kb_for_edits(folder: str | Path, model: str | None = None, bars: Bars = no_bars) -> KnowledgeBase:
    """Open a knowledge base to edit it: new texts are encoded by the model that made its vectors.

    That model is opened with the first text. Edits without new texts need none.

    Args:
        folder: of the knowledge base.
        model: folder or name of its model; None for the starter, where its vectors are those of the starter.
        bars: for the export of the encoder, once.

    Raises:
        MismatchError: the vectors are those of another model than the one given.
        BlinkError: there is no such knowledge base or model.
    """
    kb = KnowledgeBase.open(folder)
    if model is None:
        if kb.manifest is None or kb.manifest.model != starter_fingerprint():
            return kb
        path = starter_model()
    else:
        path = require_model(model)
    encoder = EntityEncoder(path, resolve_backend(path), bars=bars)
    if model is not None:
        kb.require_model(encoder.fingerprint)
    kb.encode = encoder
    return kb


def open_candidate_encoder(model: str | None, precision: str, device: str | None, batch_size: int) -> CandidateEncoder:
    """Open the candidate encoder of a model, or of the starter.

    Args:
        model: folder of a model, or name of a pretrained encoder; None for the starter.
        precision: ``auto``, ``fp32`` or ``bf16``.
        device: where to encode; None for a GPU where there is one.
        batch_size: entities encoded at a time.

    Raises:
        BlinkError: there is no such model, or it is damaged, or there is no such device.
    """
    with extras_for("encoders that PyTorch runs"):
        from blink.model.loading import load_model
        from blink.model.precision import resolve_device, resolve_precision

    opened = load_model(model if model is not None else starter_model(), context=False, candidate=True)
    fingerprint = opened.candidate_fingerprint()  # of the weights in the precision that they are stored in
    target = resolve_device(device)
    assert opened.candidate_encoder is not None
    opened.to(target)
    opened.candidate_encoder.to(resolve_precision(precision, target))
    return CandidateEncoder(lambda entities: opened.encode_entities(entities, batch_size), fingerprint, opened.entity_texts)


def open_encoder_for_builds(
    model: str | None = None,
    precision: str = "auto",
    device: str | None = None,
    batch_size: int = 64,
    bars: Bars = no_bars,
) -> CandidateEncoder:
    """Open the candidate encoder of a model for a build: few entities are encoded with ONNX Runtime, which starts at once, and
    many with PyTorch, which encodes them in less time.

    Arguments and errors as of `open_candidate_encoder`; ``bars`` are for the export of the encoder, once.
    """
    path = starter_model() if model is None else require_model(model)
    if precision != "auto" or device is not None or resolve_backend(path) != "onnx":
        return open_candidate_encoder(model, precision, device, batch_size)
    encoder = EntityEncoder(path, bars=bars)

    def for_rows(rows: int) -> Encoder:
        few = rows <= FEW_ENTITIES or not is_installed("torch")
        return encoder if few else open_candidate_encoder(model, precision, device, batch_size).encode

    return CandidateEncoder(encoder, encoder.fingerprint, encoder.entity_texts, for_rows)


KnowledgeBase.open_encoder = staticmethod(open_encoder_for_builds)
"""`KnowledgeBase.from_records` encodes with a model, of which `blink.kb` knows nothing."""
