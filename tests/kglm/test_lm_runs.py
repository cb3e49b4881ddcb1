"""Runs of the language side: schedules, single tasks inside joint runs, kills, best states, what is measured and exported."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blink.errors import BlinkError, CheckpointError, DataError, MismatchError, MissingFileError, SettingsError
from blink.files import read_json
from blink.kglm.lm.inputs import read_inputs
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.network import new_model, schedule_of
from blink.kglm.lm.runner import LanguageRunner, tasks_of
from blink.kglm.lm.saved import load_model, save_model
from blink.kglm.lm.schedule import LANGUAGE, TRIPLES, Schedule
from blink.kglm.lm.vectors import neighbour_vectors, read_vectors, rescaled
from blink.kglm.lm.vocabulary import PAD, Vocabulary
from blink.kglm.run import KglmRun
from blink.runs.finite import NotFinite
from tests.kglm.lm_toys import DEFAULTS, settings_for, toy_model, write_world

pytest.importorskip("yaml", reason="the extra 'kglm' is not installed")
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
DRAW = KglmRun.draw


@pytest.fixture(autouse=True)
def without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes as long as a toy run; one test draws."""
    monkeypatch.setattr(KglmRun, "draw", lambda folder, losses, scores: None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def run(world: Path, folder: Path, kind: str = "lm", **changes: Any) -> dict[str, Any]:
    settings = settings_for(world, kind, {name.replace("__", "."): value for name, value in changes.items()})
    return LanguageRunner().train(settings, folder)


def best(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder).model.state_dict()


def trace(folder: Path, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def assert_alike(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not one[name].equal(other[name])] == []


def figures(folder: Path) -> dict[str, Any]:
    """Metrics without times."""
    return {name: value for name, value in read_json(folder / "metrics.json").items() if name not in ("cost", "speed")}


# -- schedules -------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from(["alternate", "sum"]), st.integers(1, 4), st.integers(0, 9))
def test_each_task_has_its_steps(text: int, triples: int, mode: str, every: int, epochs: int) -> None:
    if not text and not triples:
        return
    for order in ("interleaved", "blocks"):
        schedule = Schedule(text, triples, 0.5, mode, order, every)
        plans = [schedule.epoch(number) for number in range(epochs)]
        for number, plan in enumerate(plans):
            reads = number % every == 0 or not triples
            assert sum(LANGUAGE in step for step in plan) == (text if reads else 0)
            assert sum(TRIPLES in step for step in plan) == triples
            assert all(step for step in plan)
            assert mode == "sum" or all(len(step) == 1 for step in plan)
        assert schedule.steps(epochs) == sum(map(len, plans))


def test_orders_of_alternating_steps() -> None:
    short = {LANGUAGE: "L", TRIPLES: "T"}

    def order(schedule: Schedule) -> str:
        return " ".join("".join(short[task] for task in step) for step in schedule.epoch(0))

    assert order(Schedule(2, 4)) == "T L T T L T"
    assert order(Schedule(2, 4, order="blocks")) == "T T T T L L"
    assert order(Schedule(2, 4, mode="sum")) == "T TL T TL"
    assert order(Schedule(2, 4, alpha=1.0, mode="sum")) == "T T T T"
    assert order(Schedule(2, 4, alpha=0.0)) == "L L"


def test_weights_of_a_sum() -> None:
    schedule = Schedule(2, 2, 0.25, "sum")
    assert (schedule.weight(TRIPLES), schedule.weight(LANGUAGE)) == (0.25, 0.75)
    assert Schedule(2, 2, 0.25).weight(TRIPLES) == 1.0
    assert Schedule(2, 2, 1.0, "sum").weight(TRIPLES) == Schedule(2, 2, 0.0, "sum").weight(LANGUAGE) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"joint.alpha": 1.5},
        {"joint.mode": "both"},
        {"joint.order": "random"},
        {"joint.every": 0},
        {"train.steps_per_epoch_lm": 0, "train.steps_per_epoch_kge": 0},
        {"train.steps_per_epoch_kge": -1},
    ],
)
def test_schedules_out_of_range_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        schedule_of(DEFAULTS.replace(wrong))


# -- single tasks inside joint runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["alternate", "sum"])
def test_alpha_0_is_the_language_model_bit_for_bit(world: Path, tmp_path: Path, mode: str) -> None:
    """The same words are known, so the same run of kind lm must come out, to the last bit, dropout and sampling included."""
    vocabulary = tmp_path / "v.tsv"
    read_inputs(settings_for(world, "joint")).vocabulary.save(vocabulary)
    shared = {
        "vocabulary__file": str(vocabulary),
        "language__softmax": "sampled",
        "language__samples": 9,
        "cells__kind": "BiLSTM",
    }
    run(world, tmp_path / "alone", "lm", **shared)
    run(world, tmp_path / "joint", "joint", joint__alpha=0.0, joint__mode=mode, **shared)
    assert_alike(best(tmp_path / "alone"), best(tmp_path / "joint"))
    assert figures(tmp_path / "alone") == figures(tmp_path / "joint")


def test_alpha_1_is_the_classifier_bit_for_bit(world: Path, tmp_path: Path) -> None:
    """In either mode, and whatever text there is to read, the run is that of triples alone."""
    runs = {"alternate": {}, "sum": {}, "no-text": {"data__text": "", "data__text_test": "", "train__steps_per_epoch_lm": 0}}
    counts = {"vocabulary__count": "names", "data__apart": False, "data__valid_share": 0.2, "data__test_share": 0.2}
    for name, changes in runs.items():
        mode = name if name == "sum" else "alternate"
        run(world, tmp_path / name, "joint", joint__alpha=1.0, joint__mode=mode, **counts, **changes)
    assert_alike(best(tmp_path / "alternate"), best(tmp_path / "sum"))
    assert_alike(best(tmp_path / "alternate"), best(tmp_path / "no-text"))
    assert figures(tmp_path / "alternate") == figures(tmp_path / "sum") == figures(tmp_path / "no-text")
    assert "perplexity" not in figures(tmp_path / "sum")["test"]


def test_a_joint_run_moves_the_shared_parts_by_both_tasks(world: Path, tmp_path: Path) -> None:
    states = {}
    for name, alpha in (("joint", 0.5), ("text", 0.0), ("triples", 1.0)):
        run(world, tmp_path / name, "joint", joint__alpha=alpha, validation__every=3)
        states[name] = best(tmp_path / name)
    shared = ["encoder.words.weight", "encoder.forwards.layers.0.weight_ih_l0"]
    for name in shared:
        assert not states["joint"][name].equal(states["text"][name])
        assert not states["joint"][name].equal(states["triples"][name])
    assert {k.split(".")[0] for k in states["text"]} == {"encoder", "language"}
    assert {k.split(".")[0] for k in states["triples"]} == {"encoder", "classifier"}


def test_a_summed_gradient_is_the_weighted_sum(world: Path) -> None:
    """Of one step, against the losses added by hand."""
    settings = settings_for(world, "joint", {"cells.keep": 1.0, "classifier.keep": 1.0})
    inputs = read_inputs(settings)
    model = new_model(settings, inputs, lambda line: None).train()
    tasks = tasks_of(settings, inputs, model)
    (0.3 * tasks[TRIPLES].loss(0).value + 0.7 * tasks[LANGUAGE].loss(0).value).backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for name, weight in ((TRIPLES, 0.3), (LANGUAGE, 0.7)):
        (weight * tasks[name].loss(0).value).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, together[name])


def test_frozen_words_stay(world: Path, tmp_path: Path) -> None:
    settings = settings_for(world, "lm", {"words.learn": False})
    start = new_model(settings, read_inputs(settings), lambda line: None).state_dict()["encoder.words.weight"]
    run(world, tmp_path / "run", words__learn=False)
    assert best(tmp_path / "run")["encoder.words.weight"].equal(start)


def test_a_step_of_triples_is_a_function_of_its_number(world: Path) -> None:
    settings = settings_for(world, "joint")
    inputs = read_inputs(settings)
    model = new_model(settings, inputs, lambda line: None).eval()
    task, again = (tasks_of(settings, inputs, model)[TRIPLES] for _ in range(2))
    forward = [task.loss(step).value.item() for step in range(30)]
    assert [again.loss(step).value.item() for step in (29, 3, 17)] == [forward[29], forward[3], forward[17]]
    assert len(set(forward)) > 25


# -- learning --------------------------------------------------------------------------------------------------------------


def test_a_joint_run_learns_both_tasks(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KglmRun, "draw", DRAW)
    lengthy = {"train__epochs": 3, "train__steps_per_epoch_lm": 40, "train__steps_per_epoch_kge": 40, "train__save_steps": 99}
    sizes = {"words__width": 16, "cells__layers": [16], "classifier__hidden": [16], "classifier__keep": 0.8}
    result = run(world, tmp_path / "run", "joint", **lengthy, **sizes)
    rows = trace(tmp_path / "run", "validation")
    assert rows[-1]["perplexity"] < 0.6 * rows[0]["perplexity"]
    assert result["perplexity"] < 12
    assert result["accuracy"] > 0.9  # towns and trades are told apart
    assert {"easy", "same_type"} == set(result["test"]["triples"])
    assert result["best"]["updates"].keys() == {LANGUAGE, TRIPLES}
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_all_figures_are_of_the_one_best_state(world: Path, tmp_path: Path) -> None:
    run(world, tmp_path / "run", "joint", train__epochs=4, validation__keep_both=True)
    rows = trace(tmp_path / "run", "validation")
    score = [0.5 * row["nats"] + 0.5 * row["loss"] for row in rows]
    metrics = read_json(tmp_path / "run" / "metrics.json")
    best_row = rows[int(np.argmin(score))]
    assert metrics["best"]["step"] == best_row["step"]
    assert metrics["valid"]["perplexity"] == pytest.approx(best_row["perplexity"], rel=1e-6)
    separate_best = metrics["valid"]["each_by_its_own_best"]
    assert separate_best["perplexity"] == pytest.approx(min(row["perplexity"] for row in rows), rel=1e-6)
    assert LanguageRunner().evaluate(tmp_path / "run", "valid") == metrics["valid"]


def test_a_run_that_gets_no_better_ends(world: Path, tmp_path: Path) -> None:
    run(world, tmp_path / "run", train__epochs=40, validation__patience=2, train__learning_rate_lm=0.3)
    rows = trace(tmp_path / "run", "validation")
    assert len(rows) < 40
    assert [row["best"] for row in rows[-3:]] == [True, False, False]
    assert figures(tmp_path / "run")["best"]["step"] == rows[-3]["step"]


# -- ends and beginnings ---------------------------------------------------------------------------------------------------


def test_a_run_with_a_changed_text_is_not_gone_on_with(world: Path, tmp_path: Path) -> None:
    world_folder = write_world(tmp_path / "world")
    run(world_folder, tmp_path / "run", train__epochs=1)
    with (world_folder / "lm" / "test.txt").open("a") as f:
        f.write("one more line\n")
    with (world_folder / "lm" / "test.ids").open("a") as f:
        f.write("Q99\n")
    with pytest.raises(MismatchError, match=r"test\.(txt|ids)"):
        LanguageRunner().train(KglmRun.open(tmp_path / "run").settings, tmp_path / "run", resume=True)


def test_a_loss_that_is_no_number_ends_the_run(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = KGLanguageModel.language_loss
    losses = iter([1.0, 1.0, float("nan")])
    monkeypatch.setattr(KGLanguageModel, "language_loss", lambda self, ids: plain(self, ids) * next(losses))
    with pytest.raises(NotFinite, match=r"step 3 \(language\)"):
        run(world, tmp_path / "run")


# -- mistakes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes", "error", "message"),
    [
        ("lm", {"data.text": ""}, SettingsError, "data.text is not set"),
        ("lm", {"data.text": "nowhere.txt"}, MissingFileError, "nowhere.txt"),
        ("lm", {"data.held_out": 0.0}, DataError, "data.held_out 0.0"),
        ("lm", {"data.text_share": 0.0}, SettingsError, "data.text_share"),
        ("lm", {"words.init": "glove"}, SettingsError, "words.init is 'glove'"),
        ("lm", {"words.init": "neighbours", "words.width": 900}, SettingsError, "words.width is 900"),
        ("lm", {"validation.choose": "accuracy"}, SettingsError, "but there are no triples"),
        ("lm", {"train.lines": 0}, SettingsError, "train.lines is 0"),
        ("lm", {"train.learning_rate_lm": 0.0}, SettingsError, "learning rates"),
        ("lm", {"words.scale": 0.0}, SettingsError, "words.scale"),
        ("joint", {"joint.alpha": 1.0, "validation.choose": "perplexity"}, SettingsError, "but there is no text"),
        ("joint", {"data.text_test": ""}, SettingsError, "data.apart needs"),
        ("joint", {"data.apart": False}, DataError, "no valid triples"),
        ("joint", {"train.triples": 0}, SettingsError, "train.triples is 0"),
        ("joint", {"data.graph": "lm/train.txt"}, DataError, "line 1"),
        ("joint", {"vocabulary.count": "all"}, SettingsError, "vocabulary.count is 'all'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    world: Path, tmp_path: Path, kind: str, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        LanguageRunner().train(settings_for(world, kind, changes), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()  # mended, the same command must do


def test_ids_are_listed_entities_or_the_file_is_named(world: Path, tmp_path: Path) -> None:
    (tmp_path / "listed.txt").write_text("".join(f"Q{i}\n" for i in range(30)))
    with pytest.raises(DataError, match="entity 'T"):
        run(world, tmp_path / "run", "joint", data__entities=str(tmp_path / "listed.txt"))


# -- saved models, vectors -------------------------------------------------------------------------------------------------


def require_each_change_noticed(folder: Path) -> None:
    """A flipped bit in the middle of each file, and each file that is missing, is an error."""
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(BlinkError):
            load_model(folder)
        file.unlink()
        with pytest.raises(BlinkError):
            load_model(folder)
        file.write_bytes(content)
    load_model(folder)


def test_a_model_comes_back_and_damage_is_told(tmp_path: Path) -> None:
    words = Vocabulary(tuple("abcdef"), (1,) * 6)
    model = toy_model(len(words))
    save_model(tmp_path / "m", model, words, ["Q1"], ["P1"], {"step": 3})
    again = load_model(tmp_path / "m")
    assert_alike(again.model.state_dict(), model.state_dict())
    assert (again.vocabulary, again.entities, again.relations, again.figures) == (words, ("Q1",), ("P1",), {"step": 3})
    require_each_change_noticed(tmp_path / "m")
    # A model of an earlier version has no checksums.
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({key: of for key, of in config.items() if key != "checked"}))
    (tmp_path / "m" / "checksums.json").unlink()
    assert load_model(tmp_path / "m").vocabulary == words
    Vocabulary(tuple("abcdeg"), (1,) * 6).save(tmp_path / "m" / "vocabulary.tsv")
    with pytest.raises(MismatchError, match="not the vocabulary"):
        load_model(tmp_path / "m")
    words.save(tmp_path / "m" / "vocabulary.tsv")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        load_model(tmp_path / "m")
    with pytest.raises(MissingFileError, match="holds no language model"):
        load_model(tmp_path)


def test_word_vectors_of_a_file_and_of_the_wrong_width(tmp_path: Path) -> None:
    words = Vocabulary(("ulm", "bonn", "kiel"), (3, 2, 1))
    file = tmp_path / "v.txt"
    file.write_text("3 2\nbonn 1 2\nother 9 9\nulm 3 4\n")
    table, matched = read_vectors(file, words, 2)
    assert matched == 2
    assert table[4:6].tolist() == [[3, 4], [1, 2]]
    np.testing.assert_allclose(table[6], np.mean([[1, 2], [9, 9], [3, 4]], axis=0), rtol=1e-6)
    file.write_text("unk 7 7\nulm 3 4\n")
    assert read_vectors(file, words, 2)[0][6].tolist() == [7, 7]
    with pytest.raises(MismatchError, match=r"line 1: 2 numbers, where words\.width is 300"):
        read_vectors(file, words, 300)
    for content, message in (
        (b"", "0 bytes"),
        (b"ulm 1 x\n", "line 1"),
        (b"x 1 2\n", "for none of the 3 words"),
        (b"\xff 1 2\n", "line 1"),
    ):
        file.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_vectors(file, words, 2)


def test_words_with_the_same_neighbours_get_like_vectors(world: Path) -> None:
    inputs = read_inputs(settings_for(world))
    vectors = neighbour_vectors(inputs.texts["train"], 8, window=3, seed=0)
    again = neighbour_vectors(inputs.texts["train"], 8, window=3, seed=0)
    assert np.array_equal(vectors, again)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    rows = {w: unit[inputs.vocabulary.id(w)] for w in ("painter", "sailor", "ada")}
    assert rows["painter"] @ rows["sailor"] > rows["painter"] @ rows["ada"]
    scaled = rescaled(vectors, 0.3)
    assert scaled.std() == pytest.approx(0.3, rel=1e-5)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-6)


def test_a_run_begins_with_vectors_of_neighbours_and_goes_on_without_them(world: Path, tmp_path: Path) -> None:
    run(world, tmp_path / "run", words__init="neighbours", words__learn=False)
    settings = KglmRun.open(tmp_path / "run").settings
    start = new_model(settings, read_inputs(settings), lambda line: None).state_dict()["encoder.words.weight"]
    assert best(tmp_path / "run")["encoder.words.weight"].equal(start)
    assert not start[PAD].any()
    LanguageRunner().train(settings, tmp_path / "run", resume=True)
    assert best(tmp_path / "run")["encoder.words.weight"].equal(start)


def test_vectors_of_names_or_of_the_table_are_exported(world: Path, tmp_path: Path) -> None:
    run(world, tmp_path / "words", "joint", train__epochs=1)
    run(world, tmp_path / "table", "joint", train__epochs=1, classifier__entity_width=5, classifier__align=0.1)
    settings = KglmRun.open(tmp_path / "words").settings
    inputs = read_inputs(settings)
    assert inputs.triples is not None
    trained = inputs.triples.graph.train
    for name, width, count in (("words", 12, 33), ("table", 5, None)):
        LanguageRunner().export(tmp_path / name, tmp_path / f"{name}-out")
        out = tmp_path / f"{name}-out"
        vectors = np.load(out / "entity_vectors.npy")
        ids = (out / "entity_ids.txt").read_text().split()
        meta = read_json(out / "meta.json")
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(ids), width) == (meta["rows"], meta["dim"])
        degrees = np.load(out / "degrees.npy")
        assert len(degrees) == len(ids)
        assert degrees.sum() == 2 * len(trained)
        assert count is None or len(ids) == count
        assert len(set(ids)) == len(ids)
    saved = load_model(tmp_path / "words")
    row = inputs.triples.lexicon.entities.index("T1")
    texts = inputs.triples.lexicon.texts(saved.vocabulary)
    with torch.no_grad():
        expected = saved.model.encoder.summary(*texts.names(np.array([row])))[0]
    np.testing.assert_allclose(
        np.load(tmp_path / "words-out" / "entity_vectors.npy")[row], expected.numpy(), rtol=1e-5, atol=1e-6
    )
    assert len(np.load(tmp_path / "table-out" / "relation_vectors.npy")) == 2
    run(world, tmp_path / "lm", train__epochs=1)
    with pytest.raises(SettingsError, match="without a graph"):
        LanguageRunner().export(tmp_path / "lm", tmp_path / "out")


def test_ids_lie_beside_packed_text_too(world: Path, tmp_path: Path) -> None:
    world_folder = write_world(tmp_path / "world")
    text = world_folder / "lm" / "train.txt"
    (world_folder / "lm" / "train.txt.gz").write_bytes(gzip.compress(text.read_bytes()))
    text.unlink()
    packed = read_inputs(settings_for(world_folder, "joint", {"data.text": "lm/train.txt.gz"}))
    plain = read_inputs(settings_for(world, "joint"))
    assert packed.triples is not None
    assert plain.triples is not None
    assert len(packed.triples.selection) == len(plain.triples.selection)
    assert packed.vocabulary == plain.vocabulary
