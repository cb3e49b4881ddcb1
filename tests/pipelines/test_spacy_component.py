"""The component of spaCy: links are those of the linker, whatever batches, processes and tokens documents come in."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.errors import SettingsError
from blink.linking.linker import Linker

spacy = pytest.importorskip("spacy")

from spacy.tokens import Doc, DocBin, Span  # noqa: E402
from spacy.training import Example  # noqa: E402

TEXTS = (
    "Who governed Georgia 0 before Atlanta 2 burned?", "the ohio river 3 and Oslo 7", "", " ", "nothing here",
    "Lake Garda 4 lies near Mount Elbrus 6, wrote Turing 9. Java 8 does not.", "🏝️ Java 8\n\nOslo 7",
)  # fmt: skip
LINKED = TEXTS[0]


def pipeline(folders: Path, **config: Any) -> Any:
    nlp = spacy.blank("en")
    options = {"precision": "fp32", "device": "cpu", "entities": 5}
    given_config = {"model": str(folders / "model"), "kb": str(folders / "kb"), "threshold": 0.01, "options": options}
    nlp.add_pipe("blink", config=given_config | config)
    return nlp


@pytest.fixture(scope="module")
def nlp(folders: Path) -> Any:
    return pipeline(folders)


def links_of(doc: Doc) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in ("tokens", "aligned")} for row in doc._.blink]


def ents_of(doc: Doc) -> list[tuple[int, int, str, str]]:
    return [(ent.start_char, ent.end_char, ent.label_, ent.kb_id_) for ent in doc.ents]


def expected(linker: Linker, texts: list[str]) -> list[list[dict[str, Any]]]:
    return [[link.to_json() for link in linked.links] for linked in linker(texts)]


@settings(max_examples=20)
@given(texts=st.lists(st.sampled_from(TEXTS), max_size=9), batch_size=st.integers(1, 6))
def test_links_are_the_linkers_for_any_batch(nlp: Any, linker: Linker, texts: list[str], batch_size: int) -> None:
    docs = list(nlp.pipe(texts, batch_size=batch_size))
    assert [links_of(doc) for doc in docs] == expected(linker, texts)
    for doc in docs:
        assert [span.kb_id_ for span in doc.spans["blink"]] == [row["kb_id"] or f"row:{row['row']}" for row in doc._.blink]
        spans = [(s.start_char, s.end_char, "ENTITY", s.kb_id_) for s in doc.spans["blink"]]
        # Spans that were expanded to the same tokens cannot both be entities.
        assert ents_of(doc) == spans if all(row["aligned"] for row in doc._.blink) else set(ents_of(doc)) < set(spans)
        assert all(ent._.blink_score == ent._.blink["score"] and ent._.blink in doc._.blink for ent in doc.ents)


def test_one_document_and_processes(nlp: Any, linker: Linker) -> None:
    texts = list(TEXTS)
    assert links_of(nlp(LINKED)) == expected(linker, [LINKED])[0] != []  # the linker is in use before the fork
    docs = list(nlp.pipe(texts, n_process=2, batch_size=2))
    assert [links_of(doc) for doc in docs] == expected(linker, texts)
    assert [ents_of(doc) for doc in docs] == [ents_of(doc) for doc in nlp.pipe(texts)]
    again = list(DocBin(docs=docs, store_user_data=True).get_docs(nlp.vocab))
    assert json.dumps([doc._.blink for doc in again]) == json.dumps([doc._.blink for doc in docs])


def unaligned_doc(nlp: Any) -> Doc:
    """A text whose tokens end inside its first link and begin inside its second."""
    doc = Doc(
        nlp.vocab,
        words=["Who", "governed", "Georgia 0 before", "Atla", "nta 2", "burned?"],
        spaces=[True, True, True, False, True, False],
    )
    assert doc.text == LINKED
    return doc


@pytest.mark.parametrize("alignment", ["expand", "contract", "strict"])
def test_links_that_cut_tokens(folders: Path, linker: Linker, alignment: str, caplog: pytest.LogCaptureFixture) -> None:
    nlp = pipeline(folders, alignment=alignment)
    doc = nlp(unaligned_doc(nlp))
    assert links_of(doc) == expected(linker, [LINKED])[0]  # offsets stay those of the text
    cut = [row for row in doc._.blink if not row["aligned"]]
    assert cut
    assert nlp.get_pipe("blink").unaligned == len(cut)
    assert sum("inside a token" in message for message in caplog.messages) == 1
    for row in doc._.blink:
        span = doc.char_span(row["start"], row["end"], alignment_mode=alignment)
        assert row["tokens"] == (None if span is None else [span.start, span.end])
    assert all(row["tokens"] is None for row in cut) == (alignment != "expand")
    assert len(doc.spans["blink"]) == sum(row["tokens"] is not None for row in doc._.blink)


def test_entities_of_other_components(folders: Path) -> None:
    plain = pipeline(folders)(LINKED)
    first, *others = [(ent.start, ent.end) for ent in plain.ents]
    for overwrite in (False, True):
        nlp = pipeline(folders, overwrite_ents=overwrite)
        doc = nlp.make_doc(LINKED)
        wider = Span(doc, others[0][0] - 1, others[0][1], "PLACE")
        doc.set_ents([Span(doc, *first, "GPE"), wider])
        nlp.get_pipe("blink")(doc)
        kept = {(ent.start, ent.end): ent.label_ for ent in doc.ents}
        assert kept[first] == "GPE"  # the same span keeps its label and gets its id
        assert doc.ents[0].kb_id_ == plain.ents[0].kb_id_
        assert (kept.get((wider.start, wider.end)), kept.get(others[0])) == ((None, "ENTITY") if overwrite else ("PLACE", None))
        assert links_of(doc) == links_of(plain)


@pytest.mark.parametrize("threshold", [None, 0.5, 0.97])
def test_given_entities(folders: Path, linker: Linker, threshold: float | None) -> None:
    nlp = pipeline(folders, given_entities=True, threshold=threshold)
    nlp.add_pipe("entity_ruler", first=True).add_patterns(
        [{"label": "CITY", "pattern": name} for name in ("Oslo 7", "Atlanta 2", "burned")]
    )
    docs = list(nlp.pipe(TEXTS))
    spans = [[(ent.start_char, ent.end_char) for ent in doc.ents] for doc in docs]
    linked = linker(list(TEXTS), spans=spans)
    for doc, of_doc in zip(docs, linked, strict=True):
        kept = [link for link in of_doc.links if threshold is None or link.score > threshold]
        assert links_of(doc) == [link.to_json() for link in kept]
        ids = {(link.start, link.end): link.kb_id or f"row:{link.row}" for link in kept}
        assert [(ent.label_, ent.kb_id_) for ent in doc.ents] == [
            ("CITY", ids.get((ent.start_char, ent.end_char), "")) for ent in doc.ents
        ]
    assert [len(of_text) for of_text in spans] == [2, 1, 0, 0, 0, 0, 1]


def test_saved_pipelines_link_the_same(folders: Path, nlp: Any, tmp_path: Path) -> None:
    want = [links_of(doc) for doc in nlp.pipe(TEXTS)]
    nlp.to_disk(tmp_path / "saved")
    assert not list((tmp_path / "saved").rglob("*.safetensors"))
    from_bytes = pipeline(folders, threshold=0.9).from_bytes(nlp.to_bytes())
    component = pickle.loads(pickle.dumps(nlp.get_pipe("blink")))
    assert [links_of(doc) for doc in component.pipe(map(nlp.make_doc, TEXTS))] == want
    for again in (spacy.load(tmp_path / "saved"), from_bytes):
        assert again.get_pipe("blink").settings == nlp.get_pipe("blink").settings
        assert [links_of(doc) for doc in again.pipe(TEXTS)] == want


def test_scores_are_those_of_gold_ids(nlp: Any) -> None:
    examples = []
    for number, doc in enumerate(nlp.pipe([LINKED, TEXTS[1]])):
        gold = nlp.make_doc(doc.text)
        gold.set_ents([Span(gold, e.start, e.end, "X", kb_id="Q0" if number else e.kb_id_) for e in doc.ents])
        examples.append(Example(nlp.make_doc(doc.text), gold))
    right, wrong = (len(example.reference.ents) for example in examples)
    scores = nlp.evaluate(examples)
    assert scores["nel_micro_p"] == scores["nel_micro_r"] == pytest.approx(right / (right + wrong))


def test_mistakes(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'near'; allowed are expand, contract, strict"):
        pipeline(folders, alignment="near")
    missing = pipeline(folders, kb=str(tmp_path / "none"))
    with pytest.raises(Exception, match="is not a knowledge base"):
        missing("Oslo 7")
    failed: list[str] = []
    missing.set_error_handler(lambda name, component, docs, error: failed.extend(doc.text for doc in docs))
    assert (list(missing.pipe(["Oslo 7", "Java 8"])), failed) == ([], ["Oslo 7", "Java 8"])


def test_spacy_alone_finds_the_component(folders: Path) -> None:
    model = {"model": str(folders / "model"), "kb": str(folders / "kb")}
    config = {**model, "threshold": 0.01, "options": {"backend": "onnx"}}
    code = (
        f"import spacy; nlp = spacy.blank('en'); nlp.add_pipe('blink', config={config}); print(nlp({LINKED!r}).ents[0].kb_id_)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:4]) == (0, "row:"), done.stderr
