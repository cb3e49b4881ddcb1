"""Writes the starter's catalogue: entities written by hand, then entities whose sentences are generated from facts.

    scripts/starter_entities.py FACTS.jsonl.gz --triples TRIPLES.txt ... --freebase IDS.tsv --written WRITTEN.jsonl \\
        --out models/starter-kb

FACTS holds rows with an id, a name, aliases, types, facts, popularity and a licence. Rows that cannot be checked, whose licence
is not in the table, or of which too little is known are left out, and counted by reason. Lines of ``entity.jsonl`` without a
source are written by hand; they stay first, and as they are. ``triples.tsv`` keeps the facts written by hand and gets those
about generated entities. The same input gives the same files.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.files import atomic_open
from blink.kb.alias_table import normalise, without_brackets
from scripts.harness import as_help, markdown_table, run_script
from scripts.starter_aliases import cleaned_aliases, common_words, nicknames
from scripts.starter_facts import (
    Item,
    add_freebase,
    add_triples,
    described,
    drop_contradicted,
    find_kinds,
    labels_of,
    prominence,
    read_items,
    read_triples,
    rows_of,
)
from scripts.starter_kinds import roles_of, sentences
from scripts.starter_phrases import Names
from scripts.starter_relations import MORE_RELATIONS, WIKIDATA_OF
from scripts.starter_tables import (
    BROAD_TYPES,
    COUNTRY_NAMES,
    COUNTRY_OF,
    LEAST_PIECES,
    MOST_OF_KIND,
    ROLES,
    TYPES_OF_NOUNS,
)

MOST_TYPES = 4
SYMMETRIC = frozenset(("P26", "P47", "P3373"))
FUNCTIONAL = frozenset(("P19", "P20", "P36", "P397"))


@click.command(help=as_help(__doc__))
@click.argument("facts", type=click.Path(exists=True, path_type=Path))
@click.option("--triples", multiple=True, type=click.Path(exists=True, path_type=Path), help="Triples by Wikidata ids; repeat.")
@click.option("--freebase", type=click.Path(exists=True, path_type=Path), help="Lines of a Freebase and a Wikidata id.")
@click.option(
    "--check", type=click.Path(exists=True, path_type=Path), help="Catalogue of the same ids; what contradicts it is left out."
)
@click.option("--written", multiple=True, type=click.Path(exists=True, path_type=Path), help="More entities written by hand.")
@click.option("--out", required=True, type=click.Path(exists=True, path_type=Path), help="Folder of the starter's catalogue.")
def main(
    facts: Path, triples: Sequence[Path], freebase: Path | None, check: Path | None, written: Sequence[Path], out: Path
) -> None:
    """Write the catalogue, its triples and a report."""
    dropped: Counter[str] = Counter()
    items = read_items(facts, dropped)
    if check:
        drop_contradicted(items, check, dropped)
    graph = read_triples(triples)
    add_triples(items, graph)
    if freebase:
        add_freebase(items, freebase)
    find_kinds(items.values())
    by_hand = read_written(out / "entity.jsonl", written, dropped)
    labels = labels_of(facts) | {row["kb_idx"]: without_brackets(row["title"]) for row in by_hand if "kb_idx" in row}
    names = Names(labels, {kb_id: item.popularity for kb_id, item in items.items()}, nicknames(items.values()))
    given_types = types_by_title(out / "written-types.tsv")
    for row in by_hand:
        if row["title"] in given_types or not row.get("types"):
            facts_of_row = items.get(row.get("kb_idx", ""))
            row["types"] = given_types.get(row["title"]) or types_of_written(row, facts_of_row, names)
    texts = {item.id: text for item in items.values() if (text := _enough(item, names, dropped))}
    selected = select([items[kb_id] for kb_id in texts], by_hand, texts, dropped)
    titles = titled(selected, by_hand, names)
    aliases = cleaned_aliases(selected, titles, by_hand, common_words(facts, by_hand), names.nicknames, dropped)
    rows = [_row(item, titles[item.id], texts[item.id], aliases[item.id], names) for item in selected]
    with atomic_open(out / "entity.jsonl") as lines:
        for row in (*by_hand, *rows):
            lines.write(json.dumps(row, ensure_ascii=False, separators=(",", ":") if "source" in row else (", ", ": ")) + "\n")
    known = [items[row["kb_idx"]] for row in by_hand if "types" in row and row.get("kb_idx") in items]
    n_triples = write_triples(out, by_hand, [*selected, *known], labels)
    say(report(by_hand, rows, selected, dropped, n_triples, (out / "entity.jsonl").stat().st_size))


def read_written(catalogue: Path, more: Iterable[Path], dropped: Counter[str]) -> list[dict[str, Any]]:
    """Entities written by hand: lines of the catalogue without a source, then those of more files, each id once."""
    rows = [row for row in rows_of(catalogue) if "source" not in row]
    ids = {row["kb_idx"] for row in rows if row.get("kb_idx")}
    names = {normalise(row["title"]) for row in rows}
    for path in more:
        for row in rows_of(path):
            if row.get("kb_idx") in ids or normalise(row["title"]) in names:
                dropped["written by hand twice"] += row.get("kb_idx") not in ids or row not in rows
                continue
            ids.add(row.get("kb_idx", ""))
            names.add(normalise(row["title"]))
            rows.append(row)
    return rows


def types_by_title(path: Path) -> dict[str, list[str]]:
    """Types of entities written by hand that their facts do not give: lines of types and titles."""
    lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return {title: types.split(", ") for types, titles in lines for title in titles.split("; ")}


def types_of_written(row: Mapping[str, Any], item: Item | None, names: Names) -> list[str]:
    """Types of an entity written by hand: the kind of its facts; of a person also the role that its text names first."""
    if item is None or not item.kind:
        return []
    if item.kind != "person":
        return types_of(item, names)
    words = re.findall(r"[a-z][a-z-]+", re.split(r"[;.]", row["text"])[0])[:12]
    return ["person", *[word for word in words if word in ROLES][:1]]


def _enough(item: Item, names: Names, dropped: Counter[str]) -> str:
    """The sentences about an item; none where they would not tell it from others."""
    if not item.kind:
        dropped["kind is not in the table, or a common noun"] += 1
        return ""
    text, pieces = sentences(item, names)
    if pieces < LEAST_PIECES[item.kind] or len(text.split()) < 3:
        dropped[f"too few facts: {item.kind}"] += 1
        return ""
    return text


def select(
    items: Sequence[Item], by_hand: Sequence[Mapping[str, Any]], texts: Mapping[str, str], dropped: Counter[str]
) -> list[Item]:
    """The best known items of each kind, without those written by hand and without a text that another item has."""
    ids = {row.get("kb_idx") for row in by_hand}
    known: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in by_hand:
        for name in (without_brackets(row["title"]), *row.get("aliases", ())):
            known[normalise(name)].append(row)
    counts: Counter[str] = Counter()
    texts_so_far: set[str] = set()
    selected = []
    for item in sorted(items, key=lambda item: (-prominence(item), int(item.id[1:]))):
        if item.id in ids:
            dropped["is written by hand (id)"] += 1
        elif any(_is_same(item, row) for row in known.get(normalise(without_brackets(item.title)), ())):
            dropped["is written by hand (name and type)"] += 1
        elif item.source == "ror" and item.title.endswith(")"):
            dropped["branch of an organization in a country"] += 1
        elif texts[item.id] in texts_so_far:
            dropped["text of another entity"] += 1
        elif counts[item.kind] >= MOST_OF_KIND[item.kind]:
            dropped[f"less known: {item.kind}"] += 1
        else:
            counts[item.kind] += 1
            texts_so_far.add(texts[item.id])
            selected.append(item)
    return selected


def _is_same(item: Item, row: Mapping[str, Any]) -> bool:
    """Whether an entity written by hand, of the same name, has the same type; places must also name the same country."""
    broad = BROAD_TYPES.get(item.kind, "")
    if broad not in row.get("types", ()):
        return False
    countries = [COUNTRY_NAMES.get(v, v) for v in item.values.get("country", ())]
    return broad != "place" or any(c in row["text"] for c in countries) or not countries


def titled(items: Sequence[Item], by_hand: Sequence[Mapping[str, Any]], names: Names) -> dict[str, str]:
    """Titles by id: of namesakes the best known keeps its name, others get what tells them apart in brackets."""
    taken = {normalise(row["title"]) for row in by_hand} | {normalise(without_brackets(row["title"])) for row in by_hand}
    titles: dict[str, str] = {}
    for item in items:
        bare = without_brackets(item.title)
        options = [bare, *(f"{bare} ({mark})" for mark in _marks(item, names))]
        titles[item.id] = next((t for t in options if normalise(t) not in taken), f"{bare} ({options[-1]}, {item.id})")
        taken.add(normalise(titles[item.id]))
    return titles


def _marks(item: Item, names: Names) -> list[str]:
    """What may tell an item from its namesakes, shortest first."""
    marks = []
    if item.kind in {"place", "site", "school"}:
        units = [u for _, p in item.described.places[:1] for u in p.split(", ")]
        units += [names.of(v) for a in ("located", "within", "state", "country") for v in item.values.get(a, ())]
        marks = [u for u in dict.fromkeys(units) if u and u != item.title]
    if item.kind == "person":
        role = next(iter(roles_of(item, names)), "person")
        born = item.numbers.get("born")
        marks = [role, *([f"{role} born in {born}"] if born else [])]
    year, noun = item.described.year, types_of(item, names)[-1]
    marks += [noun, *([f"{year} {noun}"] if year else [])]
    founded = item.numbers.get("founded")
    countries = [names.of(v) for v in item.values.get("country", ())][:1]
    return [*marks, *(f"{noun} in {c}" for c in countries), *([f"{noun} of {founded}"] if founded else []), item.id]


def types_of(item: Item, names: Names) -> list[str]:
    """Readable types of an item, from broad to narrow."""
    types = [BROAD_TYPES[item.kind]]
    if item.kind == "person":
        types += roles_of(item, names)[:2]
    else:
        head = item.noun.split()[-1].lower() if item.noun else ""
        types += [TYPES_OF_NOUNS[head]] if head in TYPES_OF_NOUNS else [head] if item.kind in {"award"} and head else []
    return list(dict.fromkeys("actor" if t == "actress" else t for t in types))[:MOST_TYPES]


def _row(item: Item, title: str, text: str, aliases: Sequence[str], names: Names) -> dict[str, Any]:
    row: dict[str, Any] = {"title": title, "text": text, "kb_idx": item.id}
    if aliases:
        row["aliases"] = list(aliases)
    row["types"] = types_of(item, names)
    if item.freebase:
        row["ids"] = {"freebase": item.freebase}
    row["source"] = item.source
    return row


def write_triples(out: Path, by_hand: Sequence[Mapping[str, Any]], items: Sequence[Item], labels: Mapping[str, str]) -> int:
    """Extend triples.tsv and relations.tsv by the facts of generated entities; the number of triples."""
    hand_ids = {row["kb_idx"] for row in by_hand if row.get("kb_idx")}
    ids = hand_ids | {item.id for item in items}
    earlier = [tuple(line.split("\t")) for line in (out / "triples.tsv").read_text(encoding="utf-8").splitlines()]
    triples = {t for t in earlier if t[0] in hand_ids and t[2] in hand_ids}
    countries = {labels[i]: i for i in ids if labels.get(i) in COUNTRY_OF.values()}
    for item in items:
        for attribute, values in item.values.items():
            relation = WIKIDATA_OF.get(attribute)
            resolved = (
                [countries.get(COUNTRY_NAMES.get(v, v), v) if relation == "P17" else v for v in values] if relation else []
            )
            tails = [v for v in resolved if v in ids and v != item.id]
            for tail in tails[:1] if relation in FUNCTIONAL else tails:
                assert relation
                triples.add((item.id, relation, tail))
        for demonym in [*item.described.demonyms, *item.values.get("nationality", ())][:1]:
            if (country := countries.get(COUNTRY_OF.get(demonym, ""))) and country != item.id:
                triples.add((item.id, {"person": "P27", "film": "P495", "tv": "P495"}.get(item.kind, "P17"), country))
    for row in by_hand:  # a text begins with a nationality: "American maker of rockets"
        for demonym in described(re.split(r"[;.,]", row["text"])[0]).demonyms[:1]:
            country = countries.get(COUNTRY_OF[demonym])
            if country and row["kb_idx"] in hand_ids and row["kb_idx"].startswith("Q") and row["kb_idx"] != country:
                triples.add((row["kb_idx"], "P27" if "person" in row.get("types", ()) else "P17", country))
    triples |= {(t, r, h) for h, r, t in triples if r in SYMMETRIC}
    remaining = sorted(_one_value(triples, earlier), key=lambda t: tuple(int(segment[1:]) for segment in t))
    relations = dict(line.split("\t") for line in (out / "relations.tsv").read_text(encoding="utf-8").splitlines())
    used = {r for _, r, _ in remaining}
    missing = used - set(relations) - set(MORE_RELATIONS)
    if missing:
        raise click.ClickException(f"no label for the relations {', '.join(sorted(missing))}; add them to MORE_RELATIONS")
    with atomic_open(out / "triples.tsv") as lines:
        lines.writelines("\t".join(triple) + "\n" for triple in remaining)
    with atomic_open(out / "relations.tsv") as lines:
        for relation in sorted(used, key=lambda r: int(r[1:])):
            lines.write(f"{relation}\t{(MORE_RELATIONS | relations)[relation]}\n")
    return len(remaining)


def _one_value(triples: Iterable[tuple[str, ...]], earlier: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Triples, of functional relations those written by hand or the first."""
    written = set(earlier)
    remaining, values = [], set()
    for triple in sorted(triples, key=lambda t: (t not in written, t)):
        if triple[1] in FUNCTIONAL:
            if triple[:2] in values:
                continue
            values.add(triple[:2])
        remaining.append(triple)
    return remaining


def shared_forms(rows: Iterable[Mapping[str, Any]]) -> int:
    """The number of names that several entities have, as titles without brackets or as aliases."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update({normalise(n) for n in (without_brackets(row["title"]), *row.get("aliases", ()))})
    return sum(n > 1 for n in counts.values())


def report(
    by_hand: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    items: Sequence[Item],
    dropped: Counter[str],
    n_triples: int,
    n_bytes: int,
) -> str:
    """What was written, by kind, and what was left out, by reason."""
    kinds = Counter(item.kind for item in items)
    words = [len(row["text"].split()) for row in rows]
    lines = [
        f"{len(by_hand):,} entities written by hand, {len(rows):,} generated, {n_bytes / 1e6:.1f} MB, {n_triples:,} triples",
        f"{shared_forms([*by_hand, *rows]):,} names shared by several entities",
        f"{sum(words) / max(1, len(words)):.1f} words a text",
        markdown_table(["kind", "entities"], [[k, f"{n:,}"] for k, n in kinds.most_common()], 1),
        markdown_table(["left out", "number"], [[k, f"{n:,}"] for k, n in sorted(dropped.items())], 1),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main, "starter_entities.py")
