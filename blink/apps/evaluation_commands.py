"""The commands that measure linkers: ``blink eval`` and ``blink compare``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from blink.apps.model_options import model_options

cluster_option = click.option(
    "--cluster",
    type=click.Choice(["none", "paraphrase"]),
    default="none",
    show_default=True,
    help="What intervals draw: single questions, or all questions with the same gold entities at once.",
)


@click.command("eval")
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--json", "json_out", metavar="OUT", help="Write the figures as JSON; - is standard output.")
@click.option(
    "--rows",
    "rows_out",
    metavar="OUT",
    help="Write a JSON line per question: gold, predictions, error labels; - is standard output. See `blink compare`.",
)
@cluster_option
@click.option("--mode", metavar="NAME", help="How links are chosen among what was read.  [default: the linker's own]")
@click.option("--mention-threshold", type=float, metavar="X", help="Raw mention score that some modes need.")
@click.option(
    "--entities",
    type=click.IntRange(1),
    metavar="K",
    help="Candidates per mention; joint scores are normalised over them.  [default: the linker's own]",
)
@click.option("--mentions", type=click.IntRange(1), metavar="M", help="Most mentions considered.  [default: the linker's own]")
@click.option(
    "--text-key",
    metavar="KEY",
    default="text",
    show_default=True,
    help="Key of the texts to read in FILE, such as text_cased: the same texts, character for character.",
)
@click.option(
    "--save-preds", metavar="OUT", help="Keep what the model saw: a file that ends in .npz, or a folder for predictions.npz."
)
@click.option("--preds", metavar="NPZ", help="Evaluate what --save-preds kept, at every threshold; the model does not run.")
@click.option("--dev", metavar="NPZ", help="With --preds: choose the threshold on these readings, of a development file.")
@click.option(
    "--choose-by",
    type=click.Choice(["weak", "strong"]),
    default="weak",
    show_default=True,
    help="With --preds: the covered F1 that the threshold is chosen by.",
)
@click.option("--plots", metavar="DIR", help="With --preds: draw precision-recall and threshold curves (PNG) into DIR.")
@model_options
def evaluate(
    file: str | None, json_out: str | None, rows_out: str | None, preds: str | None, save_preds: str | None, **options: Any
) -> None:
    """Evaluate on a mention file: micro precision, recall and F1, weak and strong, with 95 % intervals.

    Weak: the spans overlap and the entity is right. Strong: the span is exactly right too. Given over all gold mentions;
    over the questions whose gold entities are all in the catalogue ("covered"); and over the gold mentions that are,
    whatever else their question holds ("covered mentions"). Of a file without gold it is reported how much is linked.

    With --preds the readings of an earlier run are evaluated at every threshold, for fewer candidates and for fewer
    mentions. The threshold that is reported is --threshold, or else the best on --dev. A FILE, --model or --kb that is
    named beside --preds must be what the readings were made with. A folder written by --save_preds_dir of the original
    script will do too, where it holds no pickles.

    \b
    Examples:
      blink eval dev.jsonl --model models/starter --kb my-kb --json scores.json --rows rows.jsonl
      blink eval dev.jsonl --text-key text_cased
      blink eval dev.jsonl --save-preds dev.npz
      blink eval test.jsonl --save-preds test.npz
      blink eval --preds test.npz --dev dev.npz --plots pictures
    """
    from blink.apps.outputs import Outputs

    outputs = Outputs(json_out, rows_out)
    if preds is not None:
        from blink.apps.sweeping import Asked, evaluate_saved

        if save_preds is not None:
            raise click.UsageError("--preds reads what --save-preds writes; give one of them")
        if options["text_key"] != "text":
            raise click.UsageError("--text-key says what the model reads, which --preds has read; leave it out")
        # How the model runs is of no account where it does not.
        taken = {f.name: options[f.name] for f in fields(Asked) if f.name in options}
        evaluate_saved(Asked(preds, file, **taken), outputs)
        return

    from blink.apps.evaluating import evaluate_file

    for name in ("dev", "plots"):
        if options.pop(name) is not None:
            raise click.UsageError(f"--{name} belongs to --preds; write readings first: blink eval FILE --save-preds OUT.npz")
    if file is None:
        raise click.UsageError("there is nothing to evaluate; give a mention file, or --preds NPZ")
    options.pop("choose_by")
    evaluate_file(file, outputs, save_preds=save_preds, **options)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--gold", metavar="FILE", help="Mention file whose gold counts, instead of what the rows say.")
@click.option("--kb", metavar="DIR", help="Knowledge base that was evaluated: names entities by title, and binds --gold to it.")
@click.option("--show", type=click.IntRange(0), default=0, show_default=True, help="Print so many questions won and lost.")
@click.option("--json", "json_out", metavar="OUT", help="Write the figures as JSON; - is standard output.")
@cluster_option
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the resampling.")
def compare(a: str, b: str, **options: Any) -> None:
    """Compare two systems on the same questions: is B better than A, and where?

    A and B are files written by `blink eval --rows`. Printed are the differences of F1 with 95 % intervals and p values
    (paired bootstrap, 10,000 resamples), the questions that B won and lost, the errors of either by kind, and what each
    mention was in A (down) and became in B (across).

    \b
    Example:
      blink eval dev.jsonl --model experiments/old/best --kb my-kb --rows old.jsonl
      blink eval dev.jsonl --model experiments/new/best --kb my-kb --rows new.jsonl
      blink compare old.jsonl new.jsonl --show 5
    """
    from blink.apps.comparing import compare_files

    compare_files(a, b, **options)


evaluation_commands: tuple[click.Command, ...] = (evaluate, compare)
"""What `blink` takes up."""
