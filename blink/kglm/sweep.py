"""A sweep over settings of a run, by Optuna: trials are runs, kept in a journal, and a killed sweep continues.

The file of a sweep is a run file with one more section, ``sweep``: full names of settings with their ranges::

    sweep:
      train.lr: {low: 1.0e-4, high: 0.1, log: true}
      model.dim: {choices: [64, 128]}

PyKEEN's ``hpo_pipeline`` is not used: it trains by its own loop, whose interrupted trials are lost, and has no runs over text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from blink.errors import DataError, SettingsError, first_line
from blink.extras import require_extra
from blink.files import atomic_open, locked, parse_json_line
from blink.input_files import has_file, read_bytes
from blink.kglm.config import DEFAULTS, kind_of
from blink.kglm.kinds import runner_for
from blink.kglm.run import KglmRun
from blink.kglm.settings import KINDS, Settings
from blink.progress import Bars, no_bars
from blink.runs.finite import NotFinite
from blink.runs.progress import Progress
from blink.runs.seeds import seed_for
from blink.runs.settings import Source, from_flags, read_settings_file

SECTION, JOURNAL, TABLE, BEST = "sweep", "journal.log", "trials.tsv", "best.yaml"
METRICS = {"graph": "mrr", "glove": "mrr", "lm": "perplexity", "joint": "perplexity"}
"""Kind of run -> metric of its validations by default."""
LOWER = ("perplexity", "perplexity_without_unknown", "nats", "loss", "held_out_loss", "mean_rank")
"""Metrics of which less is better."""
RANGE_KEYS = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class Sweep:
    """Settings of a sweep.

    Attributes:
        settings: of all trials.
        ranges: full name -> ``{low, high}`` with ``log`` or ``step``, or ``{choices}``.
        metric: of the best validation of a trial.
    """

    settings: Settings
    ranges: Mapping[str, Mapping[str, Any]]
    metric: str

    @classmethod
    def read(cls, file: str | Path, overrides: tuple[str, ...] = (), metric: str | None = None) -> Sweep:
        """Read the file of a sweep.

        Raises:
            SettingsError: a setting or a range is unknown or not allowed.
            MissingFileError, DataError: the file is missing, or no mapping.
        """
        kind, values = kind_of(file), read_settings_file(file)
        ranges = values.pop(SECTION, None)
        if not isinstance(ranges, dict) or not ranges:
            raise SettingsError(f"{file} has no ranges; add a section such as sweep: {{train.lr: {{low: 1.0e-4, high: 0.1}}}}")
        defaults = DEFAULTS / f"{kind}.yaml"
        sources = [Source(str(defaults), read_settings_file(defaults)), Source(str(file), values), from_flags(overrides)]
        sweep = cls(
            KINDS[kind].load(sources), {name: _range(name, given) for name, given in ranges.items()}, metric or METRICS[kind]
        )
        for name, given in sweep.ranges.items():  # an unknown name, or a value that is not allowed, is said before any trial
            for value in given.get("choices", [given.get("low"), given.get("high")]):
                sweep.settings.replace({name: value})
        return sweep

    @property
    def direction(self) -> str:
        """``minimize`` or ``maximize``."""
        return "minimize" if self.metric in LOWER else "maximize"


def _range(name: str, given: Any) -> Mapping[str, Any]:
    allowed = "give {low: A, high: B}, with log: true or step: C if you like, or {choices: [A, B]}"
    if isinstance(given, list):
        given = {"choices": given}
    if not isinstance(given, dict) or not (set(given) == {"choices"} or {"low", "high"} <= set(given) <= RANGE_KEYS):
        raise SettingsError(f"{SECTION}.{name} is {given!r}, which is no range; {allowed}")
    if "choices" in given and not (isinstance(given["choices"], list) and given["choices"]):
        raise SettingsError(f"{SECTION}.{name} has no choices; {allowed}")
    numbers = [given[key] for key in ("low", "high") if key in given]
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers) or numbers != sorted(numbers):
        raise SettingsError(f"{SECTION}.{name} is from {numbers[0]!r} to {numbers[1]!r}; {allowed}, 0.001 written as 1.0e-3")
    return given


def run_sweep(
    sweep: Sweep, folder: Path, trials: int, say: Callable[[str], None] = lambda line: None, bars: Bars = no_bars
) -> dict[str, Any]:
    """Run trials until there are as many; an unfinished trial of a killed sweep continues from its checkpoint.

    Each trial is a run in ``folder``, named after its settings. ``trials.tsv`` has the results, ``best.yaml`` is a run file.

    Args:
        sweep: what to try.
        folder: of the sweep; created if missing.
        trials: number of trials, those of earlier calls included.
        say: called with a line of text for the user.
        bars: progress over trials.

    Returns:
        number and value of the best trial, and its settings.

    Raises:
        Interrupted: a signal stopped a trial; the sweep continues when it is run again.
        SettingsError: no trial could be run.
    """
    optuna = require_extra("optuna", "sweeps", "kglm")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        study = _study(optuna, sweep, folder)
        unfinished = [t for t in study.get_trials(deepcopy=False) if t.state == optuna.trial.TrialState.RUNNING]
        complete = len(study.get_trials(deepcopy=False)) - len(unfinished)
        with bars("sweep", trials, "trial") as progress:
            progress.advance(min(complete, trials))
            for number in range(complete, trials):
                old = unfinished.pop(0) if unfinished else None
                study.sampler = optuna.samplers.TPESampler(seed=seed_for(sweep.settings.seed, "sweep", number) % (1 << 32))
                trial = study.ask() if old is None else optuna.trial.Trial(study, old._trial_id)
                _run_trial(optuna, study, trial, sweep, folder, say)
                progress.advance()
                _write_results(study, sweep, folder)
        return _write_results(study, sweep, folder)


def _study(optuna: Any, sweep: Sweep, folder: Path) -> Any:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _opened(optuna, folder / JOURNAL, sweep.direction)
    about = {
        "settings": sweep.settings.digest(),
        "ranges": {k: dict(v) for k, v in sweep.ranges.items()},
        "metric": sweep.metric,
    }
    known = study.user_attrs.get("sweep", about)
    if changed := [name for name, value in about.items() if known.get(name) != value]:
        raise SettingsError(f"{folder} is a sweep with other {changed[0]}; give the same file and flags, or another folder")
    study.set_user_attr("sweep", about)
    return study


def _opened(optuna: Any, path: Path, direction: str) -> Any:
    """The study of a journal, which Optuna reads without checks."""
    remedy = "restore it from a copy, or remove it: runs that are complete are not trained again"
    if has_file(path, remedy):
        for number, line in enumerate(read_bytes(path, remedy).split(b"\n")[:-1], 1):
            if not isinstance(parse_json_line(line, path, number), dict):
                raise DataError(f"{path}, line {number}: no JSON object; {remedy}")
    try:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
        return optuna.create_study(study_name=SECTION, storage=storage, direction=direction, load_if_exists=True)
    except (AssertionError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}: {first_line(error)}); {remedy}") from error


def _run_trial(optuna: Any, study: Any, trial: Any, sweep: Sweep, folder: Path, say: Callable[[str], None]) -> None:
    values = {name: _suggested(trial, name, given) for name, given in sweep.ranges.items()}
    settings = sweep.settings.replace(values)
    path = folder / f"run-{settings.digest()}"
    trial.set_user_attr("folder", path.name)
    shown = ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    try:
        best = _best_validation(settings, path)
    except (NotFinite, SettingsError) as error:  # of these settings; an error of the data is one of all trials
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        say(f"trial {trial.number + 1}: {shown}: failed, {error}")
        return
    if sweep.metric not in best:
        names = ", ".join(name for name, number in best.items() if isinstance(number, float))
        raise SettingsError(f"validations have no metric {sweep.metric!r}; give --metric one of {names}, in another folder")
    value = best[sweep.metric]
    study.tell(trial, float(value))
    say(f"trial {trial.number + 1}: {shown}: {sweep.metric} {value:.4g}")


def _best_validation(settings: Settings, path: Path) -> dict[str, Any]:
    """The row of the best validation of a run, which is trained, or trained to its end, if it has not been."""
    run = KglmRun(path, settings)
    if not run.metrics():
        runner_for(settings.kind).train(settings, path, resume=run.has_checkpoint, progress=Progress())
    rows = [row for row in run.trace.rows() if row["kind"] == "validation"]
    about = run.metrics()
    step = about.get("train", about.get("best", {})).get("step")
    return next((row for row in rows if row["step"] == step), rows[-1])


def _suggested(trial: Any, name: str, given: Mapping[str, Any]) -> Any:
    if "choices" in given:
        return trial.suggest_categorical(name, given["choices"])
    low, high, more = given["low"], given["high"], {key: given[key] for key in ("log", "step") if key in given}
    whole = isinstance(low, int) and isinstance(high, int)
    return trial.suggest_int(name, low, high, **more) if whole else trial.suggest_float(name, low, high, **more)


def _write_results(study: Any, sweep: Sweep, folder: Path) -> dict[str, Any]:
    trials = study.get_trials(deepcopy=False)
    done = [trial for trial in trials if trial.value is not None]
    ordered = sorted(done, key=lambda trial: trial.value, reverse=sweep.direction == "maximize")
    with atomic_open(folder / TABLE) as f:
        f.write("\t".join(["trial", sweep.metric, *sweep.ranges, "run"]) + "\n")
        for trial in ordered:
            cells = [trial.number + 1, f"{trial.value:.6g}", *(trial.params[name] for name in sweep.ranges)]
            f.write("\t".join(map(str, [*cells, trial.user_attrs["folder"]])) + "\n")
    if not ordered:
        return {}
    best = ordered[0]
    settings = sweep.settings.replace(best.params)
    with atomic_open(folder / BEST) as f:
        f.write(f"# The best of {len(done)} trials of a sweep: {sweep.metric} {best.value:.6g}, trial {best.number + 1}\n")
        yaml.safe_dump(settings.to_dict(), f, sort_keys=False, allow_unicode=True, width=120)
    return {"trial": best.number + 1, sweep.metric: best.value, **best.params}
