"""What is measured on a file, or on a sample, is what is named, and is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from graph_toys import TRAIN, random_graph, toy_settings, write_triples
from lm_toys import settings_for, write_world
from outcomes import done, refused

pytest.importorskip("pykeen", reason="needs the extra kglm")

from blink.kglm.graph import ranking
from blink.kglm.graph.answers import answers_of
from blink.kglm.graph.ranking import RelationFrequency, rank, sampled_candidates
from blink.kglm.kinds import runner_for

Blink = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for split, rows in (("train", TRAIN[:6]), ("valid", [("ada", "knows", "eve")]), ("test", [("dan", "parent", "eve")])):
        write_triples(folder / "g" / f"{split}.txt", rows)
    runner_for("graph").train(toy_settings(folder / "g", train__epochs=5), folder / "run")
    return folder / "run"


def test_a_file_of_the_test_triples_is_the_test_split(blink: Blink, run: Path) -> None:
    split = json.loads(done(blink("kglm", "eval", run, "--json"))[0])
    stored = (run / "metrics.json").read_text()
    file = json.loads(done(blink("kglm", "eval", run, "--data", run.parent / "g" / "test.txt", "--json"))[0])
    assert file == {name: split[name] for name in ("ranking", "relation_frequency")}
    assert (run / "metrics.json").read_text() == stored


def test_a_file_with_strangers_is_refused_by_count(blink: Blink, run: Path, tmp_path: Path) -> None:
    rows = [("ada", "knows", "zoe"), ("yan", "knows", "zoe"), ("ada", "hates", "ben"), TRAIN[0]]
    file = write_triples(tmp_path / "f.tsv", rows)
    words = ("3 of 4 triples have 3 entities or relations that the run lacks", "first 'zoe'", "f.tsv, line 1")
    refused(blink("kglm", "eval", run, "--data", file), *words)
    refused(blink("kglm", "eval", run, "--data", tmp_path / "nowhere.tsv"), "nowhere.tsv")


def test_text_of_a_language_model(blink: Blink, tmp_path: Path) -> None:
    world, runner = write_world(tmp_path / "world"), runner_for("lm")
    runner.train(settings_for(world, changes={"train.epochs": 1}), tmp_path / "run")
    split = runner.evaluate(tmp_path / "run", "test")
    file = json.loads(done(blink("kglm", "eval", tmp_path / "run", "--data", world / "lm" / "test.txt", "--json"))[0])
    assert file["perplexity"] == pytest.approx(split["perplexity"], rel=1e-12)
    (tmp_path / "blank.txt").write_text(" \n")
    refused(blink("kglm", "eval", tmp_path / "run", "--data", tmp_path / "blank.txt"), "holds no words")


class TestSamples:
    def test_ranks_among_a_sample_are_those_of_a_count(self) -> None:
        graph = random_graph(40, 3, 200, valid=20)
        train, valid = (torch.from_numpy(graph.splits[name]) for name in ("train", "valid"))
        scorer, answers = RelationFrequency(train, 40), answers_of([train, valid], 40, 3)
        candidates = sampled_candidates(40, 15, seed=3)
        assert candidates is not None
        assert len(candidates.unique()) == 15
        whole = rank(scorer, valid, answers, 40)
        for chunk in (4, 15, 99):
            ranks = rank(scorer, valid, answers, 40, candidates=candidates, chunk=chunk, batch_size=7)
            scores = scorer.scores(ranks.queries, slice(0, 40))
            for i in range(len(ranks.answers)):
                target = int(ranks.answers[i])
                query = answers.find(ranks.queries[i : i + 1])
                true = {int(e) for e in answers.of(query)[1]}
                others = [float(scores[i, e]) for e in candidates.tolist() if e not in true]
                assert int(ranks.optimistic[i]) == 1 + sum(s > float(scores[i, target]) for s in others)
                assert int(ranks.equal[i]) == sum(s == float(scores[i, target]) for s in others)
            assert (ranks.optimistic <= whole.optimistic).all()

    @pytest.mark.parametrize("count", [0, 5, 9])
    def test_all_of_them_are_no_sample(self, count: int) -> None:
        assert sampled_candidates(5, count, 0) is None

    @pytest.mark.parametrize("limit", [1, 7, 50])
    def test_batches_of_queries_with_many_answers_are_smaller(self, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        graph = random_graph(12, 2, 100, valid=15)
        train, valid = (torch.from_numpy(graph.splits[name]) for name in ("train", "valid"))
        answers, scorer, sizes = answers_of([train, valid], 12, 2), RelationFrequency(train, 12), list[int]()
        whole = rank(scorer, valid, answers, 12)
        monkeypatch.setattr(ranking, "FILTERED_AT_ONCE", limit)
        ranks = rank(scorer, valid, answers, 12, progress=sizes.append)
        assert torch.equal(ranks.realistic, whole.realistic)
        assert sum(sizes) == 30
        assert max(sizes) <= max(limit, 1)

    def test_a_sample_is_said(self, blink: Blink, run: Path) -> None:
        settings = toy_settings(run.parent / "g", train__epochs=1, eval__candidates=3, eval__triples=1)
        runner_for("graph").train(settings, run.parent / "sampled")
        out, err = done(blink("kglm", "eval", run.parent / "sampled", "--split", "test"))
        assert "ranks are among 3 sampled entities of 5, so figures are higher" in err
        assert "candidates 3" in out
