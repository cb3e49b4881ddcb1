"""One tiny run of each kind, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blink.kglm.kinds import runner_for
from blink.kglm.settings import Settings
from blink.runs.progress import Progress
from examples.luke.learner import TuneLearner, make_loop
from tests.examples import luke_toys
from tests.kglm import glove_toys, graph_toys, lm_toys

Prepare = Callable[[Path], Path]
Train = Callable[[Path, Path, bool, Progress, int], None]


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        prepare: writes its data below a folder, and returns where.
        train: trains on data in the folder of a run: data, folder, whether to resume, progress, epochs.
        epochs: of the run.
        shorter: epochs of a run that it may continue; 0 where a run cannot be made longer.
    """

    prepare: Prepare
    train: Train
    epochs: int
    shorter: int


def kglm_kind(prepare: Prepare, settings: Callable[[Path], Settings], epochs: int, shorter: int) -> Kind:
    """A kind of `blink.kglm`."""

    def train(data: Path, run: Path, resume: bool, progress: Progress, epochs: int) -> None:
        options = settings(data).replace({"device": "cpu", "train.epochs": epochs})
        runner_for(options.kind).train(options, run, resume=resume, progress=progress)

    return Kind(prepare, train, epochs, shorter)


def graph_settings(data: Path) -> Settings:
    """Settings in which all that a checkpoint must hold changes all the time."""
    changes: dict[str, Any] = {
        "train__batch_size": 4, "model__entity_dropout": 0.2, "model__relation_dropout": 0.1,
        "stop__every": 1, "stop__delta": 2.0, "stop__patience": 0, "train__lr_factor": 0.7, "train__lr_patience": 2,
    }  # fmt: skip
    return graph_toys.toy_settings(data, **changes)


def lm_settings(kind: str, changes: Mapping[str, Any]) -> Callable[[Path], Settings]:
    """Settings of the language side."""
    return lambda data: lm_toys.settings_for(data, kind, changes)


def glove_settings(**changes: Any) -> Callable[[Path], Settings]:
    """Settings of words, alone or with a graph."""
    return lambda data: glove_toys.settings(data, **changes)


def linker_kind(epochs: int, **settings: Any) -> Kind:
    """Training of a linker."""
    from training_toys import make_toy, trainer

    def train(data: Path, run: Path, resume: bool, progress: Progress, epochs: int) -> None:
        trainer(data, run, epochs=epochs, **settings).run(resume=resume, progress=progress)

    return Kind(make_toy, train, epochs, 0)


def fine_tune(data: Path, run: Path, resume: bool, progress: Progress, epochs: int) -> None:
    """Fine-tune LUKE's loop on numbers; scores rise and fall."""
    options = luke_toys.settings(save_steps=2, num_train_epochs=float(epochs))
    stepper = luke_toys.stepper(options, dropout=0.3)

    def store(step: int) -> None:
        run.mkdir(exist_ok=True)
        save_file({name: p.detach() for name, p in stepper.model.named_parameters()}, run / "model.safetensors")

    def validate() -> dict[str, float]:
        return {"f1": (0.1, 0.5, 0.3)[len(learner.epochs)]}

    learner = TuneLearner(stepper, luke_toys.DATA, "f1", validate=validate, store=store)
    make_loop(learner, run, about={"files": {}}, identity={"task": "numbers"}, progress=progress).run(resume=resume)


SAMPLED = {"cells.kind": "BiLSTM", "language.softmax": "sampled", "language.samples": 9}

KINDS: dict[str, Callable[[], Kind]] = {
    "linker": lambda: linker_kind(3, mix="questions=1,plain=0.2,swapped=0.3", dropout=0.1, save_steps=3, log_steps=1),
    "linker with entity tower": lambda: linker_kind(
        2, dropout=0.1, save_steps=3, log_steps=1, entity_tower="trained", objective="in_batch+hard_negatives", refresh_steps=3
    ),
    "graph": lambda: kglm_kind(graph_toys.family, graph_settings, 6, 4),
    "lm": lambda: kglm_kind(lm_toys.write_world, lm_settings("lm", SAMPLED), 3, 2),
    "joint lm": lambda: kglm_kind(
        lm_toys.write_world, lm_settings("joint", {**SAMPLED, "joint.every": 2, "validation.keep_both": True}), 4, 2
    ),
    "glove": lambda: kglm_kind(glove_toys.data, glove_settings(**{"joint.alpha": 0.0, "stop.every": 1}), 4, 2),
    "glove with graph": lambda: kglm_kind(glove_toys.data, glove_settings(**{"joint.coupling": "contrastive"}), 6, 3),
    "luke": lambda: Kind(lambda folder: folder, fine_tune, 3, 0),
}
"""By name; built on use, because some import large libraries."""


def weights(run: Path) -> dict[str, Tensor]:
    """All weights that a run keeps, by file and name."""
    files = sorted(path for path in run.rglob("*.safetensors"))
    return {f"{path.relative_to(run)} {name}": value for path in files for name, value in load_file(path).items()}


def assert_same_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
