"""The command ``entity-disambiguation``."""

from __future__ import annotations

from typing import Any

import click

from examples.luke.options import Common, TaskGroup, run_options, take_plan

DATA = "data/entity_disambiguation"


@click.group("entity-disambiguation", cls=TaskGroup)
def command() -> None:
    """Candidate that each mention refers to (AIDA, MSNBC, AQUAINT, ACE2004, CWEB, WIKI)."""


@command.command()
@run_options(
    DATA, seed=42, train_batch_size=16, eval_batch_size=8, num_train_epochs=2.0, learning_rate=2e-5, warmup_proportion=0.1,
    max_grad_norm=1.0, adam_b2=0.999,
)  # fmt: skip
@click.option("--max-seq-length", type=click.IntRange(8), default=512, show_default=True, help="Tokens of an input.")
@click.option("--max-entity-length", type=click.IntRange(1), default=128, show_default=True, help="Mentions of an input.")
@click.option("--max-candidate-length", type=click.IntRange(1), default=30, show_default=True, help="Candidates of a mention.")
@click.option("--max-mention-length", type=click.IntRange(1), default=30, show_default=True, help="Tokens of a mention.")
@click.option(
    "--masked-entity-prob",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Fraction of mentions masked in training.",
)
@click.option(
    "--inference-mode",
    type=click.Choice(["global", "local"]),
    default="global",
    show_default=True,
    help="global decides the most confident mention first and uses it as context; local decides all at once.",
)
@click.option(
    "--document-split-mode",
    type=click.Choice(["simple", "per_mention"]),
    default="simple",
    show_default=True,
    help="Split long texts into windows of equal length, or one window around each mention.",
)
@click.option("--titles-file", metavar="FILE", help="Titles, one per line; mentions of other entities are ignored.")
@click.option("--redirects-file", metavar="FILE", help="source<TAB>target per line: titles of the sets that have been renamed.")
@click.pass_obj
def run(common: Common, /, **options: Any) -> None:
    """Fine-tune on aida_train.csv, choose weights by aida_testA.csv, evaluate that, aida_testB.csv and the wned sets.

    With --no-train and no fine-tuned model, the pre-trained model is evaluated (published as "zero-shot").

    \b
    Example:
      python -m examples.cli --model-file=luke-ed --output-dir=out entity-disambiguation run \\
          --data-dir=data/entity_disambiguation --titles-file=titles.txt --redirects-file=redirects.tsv \\
          --inference-mode=global --document-split-mode=per_mention
    """
    from examples.entity_disambiguation.running import run_disambiguation

    run_disambiguation(common, take_plan(options), **options)


@command.command("candidates")
@click.argument("out", metavar="OUT.txt")
@click.option("--data-dir", metavar="DIR", default=DATA, show_default=True, help="Folder of the sets.")
@click.option("--redirects-file", metavar="FILE", help="source<TAB>target per line: titles of the sets that have been renamed.")
def candidates(out: str, data_dir: str, redirects_file: str | None) -> None:
    """List the candidates of all sets, for `pretraining build-entity-vocab --white-list OUT.txt --white-list-only`.

    \b
    Example:
      python -m examples.cli entity-disambiguation candidates candidates.txt --data-dir=data/entity_disambiguation
    """
    from examples.entity_disambiguation.running import write_candidates

    write_candidates(out, data_dir, redirects_file)
