"""The shell through a pipe: JSON lines, and the dialogue of the original's script."""

from __future__ import annotations

import io
import json
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell_toys import ToyLinker

from blink.apps.shell import run
from blink.apps.shell.console import LineConsole
from blink.apps.shell.run import run_dialogue, run_shell
from blink.apps.shell.session import Session
from blink.apps.shell.stream import line_blocks, link_stream
from blink.errors import DataError
from blink.explaining.cards import PLAIN_DIALOGUE

pytestmark = pytest.mark.quick


def test_a_pipe_gets_a_json_object_per_line_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    link_stream(ToyLinker(), io.BytesIO(b"\xef\xbb\xbfParis\r\n\nno\nGeorgia"))  # type: ignore[arg-type]
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["Paris", "", "no", "Georgia"]
    assert rows[1] == {"text": "", "links": []}
    assert rows[0]["links"][0]["kb_id"] == "Q90"
    assert list(rows[0]["links"][0]) == [
        "start",
        "end",
        "mention",
        "row",
        "kb_id",
        "title",
        "score",
        "description",
        "url",
        "types",
        "candidates",
    ]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r\ufeff"), max_size=8), min_size=1), st.data())
def test_lines_do_not_depend_on_how_they_arrive(lines: list[str], data: st.DataObject) -> None:
    content = "\n".join(lines).encode() + b"\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(content)), max_size=5)) | {0, len(content)})
    chunks = [content[a:b] for a, b in pairwise(cuts)] + [b""]
    stream = SimpleNamespace(read1=lambda size: chunks.pop(0))
    assert [line.decode() for block in line_blocks(stream) for line in block] == lines  # type: ignore[arg-type]


def test_a_program_may_wait_for_the_answer_before_it_writes_on(capsys: pytest.CaptureFixture[str]) -> None:
    answered = []

    class Partner:
        chunks = iter([b"Paris\n", b"Georgia\nit", b"\n", b""])

        def read1(self, size: int) -> bytes:
            answered.append(capsys.readouterr().out.count("\n"))
            return next(self.chunks)

    link_stream(ToyLinker(), Partner())  # type: ignore[arg-type]
    assert answered == [0, 1, 1, 1]


def test_a_bad_line_is_named_after_those_before_it_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    for bad in (b"a\0b", b"\xff", b"\xed\xa0\x80"):
        with pytest.raises(DataError, match="standard input, line 2"):
            link_stream(ToyLinker(), io.BytesIO(b"Paris\n" + bad + b"\nit\n"))  # type: ignore[arg-type]
        assert len(capsys.readouterr().out.splitlines()) == 1
    with pytest.raises(DataError, match="is empty"):
        link_stream(ToyLinker(), io.BytesIO(b""))  # type: ignore[arg-type]


def test_run_shell_reads_the_pipe_and_prints_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Paris\n")))
    monkeypatch.setattr(run, "open_linker", lambda *args, **options: ToyLinker())
    run_shell(None, None, None, 64, precision="auto", device=None)
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["Paris"]


def test_the_dialogue_through_a_pipe_prints_prompts_and_labelled_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dialogue = b"Is it Paris?\nc\n-9\nn\n\xff\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(dialogue)))
    linker = ToyLinker()
    run_dialogue(linker)
    out = capsys.readouterr().out
    assert linker.texts == ["Is it Paris?"]
    assert out.startswith(
        "insert text: Is it Paris?\nIs it [Paris]?\n\nParis\n  Wikidata ID: Q90\n  Title: Paris\n  Score: -0.2"
    )
    assert "  Triple: ('0', 2, 3)\n  Text: Capital of France on the Seine.\n" in out
    assert "Next question [n] / change threshold [c]: c\nthe threshold is -2\nnew threshold: -9\nIs [it] [Paris]?\n" in out
    assert "Next question [n] / change threshold [c]: n\ninsert text: " in out
    assert "it\n  Title: Nameless\n" in out
    assert out.count("not UTF-8") == 1
    assert out.endswith("insert text: \n")


def test_the_dialogue_takes_lines_from_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    run_dialogue(ToyLinker(), lines=["Paris", "Georgia", ":quit"])
    out = capsys.readouterr().out
    assert out.count("Next question [n] / change threshold [c]: ") == 2


def test_plain_output_survives_an_encoding_that_lacks_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Session(ToyLinker(), LineConsole(["Café Paris", "it"]), PLAIN_DIALOGUE).run()
    assert b"Caf? [Paris]" in raw.getvalue()
