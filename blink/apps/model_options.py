"""The options that several commands share: which model and knowledge base, and how the model runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.model.config import FEATURE_GROUPS

if TYPE_CHECKING:
    from blink.linking.linker import Linker


MODEL_SECTION = {"Model and knowledge base": ("model", "kb", "prior", "max_ram", "verify")}
FILTER_SECTION = {"Which entities may be linked": ("where", "allow", "deny")}
SCORE_SECTION = {"Scores and threshold": ("threshold", "rank", "without", "document")}
RUN_SECTION = {"How the model runs": ("backend", "precision", "device", "batch_size")}
RECORD_SECTION = {"Records of files": ("text_key", "id_key", "carry", "no_text", "descriptions", "no_candidates", "strict")}
"""Sections of help that several commands have, of the options below; see `blink.apps.sections`."""


def model_option(text: str) -> Callable[[Any], Any]:
    """``--model`` with a help text; the starter is None, whether it is named or left out."""
    return click.option("--model", metavar="DIR", callback=_starter_is_none, help=text)


def _starter_is_none(_context: click.Context, _option: click.Parameter, model: str | None) -> str | None:
    if model is None:
        return None
    from blink.linking.starter import names_starter  # half of the time until a command's first word

    return None if names_starter(model) else model


def model_options(command: Any) -> Any:
    """The options that name a model and a knowledge base, and how the model runs."""
    for option in reversed(
        [
            model_option("Model folder.  [default: the starter]"),
            click.option(
                "--kb", metavar="DIR", help="Knowledge base folder, made by `blink kb build`.  [default: the starter's]"
            ),
            click.option("--verify", is_flag=True, help="Compare all bytes of both with their checksums before they are used."),
            click.option(
                "--threshold",
                type=float,
                metavar="X",
                help="Keep links that score above X: a probability where the model has a reranker, else a log-probability (at "
                "most 0).  [default: the model's own]",
            ),
            click.option(
                "--rank/--no-rank",
                default=True,
                show_default=True,
                help="Rerank by names, spelling and popularity; --no-rank keeps the bi-encoder's own scores.",
            ),
            click.option(
                "--without",
                multiple=True,
                type=click.Choice(list(FEATURE_GROUPS)),
                metavar="GROUP",
                help=f"Features that the reranker ignores: {', '.join(FEATURE_GROUPS)}; may be repeated.",
            ),
            click.option(
                "--prior",
                metavar="FILE",
                help="Graph data of the entities, written by `blink kglm prior` and tuned for the model by "
                "`blink kglm tune-prior`; none leaves scores as they are.  [default: the starter's own, else none]",
            ),
            click.option(
                "--document/--no-document",
                default=None,
                help="Let short mentions follow the full names of their text.  [default: as the model says]",
            ),
            click.option(
                "--batch-size",
                type=click.IntRange(1),
                default=64,
                show_default=True,
                help="Texts per forward pass.",
            ),
            click.option(
                "--precision",
                type=click.Choice(["auto", "fp32", "bf16", "int8"]),
                default="auto",
                show_default=True,
                help="Precision of the encoder; auto is fp32 with ONNX Runtime, with PyTorch bf16 where the hardware has it.",
            ),
            click.option(
                "--backend",
                type=click.Choice(["auto", "torch", "onnx"]),
                default="auto",
                show_default=True,
                help="What runs the encoder. onnx starts in a second, on a CPU. auto is torch on a GPU, for bf16, and for many "
                "texts where the hardware has bf16, else onnx.",
            ),
            click.option("--device", metavar="NAME", help="Such as cpu, cuda or cuda:1.  [default: a GPU where there is one]"),
        ]
    ):
        command = option(command)
    return command


def _or_none(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...] | None:
    return values or None


WHERE = {
    "where": ("COND", "Only such entities: type=city|town, tag!=old, id=Q60; may be repeated."),
    "allow": ("FILE", "Only entities of a list: an id a line, or row:17."),
    "deny": ("FILE", "No entity of a list."),
}
"""Options that filter entities, by name: metavar and help; see `blink.kb.where.where_from`."""


def where_options(command: Any) -> Any:
    """The options of `WHERE`; None where they are not given."""
    for name, (metavar, text) in reversed(WHERE.items()):
        command = click.option(f"--{name}", multiple=True, callback=_or_none, metavar=metavar, help=text)(command)
    return command


RECORDS = {
    "text_key": click.option("--text-key", metavar="KEY", help="Key of the text in JSON Lines.  [default: text, in .jsonl]"),
    "id_key": click.option("--id-key", metavar="KEY", help="Key of a record's id, which the output repeats.  [default: id]"),
    "carry": click.option("--carry", metavar="FIELDS", help="Fields to repeat in the output, with commas between, or all."),
    "no_text": click.option("--no-text", is_flag=True, help="Leave the texts out of the output."),
    "descriptions": click.option("--descriptions", is_flag=True, help="Add the description of each link's entity."),
    "no_candidates": click.option("--no-candidates", is_flag=True, help="Leave other candidates of links out of the output."),
}
"""Options about the records of files, by name."""


def record_options(command: Any) -> Any:
    """The options of `RECORDS`."""
    for option in reversed(RECORDS.values()):
        command = option(command)
    return command


precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Precision of the encoder.",
)

cluster_option = click.option(
    "--cluster",
    type=click.Choice(["none", "paraphrase"]),
    default="none",
    show_default=True,
    help="What intervals resample: single questions, or all questions with the same gold entities at once.",
)


def open_linker(model: str | None, kb: str | None, threshold: float | None = None, **options: Any) -> Linker:
    """Open the linker of `model_options`, with progress and warnings on standard error; see `blink.linking.opening`."""
    from blink.linking import opening

    return opening.open_linker(model, kb, threshold, warn=say, bars=bar, **options)
