"""Labelled texts in the files of tools: Label Studio and doccano, which annotate, and ELEVANT, which evaluates.

Label Studio (tasks and exports, JSON): a region of type ``labels`` marks a mention, and a ``textarea`` region with the same id
holds the id of its entity; `LABEL_STUDIO_CONFIG` is the labelling interface for such tasks. doccano (JSON Lines, sequence
labelling): the label of a span is the id of its entity. `NOTHING` stands for a mention that names nothing in the knowledge
base.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.data.elevant import ELEVANT, from_elevant, to_elevant
from blink.data.exchange import NOTHING as NOTHING
from blink.data.exchange import Skipped as Skipped
from blink.data.exchange import entity_name, mention_named
from blink.data.offsets import ENCODINGS
from blink.data.records import Mention, Sample
from blink.errors import MALFORMED, DataError
from blink.files import atomic_open, read_json, read_json_lines

_REGION, _MENTION, _ENTITY, _TEXT = "labels", "Mention", "entity", "text"
LABEL_STUDIO_CONFIG = f"""<View>
  <Labels name="mention" toName="{_TEXT}"><Label value="{_MENTION}"/></Labels>
  <Text name="{_TEXT}" value="${_TEXT}" granularity="word"/>
  <TextArea name="{_ENTITY}" toName="{_TEXT}" perRegion="true" maxSubmissions="1" editable="true"
            placeholder="id of the entity, or {NOTHING}"/>
</View>
"""
"""Labelling interface of a project in Label Studio."""


# -- Label Studio ------------------------------------------------------------------------------------------------


def to_label_studio(samples: Iterable[Sample], path: str | Path) -> int:
    """Write tasks for Label Studio, with the mentions of labelled texts as annotations. Returns their number."""
    tasks = []
    for sample in samples:
        task: dict[str, Any] = {"data": {_TEXT: sample.text, "id": sample.id}}
        if sample.mentions is not None:
            regions = [r for i, m in enumerate(sample.mentions) for r in _regions(sample.text, m, f"m{i}")]
            task["annotations"] = [{"result": regions}]
        tasks.append(task)
    with atomic_open(path) as f:
        json.dump(tasks, f, ensure_ascii=False, indent=1)
    return len(tasks)


def _regions(text: str, mention: Mention, region: str) -> Iterator[dict[str, Any]]:
    span = {"start": mention.start, "end": mention.end, "text": text[mention.start : mention.end]}
    shared = {"id": region, "to_name": _TEXT}
    yield shared | {"from_name": "mention", "type": _REGION, "value": span | {_REGION: [_MENTION]}}
    yield shared | {"from_name": _ENTITY, "type": "textarea", "value": span | {_TEXT: [entity_name(mention)]}}


def from_label_studio(path: str | Path, skipped: Skipped) -> Iterator[Sample]:
    """The texts of an export of Label Studio (JSON), by the last annotation of each that was not cancelled.

    Versions before 1.7 counted offsets in code units of UTF-16; the text that is stored with a region tells.

    Args:
        path: the export.
        skipped: counts what is left out: regions without an entity, or that do not fit their text.

    Raises:
        DataError: it is no export of Label Studio.
    """
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise DataError(f"{path} holds {type(tasks).__name__}; an export of Label Studio as JSON is an array of tasks")
    for number, task in enumerate(tasks):
        where = f"task {number + 1}"
        try:
            text = task["data"][_TEXT]
            done = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
            regions = done[-1]["result"] if done else None
            mentions = None if regions is None else tuple(_mentions_of(text, regions, skipped, where))
            yield Sample(str(task["data"].get("id", task.get("id", number))), str(text), mentions)
        except MALFORMED as error:
            raise DataError(f"{path}, {where}: {error!r}; export the project from Label Studio as JSON") from error


def _mentions_of(text: str, regions: list[Mapping[str, Any]], skipped: Skipped, where: str) -> Iterator[Mention]:
    names = {r["id"]: str(r["value"][_TEXT][0]).strip() for r in regions if r.get("type") == "textarea" and r["value"][_TEXT]}
    for region in regions:
        if region.get("type") != _REGION:
            continue
        value, name = region["value"], names.get(region["id"])
        bounds = _bounds(text, int(value["start"]), int(value["end"]), value.get(_TEXT))
        if bounds is None:
            skipped.add("regions do not fit their text", where)
        elif not name:
            skipped.add("regions have no entity", where)
        else:
            yield mention_named(*bounds, name)


def _bounds(text: str, start: int, end: int, surface: str | None) -> tuple[int, int] | None:
    """Character offsets of a region; its stored text decides whether they are characters or code units of UTF-16."""
    if 0 <= start < end <= len(text) and (surface is None or text[start:end] == surface):
        return start, end
    codec, width = ENCODINGS["code units of UTF-16"]
    encoded = text.encode(codec, "surrogatepass")
    try:
        before, inside = (encoded[a * width : b * width].decode(codec) for a, b in ((0, start), (start, end)))
    except UnicodeDecodeError:
        return None
    bounds = len(before), len(before) + len(inside)
    return bounds if inside and (surface is None or inside == surface) else None


# -- doccano -----------------------------------------------------------------------------------------------------


def to_doccano(samples: Iterable[Sample], path: str | Path) -> int:
    """Write texts for doccano, with the mentions of labelled ones. Returns their number."""
    count = 0
    with atomic_open(path) as f:
        for sample in samples:
            labels = [[m.start, m.end, entity_name(m)] for m in sample.mentions or ()]
            f.write(json.dumps({"id": sample.id, "text": sample.text, "label": labels}, ensure_ascii=False) + "\n")
            count += 1
    return count


def from_doccano(path: str | Path, skipped: Skipped) -> Iterator[Sample]:
    """The texts of an export of doccano: ``label`` or ``labels`` with lists, or ``entities`` with objects.

    Args:
        path: the export, JSON Lines.
        skipped: counts spans that lie outside their text.

    Raises:
        DataError: it is no such export.
    """
    for number, row in read_json_lines(Path(path)):
        try:
            text = row["text"]
            spans: list[Any] = next((row[key] for key in _DOCCANO_SPANS if key in row), [])
            mentions = []
            for span in spans:
                values = [span[k] for k in ("start_offset", "end_offset", "label")] if isinstance(span, dict) else span
                start, end, name = int(values[0]), int(values[1]), str(values[2])
                if 0 <= start < end <= len(text):
                    mentions.append(mention_named(start, end, name))
                else:
                    skipped.add("spans lie outside their text", f"line {number}")
            yield Sample(str(row.get("id", number)), str(text), tuple(sorted(mentions, key=lambda m: (m.start, m.end))))
        except MALFORMED as error:
            raise DataError(f"{path}, line {number}: {error!r}; export the project from doccano as JSONL") from error


_DOCCANO_SPANS = ("label", "labels", "entities")


@dataclass(frozen=True)
class Tool:
    """A tool: how its files are written and read, and what to do with them."""

    write: Callable[[Iterable[Sample], str | Path], int]
    read: Callable[[str | Path, Skipped], Iterator[Sample]]
    hint: str


TOOLS = {
    "label-studio": Tool(
        to_label_studio, from_label_studio, "import it into a project with the labelling interface of --interface"
    ),
    "doccano": Tool(to_doccano, from_doccano, "import it as JSONL into a project for sequence labelling"),
    ELEVANT: Tool(
        to_elevant, from_elevant, "put it into ELEVANT's folder benchmarks, or into evaluation-results if it has links"
    ),
}
"""Tools by name."""
