"""The commands that edit a knowledge base: what they print, and one line for every mistake."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toys

from benchmarks.live_edits import Typed
from blink.apps.shell.console import Console
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.live.importing import BLOCK, import_entities
from blink.kb.live.journal import JOURNAL_FILE

Run = Callable[..., tuple[int, str, str]]
ENCODE = toys.letter_counts(toys.HIDDEN)
N = 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    toys.model(3).save_pretrained(folder)
    return folder


@pytest.fixture
def kb(model: Path, tmp_path: Path) -> Path:
    toys.knowledge_base(tmp_path / "kb", toys.model(3), toys.rows(N))
    return tmp_path / "kb"


def test_an_entity_from_its_addition_to_a_rollback(blink: Run, kb: Path, model: Path) -> None:
    new = ["--title", "Zorblax", "--text", "a moon", "--id", "X1", "--alias", "Zorb", "--type", "moon", "--same-as", "nasa=7"]
    assert blink("kb", "add", kb, *new, "--model", model)[:2] == (0, f"added row {N}: Zorblax (X1)\n")
    _, out, _ = blink("kb", "update", kb, "X1", "--text", "a large moon", "--alias", "", "--model", model, "--json")
    line = {"title": "Zorblax", "text": "a large moon", "kb_idx": "X1", "types": ["moon"], "ids": {"nasa": "7"}}
    assert json.loads(out) == {"row": N, **line}
    assert blink("kb", "list", kb, "--changed")[1] == f"+ row {N}: Zorblax (X1)\n"
    assert blink("kb", "snapshot", kb, "monday")[0] == 0
    assert blink("kb", "remove", kb, "nasa:7", 0, "--note", "gone")[0] == 0
    assert blink("kb", "list", kb, "--changed")[1] == "- row 0: Georgia 0\n"
    assert len(blink("kb", "list", kb)[1].splitlines()) == N - 1
    assert "remove  gone" in blink("kb", "history", kb, "--last", 1)[1]
    assert blink("kb", "undo", kb)[0] == 0
    out = blink("kb", "list", kb, "--json")[1]
    assert json.loads(out.splitlines()[-1]) == {"row": N, **line}
    assert blink("kb", "rollback", kb, 0)[0] == 0
    assert blink("kb", "list", kb, "--changed")[1] == ""
    assert blink("kb", "rollback", kb, "monday")[0] == 0
    history = [json.loads(of) for of in blink("kb", "history", kb, "--json")[1].splitlines()]
    kinds = ["add", "update", "snapshot", "remove", "undo", "rollback", "rollback"]
    assert [of["kind"] for of in history] == kinds
    assert history[3]["undone_by"] == 5
    assert history[-1]["edits"] == [{"row": N, "before": None, "after": line}]


MISTAKES = [
    (["add"], "give either --title"),
    (["add", "--text", "x"], "no 'title'"),
    (["add", "--title", "x", "--same-as", "nasa"], "--same-as is 'nasa'"),
    (["add", "--title", "x", "--id", "Q101"], "the id 'Q101' is that of row 1 (Tbilisi 1)"),
    (["add", "--title", "x", "--atomic"], "--atomic is for a FILE"),
    (["add", "missing.jsonl"], "missing.jsonl does not exist"),
    (["update", "X9", "--text", "x"], "no entity has the id 'X9'"),
    (["update", "Q101"], "nothing to change"),
    (["update", "Q101", "--title", ""], "'title' is empty"),
    (["remove", "Q101", "99"], "no row 99"),
    (["undo"], "no edit to undo"),
    (["undo", "7"], "no edit 7: nothing was edited"),
    (["rollback", "monday"], "no snapshot 'monday': there are none"),
    (["snapshot", "7"], "cannot have the name"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_mistakes_are_one_line(blink: Run, kb: Path, words: list[str], message: str) -> None:
    status, out, err = blink("kb", words[0], kb, *words[1:])
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (kb / JOURNAL_FILE).exists()


def test_another_model_or_none_is_one_line(blink: Run, kb: Path, tmp_path: Path) -> None:
    toys.model(5).save_pretrained(tmp_path / "other")
    status, _, err = blink("kb", "add", kb, "--title", "x")
    assert status == 1
    assert "--model MODEL" in err
    status, _, err = blink("kb", "add", kb, "--title", "x", "--model", tmp_path / "other")
    assert status == 1
    assert "made by another model" in err
    assert blink("kb", "add")[0] == 2
    assert "is not a knowledge base" in blink("kb", "undo", tmp_path)[2]


def test_a_file_is_added_to_the_line_that_is_wrong_and_continued(
    blink: Run, kb: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = [{"title": f"New {i}"} | ({"kb_idx": f"N{i}"} if i % 2 else {}) for i in range(10)]
    file = toys.write_catalogue(tmp_path / "new.jsonl", [*lines[:7], {"title": "again", "kb_idx": "N1"}])
    status, _, err = blink("kb", "add", kb, file, "--model", model)
    assert (status, err) == (
        1,
        f"blink: entity 8: the id 'N1' is that of row {N + 1} (New 1); update that entity, or give another id\n",
    )
    toys.write_catalogue(file, lines)
    assert blink("kb", "add", kb, file, "--model", model)[1] == "added 3 entities; 7 were there already\n"
    assert blink("kb", "add", kb, file, "--model", model, "--json")[1] == '{"added": 0, "present": 10}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"title": "from a pipe"}\n\n{"title": 3}\n')))
    assert "entity 2: 'title'" in blink("kb", "add", kb, "-", "--model", model)[2]
    assert len(blink("kb", "history", kb, "--json")[1].splitlines()) == 11


def test_all_of_a_file_or_nothing(blink: Run, kb: Path, model: Path, tmp_path: Path) -> None:
    file = toys.write_catalogue(tmp_path / "new.jsonl", [{"title": "a"}, {"title": "b", "kb_idx": "Q101"}])
    status, _, err = blink("kb", "add", kb, file, "--atomic", "--model", model)
    assert status == 1
    assert "nothing was added: the id 'Q101'" in err
    toys.write_catalogue(file, [{"title": "a"}, {"title": "b"}])
    assert blink("kb", "add", kb, file, "--atomic", "--model", model)[0] == 0
    (transaction,) = KnowledgeBase.open(kb).history()
    assert len(transaction.edits) == 2
    blink("kb", "undo", kb)
    assert blink("kb", "list", kb, "--changed")[1] == ""


def test_an_import_is_whole_at_every_block(kb: Path) -> None:
    base = KnowledgeBase.open(kb)
    base.encode = ENCODE
    entities = [{"title": f"New {i}", "kb_idx": f"N{i}"} for i in range(2 * BLOCK + 7)]
    counts = import_entities(base, entities)
    assert (counts.added, counts.present) == (len(entities), 0)
    counts = import_entities(base, [*entities, {"title": "one more"}])
    assert (counts.added, counts.present) == (1, len(entities))


@pytest.mark.slow
def test_a_stopped_import_keeps_what_was_added(kb: Path, model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "blink.apps.cli", "kb", "add", str(kb), "-", "--model", str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        lines = "".join(json.dumps({"title": f"New {i}", "kb_idx": f"N{i}"}) + "\n" for i in range(BLOCK))
        process.stdin.write(lines.encode())
        process.stdin.flush()
        reader = KnowledgeBase.open(kb)
        while not reader.refresh():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        err = process.stderr.read().decode()
        assert process.wait() == 130
    assert f"stopped; {BLOCK} edits were made and are kept; the same command continues" in err
    assert KnowledgeBase.open(kb).changes.number == BLOCK


def test_entities_of_a_table_are_added(blink: Run, kb: Path, model: Path, tmp_path: Path) -> None:
    table = tmp_path / "more.csv"
    table.write_text("id;name;aliases\r\nX1;Zorblax;Zorb|Z\r\n;;\r\nX2;Kepler Prize;\r\n", encoding="utf-16")
    assert blink("kb", "add", kb, table, "--model", model)[:2] == (0, "added 2 entities; 0 were there already\n")
    base = KnowledgeBase.open(kb)
    assert [(e.title, e.aliases) for e in base.catalogue.iter(N)] == [("Zorblax", ("Zorb", "Z")), ("Kepler Prize", ())]
    table.write_text("id,name\nX3,Java\nX4\n")
    status, _, err = blink("kb", "add", kb, table, "--model", model, "--atomic")
    assert status == 1
    assert "more.csv, line 3: 1 fields, the header has 2" in err
    assert len(KnowledgeBase.open(kb).catalogue) == N + 2


def test_the_console_of_the_benchmark_has_all_of_a_console() -> None:
    assert {name for name in vars(Console) if not name.startswith("_")} <= set(dir(Typed))
