"""The `Linker`: texts in, links with character offsets out."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.prior_file import NO_PRIOR, Prior, read_prior
from blink.data.records import Candidate, Link, LinkedText
from blink.data.windows import Window, cut_windows, overlap_of, owners
from blink.errors import DataError, MismatchError, SettingsError
from blink.kb.catalogue import Catalogue
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.features import CandidateFeaturizer, TextContext
from blink.linking.graph_prior import EntityAlignment, GraphPrior, scorer_fingerprint, weights_for
from blink.linking.mention_detector import Reader, ReaderOptions, Refine
from blink.linking.reranker import Refiner, Reranker
from blink.linking.scoring import ScoredSpans, Thresholds, decide, joint_scores, mode_named
from blink.model.biencoder import BiEncoder
from blink.model.config import FEATURE_GROUPS
from blink.model.loading import load_model
from blink.model.tokenizer import Encoding, Tokenizer

PROBABILITY = "probability"
TEXTS_A_ROUND = 1024
"""Texts read ahead at least, so that batches hold texts of like length whatever the batch size."""


@dataclass(frozen=True)
class Analysis:
    """What the model saw in a text, before any threshold: from it links are chosen, again and again, without the model.

    Attributes:
        text: the caller's string.
        offsets: characters ``[start, end)`` of its word pieces. *Shape:* (n, 2).
        spans: scored spans in positions of those pieces.
        given: the caller's own mentions, one for each of ``spans``, characters ``[start, end)``; None where mentions
            were proposed by the model.
    """

    text: str
    offsets: np.ndarray
    spans: ScoredSpans
    given: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class _Cut:
    """Texts, their word pieces, and the windows of each that the model reads."""

    texts: Sequence[str]
    pieces: Sequence[Encoding]
    windows: list[list[Window]]

    def inputs(self, pieces: Tokenizer) -> list[list[int]]:
        """Model inputs of all windows, text by text."""
        return [
            [pieces.cls_id, *of_text.ids[window.start : window.end].tolist(), pieces.sep_id]
            for of_text, windows in zip(self.pieces, self.windows, strict=True)
            for window in windows
        ]

    def strings(self, text: int, window: Window, spans: ScoredSpans) -> list[str]:
        """What spans, in positions of a window's input, cover of the text."""
        offsets = self.pieces[text].offsets
        starts = offsets[spans.start - 1 + window.start, 0].tolist()
        ends = offsets[spans.end - 1 + window.start, 1].tolist()
        return [self.texts[text][s:e] for s, e in zip(starts, ends, strict=True)]


class Linker:
    """Finds the mentions of entities in texts and links them to a knowledge base.

    Args:
        model: a bi-encoder with a context encoder.
        kb: the knowledge base.
        threshold: score above which a link is kept; by default the model's own for the mode.
        mode: how links are chosen, see `blink.linking.scoring.MODES`; by default ``probability`` where candidates are ranked,
            else ``joint``.
        mention_threshold: raw mention score that some modes need.
        mentions: most mentions considered per window of text.
        entities: candidates per mention. Scores depend on it: they are normalised over the candidates.
        rank: order candidates by the model's ranker, if it has one; without it scores are the bi-encoder's own.
        without: groups of evidence that the ranker does without, see `blink.model.config.FEATURE_GROUPS`.
        prior: what a knowledge graph knows of the entities, weighed for this model's scores (`blink kglm weigh`); a file, or
            None (or ``none``) to leave scores as they are.
        context_length: window in word pieces, ``[CLS]`` and ``[SEP]`` included; by default the model's own.
        precision: ``auto``, ``fp32`` or ``bf16``.
        device: where the model runs; by default a GPU where there is one.

    Raises:
        MismatchError: model and knowledge base do not belong together.
        SettingsError: an option is out of range.

    Example:
        >>> linker = Linker.from_pretrained("models/starter", "models/starter-kb")  # doctest: +SKIP
        >>> linker("Who is the president of Georgia?").links[0].title  # doctest: +SKIP
        'Georgia (country)'
    """

    prior: GraphPrior | None = None
    """What is added to scores."""
    prior_file: Path | None = None
    """Where it was read from."""

    def __init__(
        self,
        model: BiEncoder,
        kb: KnowledgeBase,
        *,
        threshold: float | None = None,
        mode: str | None = None,
        mention_threshold: float | None = None,
        mentions: int = 50,
        entities: int = 10,
        rank: bool = True,
        without: Sequence[str] = (),
        prior: str | Path | Prior | None = None,
        context_length: int | None = None,
        precision: str = "auto",
        device: str | None = None,
    ) -> None:
        kb.require_model(model.config.candidate_fingerprint)
        for name, value in (("mentions", mentions), ("entities", entities)):
            if value < 1:
                raise SettingsError(f"{name} is {value}; it must be at least 1")
        config = model.config
        self.kb = kb
        self.refiner: Refiner | None = _ranker(model, kb, without) if rank else None
        self.mode = mode or (PROBABILITY if self.refiner else "joint")
        mode_named(self.mode)
        if self.mode == PROBABILITY and self.refiner is None:
            raise SettingsError("thresholding probability needs a ranker, and a knowledge base with names; fit one: blink rank")
        self.prior = _prior(model, kb, self.refiner, prior)
        if isinstance(prior, str | Path) and prior != NO_PRIOR:
            self.prior_file = Path(prior)
        own = config.cutoff if self.mode == PROBABILITY else config.threshold
        if self.prior is not None and self.mode == (PROBABILITY if self.refiner else "joint"):
            own = self.prior.weights.cutoff
        self.cut = Thresholds(own if threshold is None else threshold, mention_threshold)
        if math.isnan(self.cut.score):
            raise SettingsError("the threshold is not a number; give one such as 0.5, or -inf to keep everything")
        self.options = ReaderOptions(mentions, entities, whole_words=config.whole_words)
        self.reader = Reader(model, kb.index, precision=precision, device=device)
        self._pieces = model.tokenizer
        length = config.max_context_length if context_length is None else context_length
        if not 3 <= length <= self.reader.positions:
            raise SettingsError(
                f"context_length is {length}; this model reads 3 to {self.reader.positions} word pieces at once"
            )
        self._room = length - 2
        self._overlap = overlap_of(self._room, config.max_mention_length)

    @classmethod
    def from_pretrained(cls, model: str | Path, kb: str | Path, **options: Any) -> Linker:
        """Open a model, by whatever `load_model` takes, and a knowledge base folder; ``options`` are those of `Linker`.

        Raises:
            MissingFileError: one of them is not there.
            MismatchError: they do not belong together.
        """
        # The knowledge base first: opening it is quick, and says at once when a path is wrong.
        base = KnowledgeBase.open(kb)
        return cls(load_model(model), base, **options)

    @property
    def catalogue(self) -> Catalogue:
        """The entities."""
        return self.kb.catalogue

    @property
    def floor(self) -> float:
        """Log probability that a mention must be above to become a link, whatever its entity, or to speak for another's."""
        mode = mode_named(self.mode)
        # A joint score never exceeds its mention's; of other scores nothing is known beforehand.
        own = self.cut.score if mode.scores is joint_scores and mode.filtered else float("-inf")
        return own if self.prior is None else min(own, self.prior.floor)

    def __call__(self, text: str, spans: Sequence[tuple[int, int]] | None = None) -> LinkedText:
        """Link one text; with ``spans`` (characters ``[start, end)``), link exactly these."""
        return next(self.link([text], spans=None if spans is None else [spans]))

    def link(
        self,
        texts: Iterable[str],
        *,
        batch_size: int = 64,
        spans: Iterable[Sequence[tuple[int, int]]] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[LinkedText]:
        """Link texts; results stream in the caller's order, and do not depend on the batch size.

        Args:
            texts: any iterable; it is read a little ahead.
            batch_size: windows that go through the model at once.
            spans: for each text its mentions, characters ``[start, end)``; they are linked whatever their score, and
                their score is the entity's alone.
            progress: called with the number of texts finished, each time.

        Raises:
            DataError: a text is not well-formed Unicode, or a span lies outside its text.
        """
        for reading in self.read(texts, batch_size=batch_size, spans=spans, floor=self.floor):
            yield self.choose(reading)
            if progress is not None:
                progress(1)

    def read(
        self,
        texts: Iterable[str],
        *,
        batch_size: int = 64,
        spans: Iterable[Sequence[tuple[int, int]]] | None = None,
        floor: float = float("-inf"),
    ) -> Iterator[Analysis]:
        """Run the model over texts and keep everything that `choose` may need.

        Args:
            texts: any iterable.
            batch_size: windows that go through the model at once.
            spans: own mentions, as in `link`.
            floor: mentions whose log probability is not above it are dropped at once.
        """
        if isinstance(texts, str):
            raise SettingsError(
                "one string was given where texts are expected; give a list, or call the linker with the string"
            )
        if batch_size < 1:
            raise SettingsError(f"the batch size is {batch_size}; it must be at least 1")
        given = None if spans is None else iter(spans)
        for chunk in _rounds(texts, max(TEXTS_A_ROUND, batch_size)):
            own = None if given is None else list(islice(given, len(chunk)))
            if own is not None and len(own) != len(chunk):
                raise SettingsError("there are fewer lists of spans than texts; give one list (perhaps empty) for each text")
            pieces = self._pieces.tokenize(chunk)
            if own is None:
                cut = _Cut(chunk, pieces, [cut_windows(len(p.ids), self._room, self._overlap) for p in pieces])
                scored = self._propose(cut, floor, batch_size)
            else:
                scored = self._score_given(chunk, pieces, own, batch_size)
            mine = [None] * len(chunk) if own is None else [tuple((s, e) for s, e in spans_of) for spans_of in own]
            for text, piece, found, given_spans in zip(chunk, pieces, scored, mine, strict=True):
                yield Analysis(text, piece.offsets, self._without_bad_rows(found), given_spans)

    def choose(self, reading: Analysis, cut: Thresholds | None = None) -> LinkedText:
        """Turn a reading into links, at this linker's thresholds or at ``cut``; given mentions are all linked."""
        scores = self._scores(reading)
        links = [self._link(reading, i, bounds, scores[i]) for i, bounds in self.pick(reading, cut)]
        return LinkedText(reading.text, tuple(sorted(links, key=lambda link: (link.start, link.end))))

    def pick(self, reading: Analysis, cut: Thresholds | None = None) -> list[tuple[int, tuple[int, int]]]:
        """Which spans of a reading `choose` links: their places and their characters ``[start, end)``."""
        spans = reading.spans
        if reading.given is not None:
            # Without a row: every candidate stands on a broken line of the catalogue.
            return [(i, bounds) for i, bounds in enumerate(reading.given) if spans.rows[i, 0] >= 0]
        chosen = [d.span for d in decide(spans, self.mode, cut or self.cut)]
        placed = [(i, characters(reading, int(spans.start[i]), int(spans.end[i]))) for i in chosen]
        placed = [(i, (start, end)) for i, (start, end) in placed if start < end]
        return placed if mode_named(self.mode).overlaps else _apart(placed)

    def _scores(self, reading: Analysis) -> np.ndarray:
        if reading.given is None:
            return mode_named(self.mode).scores(reading.spans)
        scores = joint_scores(reading.spans)  # given mentions are certain: what is left is the entity's share
        return np.exp(scores) if self.mode == PROBABILITY else scores

    def _propose(self, cut: _Cut, floor: float, batch_size: int) -> list[ScoredSpans]:
        if isinstance(self.refiner, Reranker):
            floor = max(floor, self.refiner.ranker.min_mention_log_prob)
        options = replace(self.options, floor=max(floor, self.options.floor))
        found = iter(self.reader.read(cut.inputs(self._pieces), options, batch_size, self._refine(cut)))
        results = []
        for of_text in cut.windows:
            # Positions in the input count [CLS]; positions in the text do not.
            parts = [next(found).shift(window.start - 1) for window in of_text]
            results.append(self._settled(merged(parts, of_text)) if parts else ScoredSpans.none(options.entities))
        return results

    def _score_given(
        self, texts: Sequence[str], pieces: Sequence[Encoding], spans: Sequence[Sequence[tuple[int, int]]], batch_size: int
    ) -> list[ScoredSpans]:
        cut = _Cut(texts, pieces, [])
        bounds: list[list[tuple[int, int]]] = []
        for text, piece, own in zip(texts, pieces, spans, strict=True):
            tokens = [_tokens_of(text, piece, start, end) for start, end in own]
            # Every given span gets a window of its own around it: as much context as there is, on both sides.
            cut.windows.append([_around(s, e, len(piece.ids), self._room) for s, e in tokens])
            bounds += [[(s - w.start + 1, min(e, w.end) - w.start)] for (s, e), w in zip(tokens, cut.windows[-1], strict=True)]
        inputs = cut.inputs(self._pieces)
        found = iter(self.reader.read_spans(inputs, bounds, self.options.entities, batch_size, self._refine(cut)))
        none = ScoredSpans.none(self.options.entities)
        scored = [[none, *(next(found).shift(window.start - 1) for window in of_text)] for of_text in cut.windows]
        return [self._settled(ScoredSpans.concatenate(parts)) for parts in scored]

    def _settled(self, spans: ScoredSpans) -> ScoredSpans:
        return spans if self.prior is None else self.prior.settle(spans)

    def _refine(self, cut: _Cut) -> Refine | None:
        refiner, prior = self.refiner, self.prior
        if refiner is None:
            return None if prior is None else lambda place, spans, vectors: prior.rescore(spans, vectors)
        # Once for a text, not for each of its windows: a long one has thousands.
        cased = [any(map(str.isupper, text)) for text in cut.texts]
        places = [(text, window) for text, of_text in enumerate(cut.windows) for window in of_text]

        def refine(place: int, spans: ScoredSpans, vectors: np.ndarray) -> ScoredSpans:
            text, window = places[place]
            ranked = refiner.refine(spans, vectors, TextContext(cut.strings(text, window, spans), cased[text]))
            return ranked if prior is None else prior.rescore(ranked, vectors)

        return refine

    def _without_bad_rows(self, spans: ScoredSpans) -> ScoredSpans:
        if not self.catalogue.skipped or not len(spans):
            return spans
        bad = np.array([[r >= 0 and self.catalogue.is_bad(r) for r in rows] for rows in spans.rows.tolist()])
        logits = np.where(bad, -np.inf, spans.entity_logits)
        order = np.argsort(-logits, axis=1, kind="stable")
        rows = np.where(bad, -1, spans.rows)
        return replace(
            spans,
            rows=np.take_along_axis(rows, order, 1),
            entity_logits=np.take_along_axis(logits, order, 1).astype(np.float32),
        )

    def _link(self, reading: Analysis, span: int, bounds: tuple[int, int], scores: np.ndarray) -> Link:
        start, end = bounds
        entities = (self.catalogue[row] for row in reading.spans.rows[span].tolist() if row >= 0)
        # Rows of -1 stand at the end, so the scores run longer than the entities.
        candidates = tuple(Candidate(e.row, e.kb_id, e.title, float(s)) for e, s in zip(entities, scores, strict=False))
        best = candidates[0]
        return Link(start, end, reading.text[start:end], best.row, best.kb_id, best.title, best.score, candidates)


def _ranker(model: BiEncoder, kb: KnowledgeBase, without: Sequence[str]) -> Reranker | None:
    """The model's ranker over a knowledge base, where both have what it takes."""
    unknown = [group for group in without if group not in FEATURE_GROUPS]
    if unknown:
        raise SettingsError(f"there is no evidence of kind {unknown[0]!r}; allowed are {', '.join(FEATURE_GROUPS)}")
    if model.reranker is None or kb.names is None or kb.vectors is None:
        return None
    off = [feature for group in without for feature in FEATURE_GROUPS[group]]
    return Reranker(CandidateFeaturizer(kb.names, kb.vectors), model.reranker.without(off))


def _prior(model: BiEncoder, kb: KnowledgeBase, refiner: Refiner | None, prior: str | Path | Prior | None) -> GraphPrior | None:
    """The prior joined to the knowledge base, with its weights for the scores that it is added to."""
    if prior is None or prior == NO_PRIOR:
        return None
    opened = prior if isinstance(prior, Prior) else read_prior(prior)
    ranker = refiner.ranker if isinstance(refiner, Reranker) else None
    weights = weights_for(opened, scorer_fingerprint(model, ranker))
    if len(weights.text) and weights.text.shape[1] != model.entity_size:
        found = f"mentions of {weights.text.shape[1]} numbers, the model makes vectors of {model.entity_size}"
        raise MismatchError(f"the prior is weighed for {found}; weigh it for this model: blink kglm weigh")
    return GraphPrior(opened.table, weights, EntityAlignment(opened.table, kb.catalogue))


def characters(reading: Analysis, first: int, last: int) -> tuple[int, int]:
    """Characters ``[start, end)`` of the word pieces ``first`` to ``last``, inclusive.

    Marks that combine with the last character (accents, variation selectors) belong to it; tokenisers drop them. Blanks at
    either end, which byte-level pieces hold, do not belong; of nothing but blanks an empty span is left.
    """
    start, end = int(reading.offsets[first, 0]), int(reading.offsets[last, 1])
    while start < end and reading.text[start].isspace():
        start += 1
    while start < end and reading.text[end - 1].isspace():
        end -= 1
    while end < len(reading.text) and unicodedata.category(reading.text[end]) in ("Mn", "Me"):
        end += 1
    return start, end


def _apart(placed: Sequence[tuple[int, tuple[int, int]]]) -> list[tuple[int, tuple[int, int]]]:
    """Leave out what shares a character with an earlier one: one character (a Hangul syllable) may be several pieces."""
    taken: set[int] = set()
    kept = []
    for span, (start, end) in placed:
        if taken.isdisjoint(range(start, end)):
            kept.append((span, (start, end)))
            taken.update(range(start, end))
    return kept


def _rounds(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Cut an iterable into lists; should it fail, what it gave before is handed on first."""
    source = iter(texts)
    while True:
        chunk: list[str] = []
        failure: Exception | None = None
        try:
            chunk.extend(islice(source, size))
        except Exception as error:
            failure = error
        if chunk:
            yield chunk
        if failure is not None:
            raise failure
        if not chunk:
            return


def merged(parts: list[ScoredSpans], windows: Sequence[Window]) -> ScoredSpans:
    """The spans of a text from those of its windows (at least one), each span from the window that owns it."""
    if len(parts) == 1:
        return parts[0]
    kept = [p.select(owners(windows, p.start, p.end + 1) == i) for i, p in enumerate(parts)]
    return ScoredSpans.concatenate(kept)


def _tokens_of(text: str, piece: Encoding, start: int, end: int) -> tuple[int, int]:
    """Encoding ``[first, past)`` that a span of characters touches."""
    if not 0 <= start < end <= len(text):
        raise DataError(
            f"span [{start}, {end}) lies outside the text of {len(text)} characters, or is empty; give character offsets"
        )
    touched = piece.tokens_of(start, end)
    if touched is None:
        raise DataError(
            f"span [{start}, {end}) ({text[start:end]!r}) holds nothing to read; give a span with letters or digits"
        )
    return touched


def _around(start: int, end: int, n_tokens: int, room: int) -> Window:
    end = min(end, start + room)
    first = max(0, min(start - (room - (end - start)) // 2, n_tokens - room))
    return Window(first, min(first + room, n_tokens))
