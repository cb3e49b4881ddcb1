"""``python -m examples.cli``: the original's flags, overfitting, evaluation, resuming, clear errors."""

from __future__ import annotations

import json
import os
import shutil
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
from safetensors.torch import load_file
from transformers import AutoTokenizer, LukeForEntityClassification

from examples.cli import COMMANDS, cli
from examples.luke.archive import write_archive
from examples.luke.convert import to_archive
from examples.luke.pretrained import load_pretrained
from examples.luke.steps import Stepper

Examples = Callable[..., tuple[int, str]]

TASKS = {
    "entity-typing": "dev_f1",
    "relation-classification": "dev_f1",
    "ner": "dev_f1",
    "entity-span-qa": "dev_exact_match",
    "reading-comprehension": "exact",
}
"""Task to the score of its results that is looked at."""
LEARN = ("--train-batch-size=20", "--num-train-epochs=60", "--learning-rate=3e-3", "--lr-schedule=warmup_constant")
"""By heart what there is: one step an epoch, at a rate for tiny models."""
ENOUGH = {"entity-typing": 40, "relation-classification": 20, "reading-comprehension": 25}
"""Epochs after which a task of the default run knows its examples; the READMEs give more to all."""
QUICK = ("entity-typing", "relation-classification", "reading-comprehension")
SLOW = (pytest.mark.slow, pytest.mark.timeout(900))
ALL = [pytest.param(task, marks=() if task in QUICK else SLOW) for task in TASKS]


def data_flags(task: str, tasks: Path) -> list[str]:
    """Flags of a task's data and of the other files it needs."""
    tiny = tasks / task.replace("-", "_") / "tiny"
    files = {
        "wiki-link-db-file": "links.jsonl",
        "link-redirects-file": "link_redirects.json",
        "model-redirects-file": "model_redirects.json",
    }
    more = ["--no-negative", *(f"--{flag}={tiny / name}" for flag, name in files.items())]
    return [f"--data-dir={tiny}", *(more if task == "reading-comprehension" else [])]


def results(folder: Path) -> dict[str, float]:
    scores: dict[str, float] = json.loads((folder / "results.json").read_text())
    return {k: v for k, v in scores.items() if "epoch" not in k}


def written(folder: Path) -> dict[str, bytes]:
    """Files of answers."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if "predictions" in p.name or "odds" in p.name}


class TestLearning:
    @pytest.mark.parametrize("task", ALL)
    def test_learns_its_examples_by_heart_and_says_so_again(
        self, task: str, run_examples: Examples, tiny_folder: Path, tasks: Path, tmp_path: Path
    ) -> None:
        first, second = tmp_path / "first", tmp_path / "second"
        common = (f"--model-file={tiny_folder}", f"--output-dir={first}", "--num-gpus=0")
        epochs = f"--num-train-epochs={ENOUGH.get(task, 60)}"
        status, err = run_examples(*common, task, "run", *data_flags(task, tasks), *LEARN, epochs)
        assert status == 0, err
        perfect = 1.0 if TASKS[task].endswith("f1") and task != "reading-comprehension" else 100.0
        assert results(first)[TASKS[task]] == perfect
        # Again from the checkpoint, by the name that the original's commands give it; the model file is not needed.
        checkpoint = f"--checkpoint-file={first / 'pytorch_model.bin'}"
        status, err = run_examples(
            f"--output-dir={second}", "--num-gpus=0", task, "run", *data_flags(task, tasks), checkpoint, "--no-train"
        )
        assert status == 0, err
        assert results(second) == results(first)
        assert written(second) == written(first) != {}

    def test_labels_that_say_nothing_are_not_learnt(
        self, run_examples: Examples, tiny_folder: Path, tasks: Path, tmp_path: Path
    ) -> None:
        """The same sentence twenty times, half of them with another relation."""
        rows = json.loads((tasks / "relation_classification" / "tiny" / "train.json").read_text())
        same = [{**rows[0], "relation": ("per:origin", "per:spouse")[i % 2]} for i in range(20)]
        for split in ("train", "dev", "test"):
            (tmp_path / f"{split}.json").write_text(json.dumps(same))
        arguments = ("relation-classification", "run", f"--data-dir={tmp_path}", *LEARN, "--num-train-epochs=20")
        status, err = run_examples(
            f"--model-file={tiny_folder}", f"--output-dir={tmp_path / 'out'}", "--num-gpus=0", *arguments
        )
        assert status == 0, err
        assert results(tmp_path / "out")["dev_f1"] == 0.5


SHORT = ("--train-batch-size=4", "--num-train-epochs=3", "--learning-rate=2e-3", "--save-steps=2")


class TestGoingOn:
    def run(self, run_examples: Examples, model: Path, out: Path, task: str, tasks: Path, *more: str) -> tuple[int, str]:
        return run_examples(
            f"--model-file={model}", f"--output-dir={out}", "--num-gpus=0", task, "run", *data_flags(task, tasks), *SHORT, *more
        )

    @pytest.mark.parametrize("task", ["ner", "entity-typing"])
    def test_stopped_and_resumed_it_ends_the_same(
        self, task: str, run_examples: Examples, tiny_folder: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uninterrupted, interrupted = tmp_path / "whole", tmp_path / "parts"
        assert self.run(run_examples, tiny_folder, uninterrupted, task, tasks)[0] == 0
        step = Stepper.step

        def stopping(stepper: Stepper, number: int, features: Any) -> float:
            if number == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(stepper, number, features)

        monkeypatch.setattr(Stepper, "step", stopping)
        status, err = self.run(run_examples, tiny_folder, interrupted, task, tasks)
        assert status == 128 + signal.SIGTERM
        assert "stopped after step 7 of 15, saved in" in err
        assert err.rstrip().endswith("continue with the same command and --resume")
        assert not (interrupted / "results.json").exists()
        monkeypatch.setattr(Stepper, "step", step)
        assert self.run(run_examples, tiny_folder, interrupted, task, tasks, "--resume")[0] == 0
        assert json.loads((interrupted / "results.json").read_text()) == json.loads(
            (uninterrupted / "results.json").read_text()
        )
        assert written(interrupted) == written(uninterrupted) != {}
        one, other = (load_file(folder / "model.safetensors") for folder in (uninterrupted, interrupted))
        assert all(torch.equal(one[name], value) for name, value in other.items())

    def test_other_settings_are_refused(self, run_examples: Examples, tiny_folder: Path, tasks: Path, tmp_path: Path) -> None:
        assert self.run(run_examples, tiny_folder, tmp_path, "entity-typing", tasks, "--num-train-epochs=1")[0] == 0
        status, err = self.run(run_examples, tiny_folder, tmp_path, "entity-typing", tasks, "--learning-rate=1", "--resume")
        assert status == 1
        assert "was started with other settings or files (num_train_epochs, learning_rate)" in err

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    @pytest.mark.parametrize("task", TASKS)
    def test_killed_without_warning_and_resumed(self, task: str, tiny_folder: Path, tasks: Path, tmp_path: Path) -> None:
        def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
            arguments = [
                f"--model-file={tiny_folder}",
                f"--output-dir={out}",
                "--num-gpus=0",
                task,
                "run",
                *data_flags(task, tasks),
            ]
            command = [sys.executable, "-m", "examples.cli", *arguments, *SHORT, "--num-train-epochs=12", *more]
            return subprocess.Popen(command, cwd=tasks.parent, stderr=subprocess.DEVNULL)

        uninterrupted, interrupted = tmp_path / "whole", tmp_path / "parts"
        assert start(uninterrupted).wait(250) == 0
        process, patience = start(interrupted), time.monotonic() + 250
        while len(list(interrupted.glob("checkpoints/step-*.pt"))) < 2 and time.monotonic() < patience:
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert not (interrupted / "results.json").exists()
        assert start(interrupted, "--resume").wait(250) == 0
        assert results(interrupted) == results(uninterrupted)
        assert written(interrupted) == written(uninterrupted) != {}
        one, other = (load_file(folder / "model.safetensors") for folder in (uninterrupted, interrupted))
        assert all(torch.equal(one[name], value) for name, value in other.items())


class TestRuns:
    def test_an_archive_is_taken_as_it_was_published(
        self, run_examples: Examples, tiny_folder: Path, tasks: Path, tmp_path: Path
    ) -> None:
        archive = tmp_path / "luke_tiny.tar.gz"
        pretrained = load_pretrained(str(tiny_folder), None, print)
        write_archive(to_archive(pretrained.model, pretrained.tokenizer, str(tiny_folder)), archive)
        arguments = ("entity-typing", "run", *data_flags("entity-typing", tasks), *SHORT, "--num-train-epochs=1")
        outputs = []
        for name, model in (("a", archive), ("b", tiny_folder)):
            status, err = run_examples(f"--model-file={model}", f"--output-dir={tmp_path / name}", "--num-gpus=0", *arguments)
            assert status == 0, err
            outputs.append(load_file(tmp_path / name / "model.safetensors"))
        assert all(torch.equal(outputs[0][name], value) for name, value in outputs[1].items())

    def test_what_a_run_leaves(self, run_examples: Examples, tiny_folder: Path, tasks: Path, tmp_path: Path) -> None:
        arguments = ("entity-typing", "run", *data_flags("entity-typing", tasks), *SHORT, "--fp16")
        status, err = run_examples(f"--model-file={tiny_folder}", f"--output-dir={tmp_path}", "--num-gpus=0", *arguments)
        assert status == 0
        assert "--fp16 needs a GPU; continuing in float32" in err
        scores = json.loads((tmp_path / "results.json").read_text())
        assert {"dev_f1", "dev_precision", "test_recall", "dev_f1_epoch0", "dev_f1_epoch2", "best_epoch"} <= set(scores)
        assert (tmp_path / "dev_predictions.jsonl").read_text().count("\n") == 20
        kinds = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
        assert [k["kind"] for k in kinds].count("step") == 15
        assert {"torch", "transformers"} <= set(kinds[0]["versions"])
        assert kinds[-1]["kind"] == "evaluation"
        # Readable by transformers alone, entity vocabulary and names of labels included.
        model, tokenizer = LukeForEntityClassification.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
        assert len(model.config.id2label) == 9
        assert tokenizer.entity_vocab == {"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "[MASK2]": 3}

    def test_a_run_without_evaluation_and_one_without_checkpoint(
        self, run_examples: Examples, tiny_folder: Path, tasks: Path, tmp_path: Path
    ) -> None:
        arguments = ("entity-typing", "run", *data_flags("entity-typing", tasks))
        common = (f"--model-file={tiny_folder}", f"--output-dir={tmp_path}", "--num-gpus=0")
        assert run_examples(*common, *arguments, *SHORT, "--no-eval", "--keep=last", "--num-train-epochs=0.2")[0] == 0
        assert not (tmp_path / "dev_predictions.jsonl").exists()
        assert run_examples(*common, *arguments, "--no-train")[0] == 0  # what lies in the output folder
        assert "dev_f1" in results(tmp_path)

    def test_without_test_file_and_without_development_file(
        self, run_examples: Examples, tiny_folder: Path, tasks: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(tasks / "entity_typing" / "tiny", tmp_path / "data")
        (tmp_path / "data" / "test.json").unlink()
        common = (f"--model-file={tiny_folder}", f"--output-dir={tmp_path / 'out'}", "--num-gpus=0", "entity-typing", "run")
        status, err = run_examples(*common, f"--data-dir={tmp_path / 'data'}", *SHORT, "--num-train-epochs=1")
        assert status == 0
        assert "holds no test.json; it is left out" in err
        (tmp_path / "data" / "dev.json").unlink()
        status, err = run_examples(*common, f"--data-dir={tmp_path / 'data'}", *SHORT)
        assert status == 1
        assert "holds no dev.json, by which the best weights are chosen; add it, or keep the last by --keep last" in err

    @pytest.mark.parametrize("flag", ["--no-entity-feature", "--no-word-feature"])
    def test_ablations_of_ner_are_known_from_their_checkpoint(
        self, flag: str, run_examples: Examples, tiny_folder: Path, tasks: Path, tmp_path: Path
    ) -> None:
        data, common = data_flags("ner", tasks), (f"--model-file={tiny_folder}", "--num-gpus=0")
        out = f"--output-dir={tmp_path}"
        assert run_examples(*common, out, "ner", "run", *data, *SHORT, "--num-train-epochs=1", flag)[0] == 0
        assert run_examples(*common, out, "ner", "run", *data, "--no-train", flag)[0] == 0
        status, err = run_examples(*common, out, "ner", "run", *data, "--no-train")
        assert status == 1
        assert "was it trained for this task" in err

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    def test_two_processes_from_the_command_line(self, tiny_folder: Path, tasks: Path, tmp_path: Path) -> None:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29533"]
        arguments = [
            f"--model-file={tiny_folder}",
            "--num-gpus=0",
            f"--output-dir={tmp_path / 'two'}",
            "ner",
            "run",
            *data_flags("ner", tasks),
        ]
        two = ["--train-batch-size=1", "--gradient-accumulation-steps=2", "--num-train-epochs=2", "--learning-rate=1e-3"]
        subprocess.run([*launcher, "-m", "examples.cli", *arguments, *two], cwd=tasks.parent, check=True, timeout=280)
        arguments[2] = f"--output-dir={tmp_path / 'one'}"
        one = [*two[2:], "--train-batch-size=4"]
        subprocess.run([sys.executable, "-m", "examples.cli", *arguments, *one], cwd=tasks.parent, check=True, timeout=280)
        one_process, two_processes = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
        assert all(torch.allclose(one_process[name], value, atol=2e-4) for name, value in two_processes.items())
        assert results(tmp_path / "two") == pytest.approx(results(tmp_path / "one"), abs=0.05)


class TestErrors:
    @pytest.mark.parametrize(
        ("before", "after", "status", "message"),
        [
            ((), (), 1, "no model was named; give --model-file before the task"),
            (("--model-file=no.tar.gz",), (), 1, "the model no.tar.gz does not exist"),
            (("--num-gpus=99",), (), 1, "--num-gpus is 99"),
            ((), ("--data-dir=no-such-folder",), 1, "the data folder no-such-folder does not exist"),
            ((), ("--no-train", "--no-eval"), 1, "leave nothing to do"),
            ((), ("--no-train",), 1, "holds no fine-tuned model; give --checkpoint-file"),
            ((), ("--no-train", "--checkpoint-file=none.bin"), 1, "the checkpoint none.bin does not exist"),
            ((), ("--fp16", "--bf16"), 2, "--fp16 and --bf16 are two precisions"),
            ((), ("--learning-rate=0",), 1, "learning_rate is 0.0; it must be above 0"),
            ((), ("--train-batch-size=0",), 2, "'--train-batch-size'"),
            (("--logger=wandb",), (), 2, "'wandb' is not one of 'comet', 'tensorboard'"),
        ],
    )
    def test_one_clear_line(
        self, before: Any, after: Any, status: int, message: str, run_examples: Examples, tasks: Path, tmp_path: Path
    ) -> None:
        arguments = (f"--output-dir={tmp_path}", *before, "entity-typing", "run", *data_flags("entity-typing", tasks), *after)
        ended, err = run_examples(*arguments)
        assert ended == status
        assert message in err
        assert err.count("\n") == 1

    def test_malformed_data_is_named_with_its_line(self, run_examples: Examples, tiny_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "dev.json").write_text("[]")
        (tmp_path / "train.json").write_text('[\n{"sent": "a", "start": 0, "end": 3, "labels": []}]')
        arguments = ("entity-typing", "run", f"--data-dir={tmp_path}")
        status, err = run_examples(f"--model-file={tiny_folder}", f"--output-dir={tmp_path}", *arguments)
        assert status == 1
        assert err.startswith(f"examples: {tmp_path}/train.json, line 2 (item 1): 'start' is 0 and 'end' is 3")
        assert err.count("\n") == 1

    def test_several_processes_need_a_named_folder(
        self, run_examples: Examples, tasks: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setattr("examples.luke.run.make_accelerator", lambda settings, gpus: None)
        status, err = run_examples("ner", "run", *data_flags("ner", tasks))
        assert (status, "several processes share one folder; name it by --output-dir" in err) == (1, True)

    def test_a_file_of_links_that_is_not_there(self, run_examples: Examples, tasks: Path) -> None:
        data = data_flags("reading-comprehension", tasks)
        status, err = run_examples("reading-comprehension", "run", *data, "--link-redirects-file=none.pkl")
        assert status == 1
        assert err.startswith("examples: none.pkl does not exist")


SHARED = {
    "data-dir", "checkpoint-file", "do-train", "no-train", "do-eval", "no-eval", "eval-batch-size", "num-train-epochs", "seed",
    "train-batch-size", "learning-rate", "lr-schedule", "weight-decay", "max-grad-norm", "adam-b1", "adam-b2", "adam-eps",
    "adam-correct-bias", "warmup-proportion", "gradient-accumulation-steps", "fp16", "fp16-opt-level", "fp16-min-loss-scale",
    "fp16-max-loss-scale", "save-steps",
}  # fmt: skip
TASK_OPTIONS = {
    "entity-typing": set(),
    "relation-classification": set(),
    "ner": {
        *("max-entity-length", "max-mention-length", "max-seq-length"),
        *("no-entity-feature", "no-word-feature", "train-on-dev-set"),
    },
    "entity-span-qa": {"doc-stride", "max-query-length", "max-seq-length"},
    "reading-comprehension": {
        *("doc-stride", "link-redirects-file", "max-answer-length", "max-entity-length", "max-query-length", "max-seq-length"),
        *("min-mention-link-prob", "model-redirects-file", "n-best-size", "no-entity", "null-score-diff-threshold"),
        *("wiki-link-db-file", "with-negative", "no-negative"),
    },
}
DEFAULTS = {
    "entity-typing": ("data/open_entity", 12, 2, 32, 3.0),
    "relation-classification": ("data/tacred", 42, 4, 128, 5.0),
    "ner": ("data/conll_2003", 35, 2, 32, 5.0),
    "entity-span-qa": ("data/record", 4, 1, 32, 2.0),
    "reading-comprehension": ("data/squad", 14, 2, 32, 2.0),
}
COMMON = {
    "output-dir", "num-gpus", "experiment-logger", "logger", "master-port", "local-rank", "local_rank", "model-file",
    "comet-project-name", "comet-offline", "comet-offline-dir", "comet-auto-metric-logging", "comet-auto-output-logging",
    "comet-log-code", "comet-log-env-cpu", "comet-log-env-gpu", "comet-log-env-host", "comet-log-graph",
}  # fmt: skip


def flags(command: click.Command) -> set[str]:
    options = [p for p in command.params if isinstance(p, click.Option)]
    return {name.removeprefix("--") for p in options for name in (*p.opts, *p.secondary_opts)}


def run_command(task: str) -> click.Command:
    context = click.Context(cli)
    group = cli.get_command(context, task)
    assert isinstance(group, click.Group)
    command = group.get_command(context, "run")
    assert command is not None
    return command


class TestFlags:
    def test_those_of_the_original_are_all_there(self) -> None:
        assert flags(cli) >= COMMON
        for task, more in TASK_OPTIONS.items():
            assert flags(run_command(task)) >= SHARED | more, task

    @pytest.mark.parametrize("task", TASKS)
    def test_defaults_are_the_published_ones(self, task: str) -> None:
        defaults = {p.name: p.default for p in run_command(task).params}
        names = ("data_dir", "seed", "train_batch_size", "eval_batch_size", "num_train_epochs")
        assert tuple(defaults[n] for n in names) == DEFAULTS[task]
        adam = {"learning_rate": 1e-5, "weight_decay": 0.01, "adam_b1": 0.9, "adam_b2": 0.98, "adam_eps": 1e-6}
        rest = {
            "warmup_proportion": 0.06,
            "max_grad_norm": 0.0,
            "gradient_accumulation_steps": 1,
            "lr_schedule": "warmup_linear",
        }
        assert {k: defaults[k] for k in adam | rest} == adam | rest

    @pytest.mark.parametrize("task", TASKS)
    def test_the_seed_commands_are_understood(self, task: str) -> None:
        line = "--train-batch-size=2 --gradient-accumulation-steps=4 --learning-rate=15e-6 --num-train-epochs=2 --fp16"
        context = run_command(task).make_context(
            "run", ["--data-dir=x", *line.split(), "--no-train", "--checkpoint-file=y.bin"]
        )
        assert (context.params["learning_rate"], context.params["fp16"], context.params["do_train"]) == (15e-6, True, False)

    def test_help_teaches_without_waiting_for_torch(self, tasks: Path) -> None:
        code = (
            "import sys, click; from examples.cli import COMMANDS, cli; context = click.Context(cli);"
            "groups = [cli.get_command(context, name) for name in COMMANDS];"
            "helps = [g.get_help(click.Context(g)) for g in groups];"
            "helps += [c.get_help(click.Context(c)) for g in groups for c in getattr(g, 'commands', {}).values()];"
            "print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules], min(map(len, helps)) > 100)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tasks.parent, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[] True"
        assert {"entity-typing", "make-tiny-model", "convert"} <= set(COMMANDS)

    def test_an_unknown_task(self, run_examples: Examples) -> None:
        status, err = run_examples("entity-tying", "run")
        assert (status, "No such command" in err) == (2, True)


class TestModels:
    def test_archive_and_back(self, run_examples: Examples, tiny_folder: Path, tmp_path: Path) -> None:
        archive, folder = tmp_path / "tiny.tar.xz", tmp_path / "back"
        assert run_examples("create-model-archive", tiny_folder, archive, "--compress=xz")[0] == 0
        assert run_examples("convert", archive, folder)[0] == 0
        one, other = (load_file(f / "model.safetensors") for f in (tiny_folder, folder))
        assert all(torch.equal(value, other[name]) for name, value in one.items())
        status, err = run_examples("convert", archive, folder)
        assert (status, "exists and is not empty" in err) == (1, True)

    def test_tiny_models_are_the_same_for_the_same_seed(
        self, run_examples: Examples, tiny_folder: Path, tmp_path: Path
    ) -> None:
        assert run_examples("make-tiny-model", tmp_path / "again")[0] == 0
        assert run_examples("make-tiny-model", tmp_path / "other", "--seed=1", "--size=32", "--layers=1")[0] == 0
        first, again, other = (
            (f / "model.safetensors").read_bytes() for f in (tiny_folder, tmp_path / "again", tmp_path / "other")
        )
        assert first == again != other
        assert len(other) < len(first)

    def test_own_texts_and_titles(self, run_examples: Examples, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("aaa bbb " * 50)
        (tmp_path / "titles").write_text("Bern\nZürich\n", encoding="utf-8")
        options = (f"--text={tmp_path / 'text'}", f"--titles={tmp_path / 'titles'}", "--pieces=300")
        assert run_examples("make-tiny-model", tmp_path / "m", *options)[0] == 0
        assert {"Bern", "Zürich"} <= set(AutoTokenizer.from_pretrained(tmp_path / "m").entity_vocab)
        status, err = run_examples("make-tiny-model", tmp_path / "m", "--size=12")
        assert (status, "--size is 12; it must be a multiple of 8" in err) == (1, True)
