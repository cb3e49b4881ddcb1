"""Implementation of ``pretraining train``: start or resume, train, save the model after each epoch."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import LukeForMaskedLM

from blink.apps.common import Bar, bar, say
from blink.errors import SettingsError
from blink.files import write_json
from blink.model.pretrained import quiet_transformers
from blink.runs.folder import TRACE_FILE, locked_run
from blink.runs.progress import Progress
from blink.runs.provenance import provenance
from blink.runs.trace import Trace
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
from examples.luke.options import Common
from examples.luke.settings import TuneSettings
from examples.luke.tokenizer import PlainTokenizer
from examples.pretraining.build_dataset import load_tokenizer
from examples.pretraining.dataset import METADATA_FILE, VOCAB_FILE, PackedDataset
from examples.pretraining.masking import Masker, Windows
from examples.pretraining.settings import FreezeSettings, MaskSettings
from examples.pretraining.start import freeze, from_luke, from_roberta, require_same_tokens, store
from examples.pretraining.steps import PretrainStepper, evaluate

MODEL_FOLDER = "model"
RESULTS_FILE = "results.json"
STORED_EVERY_S = 60.0
"""Minimum time between two writes of the model for fine-tuning after epochs; it is always written at the end."""


@dataclass(frozen=True)
class PretrainPlan:
    """Options of a run of pre-training.

    Attributes:
        dataset_dir: the packed dataset.
        bert_model_name: RoBERTa that initialises a new model; None starts from ``--model-file``.
        entity_emb_size: dimension of a new model's entity table.
        batch_size: windows of a step, over all batches and processes.
        warmup_steps: steps of linear warm-up.
        eval_windows: windows, from the first, that are evaluated after each epoch; 0 for none.
        cls_entity_prediction: predict the vector of the page's entity from the state of ``<s>`` too.
        resume: resume the run in the output folder.
        masks: settings of masking.
        frozen: parameters that are not trained.
        settings: see `examples.luke.settings.TuneSettings`; batch size and warm-up are filled in.
    """

    dataset_dir: str
    bert_model_name: str | None
    entity_emb_size: int
    batch_size: int
    warmup_steps: int
    eval_windows: int
    cls_entity_prediction: bool
    resume: bool
    masks: MaskSettings
    frozen: FreezeSettings
    settings: dict[str, Any]


def run_pretraining(common: Common, plan: PretrainPlan) -> None:
    """Train, in one process or several.

    Raises:
        SystemExit: a signal stopped the run after its state was saved, or a process failed.
    """
    if common.output_dir is None:
        raise SettingsError("no folder for the run; give --output-dir")
    gpus = resolve_gpus(common.num_gpus, gpu_count())
    if gpus > 1 and not in_process_group():
        raise SystemExit(launch(launch_command(gpus, common.master_port, sys.argv[1:])))
    data = PackedDataset(plan.dataset_dir)
    plan = replace(plan, settings=settings_for(plan.settings, gpus))
    settings = _settings(plan, len(data), int(os.environ["WORLD_SIZE"]) if in_process_group() else 1)
    accelerator = make_accelerator(settings, gpus)
    with errors_in_one_line(accelerator, "raise --gradient-accumulation-steps"):
        _Run(common, plan, data, settings, accelerator).run()


def _settings(plan: PretrainPlan, windows: int, processes: int) -> TuneSettings:
    """Settings of the loop, with a step split evenly into batches and processes.

    Raises:
        SettingsError: the batch size cannot be split evenly, or the warm-up is longer than the run.
    """
    split = plan.settings["gradient_accumulation_steps"] * processes
    size, rest = divmod(plan.batch_size, split)
    if rest:
        problem = f"a step of {plan.batch_size} windows does not split evenly into {split} batches"
        raise SettingsError(f"{problem} (--gradient-accumulation-steps times processes); change --batch-size")
    steps = max(1, round(-(-windows // plan.batch_size) * plan.settings["num_train_epochs"]))
    if plan.warmup_steps >= steps:
        raise SettingsError(f"--warmup-steps is {plan.warmup_steps} and the whole run has {steps} steps; lower it")
    warm = (plan.warmup_steps + 0.5) / steps if plan.warmup_steps else 0.0  # the loop rounds down
    return TuneSettings(**plan.settings, train_batch_size=size, eval_batch_size=size, warmup_proportion=warm, keep="last")


class _Run:
    """A run in this process."""

    def __init__(
        self, common: Common, plan: PretrainPlan, data: PackedDataset, settings: TuneSettings, accelerator: Accelerator
    ) -> None:
        assert common.output_dir is not None
        self.common, self.plan, self.data, self.settings, self.accelerator = common, plan, data, settings, accelerator
        self.folder = Path(common.output_dir)
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> None:
        """Train, then write results; no other run writes to the folder meanwhile."""
        with locked_run(self.folder):
            self._run()

    def _run(self) -> None:
        torch.manual_seed(self.settings.seed)
        with quiet_transformers():
            tokenizer = load_tokenizer(str(self.data.folder))
        model = self._model()
        require_same_tokens(model, tokenizer, self.data)
        stepper = self._stepper(model, tokenizer)
        windows = self._windows(tokenizer)
        learner = self._learner(stepper, windows, tokenizer, model)
        with bar("pre-training", stepper.total, "step") as progress_bar:
            progress = self._progress(progress_bar, stepper)
            loop = make_loop(learner, self.folder, about=self._about(), identity=self._identity(), progress=progress)
            loop.run(resume=self.plan.resume)
        scores = learner.epochs[-1] if learner.epochs else {}
        if self.accelerator.is_main_process:
            write_json(self.folder / RESULTS_FILE, {"steps": stepper.total, **scores})
            say(f"the model for fine-tuning is {self.folder / MODEL_FOLDER}; results: {json.dumps(scores)}")

    def _model(self) -> LukeForMaskedLM:
        plan = self.plan
        if (plan.bert_model_name is None) == (self.common.model_file is None):
            raise SettingsError("give --bert-model-name (a RoBERTa) or --model-file (a LUKE), one of them")
        if plan.bert_model_name is not None:
            model = from_roberta(plan.bert_model_name, self.data.vocab(), plan.entity_emb_size)
        else:
            model = from_luke(str(self.common.model_file), self.data, self.common.tokenizer, self._say)
        if plan.cls_entity_prediction:
            model.cls_entity = nn.Linear(model.config.hidden_size, model.config.entity_emb_size)
        freeze(model, plan.frozen)
        if self.settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model.to(self.accelerator.device)

    def _stepper(self, model: LukeForMaskedLM, tokenizer: Any) -> PretrainStepper:
        plain_tokenizer = PlainTokenizer(tokenizer)
        masker = Masker(self.plan.masks, plain_tokenizer, model.config.vocab_size, tokenizer.mask_token_id, self.data.vocab())
        total = total_steps(len(self.data), self.settings, self.accelerator)
        longest = self.data.metadata["max_mention_length"]
        return PretrainStepper(model, masker, longest, plain_tokenizer.pad, self.settings, self.accelerator, total)

    def _windows(self, tokenizer: Any, size: int | None = None) -> Windows:
        return Windows(self.data, tokenizer.cls_token_id, tokenizer.sep_token_id, size)

    def _learner(self, stepper: PretrainStepper, windows: Windows, tokenizer: Any, model: LukeForMaskedLM) -> TuneLearner:
        plan = self.plan
        measured = self._windows(tokenizer, plan.eval_windows)
        encoder = plan.bert_model_name or str(self.common.model_file)
        stored_at = -STORED_EVERY_S

        def store_model(step: int) -> None:
            nonlocal stored_at
            if step == stepper.total or time.monotonic() - stored_at > STORED_EVERY_S:
                store(model, self.data, encoder, self.folder / MODEL_FOLDER)
                stored_at = time.monotonic()

        return TuneLearner(
            stepper,
            windows,
            self._criterion(),
            validate=(lambda: evaluate(stepper, measured, self.settings.eval_batch_size)) if plan.eval_windows else None,
            store=store_model,
        )

    def _progress(self, progress_bar: Bar, stepper: PretrainStepper) -> Progress:
        trace, done = Trace(self.folder / TRACE_FILE), 0

        def start(total: int, before: int) -> None:
            nonlocal done
            done = before
            progress_bar.advance(before)

        def step(values: Mapping[str, float]) -> None:
            nonlocal done
            done += 1
            if self.accelerator.is_main_process:
                trace.add("losses", {"step": done, **stepper.last})
            progress_bar.advance()
            progress_bar.note(f"loss {values['loss']:.4f}, {values['inputs/s']:.0f} windows/s")

        def validated(row: Mapping[str, Any]) -> None:
            scores = ", ".join(f"{name} {value:.4f}" for name, value in scores_of(row).items())
            self._say(f"epoch {row['epoch'] + 1}: {scores or 'done'}")

        return Progress(start=start, step=step, validated=validated)

    def _identity(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "bert_model_name": plan.bert_model_name,
            "model_file": self.common.model_file,
            "entity_emb_size": plan.entity_emb_size,
            "cls_entity_prediction": plan.cls_entity_prediction,
            "windows": len(self.data),
            **plan.masks.to_dict(),
            **plan.frozen.to_dict(),
        }

    def _criterion(self) -> str:
        """A score of every evaluation; the last weights are kept whatever it is."""
        masks = self.plan.masks
        return "word_accuracy" if masks.masked_lm_prob else "entity_accuracy"

    def _about(self) -> dict[str, Any]:
        files = [self.data.folder / name for name in (METADATA_FILE, VOCAB_FILE, "word_ids.npy", "entity_ids.npy")]
        return provenance(files, self.accelerator.device, self.accelerator.num_processes)

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            say(text)
