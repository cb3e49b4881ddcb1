"""``blink eval``: measures a linker on a mention file, or on its saved predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import (
    FILTER_SECTION,
    MODEL_SECTION,
    RUN_SECTION,
    SCORE_SECTION,
    WHERE,
    cluster_option,
    model_options,
    where_options,
)
from blink.apps.outputs import Outputs
from blink.apps.sections import SectionedCommand

SECTIONS = {
    "Results": ("json_out", "rows_out", "cluster", "nil"),
    **MODEL_SECTION,
    **SCORE_SECTION,
    **RUN_SECTION,
    "Saved predictions": ("save_preds", "preds", "dev", "choose_by", "plots"),
    **FILTER_SECTION,
    "How links are selected": ("text_key", "mode", "mention_threshold", "entities", "mentions"),
}


@click.command("eval", cls=SectionedCommand, sections=SECTIONS)
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--json", "json_out", metavar="OUT", help="Write the figures as JSON; - is standard output.")
@click.option(
    "--rows",
    "rows_out",
    metavar="OUT",
    help="Write a JSON line per question: gold, predictions, error labels; - is standard output. See `blink compare`.",
)
@cluster_option
@click.option("--mode", metavar="NAME", help="How links are selected from the scored spans.  [default: the linker's own]")
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
    "--nil",
    is_flag=True,
    help="Also score gold mentions outside the catalogue, which are right if no link overlaps them: recall is the share of "
    "them without a link, precision the share of the gold mentions without a link that are outside the catalogue. And the "
    "share of all gold mentions whose exact span is proposed, and of those with a mention probability above 0.5.",
)
@click.option(
    "--save-preds", metavar="OUT", help="Save the predictions: a file that ends in .npz, or a folder for predictions.npz."
)
@click.option("--preds", metavar="NPZ", help="Evaluate predictions of --save-preds at every threshold; the model does not run.")
@click.option("--dev", metavar="NPZ", help="With --preds: select the threshold on these predictions, of a development file.")
@click.option(
    "--choose-by",
    type=click.Choice(["weak", "strong"]),
    default="weak",
    show_default=True,
    help="With --preds: the covered F1 that selects the threshold.",
)
@click.option("--plots", metavar="DIR", help="With --preds: draw precision-recall and threshold curves (PNG) into DIR.")
@where_options
@model_options
def evaluate(
    file: str | None, json_out: str | None, rows_out: str | None, preds: str | None, save_preds: str | None, **options: Any
) -> None:
    """Evaluate on a mention file: micro precision, recall and F1, weak and strong, with 95 % intervals.

    Weak: the spans overlap and the entity is right. Strong: the span is exactly right too. Given over all gold mentions;
    over the questions whose gold entities are all in the catalogue ("covered"); and over the gold mentions that are,
    whatever else their question holds ("covered mentions"). Of a file without gold it is reported how much is linked.

    With --preds the predictions of an earlier run are evaluated at every threshold, for fewer candidates and for fewer
    mentions. The threshold that is reported is --threshold, or else the best on --dev. A FILE, --model or --kb that is
    given with --preds must be what the predictions were made with. A folder written by --save_preds_dir of the original
    script will do too, where it holds no pickles.

    \b
    Examples:
      blink eval dev.jsonl --model models/starter --kb my-kb --json scores.json --rows rows.jsonl
      blink eval dev.jsonl --text-key text_cased
      blink eval dev.jsonl --save-preds dev.npz
      blink eval test.jsonl --save-preds test.npz
      blink eval --preds test.npz --dev dev.npz --plots pictures
    """
    outputs = Outputs(json_out, rows_out)
    if preds is not None:
        if save_preds is not None:
            raise click.UsageError("--preds reads what --save-preds writes; give one of them")
        if any(options[name] for name in WHERE):
            raise click.UsageError("--where, --allow and --deny choose candidates, which --preds already holds; leave them out")
        if options["text_key"] != "text":
            raise click.UsageError("--text-key names the model's input, which --preds already holds; leave it out")
        _evaluate_saved(preds, file, outputs, options)
        return
    for name in ("dev", "plots"):
        if options.pop(name) is not None:
            raise click.UsageError(f"--{name} belongs to --preds; write them first: blink eval FILE --save-preds OUT.npz")
    if file is None:
        raise click.UsageError("there is nothing to evaluate; give a mention file, or --preds NPZ")
    options.pop("choose_by")
    _evaluate_file(file, outputs, save_preds, options)


def _evaluate_file(file: str, outputs: Outputs, save_preds: str | None, options: Mapping[str, Any]) -> None:
    from blink.evaluation.run import evaluate_file, predictions_file

    outputs.check()
    results = evaluate_file(file, save_preds=save_preds, warn=say, bars=bar, **options)
    if save_preds is not None:
        saved = predictions_file(save_preds)
        say(f"wrote {saved}; evaluate again without the model: blink eval --preds {saved}")
    outputs.write(results.figures, results.rows, results.report)


def _evaluate_saved(preds: str, file: str | None, outputs: Outputs, options: Mapping[str, Any]) -> None:
    from blink.evaluation.selection import SweepRequest, evaluate_saved

    outputs.check()
    # Options of how the model runs have no effect: it does not run.
    request = {f.name: options[f.name] for f in fields(SweepRequest) if f.name in options}
    results = evaluate_saved(SweepRequest(preds, file, **request))
    outputs.write(results.figures, results.rows, results.report)
