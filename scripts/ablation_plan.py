"""How ``scripts/ablation.py`` makes its rows: their commands, inputs, figures and comparisons."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from blink.evaluation.comparison import compare, paired, read_records
from blink.evaluation.counts import EvaluatedText, covered_mentions
from blink.files import read_json, require_file, sha256, write_json
from scripts.ablation_page import FILES, figure, mean_strong
from scripts.ablation_rows import PROSE, QUESTIONS, Row, mixture, prose_mixture
from scripts.harness import LOG, Arguments, Runner

RATE = "0.001"
CUTS = ("best", "cut")
"""Thresholds that figures are for: the one that is best on dev, and the one stored with the model."""
QUESTION_FILE = "WebQSP_EL/train.jsonl"
FACTS = "kg/codex-m/train.txt"
EVERYDAY = Path("tests/data/everyday-dev.jsonl")
SECTIONS = ("covered", "all")
MATCHINGS = ("weak", "strong")


@dataclass(frozen=True)
class Plan:
    """What the script was asked for; see its options.

    Attributes:
        table: of the table.
        data: folder of the data.
        kb: knowledge base.
        model: the encoder to begin with, or the model with a reranker.
        epochs: length of training, in ``train``.
        texts: length of training, in ``prose``.
        pseudo: file of texts that a model has labelled.
        prose: folder of labelled prose.
        everyday: file of everyday texts.
        device: where models run.
        out: folder of the rows.
        more: further options of every training.
    """

    table: str
    data: Path
    kb: str
    model: str
    epochs: int = 6
    texts: int = 20_000
    pseudo: str | None = None
    prose: Path = Path("experiments/starter/prose")
    everyday: Path = EVERYDAY
    device: str | None = None
    out: Path = Path("experiments/ablation")
    more: Arguments = ()

    cuts: ClassVar[tuple[str, ...]] = CUTS

    @property
    def files(self) -> Mapping[str, Path]:
        """The evaluated files, by name; first the development file, from which thresholds are."""
        return {name: self.data / file for name, file in FILES.items()}

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

    def _start(self, row: Row) -> str:
        """The model that a row begins with."""
        return self.model if row.begins is None else str(self.folder(row.begins) / "run" / "best")

    def _training(self, row: Row) -> Arguments:
        labelled = ("--pseudo", str(self.pseudo)) if "pseudo" in row.mix else ()
        return (
            "train", "--resume", "--model", self._start(row), "--mention-scorer", "qa_mlp", "--kb", self.kb,
            "--train", str(self.data / QUESTION_FILE), "--dev", str(self.files["dev"]),
            "--triples", str(self.data / FACTS), *labelled,
            "--epochs", "1", "--mix", mixture(row.mix, self.epochs), "--learning-rate", RATE, "--head-learning-rate", RATE,
            "--save-steps", "200", *row.options, *self._on(), *self.more, "--out", str(self.folder(row.name) / "run"),
        )  # fmt: skip

    def _evaluations(self, row: Row, model: str, kb: str, options: Arguments) -> Iterator[Arguments]:
        folder = self.folder(row.name)
        opened = ("--model", model, "--kb", kb, *options, *self._on())
        for name, file in self.files.items():
            saved = ("--save-preds", str(folder / f"{name}.npz"))
            yield ("eval", str(file), *opened, *clustered(name), *saved, *self._written(row, "cut", name))
        for name in self.files:
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
        figures = {
            cut: {name: report_figures(read_json(self.figures(row.name, cut, name))) for name in self.files}
            for cut in self.cuts
        }
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
        files = list(self.files.values())
        if row.table == "train":
            files += [self.data / QUESTION_FILE, self.data / FACTS]
            files += [Path(str(self.pseudo))] if "pseudo" in row.mix else []
        else:
            files += sorted(f for f in Path(self.model).glob("*") if f.suffix in (".json", ".npz", ".safetensors"))
        return self._hashes(files)

    def _hashes(self, files: list[Path]) -> dict[str, str]:
        hashes = {str(f): sha256(require_file(f, "give the folder of the data: --data DIR")) for f in files}
        manifest = require_file(Path(self.kb) / "manifest.json", "make a knowledge base: blink kb build")
        return {**hashes, str(manifest): sha256(manifest)}

    def compare(self, sides: tuple[str, str], cut: str, name: str, run: Runner, out: Path) -> None:
        """Compare the answers of two rows to one file, and write the differences.

        Raises:
            BlinkError: the answers do not fit each other.
        """
        answers = (str(self.answers(side, cut, name)) for side in sides)
        run(("compare", *answers, *clustered(name), "--json", str(out)), out.parent / LOG)


class ProsePlan(Plan):
    """The plan of ``prose``: models that train on questions and prose are evaluated on both, at the threshold stored with them.

    That threshold has the best mean on the three files, which training validates with.
    """

    cuts: ClassVar[tuple[str, ...]] = ("cut",)

    @cached_property
    def labelled(self) -> dict[str, Path]:
        """Files of labelled texts, by name."""
        return {QUESTIONS[0]: self.data / QUESTION_FILE, **{name: self.prose / f"{name}.jsonl" for name in PROSE}}

    @cached_property
    def _counts(self) -> dict[str, int]:
        """Texts of each."""
        remedy = f"give the data by --data DIR, and write labelled prose: scripts/prose_files.py {self.data} {self.prose}"
        texts = {name: require_file(file, remedy).read_text(encoding="utf-8") for name, file in self.labelled.items()}
        return {name: sum(bool(line.strip()) for line in text.split("\n")) for name, text in texts.items()}

    @property
    def files(self) -> Mapping[str, Path]:
        """The development files."""
        return {"webqsp": self.data / FILES["dev"], "gum": self.prose / "gum-dev.jsonl", "everyday": self.everyday}

    def commands(self, row: Row) -> list[Arguments]:
        """Arguments of ``blink`` that make a row, in order."""
        model = str(self.folder(row.name) / "run" / "best")
        opened = ("--model", model, "--kb", self.kb, "--nil", *self._on())
        evaluations = (("eval", str(f), *opened, *self._written(row, "cut", name)) for name, f in self.files.items())
        return [self._training(row), *evaluations]

    def _training(self, row: Row) -> Arguments:
        labelled = (option for name in row.labelled for option in ("--train", str(self.labelled[name])))
        dev = (option for file in self.files.values() for option in ("--dev", str(file)))
        return (
            "train", "--resume", "--model", self._start(row), "--mention-scorer", "qa_mlp", "--kb", self.kb, *labelled, *dev,
            "--triples", str(self.data / FACTS), "--epochs", "1", "--mix", prose_mixture(row, self._counts, self.texts),
            "--learning-rate", RATE, "--head-learning-rate", RATE, "--dropout", "0", "--save-steps", "200",
            *row.options, *self._on(), *self.more, "--out", str(self.folder(row.name) / "run"),
        )  # fmt: skip

    def inputs(self, row: Row) -> dict[str, str]:
        """Hashes of what a row reads.

        Raises:
            MissingFileError: something is not there.
        """
        labelled = dict.fromkeys(self.labelled[name] for name in row.labelled)
        return self._hashes([*self.files.values(), *labelled, self.data / FACTS])

    def report(self, row: Row) -> dict[str, Any]:
        """A row with its provenance, the figures of the three files, and those of teams, lookalikes and traps."""
        from scripts.model_rows import NamedModel
        from scripts.trap_figures import DEVELOPMENT, measure

        run = self.folder(row.name) / "run"
        traps = measure(NamedModel(row.name, run / "best"), None, None, details=False, suffix=DEVELOPMENT)
        reports = {name: read_json(self.figures(row.name, "cut", name)) for name in self.files}
        figures = {
            name: {**report_figures(of, ("covered", "covered_mentions", "all")), "spans": of["spans"]}
            for name, of in reports.items()
        }
        about = {"name": row.name, "what": row.what, "against": row.against, "steps": steps_of(run)}
        return {**about, **made_on(self.folder(row.name)), "cut": figures, "traps": traps}

    def summary(self, report: Mapping[str, Any]) -> str:
        """The mean of the three files."""
        return f"mean strong F1 of covered mentions {mean_strong(report):.4f}, {report['steps']} steps"

    def compare(self, sides: tuple[str, str], cut: str, name: str, run: Runner, out: Path) -> None:
        """Compare the answers of two rows to one file by their covered mentions, and write the differences.

        Raises:
            BlinkError: the answers do not fit each other.
        """
        first, second = (inside_catalogue(read_records(self.answers(side, cut, name))) for side in sides)
        differences = compare(paired(first, second)).differences
        write_json(out, {"differences": {f"mentions {m}": asdict(differences[f"covered {m}"]) for m in MATCHINGS}})


PLANS: dict[str, type[Plan]] = {"train": Plan, "prose": ProsePlan, "rank": Plan}
"""Table -> its plan."""


def inside_catalogue(texts: list[EvaluatedText]) -> list[EvaluatedText]:
    """Texts with their covered mentions only, as `blink.evaluation.report` counts them."""
    return [inside for text in texts if (inside := covered_mentions(text)).gold or not text.gold]


def steps_of(run: Path) -> int:
    """Steps of a training."""
    with (run / "trace.jsonl").open(encoding="utf-8") as f:
        return max(row.get("step", 0) for row in map(json.loads, f))


def clustered(name: str) -> Arguments:
    """GraphQuestions are paraphrases of each other; drawn one by one they would look like more evidence than they are."""
    return ("--cluster", "paraphrase") if name == "graph" else ()


def made_on(folder: Path) -> dict[str, Any]:
    """Device and versions of a row's training."""
    trace = folder / "run" / "trace.jsonl"
    if not trace.is_file():
        return {}
    with trace.open(encoding="utf-8") as f:
        first = json.loads(f.readline())
    return {name: first[name] for name in ("device", "versions") if name in first}


def report_figures(report: Mapping[str, Any], sections: tuple[str, ...] = SECTIONS) -> dict[str, Any]:
    """What is stored of a report of ``blink eval``."""
    figures: dict[str, Any] = {"threshold": report["threshold"], "questions": report["questions"]}
    names = ("f1", "f1_low", "f1_high", "precision", "recall", "gold")
    for section in sections:
        figures[section] = {m: {k: report[section][m][k] for k in names} for m in MATCHINGS}
    if report.get("sweep"):
        figures["best_anywhere"] = max(point["covered"]["weak"]["f1"] for point in report["sweep"])
    return figures
