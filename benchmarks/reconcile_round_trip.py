"""The reconciliation round trip: a column of names through a public client, compared with `blink link` and `blink resolve`.

    python benchmarks/reconcile_round_trip.py --rows 1000 --out benchmarks/results/reconcile.json

Starts `blink serve` unless --url names a running one, and reconciles with the package `reconciler`: names alone, then names
with the sentences that they are from. Names are those of mention files, then titles of the starter, a few of entities that it
lacks among them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

np.NaN = np.nan  # type: ignore[attr-defined]  # the client's last release is older than NumPy 2

import pandas as pd  # noqa: E402
from reconciler import reconcile  # noqa: E402

from benchmarks.server_process import running_server  # noqa: E402
from blink.data.mention_files import evaluation_samples  # noqa: E402
from blink.data.records import Link, LinkedText  # noqa: E402
from blink.evaluation.speed.machine import machine  # noqa: E402
from blink.linking.linker import Linker  # noqa: E402
from blink.resolve.resolver import Resolver  # noqa: E402
from blink.serving.reconciliation.candidates import DECISIONS  # noqa: E402

FILES = ("tests/data/everyday.jsonl", "tests/data/everyday-dev.jsonl", "tests/data/lookalikes.jsonl", "tests/data/teams.jsonl")
UNKNOWN = ("tests/data/lookalikes-kb/entity.jsonl", "tests/data/lookalikes-dev-kb/entity.jsonl")


def main() -> None:
    """Reconcile, and print or write what came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="distinct names")
    parser.add_argument("--url", help="a running server of the starter; by default one is started")
    parser.add_argument("--out", help="JSON file of the result")
    options = parser.parse_args()
    linker = Linker.from_pretrained()
    sentences, names = dict(list(sentences_by_name().items())[: options.rows // 2]), {}
    names = dict.fromkeys([*sentences, *other_names(linker)])
    column = pd.Series(list(names)[: options.rows])
    with running_server(options.url) as url:
        result: dict[str, Any] = {"machine": machine()}
        result["names"] = round_trip(linker, url, column, None)
        result["sentences"] = round_trip(linker, url, pd.Series(list(sentences)), pd.Series(list(sentences.values())))
    print(json.dumps(result, indent=2))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if result["names"]["other_links"] or result["sentences"]["other_links"] else 0)


def sentences_by_name() -> dict[str, str]:
    """The first text of each mention of the mention files."""
    sentences: dict[str, str] = {}
    for file in FILES:
        for sample in evaluation_samples(ROOT / file):
            for mention in sample.mentions or ():
                sentences.setdefault(sample.text[mention.start : mention.end], sample.text)
    return sentences


def other_names(linker: Linker) -> list[str]:
    """Titles of which the knowledge base lacks most, then its own."""
    unknown = [json.loads(line)["title"] for file in UNKNOWN for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    return unknown + linker.kb.titles(list(range(0, len(linker.kb.catalogue), 29)))


def round_trip(linker: Linker, url: str, names: pd.Series, sentences: pd.Series | None) -> dict[str, Any]:
    """Reconcile a column with the public client, and compare each row with the linker and the resolver."""
    pd.set_option("display.max_colwidth", None)  # the client sends values as pandas prints them
    begin = time.perf_counter()
    frame = reconcile(
        names,
        top_res=1,
        property_mapping=None if sentences is None else {"context": sentences},
        reconciliation_endpoint=f"{url}/reconcile",
    )
    elapsed_s = time.perf_counter() - begin
    rows = {row["input_value"]: row for row in frame.to_dict("records")}
    texts = list(names if sentences is None else sentences)
    spans = [[_span(text, name)] for text, name in zip(texts, names, strict=True)]
    begin = time.perf_counter()
    linked = linker(texts, spans=spans)
    linker_s = time.perf_counter() - begin
    records = [
        {"name": name} | ({} if sentences is None else {"context": text}) for name, text in zip(names, texts, strict=True)
    ]
    resolved = [DECISIONS[of.status] for of in Resolver(linker.kb).match(records)]
    counts: Counter[str] = Counter()
    for name, of_name, decision in zip(names, linked, resolved, strict=True):
        counts.update(_compared(rows.get(name), of_name, decision, linker.thresholds.score))
    figures = {key: counts[key] for key in ("matches", "other_links", "undecided", "of_the_linkers_link_first", "none")}
    return {"rows": len(names), **figures, "none_but_resolver_knows_one": counts["none_known"],
            "seconds": round(elapsed_s, 2), "seconds_of_the_linker_alone": round(linker_s, 2)}  # fmt: skip


def _compared(row: dict[str, Any] | None, linked: LinkedText, decision: str, threshold: float) -> list[str]:
    """What a row counts as: a match of the linker's link or of another, undecided, or none."""
    link: Link | None = next(iter(linked.links), None)
    kb_id = None if link is None else link.kb_id or f"row:{link.row}"
    if row is None or not isinstance(row["id"], str):
        return ["none"] + (["none_known"] if decision != "new" else [])
    if row["match"]:
        is_link = link is not None and row["id"] == kb_id and link.score > threshold
        return ["matches"] if is_link else ["matches", "other_links"]
    return ["undecided"] + (["of_the_linkers_link_first"] if row["id"] == kb_id else [])


def _span(text: str, name: str) -> tuple[int, int]:
    match = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
    return (0, len(text)) if match is None else match.span()


if __name__ == "__main__":
    main()
