"""Measures a model on documents: the document stage, windows of several lengths, texts that are joined, and memory.

- documents: the paragraphs of a labelled file whose ids differ only behind their last hyphen (``gum_news_asylum-5``), joined by
  empty lines. Strong F1 over the gold mentions whose entity is in the knowledge base, and words a second.
- ablation: documents with and without the document stage, and the paired difference.
- memory: the largest resident memory of a process that links one long text.
- windows: documents, and texts joined in random order, see `scripts/joined_texts.py`.
- rates: how often short mentions of the documents name what their full name names, by kind (`blink.linking.document.RATES`).

    python scripts/document_figures.py ablation --data $BLINK_DATA --kb experiments/webqsp-kb
    python scripts/document_figures.py memory --data $BLINK_DATA
    python scripts/document_figures.py windows --documents FILE --joined tests/data/everyday.jsonl --length 64 --length 0
    python scripts/document_figures.py rates --documents FILE
"""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.data.mention_files import bind, read_samples
from blink.data.records import Mention, Sample
from blink.errors import BlinkError
from blink.evaluation.comparison import compare, paired
from blink.evaluation.counts import EvaluatedText, covered_mentions, evaluated_text
from blink.evaluation.report import evaluate
from blink.files import read_json, require_file
from blink.linking.analysis import TokenizedText
from blink.linking.document import MIN_SAME, RATES, SAME, Document, NamedSpans, NameMemory, followers
from blink.linking.linker import Linker
from blink.linking.opening import open_linker
from blink.linking.starter import starter_kb
from scripts.harness import ROOT, as_help, data_option, markdown_table, print_json, run_script, write_results
from scripts.joined_texts import measure
from scripts.model_rows import NamedModel, commands_of, measured

MIN_NAMESAKE = 0.25
"""Probability of an entity that a short mention would be linked to without its full name."""


def joined(samples: Sequence[Sample], separator: str) -> Sample:
    """Samples as one, with their gold mentions."""
    mentions: list[Mention] = []
    at = 0
    for sample in samples:
        mentions += [replace(m, start=m.start + at, end=m.end + at) for m in sample.mentions or ()]
        at += len(sample.text) + len(separator)
    text = separator.join(sample.text for sample in samples)
    return Sample(samples[0].id, text, tuple(mentions), partial=any(sample.partial for sample in samples))


def documents_of(samples: Iterable[Sample]) -> list[Sample]:
    """The documents of paragraphs, by their ids."""
    paragraphs: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        paragraphs[sample.id.rsplit("-", 1)[0]].append(sample)
    return [joined(of_document, "\n\n") for of_document in paragraphs.values()]


def linked_documents(linker: Linker, documents: Sequence[Sample]) -> tuple[list[EvaluatedText], int]:
    """The documents with their links, and words a second of processor time."""
    began = time.process_time()
    linked = list(linker.link(d.text for d in documents))
    seconds = time.process_time() - began
    words = round(sum(len(d.text.split()) for d in documents) / seconds)
    return [evaluated_text(*pair) for pair in zip(documents, linked, strict=True)], words


def strong_scores(texts: Iterable[EvaluatedText]) -> dict[str, Any]:
    """Strong precision, recall and F1 of the covered mentions, with the interval."""
    return evaluate(texts).covered_mentions.strong.to_json()


def on_and_off(texts: Mapping[str, Sequence[EvaluatedText]]) -> dict[str, Any]:
    """Scores of documents with (``on``) and without (``off``) the document stage, and the paired difference."""
    # As in a report: not the documents whose gold mentions are all outside the knowledge base.
    inside = {
        name: [covered_mentions(text) for text in of_name if not text.gold or any(gold.id for gold in text.gold)]
        for name, of_name in texts.items()
    }
    difference = compare(paired(inside["off"], inside["on"])).differences["all strong"]
    bounds = {name: round(getattr(difference, name), 4) for name in ("difference", "low", "high")}
    return {name: strong_scores(of_name) for name, of_name in texts.items()} | {"difference": bounds}


def rates(linker: Linker, documents: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """Counts of short mentions by kind and rival: followed (``right``) or not, of names whose entity the document has as gold.

    For names that are not linked: whether a short mention with a probable entity does not name it (``right``).
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    stage = Document(linker.catalogue)
    for sample, analysis in zip(documents, linker.analyze([d.text for d in documents]), strict=True):
        (encoding,) = linker.stages.tokenizer.tokenize([sample.text])
        named, memory = NamedSpans(analysis.spans, TokenizedText(sample.text, encoding)), NameMemory()
        gold = {(m.start, m.end): m.row for m in sample.mentions or ()}
        for i, name in followers(named, memory).items():
            rival = stage.rival_of(named.spans.rows[i], named.probabilities[i], name, named.words[i])
            row = gold.get(tuple(named.characters[i].tolist()))
            best, itself = int(named.spans.rows[i, 0]), float(named.probabilities[i][named.spans.rows[i] == name.rows[0]].sum())
            if (name.kind == SAME and itself < MIN_SAME) or (not name.is_linked and named.probabilities[i, 0] < MIN_NAMESAKE):
                continue
            if name.is_linked and int(name.rows[0]) in gold.values():
                right = row == int(name.rows[0])
            elif not name.is_linked:
                right = row != best
            else:
                continue
            counts[f"{name.kind}, {rival}, {'linked' if name.is_linked else 'not linked'}"]["right" if right else "wrong"] += 1
    return {key: dict(value) for key, value in sorted(counts.items())}


SETS = {"GUM dev": "gum/dev.jsonl", "OKE 2016": "documents/oke-2016-train.jsonl"}
"""Sets of the ablation, in the folder of the data."""
LONG_TEXT = "gum/train.jsonl"
"""Paragraphs of the long texts whose memory is measured."""
MEGABYTES = (0.01, 1.0, 10.0)
LINK = b'"start": '
"""Once in the JSON of each link."""

HEAD = """\
# The document stage, and long texts

Short mentions follow the full names of their text, see `blink/linking/document.py`; `scripts/document_figures.py` says what is
measured. Strong F1 of covered mentions, on whole documents, of which nearly all of OKE are one sentence; intervals of 95 % by
bootstrap, paired for the difference."""
MEMORY_HEAD = """\
## Memory

Largest resident memory of a process that links one text of prose in one line. The smallest text shows what model, knowledge
base and libraries take. `Linker.stream` is given the text as a string; `blink link --file` reads it and writes JSON."""


def markdown(stored: Mapping[str, Any]) -> str:
    """The page of stored figures."""
    lines, rows = [], [stored[name] for name in ("ablation", "memory") if name in stored]
    for title, of_set in stored.get("ablation", {"sets": {}})["sets"].items():
        for name in ("off", "on"):
            s = of_set[name]
            change = of_set["difference"]
            cells = [
                f"{s['f1']:.3f}",
                f"[{s['f1_low']:.3f}, {s['f1_high']:.3f}]",
                f"{s['precision']:.3f}",
                f"{s['recall']:.3f}",
            ]
            difference = f"{change['difference']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]" if name == "on" else ""
            lines.append([title, str(of_set["documents"]), name, *cells, difference, str(of_set["words_per_s"][name])])
    head = ["set", "documents", "document stage", "F1", "95 % interval", "precision", "recall", "difference", "words/s"]
    page = f"{HEAD}\n\n{markdown_table(head, lines, 3)}\n\n"
    if "memory" in stored:
        texts = [
            [f"{row['megabytes']:g}", row["way"], f"{row['peak_mib']:.0f}", str(row["links"]), f"{row['cpu_s']:.0f}"]
            for row in stored["memory"]["texts"]
        ]
        page += f"{MEMORY_HEAD}\n\n{markdown_table(['MB', 'by', 'peak in MiB', 'links', 'CPU seconds'], texts, 2)}\n\n"
    return page + commands_of(rows)


def _store(out: str, name: str, figures: Mapping[str, Any], model: str | None) -> None:
    """Write figures under a name to OUT.json and OUT.md, with those of the other name that OUT.json holds."""
    file = Path(f"{out}.json")
    command = ["python", "scripts/document_figures.py", *sys.argv[1:]]
    measured_model = NamedModel("starter", None) if model is None else NamedModel(Path(model).name, Path(model))
    row = measured(measured_model, figures, command)
    stored = {**(read_json(file) if file.is_file() else {}), name: row}
    write_results(Path(out), stored, markdown(stored))


@click.group(help=as_help(__doc__))
def main() -> None:
    """The commands."""


def _common(command: Any) -> Any:
    for option in (
        click.option("--model", metavar="DIR", help="Model folder.  [default: the starter]"),
        click.option("--kb", metavar="DIR", help="Knowledge base.  [default: the starter's]"),
        click.option(
            "--out", default=str(ROOT / "benchmarks" / "results" / "document"), metavar="STEM", help="STEM.json, STEM.md."
        ),
        data_option(f"Folder with {', '.join((*SETS.values(), LONG_TEXT))}."),
    ):
        command = option(command)
    return command


@main.command("ablation")
@_common
def ablation_command(data: str, model: str | None, kb: str | None, out: str) -> None:
    """Measure the document stage, on and off, on whole documents, and write the page."""
    sets: dict[str, Any] = {}
    opened = {name: _opened(model, kb)(document=name == "on") for name in ("off", "on")}
    for title, file in SETS.items():
        path = require_file(Path(data) / file, "name the folder of the data with --data")
        documents = documents_of(bind(read_samples(path, "text_cased"), opened["on"].catalogue))
        linked = {name: linked_documents(linker, documents) for name, linker in opened.items()}
        figures = on_and_off({name: texts for name, (texts, _) in linked.items()})
        speeds = {name: words for name, (_, words) in linked.items()}
        sets[title] = {"documents": len(documents), **figures, "words_per_s": speeds}
        say(f"{title}: {sets[title]['off']['f1']:.4f} off, {sets[title]['on']['f1']:.4f} on")
    _store(out, "ablation", {"sets": sets}, model)


def text_of(paragraphs: Iterable[str], characters: int) -> str:
    """Paragraphs as one line of about so many characters, repeated where there are too few."""
    lines, length = [], 0
    for line in itertools.cycle([" ".join(paragraph.split()) for paragraph in paragraphs]):
        lines.append(line)
        length += len(line) + 1
        if length > characters:
            break
    return " ".join(lines)[:characters]


@main.command("memory")
@_common
@click.option("--megabytes", type=float, multiple=True, default=MEGABYTES, show_default=True, help="Sizes of the texts.")
def memory_command(data: str, model: str | None, kb: str | None, out: str, megabytes: Sequence[float]) -> None:
    """Measure the memory and processor time of linking long texts, each in a process of its own, and write the page."""
    file = require_file(Path(data) / LONG_TEXT, "name the folder of the data with --data")
    paragraphs = [sample.text for sample in read_samples(file, "text_cased")]
    sources = [word for flag, value in (("--model", model), ("--kb", kb)) if value is not None for word in (flag, value)]
    link = [sys.executable, "-m", "blink.apps.cli", "link", "--json", *sources, "--file"]
    stream = [sys.executable, str(Path(__file__)), "stream", *sources]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sorted(megabytes):
            text = Path(folder) / "text.txt"
            text.write_text(text_of(paragraphs, round(size * 1e6)) + "\n", encoding="utf-8")
            for way, command in (("Linker.stream", stream), ("blink link --file", link)):
                rows.append({"megabytes": size, "way": way, **usage([*command, str(text)], Path(folder) / "links")})
                say(f"{size:g} MB, {way}: {rows[-1]['peak_mib']:.0f} MiB")
                _store(out, "memory", {"texts": rows}, model)


LAUNCHER = """\
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
figures = os.waitstatus_to_exitcode(status), usage.ru_maxrss, usage.ru_utime + usage.ru_stime
json.dump(figures, open(sys.argv[1], "w"))
"""


def usage(command: Sequence[str], output: Path) -> dict[str, Any]:
    """Peak memory, processor time and number of links of a process."""
    # The peak of a process includes that of the process that forked it, so a small one starts it.
    with tempfile.NamedTemporaryFile("r") as figures, output.open("wb") as f:
        subprocess.run([sys.executable, "-c", LAUNCHER, figures.name, *command], stdout=f, check=True)
        code, kilobytes, seconds = json.load(figures)
    if code:
        raise BlinkError(f"exit code {code} of {shlex.join(command)}")
    return {"peak_mib": round(kilobytes / 1024, 1), "cpu_s": round(seconds, 1), "links": output.read_bytes().count(LINK)}


@main.command("stream", hidden=True)
@click.option("--model")
@click.option("--kb")
@click.argument("file")
def stream_command(model: str | None, kb: str | None, file: str) -> None:
    """Link the text of a file by `Linker.stream`, and print a mark for each link."""
    linker = _opened(model, kb)()
    for section in linker.stream([Path(file).read_text(encoding="utf-8").rstrip("\n")]):
        sys.stdout.write(LINK.decode() * len(section.links))


def _options(command: Any) -> Any:
    for option in (
        click.option("--documents", required=True, metavar="FILE", help="A labelled file of paragraphs."),
        click.option("--text-key", default="text_cased", show_default=True, metavar="KEY", help="Key of the texts in it."),
        click.option("--model", metavar="DIR", help="Model folder.  [default: the starter]"),
        click.option("--kb", metavar="DIR", help="Knowledge base of the documents.  [default: the starter's]"),
        click.option("--out", type=Path, metavar="FILE", help="Write the figures as JSON."),
    ):
        command = option(command)
    return command


def _opened(model: str | None, kb: str | None) -> Callable[..., Linker]:
    return lambda **options: open_linker(model, kb, warn=say, **options)


@main.command("rates")
@_options
def rates_command(documents: str, text_key: str, model: str | None, kb: str | None, out: Path | None) -> None:
    """Count how often short mentions name what their full name names."""
    linker = _opened(model, kb)(document=False)
    of_kind = rates(linker, documents_of(bind(read_samples(documents, text_key), linker.catalogue)))
    now = {
        f"{kind}, {rival}, {'linked' if is_linked else 'not linked'}": rate for (kind, rival, is_linked), rate in RATES.items()
    }
    print_json({"counts": of_kind, "rates": now}, out)


@main.command("windows")
@_options
@click.option("--joined", "texts", multiple=True, metavar="FILE", help="Labelled texts to join, over the starter's entities.")
@click.option("--length", "lengths", type=int, multiple=True, default=(0, 64), help="window_length; 0 for a fixed length.")
@click.option("--seeds", type=click.IntRange(1), default=10, show_default=True, help="Random orders of the joined texts.")
def windows_command(
    documents: str,
    text_key: str,
    model: str | None,
    kb: str | None,
    out: Path | None,
    texts: tuple[str, ...],
    lengths: tuple[int, ...],
    seeds: int,
) -> None:
    """Measure windows of some lengths, with and without the document stage."""
    rows, cells = [], []
    for length in lengths:
        for document in (False, True):
            linker = _opened(model, kb)(window_length=length, document=document)
            labelled = documents_of(bind(read_samples(documents, text_key), linker.catalogue))
            linked, words = linked_documents(linker, labelled)
            scores = {**strong_scores(linked), "words_per_s": words}
            row = {"window_length": length, "document": document, "documents": scores}
            # The starter over its own entities has its graph prior.
            over_starter = _opened(model, None if model is None else str(starter_kb()))(window_length=length, document=document)
            row["joined"] = {
                Path(file).stem: measure(over_starter, list(bind(read_samples(file), over_starter.catalogue)), seeds)
                for file in texts
            }
            rows.append(row)
            cells.append(_cells(row))
            say(" | ".join(cells[-1]))
    head = [
        "windows",
        "document stage",
        "F1",
        "words/s",
        *(f"{Path(f).stem}: right, net loss in %" for f in texts),
    ]
    say(markdown_table(head, cells, 2))
    print_json({"rows": rows}, out)


def _cells(row: dict[str, Any]) -> list[str]:
    scores = row["documents"]
    cells = [str(row["window_length"] or "fixed"), "on" if row["document"] else "off"]
    cells += [f"{scores['f1']:.3f}", str(scores["words_per_s"])]
    for of_file in row["joined"].values():
        losses = (f"{name} {figures['net']:.1f}" for name, figures in of_file["separators"].items())
        cells.append(f"{of_file['right']} of {of_file['mentions']}: {', '.join(losses)}")
    return cells


if __name__ == "__main__":
    run_script(main, "document_figures.py")
