"""The command ``entity-typing``."""

from __future__ import annotations

from typing import Any

import click

from examples.luke.options import Common, TaskGroup, run_options, take_plan


@click.group("entity-typing", cls=TaskGroup)
def command() -> None:
    """Types of a mention (Open Entity)."""


@command.command()
@run_options("data/open_entity", seed=12, train_batch_size=2, eval_batch_size=32, num_train_epochs=3.0)
@click.pass_obj
def run(common: Common, /, **options: Any) -> None:
    """Fine-tune on train.json, choose weights by dev.json, evaluate both dev.json and test.json.

    \b
    Example (published: F1 78.2 on test):
      python -m examples.cli --model-file=luke_large_500k.tar.gz --output-dir=out \\
          entity-typing run --data-dir=data/open_entity --train-batch-size=2 \\
          --gradient-accumulation-steps=2 --learning-rate=1e-5 --num-train-epochs=3 --fp16
    """
    from examples.entity_typing.task import EntityTyping
    from examples.luke.run import run_task

    run_task(EntityTyping(), common, take_plan(options))
