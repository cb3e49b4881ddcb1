"""Opens the linker of a model and a knowledge base by name; the starter is the default."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blink.kb.vectors import Encoder
from blink.linking.starter import prior_of, require_kb, starter_kb, starter_model
from blink.model.linking_model import backend_for_bulk
from blink.progress import Bars, no_bars

if TYPE_CHECKING:
    from blink.linking.linker import Linker

logger = logging.getLogger(__name__)


def open_linker(
    model: str | None,
    kb: str | None,
    threshold: float | None = None,
    *,
    warn: Callable[[str], None] = logger.warning,
    bars: Bars = no_bars,
    bulk: bool = False,
    **options: Any,
) -> Linker:
    """Open a linker.

    Args:
        model: folder or name of a model; None for the starter.
        kb: folder of a knowledge base; None for that of the starter.
        threshold: see `Linker`.
        warn: called with a warning about the threshold, and with what the index needs where there is a limit of memory.
        bars: for what is done once: building the starter's knowledge base, exporting the encoder.
        bulk: many texts are to be linked, see `backend_for_bulk`.
        **options: those of `Linker`.

    Raises:
        SettingsError: a model is named without a knowledge base.
    """
    from blink.linking.linker import Linker

    require_kb(model, kb)
    # Not `model or ...`: an empty name is a mistake (perhaps an unset variable), not the starter.
    folders = (starter_model() if model is None else model, starter_kb(bars) if kb is None else kb)
    options |= {"prior": prior_of(model, kb, options)}
    if bulk:
        options |= {"backend": backend_for_bulk(options.get("backend", "auto"), options.get("precision", "auto"))}
    linker = Linker.from_pretrained(*folders, threshold=threshold, bars=bars, **options)
    if linker.kb.memory is not None:
        warn(str(linker.kb.memory))
    warning = None if threshold is None else threshold_warning(linker.mode, threshold)
    if warning:
        warn(warning)
    return linker


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


@dataclass(frozen=True)
class OpenEncoder:
    """A candidate encoder, and the fingerprint of it as it is stored."""

    encode: Encoder
    fingerprint: str


def open_candidate_encoder(model: str | None, precision: str, device: str | None, batch_size: int) -> OpenEncoder:
    """Open the candidate encoder of a model, or of the starter.

    Args:
        model: folder of a model, or name of a pretrained encoder; None for the starter.
        precision: ``auto``, ``fp32`` or ``bf16``.
        device: where to encode; None for a GPU where there is one.
        batch_size: entities encoded at a time.

    Raises:
        BlinkError: there is no such model, or it is damaged, or there is no such device.
    """
    from blink.model.loading import load_model
    from blink.model.precision import resolve_device, resolve_precision

    opened = load_model(model if model is not None else starter_model(), context=False, candidate=True)
    fingerprint = opened.candidate_fingerprint()  # of the weights in the precision that they are stored in
    target = resolve_device(device)
    assert opened.candidate_encoder is not None
    opened.to(target)
    opened.candidate_encoder.to(resolve_precision(precision, target))
    return OpenEncoder(lambda entities: opened.encode_entities(entities, batch_size), fingerprint)
