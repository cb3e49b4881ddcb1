"""The command ``entity-span-qa``."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.options import settings_options
from examples.entity_span_qa.options import ClozeOptions
from examples.luke.options import Common, TaskGroup, run_options, take_plan


@click.group("entity-span-qa", cls=TaskGroup)
def command() -> None:
    """Entity that fills a gap (ReCoRD)."""


@command.command()
@run_options("data/record", seed=4, train_batch_size=1, eval_batch_size=32, num_train_epochs=2.0)
@settings_options(ClozeOptions, bounds=True)
@click.pass_obj
def run(common: Common, /, **options: Any) -> None:
    """Fine-tune on train.json, choose weights by dev.json and evaluate it.

    \b
    Example (published: EM 90.8, F1 91.4 on dev):
      python -m examples.cli --num-gpus=8 --model-file=luke_large_500k.tar.gz --output-dir=out \\
          entity-span-qa run --data-dir=data/record --train-batch-size=1 \\
          --gradient-accumulation-steps=4 --learning-rate=1e-5 --num-train-epochs=2 --fp16
    """
    from examples.entity_span_qa.task import EntitySpanQa
    from examples.luke.run import run_task

    plan = take_plan(options)
    run_task(EntitySpanQa(ClozeOptions(**options)), common, plan)
