"""A linker can be pickled, copied and sent to spawned processes: it opens its folders again."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from pathlib import Path

import pytest
import toys
from prior_toys import table, weights
from shell_toys import weighing

from blink.data.prior_file import Prior, write_prior
from blink.data.records import LinkedText
from blink.linking.graph_prior import scorer_fingerprint
from blink.linking.linker import Linker
from blink.linking.reranker import Reranker

TEXTS = ["Who governed Georgia 0 before Atlanta 2 burned?", "the ohio river 3 and Oslo 7"]
OPTIONS = {"threshold": 0.01, "precision": "fp32", "device": "cpu", "entities": 5}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    model = toys.model(6)
    model.reranker = weighing(-3.0, alias=3.0, dice=4.0, logit=0.02)
    model.save_pretrained(folder / "model")
    kb = toys.knowledge_base(folder / "kb", model, toys.rows(20))
    ids = [entity.kb_id for entity in kb.catalogue if entity.kb_id]
    scorer = scorer_fingerprint(model, model.reranker)
    write_prior(folder / "prior", Prior(table(ids), (weights(scorer, text=toys.HIDDEN, vector=1.0, coherence=1.0),)))
    return folder


@pytest.fixture(scope="module")
def linker(home: Path) -> Linker:
    return Linker.from_pretrained(home / "model", home / "kb", prior=home / "prior", **OPTIONS)


def link_in_worker(linker: Linker) -> list[LinkedText]:
    return linker(TEXTS)


def test_round_trips_link_the_same(linker: Linker, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = linker(TEXTS)
    assert all(linked.links for linked in expected)
    pickled = pickle.dumps(linker)
    assert len(pickled) < 10_000  # folders and options, no weights
    monkeypatch.chdir(tmp_path)
    for again in (
        pickle.loads(pickled),
        copy.deepcopy(linker),
        copy.copy(linker),
        pickle.loads(pickle.dumps(copy.deepcopy(linker))),
    ):
        assert again(TEXTS) == expected
        assert again.options.prior_file == home / "prior"


def test_relative_paths_hold_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, linker: Linker) -> None:
    monkeypatch.chdir(home)
    pickled = pickle.dumps(Linker.from_pretrained("model", "kb", prior="prior", **OPTIONS))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickled)(TEXTS) == linker(TEXTS)


def test_a_model_in_memory_goes_along(linker: Linker) -> None:
    model = toys.model(6)
    model.reranker = weighing(-3.0, title=9.0)
    in_memory = Linker(model, linker.kb, **OPTIONS)
    for again in (pickle.loads(pickle.dumps(in_memory)), copy.deepcopy(in_memory)):
        assert again(TEXTS) == in_memory(TEXTS)


def test_replaced_stages_go_along(linker: Linker, home: Path) -> None:
    other = Reranker(weighing(-1.0, title=9.0))
    changed = Linker.from_pretrained(home / "model", home / "kb", stages={"reranker": other}, **OPTIONS)
    assert pickle.loads(pickle.dumps(changed))(TEXTS) == changed(TEXTS) != linker(TEXTS)


def test_spawned_workers_link_the_same(linker: Linker) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(link_in_worker, [linker])[0] == linker(TEXTS)
