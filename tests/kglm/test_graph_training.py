"""Runs: what they learn, that they stop and go on anywhere, that the best state is what is left, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_toys import PEOPLE, begin, family, learner_of, random_graph, rows, toy_loop, toy_settings, weights, write_triples

from blink.errors import CheckpointError, DataError, MismatchError, SettingsError
from blink.kglm.graph.learner import GraphLearner
from blink.kglm.graph.runner import GraphRunner, open_run
from blink.kglm.run import KglmRun, run_to_end
from blink.runs.checkpoints import CHECKPOINTS_FOLDER, checkpoints
from blink.runs.finite import NotFinite
from blink.runs.progress import Progress

pytest.importorskip("pykeen", reason="needs the extra kglm")
torch.set_num_threads(1)

TESTS = Path(__file__).resolve().parent
SHARED_NEGATIVES = {"train__type": "negative", "negatives__shared": True, "negatives__count": 4}
MOVING = {
    "train__epochs": 10,
    "train__batch_size": 4,
    "model__entity_dropout": 0.2,
    "model__relation_dropout": 0.1,
    "stop__every": 2,
    "stop__patience": 0,
    "train__lr_factor": 0.7,
    "train__lr_patience": 1,
    "train__save_epochs": 1,
}
"""A run in which all that a checkpoint must hold changes all the time."""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return family(tmp_path / "family")


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs; the tests of commands look at it."""
    monkeypatch.setattr(KglmRun, "draw", lambda folder, losses, scores: None)


def assert_equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# -- learning ------------------------------------------------------------------------------------------------------------

MEMORISED: list[dict[str, Any]] = [
    {},
    {"model__name": "distmult"},
    {"model__name": "transe", "train__score_scale": 6.0},
    {"model__name": "transe", "model__arguments": {"p": 1}, "train__score_scale": 3.0},
    {"model__name": "rotate", "train__score_scale": 3.0},
    {"model__name": "rotate", "model__arguments": {"p": 2}, "train__score_scale": 6.0},
    {"model__name": "rescal", "model__dim": 8},
    {"model__reciprocal": False},
    {"train__loss": "bce", "train__lr": 0.2},
    {"train__type": "KvsAll"},
    {"train__type": "KvsAll", "train__loss": "bce", "train__label_smoothing": 0.1, "train__lr": 0.2},
    {"train__type": "negative"},
    {"train__type": "negative", "train__loss": "margin", "train__margin": 1.0},
    {"train__type": "negative", "train__loss": "bce", "negatives__draw": "frequency"},
    {**SHARED_NEGATIVES, "model__name": "rotate", "train__loss": "self_adversarial", "train__margin": 2.0},
    {"train__type": "negative", "train__subsampling": True},
    {**SHARED_NEGATIVES, "negatives__sides": "bernoulli"},
    {"train__type": "negative", "negatives__draw": "batch", "negatives__count": 0},
    {**SHARED_NEGATIVES, "model__sparse": True, "train__optimizer": "rowwise_adagrad", "train__lr": 0.5},
    {**SHARED_NEGATIVES, "model__sparse": True},
    {"train__optimizer": "adagrad", "train__lr": 0.5, "train__regularizer": "n3", "train__regularizer_weight": 1e-3},
    {"train__regularizer": "lp", "train__regularizer_weight": 1e-3, "train__clip": 1.0, "model__normalize": False},
    {"model__name": "transe", "model__normalize": True, "train__score_scale": 8.0},
]  # fmt: skip


@pytest.mark.parametrize(
    "changes", MEMORISED, ids=lambda c: ",".join(f"{k.split('__')[1]}={v}" for k, v in c.items()) or "plain"
)
def test_a_graph_of_five_entities_is_memorised(tmp_path: Path, graph: Path, changes: dict[str, Any]) -> None:
    fixed = {"train__epochs": 40, "stop__every": 20, "train__log_steps": 50}
    best = toy_loop(graph, tmp_path / "run", **{**changes, **fixed}).run().best
    # No translation of the plane takes ada to both of her children, and these to both of theirs.
    lowest = 0.7 if changes.get("model__name") == "transe" and "model__arguments" not in changes else 1.0
    assert best["mrr"] >= lowest


@pytest.mark.parametrize("kind", ["1vsAll", "KvsAll", "negative"])
def test_parts_of_a_step_give_the_step(tmp_path: Path, graph: Path, kind: str) -> None:
    regularizer = {} if kind == "KvsAll" else {"train__regularizer": "n3", "train__regularizer_weight": 0.1}
    changes = {"train__type": kind, "train__epochs": 3, **regularizer}
    loops = [toy_loop(graph, tmp_path / str(size), train__part_size=size, **changes) for size in (0, 5)]
    for trainer in loops:
        trainer.run()
    losses = [[row["loss"] for row in rows(trainer.folder.path, "step")] for trainer in loops]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(losses[0]) == 3


def test_seeds_decide(tmp_path: Path, graph: Path) -> None:
    one, same, other = (toy_loop(graph, tmp_path / str(i), **MOVING, seed=s) for i, s in enumerate((0, 0, 1)))
    for trainer in (one, same, other):
        trainer.run()
    assert_equal(weights(one), weights(same))
    assert not torch.equal(learner_of(one).model.entity_tables[0], learner_of(other).model.entity_tables[0])


# -- the best state ------------------------------------------------------------------------------------------------------


def test_the_best_state_is_what_is_left(tmp_path: Path, graph: Path) -> None:
    trainer = toy_loop(graph, tmp_path / "run", train__epochs=12, stop__every=1, stop__patience=0)
    states: dict[int, dict[str, torch.Tensor]] = {}

    def spoil(progress: Mapping[str, float]) -> None:
        if trainer.state.step > 8:
            learner_of(trainer).model.entity_tables[0].data.normal_()

    trainer.progress = Progress(step=spoil, say=lambda line: states.update({trainer.state.step: weights(trainer)}))
    best = run_to_end(trainer, resume=False)
    scores = {row["step"]: row["mrr"] for row in rows(tmp_path / "run", "validation")}
    assert best["mrr"] == max(scores.values()) > scores[12]
    assert best["step"] == min(step for step, mrr in scores.items() if mrr == best["mrr"]) <= 8
    assert_equal(weights(trainer), states[int(best["step"])])
    assert_equal(open_run(tmp_path / "run")[2].state_dict(), states[int(best["step"])])


@pytest.mark.parametrize(("delta", "last"), [(0.0, 30), (2.0, 8)])
def test_patience_counts_validations_that_are_not_better_by_delta(tmp_path: Path, graph: Path, delta: float, last: int) -> None:
    changes = {"stop__patience": 3, "stop__every": 2, "train__epochs": 30, "train__lr": 0.01 if delta else 0.0}
    trainer = toy_loop(graph, tmp_path / "run", stop__delta=delta, **{**changes, "train__lr": 0.01})
    trainer.run()
    validations = [row["epoch"] for row in rows(tmp_path / "run", "validation")]
    if delta:  # no score is better by 2: the first is the best, and three more end the run
        assert validations == [2, 4, 6, last]
    else:
        assert len(validations) > 4


def test_the_rate_falls_where_nothing_gets_better(tmp_path: Path, graph: Path) -> None:
    changes = {"stop__delta": 2.0, "stop__patience": 0, "stop__every": 1, "train__epochs": 7}
    toy_loop(graph, tmp_path / "run", train__lr_factor=0.5, train__lr_patience=2, train__lr=0.08, **changes).run()
    assert [row["rate"] for row in rows(tmp_path / "run", "validation")] == [0.08, 0.08, 0.04, 0.04, 0.02, 0.02, 0.01]


def test_a_part_of_the_validation_triples_may_choose(tmp_path: Path, graph: Path) -> None:
    validation = [learner_of(toy_loop(graph, tmp_path / str(n), stop__triples=n, seed=1))._valid for n in (0, 3, 99)]
    assert [len(triples) for triples in validation] == [8, 3, 8]
    assert set(map(tuple, validation[1].tolist())) < set(map(tuple, validation[0].tolist()))
    assert torch.equal(learner_of(toy_loop(graph, tmp_path / "again", stop__triples=3, seed=1))._valid, validation[1])


def test_validation_leaves_the_test_triples_alone(tmp_path: Path) -> None:
    """Known test answers would raise the scores that choose the best state."""
    folder = tmp_path / "graph"
    names = [f"e{i}" for i in range(12)]
    write_triples(folder / "train.txt", [(n, "r", "e0") for n in names])
    write_triples(folder / "valid.txt", [("e0", "r", "e1")])
    write_triples(folder / "test.txt", [("e0", "r", n) for n in names[2:]])
    trainer = toy_loop(folder, tmp_path / "run", train__epochs=1, stop__every=1)
    answers = learner_of(trainer)._filter.of(learner_of(trainer)._filter.find(_query(0)))[1]
    assert answers.tolist() == [0, 1]
    GraphRunner().train(toy_settings(folder, train__epochs=1, stop__every=1), tmp_path / "again")
    from blink.kglm.graph.runner import known_answers

    answers = known_answers(open_run(tmp_path / "again")[1], "test")
    assert len(answers.of(answers.find(_query(0)))[1]) == 12


def _query(entity: int) -> Any:
    from blink.kglm.graph.model import Queries

    return Queries(torch.tensor([entity]), torch.tensor([0]), torch.tensor([False]))


# -- stopping and going on -----------------------------------------------------------------------------------------------


def assert_same_run(one: Path, other: Path) -> None:
    for kind, timed in (("step", ()), ("epoch", ("seconds",)), ("validation", ())):
        result = [[{k: v for k, v in row.items() if k not in timed} for row in rows(path, kind)] for path in (one, other)]
        assert result[0] == result[1]
        assert result[0]


@pytest.mark.parametrize(
    "changes",
    [
        MOVING,
        {**MOVING, **SHARED_NEGATIVES, "model__sparse": True, "train__optimizer": "rowwise_adagrad"},
        {**MOVING, **SHARED_NEGATIVES, "model__sparse": True},
        {**MOVING, "model__name": "tucker", "model__dim": 6, "train__type": "KvsAll"},
        {**MOVING, "train__optimizer": "adagrad"},
    ],
    ids=["dropout", "rowwise", "sparse adam", "network", "adagrad"],
)
def test_ten_epochs_are_five_and_five_more(tmp_path: Path, graph: Path, changes: dict[str, Any]) -> None:
    """With stops after any step of them."""
    uninterrupted = toy_loop(graph, tmp_path / "whole", **changes)
    expected = run_to_end(uninterrupted, resume=False)
    toy_loop(graph, tmp_path / "run", **{**changes, "train__epochs": 4}).run()
    longer = KglmRun.open(tmp_path / "run", ["--train.epochs", "10"]).settings
    result = GraphRunner().train(longer, tmp_path / "run", resume=True)
    assert [result[k] for k in ("mrr", "step", "steps")] == [expected[k] for k in ("mrr", "step", "steps")]
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    last = [KglmRun(tmp_path / name, longer).load() for name in ("whole", "run")]
    assert_equal(last[0]["model"], last[1]["model"])


def test_a_run_is_not_made_longer_from_a_validation_of_its_own(tmp_path: Path, graph: Path) -> None:
    toy_loop(graph, tmp_path / "run", **{**MOVING, "train__epochs": 3}).run()
    longer = KglmRun.open(tmp_path / "run", ["--train.epochs", "10"]).settings
    with pytest.raises(SettingsError, match="at a multiple of 2"):
        GraphRunner().train(longer, tmp_path / "run", resume=True)


def test_a_finished_run_that_is_gone_on_with_stays_as_it_is(tmp_path: Path, graph: Path) -> None:
    settings = toy_settings(graph, **MOVING)
    first = GraphRunner().train(settings, tmp_path / "run")
    before = [rows(tmp_path / "run", kind) for kind in ("step", "epoch", "validation")]
    again = GraphRunner().train(settings, tmp_path / "run", resume=True)
    assert [first[k] for k in ("mrr", "step")] == [again[k] for k in ("mrr", "step")]
    assert [rows(tmp_path / "run", kind) for kind in ("step", "epoch", "validation")] == before


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, graph: Path) -> None:
    uninterrupted = toy_loop(graph, tmp_path / "whole", **MOVING)
    uninterrupted.run()
    toy_loop(graph, tmp_path / "run", **{**MOVING, "train__epochs": 4}).run()
    newest = checkpoints(tmp_path / "run" / CHECKPOINTS_FOLDER)[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    GraphRunner().train(toy_settings(graph, **MOVING), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    for path in checkpoints(tmp_path / "run" / CHECKPOINTS_FOLDER):
        path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        GraphRunner().train(toy_settings(graph, **MOVING), tmp_path / "run", resume=True)


def test_another_graph_is_noticed(tmp_path: Path, graph: Path) -> None:
    settings = toy_settings(graph, **MOVING)
    GraphRunner().train(settings, tmp_path / "run")
    write_triples(graph / "train.txt", [("ada", "parent", "ben"), ("ben", "knows", "ada"), ("ada", "likes", "eve")])
    with pytest.raises(MismatchError):
        GraphRunner().train(settings, tmp_path / "run", resume=True)
    with pytest.raises(MismatchError, match="trained on another graph"):
        GraphRunner().evaluate(tmp_path / "run", "test")


# -- what can go wrong ---------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_its_step(tmp_path: Path, graph: Path) -> None:
    trainer = toy_loop(graph, tmp_path / "run", train__batch_size=4)

    def spoil(progress: Mapping[str, float]) -> None:
        if trainer.state.step == 6:
            learner_of(trainer).model.entity_tables[0].data[0, 0] = float("nan")

    trainer.progress = Progress(step=spoil)
    with pytest.raises(NotFinite, match=r"the loss is nan at step 7 \(epoch 2, step 3\)"):
        trainer.run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__sparse": True}, "model.sparse needs train.type negative"),
        ({"train__optimizer": "adamw"}, "did you mean adam"),
        ({**SHARED_NEGATIVES, "model__sparse": True, "train__clip": 1.0}, "train.clip needs dense gradients"),
        ({"stop__metric": "hits@5"}, "stop.metric is 'hits@5'"),
        ({"stop__every": 0}, "stop.every is 0; it must be at least 1"),
        ({"train__batch_size": 0}, "train.batch_size is 0"),
        ({"train__regularizer": "l2"}, "must be one of none, lp, n3"),
        ({"model__vectors_frozen": True}, "model.vectors_frozen"),
    ],
)
def test_a_setting_that_is_not_allowed_leaves_no_run(
    tmp_path: Path, graph: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        GraphRunner().train(toy_settings(graph, **changes), tmp_path / "run")
    GraphRunner().train(toy_settings(graph, train__epochs=1), tmp_path / "run")


def test_a_graph_without_validation_triples(tmp_path: Path) -> None:
    file = write_triples(tmp_path / "t.txt", [("a", "r", "b"), ("b", "r", "a")])
    with pytest.raises(DataError, match="no valid triples"):
        GraphRunner().train(toy_settings(file), tmp_path / "run")


def test_a_run_that_has_no_best_state_yet(tmp_path: Path, graph: Path) -> None:
    begin(tmp_path / "run", toy_settings(graph))
    with pytest.raises(Exception, match="blink kglm resume"):
        open_run(tmp_path / "run")


# -- initial vectors -----------------------------------------------------------------------------------------------------


def vectors(folder: Path, ids: list[str], width: int) -> Path:
    folder.mkdir()
    np.save(folder / "entity_vectors.npy", np.random.default_rng(0).normal(size=(len(ids), width)).astype(np.float32))
    (folder / "entity_ids.txt").write_text("".join(f"{name}\n" for name in ids))
    return folder


@pytest.mark.parametrize("rescaled", [True, False])
def test_entities_start_from_vectors_of_a_file(tmp_path: Path, graph: Path, rescaled: bool) -> None:
    folder = vectors(tmp_path / "v", ["eve", "stranger", "ada"], 16)
    plain = toy_loop(graph, tmp_path / "plain")
    loop = toy_loop(graph, tmp_path / "run", model__vectors=str(folder), model__vectors_rescaled=rescaled)
    assert "2 entities start from" in learner_of(loop).start_note
    assert "3 from random vectors" in learner_of(loop).start_note
    drawn, table = learner_of(plain).model.entity_tables[0].detach(), learner_of(loop).model.entity_tables[0].detach()
    rows_of = {name: learner_of(loop).graph.entities.index(name) for name in PEOPLE}
    for name, row in rows_of.items():
        assert torch.equal(table[row], drawn[row]) == (name not in ("eve", "ada"))
    if rescaled:
        mean = table[[rows_of["eve"], rows_of["ada"]]].norm(dim=1).mean()
        assert mean == pytest.approx(float(drawn.norm(dim=1).mean()), rel=1e-4)
    else:
        assert np.array_equal(table[rows_of["eve"]], np.load(folder / "entity_vectors.npy")[0])
    assert torch.equal(learner_of(plain).model.relation_tables[0], learner_of(loop).model.relation_tables[0])


def test_frozen_vectors_stay(tmp_path: Path, graph: Path) -> None:
    folder = vectors(tmp_path / "v", PEOPLE, 16)
    loop = toy_loop(graph, tmp_path / "run", model__vectors=str(folder), model__vectors_frozen=True, train__epochs=3)
    before = weights(loop)
    loop.run()
    assert torch.equal(learner_of(loop).model.entity_tables[0], before["entity_tables.0"])
    assert not torch.equal(learner_of(loop).model.relation_tables[0], before["relation_tables.0"])


@pytest.mark.parametrize("rescaled", [True, False])
def test_vectors_that_do_not_fit(tmp_path: Path, graph: Path, rescaled: bool) -> None:
    wide, strange = vectors(tmp_path / "wide", PEOPLE, 20), vectors(tmp_path / "strange", ["x", "y"], 16)
    with pytest.raises(MismatchError, match="20-dimensional"):
        toy_loop(graph, tmp_path / "a", model__vectors=str(wide), model__vectors_rescaled=rescaled)
    with pytest.raises(MismatchError, match="none of the graph's 5 ids"):
        toy_loop(graph, tmp_path / "b", model__vectors=str(strange), model__vectors_rescaled=rescaled)
    with pytest.raises(SettingsError, match="several vectors per entity"):
        toy_loop(graph, tmp_path / "c", model__vectors=str(wide), model__name="simple")


# -- large tables --------------------------------------------------------------------------------------------------------


def test_a_step_touches_only_the_rows_it_uses(tmp_path: Path) -> None:
    """A table of 200,000 rows: gradients, and the state of the optimiser, are of the rows in use."""
    graph = random_graph(200_000, 3, 400, valid=4)
    settings = toy_settings(
        tmp_path, **SHARED_NEGATIVES, model__sparse=True, train__optimizer="rowwise_adagrad", train__batch_size=64
    )
    learner = GraphLearner(graph, begin(tmp_path / "run", settings))
    before = learner.model.entity_tables[0].detach().clone()
    learner.step(0)
    moved = (learner.model.entity_tables[0] != before).any(1).sum()
    assert 0 < moved <= 64 * 2 + 4
    values_in_state = sum(
        value.numel() for optimiser in learner._optimisers.state() for s in optimiser["state"].values() for value in s.values()
    )
    assert values_in_state == 200_000 + 2 * 3
