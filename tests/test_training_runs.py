"""Runs that are stopped or damaged resume to the weights of an undisturbed run, and log it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from training_toys import make_toy, question, trainer, weights

from blink.errors import CheckpointError, MismatchError, SettingsError
from blink.evaluation.sweep import SweepPoint
from blink.files import read_json
from blink.kb.knowledge_base import KnowledgeBase
from blink.model.biencoder import BiEncoder
from blink.runs.checkpoints import CHECKPOINTS_FOLDER, MAX_CHECKPOINTS, checkpoints
from blink.runs.folder import CURVES_FILE, TRACE_FILE
from blink.runs.progress import Progress
from blink.runs.signals import Interrupted
from blink.training.launch import make_accelerator, with_precision
from blink.training.learner import BEST_FILE
from blink.training.settings import RankSettings, TrainSettings

torch.set_num_threads(1)

INF, NAN = float("inf"), float("nan")
TESTS = Path(__file__).resolve().parent
FROZEN = {"mix": "questions=1,plain=0.2", "dropout": 0.1, "save_steps": 3, "log_steps": 1}
MOVING = {**FROZEN, "entity_tower": "trained", "objective": "in_batch+hard_negatives", "refresh_steps": 3, "epochs": 2}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def undisturbed(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    training = trainer(toy, tmp_path_factory.mktemp("whole"), **FROZEN)
    training.run()
    return weights(training)


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / TRACE_FILE).read_text().splitlines()]
    return [row for row in records if row["kind"] == kind]


class TestStopped:
    def test_a_second_ctrl_c_does_not_wait(self, toy: Path, tmp_path: Path) -> None:
        def ask(losses: dict[str, float]) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            trainer(toy, tmp_path, **FROZEN).run(progress=Progress(step=ask))


class TestDamaged:
    @pytest.fixture
    def run(self, toy: Path, tmp_path: Path) -> Path:
        kill = Progress(step=lambda losses: os.kill(os.getpid(), signal.SIGTERM) if training.state.step == 8 else None)
        training = trainer(toy, tmp_path, **FROZEN)
        with pytest.raises(Interrupted):
            training.run(progress=kill)
        assert len(checkpoints(tmp_path / CHECKPOINTS_FOLDER)) == MAX_CHECKPOINTS
        return tmp_path

    @staticmethod
    def truncate(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    @staticmethod
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)

    @pytest.mark.parametrize("defect", ["truncate", "flip"])
    def test_the_one_before_is_gone_on_from(
        self, toy: Path, run: Path, undisturbed: dict[str, torch.Tensor], defect: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        before, newest = checkpoints(run / CHECKPOINTS_FOLDER)
        getattr(self, defect)(newest)
        training = trainer(toy, run, **FROZEN)
        training.run(resume=True)
        assert_equal(weights(training), undisturbed)
        assert f"{newest} is cut short or damaged; continuing from {before.name}" in caplog.text

    def test_all_of_them(self, toy: Path, run: Path) -> None:
        for path in checkpoints(run / CHECKPOINTS_FOLDER):
            path.write_bytes(b"")
        with pytest.raises(
            CheckpointError, match=r"step-\S+.pt is cut short or damaged; there is no older checkpoint"
        ) as caught:
            trainer(toy, run, **FROZEN).run(resume=True)
        assert "\n" not in str(caught.value)


class TestNoNumber:
    def test_a_loss_names_epoch_step_and_texts(self, toy: Path, tmp_path: Path) -> None:
        training = trainer(toy, tmp_path, epochs=2)

        def poison(losses: dict[str, float]) -> None:
            if training.state.step == 6:
                with torch.no_grad():
                    training.model.mention_scorer.bound_classifier.bias.fill_(float("nan"))  # type: ignore[union-attr]

        with pytest.raises(SettingsError, match="the loss is nan at epoch 2, step 3, with the texts '") as caught:
            training.run(progress=Progress(step=poison))
        named = {text_id.strip("'") for text_id in str(caught.value).split("texts ")[1].split(";")[0].split(", ")}
        assert named == set(training.learner.epochs[1].micro_batches(2, training.learner.rank)[0].samples)
        assert len(named) == 8

    def test_a_gradient_is_found_before_it_reaches_the_weights(self, toy: Path, tmp_path: Path) -> None:
        training = trainer(toy, tmp_path, epochs=1)
        before = weights(training)
        training.learner.stepper.trained[0].register_hook(lambda gradient: gradient * float("inf"))
        with pytest.raises(SettingsError, match=r"the gradient is (nan|inf) at epoch 1, step 1"):
            training.run()
        assert_equal(weights(training), before)


class TestStopping:
    def test_early(self, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        scores = iter([0.2, 0.5, 0.4, 0.5, 0.6])
        training = trainer(toy, tmp_path, epochs=9, patience=2)
        monkeypatch.setattr(training.learner.validation, "score", lambda: SweepPoint(-1.0, 0.5, 0.5, next(scores)))
        assert training.run().f1 == 0.5  # the fourth is no better than the second
        assert [row["f1"] for row in rows(tmp_path, "validation")] == [0.2, 0.5, 0.4, 0.5]
        best = json.loads((tmp_path / BEST_FILE).read_text())
        assert (best["epoch"], best["f1"]) == (1, 0.5)
        again = trainer(toy, tmp_path, epochs=9, patience=2)
        assert again.run(resume=True).f1 == 0.5
        assert again.state.step == training.state.step == 4 * 4

    def test_validations_between_epochs(self, toy: Path, tmp_path: Path) -> None:
        trainer(toy, tmp_path, epochs=2, eval_steps=3).run()
        assert [row["step"] for row in rows(tmp_path, "validation")] == [3, 4, 6, 8]


class TestFolder:
    def test_the_trace_begins_with_where_the_run_comes_from(self, toy: Path, tmp_path: Path) -> None:
        source = tmp_path / "train.jsonl"
        source.write_text("{}\n")
        training = trainer(toy, tmp_path / "run", sources=[source], epochs=1)
        training.run()
        first = json.loads((tmp_path / "run" / TRACE_FILE).read_text().splitlines()[0])
        assert first["kind"] == "run"
        assert {"git", "python", "host", "device", "processes", "catalogue", "time"} <= first.keys()
        assert {"blink", "torch", "transformers", "accelerate"} == first["versions"].keys()
        assert first["catalogue"] == training.kb.catalogue.sha256
        assert len(first["files"][str(source)]) == 64
        assert (tmp_path / "run" / CURVES_FILE).read_bytes().startswith(b"\x89PNG")
        source.write_text("{} \n")
        other = trainer(toy, tmp_path / "run", sources=[source], epochs=1)
        with pytest.raises(MismatchError, match=r"other settings or files \(.*train.jsonl\)"):
            other.run(resume=True)

    def test_other_files_do_not_resume_and_moved_ones_do(self, toy: Path, tmp_path: Path) -> None:
        old, dev, moved, more = (tmp_path / name for name in ("old.jsonl", "dev.jsonl", "moved.jsonl", "more.jsonl"))
        for path, text in ((old, "1"), (dev, "2"), (moved, "1"), (more, "3")):
            path.write_text(text)

        def begin(sources: list[Path], *, resume: bool) -> None:
            trainer(toy, tmp_path / "run", sources=sources, epochs=1).run(resume=resume)

        begin([old, dev], resume=False)
        begin([moved, dev], resume=True)
        for sources, words in (
            ([more, dev], r"old.jsonl, \S+more.jsonl\)"),
            ([old], r"\(\S+dev.jsonl\)"),
            ([old, dev, more], r"\(\S+more.jsonl\)"),
            ([dev, old], r"\(\S+dev.jsonl in another place, \S+old.jsonl in another place\)"),
            ([old, dev, moved], r"\(\S+moved.jsonl in another place\)"),
        ):
            with pytest.raises(MismatchError, match=words) as caught:
                begin(sources, resume=True)
            assert "\n" not in str(caught.value)

    def test_another_catalogue_does_not_resume(self, toy: Path, tmp_path: Path) -> None:
        trainer(toy, tmp_path, epochs=1).run()
        trace = tmp_path / TRACE_FILE
        first, *others = trace.read_text().splitlines(keepends=True)
        about = json.loads(first)
        trace.write_text("".join([json.dumps({**about, "catalogue": "0" * 64}) + "\n", *others]))
        with pytest.raises(MismatchError, match=r"files \(the catalogue of the knowledge base\); give the same"):
            trainer(toy, tmp_path, epochs=1).run(resume=True)
        del about["catalogue"]  # as older releases wrote it
        trace.write_text("".join([json.dumps(about) + "\n", *others]))
        trainer(toy, tmp_path, epochs=1).run(resume=True)

    def test_what_decides_nothing_may_change(self, toy: Path, tmp_path: Path) -> None:
        trainer(toy, tmp_path, epochs=1).run()
        trainer(toy, tmp_path, epochs=1, save_steps=2, log_steps=7, patience=1).run(resume=True)

    def test_a_new_run_clears_the_old_one(self, toy: Path, tmp_path: Path) -> None:
        trainer(toy, tmp_path, epochs=2, save_steps=1).run()
        trainer(toy, tmp_path, epochs=1, batch_size=16).run()
        assert len(rows(tmp_path, "run")) == 1
        trainer(toy, tmp_path, epochs=1, batch_size=16).run(resume=True)

    def test_learnt_entity_vectors_are_stored_with_the_best_model(self, toy: Path, tmp_path: Path) -> None:
        for tower in ("trained", "adapters"):
            training = trainer(toy, tmp_path / tower, entity_tower=tower, objective="in_batch", epochs=2)
            best = training.run()
            model = BiEncoder.from_pretrained(tmp_path / tower / "best", candidate=True)
            kb = KnowledgeBase.open(tmp_path / tower / "best-kb")
            assert kb.manifest is not None
            assert kb.manifest.model == model.candidate_fingerprint() != training.kb.manifest.model  # type: ignore[union-attr]
            assert model.config.threshold == best.threshold
            encoded = model.encode_entities(list(kb.catalogue))
            torch.testing.assert_close(torch.from_numpy(encoded), torch.tensor(kb.vectors), atol=1e-5, rtol=0)
            with pytest.raises(MismatchError):
                training.kb.require_model(model.config.candidate_fingerprint)


class TestEpochs:
    def test_distributed_texts_are_all_seen_once(self, toy: Path, tmp_path: Path) -> None:
        training = trainer(toy, tmp_path, epochs=3, batch_size=4, distribute=True)
        learner = training.learner
        numbers = range(learner.epochs.steps)
        texts_of_epochs = [
            {s for n in numbers for s in learner.epochs[e].micro_batches(n, learner.rank)[0].samples} for e in range(3)
        ]
        assert [len(s) for s in texts_of_epochs] == [10, 10, 10]
        assert set.union(*texts_of_epochs) == {str(i) for i in range(30)}

    def test_too_few_texts_are_not_distributed(self, toy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        training = trainer(toy, tmp_path, epochs=10, batch_size=4, distribute=True)
        assert "30 texts over 10 epochs are 3 an epoch, less than a batch of 4" in caplog.text
        assert training.learner.epochs.steps == 8

    def test_in_order(self, toy: Path, tmp_path: Path) -> None:
        training = trainer(toy, tmp_path, in_order=True)
        samples = [
            s
            for n in range(training.learner.epochs.steps)
            for s in training.learner.epochs[1].micro_batches(n, training.learner.rank)[0].samples
        ]
        assert samples == [question(i, training.kb).id for i in range(30)]


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"objective": "softmax"}, "'softmax'; allowed are catalogue, in_batch"),
            ({"objective": "in_batch+in_batch"}, "name each loss once"),
            ({"objective": "hard_negatives+hard_negatives_bce"}, "mined negatives in one form"),
            ({"entity_tower": "trained"}, "entity tower frozen"),
            ({"entity_tower": "cold"}, "allowed are frozen"),
            ({"precision": "fp8"}, "allowed are auto, bf16"),
            ({"accumulation": 0}, "at least 1"),
            ({"warmup": 1.0}, "share"),
            ({"seed": -1}, "seed is -1; it must be"),
            ({"seed": 1 << 64}, "it must be from 0 to"),
            ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be"),
            ({"weight_decay": NAN}, "weight_decay is nan"),
            ({"dropout": 2.0}, "dropout is 2.0; it must be a share"),
            ({"dropout": NAN}, "dropout is nan"),
            ({"learning_rate": INF}, "learning_rate is inf; it must be"),
            ({"learning_rate": NAN}, "learning_rate is nan; it must be"),
            ({"head_learning_rate": INF}, "head_learning_rate is inf"),
            ({"max_grad_norm": NAN}, "max_grad_norm is nan"),
            ({"leave_out": "0/1"}, "leave_out is '0/1'; it must be a part of several"),
            ({"mix": "questions=inf"}, "the share of questions is 'inf'"),
        ],
    )
    def test_wrong_ones(self, wrong: dict[str, Any], words: str) -> None:
        with pytest.raises(SettingsError) as caught:
            TrainSettings(**wrong)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"learning_rate": 0.0}, {"learning_rate": INF}, {"learning_rate": NAN}, {"weight_decay": -1.0},
            {"weight_decay": NAN}, {"seed": -1}, {"seed": 1 << 64}, {"min_mention_log_prob": NAN},
            {"min_mention_log_prob": INF},
        ],
    )  # fmt: skip
    def test_wrong_ones_of_a_ranker(self, wrong: dict[str, Any]) -> None:
        ((name, value),) = wrong.items()
        with pytest.raises(SettingsError, match=f"^{name} is {value}; it must be ") as caught:
            RankSettings(**wrong)
        assert "\n" not in str(caught.value)

    def test_what_is_just_in_range(self) -> None:
        TrainSettings(seed=0, weight_decay=0.0, dropout=0.0, max_grad_norm=INF)
        RankSettings(seed=0, weight_decay=0.0, dropout=0.0)

    @pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
    def test_precision_is_that_of_the_entity_vectors_too(
        self, toy: Path, tmp_path: Path, precision: str, kind: torch.dtype
    ) -> None:
        training = trainer(toy, tmp_path, precision=precision)
        vectors = training.learner.stepper._catalogue
        assert vectors is not None
        assert vectors.dtype == kind
        assert torch.equal(vectors, torch.tensor(training.kb.vectors).to(kind))

    @pytest.mark.parametrize(
        ("precision", "hardware", "used", "words"),
        [
            ("auto", True, "bf16", "precision bf16"),
            ("auto", False, "fp32", "precision fp32, as this cpu has no bfloat16"),
            ("bf16", False, "bf16", "about three times as long as fp32"),
            ("fp32", True, "fp32", "which is faster"),
        ],
    )
    def test_the_precision_used_is_said_and_stored(
        self, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, hardware: bool, used: str, words: str
    ) -> None:
        monkeypatch.setattr("blink.training.launch.has_bf16", lambda device: hardware)
        lines: list[str] = []
        trainer(toy, tmp_path, epochs=1, precision=precision).run(progress=Progress(say=lines.append))
        assert [words in line for line in lines if "precision" in line] == [True]
        assert read_json(tmp_path / "settings.json")["precision"] == used

    @pytest.mark.parametrize("stored", ["bf16", "fp32"])
    def test_a_resumed_run_keeps_its_precision(
        self, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str
    ) -> None:
        trainer(toy, tmp_path, epochs=1, precision=stored).run()
        monkeypatch.setattr("blink.training.launch.has_bf16", lambda device: stored == "fp32")
        cpu = torch.device("cpu")
        assert with_precision(TrainSettings(), cpu, tmp_path).precision == stored
        assert with_precision(TrainSettings(), cpu).precision != stored
        assert with_precision(TrainSettings(), cpu, tmp_path / "none").precision != stored
        assert with_precision(TrainSettings(precision="fp16"), cpu, tmp_path).precision == "fp16"

    def test_fp16_needs_a_gpu(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="needs a GPU"):
            make_accelerator(TrainSettings(precision="fp16"), torch.device("cpu"), tmp_path)

    def test_a_tracker_that_is_not_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(SettingsError, match="pip install tensorboard"):
            make_accelerator(TrainSettings(tracker="tensorboard"), torch.device("cpu"), tmp_path)

    def test_tensorboard(self, toy: Path, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        trainer(toy, tmp_path, epochs=1, tracker="tensorboard").run()
        assert list(tmp_path.rglob("events.out.tfevents.*"))

    @pytest.mark.parametrize(
        ("layers", "learns"),
        [("all_encoder_layers", {"0", "1"}), ("top4_layers", {"0", "1"}), ("top_layer", {"1"}), ("additional_layers", set())],
    )
    def test_layers_by_the_names_of_the_original(self, toy: Path, tmp_path: Path, layers: str, learns: set[str]) -> None:
        training = trainer(toy, tmp_path, train_layers=layers)
        names = [n for n in weights(training) if n.startswith("context_encoder")]
        assert {n.split(".")[3] for n in names} == learns
        assert any(n.startswith("mention_scorer.") for n in weights(training))


def test_the_model_of_each_epoch_is_kept(toy: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]) -> None:
    training = trainer(toy, tmp_path / "run", keep_epochs=True, first_epoch=9, eval_steps=3, **FROZEN)
    training.run()
    assert_equal(undisturbed, weights(training))
    folders = sorted(p.name for p in (tmp_path / "run").glob("epoch_*"))
    assert folders == ["epoch_10", "epoch_11", "epoch_9"]
    stored = [(tmp_path / "run" / name / "adapters.safetensors").read_bytes() for name in (*folders, "last")]
    assert stored[1] == stored[3]
    assert len(set(stored)) == 3
