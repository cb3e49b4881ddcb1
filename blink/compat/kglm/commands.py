"""The original's six KG-LM commands: ``python -m blink.kglm.train_lm`` and so on; they run what ``blink kglm train`` runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from blink.apps.common import guarded, say
from blink.compat.kglm.files import FOLDERS, require_location, text_settings, triple_settings
from blink.compat.kglm.flags import KGE, LM, flags_of, settings_from
from blink.compat.kglm.testing import named_data, require_same_settings, run_folder
from blink.errors import SettingsError

if TYPE_CHECKING:
    from blink.kglm.settings import Settings

PROMPT = "issa serge coelo born 1967"
"""The prompt that the original continues."""
AS_BEFORE: Mapping[str, Any] = {"train.lines": 5, "validation.choose": "loss"}
JOINT_AS_BEFORE: Mapping[str, Any] = {**AS_BEFORE, "joint.order": "blocks", "negatives.redraw": False}

ABOUT = {
    "train_lm": "Train a language model.",
    "test_lm": "Measure the perplexity of a language model, and make a sentence.",
    "train_kge": "Train a classifier of triples that are read as text.",
    "test_kge": "Measure a classifier of triples.",
    "train_kge_lm": "Train a language model and a classifier of triples together.",
    "test_kge_lm": "Measure both tasks of a joint model, from its one best state, and make a sentence.",
}
NOTES = """
The best state is selected on the validation data, both tasks' figures come from that one state, dropout is off where anything
is measured, and word vectors learn in all three commands (in the original, in the joint one alone: --words.learn false). Any
setting of `blink kglm train` may follow, such as --language.softmax sampled, which is much faster on a CPU.

\b
Example:
  python -m blink.kglm.{example}
"""
EXAMPLES = {
    "lm": "train_lm --data_location data/ --model_name NAM --exp_num 1 --layer_type LSTM --vocab_size 30",
    "kge": "train_kge --data_location_kge data/ --model_name NAM --exp_num 1 --layer_type LSTM",
    "kge_lm": "train_kge_lm --data_location_lm data/ --data_location_kge data/ --exp_num 1 --epochs 25 "
    "--learning_rate_kge 1e-3 --steps_per_epoch_kge 500 --steps_per_epoch_lm 200 --joint_opt False",
}
CONVERSION = """
\b
Triples in the original's pickles are not read, for a pickle can run code. Convert files you trust once, with pandas and joblib:
  import joblib
  words = joblib.load("dict_wikifact_selected.pkl")["id2word"]
  files = {"train": "Sample_data_lm_24.pkl", "valid": "dev_vec_lm_dict.pkl", "test": "test_vec_lm_dict.pkl"}
  for split, file in files.items():
      rows = joblib.load(file)
      for label, name in ((1, f"{split}.tsv"), (0, f"{split}_negatives.tsv")):
          with open(name, "w", encoding="utf-8") as out:
              for row in rows[rows["score"] == label][["Head", "relation", "tail"]].values.tolist():
                  fields = ["_".join(words[i] for i in ids) for ids in row]
                  if all(fields):
                      out.write("\\t".join(fields) + "\\n")
  vectors = joblib.load("dict_wikifact_selected.pkl")["id2vec"]
  with open("vectors.txt", "w", encoding="utf-8") as out:  # for --words.init file --words.file vectors.txt
      for i, row in enumerate(vectors):
          out.write(f"{words[i]} " + " ".join(f"{x:g}" for x in row) + "\\n")
"""


def main(name: str, arguments: list[str] | None = None) -> int:
    """Run one of the commands; returns its exit status."""
    program = f"python -m blink.kglm.{name}"
    return guarded(lambda: command(name).main(arguments, prog_name=program, standalone_mode=False), name)


def command(name: str) -> click.Command:
    """One of the commands, by the original's name for it."""
    verb, kind = name.split("_", 1)
    run: Callable[..., None] = _train if verb == "train" else _test
    text = f"{ABOUT[name]}\n{NOTES.format(example=EXAMPLES[kind].replace('train', verb, 1))}"
    options = [flag.option(kind) for flag in flags_of(kind)]
    options.append(click.Option(["--seed"], type=int, default=0, show_default=True, help="Of the run."))
    options.append(click.Option(["--out"], metavar="DIR", help="Folder of the run, instead of that below the data."))
    if verb == "train":
        options.append(click.Option(["--resume"], is_flag=True, help="Go on with the run in its folder."))
    others = click.Argument(["overrides"], nargs=-1, type=click.UNPROCESSED, metavar="[--SECTION.NAME VALUE]...")
    return click.Command(
        name,
        params=[*options, others],
        callback=lambda **values: run(kind, values),
        help=text + (CONVERSION if kind != LM else ""),
        context_settings={"ignore_unknown_options": True, "max_content_width": 120, "help_option_names": ["-h", "--help"]},
    )


def _train(kind: str, values: dict[str, Any]) -> None:
    """Train; a log next to the run has the lines of the terminal."""
    from blink.files import locked
    from blink.kglm.run import KglmRun

    folder, log = _folder(kind, values), _Log(kind, values, "train")
    settings = KglmRun.open(folder, values["overrides"]).settings if values["resume"] else _settings(kind, values)
    folder.mkdir(parents=True, exist_ok=True)
    log.write(f"{values['exp_info']} (model {values['model_name']}, experiment {values['exp_num']})")
    with locked(folder):
        metrics = _run(settings, folder, log, resume=values["resume"])
    for line in report(kind, metrics.get("test") or metrics["valid"]):
        log.write(line)
    log.write(f"the run is in {folder}")


def _run(settings: Settings, folder: Path, log: _Log, *, resume: bool) -> dict[str, Any]:
    from dataclasses import replace

    from blink.apps.kglm.training import shown_progress
    from blink.kglm.lm.runner import LanguageRunner
    from blink.runs.signals import Interrupted

    try:
        with shown_progress("training", "step") as progress:
            return LanguageRunner().train(settings, folder, resume=resume, progress=replace(progress, say=log.write))
    except Interrupted as stop:
        say(f"{stop}; go on with the same command and --resume")
        raise SystemExit(128 + stop.signal) from stop


def _test(kind: str, values: dict[str, Any]) -> None:
    """Measure the best state on the test data, and log it."""
    from blink.kglm.lm.generation import Sampling, generate
    from blink.kglm.lm.runner import LanguageRunner
    from blink.kglm.lm.saved import load_model
    from blink.kglm.run import KglmRun

    if values["overrides"]:
        raise SettingsError(f"{values['overrides'][0]} is no flag of this command; settings are those of the training run")
    context = click.get_current_context()
    stated = {name for name in values if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    name = f"{values['model_name']}_{values['exp_num']}"
    folder = Path(values["out"]) if values["out"] else run_folder(kind, _location(kind, values), name)
    settings = KglmRun.open(folder).settings
    notes = require_same_settings(kind, values, stated, settings)
    data = named_data(kind, values, stated, folder, settings)
    log = _Log(kind, values, "test_KGE" if kind == KGE else "test")
    for line in [f"the run is {folder}", *notes, *([f"measured on {_data_of(kind, values)}"] if data else [])]:
        log.write(line)
    for line in report(kind, LanguageRunner().evaluate(folder, "test", data=data)):
        log.write(line, result=True)
    if kind != KGE:
        saved = load_model(folder)
        log.write(f"{PROMPT} {' '.join(generate(saved.model, saved.vocabulary, PROMPT, Sampling()))}", result=True)


def report(kind: str, figures: Mapping[str, Any]) -> list[str]:
    """Figures of a split as the original's scripts print them, a line each."""
    lines = []
    if kind != KGE and "language" in figures:
        text = figures["language"]
        lines.append(
            f"perplexity {text['perplexity']:.2f} ({text['tokens']} words predicted, {text['unknown_rate']:.2%} unknown)"
        )
        lines.append(f"without unknown {text['without_unknown']:.2f}, unknown-penalised {text['unknown_penalised']:.2f}")
    if kind != LM:
        for name, measured in figures.get("triples", {}).items():
            ratios = " ".join(f"{key} {measured[key]:.4f}" for key in ("roc_auc", "pr_auc", "f1", "precision", "recall"))
            lines.append(f"{name} false triples: accuracy {100 * measured['accuracy']:.2f} % {ratios}")
    return lines


def _settings(kind: str, values: Mapping[str, Any]) -> Settings:
    """Settings of a run: the original's defaults, its flags, the files of the data, and overrides above all."""
    from blink.kglm.config import load_settings

    settings: dict[str, Any] = {**(AS_BEFORE if kind == LM else JOINT_AS_BEFORE), "seed": values["seed"]}
    if kind == LM:
        settings |= text_settings(require_location(values["data_location"], "data_location"))
    else:
        settings |= triple_settings(require_location(values["data_location_kge"], "data_location_kge"))
        if kind == KGE and values["data_location_lm"] is None:
            settings["vocabulary.count"] = "names"
        else:
            settings |= text_settings(require_location(values["data_location_lm"], "data_location_lm"))
    settings |= settings_from(kind, values)
    if kind == KGE and settings["joint.alpha"] != 1:
        raise SettingsError(f"--task is {values['task']}; train_kge learns triples alone, take train_kge_lm for text")
    overrides = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    return load_settings("lm" if kind == LM else "joint", None, [*overrides, *values["overrides"]])


def _folder(kind: str, values: Mapping[str, Any]) -> Path:
    if values["out"]:
        return Path(values["out"])
    return FOLDERS[kind].run(_location(kind, values), f"{values['model_name']}_{values['exp_num']}")


def _data_of(kind: str, values: Mapping[str, Any]) -> str:
    """The locations that a command names."""
    flags = {LM: ("data_location",), KGE: ("data_location_kge",)}.get(kind, ("data_location_lm", "data_location_kge"))
    return " and ".join(str(values[flag]) for flag in flags if values[flag])


def _location(kind: str, values: Mapping[str, Any]) -> str:
    flag = "data_location" if kind == LM else "data_location_kge"
    return require_location(values[flag], flag)


class _Log:
    """Lines for the terminal that also go into a log, with the time."""

    def __init__(self, kind: str, values: Mapping[str, Any], task: str) -> None:
        name = f"{values['model_name']}_{task}_{values['exp_num']}"
        self._path = Path(values["out"]) / f"{name}.log" if values["out"] else FOLDERS[kind].log(_location(kind, values), name)

    def write(self, line: str, *, result: bool = False) -> None:
        """Write a line; results go to standard output."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as f:
            f.write(f"{datetime.now().isoformat(timespec='seconds')} {line}\n")
        if result:
            sys.stdout.write(f"{line}\n")
        else:
            say(line)
