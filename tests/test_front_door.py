"""What `import blink` offers, and how a first user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toys

import blink
from blink.data.records import LinkedText, Mention
from blink.errors import DataError, SettingsError
from blink.linking.linker import Linker
from blink.linking.opening import open_linker
from blink.linking.spans import character_span, character_spans

TEXT = "Who governed Georgia before Atlanta burned?"


@pytest.fixture(scope="module")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Linker:
    model = toys.model(6)
    kb = toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, toys.rows(20))
    return Linker(model, kb, threshold=-12.0, precision="fp32", device="cpu")


def test_names_are_listed_and_importing_them_waits_for_their_use() -> None:
    names = {"load", "Linker", "KnowledgeBase", "Entity", "Mention", "Link", "LinkedText", "Candidate", "BlinkError"}
    assert names | {"__version__"} <= set(dir(blink)) == set(blink.__all__)
    assert all(getattr(blink, name) is not None for name in blink.__all__)
    with pytest.raises(AttributeError, match="'blink' has no attribute 'smell'"):
        _ = blink.smell
    code = "import sys, blink; print([m for m in ('torch', 'transformers', 'faiss', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (Path(blink.__file__).parent / "py.typed").is_file()


def test_load_is_the_starter_as_the_command_opens_it() -> None:
    options = {"precision": "fp32", "device": "cpu"}
    loaded, named, command = (
        blink.load(**options),
        Linker.from_pretrained("starter", **options),
        open_linker(None, None, **options),
    )
    texts = ["Who is the president of Georgia?", "Java and Mercury near Paris", ""]
    assert loaded(texts) == named(texts) == command(texts)
    assert loaded.options == named.options == command.options
    assert loaded.options.prior_file is not None
    assert loaded.thresholds == command.thresholds
    assert blink.load(rank=False, **options).options.prior_file is None
    assert "starter" in repr(loaded)
    assert "entities" in repr(loaded)


def test_a_model_without_a_knowledge_base_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="name the knowledge base built with that model"):
        blink.load(tmp_path / "model")


def test_one_text_or_a_list(linker: Linker) -> None:
    one = linker(TEXT)
    assert isinstance(one, LinkedText)
    several = linker([TEXT, "Oslo"])
    assert [t.text for t in several] == [TEXT, "Oslo"]
    for batched, alone in zip(several, (one, linker("Oslo")), strict=True):
        assert [(x.start, x.end, x.row) for x in batched.links] == [(x.start, x.end, x.row) for x in alone.links]
    assert linker([]) == []
    assert linker([TEXT, "Oslo"], spans=[[(13, 20)], []])[0].links[0].mention == "Georgia"


def test_plain_values(linker: Linker) -> None:
    linked = linker(TEXT)
    assert linked.links
    assert linked.entities == linked.links
    assert linked.to_dict() == linked.to_json()
    rows = linked.to_spans()
    assert [row["mention"] for row in rows] == [link.mention for link in linked.links]
    assert all(not isinstance(value, list | dict | tuple) for row in rows for value in row.values())
    first = linked.links[0]
    assert all(str(field) in repr(first) for field in (first.title, first.kb_id, first.start, first.end, f"{first.score:.3f}"))
    assert repr(first) in repr(linked)
    assert str(linker.kb.catalogue.path.parent) in repr(linker.kb)


@pytest.mark.parametrize(
    "spans",
    [
        [(13, 20), (28, 35)],
        np.array([[13, 20], [28, 35]]),
        [np.array([13, 20]), np.array([28.0, 35.0])],
        [(np.int64(13), np.int32(20)), [28, 35]],
        [(13, 20, "GPE"), {"start": 28, "end": 35, "label": "GPE"}],
        [(13.0, 20.0), Mention(28, 35)],
    ],
)
def test_spans_of_many_kinds(linker: Linker, spans: object) -> None:
    assert [link.mention for link in linker(TEXT, spans=spans).links] == ["Georgia", "Atlanta"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ((1.5, 3), "offset 1.5 of the span (1.5, 3) is no whole number"),
        ((float("nan"), 3), "is no whole number"),
        ((True, 3), "offset True"),
        (("1", 3), "offset '1'"),
        ((1,), r"a span is (1,)"),
        ((1, 2, 3, 4), "a span is (1, 2, 3, 4)"),
        (7, "a span is 7"),
        ("ab", "a span is 'ab'"),
        ({"start": 1}, "a span has the keys 'start'"),
    ],
)
def test_other_spans_are_one_clear_line(span: object, words: str) -> None:
    with pytest.raises(DataError) as caught:
        character_span(span)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_links_are_spans_and_a_pair_is_no_list_of_spans(linker: Linker) -> None:
    linked = linker(TEXT)
    assert character_spans(linked.links) == tuple((link.start, link.end) for link in linked.links)
    with pytest.raises(DataError, match="a span is 13"):
        linker(TEXT, spans=(13, 20))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="give a list of spans"):
        character_spans({"start": 1, "end": 2})  # type: ignore[arg-type]


USER_SCRIPT = """
import blink
from blink import Link, LinkedText

linker: blink.Linker = blink.load("starter", precision="fp32")
linked: LinkedText = linker("Who is the president of Georgia?")
many: list[LinkedText] = linker(["one", "two"])
first: Link = linked.entities[0]
rows = [row["title"] for row in linked.to_spans()]
score: float = first.score
for each in linker.link(iter(["a", "b"])):
    print(each.to_dict(), rows, score, many, linker("ab", spans=[(0, 1), (1, 2)]))
"""


@pytest.mark.slow
def test_a_user_s_script_type_checks(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(USER_SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache"), "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (tmp_path / "script.py").write_text(USER_SCRIPT + "\nwrong: int = linked.text\n")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).returncode == 1
