"""The seam between linking and what runs the context encoder: token ids in, arrays out."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class EncodedBatch(Protocol):
    """A batch of texts after the context encoder."""

    @property
    def token_scores(self) -> np.ndarray:
        """Start, end and inside score of each token as a bound of a mention; anything at padding.

        *Shape:* (batch, seq, 3), float32.

        Raises:
            CheckpointError: the model has no mention head.
        """

    def mention_vectors(self, text: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Vectors of spans, ready for an inner product with entity vectors.

        Args:
            text: row of each span in the batch. *Shape:* (n,), int64.
            start: first token. *Shape:* (n,), int64.
            end: last token, inclusive. *Shape:* (n,), int64.

        Returns:
            *Shape:* (n, entity_size), float32.
        """

    def topic_vectors(self, text: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Vectors of the text around spans, as comparable with entity vectors as those of mentions; arguments and result as of
        `mention_vectors`. Only where the backend ``embeds_topics``.
        """


class Backend(Protocol):
    """Runs the context encoder of one model, and the heads on it."""

    @property
    def name(self) -> str:
        """``torch`` or ``onnx``."""

    @property
    def precision(self) -> str:
        """``fp32``, ``bf16`` or ``int8``."""

    @property
    def device(self) -> str:
        """Kind of device: ``cpu`` or ``cuda``."""

    @property
    def positions(self) -> int:
        """The longest input in tokens, special tokens included."""

    @property
    def entity_size(self) -> int:
        """Dimensions of mention vectors."""

    @property
    def embeds_topics(self) -> bool:
        """Whether token vectors can be compared with entity vectors as they are, so that those around a mention can be."""

    @property
    def has_mention_head(self) -> bool:
        """Whether the model can propose mentions, and not only embed spans that are given."""

    @property
    def heads_digest(self) -> str:
        """Identifies the scores of the bi-encoder, see `BiEncoder.heads_digest`."""

    def encode(self, codes: np.ndarray, mask: np.ndarray) -> EncodedBatch:
        """Run the encoder over padded texts.

        Args:
            codes: token ids with letter case, see `blink.model.letter_case`. *Shape:* (batch, seq), int64.
            mask: true at real tokens, a prefix of each row. *Shape:* (batch, seq), bool.
        """


TOPIC_REACH = 24
"""Tokens before and after a mention that say what the text is about: about a sentence."""
NO_MENTION_HEAD = (
    "the model has no mention head (a BLINK checkpoint has encoders only); it can encode entities and link spans "
    "that you give, but finding mentions needs an ELQ checkpoint or one made by `blink train`"
)
"""Message of the error where mentions are requested of such a model."""
