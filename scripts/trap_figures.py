"""Measures models on teams called by their city, on lookalikes, and on spans that only look like names.

- teams: 40 texts about play whose team is called by its city (or county), and 20 about the city itself. A text is right if
  all its teams and cities are linked to the right entity.
- lookalikes: 60 pairs of texts with one name of two entities. A pair is right if both texts are. The name is a title or an
  alias of the first entity, of the second, or of both.
- traps: 40 first names, demonyms, languages and names of which the catalogue knows a fragment. A trap is left alone if no link
  overlaps the tempting span, other than to an entity that the span does name (a language).

Teams and traps are linked over the starter's entities with `tests/data/teams-kb`, or over --kb; lookalikes over the catalogue
`tests/data/lookalikes-kb` alone.

--dev measures the development sets instead (30 teams and cities, 50 pairs, 60 traps, with the catalogues
`tests/data/teams-dev-kb` and `tests/data/lookalikes-dev-kb`), prints the figures and writes no page. Choices between models,
features and settings are made on these only; the test sets share no text and no name of a lookalike with them.

    python scripts/trap_figures.py --model before=OLD --model after=NEW
    python scripts/trap_figures.py --dev --model before=OLD --model after=NEW
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.data.records import Link, LinkedText
from blink.errors import SettingsError
from blink.files import read_json_lines
from blink.kb.building import build_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.opening import open_candidate_encoder
from scripts.harness import ROOT, as_help, markdown_table, print_json, run_script
from scripts.model_rows import (
    NamedModel,
    Rate,
    commands_of,
    count_cell,
    measured,
    model_rows_options,
    open_model,
    rate_cell,
    write_rows,
)

DATA = ROOT / "tests" / "data"
STARTER_CATALOGUE = ROOT / "models" / "starter-kb" / "entity.jsonl"
DEVELOPMENT = "-dev"
"""What the names of the development sets and of their catalogues end with."""
CERTAIN = 0.99
"""Wrong links with a score from here on are counted."""

Row = Mapping[str, Any]


def catalogues_of(suffix: str) -> dict[str, tuple[Path, ...]]:
    """Knowledge base -> the catalogues that it joins; ``suffix`` is `DEVELOPMENT`, or empty for the test sets."""
    teams, lookalikes = (DATA / f"{name}{suffix}-kb" / "entity.jsonl" for name in ("teams", "lookalikes"))
    return {"teams": (STARTER_CATALOGUE, teams), "lookalikes": (lookalikes,)}


def build(catalogues: Sequence[Path], folder: Path, model: Path) -> Path:
    """Build a knowledge base of several catalogues; of an entity in two of them the later row is taken."""
    folder.mkdir(parents=True)
    source = folder / "source.jsonl"
    rows = {json.loads(line)["kb_idx"]: line for file in catalogues for line in file.read_text(encoding="utf-8").splitlines()}
    source.write_text("".join(f"{line}\n" for line in rows.values()), encoding="utf-8")
    encoder = open_candidate_encoder(str(model), "auto", None, 64)
    build_knowledge_base(source, folder / "kb", encoder.encode, encoder.fingerprint)
    return folder / "kb"


def overlapping(text: LinkedText, span: Sequence[int]) -> list[Link]:
    """The links of a text that share a character with a span."""
    return [link for link in text.links if link.start < span[1] and span[0] < link.end]


def result(text: LinkedText, span: Sequence[int], kb_id: str) -> str:
    """``right``, ``wrong`` or ``missed``: whether a mention is linked to its entity, to others alone, or not at all."""
    links = overlapping(text, span)
    return "right" if any(link.kb_id == kb_id for link in links) else "wrong" if links else "missed"


def team_figures(rows: Sequence[Row], texts: Sequence[LinkedText]) -> dict[str, Any]:
    """Figures of teams called by their city, and of cities."""
    mentions: dict[str, Counter[str]] = defaultdict(Counter)
    right: dict[str, list[bool]] = defaultdict(list)
    for row, text in zip(rows, texts, strict=True):
        results = [result(text, *gold) for gold in zip(row["mentions"], row["wikidata_id"], strict=True)]
        for kind, outcome in zip(row["kinds"], results, strict=True):
            mentions[kind][outcome] += 1
        counted = [outcome for kind, outcome in zip(row["kinds"], results, strict=True) if kind != "other"]
        right["team" if "team" in row["kinds"] else "city"].append(set(counted) == {"right"})
    texts_right = {kind: Rate(sum(values), len(values)).to_json() for kind, values in sorted(right.items())}
    by_kind = {kind: {**Rate(c["right"], c.total()).to_json(), **_errors(c)} for kind, c in sorted(mentions.items())}
    return {"texts": texts_right, "mentions": by_kind}


def _errors(counts: Counter[str]) -> dict[str, int]:
    return {"wrong": counts["wrong"], "missed": counts["missed"]}


def lookalike_figures(rows: Sequence[Row], texts: Sequence[LinkedText]) -> dict[str, Any]:
    """Figures of pairs, of their texts, and by whose alias the name is."""
    results = [result(text, row["mentions"][0], row["wikidata_id"][0]) for row, text in zip(rows, texts, strict=True)]
    pairs: dict[int, list[bool]] = defaultdict(list)
    by_alias: dict[str, list[bool]] = defaultdict(list)
    for row, outcome in zip(rows, results, strict=True):
        pairs[row["pair"]].append(outcome == "right")
        side = "first" if row["id"].endswith("-1") else "second"
        of = "both" if row["alias_of"] == "both" else "alias" if row["alias_of"] == side else "no alias"
        by_alias[of].append(outcome == "right")
    certain = [
        any(link.score >= CERTAIN for link in overlapping(text, row["mentions"][0]))
        for row, text, outcome in zip(rows, texts, results, strict=True)
        if outcome == "wrong"
    ]
    counts = Counter(results)
    return {
        "pairs": Rate(sum(map(all, pairs.values())), len(pairs)).to_json(),
        "texts": {**Rate(counts["right"], len(rows)).to_json(), **_errors(counts), "wrong_and_certain": sum(certain)},
        "by_alias": {of: Rate(sum(values), len(values)).to_json() for of, values in sorted(by_alias.items())},
    }


def trap_figures(rows: Sequence[Row], texts: Sequence[LinkedText]) -> dict[str, Any]:
    """Figures of traps that are left alone, by kind, and of the other names in their texts."""
    alone: dict[str, list[bool]] = defaultdict(list)
    others: Counter[str] = Counter()
    for row, text in zip(rows, texts, strict=True):
        links = [link for span in row["tempting"] for link in overlapping(text, span)]
        alone[row["kind"]].append(all(link.kb_id in row["allowed"] for link in links))
        others.update(result(text, *gold) for gold in zip(row["mentions"], row["wikidata_id"], strict=True))
    values = [value for of_kind in alone.values() for value in of_kind]
    return {
        "alone": Rate(sum(values), len(values)).to_json(),
        "by_kind": {kind: Rate(sum(of_kind), len(of_kind)).to_json() for kind, of_kind in alone.items()},
        "other_names": Rate(others["right"], others.total()).to_json(),
    }


SETS = {
    "teams": ("teams", team_figures),
    "lookalikes": ("lookalikes", lookalike_figures),
    "traps": ("teams", trap_figures),
}
"""Set -> its knowledge base, and what is measured."""


def measure(model: NamedModel, kb: Path | None, prior: str | None, details: bool, suffix: str = "") -> dict[str, Any]:
    """The figures of a model on all sets; see `catalogues_of` for ``suffix``."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="traps-") as folder:
        bases = {name: build(files, Path(folder) / name, model.path) for name, files in catalogues_of(suffix).items()}
        for name, (base, measure_set) in SETS.items():
            over_starter = base == "teams"
            base_folder = kb if kb is not None and over_starter else bases[base]
            linker = open_model(model, base_folder, prior if over_starter else None)
            rows = [row for _, row in read_json_lines(DATA / f"{name}{suffix}.jsonl")]
            texts = list(linker.link([row["text"] for row in rows]))
            figures[name] = measure_set(rows, texts)
            if details:
                _print_errors(rows, texts)
    return figures


def _print_errors(rows: Iterable[Row], texts: Iterable[LinkedText]) -> None:
    for row, text in zip(rows, texts, strict=True):
        results = [result(text, *gold) for gold in zip(row["mentions"], row["wikidata_id"], strict=True)]
        tempted = any(link.kb_id not in row["allowed"] for span in row.get("tempting", ()) for link in overlapping(text, span))
        if tempted or set(results) - {"right"}:
            links = ", ".join(f"{link.mention} -> {link.title} {link.score:.2f}" for link in text.links)
            say(f"{row['id']}: {row['text']} | {links or 'no link'} | {', '.join(results) or 'tempted'}")


HEAD = """\
# Teams called by their city, lookalikes and traps

Three sets of short texts that were written before any model was run on them and were used for no choice.
`scripts/trap_figures.py` says what counts as right. Intervals are Wilson's, at 95 %."""


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of stored rows."""
    main = [
        [
            row["name"],
            row["kb"],
            *(rate_cell(row["teams"]["texts"][kind]) for kind in ("team", "city")),
            rate_cell(row["lookalikes"]["pairs"]),
            rate_cell(row["traps"]["alone"]),
        ]
        for row in rows
    ]
    table = markdown_table(["model", "catalogue", "teams (40)", "cities (20)", "lookalikes (60)", "traps (40)"], main, 2)
    detail = markdown_table(["model", "set", "right", "wrong", "missed"], [line for row in rows for line in _details(row)], 2)
    return f"{HEAD}\n\n{table}\n\nIn detail:\n\n{detail}\n\n{commands_of(rows)}"


def _details(row: Mapping[str, Any]) -> list[list[str]]:
    teams, pairs, traps = row["teams"], row["lookalikes"], row["traps"]
    lines = [[f"mentions: {kind}", m, m["wrong"], m["missed"]] for kind, m in teams["mentions"].items()]
    texts = pairs["texts"]
    certain = f"{texts['wrong']} ({texts['wrong_and_certain']} at {CERTAIN} or more)"
    lines += [["texts of pairs", texts, certain, texts["missed"]]]
    lines += [[f"texts of pairs: {of}", rate, "", ""] for of, rate in pairs["by_alias"].items()]
    lines += [[f"traps: {kind}", rate, "", ""] for kind, rate in traps["by_kind"].items()]
    lines += [["other names in traps", traps["other_names"], "", ""]]
    return [[row["name"], title, count_cell(rate), str(wrong), str(missed)] for title, rate, wrong, missed in lines]


@click.command(help=as_help(__doc__))
@model_rows_options("traps")
@click.option(
    "--kb", metavar="DIR", help="Knowledge base for teams and traps.  [default: the starter's entities and the teams]"
)
@click.option("--details", is_flag=True, help="Print the texts that are not right.")
@click.option("--dev", is_flag=True, help="Measure the development sets, and write no page.")
def main(models: Sequence[NamedModel], kb: str | None, prior: str | None, out: str, details: bool, dev: bool) -> None:
    """Measure models and write the page."""
    if kb is not None and not Path(kb).is_dir():
        raise SettingsError(f"--kb {kb} is no folder; name a knowledge base that was built with the models (blink kb build)")
    rows = []
    for model in models:
        figures = measure(model, None if kb is None else Path(kb), prior, details, DEVELOPMENT if dev else "")
        command = ["python", "scripts/trap_figures.py", *sys.argv[1:]]
        base = "starter and teams" if kb is None else f"{len(KnowledgeBase.open(kb).catalogue):,} entities"
        rows.append(measured(model, {"kb": base, **figures}, command))
        print_json(rows[-1])
    if not dev:
        write_rows(Path(out), rows, markdown)


if __name__ == "__main__":
    run_script(main, "trap_figures")
