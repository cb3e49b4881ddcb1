"""The command ``relation-classification``."""

from __future__ import annotations

from typing import Any

import click

from examples.luke.options import Common, TaskGroup, run_options, take_plan


@click.group("relation-classification", cls=TaskGroup)
def command() -> None:
    """Relation of two mentions (TACRED)."""


@command.command()
@run_options("data/tacred", seed=42, train_batch_size=4, eval_batch_size=128, num_train_epochs=5.0)
@click.pass_obj
def run(common: Common, /, **options: Any) -> None:
    """Fine-tune on train.json, choose weights by dev.json, evaluate both dev.json and test.json.

    \b
    Example (published: F1 72.7 on test):
      python -m examples.cli --model-file=luke_large_500k.tar.gz --output-dir=out \\
          relation-classification run --data-dir=data/tacred --train-batch-size=4 \\
          --gradient-accumulation-steps=8 --learning-rate=1e-5 --num-train-epochs=5 --fp16
    """
    from examples.luke.run import run_task
    from examples.relation_classification.task import RelationClassification

    run_task(RelationClassification(), common, take_plan(options))
