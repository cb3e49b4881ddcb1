"""What the commands of `blink resolve` share: a resolver by names of folders, and the fit on a file of pairs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from blink.errors import SettingsError
from blink.files import atomic_open, locked
from blink.kb.manifest import MANIFEST_FILE
from blink.kb.vectors import Encoder
from blink.linking.opening import open_candidate_encoder, open_kb_for_edits, open_linker
from blink.progress import Bars, no_bars
from blink.resolve import merges
from blink.resolve.fitting import (
    by_kind,
    fit_scorer,
    operating_point,
    pair_profiles,
    probabilities,
    read_pairs,
    select_threshold,
)
from blink.resolve.merges import MergePlan
from blink.resolve.reading import read_records
from blink.resolve.resolver import LINKED, NEW, UNCERTAIN, Resolver
from blink.resolve.scorer import PairScorer


def open_resolver(
    kb: str,
    model: str | None,
    *,
    context: bool = False,
    scorer: str | None = None,
    bars: Bars = no_bars,
    **options: Any,
) -> Resolver:
    """A resolver over a folder.

    Args:
        kb: folder of the knowledge base.
        model: of its vectors; None for the starter.
        context: link mentions with spans in their sentences too.
        scorer: file of one; None for that of BLINK.
        bars: for what is done once.
        **options: those of `Resolver`.

    Raises:
        BlinkError: the folder, the model or the scorer is missing or damaged.
    """
    loaded = None if scorer is None else PairScorer.load(scorer)
    if context:
        linker = open_linker(model, kb, bars=bars, bulk=True)
        return Resolver(linker.kb, linker, scorer=loaded, **options)
    return Resolver(open_kb_for_edits(kb, model, bars), scorer=loaded, **options)


def resolve_file(
    kb: str, records: str, out: str | None, model: str | None, *, dry_run: bool = False, bars: Bars = no_bars, **options: Any
) -> str:
    """Resolve the records of a file, and write a line of JSON for each; a line on what was done.

    Arguments are those of `open_resolver` and `blink.resolve.reading.read_records`; ``out`` is a file, or None for standard
    output.
    """
    list_of_resolved = Path(kb) / MANIFEST_FILE  # which the server locks too
    is_locked = not dry_run and list_of_resolved.is_file()
    with locked(list_of_resolved) if is_locked else nullcontext():
        return _resolve(open_resolver(kb, model, bars=bars, **options), kb, records, out, dry_run, bars)


def _resolve(resolver: Resolver, kb: str, records: str, out: str | None, dry_run: bool, bars: Bars) -> str:
    counts = Counter({LINKED: 0, NEW: 0, UNCERTAIN: 0})
    with ExitStack() as stack:
        target = sys.stdout if out is None else stack.enter_context(atomic_open(out))
        progress = stack.enter_context(bars("resolving", None, "record"))
        for resolution in resolver.resolve(read_records(records), dry_run=dry_run):
            target.write(json.dumps(resolution.to_json(), ensure_ascii=False) + "\n")
            counts[resolution.status] += 1
            progress.advance()
    summary = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    return f"{kb}: {summary}{' (nothing was written)' if dry_run else ''}"


def plan_merges(
    kb: str, out: str | None, model: str | None, *, dry_run: bool = False, bars: Bars = no_bars, **options: Any
) -> str:
    """Write a plan of the merges of a knowledge base, which is not changed; a line on what is in it. Arguments as above."""
    resolver = open_resolver(kb, model, bars=bars, **options)
    with bars("comparing", len(resolver.kb.catalogue), "entity") as progress:
        plan = resolver.propose_merges(progress.advance)
    if out is None:
        sys.stdout.write(json.dumps(plan.to_json(), ensure_ascii=False, indent=2) + "\n")
    else:
        plan.save(out)
    approved = sum(merge.approved for merge in plan.merges)
    return (
        f"{kb}: {len(plan.merges):,} merges proposed, {approved:,} of them approved; blink resolve apply {kb} {out or 'PLAN'}"
    )


def apply_plan(kb: str, plan: str, model: str | None, bars: Bars = no_bars) -> str:
    """Make the approved merges of a plan; a line on what was done."""
    loaded = MergePlan.load(plan)
    with bars("merging", sum(merge.approved for merge in loaded.merges), "merge") as progress:
        transactions = merges.apply(open_kb_for_edits(kb, model, bars), loaded, progress.advance)
    numbers = f" (edits {transactions[0].number} to {transactions[-1].number})" if transactions else ""
    return f"{kb}: {len(transactions):,} merges made{numbers}"


def fit_on_pairs(
    pairs: str,
    threshold: float | None = None,
    precision: float = 1.0,
    *,
    scorer: str | None = None,
    weights: bool = False,
    out: str | None = None,
    model: str | None = None,
    bars: Bars = no_bars,
    encode: Encoder | None = None,
) -> Iterator[str]:
    """Select or state a threshold on labelled pairs; the lines of the report.

    Raises:
        SettingsError: precision or threshold is no share.
        DataError: the pairs are malformed, or too few.
    """
    if not 0 < precision <= 1 or (threshold is not None and not 0 <= threshold <= 1):
        raise SettingsError("precision and threshold are shares; give numbers from 0 to 1")
    path, labelled = pairs, read_pairs(pairs)
    if encode is None:
        encode = open_candidate_encoder(model, "auto", None, 64).encode
    with bars("encoding", 2 * len(labelled), "record") as progress:
        profiles = pair_profiles(labelled, encode, progress.advance)
    same = np.array([pair.same for pair in labelled])
    if weights:
        fitted, p = fit_scorer(labelled, profiles)
    else:
        fitted = PairScorer.load() if scorer is None else PairScorer.load(scorer)
        p = probabilities(fitted, profiles)
    point = select_threshold(p, same, precision) if threshold is None else operating_point(threshold, p, same)
    yield f"{path}: {len(labelled)} pairs, {int(same.sum())} of one thing{' (probabilities out of fold)' if weights else ''}"
    yield str(point)
    for row in by_kind(labelled, p, point.threshold):
        merged, wrong, different = row["merged"] - row["wrong"], row["wrong"], row["pairs"] - row["same"]
        counts = f"{merged:>4} of {row['same']:>4} merged, {wrong:>3} wrong of {different:>4}"
        yield f"  {row['kind'] or 'all':<20} {counts}"
    if out is not None:
        same_at = min(point.threshold, 1.0)
        about = {
            "pairs": len(labelled),
            "precision": point.precision,
            "precision_low": point.precision_low,
            "recall": point.recall,
        }
        replace(fitted, same=same_at, new=min(fitted.new, same_at), about=about).save(out)
        yield f"written to {out}; use it with --scorer {out}"
