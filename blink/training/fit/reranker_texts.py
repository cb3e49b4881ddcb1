"""Texts that a reranker is fitted on, analyzed by models that were not trained on them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blink.data.records import Mention, Sample
from blink.errors import SettingsError
from blink.files import locked, read_json, require_file
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.subset import Subset, subset
from blink.model.biencoder import BiEncoder
from blink.model.folder import CONFIG_FILE
from blink.progress import Bars, no_bars
from blink.training.data.synthetic import Synthesizer, read_triples
from blink.training.data.variation import recased, typed
from blink.training.fit.catalogues import contrary_catalogue, groups, small_catalogue
from blink.training.fit.reranker import LabelledSpans, labelled_spans
from blink.training.settings import Fold, RankSettings, parse_fold, parse_mix

SYNTHETIC_SEED = 104_729
"""Seed of synthetic texts, other than the seed of training, so that the texts differ from those trained on."""

CATALOGUES = 5
"""Small catalogues, and ones with contrary names, whose sizes differ."""
DAMAGE = 0.3
"""Share of misspelt names in texts as people type them."""


def model_folder(model: str | Path) -> Path:
    """The folder of a model.

    Raises:
        MissingFileError: it is not a model folder.
    """
    return require_file(Path(model) / CONFIG_FILE, f"{model} must be a model folder, as `blink train` writes it").parent


@contextlib.contextmanager
def locked_models(models: Iterable[str | Path]) -> Iterator[None]:
    """Keep other processes from changing models inside the block.

    Raises:
        MissingFileError: one is not a model folder.
        BusyError: another process is changing one.
    """
    with contextlib.ExitStack() as locks:
        for model in models:
            locks.enter_context(locked(model_folder(model)))
        yield


def parse_reranker_mix(text: str) -> dict[str, float]:
    """Synthetic texts per question, by source, and the number of repetitions of each question.

    Raises:
        SettingsError: a source is unknown or not allowed here, or the value of questions is not an integer.
    """
    mix = parse_mix(text)
    if not mix.get("questions", 1.0).is_integer():
        raise SettingsError(
            f"--mix has questions={mix['questions']:g}; each counts a whole number of times, such as questions=1"
        )
    if "pseudo" in mix:
        raise SettingsError("blink rank takes no pseudo in --mix: a reranker learns from gold; leave pseudo out")
    return mix


def out_of_fold_models(folds: Sequence[str]) -> list[tuple[Path, Fold]]:
    """Models of run folders of `blink train --leave-out`, each with the fold of texts that it was not trained on.

    Raises:
        SettingsError: a run was trained on all texts.
    """
    readers = []
    for folder in map(Path, folds):
        settings = read_json(folder / "settings.json", f"{folder} must be the run folder of blink train --leave-out")
        fold = parse_fold(str(settings.get("leave_out", "")))
        if fold is None:
            raise SettingsError(f"{folder} left nothing out; train it with --leave-out, such as --leave-out 0/2")
        readers.append((folder / "best", fold))
    return readers


@dataclass(frozen=True)
class TextSource:
    """A knowledge base and its synthesizer, which is None if the mixture has no synthetic texts."""

    kb: KnowledgeBase
    synthesizer: Synthesizer | None

    @classmethod
    def of(cls, kb: KnowledgeBase, mix: Mapping[str, float], triples: str | None, damage: float) -> TextSource:
        """The source of a knowledge base.

        Args:
            kb: the knowledge base.
            mix: see `parse_reranker_mix`.
            triples: file of facts for relational texts, if any.
            damage: share of mentions that are augmented, see `blink.training.data.noise`.
        """
        if not any(share for name, share in mix.items() if name != "questions"):
            return cls(kb, None)
        facts = read_triples(triples, kb.catalogue) if triples else []
        return cls(kb, Synthesizer(kb.catalogue, facts, (), augmentation=damage))

    def synthesize(self, mix: Mapping[str, float], count: int, questions: Sequence[Sample]) -> list[Sample]:
        """Texts for ``count`` questions; with entity replacement only if ``questions`` are of this knowledge base."""
        if self.synthesizer is None:
            return []
        shares = {name: share for name, share in mix.items() if name != "questions" and (questions or name != "swapped")}
        synthesizer = self.synthesizer.of_questions(questions)
        return [s for name, share in shares.items() for s in synthesizer.make(name, round(share * count), SYNTHETIC_SEED)]


@dataclass(frozen=True)
class LabelledTexts:
    """Labelled texts, and how often each is used in an epoch of the fit."""

    samples: Sequence[Sample]
    repeats: int = 1


@dataclass(frozen=True)
class SpanExtractor:
    """Extracts labelled spans from texts with a model.

    The texts are linked to knowledge bases without a share of their entities (`RankSettings.absent`), drawn by seed, so that
    mentions of these entities have the features of mentions outside the knowledge base.

    Args:
        model: folder of the model.
        settings: of the reranker.
        precision: of the encoder.
        bars: progress over the texts.
        draw: of the entities that are removed, besides the seed.
    """

    model: Path
    settings: RankSettings
    precision: str = "auto"
    bars: Bars = no_bars
    draw: int = 0

    def extract(
        self, sources: Sequence[TextSource], texts: Sequence[LabelledTexts], mix: Mapping[str, float]
    ) -> Iterator[LabelledSpans]:
        """Spans of labelled texts, which belong to the first knowledge base, and of synthetic texts of each.

        Raises:
            MismatchError: a knowledge base was built with another model.
        """
        model = BiEncoder.from_pretrained(model_folder(self.model), candidate=self.settings.contrary > 0)
        for source in sources:
            source.kb.require_model(model.config.candidate_fingerprint)
        questions = [sample for of_file in texts for sample in of_file.samples]
        for i, source in enumerate(sources):
            random = np.random.default_rng([self.settings.seed, self.draw, i])
            absent = np.flatnonzero(random.random(len(source.kb.catalogue)) < self.settings.absent)
            of_source = [] if i else [replace(t, samples=self._recased(t.samples, random)) for t in texts if t.samples]
            synthetic = self._recased(source.synthesize(mix, len(questions), [] if i else questions), random)
            reduced = subset(source.kb, absent)
            name = source.kb.catalogue.path.parent.name
            for of_file in of_source:
                yield self._spans(model, reduced, of_file.samples, name).repeated(
                    of_file.repeats * int(mix.get("questions", 1.0))
                )
            labelled = [sample for of_file in of_source for sample in of_file.samples]
            others = [synthetic, self._typed(labelled, source.kb, random)]
            yield from (self._spans(model, reduced, of_kind, name) for of_kind in others if of_kind)
            yield from self._over_other_catalogues(model, source.kb, labelled, synthetic, random)

    def _over_other_catalogues(
        self,
        model: BiEncoder,
        kb: KnowledgeBase,
        labelled: Sequence[Sample],
        synthetic: Sequence[Sample],
        random: np.random.Generator,
    ) -> Iterator[LabelledSpans]:
        """Spans of some of the texts over small catalogues, and over ones with contrary names."""
        for of_group in groups(_share([*labelled, *synthetic], self.settings.small, random), CATALOGUES, random):
            yield self._spans(model, small_catalogue(kb, of_group, random), of_group, "small catalogues")
        lookalikes = [sample for sample in synthetic if sample.id.startswith("lookalike")]
        contrary = _share([*labelled, *lookalikes], self.settings.contrary, random)
        with tempfile.TemporaryDirectory(prefix="contrary-") as folder:
            for i, of_group in enumerate(groups(contrary, CATALOGUES, random)):
                catalogue = contrary_catalogue(kb, of_group, model, Path(folder) / str(i), random)
                yield self._spans(model, catalogue, of_group, "contrary catalogues")

    def _recased(self, samples: Sequence[Sample], random: np.random.Generator) -> list[Sample]:
        return recased(samples, self.settings.recase, random)

    def _typed(self, samples: Sequence[Sample], kb: KnowledgeBase, random: np.random.Generator) -> list[Sample]:
        assert kb.names is not None
        table = kb.names.alias_table

        def is_name(string: str, mention: Mention) -> bool:
            return any(match.row != mention.row for match in table.lookup(string))

        texts = (typed(sample, DAMAGE, is_name, random) for sample in _share(samples, self.settings.typed, random))
        return [sample for sample in texts if sample is not None]

    def _spans(self, model: BiEncoder, reduced: Subset, texts: Sequence[Sample], name: str) -> LabelledSpans:
        with self.bars(f"reading {name}", len(texts), "text") as progress:
            return labelled_spans(
                model,
                reduced.base,
                list(map(reduced.relabel, texts)),
                min_mention_log_prob=self.settings.min_mention_log_prob,
                precision=self.precision,
                progress=progress.advance,
            )


def _share(samples: Sequence[Sample], share: float, random: np.random.Generator) -> list[Sample]:
    return [sample for sample in samples if random.random() < share] if share else []
