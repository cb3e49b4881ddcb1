"""Files of the original BLINK with random weights, and what follows from them, computed plainly: a mention at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor
from transformers import BertTokenizer

from tests.compat.originals import CLS, SEP, TITLE_END, TITLES, VOCABULARY, bert

MENTION_START, MENTION_END = 1, 2
CONTEXT, CANDIDATE = 24, 32
CROSS_CONTEXT, CROSS_CANDIDATE, CROSS_PAIR = 32, 128, 64


class BlinkOriginal:
    """A bi-encoder, a cross-encoder and a catalogue; writes their files and computes candidates and scores."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contexts, self.candidates, self.pairs = bert((32, 2, 2), 1), bert((32, 2, 2), 2), bert((48, 2, 3), 3)
        torch.manual_seed(5)
        self.linear = {"weight": torch.randn(1, 48), "bias": torch.randn(1)}
        self.tokenizer = BertTokenizer(vocab=str(VOCABULARY), do_lower_case=True)
        self.entities = [
            {"title": f"{t} {i}", "text": f" The {i} kind of {t}.", "idx": f"https://en.wikipedia.org/wiki?curid={1000 + i}"}
            for i, t in enumerate(TITLES * 3)
        ]
        self.vectors = torch.cat([self.state(self.candidates, self.candidate(e, CANDIDATE)) for e in self.entities]).numpy()

    # -- files ---------------------------------------------------------------------------------------------------

    def write(self) -> BlinkOriginal:
        """Write everything under the names that the original published it by."""
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        towers = {"context_encoder": self.contexts, "cand_encoder": self.candidates}
        state = {f"{name}.bert_model.{k}": v for name, tower in towers.items() for k, v in tower.state_dict().items()}
        torch.save(state, folder / "biencoder_wiki_large.bin")
        shared = {"bert_model": "bert-base-uncased", "lowercase": True, "data_parallel": False, "no_cuda": True, "debug": False}
        biencoder = {"max_context_length": CONTEXT, "max_cand_length": CANDIDATE, "eval_batch_size": 3, "out_dim": 1}
        (folder / "biencoder_wiki_large.json").write_text(json.dumps(shared | biencoder | {"add_linear": False}))
        pairs = {f"encoder.bert_model.{k}": v for k, v in self.pairs.state_dict().items()}
        pairs |= {f"encoder.additional_linear.{k}": v for k, v in self.linear.items()}
        cross = folder / "cross"
        cross.mkdir(exist_ok=True)
        torch.save(pairs, cross / "crossencoder_wiki_large.bin")
        (cross / "crossencoder_wiki_large.json").write_text(
            json.dumps(shared | {"max_seq_length": CROSS_PAIR, "eval_batch_size": 2, "add_linear": True, "out_dim": 1})
        )
        # Weights do not have the number of attention heads.
        (folder / "config.json").write_text(self.contexts.config.to_json_string())
        (cross / "config.json").write_text(self.pairs.config.to_json_string())
        torch.save(torch.from_numpy(self.vectors), folder / "all_entities_large.t7")
        (folder / "entity.jsonl").write_text("".join(json.dumps(e) + "\n" for e in self.entities))
        flat = faiss.IndexFlatIP(32)
        flat.add(self.vectors)
        faiss.write_index(flat, str(folder / "faiss_flat_index.pkl"))
        hnsw = faiss.IndexHNSWFlat(33, 128)
        hnsw.hnsw.efSearch = 256
        hnsw.add(self.lengthened())
        faiss.write_index(hnsw, str(folder / "faiss_hnsw_index.pkl"))
        return self

    def lengthened(self) -> np.ndarray:
        """The vectors, with a number more that makes their norms equal."""
        squares = (self.vectors**2).sum(1)
        return np.hstack([self.vectors, np.sqrt(np.maximum(squares.max() - squares, 0))[:, None]]).astype(np.float32)

    # -- numbers -------------------------------------------------------------------------------------------------

    def token_ids(self, text: str) -> list[int]:
        """Token ids without special ones."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def candidate(self, entity: Mapping[str, Any], length: int) -> list[int]:
        """Input of an entity."""
        ids = [*self.token_ids(entity["title"]), TITLE_END, *self.token_ids(entity["text"])]
        return [CLS, *ids[: length - 2], SEP]

    def context(self, sample: Mapping[str, Any], length: int) -> list[int]:
        """Input of a mention: the room that one side does not need goes to the other."""
        before, mention, right = (self.token_ids(sample[key]) for key in ("context_left", "mention", "context_right"))
        mention = [MENTION_START, *mention[: length - 4], MENTION_END]
        room_left = (length - len(mention)) // 2 - 1
        room_right = length - len(mention) - room_left - 2
        if len(before) <= room_left < len(before) + len(right) and len(right) > room_right:
            room_right += room_left - len(before)
        elif len(before) > room_left and len(right) <= room_right:
            room_left += room_right - len(right)
        before = before[len(before) - min(room_left, len(before)) :] if room_left > 0 else []
        return [CLS, *before, *mention, *(right[:room_right] if room_right > 0 else []), SEP]

    @staticmethod
    @torch.no_grad()
    def state(model: Any, ids: list[int]) -> Tensor:
        """State of ``[CLS]``. *Shape:* (1, hidden)."""
        return model(input_ids=torch.tensor([ids])).last_hidden_state[:, 0]

    def products(self, sample: Mapping[str, Any]) -> np.ndarray:
        """Inner products with all entities."""
        return self.vectors @ self.state(self.contexts, self.context(sample, CONTEXT))[0].numpy()

    def query(self, sample: Mapping[str, Any]) -> np.ndarray:
        """Vector of a mention."""
        return self.state(self.contexts, self.context(sample, CONTEXT))[0].numpy()

    @torch.no_grad()
    def pair_score(self, sample: Mapping[str, Any], row: int) -> float:
        """Score of a candidate: padding between the two inputs is left out here, but counts in positions and segments."""
        first = self.context(sample, CROSS_CONTEXT)
        second = self.candidate(self.entities[row], CROSS_CANDIDATE)[1:]
        positions = [*range(len(first)), *range(CROSS_CONTEXT, CROSS_CONTEXT + len(second))]
        pairs = [(i, p) for i, p in zip([*first, *second], positions, strict=True) if p < CROSS_PAIR]
        ids, position_ids = (torch.tensor([column]) for column in zip(*pairs, strict=True))
        segments = (position_ids >= CONTEXT).long()  # where the bi-encoder's input ends
        pooled = self.pairs(input_ids=ids, position_ids=position_ids, token_type_ids=segments).pooler_output[0]
        return float(self.linear["weight"][0] @ pooled + self.linear["bias"][0])
