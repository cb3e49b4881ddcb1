"""Runs of the kinds ``lm`` and ``joint``."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blink.errors import SettingsError
from blink.kglm.lm.corpus import Corpus, encode, read_words
from blink.kglm.lm.export import write_export
from blink.kglm.lm.inputs import SPLITS, Inputs, describe_inputs, read_inputs
from blink.kglm.lm.learner import LanguageLearner
from blink.kglm.lm.measures import Evaluator, classify_and_measure, tables_for
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.network import new_model, schedule_of
from blink.kglm.lm.perplexity import measure_perplexity
from blink.kglm.lm.saved import SavedModel, load_model, save_model
from blink.kglm.lm.schedule import LANGUAGE, TRIPLES
from blink.kglm.lm.tasks import LanguageTask, Task, TripleTask
from blink.kglm.run import KglmRun, device_for, run_to_end
from blink.kglm.settings import JointSettings, LanguageSections, Settings
from blink.runs.folder import BEST_FOLDER
from blink.runs.loop import Loop
from blink.runs.progress import Progress
from blink.runs.settings import choice

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""Parameters of glibc's ``mallopt``."""


class LanguageRunner:
    """Trains, measures and exports language models and triple classifiers; see `blink.kglm.kinds.Runner`."""

    def train(
        self, settings: Settings, folder: Path, *, resume: bool = False, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Train or resume to the end, and evaluate the best checkpoint."""
        progress, run = progress or Progress(), KglmRun(folder, LanguageSections.of(settings))
        if not resume:  # checked before inputs are read; nothing is written before they are valid
            run.require_free()
        keep_freed_memory()
        inputs = read_inputs(run.settings)
        for note in inputs.notes:
            progress.say(note)
        learner = _learner(inputs, run, progress, resumed=resume and run.has_checkpoint)
        loop = Loop(learner, run, run.about(inputs.sources, describe_inputs(inputs)), progress=progress)
        run_to_end(loop, resume=resume)
        with progress.bars("measuring", None, "word") as stage:
            return _measure_all(run, inputs, {"cost": loop.cost.row(), "speed": learner.speeds()}, stage.advance)

    def evaluate(
        self, folder: Path, split: str, *, progress: Progress | None = None, data: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Evaluate the best checkpoint of a run on a split, and store the metrics in ``metrics.json``.

        Args:
            folder: of the run.
            split: ``valid`` or ``test``.
            progress: hooks.
            data: settings of other data to measure, by their full names; metrics of it are not stored.
        """
        choice("the split", split, SPLITS)
        run = KglmRun.open(folder).of(LanguageSections)
        saved = load_model(run.best)
        if data and saved.model.tables is not None:
            raise SettingsError(f"{folder} has vectors of its own entities, so it cannot be measured on another graph")
        inputs = read_inputs(run.settings.replace(data) if data else run.settings, saved.vocabulary)
        with (progress or Progress()).bars("measuring", None, "word") as stage:
            metrics = _States(run, saved, inputs, stage.advance).split(split)
        if not data:
            run.add_metrics(split, metrics)
        return metrics

    def evaluate_file(self, folder: Path, file: Path, *, progress: Progress | None = None) -> dict[str, Any]:
        """Perplexity of the text in a file, by the best checkpoint.

        Raises:
            SettingsError: the run has no language model.
            MissingFileError, DataError: the file is missing or holds no text.
        """
        run = KglmRun.open(folder).of(LanguageSections)
        saved = load_model(run.best)
        if saved.model.language is None:
            raise SettingsError(f"{folder} reads triples alone and has no language model; its triples are those of --split")
        text = encode(read_words(file), saved.vocabulary, run.settings.data.longest)
        model = saved.model.to(device_for(run.settings))
        with (progress or Progress()).bars("measuring", text.words + len(text), "word") as stage:
            measured = measure_perplexity(model, text, stage.advance)
        return {"perplexity": measured.perplexity, "language": measured.to_dict()}

    def export(self, folder: Path, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
        """Write entity vectors for the linker; see `blink.kglm.lm.export`."""
        run = KglmRun.open(folder).of(LanguageSections)
        saved = load_model(run.best)
        if run.settings.kind == "lm":
            raise SettingsError(f"{folder} is a language model without a graph, so it has no entities; export a joint run")
        triples = read_inputs(run.settings, saved.vocabulary).triples
        assert triples is not None
        return write_export(out, saved, triples, run.settings)


def _learner(inputs: Inputs, run: KglmRun[LanguageSections], progress: Progress, *, resumed: bool) -> LanguageLearner:
    """A new learner; before a checkpoint is loaded, initial word vectors are skipped."""
    settings = run.settings
    drawn = {"words.init": "random", "words.scale": settings.words.scale or 1.0}
    start = settings.replace(drawn) if resumed else settings
    model = new_model(start, inputs, progress.say).to(device_for(settings))
    text = _some_lines(inputs.texts.get("valid"), settings.validation.lines)

    def save_best(rule: str, row: Mapping[str, Any]) -> None:
        ids = inputs.triples.table_ids if model.tables is not None and inputs.triples is not None else ([], [])
        save_model(run.path / folder_of(rule, settings.validation.choose), model, inputs.vocabulary, ids[0], ids[1], row)

    return LanguageLearner(
        model,
        tasks_of(settings, inputs, model),
        schedule_of(settings),
        settings,
        validate=lambda: scores_of(model, inputs, text),
        save_best=save_best,
        digest=inputs.vocabulary.digest,
    )


def _measure_all(
    run: KglmRun[LanguageSections], inputs: Inputs, cost: Mapping[str, Any], advance: Callable[[int], None]
) -> dict[str, Any]:
    """Evaluate the best checkpoint on all splits, and store the metrics and ``cost``."""
    saved = load_model(run.best)
    states, figures = _States(run, saved, inputs, advance), dict[str, Any]()
    for split in SPLITS:
        if split in inputs.texts or (inputs.triples is not None and split in inputs.triples.measured):
            figures[split] = states.split(split)
            run.add_metrics(split, figures[split])
    run.add_metrics("best", {k: saved.figures[k] for k in ("step", "epoch", "updates") if k in saved.figures})
    for name, values in cost.items():
        run.add_metrics(name, values)
    last = figures.get("test") or figures["valid"]
    return {**{k: v for k, v in last.items() if isinstance(v, float)}, **run.metrics()}


def tasks_of(settings: LanguageSections, inputs: Inputs, model: KGLanguageModel) -> dict[str, Task]:
    """The tasks of a run."""
    train, tasks = settings.train, dict[str, Task]()
    names = schedule_of(settings).tasks
    if LANGUAGE in names:
        tasks[LANGUAGE] = LanguageTask(
            model, inputs.texts["train"], lines=train.lines, seed=settings.seed, shuffle=train.shuffle
        )
    if TRIPLES in names and inputs.triples is not None:
        triples, joint = inputs.triples, JointSettings.of(settings)
        tasks[TRIPLES] = TripleTask(
            model,
            triples.texts,
            triples.train,
            triples.negatives,
            triples.sampling,
            rows=joint.train.triples,
            seed=settings.seed,
            redraw=joint.negatives.redraw,
            tables=tables_for(model, triples),
        )
    return tasks


def scores_of(model: KGLanguageModel, inputs: Inputs, text: Corpus | None) -> dict[str, Any]:
    """Metrics of a model on the validation data, to select the best checkpoint."""
    row: dict[str, Any] = {}
    if model.language is not None and text is not None:
        measured = measure_perplexity(model, text)
        row |= {
            "perplexity": measured.perplexity,
            "nats": measured.nats,
            "perplexity_without_unknown": measured.without_unknown,
        }
    if model.classifier is not None and inputs.triples is not None:
        _, measured_triples = classify_and_measure(model, inputs.triples, inputs.triples.selection)
        row |= {name: getattr(measured_triples, name) for name in ("accuracy", "loss", "roc_auc", "f1")}
    return row


def folder_of(rule: str, main: str) -> str:
    """Folder of the best checkpoint by a rule: ``best`` for the rule of the run, or ``best-perplexity``, ``best-accuracy``."""
    return BEST_FOLDER if rule == main else f"{BEST_FOLDER}-{rule}"


class _States:
    """Evaluates the best checkpoint of a run, and the best of each task if they were saved.

    Args:
        run: the run.
        saved: the best checkpoint.
        inputs: texts and triples.
        advance: called with the number of words or triples done.
    """

    def __init__(
        self, run: KglmRun[LanguageSections], saved: SavedModel, inputs: Inputs, advance: Callable[[int], None]
    ) -> None:
        device = device_for(run.settings)
        self._best = Evaluator(saved.model.to(device), inputs, advance)
        folders = {rule: run.path / f"{BEST_FOLDER}-{rule}" for rule in ("perplexity", "accuracy")}
        self._by_rule = {
            rule: Evaluator(load_model(path).model.to(device), inputs, advance)
            for rule, path in folders.items()
            if path.is_dir()
        }

    def split(self, split: str) -> dict[str, Any]:
        """Metrics of the best checkpoint, and of each task's best checkpoint under ``each_by_its_own_best``."""
        metrics, separate = self._best.split(split), dict[str, Any]()
        if "perplexity" in self._by_rule:
            separate |= self._by_rule["perplexity"].text(split)
        if "accuracy" in self._by_rule:
            separate |= self._by_rule["accuracy"].triples(split)
        return {**metrics, "each_by_its_own_best": separate} if separate else metrics


def keep_freed_memory() -> bool:
    """Configure glibc to keep freed memory instead of returning it to the system.

    Each step allocates gradients as large as the word table. By default such blocks come from the system, which clears them
    page by page. Reusing them makes a step on a CPU a third faster.

    Returns:
        whether it was configured; other C libraries are left unchanged.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it
        return bool(library.mallopt(MMAP_MAX, 0)) and bool(library.mallopt(TRIM_THRESHOLD, (1 << 31) - 1))
    return False


def _some_lines(text: Corpus | None, most: int) -> Corpus | None:
    """A fixed random sample of at most ``most`` lines of a text."""
    if text is None or not most or most >= len(text):
        return text
    return text.select(np.sort(np.random.default_rng(0x11E5).permutation(len(text))[:most]))
