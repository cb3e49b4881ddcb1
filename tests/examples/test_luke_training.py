"""The fine-tuning loop: one step however it is split, the schedule, mixed precision, stopping and going on."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from blink.errors import MismatchError, SettingsError
from blink.runs.progress import Progress
from blink.runs.signals import Interrupted
from examples.luke.launching import launch, launch_command, make_accelerator, resolve_gpus
from examples.luke.learner import TuneLearner, make_loop, make_order, total_steps
from examples.luke.loggers import PACKAGES, make_logger
from examples.luke.settings import TuneSettings
from examples.luke.steps import Order, adam_values, buckets, parameter_groups, rate_share
from tests.examples.luke_toys import DATA, Net, Numbers, inputs, settings, stepper, weights


class TestStep:
    @pytest.mark.parametrize(("size", "accumulation"), [(1, 4), (2, 2), (3, 2), (4, 1)])
    def test_a_step_is_the_same_however_it_is_split(self, size: int, accumulation: int) -> None:
        """By plain gradient descent; the batches have different numbers of decisions, and of three the last is short."""
        full_batch = stepper(settings(train_batch_size=4), optimizer=torch.optim.SGD)
        split_batch = stepper(
            settings(train_batch_size=size, gradient_accumulation_steps=accumulation), optimizer=torch.optim.SGD
        )
        losses = [(full_batch.step(i, DATA[i * 4 : i * 4 + 4]), split_batch.step(i, DATA[i * 4 : i * 4 + 4])) for i in range(4)]
        assert torch.allclose(weights(full_batch), weights(split_batch), atol=1e-6)
        assert all(a == pytest.approx(b, abs=1e-6) for a, b in losses)

    def test_the_gradient_is_that_of_the_mean_over_decisions(self) -> None:
        learner = stepper(settings(train_batch_size=2), optimizer=torch.optim.SGD)
        net = Net()
        net.load_state_dict(learner.model.state_dict())
        learner.step(0, DATA[:5])
        loss = Numbers().loss(net(inputs(DATA[:5])["x"]), DATA[:5]) / sum(len(f.label) for f in DATA[:5])
        loss.backward()
        by_hand = torch.cat([(p - 0.1 * p.grad).detach().flatten() for p in net.parameters() if p.grad is not None])
        assert torch.allclose(weights(learner), by_hand, atol=1e-6)

    def test_dropout_follows_from_the_step_alone(self) -> None:
        one, other = stepper(settings(), dropout=0.5), stepper(settings(), dropout=0.5)
        losses = [one.step(i, DATA[:4]) for i in range(3)]
        torch.manual_seed(99)
        assert [other.step(i, DATA[:4]) for i in range(3)] == losses
        assert len(set(losses)) == 3

    @pytest.mark.parametrize("what", ["loss", "gradient"])
    def test_no_number_names_the_batch(self, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        learner = stepper(settings(train_batch_size=2))
        if what == "loss":
            monkeypatch.setattr(
                Numbers, "loss", lambda self, logits, batch: logits.sum() * (math.nan if len(batch) == 1 else 1)
            )
            names = "item 2"
        else:
            learner.model.out.bias.register_hook(lambda grad: grad * math.inf)
            names = "item 0, item 1, item 2"
        with pytest.raises(SettingsError, match=f"the {what} is (nan|inf) at step 8, with {names}; lower --learning-rate"):
            learner.step(7, DATA[:3])

    def test_gradients_are_clipped(self) -> None:
        learner = stepper(settings(max_grad_norm=0.01), optimizer=torch.optim.SGD)
        before = weights(learner)
        learner.step(0, DATA[:4])
        assert (weights(learner) - before).norm() == pytest.approx(0.1 * 0.01, rel=1e-3)

    def test_biases_and_norms_do_not_decay(self) -> None:
        decayed, plain = parameter_groups(Net(), 0.3)
        assert [p.ndim for p in decayed["params"]] == [2, 2]
        assert (decayed["weight_decay"], plain["weight_decay"], len(plain["params"])) == (0.3, 0.0, 4)

    def test_bfloat16(self) -> None:
        full, half = stepper(settings()), stepper(settings(precision="bf16"))
        for i in range(5):
            a, b = full.step(i, DATA[:8]), half.step(i, DATA[:8])
        assert a != b
        assert a == pytest.approx(b, rel=0.05)
        assert all(p.dtype == torch.float32 for p in half.model.parameters())

    def test_the_scale_of_the_loss_stays_within_its_bounds(self) -> None:
        learner = stepper(settings(fp16_min_loss_scale=1.0, fp16_max_loss_scale=4.0))

        class Scaler:
            def __init__(self, scale: float) -> None:
                self.scale = scale

            def get_scale(self) -> float:
                return self.scale

            def update(self, scale: float) -> None:
                self.scale = scale

        for scale, bounded in ((8.0, 4.0), (0.5, 1.0), (2.0, 2.0)):
            learner.accelerator.scaler = Scaler(scale)
            learner._bound_scale()
            assert learner.accelerator.scaler.scale == bounded


class TestSchedule:
    def test_rises_then_falls_and_is_never_0(self) -> None:
        shares = [rate_share(i, 100, settings()) for i in range(100)]
        assert shares[6] == max(shares) == 1.0
        assert shares[:6] == sorted(shares[:6])
        assert shares[6:] == sorted(shares[6:], reverse=True)
        assert min(shares) > 0

    def test_constant_after_the_rise(self) -> None:
        shares = [rate_share(i, 100, settings(lr_schedule="warmup_constant")) for i in range(100)]
        assert set(shares[6:]) == {1.0}

    @given(st.integers(1, 50), st.floats(0, 0.99))
    def test_however_short(self, total: int, warmup: float) -> None:
        assert all(0 < rate_share(i, total, settings(warmup_proportion=warmup)) <= 1 for i in range(total))

    def test_adam_without_correction(self) -> None:
        """Against the formula of the original, with its decay."""
        options = settings(adam_correct_bias=False, warmup_proportion=0.0, lr_schedule="warmup_constant", weight_decay=0.1)
        learner = stepper(options, count=1000)
        parameter = learner.model.dense.weight
        value, mean, square = parameter.detach().clone(), torch.zeros(8, 3), torch.zeros(8, 3)
        grads: list[Tensor] = []
        parameter.register_hook(lambda grad: grads.append(grad.clone()))
        for i in range(4):
            learner.step(i, DATA[:4])
            grad = grads[-1]
            mean, square = 0.9 * mean + 0.1 * grad, 0.98 * square + 0.02 * grad**2
            value = value * (1 - 1e-2 * 0.1) - 1e-2 * mean / (square.sqrt() + 1e-6)
        assert torch.allclose(parameter, value, atol=1e-6)

    def test_with_correction_it_is_that_of_torch(self) -> None:
        assert adam_values(3, 0.5, 0.1, settings()) == {"lr": 0.5, "eps": 1e-6, "weight_decay": 0.1}


class TestOrder:
    @given(st.integers(1, 60), st.integers(1, 20))
    def test_each_epoch_takes_everything_once(self, count: int, group: int) -> None:
        order = Order(count, group, 7)
        for epoch in range(2):
            indices = [i for step in range(order.steps) for i in order[epoch * order.steps + step]]
            assert sorted(indices) == list(range(count))

    def test_epochs_and_seeds_differ(self) -> None:
        order = Order(20, 20, 7)
        assert order[0] != order[1] != Order(20, 20, 8)[1]
        assert order[0] == Order(20, 20, 7)[0]

    @pytest.mark.parametrize(("epochs", "steps"), [(1.0, 2), (3.0, 6), (0.5, 1), (0.01, 1)])
    def test_the_last_group_of_an_epoch_is_a_step_and_fractions_count(self, epochs: float, steps: int) -> None:
        options = settings(train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=epochs)
        accelerator = make_accelerator(options, 0)
        assert make_order(13, options, accelerator).steps == 2
        assert total_steps(13, options, accelerator) == steps


class TestSettings:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"train_batch_size": 0}, "train_batch_size is 0; it must be at least 1"),
            ({"learning_rate": math.nan}, "learning_rate is nan; it must be above 0 and finite"),
            ({"num_train_epochs": 0.0}, "num_train_epochs is 0.0"),
            ({"adam_b2": 1.0}, "adam_b2 is 1.0; it must be from 0 to below 1"),
            ({"lr_schedule": "cosine"}, "allowed are warmup_linear, warmup_constant"),
            ({"keep": "first"}, "allowed are best, last"),
            ({"fp16_max_loss_scale": 0.5}, "fp16_max_loss_scale 0.5 is below"),
        ],
    )
    def test_what_is_not_allowed_is_named(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            settings(**change)


@dataclasses.dataclass
class State:
    """How far a run came."""

    step: int
    epochs: list[dict[str, float]]
    best_epoch: int


class Run:
    """A run in a folder, that can be stopped."""

    def __init__(self, folder: Path, options: TuneSettings | None = None, scores: Sequence[float] = (0.1, 0.5, 0.3)) -> None:
        self.folder, self.options, self.scores = folder, options or settings(save_steps=2), scores
        self.stored: list[Tensor] = []

    def go(self, *, stop_at: int = 0, stop_in_epoch: int = -1, kill_at: int = 0, resume: bool = False, files: str = "x") -> Any:
        built = stepper(self.options, dropout=0.3)
        about = {"files": {"train.json": files}, "time": "now"}

        def validate() -> dict[str, float]:
            epoch = len(learner.epochs)
            if epoch == stop_in_epoch:
                os.kill(os.getpid(), signal.SIGTERM)
            return {"f1": self.scores[epoch]}

        def step(losses: Mapping[str, float]) -> None:
            if kill_at == loop.state.step:
                raise RuntimeError("killed")
            if stop_at == loop.state.step:
                os.kill(os.getpid(), signal.SIGINT)

        store = lambda step: self.stored.append(weights(built))  # noqa: E731
        learner = TuneLearner(built, DATA, "f1", validate=validate, store=store)
        identity = {"task": "numbers"}
        loop = make_loop(learner, self.folder, about=about, identity=identity, progress=Progress(step=step))
        state = loop.run(resume=resume)
        return weights(built), State(state.step, learner.epochs, learner.best_epoch)

    def trace(self) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in (self.folder / "trace.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k not in ("seconds", "time")} for row in rows if row["kind"] != "run"]


class TestRun:
    def test_the_best_epoch_is_kept(self, tmp_path: Path) -> None:
        run = Run(tmp_path / "a")
        _, state = run.go()
        assert (state.best_epoch, state.epochs) == (1, [{"f1": 0.1}, {"f1": 0.5}, {"f1": 0.3}])
        assert len(run.stored) == 2

    def test_of_equals_the_first_is_kept(self, tmp_path: Path) -> None:
        assert Run(tmp_path / "a", scores=(0.0, 0.5, 0.5)).go()[1].best_epoch == 1

    def test_the_last_is_kept_where_that_is_wanted(self, tmp_path: Path) -> None:
        run = Run(tmp_path / "a", settings(keep="last"))
        last, state = run.go()
        assert state.best_epoch == 2
        assert torch.equal(run.stored[-1], last)

    def test_a_signal_is_told_with_its_number(self, tmp_path: Path) -> None:
        with pytest.raises(Interrupted, match="stopped after step 3 of 12, saved in") as stop:
            Run(tmp_path / "a").go(stop_at=3)
        assert stop.value.signal == signal.SIGINT

    def test_a_run_that_is_over_stays_as_it_is(self, tmp_path: Path) -> None:
        run = Run(tmp_path / "a")
        uninterrupted, _ = run.go()
        rows = run.trace()
        assert torch.equal(run.go(resume=True)[0], uninterrupted)
        assert run.trace() == rows

    def test_without_resume_it_begins_anew(self, tmp_path: Path) -> None:
        run = Run(tmp_path / "a")
        uninterrupted, _ = run.go()
        again, _ = run.go()
        assert torch.equal(again, uninterrupted)
        assert len(run.trace()) == 12 + 3

    def test_other_settings_or_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Interrupted):
            Run(tmp_path / "a").go(stop_at=3)
        with pytest.raises(MismatchError, match=r"other settings or files \(learning_rate\); give the same ones"):
            Run(tmp_path / "a", settings(learning_rate=0.5, save_steps=2)).go(resume=True)
        with pytest.raises(MismatchError, match=r"\(train.json\)"):
            Run(tmp_path / "a").go(resume=True, files="changed")
        Run(tmp_path / "a", settings(save_steps=5)).go(resume=True)  # this one decides nothing

    def test_an_unfinished_epoch_at_the_end_is_validated_too(self, tmp_path: Path) -> None:
        _, state = Run(tmp_path / "a", settings(num_train_epochs=1.5), scores=(0.1, 0.2)).go()
        assert (state.step, len(state.epochs)) == (6, 2)


def work(rank: int, port: int, folder: Path) -> None:
    """A process of two: three steps, the last of them short."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    options = settings(train_batch_size=1, gradient_accumulation_steps=2, num_train_epochs=1.0)
    learner = stepper(options)
    order = make_order(len(DATA), options, learner.accelerator)
    losses = [learner.step(i, [DATA[j] for j in order[i][rank::2]]) for i in range(order.steps)]
    np.savez(folder / f"{rank}.npz", weights=weights(learner).numpy(), losses=np.array(losses))


class TestProcesses:
    def test_two_processes_take_the_same_steps_as_one(self, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=work, args=(rank, port, tmp_path)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
        alone = stepper(settings(train_batch_size=4, num_train_epochs=1.0))
        order = make_order(len(DATA), settings(train_batch_size=4), alone.accelerator)
        losses = [alone.step(i, [DATA[j] for j in order[i]]) for i in range(order.steps)]
        for rank in range(2):
            arrays = np.load(tmp_path / f"{rank}.npz")
            assert arrays["weights"] == pytest.approx(weights(alone).numpy(), abs=1e-5)
            assert arrays["losses"] == pytest.approx(losses, abs=1e-5)

    def test_gpus_that_are_asked_for_must_be_there(self) -> None:
        assert [resolve_gpus(None, 0), resolve_gpus(None, 8), resolve_gpus(0, 8), resolve_gpus(3, 8)] == [0, 1, 0, 3]
        with pytest.raises(SettingsError, match=r"--num-gpus is 8, and there is 1; --num-gpus 0 takes the CPU"):
            resolve_gpus(8, 1)

    def test_the_command_for_several_gpus(self) -> None:
        command = launch_command(8, 29501, ["--num-gpus=8", "ner", "run"])
        assert command == [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "8"),
            *("--master-addr", "127.0.0.1", "--master-port", "29501", "-m", "examples.cli", "--num-gpus=8", "ner", "run"),
        ]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
    def test_a_signal_is_passed_on_and_waited_for(self, number: int, tmp_path: Path) -> None:
        ready = tmp_path / "ready"
        child = (
            "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(7));"
            f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
        )

        def ask() -> None:
            while not ready.exists():
                time.sleep(0.01)
            os.kill(os.getpid(), number)

        threading.Thread(target=ask).start()
        assert launch([sys.executable, "-c", child]) == 7
        assert signal.getsignal(number) is signal.SIG_DFL

    def test_gradients_are_summed_in_groups(self) -> None:
        parameters = [nn.Parameter(torch.zeros(n)) for n in (3, 4, 10, 1)]
        assert [[p.numel() for p in b] for b in buckets(parameters, 8)] == [[3, 4], [10], [1]]


class TestLoggers:
    def test_comet_gets_its_options(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[Any] = []

        class Experiment:
            def __init__(self, **options: Any) -> None:
                calls.append(options)

            def log_parameters(self, values: Any) -> None:
                calls.append(values)

            def log_metrics(self, values: Any, step: int) -> None:
                calls.append((values, step))

            def end(self) -> None:
                calls.append("end")

        module = types.ModuleType("comet_ml")
        module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
        module.OfflineExperiment = Experiment  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "comet_ml", module)
        options = {"offline": True, "offline_dir": "x", "project_name": "p", "log_code": False}
        logger = make_logger("comet", tmp_path, options, {"seed": 1})
        logger.log({"loss": 0.5}, 3)
        logger.close()
        opened = {"offline_directory": "x", "project_name": "p", "log_code": False}
        assert calls == [opened, {"seed": 1}, ({"loss": 0.5}, 3), "end"]

    def test_a_logger_that_is_not_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(PACKAGES, "comet", "no_such_package")
        with pytest.raises(SettingsError, match=r"--logger comet needs .* pip install no_such_package"):
            make_logger("comet", tmp_path, {}, {})
