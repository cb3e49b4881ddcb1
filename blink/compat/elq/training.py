"""The flags of the original's training script, under their own names, next to the options of ``blink train``.

Its defaults are not kept where they were defects: ``--last_epoch 0`` left out the first epoch, too few texts an epoch gave a
learning rate of 0 throughout, ``--shuffle False`` meant true, ``--lowercase`` turned lower-casing off, the mention head and the
embeddings never learnt, and the best epoch was selected on training texts.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from blink.apps import train as command
from blink.apps.common import say
from blink.apps.sections import SectionedCommand, write_section

Sets = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Flag:
    """One flag of the original's.

    Attributes:
        name: as it is written.
        sets: from its text, options of today's and their values; None for a flag without effect.
        switch: whether it may stand without a value, which then is ``true``.
    """

    name: str
    sets: Sets | None = None
    switch: bool = False

    def same_as(self) -> str:
        """The option of today that it sets, for help."""
        assert self.sets is not None
        for text in ("true", "0"):
            with suppress(ValueError):
                values = self.sets(text)
                break
        # A value that a switch always sets is part of the text; another is the user's own.
        settings = (_spelt(name, value if self.switch else None) for name, value in values.items())
        return f"sets {' '.join(settings)}"

    def option(self) -> click.Option:
        """The flag as a hidden option, whose value is its text."""
        optional: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if self.switch else {}
        return click.Option([f"--{self.name}", _PREFIX + self.name], type=str, hidden=True, **optional)


def _spelt(name: str, value: Any) -> str:
    """An option of today, as it is given on a command line."""
    flag = name.replace("_", "-").removesuffix("-files")
    return f"--no-{flag}" if value is False else f"--{flag}" if value in (None, True) else f"--{flag} {value}"


def truth(text: str) -> bool:
    """``true`` and ``false`` in any spelling that is usual."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise ValueError("true or false")
    return known[text.lower()]


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("a whole number") from None


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


def _to(option: str, read: Callable[[str], Any] = str) -> Sets:
    return lambda text: {option: read(text)}


def _where(true: dict[str, Any], false: dict[str, Any] | None = None) -> Sets:
    """Options that a switch sets."""
    return lambda text: true if truth(text) else (false or {})


def _aggregation(text: str) -> dict[str, Any]:
    return {} if text.lower() in ("none", "none_no_mentions") else {"aggregation": text}


FROZEN = {"entity_tower": "frozen"}
TRAINED = {"entity_tower": "trained", "objective": "in_batch"}
"""Vectors that learn are compared within the batch: those of the whole catalogue would have to be made in each step."""

FLAGS = (
    Flag("data_path", _to("data")),
    Flag("output_path", _to("out")),
    Flag("bert_model", _to("model")),
    Flag("path_to_model", _to("checkpoint")),
    Flag("load_cand_enc_only", _to("candidate_only", truth), switch=True),
    Flag("freeze_cand_enc", _where(FROZEN, TRAINED), switch=True),
    Flag("adversarial_training", _where({"objective": "hard_negatives_bce"}), switch=True),
    Flag("train_batch_size", _to("batch_size", whole)),
    Flag("gradient_accumulation_steps", _to("accumulation", whole)),
    Flag("learning_rate", _to("learning_rate", number)),
    Flag("num_train_epochs", _to("epochs", whole)),
    Flag("warmup_proportion", _to("warmup", number)),
    Flag("max_grad_norm", _to("max_grad_norm", number)),
    Flag("type_optimization", _to("train_layers")),
    Flag("shuffle", _where({"in_order": False}, {"in_order": True}), switch=True),
    Flag("dont_distribute_train_samples", _where({"distribute": False}, {"distribute": True}), switch=True),
    Flag("mention_aggregation_type", _aggregation),
    Flag("mention_scoring_method", _to("mention_scorer")),
    Flag("max_context_length", _to("context_length", whole)),
    Flag("max_cand_length", _to("candidate_length", whole)),
    Flag("max_mention_length", _to("max_mention_length", whole)),
    Flag("last_epoch", lambda text: {"first_epoch": whole(text) + 1}),
    Flag("eval_interval", _to("eval_steps", whole)),
    Flag("print_interval", _to("log_steps", whole)),
    Flag("cand_enc_path", _to("vectors")),
    Flag("index_path", _to("index")),
    Flag("path_to_trainer_state", lambda text: {"resume": True}),
    Flag("fp16", _where({"precision": "fp16"}), switch=True),
    Flag("no_cuda", _where({"device": "cpu"}), switch=True),
    *(Flag(name, switch=True) for name in (
        "silent", "debug", "data_parallel", "zeshel", "lowercase", "add_linear", "no_mention_bounds", "do_mention_detection",
        "get_losses", "evaluate", "save_topk_result",
    )),
    *(Flag(name) for name in (
        "top_k", "max_seq_length", "pull_from_layer", "context_key", "title_key", "out_dim", "eval_batch_size", "save_interval",
        "start_idx", "end_idx", "output_eval_file", "mode", "encode_batch_size", "cand_pool_path",
        "cand_encode_path", "cand_token_ids_path",
    )),
)  # fmt: skip
"""Every flag whose name is not one of today's already (``--seed``)."""

_PREFIX = "original_"


class TrainCommand(SectionedCommand):
    """``blink train``, which also takes the original's flags; they are the last group of its help."""

    def __init__(self, current: SectionedCommand) -> None:
        super().__init__(
            current.name,
            context_settings=current.context_settings,
            callback=current.callback,
            params=[*current.params, *(flag.option() for flag in FLAGS)],
            help=current.help,
            sections=current.sections,
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of today in sections, then the flags of the original."""
        super().format_options(ctx, formatter)
        used = [(f"--{flag.name}", flag.same_as()) for flag in FLAGS if flag.sets is not None]
        unused = ", ".join(f"--{flag.name}" for flag in FLAGS if flag.sets is None)
        write_section(formatter, "Flags of the original's training script", [*used, ("without effect", unused)])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, and turn flags of the original into today's options."""
        rest = super().parse_args(ctx, args)
        take_original_flags(ctx, ctx.params)
        return rest


def take_original_flags(context: click.Context, options: MutableMapping[str, Any]) -> None:
    """Turn the flags of the original that were given into today's options, and say which have no effect.

    Raises:
        click.UsageError: a value cannot be read, or a flag is given in both spellings.
    """
    unused = []
    for flag in FLAGS:
        text = options.pop(_PREFIX + flag.name)
        if text is None:
            continue
        if flag.sets is None:
            unused.append(f"--{flag.name}")
            continue
        try:
            values = flag.sets(text)
        except ValueError as error:
            raise click.UsageError(f"--{flag.name} is {text!r}; it must be {error}", context) from error
        for option, value in values.items():
            if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
                spelt = option.replace("_", "-").removesuffix("-files")
                raise click.UsageError(f"--{flag.name} and --{spelt} set the same; give one of them", context)
            options[option] = value
    if unused:
        say(f"accepted, without effect: {', '.join(unused)}")


train = TrainCommand(command.train)
