"""The `Linker`: texts in, links with character offsets out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from blink.data.prior_file import Prior
from blink.data.records import Candidate, Link, LinkedSection, LinkedText
from blink.errors import SettingsError
from blink.kb.catalogue import Catalogue
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.analysis import KEEP, Analysis, TokenizedText, WindowBatch, WindowInput
from blink.linking.candidates import without_broken_rows
from blink.linking.decoder import JOINT, MODES, PROBABILITY, DecodedSpan, Decoder, Thresholds, mode_named
from blink.linking.document import NameMemory
from blink.linking.merging import MergedWindows, merged_sections, with_added
from blink.linking.ranking import ranked
from blink.linking.scoring import ScoredSpans
from blink.linking.sections import Section, rounds_of, sections_of
from blink.linking.spans import CharacterSpan, SpanLike
from blink.linking.stages import LinkerOptions, Stages
from blink.linking.starter import STARTER, starter_sources
from blink.model.linking_model import LinkingModel, resolve_backend
from blink.progress import Bars, no_bars

if TYPE_CHECKING:
    from blink.model.biencoder import BiEncoder

TEXTS_PER_ROUND = 1024
"""Texts analyzed together at least, so that batches hold texts of like length whatever the batch size."""


_Requested: TypeAlias = tuple[CharacterSpan, ...] | None
"""The caller's spans of a text."""


@dataclass(frozen=True)
class _Request:
    """How texts are analyzed."""

    keep: Collection[str]
    batch_size: int
    min_mention_log_prob: float


class Linker:
    """Finds the mentions of entities in texts and links them to a knowledge base.

    Attributes:
        stages: the stages before decoding, see `Stages`.
        decoder: turns analyses into links.

    Args:
        model: a bi-encoder with a context encoder, or an opened model.
        kb: the knowledge base.
        threshold: score above which a link is kept; by default the model's own for the mode.
        mode: how links are decoded, see `blink.linking.decoder.MODES`; by default ``probability`` with a reranker, else
            ``joint``.
        mention_threshold: raw mention score that some modes need.
        mentions: most mentions considered per window of text.
        entities: candidates per mention. Scores depend on it: they are normalised over the candidates.
        rank: rerank candidates, if the model has a reranker; without it scores are the bi-encoder's own.
        without: groups of features that the reranker ignores, see `blink.model.config.FEATURE_GROUPS`.
        prior: a graph prior tuned for this model's scores, or its file; None (or ``none``) leaves scores as they are.
        context_length: window in tokens, ``[CLS]`` and ``[SEP]`` included; by default the model's own.
        window_length: tokens of the windows of a long text, which are of whole sentences; 0 for windows of ``context_length``
            that overlap; by default the model's own.
        document: let short mentions follow the full names of their text, see `blink.linking.document`; it needs a reranker. By
            default as the model says.
        min_mention_log_prob: mentions whose log probability is not above it are never considered.
        precision: ``auto``, ``fp32``, ``bf16`` or ``int8``.
        device: where the model runs; by default a GPU where there is one.
        backend: what runs the encoder of a stored model, see `blink.model.linking_model.resolve_backend`; a bi-encoder in
            memory always runs with PyTorch.
        stages: stages by name that replace those of the model; None disables a stage.

    Raises:
        MismatchError: model and knowledge base do not belong together.
        SettingsError: an option is out of range.

    Example:
        >>> linker = Linker.from_pretrained("models/starter", "models/starter-kb")  # doctest: +SKIP
        >>> linker("Who is the president of Georgia?").links[0].title  # doctest: +SKIP
        'Georgia (country)'
    """

    def __init__(
        self,
        model: BiEncoder | LinkingModel,
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
        window_length: int | None = None,
        document: bool | None = None,
        min_mention_log_prob: float = float("-inf"),
        precision: str = "auto",
        device: str | None = None,
        backend: str = "auto",
        stages: Mapping[str, Any] | None = None,
    ) -> None:
        self.kb = kb
        self._source: BiEncoder | LinkingModel | Path = model
        self._replaced_stages = dict(stages or {})
        self.options = LinkerOptions(
            threshold=threshold,
            mode=mode,
            mention_threshold=mention_threshold,
            mentions=mentions,
            entities=entities,
            rank=rank,
            without=tuple(without),
            prior=prior,
            context_length=context_length,
            window_length=window_length,
            document=document,
            min_mention_log_prob=min_mention_log_prob,
            precision=precision,
            device=device,
            backend=backend,
        )
        self._model = LinkingModel.ready(model, backend, precision, device)
        self.stages = Stages.build(self._model, kb, self.options).replaced(self._replaced_stages)
        self.decoder = self._make_decoder()

    @classmethod
    def from_pretrained(
        cls, model: str | Path = STARTER, kb: str | Path | None = None, *, bars: Bars = no_bars, **options: Any
    ) -> Linker:
        """Open a model and a knowledge base.

        Args:
            model: whatever `load_model` takes, or ``starter``: the model that comes with BLINK.
            kb: folder of a knowledge base; None for that of the starter, with its prior, as `blink link` uses them.
            bars: for what is done once, such as the export of the encoder.
            **options: those of `Linker`, and ``max_ram``: memory that linking may take, in bytes or as a size such as ``4G``.

        Raises:
            MissingFileError: one of them is not there.
            MismatchError: they do not belong together.
            SettingsError: a model is named without a knowledge base, or its index needs more memory.
        """
        max_ram = options.pop("max_ram", None)
        sources = starter_sources(model, kb, options, bars)
        # The knowledge base first: opening it is quick, and fails at once if a path is wrong.
        how = (options.get("backend", "auto"), options.get("precision", "auto"), options.get("device"))
        limit = {} if max_ram is None else {"max_ram": max_ram, "backend": resolve_backend(sources.model, *how)}
        base = KnowledgeBase.open(sources.kb, **limit)
        # Pickles and copies open the folder again. The name of a packaged encoder stays a name.
        source = sources.model.resolve() if sources.model.is_dir() else sources.model
        return cls._from_source(source, base, options | {"prior": sources.prior}, bars)

    @classmethod
    def _from_source(
        cls, source: BiEncoder | LinkingModel | Path, kb: KnowledgeBase, options: Mapping[str, Any], bars: Bars = no_bars
    ) -> Linker:
        how = {name: options[name] for name in ("backend", "precision", "device") if name in options}
        opened = cls(LinkingModel.open(source, **how, bars=bars) if isinstance(source, Path) else source, kb, **options)
        opened._source = source
        return opened

    def __reduce__(self) -> tuple[Callable[..., Linker], tuple[Any, ...]]:
        """Pickled and copied as model folder, knowledge base folder and options; a model in memory is pickled itself."""
        options = {f.name: getattr(self.options, f.name) for f in fields(LinkerOptions)}
        if self.options.prior_file is not None:
            options["prior"] = self.options.prior_file.resolve()
        return self._from_source, (self._source, self.kb, options | {"stages": self._replaced_stages})

    def __repr__(self) -> str:
        model = self._source if isinstance(self._source, Path) else "a model in memory"
        return f"Linker({str(model)!r}, {self.kb!r}, mode={self.mode!r}, threshold={self.thresholds.score:g})"

    @property
    def catalogue(self) -> Catalogue:
        """The entities."""
        return self.kb.catalogue

    @property
    def model(self) -> BiEncoder | LinkingModel:
        """The bi-encoder, in the precision that it runs in; where PyTorch does not run it, what linking needs of it."""
        return self._model.bi_encoder or self._model

    @property
    def mode(self) -> str:
        """How links are decoded."""
        return self.decoder.mode

    @property
    def thresholds(self) -> Thresholds:
        """Thresholds of the links, unless a call gives others."""
        return self.decoder.thresholds

    @property
    def min_mention_log_prob(self) -> float:
        """Log probability that a mention must exceed to become a link, or to change the scores of others by coherence."""
        least, coherence = self.decoder.min_mention_log_prob, self.stages.coherence
        return least if coherence is None else min(least, coherence.min_mention_log_prob)

    @overload
    def __call__(self, text: str, spans: Iterable[SpanLike] | None = None) -> LinkedText: ...

    @overload
    def __call__(
        self, text: list[str] | tuple[str, ...], spans: Iterable[Iterable[SpanLike]] | None = None
    ) -> list[LinkedText]: ...

    def __call__(
        self, text: str | list[str] | tuple[str, ...], spans: Iterable[Any] | None = None
    ) -> LinkedText | list[LinkedText]:
        """Link one text, or a list of texts; with ``spans`` (characters ``[start, end)``, a list for each text of a list), link
        exactly these.
        """
        if isinstance(text, str):
            return next(self.link([text], spans=None if spans is None else [spans]))
        return list(self.link(text, spans=spans))

    def link(
        self,
        texts: Iterable[str],
        *,
        batch_size: int = 64,
        spans: Iterable[Iterable[SpanLike]] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[LinkedText]:
        """Link texts; results stream in the caller's order, and do not depend on the batch size.

        Args:
            texts: any iterable; it is read a little ahead.
            batch_size: windows that go through the model at once.
            spans: for each text its mentions, characters ``[start, end)``, see `blink.linking.spans`; they are linked whatever
                their score, and their score is the entity's alone.
            progress: called with the number of texts finished, each time.

        Raises:
            DataError: a text is not well-formed Unicode, or a span is outside its text.
        """
        links: list[Link] = []
        for section in self.stream(texts, batch_size=batch_size, spans=spans):
            links += section.links
            if section.is_last:
                yield LinkedText(section.text, tuple(links))
                links = []
                if progress is not None:
                    progress(1)

    def stream(
        self, texts: Iterable[str], *, batch_size: int = 64, spans: Iterable[Iterable[SpanLike]] | None = None
    ) -> Iterator[LinkedSection]:
        """Link texts, and yield the links of each section of a long text as soon as they are known: the memory that this takes
        does not depend on the length of the texts, where the model has windows of whole sentences.

        Args:
            texts: any iterable; it is read a little ahead.
            batch_size: windows that go through the model at once.
            spans: the caller's mentions, as in `link`.

        Yields:
            the sections of all texts, in order; together they have the links of `link`.
        """
        request = _Request((), batch_size, self.min_mention_log_prob)
        for section, analysis in self._analyzed(texts, spans, request, split=not MODES[self.mode].once):
            links = self.decode(analysis).links
            if not section.is_first:
                links = tuple(replace(x, start=x.start + section.start, end=x.end + section.start) for x in links)
            yield LinkedSection(section.whole, links, section.is_first, section.is_last)

    def analyze(
        self,
        texts: Iterable[str],
        *,
        spans: Iterable[Iterable[SpanLike]] | None = None,
        batch_size: int = 64,
        keep: Collection[str] = (),
        min_mention_log_prob: float = float("-inf"),
    ) -> Iterator[Analysis]:
        """Run all stages before a decision; `decode` then needs no model, at any threshold.

        Args:
            texts: any iterable.
            spans: the caller's mentions, as in `link`.
            batch_size: windows that go through the model at once.
            keep: outputs of stages that the analyses retain, of `blink.linking.analysis.KEEP`.
            min_mention_log_prob: mentions whose log probability is not above it are dropped at once.

        Raises:
            DataError: a text is not well-formed Unicode, or a span is outside its text.
            SettingsError: an argument is out of range, or the knowledge base has no names for the features to keep.
        """
        unknown = sorted(set(keep) - set(KEEP))
        if unknown:
            raise SettingsError(f"analyses cannot keep {unknown[0]!r}; allowed are {', '.join(KEEP)}")
        of_text: list[Analysis] = []
        for section, analysis in self._analyzed(texts, spans, _Request(keep, batch_size, min_mention_log_prob)):
            of_text.append(analysis)
            if section.is_last:
                yield merged_sections(section.whole, of_text)
                of_text = []

    def decode(self, analysis: Analysis, thresholds: Thresholds | None = None) -> LinkedText:
        """Turn an analysis into links, at this linker's thresholds or at others; requested mentions are all linked."""
        decoded = self.decoder.decode(analysis, thresholds)
        if not decoded:
            return LinkedText(analysis.text, ())
        scores, rows = self.decoder.scores(analysis), analysis.spans.rows
        # Rows of -1 are at the end.
        of_links = [[row for row in rows[d.span].tolist() if row >= 0] for d in decoded]
        distinct = list(dict.fromkeys(row for of_link in of_links for row in of_link))
        names = dict(zip(distinct, self.kb.titles_and_ids(distinct), strict=True))
        links = [_link(analysis, d, of, scores[d.span].tolist(), names) for d, of in zip(decoded, of_links, strict=True)]
        return LinkedText(analysis.text, tuple(links))

    def explain(self, text: str, thresholds: Thresholds | None = None, *, batch_size: int = 64) -> tuple[LinkedText, Analysis]:
        """Link a text, and return its analysis too, from one pass of the model."""
        keep = KEEP if self.stages.reranker is not None else tuple(name for name in KEEP if name != "features")
        (analysis,) = self.analyze([text], batch_size=batch_size, keep=keep)
        return self.decode(analysis, thresholds), analysis

    # -- stages --------------------------------------------------------------------------------------------------

    def _analyzed(
        self, texts: Iterable[str], spans: Iterable[Iterable[SpanLike]] | None, request: _Request, *, split: bool = True
    ) -> Iterator[tuple[Section, Analysis]]:
        """The sections of texts with their analyses. ``split``: a long text has several."""
        if isinstance(texts, str):
            raise SettingsError(
                "one string was given where texts are expected; give a list, or call the linker with the string"
            )
        if request.batch_size < 1:
            raise SettingsError(f"the batch size is {request.batch_size}; it must be at least 1")
        sections = sections_of(texts, spans, split=split and self.stages.windows.target is not None)
        names = None
        for chunk in rounds_of(sections, max(TEXTS_PER_ROUND, request.batch_size)):
            for section, source, scored in self._scored_round(chunk, request):
                if section.is_first:
                    names = None if section.is_last else NameMemory()
                yield section, self._merged(source, scored, section.requested, request, names)

    def _scored_round(
        self, sections: Sequence[Section], request: _Request
    ) -> Iterator[tuple[Section, TokenizedText, list[WindowBatch]]]:
        stages, texts = self.stages, [section.text for section in sections]
        sources = [TokenizedText(*pair) for pair in zip(texts, stages.tokenizer.tokenize(texts), strict=True)]
        spans = [section.requested for section in sections if section.requested is not None]
        # Either all texts have requested spans, or none.
        windows = stages.windows.requested(sources, spans) if spans else stages.windows.inputs(sources)
        detected = self._detected([window for of_text in windows for window in of_text], request)
        batches = ranked(detected, stages, request.keep)
        for section, source, of_text in zip(sections, sources, windows, strict=True):
            yield section, source, list(islice(batches, len(of_text)))

    def _detected(self, inputs: Sequence[WindowInput], request: _Request) -> list[WindowBatch]:
        """Mention detector and dense candidates, for all windows of a round."""
        detector, reranker, ids = self.stages.detector, self.stages.reranker, [window.ids for window in inputs]
        topics = "features" in request.keep or (reranker is not None and reranker.reads_topics)
        options = replace(detector.options, topics=topics)
        if inputs and inputs[0].requested is not None:
            spans = [[window.requested] for window in inputs if window.requested is not None]
            mentions = detector.embed(ids, spans, request.batch_size, options)
        else:
            least = max(request.min_mention_log_prob, detector.options.min_mention_log_prob)
            least = least if reranker is None else max(least, reranker.network.min_mention_log_prob)
            options = replace(options, min_mention_log_prob=least)
            splitter = self.stages.splitter
            split = None if splitter is None else lambda i, spans, scores: splitter.split(inputs[i], spans, scores)
            mentions = detector.detect(ids, request.batch_size, options, split)
        retrieved = self.stages.candidates.retrieve(mentions)
        return [WindowBatch(*stage_outputs) for stage_outputs in zip(inputs, mentions, retrieved, strict=True)]

    def _merged(
        self,
        source: TokenizedText,
        batches: Sequence[WindowBatch],
        requested: _Requested,
        request: _Request,
        names: NameMemory | None,
    ) -> Analysis:
        """Merge the windows of a text, and apply coherence and the document stage."""
        stages, windows = self.stages, MergedWindows(batches, self.stages.candidates.size)
        spans = windows.spans(batch.spans for batch in batches)
        if stages.coherence is not None:
            spans = stages.coherence.rescore(spans)
        proposed = len(spans)
        if stages.document is not None and requested is None:
            spans = stages.document.rescore(spans, source, names)
        outputs: dict[str, Callable[[], Any]] = {
            "mention_vectors": lambda: windows.mention_vectors(self._model.entity_size),
            "features": windows.features,
            "scores_before_prior": lambda: self._linkable(windows.spans(batch.before_prior for batch in batches)),
        }
        extras = {name: outputs[name]() for name in request.keep}
        if len(spans) > proposed:
            extras = with_added(extras, spans.select(np.arange(proposed, len(spans))))
        return Analysis(source.text, source.encoding.offsets, self._linkable(spans), requested, **extras)

    def _linkable(self, spans: ScoredSpans) -> ScoredSpans:
        return without_broken_rows(spans, self.catalogue)

    # -- links ---------------------------------------------------------------------------------------------------

    def _make_decoder(self) -> Decoder:
        model, options, reranker, prior = self._model, self.options, self.stages.reranker, self.stages.graph_prior
        default_mode = JOINT if reranker is None else PROBABILITY
        mode = options.mode or default_mode
        mode_named(mode)
        if mode == PROBABILITY and reranker is None:
            raise SettingsError("mode probability needs a reranker and a knowledge base with names; fit one: blink rank")
        threshold = model.config.cutoff if mode == PROBABILITY else model.config.threshold
        if prior is not None and mode == default_mode:
            threshold = prior.weights.cutoff
        if options.threshold is not None:
            threshold = options.threshold
        return Decoder(mode, Thresholds(threshold, options.mention_threshold))


def _link(
    analysis: Analysis,
    span: DecodedSpan,
    rows: Sequence[int],
    scores: Sequence[float],
    names: Mapping[int, tuple[str, str | None]],
) -> Link:
    candidates = tuple(Candidate(row, names[row][1], names[row][0], score) for row, score in zip(rows, scores, strict=False))
    best, mention = candidates[0], analysis.text[span.start : span.end]
    return Link(span.start, span.end, mention, best.row, best.kb_id, best.title, best.score, candidates)


def load(model: str | Path = STARTER, kb: str | Path | None = None, **options: Any) -> Linker:
    """Open a linker: `Linker.from_pretrained`.

    Example:
        >>> import blink  # doctest: +SKIP
        >>> blink.load()("The Nile flows through Egypt.").entities[0].title  # doctest: +SKIP
        'Nile'
    """
    return Linker.from_pretrained(model, kb, **options)
