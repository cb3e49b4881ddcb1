"""Mentions in their context, as BLINK's encoders read them (Wu et al. 2020, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from blink.data.windows import window_around_gold
from blink.errors import CheckpointError, DataError
from blink.model.tokenizer import Tokenizer, pad

if TYPE_CHECKING:
    from blink.model.biencoder import BiEncoder

MENTION_START, MENTION_END = "[unused0]", "[unused1]"
TEXT_KEYS = ("context_left", "mention", "context_right")


def mention_inputs(tokenizer: Tokenizer, samples: Sequence[Mapping[str, Any]], length: int) -> list[list[int]]:
    """Inputs ``[CLS] left [unused0] mention [unused1] right [SEP]``, with as much context as fits, unpadded.

    Args:
        tokenizer: of the encoder.
        samples: with the keys `TEXT_KEYS`.
        length: most ids of an input.

    Raises:
        DataError: a sample lacks a key, or its value is no text; the message says which.
        CheckpointError: the vocabulary has no tokens to mark mentions with.
    """
    bounds = [tokenizer.transformers_tokenizer.convert_tokens_to_ids(token) for token in (MENTION_START, MENTION_END)]
    if tokenizer.transformers_tokenizer.unk_token_id in bounds:
        raise CheckpointError(f"the vocabulary has no {MENTION_START}; give the vocab.txt of an uncased BERT")
    texts = [text for number, sample in enumerate(samples) for text in _texts(number, sample)]
    ids = [encoding.ids.tolist() for encoding in tokenizer.tokenize(texts)]
    inputs = []
    for before, mention, after in zip(ids[::3], ids[1::3], ids[2::3], strict=True):
        marked = [bounds[0], *mention[: length - 4], bounds[1]] if mention else []
        text = [*before, *marked, *after]
        window = window_around_gold(len(text), [(len(before), len(before) + len(marked))], length).window
        inputs.append([tokenizer.cls_id, *text[window.start : window.end], tokenizer.sep_id])
    return inputs


def _texts(number: int, sample: Mapping[str, Any]) -> list[str]:
    missing = [key for key in TEXT_KEYS if not isinstance(sample.get(key), str)]
    if missing:
        kind = type(sample[missing[0]]).__name__ if missing[0] in sample else "no such key"
        raise DataError(
            f"entry {number}: {missing[0]!r} must be a text, found {kind}; give {', '.join(TEXT_KEYS)} of each mention"
        )
    return [str(sample[key]) for key in TEXT_KEYS]


@torch.inference_mode()
def encode_mentions(model: BiEncoder, inputs: Sequence[Sequence[int]], batch_size: int) -> np.ndarray:
    """Vectors of mentions: the state of ``[CLS]``.

    Args:
        model: the bi-encoder, on its device.
        inputs: of `mention_inputs`.
        batch_size: inputs that go through the model at once.

    Returns:
        vectors. *Shape:* (len(inputs), entity size), float32.
    """
    device = next(model.parameters()).device
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
    vectors = np.empty((len(inputs), model.entity_size), np.float32)
    for at in range(0, len(order), batch_size):
        batch = order[at : at + batch_size]
        ids, mask = (torch.from_numpy(array).to(device) for array in pad([inputs[i] for i in batch], model.tokenizer.pad_id))
        vectors[batch] = model.encode_context(ids, mask)[:, 0].float().cpu().numpy()
    return vectors
