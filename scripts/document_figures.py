"""Measures a model on documents: windows of several lengths, the document stage, and texts that are joined.

- documents: the paragraphs of a labelled file whose ids differ only behind their last hyphen (``gum_news_asylum-5``), joined by
  empty lines. Strong F1 over the gold mentions whose entity is in the knowledge base, and words a second.
- joined: texts in random order, as one text; see `scripts/joined_texts.py`.
- rates: how often short mentions of the documents name what their full name names, by kind (`blink.linking.document.RATES`).

    python scripts/document_figures.py windows --documents FILE --joined tests/data/everyday.jsonl --length 64 --length 0
    python scripts/document_figures.py rates --documents FILE
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.data.mention_files import bind, read_samples
from blink.data.records import Mention, Sample
from blink.evaluation.counts import evaluated_text
from blink.evaluation.report import evaluate
from blink.linking.analysis import TokenizedText
from blink.linking.document import MIN_SAME, RATES, SAME, Document, NamedSpans, NameMemory, followers
from blink.linking.linker import Linker
from blink.linking.opening import open_linker
from blink.linking.starter import starter_kb
from scripts.harness import as_help, markdown_table, print_json, run_script
from scripts.joined_texts import measure

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


def on_documents(linker: Linker, documents: Sequence[Sample]) -> dict[str, Any]:
    """F1 and speed, in words a second of processor time."""
    began = time.process_time()
    linked = list(linker.link(d.text for d in documents))
    seconds = time.process_time() - began
    strong = evaluate([evaluated_text(*pair) for pair in zip(documents, linked, strict=True)]).covered_mentions.strong
    return strong.to_json() | {"words_per_s": round(sum(len(d.text.split()) for d in documents) / seconds)}


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


@click.group(help=as_help(__doc__))
def main() -> None:
    """The commands."""


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
            row = {"window_length": length, "document": document, "documents": on_documents(linker, labelled)}
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
