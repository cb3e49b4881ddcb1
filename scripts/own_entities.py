"""From a table of made-up entities to links, with the starter as it is: how long each step takes, and what is right.

Prints one JSON object. Each command is a process of its own, and is repeated; seconds and CPU seconds are medians. Entities and
sentences were written before anything was linked with them, and no setting was selected on them. Next to the linker there is a
look-up of names alone: the longest title or alias at each place of a text, in any letter case.

    python scripts/own_entities.py
    python scripts/own_entities.py --catalogue products.csv --sentences labelled.jsonl --repeats 3
"""

from __future__ import annotations

import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.data.mention_files import bind, read_samples
from blink.data.records import Link, LinkedText, Sample
from blink.errors import SettingsError
from blink.evaluation.counts import evaluated_text
from blink.evaluation.report import evaluate
from blink.kb.catalogue import Catalogue
from blink.linking.opening import open_linker
from scripts.harness import ROOT, as_help, print_json, run_script

DATA = ROOT / "tests" / "data" / "own"


def timed(runs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Run ``blink`` with each list of arguments as a process: medians of seconds and CPU seconds.

    Raises:
        SettingsError: one failed.
    """
    seconds, cpu_seconds = [], []
    for arguments in runs:
        begin = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "blink.apps.cli", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(usage.ru_utime + usage.ru_stime)
        if status:
            raise SettingsError(f"blink {shlex.join(arguments)} failed; see what it said")
    return {"s": round(statistics.median(seconds), 2), "cpu_s": round(statistics.median(cpu_seconds), 2)}


def by_name(text: str, catalogue: Catalogue) -> LinkedText:
    """Link the longest names in a text, whatever their letter case, and whatever they mean there."""
    rows = {name.casefold(): entity.row for entity in catalogue for name in (entity.title, *entity.aliases)}
    longest_first = "|".join(re.escape(name) for name in sorted(rows, key=len, reverse=True))
    links = []
    for match in re.finditer(rf"(?<!\w)(?:{longest_first})(?!\w)", text, re.IGNORECASE):
        entity = catalogue[rows[match[0].casefold()]]
        links.append(Link(match.start(), match.end(), match[0], entity.row, entity.kb_id, entity.title, 1.0))
    return LinkedText(text, tuple(links))


def scores(samples: Sequence[Sample], linked: Sequence[LinkedText]) -> dict[str, Any]:
    """Strong and weak precision, recall and F1 over all mentions, and the texts that are not right as a whole."""
    overall = evaluate([evaluated_text(s, text) for s, text in zip(samples, linked, strict=True)]).overall
    values = {
        matching: {name: round(getattr(getattr(overall, matching), name), 3) for name in ("precision", "recall", "f1")}
        for matching in ("strong", "weak")
    }
    gold = [[(m.start, m.end, m.row) for m in sample.mentions or ()] for sample in samples]
    wrong = [
        {"text": text.text, "links": [[link.mention, link.title, round(link.score, 3)] for link in text.links]}
        for text, of_text in zip(linked, gold, strict=True)
        if [(link.start, link.end, link.row) for link in text.links] != of_text
    ]
    return values | {"not_right": wrong}


@click.command(help=as_help(__doc__))
@click.option("--catalogue", default=str(DATA / "catalogue.csv"), metavar="FILE", help="Entities.  [default: 50 made-up ones]")
@click.option("--sentences", default=str(DATA / "sentences.jsonl"), metavar="FILE", help="Mention file with gold.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Runs of each command.")
def own_entities(catalogue: str, sentences: str, repeats: int) -> None:
    """Measure and print."""
    first = next(read_samples(sentences)).text
    with tempfile.TemporaryDirectory() as folder:
        # A folder each: a rebuild would take over vectors. The first also exports the encoder, once for all knowledge bases.
        builds = [["kb", "build", str(Path(catalogue).resolve()), "--out", f"{folder}/kb-{i}"] for i in range(repeats + 1)]
        timed(builds[:1])
        kb = f"{folder}/kb-0"
        times = {"build": timed(builds[1:]), "link": timed([["link", first, "--kb", kb]] * repeats)}
        linker = open_linker(None, kb)
        samples = list(bind(read_samples(sentences), linker.catalogue))
        linked = list(linker.link([sample.text for sample in samples]))
        result = {
            "entities": len(linker.catalogue),
            "sentences": len(samples),
            "mentions": sum(len(sample.mentions or ()) for sample in samples),
            "times": times,
            "starter": scores(samples, linked),
            "names_alone": scores(samples, [by_name(sample.text, linker.catalogue) for sample in samples]),
        }
    print_json(result)


if __name__ == "__main__":
    run_script(own_entities, "own_entities")
