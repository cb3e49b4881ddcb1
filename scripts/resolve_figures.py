"""Measures the resolver on labelled pairs and streams, at its default threshold.

- pairs: two records, of one thing or of two. A pair is merged if its probability is at least the threshold and no person must
  agree.
- streams: records in turn over a small knowledge base. All pairs of records and given entities count; B-cubed averages
  precision and recall over records (Bagga and Baldwin 1998). Each stream is resolved twice, the second time from its
  files, and must add nothing; then all proposed merges are approved, made and undone, and must leave the same hash.

--dev measures the sets by which the threshold was selected, prints the figures and writes no page.

    python scripts/resolve_figures.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.errors import DataError
from blink.evaluation.calibration import expected_calibration_error
from blink.files import read_json_lines
from blink.kb.building import build_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.vectors import CandidateEncoder
from blink.linking.opening import open_candidate_encoder
from blink.resolve.fitting import by_kind, operating_point, pair_profiles, probabilities, read_pairs
from blink.resolve.resolver import Resolver
from blink.resolve.scorer import PairScorer
from scripts.harness import ROOT, as_help, markdown_table, print_json, run_script, write_results

DATA = ROOT / "tests" / "data" / "resolve"
PAIRS = ("pairs", "pairs-2")
FIRST_MEASURED = (
    "The first measurement of `pairs.jsonl`, at a threshold of .8667, merged two pairs of different things (albums called",
    "Greatest Hits; the National Gallery and the National Portrait Gallery). Works whose descriptions name other things",
    "then came to need a person, as did words inside of a name that is no person's. `pairs-2.jsonl` was written after that.\n",
)


@click.command(help=as_help(__doc__))
@click.option("--dev", is_flag=True, help="The development sets.")
@click.option("--out", metavar="STEM", default=str(ROOT / "benchmarks" / "results" / "resolve"), show_default=True)
def main(dev: bool, out: str) -> None:
    """Measure and write."""
    encoder, suffix = open_candidate_encoder(None, "fp32", None, 64), "-dev" if dev else ""
    result = {
        "pairs": pair_figures([DATA / f"{name}.jsonl" for name in (["pairs-dev"] if dev else PAIRS)], encoder),
        "streams": stream_figures(DATA / f"streams{suffix}.jsonl", encoder),
    }
    if dev:
        print_json(result)
        return
    write_results(Path(out), result, markdown(result))
    say(f"written to {out}.json and {out}.md")


def pair_figures(files: Sequence[Path], encoder: CandidateEncoder) -> dict[str, Any]:
    """Figures of labelled pairs."""
    pairs, scorer = [pair for file in files for pair in read_pairs(file)], PairScorer.load()
    if len(files) > 1:
        return {"of_files": [pair_figures([file], encoder) for file in files]}
    p = probabilities(scorer, pair_profiles(pairs, encoder.encode))
    same = np.array([pair.same for pair in pairs])
    point = operating_point(scorer.same, p, same)
    return {
        "file": files[0].name,
        "pairs": len(pairs),
        "threshold": scorer.same,
        "merged": point.merged,
        "wrong": point.wrong,
        "wrong_pairs": [[x.a.name, x.b.name] for x, q in zip(pairs, p, strict=True) if q >= scorer.same and not x.same],
        "precision": point.precision,
        "precision_low": point.precision_low,
        "positives": point.positives,
        "recall": point.recall,
        "calibration_error": expected_calibration_error(p, same),
        "kinds": by_kind(pairs, p, scorer.same),
    }


def stream_figures(file: Path, encoder: CandidateEncoder) -> dict[str, Any]:
    """Figures of all streams together."""
    totals, b_cubed, n_streams = Counter[str](), list[tuple[float, float]](), 0
    for _, stream in read_json_lines(file):
        with tempfile.TemporaryDirectory() as folder:
            gold, ids, counts = resolved_stream(stream, Path(folder), encoder)
        n_streams += 1
        totals.update(counts)
        b_cubed += b_cubed_of(gold, ids)
        for i, j in combinations(range(len(gold)), 2):
            one_thing, merged = gold[i] == gold[j], ids[i] == ids[j]
            totals["right" if one_thing and merged else "wrong" if merged else "missed" if one_thing else "apart"] += 1
    right, wrong, missed = (totals[name] for name in ("right", "wrong", "missed"))
    return {
        "file": file.name,
        "streams": n_streams,
        **totals,
        "precision": right / max(right + wrong, 1),
        "recall": right / max(right + missed, 1),
        "b_cubed_precision": float(np.mean([p for p, _ in b_cubed])),
        "b_cubed_recall": float(np.mean([r for _, r in b_cubed])),
    }


def resolved_stream(
    stream: Mapping[str, Any], folder: Path, encoder: CandidateEncoder
) -> tuple[list[str], list[str | None], Counter[str]]:
    """Gold and resolved ids of the entities and records of a stream, and counts.

    Raises:
        DataError: it is resolved to something else the second time, or an undone merge leaves another hash.
    """
    entities, records = stream["entities"], [{k: v for k, v in r.items() if k != "gold"} for r in stream["records"]]
    source = folder / "entity.jsonl"
    source.write_text("".join(json.dumps(entity) + "\n" for entity in entities), encoding="utf-8")
    build_knowledge_base(source, folder / "kb", encoder.encode, encoder.fingerprint, allow_empty=True)
    resolved = list(opened(folder, encoder).resolve(records))
    again = opened(folder, encoder)
    digest, rows = again.kb.digest(), again.kb.changes.rows
    if [r.entity.kb_id for r in again.resolve(records)] != [r.entity.kb_id for r in resolved] or again.kb.changes.rows != rows:
        raise DataError(f"the stream {stream['id']} is resolved to something else the second time")
    plan = again.propose_merges()
    for merge in plan.merges:
        again.apply(replace(plan, merges=(replace(merge, approved=True),)))
        again.kb.undo()
        if again.kb.digest() != digest:
            raise DataError(f"an undone merge of {stream['id']} leaves another hash")
    counts = Counter({"records": len(records), "merges_undone": len(plan.merges)}) + Counter(r.status for r in resolved)
    gold = [entity["kb_idx"] for entity in entities] + [record["gold"] for record in stream["records"]]
    return gold, [entity["kb_idx"] for entity in entities] + [r.entity.kb_id for r in resolved], counts


def opened(folder: Path, encoder: CandidateEncoder) -> Resolver:
    """A resolver over the knowledge base as it is on the disk."""
    return Resolver(KnowledgeBase.open(folder / "kb"), encode=encoder.encode)


def b_cubed_of(gold: Sequence[str], ids: Sequence[str | None]) -> list[tuple[float, float]]:
    """Precision and recall of each item."""
    rows = []
    for i in range(len(gold)):
        of_gold, of_id = ({j for j in range(len(gold)) if labels[j] == labels[i]} for labels in (gold, ids))
        rows.append((len(of_gold & of_id) / len(of_id), len(of_gold & of_id) / len(of_gold)))
    return rows


def markdown(result: Mapping[str, Any]) -> str:
    """The page of the figures."""
    streams = result["streams"]
    share = {name: f"{value:.3f}" for name, value in streams.items() if isinstance(value, float)}
    page = [
        "# Resolving records\n",
        "Pairs and streams were written before they were measured on, and no weight or threshold was selected on them.",
        "`scripts/resolve_figures.py` says what counts.\n",
        *FIRST_MEASURED,
        *(line for figures in result["pairs"]["of_files"] for line in pair_section(figures)),
        f"**{streams['streams']} streams**, {streams['records']} records: pairwise precision {share['precision']},",
        f"recall {share['recall']} ({streams['right']} right, {streams.get('wrong', 0)} wrong, {streams['missed']} missed);",
        f"B-cubed precision {share['b_cubed_precision']}, recall {share['b_cubed_recall']}.",
        f"{streams['linked']} records were linked, {streams['new']} new, {streams['uncertain']} left to a person.",
        "Resolved a second time, the streams add nothing.",
        f"{streams['merges_undone']} merges were made and undone, with the same hash before and after.",
    ]
    return "\n".join(page) + "\n"


def pair_section(figures: Mapping[str, Any]) -> list[str]:
    """The lines about a file of pairs."""
    share = {name: f"{value:.3f}" for name, value in figures.items() if isinstance(value, float)}
    merged = [f"{row['merged'] - row['wrong']} of {row['same']}" if row["same"] else "-" for row in figures["kinds"]]
    kinds = [[row["kind"], str(row["pairs"]), of, str(row["wrong"])] for row, of in zip(figures["kinds"], merged, strict=True)]
    return [
        f"**{figures['file']}, {figures['pairs']} pairs** at the default threshold ({figures['threshold']}):",
        f"{figures['wrong']} merges of different things, precision {share['precision']}",
        f"(at least {share['precision_low']} with 97.5 % confidence), recall {share['recall']}",
        f"({figures['merged'] - figures['wrong']} of {figures['positives']}). Merges that are only proposed count as missed.\n",
        markdown_table(["kind", "pairs", "merged, of one thing", "merged wrongly"], kinds, 1) + "\n",
    ]


if __name__ == "__main__":
    run_script(main, "resolve_figures")
