"""Flags of the original's six KG-LM commands, and the settings they stand for."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from blink.errors import SettingsError

LM, KGE, JOINT = "lm", "kge", "kge_lm"
ALL = (LM, KGE, JOINT)


@dataclass(frozen=True)
class Flag:
    """A flag.

    Attributes:
        names: its spellings, the original's first; each is also taken with ``-`` for ``_``.
        kind: type of its value.
        default: by command.
        help: its description.
        settings: settings it gives, by their full names, from its value; None where it is read elsewhere or does nothing.
        of_network: whether it describes the network or its vocabulary, so that a trained run has it for good.
    """

    names: tuple[str, ...]
    kind: Any
    default: Mapping[str, Any]
    help: str
    settings: Callable[[Any], Mapping[str, Any]] | None = None
    of_network: bool = False

    def option(self, command: str) -> click.Option:
        """The flag as an option of a command."""
        spellings = dict.fromkeys(s for name in self.names for s in (f"--{name}", f"--{name.replace('_', '-')}"))
        default = self.default[command]
        return click.Option(
            [*spellings, self.names[0]], type=self.kind, default=default, show_default=default is not None, help=self.help
        )


def _layers(text: str) -> dict[str, Any]:
    """Widths of layers as they are written on the command line; nothing is evaluated."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise SettingsError(f"--lstm_layer is {text!r}; give the width of each layer, such as [256]") from error
    widths = [value] if isinstance(value, int) else list(value) if isinstance(value, list | tuple) else []
    if not widths or not all(type(width) is int and width > 0 for width in widths):
        raise SettingsError(f"--lstm_layer is {text!r}; give the width of each layer, such as [256]")
    return {"cells.layers": widths}


def _to(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: value}


def _one_of(flag: str, values: Mapping[str, Any], name: str) -> Callable[[str], dict[str, Any]]:
    def settings(value: str) -> dict[str, Any]:
        if value.lower() not in values:
            raise SettingsError(f"--{flag} is {value!r}; it must be one of {', '.join(values)}")
        return {name: values[value.lower()]}

    return settings


def _last_unit(value: int) -> dict[str, Any]:
    if value != 1:
        raise SettingsError(f"--hidden_units_4 is {value}; a triple has one logit, so it must be 1")
    return {}


def same(value: Any, *commands: str) -> dict[str, Any]:
    """One default for several commands."""
    return dict.fromkeys(commands, value)


CELLS = {"lstm": "LSTM", "bilstm": "BiLSTM"}
JOINTLY = {"false": "alternate", "alternate": "alternate", "true": "sum", "sum": "sum"}
TASKS = {"init": 0.5, "kge": 1.0, "lm": 0.0}
THOUSAND = 1000

FLAGS: tuple[Flag, ...] = (
    Flag(("data_location", "data_location_lm"), str, same(None, LM),
         "Folder of the text: train_selected.txt.gz, dev_selected.txt.gz, test_selected.txt.gz; or train, valid and test "
         "with .txt or .txt.gz; or folders of .sm files named train, dev, test."),
    Flag(("data_location_lm",), str, same(None, KGE, JOINT),
         "Folder of the text, as in train_lm; train_kge only counts its vocabulary there, if it is given."),
    Flag(("data_location_kge",), str, same(None, KGE, JOINT),
         "Folder of the triples: train, valid, test with .tsv or .txt, false ones in train_negatives.tsv and so on; or .en "
         "facts. Names next to them, if ids are no names: names.tsv, relations.tsv or relations.json."),
    Flag(("dataset_kge",), str, same("FB13", KGE, JOINT), "A name for the triples; it goes into the log and selects nothing."),
    Flag(("model_name",), str, same("NAM_NER", *ALL), "Name of the model, in the names of folders and logs."),
    Flag(("exp_num",), str, same("99", *ALL), "Number of the experiment, behind that name."),
    Flag(("exp_info",), str, same("NAM NER experiments", *ALL), "A line for the log."),
    Flag(("epochs",), int, same(30, *ALL), "Epochs.", _to("train.epochs")),
    Flag(("learning_rate_lm",), float, same(1e-3, LM, JOINT), "Learning rate in steps of text.", _to("train.learning_rate_lm")),
    Flag(("learning_rate_kge",), float, same(1e-4, KGE, JOINT),
         "Learning rate in steps of triples.", _to("train.learning_rate_kge")),
    Flag(("lstm_layer",), str, same("[256]", *ALL), "Width of each layer of cells.", _layers, of_network=True),
    Flag(("layer_type",), str, same("BiLSTM", *ALL), "LSTM or BiLSTM.",
         _one_of("layer_type", CELLS, "cells.kind"), of_network=True),
    Flag(("option",), int, same(5, LM) | same(1, KGE), "Does nothing here, as in the original."),
    Flag(("option",), int, same(1, JOINT), "Read the text in each such epoch.", _to("joint.every")),
    Flag(("steps_per_epoch_lm",), int, same(100, LM) | same(1000, JOINT),
         "Steps of text in an epoch.", _to("train.steps_per_epoch_lm")),
    Flag(("steps_per_epoch_kge",), int, same(1000, KGE, JOINT),
         "Steps of triples in an epoch.", _to("train.steps_per_epoch_kge")),
    Flag(("balance",), float, same(3.0, KGE, JOINT), "Weight of true triples.", _to("classifier.balance")),
    Flag(("hidden_units_1",), int, same(1024, KGE, JOINT), "Width of the first layer behind the cells.", of_network=True),
    Flag(("hidden_units_2",), int, same(512, KGE, JOINT), "Width of the second.", of_network=True),
    Flag(("hidden_units_3",), int, same(512, KGE, JOINT), "Width of the third.", of_network=True),
    Flag(("hidden_units_4",), int, same(1, KGE, JOINT), "Width of the last; it must be 1.", _last_unit),
    Flag(("keep_prob", "keep_probs"), float, same(0.6, *ALL),
         "Share of the cells' output that dropout keeps.", _to("cells.keep")),
    Flag(("joint_opt",), str, same("False", JOINT),
         "How both tasks learn: alternate (or False), or sum (or True): losses added in one step.",
         _one_of("joint_opt", JOINTLY, "joint.mode")),
    Flag(("task",), str, same("KGE", KGE) | same("INIT", JOINT),
         "What learns: INIT both tasks, KGE triples, LM text.",
         _one_of("task", TASKS, "joint.alpha"), of_network=True),
    Flag(("vocab_size",), int, same(30, *ALL),
         "Thousands of words that are known, by frequency, such as 30 or 70.",
         lambda v: {"vocabulary.size": v * THOUSAND}, of_network=True),
)  # fmt: skip
"""All flags; one that means something else in another command is listed twice."""


def flags_of(command: str) -> list[Flag]:
    """Flags of ``lm``, ``kge`` or ``kge_lm``."""
    return [flag for flag in FLAGS if command in flag.default]


def settings_from(command: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their full names, from the values of flags.

    Raises:
        SettingsError: a value is not allowed.
    """
    settings: dict[str, Any] = {}
    for flag in flags_of(command):
        if flag.settings is not None:
            settings.update(flag.settings(values[flag.names[0]]))
    if command != LM:
        settings["classifier.hidden"] = [values[f"hidden_units_{n}"] for n in (1, 2, 3)]
    return settings
