"""``python -m examples.cli``: LUKE's tasks, and tools for its models."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from blink.stopping import program

if __name__ == "__main__":  # before the other imports, during which Ctrl-C may come
    sys.exit(program("examples", "examples.cli:main")())

import click

from blink.apps.common import guarded
from examples.luke.options import TaskGroup, common_options, take_common

COMMANDS = {
    "entity-typing": "examples.entity_typing.command:command",
    "relation-classification": "examples.relation_classification.command:command",
    "ner": "examples.ner.command:command",
    "entity-span-qa": "examples.entity_span_qa.command:command",
    "reading-comprehension": "examples.reading_comprehension.command:command",
    "entity-disambiguation": "examples.entity_disambiguation.command:command",
    "pretraining": "examples.pretraining.commands:command",
    "export-entities": "examples.export_entities:command",
    "make-tiny-model": "examples.luke.model_commands:make_tiny_model",
    "convert": "examples.luke.model_commands:convert",
    "create-model-archive": "examples.luke.model_commands:create_model_archive",
}
"""Name -> module:command. A module is imported when its command is used, and imports torch when that runs."""

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class LazyGroup(TaskGroup):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings=HELP)
@common_options
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Fine-tune and evaluate LUKE on entity-aware tasks.

    \b
    Try it without data or network, in a minute (each task's README has its own command):
      python -m examples.cli make-tiny-model tiny
      python -m examples.cli --model-file=tiny --output-dir=out entity-typing run \\
          --data-dir=examples/entity_typing/tiny --train-batch-size=20 --num-train-epochs=60 --learning-rate=3e-3 \\
          --lr-schedule=warmup_constant
    """
    context.obj = take_common(options)


def main() -> None:
    """Run the command line."""
    sys.exit(guarded(lambda: cli.main(prog_name="python -m examples.cli", standalone_mode=False), "examples"))
