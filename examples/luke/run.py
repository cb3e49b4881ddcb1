"""Runs a task: read, fine-tune, evaluate, write."""

from __future__ import annotations

import json
import random
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from blink.apps.common import Bar, bar, say
from blink.errors import DataError, MissingFileError, SettingsError
from blink.files import write_json
from blink.replacing import complete
from blink.runs.folder import TRACE_FILE, locked_run
from blink.runs.progress import Progress
from blink.runs.provenance import provenance
from blink.runs.trace import Trace
from examples.luke.convert import save_folder
from examples.luke.evaluation import Evaluator, Split
from examples.luke.features import Feature
from examples.luke.launching import (
    errors_in_one_line,
    gpu_count,
    in_process_group,
    launch,
    launch_command,
    make_accelerator,
    resolve_gpus,
    settings_for,
)
from examples.luke.learner import TuneLearner, make_loop, scores_of, total_steps
from examples.luke.loading import Base, TunedModel, Vocabulary, load_base, load_tuned
from examples.luke.loggers import Logger, Silent, make_logger
from examples.luke.options import Common, Plan
from examples.luke.settings import TuneSettings
from examples.luke.steps import Stepper
from examples.luke.task import Task

RESULTS_FILE = "results.json"
WEIGHTS_FILE = "model.safetensors"


def run_task(task: Task[Any], common: Common, plan: Plan, arguments: Sequence[str] | None = None) -> None:
    """Run a task, in one process or several.

    Args:
        task: the task.
        common: options before the name of the task.
        plan: options after it.
        arguments: command-line arguments, to start the command in several processes; None for those of this process.

    Raises:
        SystemExit: a signal stopped the run after its state was saved, or a process failed.
    """
    gpus = resolve_gpus(common.num_gpus, gpu_count())
    settings = TuneSettings(**settings_for(plan.settings, gpus))
    if gpus > 1 and not in_process_group():
        folder = _output_dir(common)
        again = ["--output-dir", str(folder), *(sys.argv[1:] if arguments is None else arguments)]
        raise SystemExit(launch(launch_command(gpus, common.master_port, again)))
    accelerator = make_accelerator(settings, gpus)
    with errors_in_one_line(accelerator, "lower --train-batch-size and raise --gradient-accumulation-steps"):
        Run(task, common, plan, settings, accelerator).run()


class SilentBar(Bar):
    """A progress bar without output."""

    def __init__(self) -> None:
        pass

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def close(self, *, completed: bool = True) -> None:
        """Nothing."""


class Run:
    """A run of a task in this process.

    Args:
        task: the task.
        common: options before the name of the task.
        plan: options after it.
        settings: of fine-tuning, checked.
        accelerator: device, number format and processes.
    """

    def __init__(self, task: Task[Any], common: Common, plan: Plan, settings: TuneSettings, accelerator: Accelerator) -> None:
        self.task, self.common, self.plan, self.settings, self.accelerator = task, common, plan, settings, accelerator
        self.data = Path(plan.data_dir)
        self.folder = _output_dir(common)
        self._base: Base | None = None
        self._train: list[Any] | None = None
        self._splits: dict[str, Split] = {}
        self._logger: Logger = Silent()

    def run(self) -> None:
        """Fine-tune and evaluate, then write results; no other run writes to the folder meanwhile."""
        with locked_run(self.folder):
            self._run()

    def _run(self) -> None:
        if not (self.plan.do_train or self.plan.do_eval):
            raise SettingsError("--no-train and --no-eval together leave nothing to do; omit one of them")
        self._require_data()
        results: dict[str, float] = {}
        if self.accelerator.is_main_process:
            parameters = {**self.settings.to_dict(), "task": self.task.name, "model_file": self.common.model_file}
            self._logger = make_logger(self.common.logger, self.folder, self.common.comet or {}, parameters)
        tuned = self._fine_tune(results) if self.plan.do_train else None
        if self.plan.do_eval:
            results |= self._evaluate(tuned)
        if self.accelerator.is_main_process:
            write_json(self.folder / RESULTS_FILE, results)
            final = {name: value for name, value in results.items() if not name.rpartition("_epoch")[2].isdecimal()}
            say(f"results, with those of each epoch in {self.folder / RESULTS_FILE}: {json.dumps(final)}")
        self._logger.close()

    # -- data ----------------------------------------------------------------------------------------------------

    def _require_data(self) -> None:
        """Check that the files exist before slow steps."""
        if not self.data.is_dir():
            raise MissingFileError(f"the data folder {self.data} does not exist; name another by --data-dir")
        dev = self.task.splits[0]
        if self.plan.do_train and self.settings.keep == "best" and not self._exists(dev):
            problem = f"{self.data} holds no {self.task.file(dev)}, by which the best weights are chosen"
            raise MissingFileError(f"{problem}; add it, or keep the last by --keep last")

    def _exists(self, split: str) -> bool:
        return (self.data / self.task.file(split)).is_file()

    def _training_examples(self) -> list[Any]:
        if self._train is None:
            self._train = self.task.read_for_training(self.data)
        return self._train

    def _features(self, examples: Sequence[Any], vocabulary: Vocabulary, name: str, *, training: bool = False) -> list[Feature]:
        features = [f for of_example in self._tokenize_with_bar(examples, vocabulary, name, training) for f in of_example]
        if not features:
            file = self.data / self.task.file(name)
            problem = f"none of the {len(examples)} examples of {file} makes an input of the model ({self.task.input_of})"
            raise DataError(f"{problem}; look at the file, or raise --max-seq-length")
        return features

    def _tokenize_with_bar(
        self, examples: Sequence[Any], vocabulary: Vocabulary, name: str, training: bool
    ) -> Iterable[list[Feature]]:
        with self._bar(f"reading {name}", len(examples), "example") as progress:
            for of_example in self.task.features(examples, vocabulary, training=training):
                progress.advance()
                yield of_example

    # -- fine-tuning ---------------------------------------------------------------------------------------------

    def _fine_tune(self, results: dict[str, float]) -> TunedModel:
        task, settings = self.task, self.settings
        examples = self._training_examples()
        tuned = self._with_head(self._load_base())
        vocabulary = tuned.vocabulary()
        task.adopt(tuned.labels, tuned.model)
        self._say_doubts("train", examples)
        features = self._features(examples, vocabulary, "train", training=True)
        self._say(f"train: {task.summary(examples)}, {len(features)} inputs of the model")
        if settings.gradient_checkpointing:
            tuned.model.gradient_checkpointing_enable({"use_reentrant": False})
        tuned.model.to(self.accelerator.device)
        total = total_steps(len(features), settings, self.accelerator)
        stepper = Stepper(tuned.model, task, lambda batch: task.inputs(batch, vocabulary), settings, self.accelerator, total)
        identity = {
            "task": task.name,
            "options": task.choices(),
            "inputs": len(features),
            "model_file": self.common.model_file,
        }
        with self._bar("fine-tuning", total, "step") as progress_bar:
            learner = self._learner(stepper, features, tuned, vocabulary)
            progress = self._progress(progress_bar)
            loop = make_loop(
                learner, self.folder, about=self._about(), identity=identity, progress=progress, logger=self._logger
            )
            loop.run(resume=self.plan.resume)
        for epoch, scores in enumerate(learner.epochs):  # names of the original
            results |= {f"dev_{name}_epoch{epoch}": value for name, value in scores.items()}
        results["best_epoch"] = learner.best_epoch
        self._load_stored(tuned)
        return tuned

    def _learner(self, stepper: Stepper, features: Sequence[Feature], tuned: TunedModel, vocabulary: Vocabulary) -> TuneLearner:
        dev = self.task.splits[0]
        split = self._split(dev, vocabulary) if self._exists(dev) else None
        evaluator = Evaluator(tuned.model, self.task, vocabulary, self.settings.eval_batch_size, self.accelerator)
        return TuneLearner(
            stepper,
            features,
            self.task.criterion,
            validate=None if split is None else lambda: evaluator.evaluate(split),
            store=lambda step: save_folder(tuned.model, tuned.tokenizer, self.folder),
        )

    def _progress(self, progress_bar: Bar) -> Progress:
        def step(values: Mapping[str, float]) -> None:
            progress_bar.advance()
            progress_bar.note(f"loss {values['loss']:.4f}, {values['inputs/s']:.0f} inputs/s")

        def validated(row: Mapping[str, Any]) -> None:
            if scores := scores_of(row):
                self._say(f"epoch {row['epoch']}: dev {', '.join(f'{k} {v:.4f}' for k, v in scores.items())}")

        return Progress(start=lambda total, done: progress_bar.advance(done), step=step, validated=validated)

    def _load_stored(self, tuned: TunedModel) -> None:
        """Load the weights that the run kept."""
        self.accelerator.wait_for_everyone()
        complete(self.folder)
        tuned.model.load_state_dict(load_file(self.folder / WEIGHTS_FILE), strict=True)

    # -- evaluation ----------------------------------------------------------------------------------------------

    def _evaluate(self, tuned: TunedModel | None) -> dict[str, float]:
        if tuned is None or self.plan.checkpoint_file:
            if tuned is not None and self.accelerator.is_main_process:
                say(f"evaluating {self.plan.checkpoint_file}, as --checkpoint-file asks, not the weights just trained")
            tuned, self._splits = self._load_tuned(), {}  # its tokenizer may differ
        self.task.adopt(tuned.labels, tuned.model)
        vocabulary = tuned.vocabulary()
        tuned.model.to(self.accelerator.device)
        evaluator = Evaluator(tuned.model, self.task, vocabulary, self.settings.eval_batch_size, self.accelerator)
        results: dict[str, float] = {}
        for name in self.task.splits:
            if not self._exists(name) and name != self.task.splits[0]:
                self._say(f"{self.data} holds no {self.task.file(name)}; it is left out")
                continue
            split = self._split(name, vocabulary)
            with self._bar(f"evaluating {name}", len(split.features), "input") as progress_bar:
                scores = evaluator.evaluate(split, self.folder, progress_bar.advance)
            results |= {f"{name}_{k}" if self.task.prefixed else k: v for k, v in scores.items()}
        about = {**self._about(), "checkpoint": self.plan.checkpoint_file, "seed": self.settings.seed}
        if self.accelerator.is_main_process:
            Trace(self.folder / TRACE_FILE).add("evaluation", {**about, **results})
        return results

    def _split(self, name: str, vocabulary: Vocabulary) -> Split:
        if name not in self._splits:
            examples = self.task.read(self.data, name)
            self._say_doubts(name, examples)
            self._splits[name] = Split(name, examples, self._features(examples, vocabulary, name))
            inputs = len(self._splits[name].features)
            self._say(f"{name}: {self.task.summary(examples)}, {inputs} inputs of the model")
        return self._splits[name]

    # -- models --------------------------------------------------------------------------------------------------

    def _load_base(self) -> Base:
        if self._base is None:
            if not self.common.model_file:
                raise SettingsError(
                    "no model was named; give --model-file before the task: LUKE's archive, a folder, or a name"
                )
            self._base = load_base(self.common.model_file, self.common.tokenizer, self._say)
        return self._base

    def _with_head(self, base: Base) -> TunedModel:
        task, labels = self.task, self.task.labels(self._training_examples())
        torch.manual_seed(self.settings.seed)  # the same head in all processes
        return base.with_head(
            task.head(),
            labels,
            all_entities=task.all_entities,
            markers=task.markers,
            task_markers=list(task.original_markers),
            **task.head_settings(),
        )

    def _load_tuned(self) -> TunedModel:
        path = Path(self.plan.checkpoint_file) if self.plan.checkpoint_file else self.folder
        if not self.plan.checkpoint_file and not (self.folder / WEIGHTS_FILE).is_file():
            raise MissingFileError(f"{self.folder} holds no fine-tuned model; give --checkpoint-file, or omit --no-train")
        return load_tuned(path, self.task.head(), self._load_base, self._with_head)

    # -- the rest ------------------------------------------------------------------------------------------------

    def _about(self) -> dict[str, Any]:
        """Provenance of the run; files are identified by their contents."""
        names = ("train", *self.task.splits)
        files = [*(self.data / self.task.file(n) for n in names if self._exists(n)), *self.task.sources()]
        about = provenance(files, self.accelerator.device, self.accelerator.num_processes)
        return {**about, "task": self.task.name, "model_file": self.common.model_file}

    def _bar(self, name: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """A progress bar in the first process, a silent one in others."""
        return bar(name, total, unit) if self.accelerator.is_main_process else nullcontext(SilentBar())

    def _say_doubts(self, split: str, examples: Sequence[Any]) -> None:
        for doubt in self.task.doubts(examples):
            self._say(f"{split}: {doubt}")

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            say(text)


def _output_dir(common: Common) -> Path:
    """The folder of the run, created if needed.

    Raises:
        SettingsError: several processes would generate different names.
    """
    if common.output_dir is None and in_process_group():
        raise SettingsError("several processes share one folder; name it by --output-dir")
    name = common.output_dir or "exp_" + "".join(random.choices(string.ascii_letters, k=8))
    folder = Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
