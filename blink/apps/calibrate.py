"""``blink calibrate``: turns a reranker's scores into probabilities, and selects a cut-off."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import precision_option
from blink.apps.options import labelled_sets
from blink.apps.outputs import Outputs
from blink.errors import MismatchError, SettingsError
from blink.model.execution import execution_line

if TYPE_CHECKING:
    from blink.evaluation.calibration import Calibration
    from blink.training.fit.calibration import Calibrated


@click.command()
@click.argument("model", metavar="DIR")
@labelled_sets("counts the same for the cut-off as each other")
@click.option(
    "--json", "json_out", metavar="OUT", help="Write the figures and the reliability table as JSON; - is standard output."
)
@click.option("--plots", metavar="DIR", help="Draw the reliability diagram as PNG.")
@precision_option
def calibrate(model: str, sets: tuple[tuple[str, str], ...], json_out: str | None, plots: str | None, precision: str) -> None:
    """Turn a reranked model's scores into probabilities, and select its cut-off, on development files.

    Afterwards --threshold 0.5 keeps links that are right at least every other time; without it the cut-off holds, below
    which a mention is taken to name nothing in the knowledge base. Both are stored with the model. How well the
    probabilities hold is measured on the half of the texts that they were not fitted on.

    \b
    Example:
      blink calibrate experiments/mine/best --on kb dev.jsonl --on my-kb my-dev.jsonl --plots plots
    """
    from blink.training.fit.reranker_texts import locked_models

    with locked_models([model]):
        calibrate_model(model, sets, precision, Outputs(json_out), plots)


def calibrate_model(
    model: str, sets: Sequence[tuple[str, str]], precision: str, outputs: Outputs, plots: str | None = None
) -> None:
    """Calibrate a stored model's reranker on (knowledge base, mention file) pairs, and store cut-off and probabilities.

    Args:
        model: model folder.
        sets: folders of knowledge bases, and mention files.
        precision: of the encoder.
        outputs: where the figures go.
        plots: folder for pictures.
    """
    from blink.data.mention_files import labelled_samples
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.model.biencoder import BiEncoder
    from blink.model.gold_checks import GoldChecker
    from blink.model.stored_files import store_settings
    from blink.training.cards import write_calibration_card
    from blink.training.fit.calibration import DevSet, calibrate
    from blink.training.fit.reranker_texts import model_folder

    folder, started = model_folder(model), time.perf_counter()
    outputs.check()
    if plots is not None and Path(plots).exists() and not Path(plots).is_dir():
        raise SettingsError(f"{plots} is a file; give a folder for the plots")
    bases = {kb: KnowledgeBase.open(kb) for kb, _ in sets}
    loaded = BiEncoder.from_pretrained(folder)
    checks = {kb: partial(GoldChecker.of(loaded, base.catalogue, say), require_ids=True) for kb, base in bases.items()}
    dev_sets = [DevSet(bases[kb], labelled_samples(file, bases[kb].catalogue, checks[kb])) for kb, file in sets]
    with bar("calibrating", sum(len(dev.samples) for dev in dev_sets), "text") as progress:
        result = calibrate(loaded, dev_sets, precision=precision, progress=progress.advance)
    if loaded.reranker is None:
        raise MismatchError(f"{folder} lost its reranker; fit it again: blink rank")
    store_settings(folder, loaded.config, loaded.reranker)
    outputs.write(_figures(result), (), _report(result, len(sets)))
    named = list(zip((file for _, file in sets), dev_sets, strict=True))
    write_calibration_card(folder, result, named, time.perf_counter() - started)
    if plots is not None:
        _draw(Path(plots), result.held_out, folder)


def _figures(result: Calibrated) -> dict[str, Any]:
    return {
        "scaling": vars(result.scaling),
        "cutoff": result.point.threshold,
        "weak_f1": result.point.f1,
        "held_out": result.held_out.to_json(),
        "held_out_links": result.held_out_links.to_json(),
        "sets": [report.to_json(threshold=result.point.threshold, questions_per_s=None) for report in result.reports],
        "execution": result.execution.to_json(),
    }


def _report(result: Calibrated, sets: int) -> str:
    held_out, point = result.held_out, result.point
    links = result.held_out_links
    measured = (
        f"ECE {held_out.ece:.4f}, Brier {held_out.brier:.4f}, {held_out.count} links; "
        f"above the cut-off: ECE {links.ece:.4f}, {links.count} links"
    )
    mean = f" (mean of {sets} files)" if sets > 1 else ""
    return (
        f"scores are multiplied by {result.scaling.scale:.3f} and moved by {result.scaling.shift:+.3f}, "
        f"in texts without capital letters by {result.scaling.uncased_shift:+.3f} more\n"
        f"fitted on one half, measured on the other: {measured}\n"
        f"cut-off {point.threshold:g}: weak F1 {point.f1:.4f}, mean of covered and all questions{mean}\n"
        f"{execution_line(result.execution)}"
    )


def _draw(plots: Path, held_out: Calibration, model: Path) -> None:
    from blink.evaluation.plots import RELIABILITY_FILE, draw_reliability

    plots.mkdir(parents=True, exist_ok=True)
    draw_reliability(plots / RELIABILITY_FILE, held_out, f"Links of {model}, each half calibrated on the other")
