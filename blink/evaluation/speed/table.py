"""Figures of `blink.evaluation.speed.bench` as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from blink.evaluation.speed.bench import QUANTILES, STAGES


def as_table(result: Mapping[str, Any]) -> str:
    """The figures as lines of text."""
    return "".join(f"{line}\n" for line in _lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    machine = result["machine"]
    features = ", ".join(machine["features"]) or "none of the instruction sets that matter"
    yield f"{machine['processor']}, {machine['cores']} cores ({features}), {machine['memory_gib']} GiB"
    yield ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    characters = result["characters"]
    yield (
        f"{result['texts']} texts of {characters['median']:g} characters (median; longest {characters['max']}), "
        f"batches of {result['batch_size']}, {result['rounds']} rounds, threads: {result['threads']}"
    )
    for name, side in result["sides"].items():
        yield ""
        yield from _side(name, side)
    for name, start in result.get("start", {}).items():
        yield ""
        yield f"start of {name}, a fresh process to its first links (median)"
        for kind, figures in start.items():
            yield f"  {kind:5} {figures['wall_s']:6.2f} s, {figures['cpu_s']:6.2f} s of CPU, {figures['peak_mib']:,} MiB"
    for name, ratios in result.get("ratios", {}).items():
        yield ""
        yield from _against(name, ratios)


def _side(name: str, side: Mapping[str, Any]) -> Iterator[str]:
    about = [f"{side[key]}" for key in ("backend", "precision", "index") if side.get(key)]
    yield f"{name}" + (f" ({', '.join(about)}; {side['entities']:,} entities)" if about else "")
    batches, call = side["batches"], side["call_ms"]
    tokens = f", {batches['tokens_per_s']:,} tokens/s" if "tokens_per_s" in batches else ""
    yield f"  in batches   {batches['texts_per_s']:,} texts/s{tokens}, {batches['texts_per_cpu_s']:,} texts a CPU second"
    for kind in ("wall", "cpu"):
        quantiles = ", ".join(f"p{q} {call[kind][f'p{q}']:.1f}" for q in QUANTILES)
        yield f"  one by one   {quantiles} ms ({'by the clock' if kind == 'wall' else 'CPU'})"
    for label, split in (("in batches", batches.get("cpu_ms_per_text")), ("one by one", call.get("cpu_split"))):
        if split:
            shares = ", ".join(f"{stage} {split[stage]:.2f}" for stage in (*STAGES, "rest"))
            yield f"  {label}   CPU ms a text: {shares}"
    yield f"  ready after {side['ready']['cpu_s']:.2f} s of CPU; peak memory {side['peak_mib']:,} MiB; {side['links']} links"


def _against(name: str, ratios: Mapping[str, Any]) -> Iterator[str]:
    yield f"against {name}: times faster"
    for label, key in (("in batches, CPU", "batches_cpu"), ("in batches, clock", "batches_wall")):
        yield f"  {label:18} {ratios[key]['median']:.2f} ({ratios[key]['min']:.2f} to {ratios[key]['max']:.2f})"
    yield "  a call, CPU        " + ", ".join(f"p{q} {ratios['call_cpu'][f'p{q}']:.2f}" for q in QUANTILES)
    yield f"  ready to link      {ratios['ready_cpu']:.2f}; peak memory {ratios['peak_memory']:.2f} times smaller"
    yield f"  texts linked differently: {ratios['texts_linked_differently']}"
