"""The `Linker`: texts in, links with character offsets out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from blink.data.prior_file import Prior
from blink.data.records import Link, LinkedSection, LinkedText
from blink.errors import SettingsError
from blink.kb.catalogue import Catalogue
from blink.kb.index.selector import RowSelector
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.view import View
from blink.kb.where import Where, WhereLike
from blink.linking.analysis import KEEP, Analysis
from blink.linking.decoder import JOINT, MODES, PROBABILITY, DecodedSpan, Decoder, Thresholds, mode_named
from blink.linking.document import NameMemory
from blink.linking.exports import LinkerExports
from blink.linking.links import Description, LinkBuilder
from blink.linking.merging import merged_sections
from blink.linking.rounds import Request, Round
from blink.linking.sections import Section, rounds_of, sections_of
from blink.linking.spans import SpanLike
from blink.linking.stages import LinkerOptions, Stages
from blink.linking.starter import STARTER, starter_sources
from blink.model.linking_model import LinkingModel, resolve_backend
from blink.progress import Bars, no_bars

if TYPE_CHECKING:
    from blink.model.biencoder import BiEncoder

KEPT_FILTERS = 8
"""Filters whose stages are kept, with the names that they have looked up."""
TEXTS_PER_ROUND = 1024
"""Texts analyzed together at least, so that batches hold texts of like length whatever the batch size."""


class Linker(LinkerExports):
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
        prior: a graph prior tuned for this model's scores, or its file; None (or ``none``) leaves scores as they are. `load`
            and `from_pretrained` take the starter's for the starter (`blink.linking.starter.starter_prior`).
        context_length: window in tokens, ``[CLS]`` and ``[SEP]`` included; by default the model's own.
        window_length: tokens of the windows of a long text, which are of whole sentences; 0 for windows of ``context_length``
            that overlap; by default the model's own.
        document: let short mentions follow the full names of their text, see `blink.linking.document`; it needs a reranker. By
            default as the model says.
        min_mention_log_prob: mentions whose log probability is not above it are never considered.
        precision: ``auto``, ``fp32``, ``bf16`` or ``int8``.
        device: where the model runs; by default a GPU where there is one.
        where: which entities may be linked, such as ``"type=city|town"`` or ``{"type": ["city", "town"], "tag!": "old"}``, see
            `blink.kb.where`; that of a call holds too. Links are those of a knowledge base without the others.
        backend: what runs the encoder of a stored model, see `blink.model.linking_model.resolve_backend`; a bi-encoder in
            memory always runs with PyTorch.
        stages: stages by name that replace those of the model; None disables a stage.

    Raises:
        MismatchError: model and knowledge base do not belong together.
        SettingsError: an option is out of range.

    Examples:
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
        where: WhereLike = None,
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
            where=Where.parse(where),
        )
        self._model = LinkingModel.ready(model, backend, precision, device)
        kb.require_model(self._model.config.candidate_fingerprint)
        kb.encode = kb.encode or self._model.encode_entities
        self._files = kb.view.base
        self._built = Stages.build(self._model, self._files, self.options)
        self._round = self._over(kb.view)
        self._filtered: dict[RowSelector, Round] = {}
        self._links = LinkBuilder(kb)
        kb.selector(self.options.where)  # refused here, not at the first text
        self.stages = self._round.stages
        self.decoder = self._make_decoder()

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = STARTER,
        kb: str | Path | KnowledgeBase | None = None,
        *,
        bars: Bars = no_bars,
        **options: Any,
    ) -> Linker:
        """Open a model and a knowledge base.

        Args:
            model: as of `load_model`, or ``starter``, or the folder of a linker (`save_pretrained`), or ``hf://OWNER/NAME``.
            kb: folder of a knowledge base, or an opened one; None for that of the starter or linker. The starter over its own
                knowledge base has its prior, as in `blink link`, however the two are named.
            bars: for what is done once, such as the export of the encoder.
            **options: those of `Linker`, ``max_ram``: memory that linking may take, in bytes or as a size such as ``4G``, and
                ``verify``: compare all bytes of model and knowledge base with their checksums.

        Raises:
            MissingFileError: one of them is not there.
            MismatchError: they do not belong together, or a file was changed.
            SettingsError: a model is named without a knowledge base, or its index needs more memory.
        """
        max_ram, verify = options.pop("max_ram", None), bool(options.pop("verify", False))
        sources = starter_sources(model, kb, options, bars, verify)
        options = {**sources.options, **{key: value for key, value in options.items() if value is not None}}
        # The knowledge base first: opening it is quick, and fails at once if a path is wrong.
        how = (options.get("backend", "auto"), options.get("precision", "auto"), options.get("device"))
        limit = {} if max_ram is None else {"max_ram": max_ram, "backend": resolve_backend(sources.model, *how)}
        if isinstance(sources.kb, KnowledgeBase) and limit:
            raise SettingsError("max_ram is given with an opened knowledge base; give it to KnowledgeBase.open instead")
        limit |= {"verify": True} if verify else {}
        base = sources.kb if isinstance(sources.kb, KnowledgeBase) else KnowledgeBase.open(sources.kb, **limit)
        # Pickles and copies open the folder again. The name of a packaged encoder stays a name.
        source = sources.model.resolve() if sources.model.is_dir() else sources.model
        return cls._from_source(source, base, options | {"prior": sources.prior}, bars=bars, verify=verify)

    @classmethod
    def _from_source(
        cls, source: BiEncoder | LinkingModel | Path, kb: KnowledgeBase, options: Mapping[str, Any], **opening: Any
    ) -> Linker:
        how = {name: options[name] for name in ("backend", "precision", "device") if name in options} | opening
        opened = cls(LinkingModel.open(source, **how) if isinstance(source, Path) else source, kb, **options)
        opened._source = source
        return opened

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
        return self.min_mention_log_prob_at(None)

    def min_mention_log_prob_at(self, thresholds: Thresholds | None) -> float:
        """The same at other thresholds than this linker's; None for its own."""
        decoder = self.decoder if thresholds is None else Decoder(self.mode, thresholds)
        least, coherence = decoder.min_mention_log_prob, self.stages.coherence
        return least if coherence is None else min(least, coherence.min_mention_log_prob)

    @overload
    def __call__(self, text: str, spans: Iterable[SpanLike] | None = None, where: WhereLike = None) -> LinkedText: ...

    @overload
    def __call__(
        self,
        text: list[str] | tuple[str, ...],
        spans: Iterable[Iterable[SpanLike]] | None = None,
        where: WhereLike = None,
    ) -> list[LinkedText]: ...

    def __call__(
        self, text: str | list[str] | tuple[str, ...], spans: Iterable[Any] | None = None, where: WhereLike = None
    ) -> LinkedText | list[LinkedText]:
        """Link one text, or a list of texts; with ``spans`` (characters ``[start, end)``, a list for each text of a list), link
        exactly these; with ``where`` link entities that fulfil it alone.
        """
        if isinstance(text, str):
            return next(self.link([text], spans=None if spans is None else [spans], where=where))
        return list(self.link(text, spans=spans, where=where))

    def link(
        self,
        texts: Iterable[str],
        *,
        batch_size: int = 64,
        spans: Iterable[Iterable[SpanLike]] | None = None,
        where: WhereLike = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[LinkedText]:
        """Link texts; results stream in the caller's order, and do not depend on the batch size.

        Args:
            texts: any iterable; it is read a little ahead.
            batch_size: windows that go through the model at once.
            spans: for each text its mentions, characters ``[start, end)``, see `blink.linking.spans`; they are linked whatever
                their score, and their score is the entity's alone.
            where: which entities may be linked, as of `Linker`.
            progress: called with the number of texts finished, each time.

        Raises:
            DataError: a text is not well-formed Unicode, or a span is outside its text.
            SettingsError: the filter cannot be read, or no entity has a value of it.
        """
        links: list[Link] = []
        for section in self.stream(texts, batch_size=batch_size, spans=spans, where=where):
            links += section.links
            if section.is_last:
                yield LinkedText(section.text, tuple(links))
                links = []
                if progress is not None:
                    progress(1)

    def stream(
        self,
        texts: Iterable[str],
        *,
        batch_size: int = 64,
        spans: Iterable[Iterable[SpanLike]] | None = None,
        where: WhereLike = None,
        thresholds: Thresholds | None = None,
        round_characters: int | None = None,
    ) -> Iterator[LinkedSection]:
        """Link texts, and yield the links of each section of a long text as soon as they are known: the memory that this takes
        does not depend on the length of the texts, where the model has windows of whole sentences.

        Args:
            texts: any iterable; it is read a little ahead.
            batch_size: windows that go through the model at once.
            spans: the caller's mentions, as in `link`.
            where: which entities may be linked, as in `link`.
            thresholds: of the links; by default those of the linker.
            round_characters: no further section is analyzed with others that have so many characters: with 1 the links of a
                section are yielded before the next one is analyzed.

        Yields:
            the sections of all texts, in order; together they have the links of `link`.
        """
        least = self.min_mention_log_prob_at(thresholds)
        request = Request((), batch_size, least, Where.parse(where), round_characters)
        for section, analysis in self._analyzed(texts, spans, request, split=not MODES[self.mode].once):
            links = self.decode(analysis, thresholds).links
            if not section.is_first:
                links = tuple(replace(x, start=x.start + section.start, end=x.end + section.start) for x in links)
            yield LinkedSection(section.whole, links, section.is_first, section.is_last)

    def analyze(
        self,
        texts: Iterable[str],
        *,
        spans: Iterable[Iterable[SpanLike]] | None = None,
        where: WhereLike = None,
        batch_size: int = 64,
        keep: Collection[str] = (),
        min_mention_log_prob: float = float("-inf"),
    ) -> Iterator[Analysis]:
        """Run all stages before a decision; `decode` then needs no model, at any threshold.

        Args:
            texts: any iterable.
            spans: the caller's mentions, as in `link`.
            where: which entities may be linked, as in `link`.
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
        request = Request(keep, batch_size, min_mention_log_prob, Where.parse(where))
        for section, analysis in self._analyzed(texts, spans, request):
            of_text.append(analysis)
            if section.is_last:
                yield merged_sections(section.whole, of_text)
                of_text = []

    def analyze_sections(self, text: str, *, keep: Collection[str] = ()) -> Iterator[tuple[Section, Analysis]]:
        """The sections of a long text, each with its analysis before the next one is analyzed; ``keep`` as of `analyze`."""
        request = Request(keep, 64, float("-inf"), Where(), round_characters=1)
        return self._analyzed([text], None, request, split=not MODES[self.mode].once)

    def decode(self, analysis: Analysis, thresholds: Thresholds | None = None) -> LinkedText:
        """Turn an analysis into links, at this linker's thresholds or at others; requested mentions are all linked."""
        links = self.links_of(analysis, self.decoder.decode(analysis, thresholds))
        return LinkedText(analysis.text, tuple(link for link in links if link is not None))

    def links_of(self, analysis: Analysis, decoded: Sequence[DecodedSpan]) -> tuple[Link | None, ...]:
        """The links of decoded spans, one for each; None for an entity that was removed since the text was analyzed."""
        return self._links.build(analysis, decoded, self.decoder.scores(analysis)) if decoded else ()

    def described(self, row: int) -> Description:
        """Description, address and types of an entity."""
        return self._links.described(row)

    @property
    def explained_outputs(self) -> tuple[str, ...]:
        """Outputs of stages that analyses keep for explanations."""
        return KEEP if self.stages.reranker is not None else tuple(name for name in KEEP if name != "features")

    def explain(
        self, text: str, thresholds: Thresholds | None = None, *, batch_size: int = 64, where: WhereLike = None
    ) -> tuple[LinkedText, Analysis]:
        """Link a text, and return its analysis too, from one pass of the model; see `blink.explaining.explanation`."""
        (analysis,) = self.analyze([text], batch_size=batch_size, keep=self.explained_outputs, where=where)
        return self.decode(analysis, thresholds), analysis

    # -- stages --------------------------------------------------------------------------------------------------

    def _analyzed(
        self, texts: Iterable[str], spans: Iterable[Iterable[SpanLike]] | None, request: Request, *, split: bool = True
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
        for chunk in rounds_of(sections, max(TEXTS_PER_ROUND, request.batch_size), request.round_characters):
            current = self._follow(request.where)
            for section, source, scored in current.scored(chunk, request):
                if section.is_first:
                    names = None if section.is_last else NameMemory()
                yield section, current.merged(source, scored, section.requested, request, names)

    def _follow(self, where: Where) -> Round:
        """The stages over the knowledge base as it is now, edits of other processes included.

        Args:
            where: which entities may be linked; the linker's own filter holds too.
        """
        self.kb.refresh()
        if self._round.view is not self.kb.view:
            with self.kb.lock:
                view = self.kb.view
                if view.base is not self._files:  # other files, after a compaction
                    self._built, self._files = Stages.build(self._model, view.base, self.options), view.base
                self._round = self._over(view)
                self.stages = self._round.stages
                self._filtered = {}  # those of an earlier state would keep it in memory
        current = self._round
        selector = self.kb.selector(Where.parse(self.options.where) & where, current.view)
        if selector is None:
            return current
        if (filtered := self._filtered.get(selector)) is None:
            filtered = current.filtered(selector)
            self._filtered = dict(list(self._filtered.items())[1 - KEPT_FILTERS :]) | {selector: filtered}
        return filtered

    def _over(self, view: View) -> Round:
        return Round(self._built.following(view).replaced(self._replaced_stages), view, self._model.entity_size)

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


def load(model: str | Path = STARTER, kb: str | Path | KnowledgeBase | None = None, **options: Any) -> Linker:
    """Open a linker: `Linker.from_pretrained`.

    Examples:
        >>> import blink  # doctest: +SKIP
        >>> blink.load()("The Nile flows through Egypt.").entities[0].title  # doctest: +SKIP
        'Nile'
    """
    return Linker.from_pretrained(model, kb, **options)
