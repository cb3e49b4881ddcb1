"""The table and the plot of `benchmarks/scale.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blink.files import atomic_open
from scripts.harness import markdown_table

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Distinguishable for colour-blind readers; dashes differ too."""
DASHES = ("-", "--", ":", "-.")
Measured = Mapping[str, Any]
PANELS: tuple[tuple[str, Callable[[Measured], float]], ...] = (
    ("memory after linking, GiB", lambda row: row["linked_mb"]["rss"] / 1024),
    ("search for 3 mentions, ms", lambda row: row["search_ms"]["median"]),
    ("recall@10", lambda row: row["recall_at_10"]),
    ("start to first links, s", lambda row: row["start_s"]),
)


def page_of(content: Mapping[str, Any]) -> str:
    """The Markdown of all measurements."""
    head = (
        "entities",
        "memory limit",
        "threads",
        "instructions",
        "recall@10",
        "first equal",
        "search, ms",
        "CPU ms",
        "cold, ms",
        "start, s",
        "MiB at start",
    )
    rows = [
        (
            f"{row['rows']:,}",
            row["max_ram"] or "none",
            str(row["threads"]),
            row.get("simd") or "all",
            f"{row['recall_at_10']:.4f}",
            f"{row['first_equal']:.3f}",
            f"{row['search_ms']['median']:.1f} ({row['search_ms']['least']:.1f})",
            f"{row['search_ms']['cpu_median']:.1f}",
            f"{row['search_cold_ms']['median']:.1f}",
            f"{row['start_s']:.1f}",
            f"{row['started_mb']['rss']:,.0f}",
            f"{row['linked_mb']['rss']:,.0f} ({row['linked_mb']['peak']:,.0f})",
            f"{row['link_one_ms']['median']:.0f}",
        )
        for row in content["measured"]
    ]
    table = markdown_table((*head, "MiB after linking (peak)", "link a text, ms"), rows, 2)
    stages = [
        (
            f"{build['rows']:,}",
            cost["name"],
            *(f"{cost[name]:,.0f}" if name in cost else "-" for name in ("seconds", "cpu_s", "peak_mb", "anonymous_mb")),
        )
        for build in content["builds"]
        for cost in build["stages"]
    ]
    builds = markdown_table(("entities", "stage", "s", "CPU s", "peak MiB", "MiB at its end, no files"), stages, 2)
    names = ("query_to_first", "first_to_second", "first_to_tenth", "entity_to_nearest")
    cosines = [(f"{int(n):,}", *(_quantiles(data[name]) for name in names)) for n, data in content["data"].items()]
    real = [(f"{row['rows']:,}, real", "", "", "", _quantiles(row["cosines"])) for row in content["real_entities_to_nearest"]]
    columns = ("entities", "mention to first", "first less second", "first less tenth", "entity to its nearest")
    data_table = markdown_table(columns, [*real, *cosines], 1)
    return f"""# Size: figures of `benchmarks/scale.py`

Entities with 1024-dimensional vectors; searches of three mentions a call, median (least); what is measured and how:
[docs/scale.md](../../docs/scale.md). Processor: {content["measured"][0]["cpu"]}.

{table}

## Builds

{builds}

## Data: cosines (10th, 50th, 90th percentile)

{data_table}
"""


def _quantiles(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def draw_growth(measured: Sequence[Measured], path: Path) -> None:
    """Draw memory, search time, recall and start against the number of entities, a line for each memory limit."""
    import matplotlib
    from matplotlib.figure import Figure

    # The same file from the same figures, with text as text.
    matplotlib.rcParams.update({"svg.hashsalt": "scale", "svg.fonttype": "none"})
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    measured = [row for row in measured if not row.get("simd")]
    lines = sorted({(row["max_ram"] or "", row["threads"]) for row in measured})
    for axes, (label, value) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        for (limit, threads), colour, dashes in zip(lines, COLOURS, DASHES, strict=False):
            rows = [row for row in measured if (row["max_ram"] or "", row["threads"]) == (limit, threads)]
            name = f"{'--max-ram ' + limit if limit else 'no limit'}, {threads} thread{'s'[: threads - 1]}"
            axes.plot([r["rows"] for r in rows], [value(r) for r in rows], f"o{dashes}", color=colour, label=name, markersize=4)
        axes.set(xscale="log", xlabel="entities", ylabel=label)
        axes.set_ylim(*((0.95, 1.002) if label == "recall@10" else (0, None)))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False, fontsize=8)
    with atomic_open(path, "wb") as f:
        figure.savefig(f, format="svg", metadata={"Date": None})
