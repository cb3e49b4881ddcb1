"""Links under a filter: never to a forbidden entity, and otherwise those of a knowledge base without the forbidden ones."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prior_toys import table, weights
from shell_toys import weighing

from blink.data.prior_file import Prior
from blink.data.records import LinkedText
from blink.errors import SettingsError
from blink.kb.index.selector import RowSelector
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.subset import subset
from blink.linking.graph_prior import scorer_fingerprint
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder
from tests import toys

OPTIONS: dict[str, Any] = {"precision": "fp32", "device": "cpu"}
N = 24
KINDS = ("city", "person", "river")
LINES = [
    row
    | {"types": [KINDS[i % 3]], "tags": ["even"] if i % 2 == 0 else []}
    | ({"aliases": [*row.get("aliases", []), "Java", f"Osl{i}"]} if i % 5 == 0 else {})
    for i, row in enumerate(toys.rows(N))
]
TEXTS = [
    "see Oslo 7 and the java the 8th",
    "Georgia 0, Atlanta 2 and Oslo 17; " * 9,
    "Ohio River 3, Ohio River 13 and Ohio River 23 meet Lake Garda 14. Java is Java 18.",
    "Mont Elbrus 6 and Turng 9",
]


@pytest.fixture(scope="module")
def model() -> BiEncoder:
    biencoder = toys.model(11, threshold=-9.0, hard_breaks=True)
    biencoder.reranker = weighing(-1.0, alias=3.0, dice=4.0, logit=0.02, entities=0.3, namesakes=-0.2)
    return biencoder


@pytest.fixture(scope="module")
def kb(model: BiEncoder, tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return toys.knowledge_base(tmp_path_factory.mktemp("kb") / "kb", model, LINES)


@pytest.fixture(scope="module")
def linker(model: BiEncoder, kb: KnowledgeBase) -> Linker:
    ids = [entity.kb_id for entity in kb.catalogue if entity.kb_id]
    scorer = scorer_fingerprint(model, model.reranker)
    of_model = weights(scorer, text=toys.HIDDEN, vector=2.0, popularity=0.5, coherence=1.0, cutoff=-9.0)
    return Linker(model, kb, prior=Prior(table(ids), (of_model,)), threshold=0.0, document=True, **OPTIONS)


def plain(linked: Sequence[LinkedText]) -> list[Any]:
    """Links and candidates without scores."""
    return [[(x.start, x.end, x.row, [(c.row, c.title) for c in x.candidates]) for x in of.links] for of in linked]


def scores(linked: Sequence[LinkedText]) -> np.ndarray:
    return np.array([c.score for of in linked for x in of.links for c in x.candidates])


sets_of_rows = st.sets(st.integers(0, N - 1), min_size=1, max_size=N)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(allowed=sets_of_rows, spans=st.booleans())
def test_no_link_and_no_candidate_is_forbidden(linker: Linker, allowed: set[int], spans: bool) -> None:
    where = {"row": allowed}
    given_spans = [[(0, 4), (5, 9)] for _ in TEXTS] if spans else None
    rows = {c.row for of in linker(TEXTS, given_spans, where) for x in of.links for c in x.candidates}
    assert rows <= allowed
    for analysis in linker.analyze(TEXTS, spans=given_spans, where=where, keep=("features", "scores_before_prior")):
        assert analysis.features is not None
        assert analysis.scores_before_prior is not None
        for of in (analysis.spans, analysis.features.spans, analysis.scores_before_prior):
            assert set(of.rows[of.rows >= 0].tolist()) <= allowed


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(allowed=sets_of_rows)
def test_links_are_those_of_the_allowed_entities_alone(model: BiEncoder, kb: KnowledgeBase, allowed: set[int]) -> None:
    small = subset(kb, set(range(N)) - allowed)
    options = {"threshold": 0.0, "document": True, **OPTIONS}
    alone, filtered = Linker(model, small.base, **options), Linker(model, kb, where={"row": allowed}, **options)
    old_rows = np.append(np.flatnonzero(small.row_of >= 0), -1)
    for one, other in zip(filtered.analyze(TEXTS), alone.analyze(TEXTS), strict=True):
        assert one.span_characters() == other.span_characters()
        np.testing.assert_array_equal(one.spans.rows, old_rows[other.spans.rows])
        np.testing.assert_allclose(one.spans.entity_logits, other.spans.entity_logits, atol=2e-4)


@pytest.mark.parametrize("rank", [True, False])
def test_a_filter_of_everything_changes_nothing(linker: Linker, model: BiEncoder, kb: KnowledgeBase, rank: bool) -> None:
    one = linker if rank else Linker(model, kb, rank=False, **OPTIONS)
    unfiltered, filtered = one(TEXTS), one(TEXTS, where=f"row={'|'.join(map(str, range(N)))}")
    assert plain(unfiltered) == plain(filtered)
    np.testing.assert_array_equal(scores(unfiltered), scores(filtered))


def test_filters_of_linker_and_call_both_hold(model: BiEncoder, kb: KnowledgeBase) -> None:
    one = Linker(model, kb, where="type=city|river", **OPTIONS)
    rows = {c.row for of in one(TEXTS, where={"tag": "even"}) for x in of.links for c in x.candidates}
    assert rows
    assert rows <= {row for row in range(N) if row % 3 != 1 and row % 2 == 0}
    again = pickle.loads(pickle.dumps(one.options)).where
    assert again == one.options.where
    both = one.explain(TEXTS[0], where="tag=even")[0]
    assert plain([both]) == plain(one([TEXTS[0]], where="tag=even"))


def test_a_filter_that_cannot_be_right_is_refused_at_once(model: BiEncoder, kb: KnowledgeBase) -> None:
    with pytest.raises(SettingsError, match=r"no entity has type 'town'; .*"):
        Linker(model, kb, where="type=town", **OPTIONS)
    with pytest.raises(SettingsError, match="no 'kind'"):
        Linker(model, kb, **OPTIONS)("x", where={"kind": "city"})


def test_a_filter_of_nothing_links_nothing(linker: Linker) -> None:
    assert [of.links for of in linker(TEXTS, where="type=city & type=person")] == [() for _ in TEXTS]
    assert linker("see Oslo 7", spans=[(4, 8)], where="type=city & type=person").links == ()


class _Careless:
    """A stage of a user that knows of no filter."""

    def __init__(self, row: int) -> None:
        self.row = row

    def rescore(self, spans: Any, *_: Any) -> Any:
        rows = spans.rows.copy()
        rows[:, 0] = self.row
        return replace(spans, rows=rows)


def test_a_stage_that_knows_of_no_filter_adds_no_forbidden_entity(model: BiEncoder, kb: KnowledgeBase) -> None:
    careless = Linker(model, kb, threshold=0.0, stages={"document": _Careless(4)}, **OPTIONS)
    assert {x.row for x in careless(TEXTS[0]).links} == {4}
    for analysis in careless.analyze(TEXTS, where="row!=4"):
        assert 4 not in analysis.spans.rows


def test_a_filter_follows_edits(model: BiEncoder, tmp_path: Path) -> None:
    base = toys.knowledge_base(tmp_path / "kb", model, LINES)
    one = Linker(model, base, threshold=0.0, where="type=city", **OPTIONS)
    assert {c.row for x in one("see Oslo 7 and Oslo 17").links for c in x.candidates} <= set(range(0, N, 3))
    added = base.add({"title": "Oslo 77", "types": ["City"], "kb_idx": "X1"})
    base.update(0, types=["person"])
    rows = {c.row for of in one([*TEXTS, "see Oslo 77"]) for x in of.links for c in x.candidates}
    assert added.row in rows
    assert rows <= set(range(3, N, 3)) | {added.row}
    base.remove(added.row)
    assert added.row not in {c.row for x in one("see Oslo 77").links for c in x.candidates}


def test_filters_are_evaluated_once(linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    linker("x", where="type=river")
    made: list[RowSelector] = []
    real = RowSelector.__init__
    monkeypatch.setattr(RowSelector, "__init__", lambda self, mask: (made.append(self), real(self, mask))[1])
    for _ in range(3):
        linker("see Oslo 7", where="type=river")
    assert made == []


def test_eval_counts_gold_of_forbidden_entities_as_not_in_the_catalogue(kb: KnowledgeBase, model: BiEncoder) -> None:
    from blink.data.records import Mention, Sample
    from blink.evaluation.run import _within_filter

    one = Linker(model, kb, where="type=city", **OPTIONS)
    (sample,) = _within_filter([Sample("a", "ab cd ef", (Mention(0, 2, 0), Mention(3, 5, 1), Mention(6, 8)))], one)
    assert [m.row for m in sample.mentions or ()] == [0, -1, -1]


def test_the_command_line(kb: KnowledgeBase, model: BiEncoder, tmp_path: Path, blink: Any) -> None:
    model.save_pretrained(tmp_path / "model")
    base = ["--model", tmp_path / "model", "--kb", kb.require_folder(), "--threshold", "0", "--precision", "fp32"]
    (tmp_path / "deny.txt").write_text("row:7\n")
    status, out, err = blink("link", TEXTS[0], "--json", "--where", "tag!=even", "--deny", tmp_path / "deny.txt", *base)
    assert status == 0, err
    rows = {c["row"] for x in json.loads(out)["links"] for c in x["candidates"]}
    assert rows
    assert rows <= set(range(1, N, 2)) - {7}
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS) + "\n")
    bulk = ("link", "--file", texts, "--out", tmp_path / "out.jsonl", "--deny", tmp_path / "deny.txt", *base)
    status, _, err = blink(*bulk)
    assert status == 0, err
    links = [json.loads(line)["links"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all(c["row"] != 7 for of in links for x in of for c in x["candidates"])
    status, _, err = blink("link", "x", "--where", "type=town", *base)
    assert status == 1
    assert "no entity has type 'town'" in err
    status, _, err = blink("eval", "--preds", "x.npz", "--where", "type=city")
    assert status == 2
    assert "leave them out" in err
