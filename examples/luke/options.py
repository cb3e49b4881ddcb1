"""Command-line options that all tasks share: the original's, and additional ones."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from blink.apps.options import settings_options
from examples.luke.settings import TuneSettings

Command = TypeVar("Command", bound=Callable[..., Any])

COMET_SWITCHES = (
    "offline", "auto-metric-logging", "auto-output-logging", "log-code", "log-env-cpu", "log-env-gpu", "log-env-host",
    "log-graph",
)  # fmt: skip


@dataclass(frozen=True)
class Common:
    """Options before the name of the task.

    Attributes:
        model_file: archive, folder or name of the pre-trained model.
        output_dir: folder of the run; None for one with a random name.
        num_gpus: number of GPUs; None for one if available.
        master_port: port of the process group.
        tokenizer: word tokenizer of an archive; None for the one that it names.
        logger: ``comet`` or ``tensorboard``; None for neither.
        comet: options of Comet.
    """

    model_file: str | None = None
    output_dir: str | None = None
    num_gpus: int | None = None
    master_port: int = 29500
    tokenizer: str | None = None
    logger: str | None = None
    comet: dict[str, Any] | None = None


@dataclass(frozen=True)
class Plan:
    """Options of a task's ``run``.

    Attributes:
        data_dir: folder of the data.
        checkpoint_file: fine-tuned weights to evaluate instead of those of the run.
        do_train: fine-tune.
        do_eval: evaluate and write predictions.
        resume: resume the run in the output folder.
        settings: of fine-tuning, see `examples.luke.settings.TuneSettings`.
    """

    data_dir: str
    checkpoint_file: str | None
    do_train: bool
    do_eval: bool
    resume: bool
    settings: dict[str, Any]


class TaskGroup(click.Group):
    """A group of commands that prints its help if no command is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click; without arguments, print the help and exit with status 0."""
        if not args:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)


def common_options(command: Command) -> Command:
    """A decorator that adds the options of `Common` to a command."""
    for name in reversed(COMET_SWITCHES):
        command = click.option(f"--comet-{name}", is_flag=True, hidden=True)(command)
    command = click.option("--comet-offline-dir", default=".", hidden=True)(command)
    command = click.option("--comet-project-name", hidden=True)(command)
    for option in reversed(_COMMON):
        command = option(command)
    return command


_COMMON = (
    click.option(
        "--model-file",
        metavar="MODEL",
        help="LUKE's archive (luke_large_500k.tar.gz), a folder of transformers, or a name there.",
    ),
    click.option("--output-dir", metavar="DIR", help="Folder of the run, created if needed.  [default: exp_ + eight letters]"),
    click.option(
        "--num-gpus", type=click.IntRange(0), help="GPUs, each with a process; 0 is the CPU.  [default: 1 if there is one]"
    ),
    click.option(
        "--tokenizer", metavar="NAME", help="Word tokenizer of an archive, by name or folder.  [default: the one it names]"
    ),
    click.option("--master-port", type=int, default=29500, show_default=True, help="Port of the process group."),
    click.option(
        "--experiment-logger", "--logger", "logger", type=click.Choice(["comet", "tensorboard"]), help="Log metrics there, too."
    ),
    click.option("--local-rank", "--local_rank", "local_rank", type=int, default=-1, hidden=True),
)


def take_common(options: MutableMapping[str, Any]) -> Common:
    """Take the options before the name of the task; ``--local-rank`` has no effect, launchers set environment variables."""
    options.pop("local_rank")
    comet = {k.removeprefix("comet_"): options.pop(k) for k in list(options) if k.startswith("comet_")}
    return Common(**options, comet=comet)


def run_options(data_dir: str, **defaults: Any) -> Callable[[Command], Command]:
    """A decorator that adds the options of `Plan` to a task's ``run``.

    Args:
        data_dir: default folder of the data.
        defaults: published settings that differ from the defaults of `TuneSettings`.
    """
    data = click.option("--data-dir", metavar="DIR", default=data_dir, show_default=True, help="Folder of the data.")
    settings = settings_options(TuneSettings, without=("precision",), defaults=defaults, bounds=True)

    def decorate(command: Command) -> Command:
        for option in reversed((data, *_PLAN, settings, *PRECISION, _LEVEL)):
            command = option(command)
        return command

    return decorate


_PLAN = (
    click.option(
        "--checkpoint-file",
        metavar="FILE",
        help="Fine-tuned weights to evaluate, even after training: a run's folder, a file in it, or the original's .bin.",
    ),
    click.option("--do-train/--no-train", default=True, show_default=True, help="Fine-tune."),
    click.option("--do-eval/--no-eval", default=True, show_default=True, help="Evaluate, and write predictions."),
    click.option("--resume", is_flag=True, help="Resume the run in --output-dir, to the weights of an uninterrupted one."),
)
PRECISION = (
    click.option("--fp16", is_flag=True, help="Mixed precision with float16 (on a GPU)."),
    click.option("--bf16", is_flag=True, help="Mixed precision with bfloat16."),
)
_LEVEL = click.option("--fp16-opt-level", type=click.Choice(["O0", "O1", "O2", "O3"]), default="O2", hidden=True)


def take_precision(options: MutableMapping[str, Any]) -> str:
    """The precision that `PRECISION` names, taken out of a command's options.

    Raises:
        click.UsageError: both are given.
    """
    half, brain = options.pop("fp16"), options.pop("bf16")
    if half and brain:
        raise click.UsageError("--fp16 and --bf16 are two precisions; give one of them")
    return "bf16" if brain else "fp16" if half else "fp32"


def take_plan(options: MutableMapping[str, Any]) -> Plan:
    """Take the options that all tasks share out of a command's options; the task's options remain.

    Raises:
        click.UsageError: two precisions are given.
    """
    precision, level = take_precision(options), options.pop("fp16_opt_level")
    if precision == "fp16" and level == "O0":  # the original's library computed in float32 at this level
        precision = "fp32"
    settings = {name: options.pop(name) for name in TuneSettings.model_fields if name != "precision"} | {"precision": precision}
    plan = {name: options.pop(name) for name in ("data_dir", "checkpoint_file", "do_train", "do_eval", "resume")}
    return Plan(**plan, settings=settings)
