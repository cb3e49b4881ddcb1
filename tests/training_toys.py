"""A tiny training: a random encoder, a small knowledge base, questions that name its entities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from toys import base_folder, knowledge_base, rows

from blink.data.records import Mention, Sample
from blink.kb.knowledge_base import KnowledgeBase
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig
from blink.training.data.synthetic import Synthesizer
from blink.training.settings import TrainSettings
from blink.training.trainer import Trainer


def make_toy(folder: Path) -> Path:
    """Write a pretrained encoder, ``base``, and a knowledge base of its vectors, ``kb``."""
    knowledge_base(folder / "kb", fresh(base_folder(folder / "base")), rows(24))
    return folder


def fresh(base: Path, seed: int = 0) -> BiEncoder:
    """An untrained model with adapters on the encoder in ``base``."""
    torch.manual_seed(seed)
    config = ModelConfig(
        cosine=True, candidate_pooling="mean", candidate_fields="title_aliases_text", max_candidate_length=24,
        max_context_length=32, adapter_rank=4,
    )  # fmt: skip
    return BiEncoder.from_encoder(str(base), config)


def question(number: int, kb: KnowledgeBase) -> Sample:
    """A text with one mention, by title."""
    row = number % len(kb.catalogue)
    title = kb.catalogue.title(row)
    text = ("where is {} now?", "tell me about {}", "{} or not")[number % 3].format(title)
    start = text.index(title)
    return Sample(str(number), text, (Mention(start, start + len(title), row, None, title),))


def trainer(toy: Path, run: Path, *, sources: Sequence[Path] = (), **settings: object) -> Trainer:
    """A short run on 30 questions, validated on 12 of them; ``settings`` are those of `TrainSettings`."""
    kb = KnowledgeBase.open(toy / "kb")
    options = {"epochs": 3, "batch_size": 8, "learning_rate": 0.02, "head_learning_rate": 0.02, "precision": "fp32", **settings}
    questions = [question(i, kb) for i in range(30)]
    synthesizer = Synthesizer(kb.catalogue, [], questions)
    return Trainer(
        fresh(toy / "base"), kb, questions, [questions[:12]], run, TrainSettings(**options),  # type: ignore[arg-type]
        synthesizer=synthesizer, sources=sources,
    )  # fmt: skip


def weights(trained: Trainer) -> dict[str, torch.Tensor]:
    """What has been learnt."""
    return {name: p.detach().clone() for name, p in trained.model.named_parameters() if p.requires_grad}
