"""Articles of ELEVANT, which evaluates entity linkers: benchmarks with labels, and the links of a linker.

A file has a JSON object a line, an article: ``id``, ``title``, ``text``, ``evaluation_span``, ``labels`` (gold) and
``entity_mentions`` (links); see the page "Our JSONL Format" of ELEVANT's documentation. Spans count characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from blink.data.exchange import NOTHING, Skipped, entity_name, mention_named
from blink.data.ids import id_or_row
from blink.data.records import Candidate, Link, LinkedText, Mention, Sample
from blink.errors import MALFORMED, DataError
from blink.files import atomic_open, read_json_lines

ELEVANT = "elevant"
"""The name of the tool."""
LINKER, UNKNOWN, OTHER = "BLINK", "Unknown", "OTHER"
"""The name of the linker in articles; the entity of gold mentions that have none, and the type of those without one."""
_OPTIONAL_TYPES = ("QUANTITY", "DATETIME")


def linked_article(linked: LinkedText, number: int, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The article of a text and its links.

    Args:
        linked: the text and its links. An entity without an id is named by its row, ``row:17``.
        number: id of the article, unless ``about`` has one that is a whole number.
        about: fields of the article that are kept, such as those of a benchmark (``id``, ``title``, ``labels`` ...).
    """
    about = dict(about or {})
    identity = about.pop("id", number)
    is_number = isinstance(identity, int) or (isinstance(identity, str) and identity.isdecimal())
    article = {"id": int(identity) if is_number else number, "title": "" if is_number else str(identity or "")}
    article |= {"text": linked.text, **about}
    article["entity_mentions"] = [
        {
            "span": [link.start, link.end],
            "recognized_by": LINKER,
            "id": id_or_row(link.kb_id, link.row),
            "linked_by": LINKER,
            "candidates": sorted({id_or_row(link.kb_id, link.row), *(id_or_row(c.kb_id, c.row) for c in link.candidates)}),
        }
        for link in linked.links
    ]
    return {"evaluation_span": [0, len(linked.text)], "labels": []} | article


def is_file_of_links(path: str | Path) -> bool:
    """Whether a file holds the lines of `blink link --json` or ``--out``, and no mention file."""
    first = next((row for _, row in read_json_lines(path)), None)
    return isinstance(first, dict) and ("links" in first or "error" in first)


def write_linked_articles(path: str | Path, out: str | Path, skipped: Skipped) -> int:
    """Turn a file of links into articles. Returns their number.

    Args:
        path: lines of `blink link --json`, or of ``--out FILE.jsonl`` with the fields that ``--carry all`` kept.
        out: file to write, for ELEVANT ``evaluation-results/LINKER/EXPERIMENT.BENCHMARK.linked_articles.jsonl``.
        skipped: counts lines that have an error instead of links.

    Raises:
        DataError: a line has no text or no links.
    """
    count = 0
    with atomic_open(out) as f:
        for number, row in read_json_lines(path):
            if isinstance(row, dict) and "error" in row:
                skipped.add("lines have an error", f"line {number}")
                continue
            f.write(json.dumps(_article_of_line(row, count, f"{path}, line {number}"), ensure_ascii=False) + "\n")
            count += 1
    return count


def _article_of_line(row: Any, number: int, where: str) -> dict[str, Any]:
    try:
        links = tuple(_link(row["text"], link) for link in row["links"])
        about = dict(row.get("fields") or {}) | ({"id": row["id"]} if "id" in row else {})
        return linked_article(LinkedText(row["text"], links), number, about)
    except MALFORMED as error:
        raise DataError(f"{where}: {error!r}; give lines of blink link --json, or --out without --no-text") from error


def _link(text: str, link: Mapping[str, Any]) -> Link:
    start, end = int(link["start"]), int(link["end"])
    others = tuple(Candidate(int(c["row"]), c["kb_id"], c["title"], float(c["score"])) for c in link.get("candidates") or ())
    about = (int(link["row"]), link["kb_id"], link["title"], float(link["score"]))
    return Link(start, end, text[start:end], *about, others)


# -- gold --------------------------------------------------------------------------------------------------------


def to_elevant(samples: Iterable[Sample], path: str | Path) -> int:
    """Write a benchmark: articles whose labels are the gold mentions of the samples. Returns their number."""
    count = 0
    with atomic_open(path) as f:
        for count, sample in enumerate(samples, 1):
            article = linked_article(LinkedText(sample.text), count - 1, {"id": sample.id})
            article["labels"] = [_label(number, mention) for number, mention in enumerate(sample.mentions or ())]
            del article["entity_mentions"]
            f.write(json.dumps(article, ensure_ascii=False) + "\n")
    return count


def _label(number: int, mention: Mention) -> dict[str, Any]:
    name = entity_name(mention)
    return {
        "id": number,
        "span": [mention.start, mention.end],
        "entity_id": UNKNOWN if name == NOTHING else name,
        "name": mention.title or "",
        "parent": None,
        "children": [],
        "optional": False,
        "type": OTHER,
    }


def from_elevant(path: str | Path, skipped: Skipped) -> Iterator[Sample]:
    """The texts of articles with their gold: the labels, or where an article has no ``labels`` its links.

    Labels that are optional, quantities and dates become spans that may be mentions. Of nested labels the outermost counts.

    Args:
        path: articles, a JSON object a line.
        skipped: counts nested labels, and spans outside of their text.

    Raises:
        DataError: a line is no article.
    """
    for number, article in read_json_lines(path):
        where = f"line {number}"
        try:
            labels = article["labels"] if "labels" in article else article["entity_mentions"]
            text, gold, optional = article["text"], [], []
            if not isinstance(text, str):
                raise TypeError("'text' is no string")
            for label in labels:
                start, end = (int(offset) for offset in label["span"])
                if not 0 <= start < end <= len(text):
                    skipped.add("spans lie outside their text", where)
                elif label.get("parent") is not None:
                    skipped.add("labels are inside others", where)
                elif label.get("optional") or label.get("type") in _OPTIONAL_TYPES:
                    optional.append((start, end))
                else:
                    gold.append(_gold_mention(start, end, label))
            identity = str(article.get("id", number))
            mentions = tuple(sorted(gold, key=lambda mention: (mention.start, mention.end)))
            yield Sample(identity, text, mentions, unlabelled=tuple(sorted(optional)))
        except MALFORMED as error:
            raise DataError(f"{path}, {where}: {error!r}; give articles of ELEVANT, a JSON object a line") from error


def _gold_mention(start: int, end: int, label: Mapping[str, Any]) -> Mention:
    # The key of the entity is "entity_id" in labels, where "id" is a number, and "id" in links.
    name = str(label.get("entity_id" if "entity_id" in label else "id") or UNKNOWN)
    return mention_named(start, end, NOTHING if name.startswith(UNKNOWN) else name)
