"""Writes training files of prose: sentences with capital letters, and the stretches that may hold names without a label.

    scripts/prose_files.py DATA OUT

DATA holds gum/{train,dev}.jsonl and extra/{wned-wiki,fewrel-val,lcquad1-annotated}.jsonl. OUT gets a mention file for each, and
gum-dev.jsonl and gum-other-genres.jsonl with unchanged gold: the latter are the genres of `DEV_GENRES`, of which no text is
trained on. The gold of the others is partial in different ways, see `SOURCES`: hyperlinks are not all
names, two entities of a sentence are not all of its entities. A capitalised word outside the gold is then no evidence against a
mention, lower-case words are. Paragraphs are cut at sentence ends.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.apps.common import say
from blink.files import atomic_open

MOST_CHARACTERS = 420
"""Longest text; longer paragraphs are cut at sentence ends."""
SENTENCE_END = re.compile(r"(?<=[.!?])[\"”')\]]*\s+(?=[\"“'(\[]?[A-Z0-9])")
NAME = re.compile(r"\b[^\W\d_a-z][\w'’.-]*\w(?:\s+(?:(?:of|the|de|van|von|and|for)\s+)?[^\W\d_a-z][\w'’.-]*\w)*")
CAPITAL = re.compile(r"(?<!\w)[^\W\d_a-z]")
DEMONYM = re.compile(r"^[A-Z]\w+(?:ese|ish|ian|ean|can|ic|an|i|ch)$")

DEV_GENRES = ("gum_textbook", "gum_court")
"""Beginnings of the ids of texts that are never trained on."""


@dataclass(frozen=True)
class Source:
    """How the gold of a file is read.

    Attributes:
        name: of the written file, without its suffix.
        file: below the folder of the data.
        names_only: gold that does not begin with a capital letter is no name: it counts neither as a mention nor against one.
        complete: capitalised words outside the gold are no names.
        every: of so many texts one is used.
    """

    name: str
    file: str
    names_only: bool = True
    complete: bool = False
    every: int = 1


SOURCES = (
    Source("gum", "gum/train.jsonl"),
    # Names that GUM does not link have no article: mentions of nothing that a reranker may link, though they are names.
    Source("gum-links", "gum/train.jsonl", complete=True),
    Source("wned-wiki", "extra/wned-wiki.jsonl"),
    Source("fewrel", "extra/fewrel-val.jsonl", every=3),
    Source("lcquad", "extra/lcquad1-annotated.jsonl", names_only=False, complete=True),
)


def main(data: Path, out: Path) -> None:
    """Write the files, and say what they hold."""
    out.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        rows = [row for row in _rows(data / source.file) if not _is_dev(row)]
        common = _common_words(row["text_cased"] for row in rows)
        texts = [text for row in rows[:: source.every] for text in _texts(row, source, common)]
        with atomic_open(out / f"{source.name}.jsonl") as f:
            f.writelines(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
        mentions, unlabelled = (sum(len(t[key]) for t in texts) for key in ("mentions", "unlabelled"))
        say(f"{source.name}: {len(texts)} texts, {mentions} mentions, {unlabelled} stretches without labels")
    _write_cased(out / "gum-dev.jsonl", _rows(data / "gum/dev.jsonl"))
    _write_cased(out / "gum-other-genres.jsonl", [row for row in _rows(data / "gum/train.jsonl") if _is_dev(row)])


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _is_dev(row: dict[str, Any]) -> bool:
    return row["id"].startswith(DEV_GENRES)


def _write_cased(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with atomic_open(path) as f:
        f.writelines(json.dumps({**row, "text": row["text_cased"]}, ensure_ascii=False) + "\n" for row in rows)


def _common_words(texts: Iterable[str]) -> set[str]:
    """Words that occur in lower case at least a third as often as with a capital letter: no names at a sentence start."""
    counts = Counter(word for text in texts for word in re.findall(r"\w+", text))
    return {w.lower() for w, n in counts.items() if w.istitle() and 3 * counts[w.lower()] >= n}


def _texts(row: dict[str, Any], source: Source, common: set[str]) -> Iterator[dict[str, Any]]:
    text = row["text_cased"]
    gold = sorted(zip(map(tuple, row["mentions"]), row["wikidata_id"], row["entity"], row["label_id"], strict=True))
    labels, ignored = [], []
    for (start, end), kb_id, title, label in gold:
        mention = text[start:end]
        is_name = mention.isupper() or CAPITAL.search(mention[:4]) is not None
        if (source.names_only and not is_name) or _is_demonym(mention, title):
            ignored.append((start, end))
        else:
            labels.append((start, end, kb_id, title, label))
    if not source.complete:
        ignored += _names(text, [(s, e) for s, e, *_ in labels], common)
    for number, (first, past) in enumerate(_pieces(text, [(s, e) for s, e, *_ in labels])):
        inside = [x for x in labels if first <= x[0] and x[1] <= past]
        yield {
            "id": f"{row['id']}/{number}",
            "text": text[first:past],
            "mentions": [[s - first, e - first] for s, e, *_ in inside],
            "wikidata_id": [x[2] for x in inside],
            "entity": [x[3] for x in inside],
            "label_id": [x[4] for x in inside],
            "unlabelled": [[max(s, first) - first, min(e, past) - first] for s, e in ignored if s < past and e > first],
        }


def _is_demonym(mention: str, title: str) -> bool:
    """Whether the mention is an adjective that is linked to its country or people."""
    return bool(DEMONYM.match(mention)) and mention.casefold() not in title.casefold()


def _names(text: str, gold: list[tuple[int, int]], common: set[str]) -> list[tuple[int, int]]:
    """Capitalised sequences outside the gold, without single common words."""
    spans = []
    for match in NAME.finditer(text):
        start, end = match.span()
        words = match[0].split()
        while words and words[0].lower() in common:
            start += len(words[0])
            start += len(text[start:end]) - len(text[start:end].lstrip())
            words = words[1:]
        if words and not any(s < end and start < e for s, e in gold):
            spans.append((start, end))
    return spans


def _pieces(text: str, gold: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Stretches of whole sentences of at most `MOST_CHARACTERS`, none of which cuts a mention."""
    ends = [m.end() for m in SENTENCE_END.finditer(text) if not any(s < m.end() < e for s, e in gold)]
    first, last = 0, 0
    for end in [*ends, len(text)]:
        if end - first > MOST_CHARACTERS and last > first:
            yield first, last
            first = last
        last = end
    if text[first:].strip():
        yield first, len(text)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
