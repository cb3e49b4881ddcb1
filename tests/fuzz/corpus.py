"""The corpus: small damaged files, each with its reader and what the reader says; ``corpus.tsv`` lists them.

``python -m tests.fuzz.corpus`` reads all and prints the table as it is now; with ``--write`` it replaces ``corpus.tsv``.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from blink.errors import BlinkError

FOLDER = Path(__file__).parent / "corpus"
TABLE = FOLDER.with_suffix(".tsv")
READ, REFUSED, ESCAPED = "read", "refused", "ESCAPED"
Reader = Callable[[Path, Path], Any]
"""Reads a file, with a folder to work in."""


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        name: of a file in ``corpus``.
        reader: a key of `READERS`.
        outcome: `READ` or `REFUSED`; `ESCAPED` where an exception is no error of BLINK, which is a fault.
        message: the error without the path, or its beginning; empty for `READ`.
    """

    name: str
    reader: str
    outcome: str
    message: str


def entries() -> list[Entry]:
    """The rows of the table."""
    with TABLE.open(encoding="utf-8", newline="") as f:
        return [Entry(*row) for row in csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE)]


def read(name: str, reader: str, work: Path) -> Entry:
    """Read a file as its reader does.

    Args:
        name: of a file in ``corpus``.
        reader: a key of `READERS`.
        work: an empty folder.
    """
    path = shutil.copy(FOLDER / name, work / name)
    try:
        READERS[reader](Path(path), work)
    except BlinkError as error:
        message = " ".join(str(error).replace(f"{work}/", "").split())
        return Entry(name, reader, REFUSED, message)
    except Exception as error:
        return Entry(name, reader, ESCAPED, repr(error)[:300])
    return Entry(name, reader, READ, "")


def _where(message: str) -> str:
    """The beginning of a message, which names the file and perhaps the line: how it goes on differs between versions."""
    return re.split(r"[:;(]| is | has | holds | cannot | does | should | sets ", message)[0].rstrip()


def _catalogue(path: Path, work: Path) -> None:
    from blink.kb.building import build_knowledge_base
    from tests.resolve_toys import encode_words

    build_knowledge_base(path, work / "kb", encode_words, "words")


def _mentions(path: Path, work: Path) -> list[Any]:
    from blink.data.mention_files import bind, evaluation_samples
    from tests.fuzz.text_kinds import rows_by_id

    return list(bind(evaluation_samples(path), rows_by_id()))


def _tool(name: str) -> Reader:
    def of_tool(path: Path, work: Path) -> list[Any]:
        from blink.data.annotation import TOOLS, Skipped

        return list(TOOLS[name].read(path, Skipped()))

    return of_tool


def _texts(path: Path, work: Path) -> list[str]:
    from blink.data.text_lines import read_lines

    return list(read_lines(str(path)))


def _records(path: Path, work: Path) -> None:
    from blink.bulk.records import RecordLayout
    from blink.bulk.run import BulkJob, link_files
    from tests.bulk_toys import ToyLinker

    link_files(BulkJob((str(path),), work / "links.jsonl", RecordLayout("text"), chunk_lines=4), ToyLinker())


def _run_settings(path: Path, work: Path) -> Any:
    from blink.kglm.config import kind_of, load_settings

    return load_settings(kind_of(path), path)


def _triples(path: Path, work: Path) -> Any:
    from blink.kglm.prior_table import make_table, read_train_graph

    return make_table(read_train_graph([str(path)]), None)


def _array(path: Path, work: Path) -> Any:
    from blink.data.arrays import map_array

    return map_array(path, "write it again").sum()


def _tensors(path: Path, work: Path) -> Any:
    from blink.data.prior_file import read_prior

    return read_prior(path)


def _predictions(path: Path, work: Path) -> Any:
    from blink.evaluation.saved import read_predictions

    return read_predictions(path)


def _typing(path: Path, work: Path) -> Any:
    from examples.entity_typing.data import read_typing

    return read_typing(path.rename(path.with_name("train.json")).parent, "train")


def _dump(kind: str) -> Reader:
    def of_kind(path: Path, work: Path) -> Any:
        from blink.dumps.run import run_job
        from blink.dumps.segments import Dump
        from blink.dumps.wikidata import WikidataOptions, wikidata_job
        from blink.dumps.wikipedia import WikipediaOptions, wikipedia_job

        if kind == "wikidata":
            return run_job(wikidata_job(Dump.open(str(path)), work / "out", WikidataOptions(min_sitelinks=0)), workers=1)
        return run_job(wikipedia_job(Dump.open(str(path)), work / "out", WikipediaOptions()), workers=1)

    return of_kind


def _cluster(path: Path, work: Path) -> Any:
    from blink.cluster.settings import load_settings

    return load_settings({}, path)


def _resolve_records(path: Path, work: Path) -> Any:
    from blink.resolve.reading import read_records

    return list(read_records(str(path)))


def _merge_plan(path: Path, work: Path) -> Any:
    from blink.resolve.merges import MergePlan

    return MergePlan.load(path)


def _originals(path: Path, work: Path) -> Any:
    from blink.model.original import read_settings

    return read_settings(path)


def _compare(path: Path, work: Path) -> Any:
    from blink.evaluation.comparison import read_records

    return read_records(path)


READERS: dict[str, Reader] = {
    "catalogue": _catalogue,
    "mentions": _mentions,
    "label-studio": _tool("label-studio"),
    "doccano": _tool("doccano"),
    "elevant": _tool("elevant"),
    "texts": _texts,
    "records": _records,
    "graph-settings": _run_settings,
    "triples-file": _triples,
    "array": _array,
    "tensors": _tensors,
    "predictions": _predictions,
    "luke-typing": _typing,
    "wikidata": _dump("wikidata"),
    "wikipedia": _dump("wikipedia"),
    "cluster": _cluster,
    "resolve-records": _resolve_records,
    "merge-plan": _merge_plan,
    "originals": _originals,
    "compare": _compare,
}
"""Name -> how a file is read."""


def main(arguments: list[str]) -> None:
    """Print the table as it is now, or write it."""
    rows = []
    for entry in entries():
        with tempfile.TemporaryDirectory() as work:
            rows.append(read(entry.name, entry.reader, Path(work)))
    text = "".join("\t".join((*astuple(row)[:3], _where(row.message))) + "\n" for row in rows)
    if "--write" in arguments:
        TABLE.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    print(json.dumps({"files": len(rows), "refused": sum(row.outcome == REFUSED for row in rows)}), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
