"""Edits of the knowledge base in the shell: :add, :fix and :undo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from shell_toys import Script, weighing

from blink.apps.shell.complete import completions
from blink.apps.shell.console import Cancelled
from blink.apps.shell.session import COMMANDS, Session
from blink.data.corrections import Corrections
from blink.data.mention_files import read_samples
from blink.errors import BlinkError, DataError, SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking.linker import Linker
from blink.linking.repair import entity_called, fix_link, new_entity
from blink.model.biencoder import BiEncoder
from tests import toys

LINES = [
    {"title": "Saturn", "text": "a planet", "kb_idx": "Q193"},
    {"title": "Titan", "text": "a moon", "kb_idx": "Q2565"},
    {"title": "Titan (rocket)", "text": "a rocket", "kb_idx": "Q1"},
    {"title": "Java", "text": "an island", "kb_idx": "Q3757"},
]
TEXT = "Zorblax is near Saturn"


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    """Ranks by names: what is called like the mention wins."""
    biencoder = toys.model(11, threshold=-9.0)
    biencoder.reranker = weighing(-4.0, alias=6.0, title=2.0)
    return biencoder


@pytest.fixture
def linker(model: BiEncoder, tmp_path: Path) -> Linker:
    return Linker(model, toys.knowledge_base(tmp_path / "kb", model, LINES), threshold=0.5, precision="fp32", device="cpu")


def played(linker: Linker, *lines: str | BaseException) -> tuple[Session, list[str]]:
    console = Script(*lines)
    session = Session(linker, console)
    session.run()
    return session, console.output


def linked(output: str) -> list[str]:
    """Titles on the cards of an answer."""
    return re.findall(r"→ ([\w ()]+?)  ", output)


def test_an_added_entity_is_linked_at_once_and_undo_takes_it_back(linker: Linker) -> None:
    _, output = played(linker, TEXT, ":add Zorblax | a moon of Saturn", ":undo", ":undo 2")
    assert linked(output[0]) == ["Saturn"]
    assert output[1].startswith("added row 4: Zorblax; :undo takes it back\n[Zorblax] is near [Saturn]")
    assert linked(output[1]) == ["Zorblax", "Saturn"]
    assert output[2].startswith("undone:\n  - row 4: Zorblax\nZorblax is near [Saturn]")
    assert output[3].startswith("undone:\n  + row 4: Zorblax\n[Zorblax]")
    assert [entity.title for entity in KnowledgeBase.open(linker.kb.require_folder()).catalogue][4:] == ["Zorblax"]


def test_corrections_are_noted_and_saved_as_a_mention_file(
    linker: Linker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "fixes.jsonl"
    text = "Saturn and Java"
    _, output = played(
        linker, ":save x", text, ":wrong 1", ":fix 2 Q193", f":save {file}", ":undo", ":right", ":right 3", ":wrong 9"
    )
    assert "nothing is noted yet" in output[0]
    (saved,) = read_samples(file)
    assert saved.partial
    assert [(m.start, m.kb_id) for m in saved.mentions or ()] == [(0, None), (11, "Q193")]
    assert any("noted as right: “Saturn”, “Java”" in line for line in output)
    # Leaving keeps what was not saved. The undone fix is forgotten, and all links were said to be right.
    (kept,) = read_samples(tmp_path / "cache" / "blink" / "corrections.jsonl")
    assert [m.kb_id for m in kept.mentions or ()] == ["Q193", "Q3757"]
    assert "1 corrected texts are in" in output[-1]
    assert len(list(Corrections.read(file))) == 1


def test_an_undone_fix_is_no_correction(linker: Linker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    session, _ = played(linker, "Java", ":fix 1 Q193", ":undo")
    assert len(session.corrections) == 0
    assert not (tmp_path / "cache" / "blink" / "corrections.jsonl").exists()


def test_title_and_description_are_asked_for(linker: Linker) -> None:
    session, output = played(
        linker, ":add", "Zorblax", "a moon", ":add Zorb", "", ":add", "Zo | x", ":add Zed", Cancelled(""), "z"
    )
    assert session.console.prompts[:3] == [session.look.first, "title: ", "description: "]  # type: ignore[attr-defined]
    assert [line.split(";")[0] for line in output[:4]] == [
        "added row 4: Zorblax",
        "added row 5: Zorb",
        "added row 6: Zo",
        "nothing was added\n",
    ]
    assert [(e.title, e.text) for e in linker.catalogue][4:] == [("Zorblax", "a moon"), ("Zorb", ""), ("Zo", "x")]


def test_a_fixed_link_names_the_other_entity_from_now_on(linker: Linker) -> None:
    linker.kb.add({"title": "Zorblax", "text": "a moon"})
    _, output = played(
        linker, TEXT, ":fix 1 Q193", ":fix 1 Saturn", ":fix 2 Q193", ":undo", ":fix 1", "java", ":fix 1", Cancelled("")
    )
    assert linked(output[0]) == ["Zorblax", "Saturn"]
    assert "“Zorblax” is now a name of row 0: Saturn (Q193); :undo takes it back" in output[1]
    assert "Zorblax" in linker.catalogue[3].aliases
    assert "“Zorblax” is a name of row 0: Saturn (Q193) already" in output[2]
    assert "Zorblax still fits this text better" in output[2]
    assert "“Saturn” is a name of row 0: Saturn (Q193) already" in output[3]
    assert output[4].startswith("undone:\n  ~ row 0: Saturn (Q193): aliases\n")
    assert "“Zorblax” is now a name of row 3: Java (Q3757)" in output[5]
    assert output[6] == "the link stays as it is\n"


def test_a_fix_says_what_was_corrected(linker: Linker) -> None:
    """All that is needed to keep the correction."""
    (link,) = linker("it is Saturn").links
    fixed = fix_link(linker.kb, "it is Saturn", link, "Java")
    assert (fixed.text, fixed.link, fixed.entity.kb_id, fixed.alias) == ("it is Saturn", link, "Q3757", "Saturn")
    assert linker.kb.history()[-1].note == "a mention of it: it is Saturn"


def test_an_entity_is_found_by_id_or_by_a_name_that_only_it_has(linker: Linker) -> None:
    kb = linker.kb
    assert entity_called(kb, "wd:Q193", []).row == 0
    assert entity_called(kb, " java ", []).row == 3
    assert entity_called(kb, "Titan", []).row == 1  # by its title alone
    assert entity_called(kb, "row:2", []).row == 2
    kb.update("Q193", aliases=["the one"])
    kb.update("Q1", aliases=["the one"])
    with pytest.raises(DataError, match=r"2 entities are called 'the one': row 0: Saturn \(Q193\); row 2: Titan \(rocket\)"):
        entity_called(kb, "the one", [])
    assert entity_called(kb, "the one", [1, 2]).row == 2
    for name in ("", "Pluto"):
        with pytest.raises(DataError, match="no entity is called"):
            entity_called(kb, name, [])


def test_bad_lines_are_refused_and_change_nothing(linker: Linker) -> None:
    session = Session(linker, Script())
    for line in (":fix 1 Java", ":undo", ":undo x", ":undo 7", ":add | text"):
        with pytest.raises(BlinkError):
            session.handle(line)
    session.handle(TEXT)
    for line in (":fix 3 Java", ":fix x Java", ":fix 1 Pluto"):
        with pytest.raises(BlinkError):
            session.handle(line)
    assert linker.kb.history() == []
    with pytest.raises(SettingsError, match="title is missing"):
        new_entity(" | a moon")


def test_names_are_completed_behind_a_command_that_takes_them(linker: Linker) -> None:
    session = Session(linker, Script())
    assert [text for _, text, _ in completions(":fix 1 sat", session.names, COMMANDS)] == ["Saturn"]
    assert completions(":explain sat", session.names, COMMANDS) == []
    session.handle(":add Satellite | x")
    assert [text for _, text, _ in completions(":fix 1 sat", session.names, COMMANDS)] == ["Satellite", "Saturn"]
