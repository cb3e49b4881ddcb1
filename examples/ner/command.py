"""The command ``ner``."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.options import settings_options
from examples.luke.options import Common, TaskGroup, run_options, take_plan
from examples.ner.options import NerOptions


@click.group("ner", cls=TaskGroup)
def command() -> None:
    """Names in sentences (CoNLL-2003)."""


@command.command()
@run_options("data/conll_2003", seed=35, train_batch_size=2, eval_batch_size=32, num_train_epochs=5.0)
@settings_options(NerOptions, bounds=True)
@click.pass_obj
def run(common: Common, /, **options: Any) -> None:
    """Fine-tune on eng.train, choose weights by eng.testa, evaluate both eng.testa and eng.testb.

    The original keeps the weights of the last epoch: --keep last.

    \b
    Example (published: F1 94.3 on eng.testb):
      python -m examples.cli --model-file=luke_large_500k.tar.gz --output-dir=out \\
          ner run --data-dir=data/conll_2003 --train-batch-size=2 \\
          --gradient-accumulation-steps=4 --learning-rate=1e-5 --num-train-epochs=5 --fp16
    """
    from examples.luke.run import run_task
    from examples.ner.task import Ner

    plan = take_plan(options)
    run_task(Ner(NerOptions(**options)), common, plan)
