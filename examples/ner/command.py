"""The command ``ner``."""

from __future__ import annotations

from typing import Any

import click

from examples.luke.options import Common, Defaults, TaskGroup, run_options, take_plan

DEFAULTS = Defaults(data_dir="data/conll_2003", seed=35, train_batch_size=2, eval_batch_size=32, num_train_epochs=5.0)


@click.group("ner", cls=TaskGroup)
def command() -> None:
    """Names in sentences (CoNLL-2003)."""


@command.command()
@run_options(DEFAULTS)
@click.option("--max-seq-length", type=click.IntRange(8), default=512, show_default=True, help="Pieces read at once.")
@click.option("--max-entity-length", type=click.IntRange(1), default=128, show_default=True, help="Candidates at once.")
@click.option("--max-mention-length", type=click.IntRange(1), default=16, show_default=True, help="Pieces of a candidate.")
@click.option("--no-entity-feature", is_flag=True, help="Classify by word states only.")
@click.option("--no-word-feature", is_flag=True, help="Classify by entity states only.")
@click.option("--train-on-dev-set", is_flag=True, help="Learn from eng.testa too.")
@click.option("--strict", is_flag=True, help="Stop at gold names longer than --max-mention-length, rather than warn.")
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
    from examples.ner.task import Ner, NerOptions

    plan = take_plan(options)
    run_task(Ner(NerOptions(**options)), common, plan)
