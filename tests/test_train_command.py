"""``blink train``: today's options, the original's flags, where a run goes, and how it is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from toys import ROOT, base_folder, knowledge_base, rows

from blink.compat.elq.training import FLAGS, train
from blink.kb.building import build_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig
from blink.model.loading import load_model
from blink.training import inputs
from blink.training.inputs import default_folder
from blink.training.settings import TrainSettings
from blink.training.start import Start, starting_model
from tests.compat.originals import Reference, Shape

torch.set_num_threads(1)

Blink = Callable[..., tuple[int, str, str]]
QUICK = ("--epochs", "1", "--batch-size", "8", "--precision", "fp32", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, ``kb``, and a data folder ``set`` with train.jsonl and valid.jsonl."""
    where = tmp_path_factory.mktemp("command")
    encoder = load_model(base_folder(where / "base"), context=False, candidate=True)
    kb = knowledge_base(where / "kb", encoder, rows(24))
    (where / "set").mkdir()
    lines = []
    for i in range(24):
        title = kb.catalogue.title(i)
        lines.append(
            json.dumps({"id": str(i), "text": f"where is {title}?", "mentions": [[9, 9 + len(title)]], "label_id": [i]})
        )
    (where / "set" / "train.jsonl").write_text("\n".join(lines) + "\n")
    (where / "set" / "valid.jsonl").write_text("\n".join(lines[:8]) + "\n")
    return where


def parsed(*arguments: str) -> dict[str, Any]:
    """Options as the command gets them, with the original's flags turned into today's."""
    context = train.make_context("train", ["--kb", "kb", *arguments])
    return dict(context.params)


class TestOriginalFlags:
    RECIPE = (
        "--title_key entity --num_train_epochs 100 --learning_rate 0.00001 --max_context_length 20 "
        "--max_cand_length 128 --train_batch_size 128 --eval_interval 500 --data_parallel --get_losses "
        "--do_mention_detection --no_mention_bounds --mention_aggregation_type all_avg "
        "--mention_scoring_method qa_linear --bert_model bert-large-uncased --freeze_cand_enc "
        "--load_cand_enc_only --path_to_model models/biencoder_wiki_large.bin --last_epoch -1 "
        "--adversarial_training --data_path d --output_path o --shuffle False --dont_distribute_train_samples "
        "--fp16 --gradient_accumulation_steps 4 --warmup_proportion 0.2 --max_grad_norm 2 --type_optimization "
        "all_encoder_layers --print_interval 7"
    )
    """As the original's shell script puts it together, and more."""

    def test_a_recipe(self, capfd: pytest.CaptureFixture[str]) -> None:
        options = parsed(*self.RECIPE.split())
        expected = {
            "epochs": 100, "learning_rate": 1e-5, "context_length": 20, "candidate_length": 128, "batch_size": 128,
            "eval_steps": 500, "aggregation": "all_avg", "mention_scorer": "qa_linear", "model": "bert-large-uncased",
            "entity_tower": "frozen", "candidate_only": True, "checkpoint": "models/biencoder_wiki_large.bin",
            "objective": "hard_negatives_bce", "data": "d", "out": "o", "in_order": True, "distribute": False,
            "precision": "fp16", "accumulation": 4, "warmup": 0.2, "max_grad_norm": 2.0, "train_layers": "all_encoder_layers",
            "log_steps": 7, "first_epoch": 0,
        }  # fmt: skip
        assert {k: options[k] for k in expected} == expected
        noted = "--data_parallel, --no_mention_bounds, --do_mention_detection, --get_losses, --title_key"
        assert capfd.readouterr().err == f"accepted, without effect: {noted}\n"

    @pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
    def test_each_parses(self, flag: Any) -> None:
        value = "true" if flag.switch else "2"
        options = parsed(f"--{flag.name}", value)
        assert not any(name.startswith("original_") for name in options)
        if flag.switch:
            assert parsed(f"--{flag.name}") == options
            parsed(f"--{flag.name}", "false")

    def test_switches_that_are_false(self) -> None:
        options = parsed(
            "--freeze_cand_enc", "False", "--adversarial_training", "false", "--dont_distribute_train_samples", "no"
        )
        assert (options["entity_tower"], options["objective"], options["distribute"]) == ("trained", "in_batch", True)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--shuffle", "perhaps"), "--shuffle is 'perhaps'; it must be true or false"),
            (("--train_batch_size", "x"), "it must be a whole number"),
            (("--train_batch_size", "8", "--batch-size", "8"), "--train_batch_size and --batch-size set the same"),
        ],
    )
    def test_mistakes(self, arguments: tuple[str, ...], words: str) -> None:
        with pytest.raises(click.UsageError) as caught:
            parsed(*arguments)
        assert words in caught.value.message

    def test_help_shows_them_last(self, blink: Blink) -> None:
        _, out, _ = blink("train", "--help")
        today, _, of_original = out.partition("Flags of the original's training script:")
        assert "--train_batch_size" in of_original
        assert "--train_batch_size" not in today
        assert "--data_path to --fp16" in " ".join(today.split())


class TestFolder:
    def test_it_is_named_as_the_original_s_script_does(self) -> None:
        settings = TrainSettings(objective="hard_negatives_bce")
        named = default_folder(
            settings, "x/webqsp_all_ents/train.jsonl", "bert-large-uncased", ModelConfig(max_context_length=20)
        )
        assert named == Path("experiments/webqsp_all_ents/all_mention_biencoder_all_avg_true_20_true_true_bert_large_qa_linear")
        plain = default_folder(TrainSettings(), "x/questions.jsonl", "some/encoder", ModelConfig())
        assert plain == Path("experiments/questions/all_mention_biencoder_all_avg_true_128_true_false_bert_encoder_qa_linear")

    def test_a_run_is_not_begun_over_another(self, folder: Path, tmp_path: Path, blink: Blink, monkeypatch: Any) -> None:
        monkeypatch.chdir(tmp_path)
        command = ("train", "--data_path", folder / "set", "--kb", folder / "kb", "--model", folder / "base", *QUICK)
        status, _, err = blink(*command)
        assert status == 0, err
        (run,) = (tmp_path / "experiments" / "set").iterdir()
        assert {"settings.json", "trace.jsonl", "curves.png", "best", "last", "best.json", "checkpoints"} <= {
            p.name for p in run.iterdir()
        }
        assert json.loads((run / "best.json").read_text())["f1"] >= 0
        status, _, err = blink(*command)
        assert (status, "holds a run already" in err, err.count("\n")) == (1, True, 1)
        assert blink(*command, "--resume")[0] == 0

    def test_auto_resumes_a_run_in_its_precision(
        self, folder: Path, tmp_path: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = ("train", "--data", folder / "set", "--kb", folder / "kb", "--model", folder / "base", "--out", tmp_path)
        quick = [option for option in QUICK if option not in ("--precision", "fp32")]
        assert blink(*command, *quick, "--precision", "bf16")[0] == 0
        monkeypatch.setattr("blink.training.launch.has_bf16", lambda device: False)
        status, _, err = blink(*command, *quick, "--resume")
        assert (status, "about three times" in err) == (0, True), err
        status, _, err = blink(*command, *quick)
        assert (status, "precision fp32, as" in err) == (0, True), err
        assert json.loads((tmp_path / "settings.json").read_text())["precision"] == "fp32"

    def test_development_texts_that_are_trained_on_are_said(self, folder: Path, tmp_path: Path, blink: Blink) -> None:
        command = ("train", "--data", folder / "set", "--kb", folder / "kb", "--model", folder / "base", "--out", tmp_path)
        status, _, err = blink(*command, *QUICK)
        assert (status, "8 of 8 development texts are training texts too" in err) == (0, True)

    @pytest.mark.parametrize("which", ["--train", "--dev"])
    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"text": "unmozartlike", "mentions": [[1, 3]], "label_id": [2]}, "1 of 1 gold spans begin or end inside a word"),
            ({"text": "where is it " * 9, "mentions": [[0, 100]], "label_id": [2]}, "longer than 11 tokens"),
        ],
    )
    def test_gold_that_no_model_proposes_is_refused(
        self, folder: Path, tmp_path: Path, blink: Blink, which: str, wrong: dict[str, Any], words: str
    ) -> None:
        (tmp_path / "wrong.jsonl").write_text(json.dumps(wrong) + "\n")
        files = {"--train": folder / "set" / "train.jsonl", "--dev": folder / "set" / "valid.jsonl"}
        files[which] = tmp_path / "wrong.jsonl"
        arguments = [argument for pair in files.items() for argument in pair]
        options = ("--kb", folder / "kb", "--model", folder / "base", "--out", tmp_path / "run", *QUICK)
        status, _, err = blink("train", *arguments, *options)
        assert (status, words in err, err.count("\n")) == (1, True, 1), err

    def test_texts_are_needed(self, folder: Path, blink: Blink) -> None:
        status, _, err = blink("train", "--kb", folder / "kb")
        assert (status, "--data DIR" in err) == (1, True)
        status, _, err = blink("train", "--kb", folder / "kb", "--data", folder / "kb")
        assert (status, "train.jsonl" in err) == (1, True)


def test_large_files_are_read_line_by_line(folder: Path, tmp_path: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "STREAMED_BYTES", 0)
    command = ("train", "--data", folder / "set", "--kb", folder / "kb", "--model", folder / "base", "--out", tmp_path, *QUICK)
    status, _, err = blink(*command, "--mix", "questions=1,plain=0.2,swapped=0.2")
    assert status == 0, err
    assert len(list((tmp_path / "offsets").iterdir())) == 1
    steps = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert max(row.get("step", 0) for row in steps) == 5  # 24 questions and 10 synthetic texts
    status, _, err = blink(*command, "--mix", "questions=1,plain=0.2,swapped=0.2", "--resume")
    assert status == 0, err


def test_ctrl_c_saves_and_says_how_to_go_on(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "blink.apps.cli", "train", "--data", folder / "set", "--kb", folder / "kb"]
    command += ["--model", folder / "base", "--out", run, *QUICK[2:], "--epochs", "100000", "--log-steps", "1"]
    working = subprocess.Popen([str(c) for c in command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while '"step"' not in (run / "trace.jsonl").read_text() if (run / "trace.jsonl").is_file() else True:
        assert working.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    working.send_signal(signal.SIGINT)
    _, err = working.communicate(timeout=120)
    assert working.returncode == 130, err
    assert "saved in" in err
    assert "--resume" in err
    assert "Traceback" not in err
    assert list((run / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A checkpoint in the original's files."""
    return Reference(Shape("plain"), tmp_path_factory.mktemp("original")).write()


class TestStart:
    """Models of the original, which train further."""

    def test_a_whole_checkpoint(self, reference: Reference, tmp_path: Path, blink: Blink) -> None:
        encoder = load_model(reference.folder, context=False, candidate=True)
        build_knowledge_base(
            reference.folder / "entity.jsonl", tmp_path / "kb", encoder.encode_entities, encoder.candidate_fingerprint()
        )
        title = KnowledgeBase.open(tmp_path / "kb").catalogue.title(2)
        line = json.dumps({"text": f"where is {title}?", "mentions": [[9, 9 + len(title)]], "label_id": [2]}) + "\n"
        for name in ("train", "dev"):
            (tmp_path / f"{name}.jsonl").write_text(line)
        status, _, err = blink(
            "train", "--data", tmp_path, "--kb", tmp_path / "kb", "--path_to_model", reference.folder / "pytorch_model.bin",
            "--freeze_cand_enc", "--adversarial_training", "--output_path", tmp_path / "run", *QUICK,
        )  # fmt: skip
        assert status == 0, err
        trained = BiEncoder.from_pretrained(tmp_path / "run" / "best", candidate=True)
        assert trained.candidate_fingerprint() == encoder.candidate_fingerprint()
        KnowledgeBase.open(tmp_path / "kb").require_model(trained.config.candidate_fingerprint)

    def test_vectors_and_catalogue_of_the_original(self, reference: Reference, tmp_path: Path, blink: Blink) -> None:
        line = json.dumps({"text": "where is it?", "mentions": [[9, 11]], "label_id": [2]}) + "\n"
        for name in ("train", "dev"):
            (tmp_path / f"{name}.jsonl").write_text(line)
        command = (
            "train", "--data_path", tmp_path, "--path_to_model", reference.folder, "--cand_enc_path",
            reference.folder / "all_entities.t7", "--catalogue", reference.folder / "entity.jsonl",
            "--output_path", tmp_path / "run", "--adversarial_training", *QUICK,
        )  # fmt: skip
        status, _, err = blink(*command)
        assert status == 0, err
        status, _, err = blink(*command[:5], *QUICK)
        assert (status, "--cand_enc_path" in err) == (1, True)

    def test_its_candidate_encoder_alone(self, reference: Reference, tmp_path: Path) -> None:
        full = load_model(reference.folder, candidate=True)
        base = base_folder(tmp_path / "base")
        weights = str(reference.folder / "pytorch_model.bin")
        started = starting_model(Start(str(base), weights, candidate_only=True, changes={"mention_scorer": "qa_mlp"}))
        assert started.candidate_fingerprint() == full.candidate_fingerprint()
        fresh = load_model(base).context_encoder
        assert started.context_encoder is not None
        assert fresh is not None
        assert all(torch.equal(v, fresh.state_dict()[k]) for k, v in started.context_encoder.state_dict().items())
        assert started.config.mention_scorer == "qa_mlp"

    def test_a_model_of_ours_with_its_adapters(self, folder: Path, tmp_path: Path) -> None:
        started = starting_model(Start(str(folder / "base"), adapter_rank=2))
        with torch.no_grad():
            for parameter in started.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.01)
        started.save_pretrained(tmp_path)
        again = starting_model(Start("none", str(tmp_path)))
        for name, tensor in started.trained_tensors().items():
            torch.testing.assert_close(again.trained_tensors()[name], tensor, atol=1e-3, rtol=1e-3)

    def test_new_adapters_on_a_whole_checkpoint_are_stored_merged(self, reference: Reference, tmp_path: Path) -> None:
        from blink.training.step.towers import as_stored

        started = starting_model(Start("none", str(reference.folder), adapter_rank=2))
        with torch.no_grad():
            for parameter in started.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.01)
        as_stored(started, learns_entities=False).save_pretrained(tmp_path)
        ids = torch.tensor([[101, 2040, 2003, 102]])
        loaded = BiEncoder.from_pretrained(tmp_path, candidate=True)
        torch.testing.assert_close(
            loaded.encode_context(ids, ids > 0), started.eval().encode_context(ids, ids > 0), atol=1e-5, rtol=1e-5
        )
        assert loaded.candidate_fingerprint() == started.candidate_fingerprint()
