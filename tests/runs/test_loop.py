"""The loop of runs, with a learner whose weights are a number: order of events, resuming, patience, signals, bad losses."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.errors import CheckpointError, MismatchError
from blink.runs.checkpoints import CHECKPOINTS_FOLDER, checkpoints
from blink.runs.earlier import STATE_KEY, current_state
from blink.runs.finite import NotFinite
from blink.runs.folder import CURVES_FILE, RunFolder, flattened
from blink.runs.learner import Due, Learner, TrainerState, every
from blink.runs.loop import Loop
from blink.runs.progress import Progress
from blink.runs.signals import Interrupted

EPOCH_STEPS = 3


class Killed(BaseException):
    """Ends a run at once, as SIGKILL would: nothing catches it."""


class Walk(Learner):
    """A number that a step doubles and adds its own number to; its scores are given, one a validation."""

    def __init__(
        self,
        events: list[str] | None = None,
        *,
        epochs: int = 4,
        scores: Sequence[float] = (),
        patience: int = 0,
        delta: float = 0.0,
    ) -> None:
        self.events = [] if events is None else events
        self.patience, self.delta = patience, delta
        self._epochs, self._scores = epochs, scores
        self.value, self.validations, self.stored = 1, 0, 0
        self.losses: Callable[[int], float] = lambda number: 1.0 / (number + 1)

    @property
    def total_steps(self) -> int:
        return self._epochs * EPOCH_STEPS

    def due(self, step: int) -> Due:
        ended = every(step, EPOCH_STEPS)
        return Due(log=True, epoch_end=ended, validate=ended or every(step, 5), save=every(step, 2))

    def step(self, number: int) -> dict[str, float]:
        self.events.append(f"step {number}")
        self.value = (2 * self.value + number) % 1_000_003
        return {"loss": self.losses(number)}

    def epoch_row(self, step: int, means: Mapping[str, float], seconds: float) -> dict[str, Any]:
        return {"epoch": step // EPOCH_STEPS, "step": step, "loss": means["loss"]}

    def validate(self, step: int) -> dict[str, Any]:
        self.events.append(f"validate {step}")
        self.validations += 1
        return {"score": self._scores[self.validations - 1] if self._scores else float(self.value % 7), "value": self.value}

    def score(self, row: Mapping[str, Any]) -> float:
        return float(row["score"])

    def store(self, row: Mapping[str, Any], *, better: bool) -> None:
        self.events.append(f"store {row['step']}" + " best" * better)
        if better:
            self.stored = self.value

    def summary(self, row: Mapping[str, Any], *, better: bool) -> str:
        return f"score {row['score']:g}"

    def finish(self) -> None:
        self.events.append("finish")

    def state(self) -> dict[str, Any]:
        self.events.append("save")
        return {"value": torch.tensor(self.value), "validations": self.validations, "stored": self.stored}

    def load_state(self, state: Mapping[str, Any], progress: TrainerState) -> None:
        self.value, self.validations, self.stored = int(state["value"]), state["validations"], state["stored"]


def loop_of(folder: Path, learner: Walk, progress: Progress | None = None, seed: int = 0) -> Loop:
    return Loop(learner, RunFolder(folder, {"seed": seed, "free": 1}, {"free"}), {"files": {}}, progress=progress)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for row in RunFolder(folder, {}).trace.rows() if row["kind"] != "run"]


class TestOrder:
    def test_of_events(self, tmp_path: Path) -> None:
        walk = Walk(scores=[0.1, 0.3, 0.2, 0.3], epochs=2)
        lines: list[str] = []
        state = loop_of(tmp_path, walk, Progress(say=lines.append)).run()
        assert walk.events == [
            "step 0", "step 1", "save", "step 2", "save", "validate 3", "store 3 best", "save",
            "step 3", "save", "step 4", "save", "validate 5", "store 5 best", "save",
            "step 5", "save", "validate 6", "store 6", "save", "finish",
        ]  # fmt: skip
        assert lines == ["score 0.1", "score 0.3", "score 0.2"]
        assert (state.step, state.pending, state.stale, state.validated) == (6, False, 1, 6)
        assert (state.best["step"], state.best["score"]) == (5, 0.3)
        kinds = [(row["kind"], row["step"]) for row in rows(tmp_path)]
        assert kinds == [
            ("step", 1), ("step", 2), ("step", 3), ("epoch", 3), ("validation", 3),
            ("step", 4), ("step", 5), ("validation", 5), ("step", 6), ("epoch", 6), ("validation", 6),
        ]  # fmt: skip

    def test_means_are_of_the_epoch(self, tmp_path: Path) -> None:
        loop_of(tmp_path, Walk(epochs=2)).run()
        means = [row["loss"] for row in rows(tmp_path) if row["kind"] == "epoch"]
        assert means == pytest.approx([(1 + 1 / 2 + 1 / 3) / 3, (1 / 4 + 1 / 5 + 1 / 6) / 3])

    def test_loggers_get_what_the_trace_gets(self, tmp_path: Path) -> None:
        logged: list[tuple[str, dict[str, Any]]] = []
        folder = RunFolder(tmp_path, {})
        Loop(Walk(epochs=1), folder, {}, loggers=[lambda kind, row: logged.append((kind, dict(row)))]).run()
        assert [{"kind": kind, **row} for kind, row in logged] == rows(tmp_path)

    def test_curves_are_drawn_where_columns_are_named(self, tmp_path: Path) -> None:
        loop_of(tmp_path / "without", Walk(epochs=1)).run()
        assert not (tmp_path / "without" / CURVES_FILE).exists()
        walk = Walk(epochs=1)
        walk.curves = (["loss"], ["score"])
        loop_of(tmp_path / "with", walk).run()
        assert (tmp_path / "with" / CURVES_FILE).read_bytes().startswith(b"\x89PNG")


class TestPatience:
    def test_validations_without_a_better_one_end_the_run(self, tmp_path: Path) -> None:
        walk = Walk(scores=[0.2, 0.5, 0.4, 0.5, 0.9], patience=2)
        state = loop_of(tmp_path, walk).run()
        assert (state.step, state.stale, state.best["score"]) == (9, 2, 0.5)  # an equal score is not better
        again = Walk(scores=[], patience=2)
        assert loop_of(tmp_path, again).run(resume=True).step == 9
        assert again.events == ["finish"]

    def test_better_is_by_more_than_delta(self, tmp_path: Path) -> None:
        state = loop_of(tmp_path, Walk(scores=[0.5, 0.59, 0.61, 0.0], delta=0.1, epochs=2)).run()
        assert state.best["step"] == 6


@contextlib.contextmanager
def killed_at(event: int) -> Iterator[list[int]]:
    """Raise `Killed` at that call of the folder or behind it; the list holds how many there were."""
    count = [0]

    def tick() -> None:
        count[0] += 1
        if count[0] == event:
            raise Killed

    def noticed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            tick()
            result = method(*args, **more)
            tick()
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, names in (
            (RunFolder, ("save", "begin", "resume")),
            (Walk, ("step", "validate", "store")),
            (Loop, ("_record",)),
        ):
            for name in names:
                patch.setattr(owner, name, noticed(getattr(owner, name)))
        yield count


class TestKilled:
    @settings(max_examples=40)
    @given(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    def test_anywhere_it_ends_the_same(self, tmp_path_factory: pytest.TempPathFactory, events: list[int]) -> None:
        undisturbed, folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
        expected = Walk()
        loop_of(undisturbed, expected).run()
        for number, event in enumerate(events):
            with killed_at(event), contextlib.suppress(Killed):
                loop_of(folder, Walk()).run(resume=number > 0)
        walk = Walk()
        loop_of(folder, walk).run(resume=True)
        assert (walk.value, walk.stored, walk.validations) == (expected.value, expected.stored, expected.validations)
        assert rows(folder) == rows(undisturbed)

    def test_while_validating_the_validation_alone_is_repeated(self, tmp_path: Path) -> None:
        class Dies(Walk):
            def validate(self, step: int) -> dict[str, Any]:
                raise Killed

        with pytest.raises(Killed):
            loop_of(tmp_path, Dies()).run()
        walk = Walk(epochs=2)
        loop_of(tmp_path, walk).run(resume=True)
        assert walk.events[:4] == ["validate 3", "store 3 best", "save", "step 3"]

    def test_before_any_checkpoint_it_begins_again(self, tmp_path: Path) -> None:
        with killed_at(5), pytest.raises(Killed):
            loop_of(tmp_path, Walk()).run()
        assert not checkpoints(tmp_path / CHECKPOINTS_FOLDER)
        walk = Walk(epochs=1)
        loop_of(tmp_path, walk).run(resume=True)
        assert walk.events[0] == "step 0"

    def test_a_damaged_checkpoint_is_passed_over(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        loop_of(tmp_path, Walk(epochs=2)).run()
        newest = checkpoints(tmp_path / CHECKPOINTS_FOLDER)[-1]
        newest.write_bytes(newest.read_bytes()[:-40])
        walk = Walk(epochs=2)
        loop_of(tmp_path, walk).run(resume=True)
        assert "step 5" in walk.events
        assert f"{newest} is cut short or damaged" in caplog.text
        for path in checkpoints(tmp_path / CHECKPOINTS_FOLDER):
            path.write_bytes(b"")
        with pytest.raises(CheckpointError, match="there is no older checkpoint"):
            loop_of(tmp_path, Walk()).run(resume=True)


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
    def test_between_steps_the_state_is_saved(self, tmp_path: Path, number: signal.Signals) -> None:
        walk, before = Walk(), signal.getsignal(number)
        loop = loop_of(tmp_path, walk)
        loop.progress = Progress(step=lambda losses: loop.state.step == 4 and os.kill(os.getpid(), number))  # type: ignore[arg-type, return-value]
        with pytest.raises(Interrupted, match="stopped after step 4 of 12, saved in") as stopped:
            loop.run()
        assert (stopped.value.signal, walk.events[-2:]) == (number, ["step 3", "save"])
        assert signal.getsignal(number) is before

    def test_at_the_end_of_an_epoch_the_validation_is_left_for_later(self, tmp_path: Path) -> None:
        loop = loop_of(tmp_path, Walk())
        loop.progress = Progress(step=lambda losses: loop.state.step == 3 and os.kill(os.getpid(), signal.SIGTERM))  # type: ignore[arg-type, return-value]
        with pytest.raises(Interrupted, match="stopped after step 3"):
            loop.run()
        assert [row["kind"] for row in rows(tmp_path)] == ["step", "step", "step", "epoch"]
        walk = Walk(epochs=2)
        loop_of(tmp_path, walk).run(resume=True)
        assert walk.events[0] == "validate 3"

    def test_a_validation_is_interrupted_at_once(self, tmp_path: Path) -> None:
        class Slow(Walk):
            def validate(self, step: int) -> dict[str, Any]:
                os.kill(os.getpid(), signal.SIGTERM)
                raise AssertionError("the signal did not end the validation")

        with pytest.raises(Interrupted, match="stopped while validating step 3 of 12") as stopped:
            loop_of(tmp_path, Slow()).run()
        assert stopped.value.signal == signal.SIGTERM

    def test_a_signal_to_one_process_stops_all(self, tmp_path: Path) -> None:
        class Second:
            count, is_main = 2, False

            def maximum(self, value: int) -> int:
                return signal.SIGTERM

            def wait(self) -> None:
                pass

        loop = Loop(Walk(), RunFolder(tmp_path, {}), {}, processes=Second())
        with pytest.raises(Interrupted, match="stopped after step 1 of 12"):
            loop.run()
        assert list(tmp_path.iterdir()) == []  # the main process writes


class TestBadLosses:
    @pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
    def test_a_loss_that_is_not_a_number_ends_the_run_unsaved(self, tmp_path: Path, loss: float) -> None:
        walk = Walk()
        walk.losses = lambda number: loss if number == 3 else 1.0
        with pytest.raises(NotFinite, match=rf"the loss is {loss} at step 4; lower the learning rate") as caught:
            loop_of(tmp_path, walk).run()
        assert "\n" not in str(caught.value)
        assert [row["step"] for row in rows(tmp_path) if row["kind"] == "step"] == [1, 2, 3]
        assert loop_of(tmp_path, Walk()).folder.load()[STATE_KEY]["step"] == 3

    def test_the_loss_is_named(self, tmp_path: Path) -> None:
        class Two(Walk):
            def step(self, number: int) -> dict[str, float]:
                return {"span": 1.0, "entity": float("nan")}

        with pytest.raises(NotFinite, match=r"at step 1 \(entity\)"):
            loop_of(tmp_path, Two()).run()


class TestFolder:
    def test_other_settings_do_not_resume_and_free_ones_do(self, tmp_path: Path) -> None:
        loop_of(tmp_path, Walk(epochs=1)).run()
        with pytest.raises(MismatchError, match=r"other settings or files \(seed\); give the same ones"):
            loop_of(tmp_path, Walk(), seed=1).run(resume=True)
        folder = RunFolder(tmp_path, {"seed": 0, "free": 2}, {"free"})
        Loop(Walk(epochs=1), folder, {"files": {}}).run(resume=True)

    def test_a_new_run_clears_the_old_one(self, tmp_path: Path) -> None:
        loop_of(tmp_path, Walk(epochs=3)).run()
        loop_of(tmp_path, Walk(epochs=1), seed=1).run()
        assert max(row["step"] for row in rows(tmp_path)) == 3
        assert loop_of(tmp_path, Walk(epochs=1), seed=1).run(resume=True).step == 3

    def test_nested_settings_are_named_in_full(self) -> None:
        assert flattened({"a": {"b": 1, "c": {"d": 2}}, "e": [3], "f": {}}) == {"a.b": 1, "a.c.d": 2, "e": [3], "f": {}}

    def test_cost_is_counted_over_continuations(self, tmp_path: Path) -> None:
        loop = loop_of(tmp_path, Walk(epochs=1))
        loop.cost.wall_seconds = 100.0
        loop.run()
        longer = loop_of(tmp_path, Walk(epochs=2))
        longer.run(resume=True)
        assert longer.cost.row()["wall_seconds"] >= 100.0


class TestEarlierVersions:
    """Records as the five loops of earlier versions wrote them."""

    @staticmethod
    def due(step: int) -> Due:
        return Due(epoch_end=every(step, 5), validate=every(step, 10))

    def converted(
        self, saved: dict[str, Any], trace: list[dict[str, Any]] | None = None
    ) -> tuple[TrainerState, dict[str, Any]]:
        state = current_state(saved, trace or [], self.due)
        return TrainerState(**state.pop(STATE_KEY)), state

    def test_of_a_linker(self) -> None:
        best = {"threshold": -1.0, "precision": 0.5, "recall": 0.5, "f1": 0.5}
        sums = {"entity": 6.0, "span": 3.0, "seconds": 1.5}
        record = {"step": 7, "pending": False, "best": best, "stale": 2, "sums": sums}
        state, _ = self.converted({"model": {}, STATE_KEY: record})
        assert state == TrainerState(7, False, best, 2, -1, {"entity": [6.0, 2], "span": [3.0, 2]}, 1.5)
        state, _ = self.converted({STATE_KEY: {"step": 5, "pending": True, "best": None, "stale": 0, "sums": {}}})
        assert state == TrainerState(5, True)

    def test_of_a_graph(self) -> None:
        record = {
            "step": 6,
            "rate": 0.1,
            "pending": False,
            "best": {},
            "stale": 0,
            "rate_stale": 1,
            "loss": 2.0,
            "seconds": 0.5,
        }
        state, rest = self.converted({"graph": "x", STATE_KEY: record})
        assert state == TrainerState(6, sums={"loss": [2.0, 1]}, seconds=0.5)
        assert (rest["graph"], rest["rate"], rest["rate_stale"]) == ("x", 0.1, 1)

    def test_of_a_language_model_at_the_end_of_an_epoch(self) -> None:
        """Its epoch has no row yet, and the rule names no validation after it."""
        rules = {"loss": [1.5, 3]}
        record = {
            "step": 5, "epoch": 0, "place": 5, "own": {"language": 5}, "pending": True, "best": rules, "waited": 1,
            "sums": {"language": [4.0, 5]},
        }  # fmt: skip
        best = {"kind": "validation", "step": 3, "best": True, "nats": 1.5}
        state, rest = self.converted({"at": record}, [best, {"kind": "validation", "step": 4, "best": False}])
        assert state == TrainerState(5, False, best, 1, sums={"language": [4.0, 5]})
        assert (rest["task_steps"], rest["rules"]) == ({"language": 5}, rules)

    def test_of_fine_tuning(self) -> None:
        record = {"step": 10, "pending": False, "epochs": [{"f1": 0.2}, {"f1": 0.1}], "best_epoch": 0}
        trace = [{"kind": "validation", "epoch": n, "step": 5 * (n + 1), **scores} for n, scores in enumerate(record["epochs"])]  # type: ignore[arg-type]
        state, rest = self.converted({STATE_KEY: record}, trace)
        assert (state.step, state.best) == (10, trace[0])
        assert (rest["epochs"], rest["best_epoch"]) == (record["epochs"], 0)

    def test_the_present_form_stays(self, tmp_path: Path) -> None:
        loop_of(tmp_path, Walk(epochs=1)).run()
        saved = RunFolder(tmp_path, {}).load()
        assert current_state(saved, [], self.due) == saved
