"""A step is the same however its batch is split: into parts, over processes, with layers computed again."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from training_toys import fresh, make_toy, question, weights

from blink.data.records import Mention, Sample
from blink.kb.knowledge_base import KnowledgeBase
from blink.training.settings import TrainSettings
from blink.training.trainer import Trainer

torch.set_num_threads(1)

CASES = [
    ("catalogue", "frozen"),
    ("in_batch", "frozen"),
    ("in_batch", "trained"),
    ("hard_negatives", "frozen"),
    ("hard_negatives", "adapters"),
    ("hard_negatives_bce", "frozen"),
    ("in_batch+hard_negatives", "trained"),
]
"""Objective and entity tower."""
OVER_PROCESSES = [CASES[i] for i in (0, 2, 5, 6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a pretrained encoder and a knowledge base."""
    return make_toy(tmp_path_factory.mktemp("split"))


def texts(kb: KnowledgeBase) -> list[Sample]:
    """Texts with none, one and two mentions, one of them not in the catalogue, and entities that come again."""
    single = [question(i, kb) for i in (3, 4, 3, 9, 10, 27, 11, 14)]
    first, second = kb.catalogue.title(3), kb.catalogue.title(5)
    text = f"{first} or {second}, which?"
    start = text.index(second)
    mentions = Mention(0, len(first), 3), Mention(start, start + len(second), 5)
    unknown = Sample("unknown", "who is nobody at all?", (Mention(7, 13),))
    return [*single, Sample("two", text, mentions), unknown, Sample("none", "what a day", ())]


def first_step(folder: Path, run: str, **settings: Any) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Losses and gradients of a run's first step, on one batch of all texts."""
    kb = KnowledgeBase.open(folder / "kb")
    options = {
        "epochs": 1,
        "batch_size": 64,
        "dropout": 0.0,
        "precision": "fp32",
        "max_grad_norm": 1e9,
        "negatives": 3,
        **settings,
    }
    training = Trainer(fresh(folder / "base"), kb, texts(kb), [texts(kb)[:4]], folder / run, TrainSettings(**options))
    epoch = training.learner.epochs[0]
    batches = epoch.micro_batches(0, training.learner.rank)
    if training.learner._negatives is not None:
        batches = training.learner._negatives.add(batches, 0, 0, lambda n: epoch.micro_batches(n, training.learner.rank), 1)
    training.model.train()
    losses = training.learner.stepper.step(0, batches, "the first step")
    return losses, {n: p.grad.clone() for n, p in training.model.named_parameters() if p.grad is not None}


def assert_same(one: Any, other: Any) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    assert one[1].keys() == other[1].keys()
    assert max(float(g.abs().max()) for g in one[1].values()) > 1e-3
    for name, gradient in one[1].items():
        torch.testing.assert_close(other[1][name], gradient, atol=2e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("objective", "tower"), CASES)
def test_parts(folder: Path, objective: str, tower: str) -> None:
    settings = {"objective": objective, "entity_tower": tower}
    unsplit = first_step(folder, "whole", **settings)
    assert unsplit[0]["entity"] > 0
    for count in (2, 4, 50):  # 50: more than there are texts
        assert_same(unsplit, first_step(folder, "parts", accumulation=count, **settings))


@pytest.mark.parametrize("tower", ["frozen", "trained"])
def test_gradient_checkpointing(folder: Path, tower: str) -> None:
    settings = {"objective": "in_batch", "entity_tower": tower, "dropout": 0.1}
    assert_same(first_step(folder, "kept", **settings), first_step(folder, "again", gradient_checkpointing=True, **settings))


def process(rank: int, folder: str, port: int) -> None:
    """What each of two processes does: every case's first step, and a short run whose second half is a continuation."""
    PartialState._reset_state()  # of the process that it was forked from
    AcceleratorState._reset_state()
    GradientState._reset_state()
    variables = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": 2,
        "LOCAL_WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({k: str(v) for k, v in variables.items()} | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    where = Path(folder)
    results = {f"{o} {t}": first_step(where, "two", objective=o, entity_tower=t, accumulation=2) for o, t in OVER_PROCESSES}
    results["weights"] = run_on(where, resume=False), run_on(where, resume=True)  # type: ignore[assignment]
    torch.save(results, where / f"process-{rank}.pt")
    torch.distributed.destroy_process_group()


def run_on(folder: Path, *, resume: bool) -> dict[str, torch.Tensor]:
    """Weights after a run in several processes."""
    kb = KnowledgeBase.open(folder / "kb")
    settings = TrainSettings(epochs=2, batch_size=4, objective="in_batch+hard_negatives", precision="fp32", refresh_steps=2)
    training = Trainer(fresh(folder / "base"), kb, texts(kb), [texts(kb)[:4]], folder / "run", settings)
    training.run(resume=resume)
    return weights(training)


def test_processes(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(process, (str(folder), port), nprocs=2, start_method="fork")
    results = [torch.load(folder / f"process-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for objective, tower in OVER_PROCESSES:
        alone = first_step(folder, "alone", objective=objective, entity_tower=tower)
        for outputs in results:
            assert_same(alone, outputs[f"{objective} {tower}"])
    for first, second in zip(results[0]["weights"], results[1]["weights"], strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)
    before, resumed = results[0]["weights"]
    assert all(torch.equal(before[name], resumed[name]) for name in before)
