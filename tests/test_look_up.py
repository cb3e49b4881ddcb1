"""``blink kb show`` and ``blink kb search``: entities by id, row and name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.records import Entity
from blink.errors import DataError, SettingsError
from blink.explaining.entities import entity_line, shortened
from blink.kb.alias_table import normalise
from blink.kb.building import build_knowledge_base
from blink.kb.entity_lookup import entities_of
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.name_search import search_names
from tests import toys

Run = Callable[..., tuple[int, str, str]]

LINES = [
    {
        "title": "Georgia (country)",
        "kb_idx": "Q230",
        "types": ["country"],
        "ids": {"freebase": "m.0d0kn"},
        "text": "A country.",
    },
    {"title": "Georgia", "kb_idx": "Q1428", "types": ["state"], "tags": ["us"], "aliases": ["Peach State"], "licence": "CC0"},
    {"title": "Atlanta", "aliases": ["Georgia"], "types": ["city"], "text": "The capital of the state. " * 9},
    {"title": "Georgias", "kb_idx": 7},
    {"title": "Georgina", "kb_idx": 230, "text": "A name."},
    {"title": "Tbilisi", "types": ["city"], "idx": "https://x.org/Tbilisi"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lookup") / "kb"
    source = toys.write_catalogue(out.with_suffix(".jsonl"), LINES)
    build_knowledge_base(source, out, toys.letter_counts(), "none")
    return out


@pytest.fixture(scope="module")
def kb(folder: Path) -> KnowledgeBase:
    return KnowledgeBase.open(folder)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("Q230", [0]),
        ("https://www.wikidata.org/wiki/Q230", [0]),
        ("/m/0d0kn", [0]),
        ("freebase:m.0d0kn", [0]),
        ("7", [3]),
        ("230", [4]),
        ("5", [5]),
        ("row:1", [1]),
        ("GEORGIA", [0, 1, 2]),
        ("Peach State", [1]),
    ],
)
def test_an_entity_by_id_row_or_name(kb: KnowledgeBase, text: str, rows: list[int]) -> None:
    assert [entity.row for entity in entities_of(kb, text)] == rows


def test_of_what_is_not_there_similar_names_are_said(kb: KnowledgeBase) -> None:
    with pytest.raises(
        DataError, match=r"no entity has the id, row or name 'Georgiana'; similar: Georgia \(country\) \(Q230\), "
    ):
        entities_of(kb, "Georgiana")
    with pytest.raises(DataError, match="blink kb list"):
        entities_of(kb, "xyzzy")


def test_show(folder: Path, blink: Run) -> None:
    status, out, _ = blink("kb", "show", folder, "Q1428")
    assert status == 0
    fields = {line[:14].strip(): line[14:] for line in out.splitlines()}
    assert fields["Georgia"] == ""
    assert (fields["id"], fields["row"], fields["types"], fields["tags"]) == ("Q1428", "1", "state", "us")
    assert (fields["aliases"], fields["licence"]) == ("Peach State", "CC0")
    assert "entity.jsonl, line 2" in " ".join(out.split())  # a long path is wrapped
    _, out, _ = blink("kb", "show", folder, "Georgia", "--json")
    values = [json.loads(line) for line in out.splitlines()]
    assert [value["row"] for value in values] == [0, 1, 2]
    assert values[0]["ids"] == {"freebase": "/m/0d0kn"}
    assert values[0]["popularity"] == pytest.approx(7 - np.log10(240), abs=1e-3)
    _, out, _ = blink("kb", "show", folder, "Georgia")
    assert [line.split()[0] for line in out.splitlines()] == ["Q230", "Q1428", "row:2"]


def test_show_after_an_edit(folder: Path, tmp_path: Path, blink: Run) -> None:
    shutil.copytree(folder, tmp_path / "kb")
    base = KnowledgeBase.open(tmp_path / "kb")
    base.encode = toys.letter_counts()
    base.update("Q230", note="of May", aliases=["Sakartvelo"])
    _, out, _ = blink("kb", "show", tmp_path / "kb", "Q230")
    assert "Georgia (country)" in out
    assert "Sakartvelo" in out
    assert "edit 1" in out
    assert "of May" in out


def test_search(folder: Path, blink: Run) -> None:
    status, out, _ = blink("kb", "search", folder, "georgia")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["Q230", "Q1428", "row:2", "7", "230"]
    _, out, _ = blink("kb", "search", folder, "georgia", "--json", "--where", "type!=country|state", "--limit", 2)
    assert [(json.loads(line)["row"], json.loads(line)["match"]) for line in out.splitlines()] == [(2, "alias"), (3, "variant")]
    deny = folder.with_name("deny.txt")
    deny.write_text("wd:Q230\n")
    _, out, _ = blink("kb", "search", folder, "georgia", "--deny", deny, "--where", "system=wikidata")
    assert [line.split()[0] for line in out.splitlines()] == ["Q1428"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "KB", "xyzzy"], "no entity has a name like 'xyzzy'; --meaning searches"),
        (["search", "KB", "Tbilisi", "--where", "type=state"], "leave --where out"),
        (["search", "KB", "Tbilisi", "--where", "type=staat"], "no entity has type 'staat'; nearest: state (1)"),
        (["search", "KB", "Tbilisi", "--meaning"], "give the model that made the vectors"),
        (["search"], "0 arguments were given; give TEXT"),
        (["search", "KB", "New", "York"], "3 arguments were given; give TEXT"),
        (["show", "KB", "none"], "no entity has the id, row or name 'none'"),
        (["show", "no-such-folder", "x"], "no-such-folder is not a knowledge base"),
    ],
)
def test_mistakes_are_one_line(folder: Path, blink: Run, arguments: list[str], said: str) -> None:
    status, out, err = blink("kb", *(str(folder) if argument == "KB" else argument for argument in arguments))
    assert status != 0
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_search_by_meaning(folder: Path) -> None:
    base = KnowledgeBase.open(folder)
    base.encode = toys.letter_counts()
    found = search_names(base, "Tbilisi", 6, meaning=True)
    assert {of.entity.row for of in found} == set(range(6))
    by_meaning = [of.entity.row for of in found if of.match == "meaning"]
    scores = np.asarray(base.vectors) @ toys.letter_counts()([Entity(0, "Tbilisi")])[0]
    assert by_meaning == sorted(by_meaning, key=lambda row: -scores[row])
    with pytest.raises(SettingsError, match="at least 1"):
        base.search_names("x", 0)


names = st.sampled_from(["Maria", "maria", "Marias", "Maria Callas", "Mar-ia", "Anna", "Anna Maria", "mária"])


@settings(max_examples=25)
@given(
    entities=st.lists(st.tuples(names, st.lists(names, max_size=2), st.sampled_from("xy")), min_size=1, max_size=12),
    limit=st.integers(1, 12),
    where=st.sampled_from([None, "type=x"]),
)
def test_every_entity_of_the_name_comes_first(
    entities: list[Any], limit: int, where: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("names") / "kb"
    lines = [{"title": title, "aliases": aliases, "types": [of]} for title, aliases, of in entities]
    lines.append({"title": "other", "aliases": [], "types": ["x"]})
    build_knowledge_base(toys.write_catalogue(out.with_suffix(".jsonl"), lines), out, toys.letter_counts(), "none")
    found = KnowledgeBase.open(out).search_names("Maria", limit, where)
    allowed = [row for row, line in enumerate(lines) if where is None or line["types"] == ["x"]]
    titled = [row for row in allowed if normalise(str(lines[row]["title"])) == "maria"]
    named = [row for row in allowed if "maria" in map(normalise, lines[row]["aliases"]) and row not in titled]
    rows = [of.entity.row for of in found]
    assert set(rows) <= set(allowed)
    assert len(set(rows)) == len(rows) <= limit
    assert set(rows[: len(titled)]) <= set(titled)
    assert set(rows[len(titled) : len(titled) + len(named)]) <= set(named)
    assert len(rows) >= min(limit, len(titled) + len(named))


@given(text=st.text(max_size=60), longest=st.integers(5, 40))
def test_lines_are_cut_at_words(text: str, longest: int) -> None:
    line = shortened(text, longest)
    assert len(line) <= longest
    whole = " ".join(text.split())
    if line == whole or not text.isascii() or not text.isprintable():
        return
    assert line.endswith("…")
    assert whole.startswith(line[:-1])


def test_a_narrow_terminal_shows_the_name_alone() -> None:
    assert entity_line(Entity(3, "Atlanta", text="A city.", types=("city",)), 20) == "row:3       Atlanta  [city]"


def test_neither_command_waits_for_torch(folder: Path) -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom blink.apps.cli import cli\n"
        f"for words in (['show', {str(folder)!r}, 'Q230'], ['search', {str(folder)!r}, 'Georgia']):\n"
        "    assert 'Georgia' in CliRunner().invoke(cli, ['kb', *words], catch_exceptions=False).output\n"
        "print([m for m in ('torch', 'transformers', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=toys.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
