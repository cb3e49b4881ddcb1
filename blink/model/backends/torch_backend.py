"""The bi-encoder itself as a backend, in any precision and on any device that PyTorch has."""

from __future__ import annotations

import copy
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from blink.errors import CheckpointError, SettingsError
from blink.model.backends.protocol import NO_MENTION_HEAD
from blink.model.biencoder import BiEncoder
from blink.model.precision import resolve_device, resolve_precision
from blink.model.pretrained import longest_input


class TorchBackend:
    """Runs a `BiEncoder`.

    Attributes:
        model: in the precision that it runs in.

    Args:
        model: the bi-encoder, moved to the device; where the dtype differs, its context encoder is copied.
        precision: ``auto``, ``fp32`` or ``bf16``, of the context encoder; the heads are float32 always.
        device: where the model runs; by default a GPU where there is one.

    Raises:
        SettingsError: the model has no context encoder, or there is no such device or precision.
    """

    name = "torch"

    def __init__(self, model: BiEncoder, precision: str = "auto", device: str | None = None) -> None:
        if model.context_encoder is None:
            raise SettingsError(
                "the model was loaded without its context encoder, which reads texts; load it with context=True"
            )
        self._device = resolve_device(device)
        dtype = resolve_precision(precision, self._device)
        self.precision = "bf16" if dtype == torch.bfloat16 else "fp32"
        self.positions = longest_input(model.context_encoder)
        self.model = _with_dtype(model.eval().to(self._device), model.context_encoder, dtype)

    @property
    def device(self) -> str:
        """Kind of device: ``cpu`` or ``cuda``."""
        return self._device.type

    @property
    def entity_size(self) -> int:
        """Dimensions of mention vectors."""
        return self.model.entity_size

    @property
    def embeds_topics(self) -> bool:
        """Whether the text around mentions can be embedded."""
        return self.model.embeds_topics

    @property
    def has_mention_head(self) -> bool:
        """Whether the model can propose mentions."""
        return self.model.mention_scorer is not None

    @property
    def heads_digest(self) -> str:
        """Identifies the scores of the bi-encoder."""
        return self.model.heads_digest()

    @torch.inference_mode()
    def encode(self, codes: np.ndarray, mask: np.ndarray) -> TorchBatch:
        """Run the encoder; see `blink.model.backends.protocol.Backend`."""
        real = torch.from_numpy(mask).to(self._device)
        hidden = self.model.encode_context(torch.from_numpy(codes).to(self._device), real)
        return TorchBatch(self.model, hidden.float(), real)


class TorchBatch:
    """A batch of texts after the context encoder, see `blink.model.backends.protocol.EncodedBatch`.

    Args:
        model: whose heads read the token vectors.
        hidden: token vectors. *Shape:* (batch, seq, hidden), float32.
        mask: true at real tokens. *Shape:* (batch, seq), bool.
    """

    def __init__(self, model: BiEncoder, hidden: Tensor, mask: Tensor) -> None:
        self._model, self._hidden, self._mask = model, hidden, mask

    @cached_property
    @torch.inference_mode()
    def token_scores(self) -> np.ndarray:
        """Start, end and inside scores. *Shape:* (batch, seq, 3), float32."""
        if self._model.mention_scorer is None:
            raise CheckpointError(NO_MENTION_HEAD)
        scores: np.ndarray = self._model.mention_scorer(self._hidden).cpu().numpy()
        return scores

    @torch.inference_mode()
    def mention_vectors(self, text: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Vectors of spans. *Shape:* (n, entity_size), float32."""
        return self._model.embed_mentions(self._hidden, *self._spans(text, start, end)).cpu().numpy()

    @torch.inference_mode()
    def topic_vectors(self, text: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Vectors of the text around spans. *Shape:* (n, entity_size), float32."""
        return self._model.embed_topics(self._hidden, self._mask, *self._spans(text, start, end)).cpu().numpy()

    def _spans(self, *columns: np.ndarray) -> list[Tensor]:
        return [torch.from_numpy(column).to(self._hidden.device) for column in columns]


def _with_dtype(model: BiEncoder, tower: nn.Module, dtype: torch.dtype) -> BiEncoder:
    """The model with its context encoder in ``dtype``; the caller's keeps its weights unrounded."""
    if next(tower.parameters()).dtype == dtype:
        return model
    model = copy.copy(model)
    model._modules = {**model._modules, "context_encoder": copy.deepcopy(tower).to(dtype)}
    return model
