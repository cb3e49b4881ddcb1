"""Texts that a graph prior is fitted on, with the scores of the model that the prior is added to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blink.data.mention_files import labelled_samples
from blink.data.prior_file import PriorTable
from blink.data.records import Sample
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.graph_prior import EntityAlignment
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder
from blink.model.gold_checks import GoldChecker
from blink.progress import Bars, no_bars
from blink.training.fit.graph_prior import LabelledText, read_labelled
from blink.training.fit.reranker_texts import out_of_fold_models


@dataclass(frozen=True)
class TextSet:
    """Labelled texts of a knowledge base, and a linker without a prior that analyzes them."""

    linker: Linker
    kb: str
    samples: Sequence[Sample]


class PriorTexts:
    """Analyzes labelled texts of several knowledge bases, each of which is opened and aligned with the graph once.

    Args:
        table: entities of the prior.
        rank: whether to use the model's reranker.
        bars: progress over the texts.
    """

    def __init__(self, table: PriorTable, *, rank: bool, bars: Bars = no_bars) -> None:
        self._table, self._rank, self._bars = table, rank, bars
        self._bases: dict[str, KnowledgeBase] = {}
        self._alignments: dict[str, EntityAlignment] = {}

    def open(self, model: BiEncoder, kb: str, files: Sequence[str]) -> TextSet:
        """The texts of mention files, with a linker for the knowledge base in the folder ``kb``."""
        base = self._base(kb)
        check = GoldChecker.of(model, base.catalogue)
        samples = [sample for file in files for sample in labelled_samples(file, base.catalogue, check)]
        return TextSet(Linker(model, base, rank=self._rank, document=False), kb, samples)

    def alignment(self, kb: str) -> EntityAlignment:
        """The alignment of a knowledge base with the table."""
        if kb not in self._alignments:
            self._alignments[kb] = EntityAlignment(self._table, self._base(kb).catalogue)
        return self._alignments[kb]

    def read(self, texts: TextSet) -> list[LabelledText]:
        """The texts with the scores of their linker."""
        with self._bars(f"reading {Path(texts.kb).name}", len(texts.samples), "text") as progress:
            return read_labelled(texts.linker, texts.samples, self.alignment(texts.kb), progress=progress.advance)

    def read_folds(self, model: BiEncoder, texts: TextSet, folds: Sequence[str]) -> list[LabelledText]:
        """The texts, each analyzed by the model of a fold that was not trained on it, with the reranker of ``model``."""
        labelled = []
        for folder, fold in out_of_fold_models(folds):
            fold_model = BiEncoder.from_pretrained(folder)
            fold_model.reranker = model.reranker
            linker = Linker(fold_model, self._base(texts.kb), rank=self._rank, document=False)
            labelled += self.read(TextSet(linker, texts.kb, [s for s in texts.samples if s.id in fold]))
        return labelled

    def _base(self, kb: str) -> KnowledgeBase:
        if kb not in self._bases:
            self._bases[kb] = KnowledgeBase.open(kb)
        return self._bases[kb]
