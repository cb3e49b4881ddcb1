"""The candidate encoder of a stored model, opened when the first entity is encoded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from blink.data.records import Entity
from blink.errors import CheckpointError, SettingsError, first_line
from blink.extras import extras_for
from blink.model.backends.exported import exported_candidate, stored_config
from blink.model.backends.layout import CANDIDATE_SETTINGS_FILE
from blink.model.folder import is_original
from blink.model.stored_files import require_whole_model
from blink.model.tokenizer import Tokenizer
from blink.progress import Bars, no_bars

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Opened:
    encode_entities: Callable[[Sequence[Entity]], np.ndarray]
    fingerprint: str
    entity_texts: Callable[[Entity], tuple[str, str, str]]


class EntityEncoder:
    """Encodes entities with a stored model: with ONNX Runtime, without PyTorch, wherever its encoder can be exported.

    The first call opens the encoder, and exports it once, see `blink.model.backends.exported`.

    Args:
        path: see `blink.model.loading.load_model`.
        backend: ``onnx`` or ``torch``, see `blink.model.linking_model.resolve_backend`.
        device: where PyTorch encodes; None for a GPU where there is one.
        bars: for the export.
    """

    def __init__(self, path: Path, backend: str = "onnx", device: str | None = None, bars: Bars = no_bars) -> None:
        self.path = path
        self._backend, self._device, self._bars = backend, device, bars

    def __call__(self, entities: Sequence[Entity]) -> np.ndarray:
        """Vectors of entities. *Shape:* (entities, d), float32.

        Raises:
            BlinkError: the model cannot be opened.
        """
        return self._opened.encode_entities(entities)

    @property
    def fingerprint(self) -> str:
        """Of the encoder, see `BiEncoder.candidate_fingerprint`. Raises as a call does."""
        return self._opened.fingerprint

    def entity_texts(self, entity: Entity) -> tuple[str, str, str]:
        """All that a call reads of an entity: title, aliases and description."""
        return self._opened.entity_texts(entity)

    @cached_property
    def _opened(self) -> _Opened:
        if self._backend == "onnx":
            try:
                return self._exported()
            except (SettingsError, OSError) as error:  # it cannot be exported, or not be written
                logger.warning("%s encodes with PyTorch, which starts slowly: %s", self.path, first_line(error))
        with extras_for("encoders that PyTorch runs"):
            from blink.model.loading import load_model
            from blink.model.precision import resolve_device

        model = load_model(self.path, context=False, candidate=True)
        fingerprint = model.candidate_fingerprint()  # of the weights in the precision that they are stored in
        model.to(resolve_device(self._device))
        return _Opened(model.encode_entities, fingerprint, model.entity_texts)

    def _exported(self) -> _Opened:
        from blink.model.backends.onnx_candidate import OnnxCandidateEncoder

        require_whole_model(self.path)
        folder = exported_candidate(self.path, self._bars)
        config = stored_config(self.path, folder, CANDIDATE_SETTINGS_FILE)
        tokenizer = Tokenizer.from_pretrained(folder if is_original(self.path) else config.base or self.path)
        tokenizer.configure(config)
        try:
            encoder = OnnxCandidateEncoder(folder, config, tokenizer)
        except CheckpointError:
            encoder = OnnxCandidateEncoder(exported_candidate(self.path, self._bars, again=True), config, tokenizer)
        return _Opened(encoder.encode_entities, encoder.fingerprint, encoder.entity_texts)
