"""Records to existing or new entities: what is never merged, whatever the order; the same stream again adds nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resolve_toys import base, reopened

from blink.data.records import Link, LinkedText
from blink.errors import DataError, MissingFileError, SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.resolve.ledger import Ledger
from blink.resolve.records import Record, records_from
from blink.resolve.resolver import LINKED, NEW, UNCERTAIN, Resolver
from blink.resolve.scorer import PairScorer

PEOPLE = [
    {"name": "Gwendolyn Pugh", "type": "person", "description": "organist at the church of Nevern"},
    {"name": "Gwen Pugh", "type": "person", "description": "organist of the church in Nevern"},
    {"name": "Pugh, Gwendolyn", "type": "person", "description": "plays the organ at the church of Nevern, organist"},
    {"name": "Gareth Pugh", "type": "person", "description": "organist at the church of Nevern"},
    {"name": "Harald Brandt Sr.", "type": "person", "description": "director of Brandt Optik in Jena"},
    {"name": "Harald Brandt Jr.", "type": "person", "description": "director of Brandt Optik in Jena"},
    {"name": "John Smith", "type": "person", "description": "dentist in Boise, Idaho"},
    {"name": "John Smith", "type": "person", "description": "swimming coach at a school of Perth"},
    {"name": "Brandt Optik GmbH", "type": "company", "description": "maker of lenses in Jena"},
    {"name": "Brandt Optik", "type": "company", "description": "maker of lenses in Jena"},
    {"name": "Osprey", "type": "ship", "description": "freighter of the line from Bergen"},
    {"name": "Osprey", "type": "bird", "description": "bird of prey that eats fish"},
    {"name": "iPhone 12", "type": "product", "description": "telephone by Apple"},
    {"name": "iPhone 13", "type": "product", "description": "telephone by Apple"},
]
TOGETHER = {frozenset(("Gwendolyn Pugh", "Gwen Pugh")), frozenset(("Brandt Optik GmbH", "Brandt Optik"))}
"""Names of pairs of records that are one thing and sure to be merged."""


def pairs_together(records: Sequence[dict[str, Any]], ids: Sequence[str | None]) -> set[frozenset[int]]:
    """Pairs of records, by their index in `PEOPLE`, that have one entity."""
    index = [PEOPLE.index(dict(record)) for record in records]
    return {frozenset((index[i], index[j])) for i in range(len(ids)) for j in range(i) if ids[i] == ids[j]}


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(PEOPLE), size=st.sampled_from([1, 3, 100]))
def test_any_order_and_round_gives_the_same_pairs(
    tmp_path_factory: pytest.TempPathFactory, order: list[dict[str, Any]], size: int
) -> None:
    kb = base(tmp_path_factory.mktemp("order") / "kb")
    resolved = list(Resolver(kb, round_size=size).resolve(order))
    together = pairs_together(order, [r.entity.kb_id for r in resolved])
    named = {frozenset(PEOPLE[i]["name"] for i in pair) for pair in together}
    assert named >= TOGETHER
    for pair in together:
        a, b = (PEOPLE[i] for i in sorted(pair))
        assert a["type"] == b["type"]
        assert {a["name"], b["name"]} <= {"Gwendolyn Pugh", "Gwen Pugh", "Pugh, Gwendolyn"} or "Optik" in a["name"]


def test_a_stream_again_adds_nothing_in_this_or_another_process(tmp_path: Path) -> None:
    kb = base(tmp_path / "kb", [{"title": "Jena", "text": "city in Thuringia", "kb_idx": "Q3150", "types": ["city"]}])
    records = [*PEOPLE, {"name": "Jena", "type": "city", "description": "city in Thuringia"}]
    first = list(Resolver(kb).resolve(records))
    digest, rows = kb.digest(), kb.changes.rows
    assert first[-1].entity.kb_id == "Q3150"
    for resolver in (Resolver(kb, round_size=2), Resolver(reopened(tmp_path / "kb"), round_size=5)):
        again = list(resolver.resolve(reversed(records)))
        assert [r.entity.kb_id for r in reversed(again)] == [r.entity.kb_id for r in first]
        assert {r.status for r in again} == {LINKED}
        assert (resolver.kb.digest(), resolver.kb.changes.rows) == (digest, rows)


def test_an_undone_round_is_resolved_again(tmp_path: Path) -> None:
    kb = base(tmp_path / "kb")
    before = kb.digest()
    first = [r.entity.kb_id for r in Resolver(kb).resolve(PEOPLE)]
    kb.undo()
    assert kb.digest() == before
    again = list(Resolver(reopened(tmp_path / "kb")).resolve(PEOPLE))
    assert [r.entity.kb_id for r in again] == first
    assert {r.status for r in again} > {NEW}


def test_a_dry_run_writes_nothing_and_says_the_same(tmp_path: Path) -> None:
    kb = base(tmp_path / "kb")
    before, files = kb.digest(), sorted(f.name for f in (tmp_path / "kb").iterdir())
    planned = [(r.status, r.entity.kb_id) for r in Resolver(kb).resolve(PEOPLE, dry_run=True)]
    assert kb.digest() == before
    assert sorted(f.name for f in (tmp_path / "kb").iterdir()) == files
    assert [(r.status, r.entity.kb_id) for r in Resolver(kb).resolve(PEOPLE)] == planned


def test_new_entities_carry_what_their_records_say(tmp_path: Path) -> None:
    kb = base(tmp_path / "kb")
    list(Resolver(kb).resolve([*PEOPLE[:2], {"name": "Nevern", "id": "W7", "source": "parish", "type": "village"}]))
    pugh = kb.catalogue[0]
    assert (pugh.title, pugh.aliases, pugh.types) == ("Gwendolyn Pugh", ("Gwen Pugh",), ("person",))
    assert kb.catalogue[1].ids == (("parish", "W7"),)
    (other,) = Resolver(kb).resolve([{"name": "Village of Nevern", "id": "W7", "source": "parish"}])
    assert (other.status, other.entity.row, other.reasons) == (LINKED, 1, ("equal ids",))


def test_ids_of_one_source_keep_things_apart(tmp_path: Path) -> None:
    twice = [{"name": "Ann Lee", "description": "customer in Ulm", "id": i, "source": "crm"} for i in (1, 2)]
    first, second = Resolver(base(tmp_path / "kb")).resolve(twice)
    assert first.entity.kb_id != second.entity.kb_id


def test_two_possible_entities_are_left_to_a_person(tmp_path: Path) -> None:
    text = "organist at the church of Nevern"
    twice = [{"title": "Gwen Pugh", "text": text, "kb_idx": f"P{i}", "types": ["person"]} for i in (1, 2)]
    (resolved,) = Resolver(base(tmp_path / "kb", twice)).resolve([PEOPLE[1]])
    assert resolved.status == UNCERTAIN
    assert {candidate.id for candidate in resolved.candidates} == {"P1", "P2"}
    assert resolved.entity.kb_id not in ("P1", "P2")


def test_a_kill_loses_no_acknowledged_record_and_makes_none_twice(tmp_path: Path) -> None:
    base(tmp_path / "kb")
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom resolve_toys import reopened\nfrom test_resolve import PEOPLE\n"
        "from blink.resolve.resolver import Resolver\n"
        "for i, r in enumerate(Resolver(reopened(Path(sys.argv[1])), round_size=3).resolve(PEOPLE)):\n"
        "    print(r.entity.kb_id, flush=True)\n    if i == 6: os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "kb")],
        capture_output=True, text=True, cwd=Path(__file__).parent, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    acknowledged = done.stdout.split()
    assert len(acknowledged) == 7
    kb = reopened(tmp_path / "kb")
    assert all(kb.catalogue.row_of(kb_id) is not None for kb_id in acknowledged)
    with (tmp_path / "kb" / "resolved.jsonl").open("a") as f:
        f.write('{"record": "torn')
    resolved = list(Resolver(kb, round_size=3).resolve(PEOPLE))
    assert [r.entity.kb_id for r in resolved][:7] == acknowledged
    assert len({r.entity.kb_id for r in resolved}) == sum(bool(entity.title) for entity in kb.catalogue)


class _Linker:
    """Links every span to row 0."""

    mode = "probability"

    def __init__(self, kb: KnowledgeBase, score: float) -> None:
        self.kb, self.score = kb, score

    def __call__(self, texts: list[str], spans: list[list[tuple[int, int]]]) -> list[LinkedText]:
        return [
            LinkedText(text, tuple(Link(a, b, text[a:b], 0, None, "", self.score) for a, b in of_text))
            for text, of_text in zip(texts, spans, strict=True)
        ]


@pytest.mark.parametrize(
    ("name", "score", "status"), [("Merkel", 0.95, LINKED), ("Merkel", 0.5, UNCERTAIN), ("Macron", 0.95, NEW)]
)
def test_the_linker_decides_on_short_names_in_their_context(tmp_path: Path, name: str, score: float, status: str) -> None:
    kb = base(
        tmp_path / "kb", [{"title": "Angela Merkel", "text": "chancellor of Germany", "types": ["person"], "kb_idx": "Q567"}]
    )
    text = f"{name}, chancellor of Germany, left."
    (resolved,) = Resolver(kb, _Linker(kb, score)).resolve([{"text": text, "spans": [[0, 6]]}])  # type: ignore[arg-type]
    assert resolved.status == status
    assert (resolved.entity.kb_id == "Q567") == (status == LINKED)


def test_spans_of_a_text_are_records() -> None:
    text = "Merkel met Macron in Paris."
    records = list(records_from([{"text": text, "spans": [[0, 6, "PER"], {"start": 11, "end": 17, "label": "PER"}], "doc": 3}]))
    assert [(r.name, r.context, r.types, r.span) for r in records] == [
        ("Merkel", text, ("PER",), (0, 6)),
        ("Macron", text, ("PER",), (11, 17)),
    ]
    assert records[0].to_json()["doc"] == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"descriptions": "x"}, "has no name"),
        ({"name": 3}, "'name' is int"),
        (7, "is int"),
        ({"name": "a\0"}, "a NUL"),
        ({"name": "a", "aliases": [1]}, "'aliases'"),
        ({"name": "a", "id": 1.5}, "'id' is float"),
        ({"text": "abc", "spans": [[1, 9]]}, "outside the text"),
        ({"text": "abc", "spans": "x"}, "'spans' is str"),
    ],
)
def test_malformed_records_are_named(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(records_from([{"name": "fine"}, value]))


def test_thresholds_out_of_range_are_refused(tmp_path: Path) -> None:
    kb = base(tmp_path / "kb")
    for options in ({"threshold": 2.0}, {"threshold": 0.0}, {"review": 0.99, "threshold": 0.5}, {"round_size": 0}):
        with pytest.raises(SettingsError):
            Resolver(kb, **options)


def test_the_command_resolves_proposes_merges_and_is_undone(
    tmp_path: Path, blink: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blink.resolve.commands.open_kb_for_edits", lambda folder, model, bars: reopened(Path(folder)))
    text = "organist at the church of Nevern"
    kb = base(tmp_path / "kb", [{"title": n, "text": text, "types": ["person"]} for n in ("Gwendolyn Pugh", "Gwen Pugh")])
    digest = kb.digest()
    records = tmp_path / "records.csv"
    records.write_text("name;description;type\nGwen Pugh;organist at the church of Nevern;person\nOsprey;ship of Bergen;ship\n")
    status, out, err = blink("resolve", "run", kb.folder, records, "--dry-run")
    assert (status, [json.loads(line)["status"] for line in out.splitlines()]) == (0, [LINKED, NEW])
    assert "nothing was written" in err
    plan = tmp_path / "plan.json"
    assert blink("resolve", "merges", kb.folder, "--out", plan)[0] == 0
    (merge,) = json.loads(plan.read_text())["merges"]
    assert merge["approved"]
    assert (merge["keep"]["title"], merge["remove"]["title"]) == ("Gwendolyn Pugh", "Gwen Pugh")
    status, _, err = blink("resolve", "apply", kb.folder, plan)
    assert (status, "1 merges made" in err) == (0, True)
    merged = reopened(tmp_path / "kb")
    assert (merged.catalogue[0].aliases, merged.catalogue[1].title) == (("Gwen Pugh",), "")
    status, _, err = blink("resolve", "apply", kb.folder, plan)
    assert status == 1
    assert "changed since the plan was made" in err
    merged.undo()
    assert merged.digest() == digest
    status, _, err = blink("resolve", "run", kb.folder, tmp_path / "none.jsonl")
    assert (status, err.count("\n")) == (1, 1)


def test_a_damaged_ledger_or_scorer_is_named(tmp_path: Path) -> None:
    kb = base(tmp_path / "kb")
    (tmp_path / "kb" / "resolved.jsonl").write_text('{"record": "a"}\n')
    with pytest.raises(DataError, match="line 1: damaged"):
        Resolver(kb)
    (tmp_path / "scorer.json").write_text('{"weights": {}}')
    with pytest.raises(DataError, match="no scorer of this version"):
        PairScorer.load(tmp_path / "scorer.json")


def test_lines_of_a_ledger_are_lost_at_its_end_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger, path = Ledger(tmp_path), tmp_path / "resolved.jsonl"
    for number in range(3):
        ledger.add({f"r{number}": f"X{number}"})
    whole = path.read_bytes()
    first, second, third = whole.splitlines(keepends=True)
    for damaged in (second + third, first + third, second + first + third, first + b"\xff\xfe"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"line \d: damaged .*move it away"):
            Ledger(tmp_path)
    assert not caplog.records
    for torn in (third[:-9], third[:20] + bytes(12) + b"\n", bytes(30)):
        path.write_bytes(first + second + torn)
        again = Ledger(tmp_path)
        assert (len(again), again.entity_of("r2")) == (2, None)
        assert f"its last {len(torn)} bytes were not written whole" in caplog.records[-1].getMessage()
        again.add({"r2": "X2"})
        assert path.read_bytes() == whole
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MissingFileError, match="does not exist"):
        Ledger(tmp_path)


def test_a_record_is_compared_by_what_it_says_alone() -> None:
    a, b = Record("A", source="x", extra={"page": 1}), Record("A", source="y")
    assert a.fingerprint() == b.fingerprint()
    assert a.fingerprint() != Record("A", description="z").fingerprint()


def test_without_an_encoder_names_and_words_are_compared(tmp_path: Path) -> None:
    kb = base(tmp_path / "kb")
    kb.encode = None
    statuses = [r.status for r in Resolver(kb).resolve(PEOPLE[:2], dry_run=True)]
    assert sorted(statuses)[0] in (LINKED, NEW)
    assert NEW in statuses
