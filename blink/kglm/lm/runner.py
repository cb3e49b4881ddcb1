"""Runs of the kinds ``lm`` and ``joint``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blink.errors import SettingsError
from blink.kglm.config import Settings, choice
from blink.kglm.lm.corpus import Corpus
from blink.kglm.lm.export import write_export
from blink.kglm.lm.inputs import SPLITS, Inputs, describe_inputs, read_inputs
from blink.kglm.lm.measures import Evaluator, classify_and_measure, tables_for
from blink.kglm.lm.memory import keep_freed_memory
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.network import new_model, schedule_of
from blink.kglm.lm.perplexity import measure_perplexity
from blink.kglm.lm.saved import SavedModel, load_model, save_model
from blink.kglm.lm.schedule import LANGUAGE, TRIPLES
from blink.kglm.lm.tasks import LanguageTask, Task, TripleTask
from blink.kglm.lm.trainer import Scores, Trainer, Training
from blink.kglm.run import BEST_FOLDER, TRACE_FILE, Progress, RunFolder, device_for

LOSSES, SCORES = (LANGUAGE, TRIPLES), ("nats", "loss", "accuracy")


class LanguageRunner:
    """Trains, measures and exports language models and triple classifiers; see `blink.kglm.kinds.Runner`."""

    def train(
        self, settings: Settings, folder: Path, *, resume: bool = False, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Train to the end and measure the best state, or go on with a run that was ended."""
        progress = progress or Progress()
        keep_freed_memory()
        run = _run_folder(settings, folder, resume)
        inputs = read_inputs(settings)
        for note in inputs.notes:
            progress.say(note)
        state = run.load() if resume else {}
        trainer = self._trainer(settings, inputs, run, progress, begun=bool(state))
        if resume:
            if state:
                trainer.restore(state)
            run.go_on(trainer.at.step, inputs.sources, describe_inputs(inputs), pending=trainer.at.pending)
        else:
            RunFolder.begin(folder, settings, inputs.sources, describe_inputs(inputs))
        cost = trainer.run(progress)
        run.draw(LOSSES, SCORES)
        return self._measure_all(run, inputs, cost)

    def evaluate(self, folder: Path, split: str, *, progress: Progress | None = None) -> dict[str, Any]:
        """Measure the best state of a run on a split, and keep the figures in its ``metrics.json``."""
        choice("the split", split, SPLITS)
        run = RunFolder.open(folder)
        saved = load_model(run.best)
        inputs = read_inputs(run.settings, saved.vocabulary)
        found = _States(run, saved, inputs).split(split)
        run.add_metrics(split, found)
        return found

    def export(self, folder: Path, out: Path) -> dict[str, Any]:
        """Write entity vectors for the linker: rows of the table of entities, or else what the cells keep of each name."""
        run = RunFolder.open(folder)
        saved = load_model(run.best)
        if run.settings.kind == "lm":
            raise SettingsError(f"{folder} is a language model without a graph, so it has no entities; export a joint run")
        triples = read_inputs(run.settings, saved.vocabulary).triples
        assert triples is not None
        return write_export(out, saved, triples, run.settings)

    def _trainer(self, settings: Settings, inputs: Inputs, run: RunFolder, progress: Progress, *, begun: bool) -> Trainer:
        """A trainer at the beginning; where a state follows, no time is spent on initial word vectors."""
        drawn = {"words.init": "random", "words.scale": settings.words.scale or 1.0}
        start = settings.replace(drawn) if begun else settings
        model = new_model(start, inputs, progress.say).to(device_for(settings))
        validation, training = settings.validation, training_of(settings)
        text = _some_lines(inputs.texts.get("valid"), validation.lines)

        def validate() -> Scores:
            return scores_of(model, inputs, text)

        def save_best(rule: str, row: Mapping[str, Any]) -> None:
            ids = inputs.triples.table_ids if model.tables is not None and inputs.triples is not None else ([], [])
            save_model(run.path / folder_of(rule, training.rule), model, inputs.vocabulary, ids[0], ids[1], row)

        return Trainer(
            model,
            tasks_of(settings, inputs, model),
            schedule_of(settings),
            training,
            run,
            validate=validate,
            save_best=save_best,
            digest=inputs.vocabulary.digest,
        )

    def _measure_all(self, run: RunFolder, inputs: Inputs, cost: Mapping[str, Any]) -> dict[str, Any]:
        saved = load_model(run.best)
        states, found = _States(run, saved, inputs), dict[str, Any]()
        for split in SPLITS:
            if split in inputs.texts or (inputs.triples is not None and split in inputs.triples.measured):
                found[split] = states.split(split)
                run.add_metrics(split, found[split])
        run.add_metrics("best", {k: saved.figures[k] for k in ("step", "epoch", "updates") if k in saved.figures})
        for name, values in cost.items():
            run.add_metrics(name, values)
        last = found.get("test") or found["valid"]
        return {**{k: v for k, v in last.items() if isinstance(v, float)}, **run.metrics()}


def _run_folder(settings: Settings, folder: Path, resume: bool) -> RunFolder:
    """The folder of a run; it is begun only when inputs and network are there, so that a mistake leaves nothing behind.

    Raises:
        SettingsError: a new run is to go into a folder that holds one.
    """
    if resume:
        return RunFolder(RunFolder.open(folder).path, settings)
    if (folder / TRACE_FILE).is_file():
        raise SettingsError(
            f"{folder} holds a run already; go on with it by `blink kglm resume {folder}`, or name another folder"
        )
    return RunFolder(folder, settings)


def training_of(settings: Settings) -> Training:
    """How a run learns."""
    train, validation = settings.train, settings.validation
    of_text = train.learning_rate_lm
    return Training(
        seed=settings.seed,
        epochs=train.epochs,
        rates={LANGUAGE: of_text, TRIPLES: of_text if settings.kind == "lm" else train.learning_rate_kge},
        clip=train.clip,
        save_steps=train.save_steps,
        log_steps=train.log_steps,
        every=validation.every,
        patience=validation.patience,
        delta=validation.delta,
        rule=validation.choose,
        keep_both=settings.kind == "joint" and validation.keep_both,
    )


def tasks_of(settings: Settings, inputs: Inputs, model: KGLanguageModel) -> dict[str, Task]:
    """The tasks of a run that learn."""
    train, found = settings.train, dict[str, Task]()
    names = schedule_of(settings).tasks
    if LANGUAGE in names:
        found[LANGUAGE] = LanguageTask(
            model, inputs.texts["train"], lines=train.lines, seed=settings.seed, shuffle=train.shuffle
        )
    if TRIPLES in names and inputs.triples is not None:
        triples = inputs.triples
        found[TRIPLES] = TripleTask(
            model,
            triples.texts,
            triples.train,
            triples.negatives,
            triples.sampling,
            rows=train.triples,
            seed=settings.seed,
            redraw=settings.negatives.redraw,
            tables=tables_for(model, triples),
        )
    return found


def scores_of(model: KGLanguageModel, inputs: Inputs, text: Corpus | None) -> Scores:
    """Measure a model on the validation data, for the choice of the best state."""
    row: dict[str, Any] = {}
    nats = loss = accuracy = None
    if model.language is not None and text is not None:
        found = measure_perplexity(model, text)
        nats = found.nats
        row |= {"perplexity": found.perplexity, "nats": nats, "perplexity_without_unknown": found.without_unknown}
    if model.classifier is not None and inputs.triples is not None:
        _, classification = classify_and_measure(model, inputs.triples, inputs.triples.selection)
        loss, accuracy = classification.loss, classification.accuracy
        row |= {"accuracy": accuracy, "loss": loss, "roc_auc": classification.roc_auc, "f1": classification.f1}
    return Scores(nats, loss, accuracy, row)


def folder_of(rule: str, main: str) -> str:
    """Folder of the best state by a rule: ``best`` by that of the run, ``best-perplexity`` or ``best-accuracy`` beside it."""
    return BEST_FOLDER if rule == main else f"{BEST_FOLDER}-{rule}"


class _States:
    """The best state of a run, and each task's own best one where they were kept, to be measured.

    Args:
        run: where they are.
        saved: the best state.
        inputs: texts and triples.
    """

    def __init__(self, run: RunFolder, saved: SavedModel, inputs: Inputs) -> None:
        device = device_for(run.settings)
        self._best = Evaluator(saved.model.to(device), inputs)
        own = {rule: run.path / f"{BEST_FOLDER}-{rule}" for rule in ("perplexity", "accuracy")}
        self._own = {rule: Evaluator(load_model(at).model.to(device), inputs) for rule, at in own.items() if at.is_dir()}

    def split(self, split: str) -> dict[str, Any]:
        """Figures of the best state; under ``each_by_its_own_best``, perplexity and accuracy of two states."""
        found, own = self._best.split(split), dict[str, Any]()
        if "perplexity" in self._own:
            own |= self._own["perplexity"].text(split)
        if "accuracy" in self._own:
            own |= self._own["accuracy"].triples(split)
        return {**found, "each_by_its_own_best": own} if own else found


def _some_lines(text: Corpus | None, most: int) -> Corpus | None:
    """At most so many lines of a text, drawn once for all runs."""
    if text is None or not most or most >= len(text):
        return text
    return text.select(np.sort(np.random.default_rng(0x11E5).permutation(len(text))[:most]))
