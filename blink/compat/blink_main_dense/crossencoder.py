"""BLINK's second pass: a BERT that reads a mention in its context together with one candidate (Wu et al. 2020, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blink.compat.blink_main_dense.inputs import mention_inputs
from blink.data.records import Entity
from blink.errors import CheckpointError, SettingsError
from blink.kb.index.protocol import NO_ROW
from blink.model.original import OriginalFiles, find_vocabulary, read_settings, read_state, rename_keys, tower_settings
from blink.model.pretrained import encoder_from_state
from blink.model.tokenizer import Tokenizer, pad

CONTEXT_LENGTH, CANDIDATE_LENGTH = 32, 128
"""Ids of a mention's input and of a candidate's; the original has them as constants."""
TOWER, HEAD = "encoder.bert_model", "encoder.additional_linear"


class CrossEncoder(nn.Module):
    """Scores pairs of a mention and a candidate.

    Attributes:
        tokenizer: of its BERT.

    Args:
        encoder: a BERT with a pooler.
        head: from the pooled state to one number.
        tokenizer: of its BERT.
        max_length: most ids of a pair.
    """

    def __init__(self, encoder: nn.Module, head: nn.Linear, tokenizer: Tokenizer, max_length: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.tokenizer = tokenizer
        self.max_length = max_length

    @classmethod
    def read(cls, weights: str | Path, settings_file: str | Path) -> tuple[CrossEncoder, dict[str, Any]]:
        """Read a checkpoint of the original.

        Returns:
            the model and its settings.

        Raises:
            MissingFileError: a file is not there.
            SettingsError: it is a RoBERTa, which is not supported.
            CheckpointError: tensors are missing or do not fit.
        """
        files = OriginalFiles(Path(weights), Path(settings_file))
        settings = read_settings(files.settings)
        if settings.get("roberta"):
            raise SettingsError(f"{settings_file} names a RoBERTa; only cross-encoders of BERT are read, or set args.fast")
        state = rename_keys(read_state(files.weights))
        shape = tower_settings(state, TOWER, files.weights)
        if shape is None or f"{HEAD}.weight" not in state:
            raise CheckpointError(
                f"{weights} holds no cross-encoder ({TOWER}.* and {HEAD}.*); give one of the original's, or set args.fast"
            )
        tower = {k.removeprefix(f"{TOWER}."): v for k, v in state.items() if k.startswith(f"{TOWER}.")}
        encoder = encoder_from_state(shape, tower, pooler=True)
        head = nn.Linear(shape["hidden_size"], 1)
        try:
            head.load_state_dict({name: state[f"{HEAD}.{name}"] for name in ("weight", "bias")})
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{weights}: {HEAD} does not fit ({type(error).__name__}); it must make one number"
            ) from error
        vocabulary = find_vocabulary(files, settings, shape["vocab_size"])
        tokenizer = Tokenizer.from_vocabulary(vocabulary, lowercase=bool(settings.get("lowercase", True)))
        return cls(encoder, head, tokenizer, int(settings.get("max_seq_length") or 256)).eval(), settings

    def forward(self, ids: Tensor, context_length: int) -> Tensor:
        """Score pairs.

        Args:
            ids: a mention's input, filled up to `CONTEXT_LENGTH`, and a candidate's without ``[CLS]``. *Shape:* (pairs, seq).
            context_length: position from which on tokens belong to the second segment.

        Returns:
            *Shape:* (pairs,), float32.
        """
        real = ids != self.tokenizer.pad_id
        second = torch.arange(ids.shape[1], device=ids.device) >= context_length
        output = self.encoder(input_ids=ids, token_type_ids=(real & second).long(), attention_mask=real.long())
        scores: Tensor = self.head(output.pooler_output.float())[:, 0]
        return scores

    @torch.inference_mode()
    def score(
        self,
        samples: Sequence[Mapping[str, Any]],
        rows: np.ndarray,
        titles: Mapping[int, str],
        texts: Mapping[int, str],
        *,
        context_length: int,
        batch_size: int,
    ) -> np.ndarray:
        """Score the candidates of mentions.

        Args:
            samples: the mentions, see `mention_inputs`.
            rows: catalogue rows of their candidates, or -1. *Shape:* (len(samples), k), int64.
            titles: title by row.
            texts: description by row.
            context_length: see `forward`.
            batch_size: mentions that go through the model at once, with all their candidates.

        Returns:
            scores, -inf where there is no candidate. *Shape:* (len(samples), k), float32.
        """
        device = self.head.weight.device
        contexts = pad(mention_inputs(self.tokenizer, samples, CONTEXT_LENGTH), self.tokenizer.pad_id, CONTEXT_LENGTH)[0]
        scores = np.full(rows.shape, -np.inf, np.float32)
        for at in range(0, len(rows), batch_size):
            mention, column = np.nonzero(rows[at : at + batch_size] != NO_ROW)
            entities = [Entity(int(row), titles[int(row)], texts[int(row)]) for row in rows[mention + at, column]]
            candidates = self.tokenizer.entity_ids(entities, "title_text", CANDIDATE_LENGTH)
            second = pad([ids[1:] for ids in candidates], self.tokenizer.pad_id)[0]
            pairs = np.concatenate([contexts[mention + at], second], axis=1)[:, : self.max_length]
            scores[mention + at, column] = self(torch.from_numpy(pairs).to(device), context_length).cpu().numpy()
        return scores
