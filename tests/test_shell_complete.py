"""What Tab completes in the shell."""

from __future__ import annotations

import pytest
from shell_toys import ENTITIES, play

from blink.apps.shell import session as session_module
from blink.apps.shell.complete import completions, names_of
from blink.apps.shell.session import COMMANDS
from blink.data.records import Entity

pytestmark = pytest.mark.quick


NAMES = names_of(ENTITIES)


def test_completion_offers_commands_after_a_colon() -> None:
    assert [text for _, text, _ in completions(":", NAMES, COMMANDS)] == [f":{name}" for name in COMMANDS]
    assert [text for _, text, _ in completions(":ex", NAMES, COMMANDS)] == [":explain"]
    assert completions(":explain ", NAMES, COMMANDS) == []


def test_completion_offers_names_for_the_end_of_a_text_the_longest_first() -> None:
    assert completions("to the city of l", NAMES, COMMANDS) == [("city of l", "City of Light", "Paris")]
    assert completions("in geor", NAMES, COMMANDS) == [("geor", "Georgia", "Georgia (U.S. state)")]
    assert [text for _, text, _ in completions("par", NAMES, COMMANDS)] == ["Paris", "Paris, Texas"]
    assert completions("p", NAMES, COMMANDS) == []


def test_names_lose_only_the_last_brackets() -> None:
    titles = ("Georgia (country)", "Live (at home) (album)", "(What's the Story)", "f(x)")
    names = names_of(Entity(i, title, "", None) for i, title in enumerate(titles))
    assert {name for _, name, _ in names} == {"Georgia", "Live (at home)", "(What's the Story)", "f"}


def test_large_catalogues_complete_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MOST_TITLES", 4)
    session, _ = play()
    assert session.names == []
