"""A linker without a model and a console without a user, for the tests of the shell."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from blink.apps.shell.session import Session
from blink.data.records import Candidate, Entity, Link
from blink.explaining.render import Fragments
from blink.linking.analysis import Analysis
from blink.linking.decoder import Decoder, Thresholds
from blink.linking.features import FEATURES
from blink.linking.linker import Linker
from blink.linking.links import LinkBuilder
from blink.linking.scoring import ScoredSpans
from blink.linking.sections import Section
from blink.linking.stages import LinkerOptions
from blink.model.reranker import RerankerNetwork

ENTITIES = [
    Entity(0, "Paris", "Capital of France on the Seine.", "Q90", "https://x.org/Paris", ("City of Light",)),
    Entity(1, "Paris, Texas", "City in Lamar County.", "Q830149"),
    Entity(2, "Georgia (country)", "Country in the Caucasus.", "Q230", aliases=("Sakartvelo",)),
    Entity(3, "Georgia (U.S. state)", "State in the south of the USA.", "Q1428"),
    Entity(4, "Nameless", "", None),
]
MENTIONS = {  # words -> mention score, rows, inner products
    "Paris": (2.0, (0, 1, 4), (9.0, 7.0, 1.0)),
    "Paris, Texas": (0.5, (1, 0, 4), (8.0, 7.0, 1.0)),
    "Georgia": (1.0, (2, 3, 0), (8.0, 7.5, 2.0)),
    "it": (-4.0, (4, 0, 1), (3.0, 2.9, 2.8)),
}


class ToyCatalogue(list):  # type: ignore[type-arg]
    skipped = 0


class ToyBase:
    """A knowledge base of nothing but a catalogue."""

    names = None

    def __init__(self, catalogue: ToyCatalogue) -> None:
        self.catalogue = catalogue
        self.view = SimpleNamespace(catalogue=catalogue)

    def titles_and_ids(self, rows: list[int]) -> list[tuple[str, str | None]]:
        return [(self.catalogue[row].title, self.catalogue[row].kb_id) for row in rows]


class ToyLinker(Linker):
    """The real linker, but for the stages: it knows the words of `KNOWN`, and counts how often it analyzes texts."""

    def __init__(self, threshold: float = -2.0, mode: str = "joint", mention_threshold: float | None = None) -> None:
        self.kb = ToyBase(ToyCatalogue(ENTITIES))  # type: ignore[assignment]
        self.options = LinkerOptions(entities=3)
        self.stages = SimpleNamespace(reranker=None, graph_prior=None, coherence=None, document=None)  # type: ignore[assignment]
        self.decoder = Decoder(mode, Thresholds(threshold, mention_threshold))
        self._links = LinkBuilder(self.kb)
        self.texts: list[str] = []
        self.before_reading: Callable[[], None] = lambda: None

    def _analyzed(self, texts, spans, request, *, split=True):  # type: ignore[no-untyped-def]
        for text in texts:
            self.before_reading()
            self.texts.append(text)
            offsets = np.array([m.span() for m in re.finditer(r"\w+|[^\w\s]", text)], dtype=np.int64).reshape(-1, 2)
            hits = []
            for words, (mention, rows, logits) in MENTIONS.items():
                for match in re.finditer(rf"\b{re.escape(words)}\b", text):
                    first, last = np.flatnonzero((offsets[:, 0] >= match.start()) & (offsets[:, 1] <= match.end()))[[0, -1]]
                    hits.append((first, last, mention, rows, logits))
            columns = [np.array([f[i] for f in hits]) for i in range(5)]
            scored = ScoredSpans(*columns) if hits else ScoredSpans.none(3)
            yield Section(text, 0, text), Analysis(text, offsets, scored)


class Script:
    """A console that plays lines and keeps its output; exceptions among the lines are raised."""

    def __init__(self, *lines: str | BaseException, width: int = 80, colour: bool = False) -> None:
        self.lines = list(lines)
        self.width, self.colour, self.hyperlinks = width, colour, False
        self.prompts: list[str] = []
        self.output: list[str] = []

    def ask(self, prompt: str, hint: str | None = None) -> str:
        self.prompts.append(prompt)
        if not self.lines:
            raise EOFError
        line = self.lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line

    def show(self, fragments: Fragments) -> None:
        self.output.append(plain(fragments))


def plain(fragments: Fragments) -> str:
    return "".join(text for _, text in fragments)


def play(*lines: str | BaseException, linker: ToyLinker | None = None) -> tuple[Session, list[str]]:
    console = Script(*lines)
    session = Session(linker or ToyLinker(), console)
    session.run()
    return session, console.output


def link(start: int, end: int, score: float, text: str) -> Link:
    return Link(start, end, text[start:end], 0, "Q1", "One", score, (Candidate(0, "Q1", "One", score),))


def weighing(shift: float, **weights: float) -> RerankerNetwork:
    """A reranker whose score is the weighted sum of some features."""
    weight = np.array([[weights.get(name, 0.0) for name in FEATURES]], dtype=np.float32)
    ones = np.ones(len(FEATURES), dtype=np.float32)
    return RerankerNetwork(FEATURES, 0 * ones, ones, ((weight, np.array([shift], dtype=np.float32)),), float("-inf"))
