"""The linker as a component of spaCy: ``nlp.add_pipe("blink")``.

spaCy finds it by the entry point ``spacy_factories``; nothing of BLINK need be imported. What it sets:

| attribute | holds |
| --- | --- |
| ``doc.ents`` | a span for each link, with ``kb_id_`` |
| ``doc.spans["blink"]`` | the same, and links that overlap entities of other components |
| ``doc._.blink`` | a mapping for each link, as `blink.data.records.Link.to_json`, with ``tokens`` and ``aligned`` |
| ``span._.blink``, ``span._.blink_score`` | that mapping of a span, and its score |
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spacy.language import Language
from spacy.scorer import Scorer
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import minibatch, raise_error

from blink.data.ids import id_or_row
from blink.data.records import Link, LinkedText
from blink.errors import BlinkError, SettingsError
from blink.files import read_json, write_json
from blink.machine import THREAD_VARIABLES

if TYPE_CHECKING:
    from blink.linking.linker import Linker

logger = logging.getLogger(__name__)

SETTINGS_FILE = "settings.json"
ALIGNMENTS = ("expand", "contract", "strict")
NOTHING = ("NIL", "")
"""Ids of entities that name nothing, of spaCy's own linker and of entities without a link."""

_OF_PARENTS: list[Any] = []
"""Linkers of the process that this one was forked from."""


@dataclass(frozen=True)
class ComponentSettings:
    """The settings of the component, which are those of its table in ``config.cfg``.

    Attributes:
        model: folder or name of a model.
        kb: folder of a knowledge base; None for that of the starter.
        threshold: score above which a link is kept; None for the model's own.
        where: which entities may be linked, such as ``type=city|town``.
        given_entities: link ``doc.ents``, which other components set, rather than find mentions. Each gets its best entity, or
            with a ``threshold`` that entity if it scores above it.
        overwrite_ents: let links replace entities of other components that they overlap.
        label: of new entities; those that were there keep theirs.
        alignment: of links that begin or end inside a token: ``expand`` to whole tokens, ``contract`` to those that lie inside,
            or ``strict``: in ``doc._.blink`` alone.
        spans_key: of the links in ``doc.spans``.
        batch_size: windows of text that go through the model at once.
        options: other options of `blink.linking.linker.Linker`, such as ``document``, ``backend`` or ``device``.
    """

    model: str = "starter"
    kb: str | None = None
    threshold: float | None = None
    where: Any = None
    given_entities: bool = False
    overwrite_ents: bool = False
    label: str = "ENTITY"
    alignment: str = "expand"
    spans_key: str = "blink"
    batch_size: int = 64
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.alignment not in ALIGNMENTS:
            raise SettingsError(f"alignment is {self.alignment!r}; allowed are {', '.join(ALIGNMENTS)}")


ErrorHandler = Callable[[str, Any, list[Doc], Exception], None]


class BlinkComponent:
    """Links the texts of documents, see `ComponentSettings`.

    Attributes:
        name: in the pipeline.
        settings: the settings.
        unaligned: links of documents so far that begin or end inside a token.

    Args:
        name: in the pipeline.
        settings: the settings.
    """

    def __init__(self, name: str = "blink", settings: ComponentSettings | None = None) -> None:
        self.name, self.settings = name, settings or ComponentSettings()
        self.unaligned = 0
        self._opened: tuple[int, Linker] | None = None
        self._handler: ErrorHandler = raise_error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its settings; the linker is opened again."""
        return BlinkComponent, (self.name, self.settings)

    @property
    def linker(self) -> Linker:
        """The linker, opened at the first use in each process.

        Raises:
            BlinkError: its model or knowledge base cannot be opened.
        """
        process = os.getpid()
        if self._opened is None or self._opened[0] != process:
            if self._opened is not None:  # of the parent: its threads did not come along, and closing it would wait for them
                _OF_PARENTS.append(self._opened[1])
            if multiprocessing.parent_process() is not None:
                _use_one_thread()
            self._opened = process, self._open()
        return self._opened[1]

    def _open(self) -> Linker:
        from blink.linking.linker import Linker

        of_settings = {"threshold": self.settings.threshold, "where": self.settings.where}
        return Linker.from_pretrained(self.settings.model, self.settings.kb, **of_settings, **self.settings.options)

    def __call__(self, doc: Doc) -> Doc:
        """Link a document."""
        return next(self.pipe([doc]))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Link documents, ``batch_size`` together; links do not depend on it."""
        for docs in minibatch(stream, batch_size):
            try:
                yield from self._linked(docs)
            except BlinkError as error:
                if len(docs) == 1:
                    self._handler(self.name, self, docs, error)
                else:
                    yield from self.pipe(docs, batch_size=1)

    def _linked(self, docs: Sequence[Doc]) -> list[Doc]:
        given = [[(ent.start_char, ent.end_char) for ent in doc.ents] for doc in docs] if self.settings.given_entities else None
        linked = self.linker.link([doc.text for doc in docs], spans=given, batch_size=self.settings.batch_size)
        return [self._annotated(doc, of_doc) for doc, of_doc in zip(docs, linked, strict=True)]

    # -- annotations ---------------------------------------------------------------------------------------------

    def _annotated(self, doc: Doc, linked: LinkedText) -> Doc:
        settings, threshold = self.settings, self.settings.threshold
        links = [x for x in linked.links if not settings.given_entities or threshold is None or x.score > threshold]
        labels = {(ent.start, ent.end): ent.label_ for ent in doc.ents}
        spans, rows = [], []
        for link in links:
            span = doc.char_span(link.start, link.end, alignment_mode=settings.alignment)
            aligned = span is not None and (span.start_char, span.end_char) == (link.start, link.end)
            tokens = None if span is None else [span.start, span.end]
            rows.append(link.to_json() | {"tokens": tokens, "aligned": aligned})
            self._count(link, aligned)
            if span is not None:
                label = labels.get((span.start, span.end), settings.label)
                spans.append(Span(doc, span.start, span.end, label, kb_id=id_or_row(link.kb_id, link.row)))
                spans[-1]._.blink, spans[-1]._.blink_score = rows[-1], link.score
        doc._.blink = rows
        doc.spans[settings.spans_key] = spans
        doc.set_ents(self._entities(doc.ents, spans))
        return doc

    def _count(self, link: Link, aligned: bool) -> None:
        self.unaligned += not aligned
        if not aligned and self.unaligned == 1:
            logger.warning(
                "%r (%d-%d) begins or ends inside a token; alignment is %s (said once; the count is in .unaligned)",
                link.mention, link.start, link.end, self.settings.alignment,
            )  # fmt: skip

    def _entities(self, before: Sequence[Span], spans: Sequence[Span]) -> list[Span]:
        """Entities that do not overlap: those of other components and the linked spans, of which the better score stays."""
        same = {(span.start, span.end) for span in spans}
        others = [ent for ent in before if (ent.start, ent.end) not in same]
        of_others = {token for ent in others for token in range(ent.start, ent.end)}
        used: set[int] = set() if self.settings.overwrite_ents else set(of_others)
        kept: list[Span] = []
        for span in sorted(spans, key=lambda span: (-span._.blink_score, span.start)):
            if used.isdisjoint(range(span.start, span.end)):
                kept.append(span)
                used.update(range(span.start, span.end))
        if self.settings.overwrite_ents:
            others = [ent for ent in others if used.isdisjoint(range(ent.start, ent.end))]
        return sorted((*kept, *others), key=lambda span: span.start)

    # -- what spaCy asks of components ---------------------------------------------------------------------------

    def set_error_handler(self, error_handler: ErrorHandler) -> None:
        """Set what is called with documents that cannot be linked."""
        self._handler = error_handler

    def get_error_handler(self) -> ErrorHandler:
        """What is called with documents that cannot be linked; by default it raises the error."""
        return self._handler

    def initialize(self, get_examples: Callable[[], Iterable[Example]], *, nlp: Language | None = None) -> None:
        """Open the linker now rather than with the first document."""
        _ = self.linker

    def score(self, examples: Iterable[Example], **_: Any) -> dict[str, Any]:
        """Precision, recall and F1 of the ids of entities that have the boundaries of gold ones."""
        return dict(Scorer.score_links(examples, negative_labels=NOTHING))

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the settings into a folder; model and knowledge base stay where they are."""
        Path(path).mkdir(parents=True, exist_ok=True)
        write_json(Path(path) / SETTINGS_FILE, asdict(self.settings))

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> BlinkComponent:
        """Take over the settings of a folder."""
        return self._with(read_json(Path(path) / SETTINGS_FILE))

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The settings as bytes."""
        return json.dumps(asdict(self.settings)).encode()

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> BlinkComponent:
        """Take over settings of bytes."""
        return self._with(json.loads(data))

    def _with(self, values: Mapping[str, Any]) -> BlinkComponent:
        known = {f.name for f in fields(ComponentSettings)}
        settings = ComponentSettings(**{name: value for name, value in values.items() if name in known})
        if settings != self.settings:
            self.settings, self._opened = settings, None
        return self


@Language.factory(
    "blink",
    assigns=["doc.ents", "token.ent_kb_id", "doc._.blink"],
    default_config=asdict(ComponentSettings()),
    default_score_weights={"nel_micro_f": 1.0, "nel_micro_r": None, "nel_micro_p": None},
)
def make_component(
    nlp: Language,
    name: str,
    model: str,
    kb: str | None,
    threshold: float | None,
    where: str | list[str] | dict[str, Any] | None,
    given_entities: bool,
    overwrite_ents: bool,
    label: str,
    alignment: str,
    spans_key: str,
    batch_size: int,
    options: dict[str, Any],
) -> BlinkComponent:
    """The component of ``nlp.add_pipe("blink")``; see `ComponentSettings`."""
    given = (threshold, where, given_entities, overwrite_ents, label, alignment, spans_key, batch_size, dict(options))
    return BlinkComponent(name, ComponentSettings(model, kb, *given))


def _use_one_thread() -> None:
    """Let libraries use one thread in a process of a pool, which spaCy gives every core a process of."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    for library, setter in (("torch", "set_num_threads"), ("faiss", "omp_set_num_threads")):
        if library in sys.modules:  # a pool of threads of the parent did not come along
            getattr(sys.modules[library], setter)(1)


for _class, _name, _default in ((Doc, "blink", []), (Span, "blink", None), (Span, "blink_score", None)):
    if not _class.has_extension(_name):
        _class.set_extension(_name, default=_default)
