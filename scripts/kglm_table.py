"""Makes the table of KG-LM's language side: language models and triple classifiers alone and together.

Two protocols, each with LSTM and BiLSTM cells and several seeds, and how fast a model learns:

original  That of Patel & Ferraro 2020: both baselines have frozen word vectors, the joint run does not; perplexity and accuracy
          of the joint run are those of two states. It favours the joint run.
fair      The same inputs, trained parts, steps per epoch, choice of the best state and measurement in all runs; both figures of
          a joint run are those of its one best state.
speed     Perplexity after 500 of 4,000 steps of text (a run of 500 is what one of 4,000 is until then), after all of them, and
          at the end of learning from a tenth of the text.

The language model of a BiLSTM reads forwards alone, so the baseline without triples is the same for both kinds of cells, to the
last bit, and is trained once.

Each row is a run file of examples/kglm with a few settings changed; each of its seeds is a run folder, OUT/ROW/seed-N. Runs
that are complete are skipped; a stopped one continues. After each run RESULTS/metrics/ROW.json and RESULTS/table.md are
rewritten from the run folders.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.apps.kglm.training import shown_progress
from blink.errors import SettingsError
from blink.files import locked, read_json, write_json
from blink.kglm.config import load_settings
from blink.kglm.lm.generation import Sampling, generate
from blink.kglm.lm.runner import LanguageRunner
from blink.kglm.lm.saved import load_model
from blink.kglm.run import KglmRun
from blink.runs.signals import Interrupted
from blink.runs.trace import read_trace
from scripts.harness import as_help, make_rows, markdown_table, mean_and_deviation, parse_seeds, run_script, write_page

EXAMPLES = Path("examples/kglm")
BILSTM = {"cells.kind": "BiLSTM"}
PROMPTS = ("issa serge coelo born 1967", "marie curie was a", "the republic of")
EARLY = 500
"""Steps of text after which the speed of learning is looked at."""


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: of the row and its folder.
        what: for readers.
        file: run file.
        cells: for readers.
        changes: settings that differ from the run file's.
    """

    name: str
    what: str
    file: str
    cells: str = "LSTM"
    changes: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Run:
    """A seed of a row, and its folder."""

    row: Row
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.row.name}, seed {self.seed}"


FAIR = (
    Row("fair-lm", "language model alone", "fair-lm", "either"),
    Row("fair-lm-frozen", "language model alone, frozen words", "fair-lm", "either", {"words.learn": False}),
    Row("fair-kge", "triple classifier alone", "fair-kge"),
    Row("fair-joint", "together", "fair-joint"),
    Row("fair-kge-bilstm", "triple classifier alone", "fair-kge", "BiLSTM", BILSTM),
    Row("fair-joint-bilstm", "together", "fair-joint", "BiLSTM", BILSTM),
)
SPEED = (
    Row("early-lm", "language model alone, the first 500 steps", "speed-lm", changes={"train.epochs": 1}),
    Row("early-joint", "together, the first 500 steps", "speed-joint", changes={"train.epochs": 1}),
    Row("speed-lm", "language model alone, 4,000 steps", "speed-lm"),
    Row("speed-joint", "together, 4,000 steps", "speed-joint"),
    Row("tenth-lm", "language model alone, a tenth of the text", "tenth-lm"),
    Row("tenth-joint", "together, a tenth of the text", "tenth-joint"),
)
ORIGINAL = (
    Row("original-lm", "language model alone, frozen words", "original-lm-frozen", "either"),
    Row("original-lm-learning", "language model alone, trainable words", "original-lm-frozen", "either", {"words.learn": True}),
    Row("original-kge", "triple classifier alone, frozen words", "original-kge-frozen"),
    Row("original-joint", "together", "original-joint"),
    Row("original-kge-bilstm", "triple classifier alone, frozen words", "original-kge-frozen", "BiLSTM", BILSTM),
    Row("original-joint-bilstm", "together", "original-joint", "BiLSTM", BILSTM),
)
FIRST = ("fair-lm", "fair-joint", "fair-kge", "early-lm", "early-joint")
ROWS = {row.name: row for row in (*FAIR, *SPEED, *ORIGINAL)}
ROWS = {name: ROWS[name] for name in dict.fromkeys((*FIRST, *ROWS))}
"""In the order of their runs, the most important first."""
PUBLISHED = {
    "original-lm": "437.22 (first table), 440.72 (second)",
    "original-lm-learning": "not made",
    "original-kge": "accuracy 90.66 %",
    "original-joint": "353.72, accuracy 93.6 %",
    "original-kge-bilstm": "accuracy 94.22 %",
    "original-joint-bilstm": "299.72, accuracy 93.73 %",
}
"""Figures of the paper, of another text and vocabulary; only the relative change of perplexity compares."""


@click.command(
    context_settings={"ignore_unknown_options": True},
    help=as_help(__doc__),
)
@click.option("--out", default="experiments/kglm-table", show_default=True, metavar="DIR", help="Where runs go.")
@click.option("--results", default=str(EXAMPLES), show_default=True, metavar="DIR", help="Where metrics/ and table.md go.")
@click.option("--data", metavar="DIR", help="Folder of the data.  [default: $BLINK_DATA]")
@click.option("--seeds", default="0,1,2", show_default=True, metavar="LIST", help="Seeds, one after the other.")
@click.option("--rows", default=",".join(ROWS), metavar="LIST", help="Rows to make, in this order.  [default: all]")
@click.option("--only-report", is_flag=True, help="Train nothing; write the table from the runs that are there.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--SECTION.NAME VALUE]...")
def table(
    out: str, results: str, data: str | None, seeds: str, rows: str, only_report: bool, overrides: tuple[str, ...]
) -> None:
    """Train the rows that are not there yet, and write the table."""
    runs, written = Path(out), Path(results)
    todo = [Run(row, seed, runs / row.name / f"seed-{seed}") for seed in parse_seeds(seeds) for row in _rows(rows)]
    runs.mkdir(parents=True, exist_ok=True)
    with locked(runs):
        if not only_report:
            todo = [run for run in todo if not complete(run.folder)]
            make_rows(todo, lambda run, progress: _train(run, progress, data, overrides), lambda: report(runs, written))
        report(runs, written)
    say(f"the table is in {written / 'table.md'}")


def _rows(names: str) -> list[Row]:
    selection = names.split(",")
    if wrong := [name for name in selection if name not in ROWS]:
        raise SettingsError(f"there is no row {wrong[0]!r}; rows are {', '.join(ROWS)}")
    return [ROWS[name] for name in selection]


def complete(folder: Path) -> bool:
    """Whether a run was trained to its end and measured."""
    return (folder / "metrics.json").is_file() and "cost" in read_json(folder / "metrics.json")


def _train(run: Run, progress_text: str, data: str | None, overrides: Sequence[str]) -> None:
    """Train a run, or resume it; settings of the command line go over those of the row, to try things out.

    Raises:
        SystemExit: a signal stopped it; its state is saved.
    """
    row = run.row
    changes = {**(row.changes or {}), "seed": run.seed, **({"data.root": data} if data else {})}
    words = [*(f"--{name}={value}" for name, value in changes.items()), *overrides]
    resume = (run.folder / "trace.jsonl").is_file()
    settings = KglmRun.open(run.folder).settings if resume else load_settings("joint", EXAMPLES / f"{row.file}.yaml", words)
    say(f"{progress_text} {run.name}: {'resumes' if resume else 'begins'} in {run.folder}")
    try:
        with shown_progress(f"{row.name} {run.seed}", "step") as progress:
            LanguageRunner().train(settings, run.folder, resume=resume, progress=progress)
    except Interrupted as stop:
        say(f"{stop}; the same command continues")
        raise SystemExit(128 + stop.signal) from stop


# -- results ---------------------------------------------------------------------------------------------------------------


def report(runs: Path, written: Path) -> None:
    """Write metrics, sentences and table from the runs that are complete."""
    metrics = written / "metrics"
    metrics.mkdir(parents=True, exist_ok=True)
    figures = {row.name: collect(runs / row.name) for row in ROWS.values()}
    for name, by_seed in figures.items():
        if by_seed:
            row = ROWS[name]
            about = {"row": name, "file": f"{row.file}.yaml", "changes": dict(row.changes or {})}
            write_json(metrics / f"{name}.json", {**about, "seeds": by_seed})
    sentences = generate_sentences(runs)
    if sentences:
        write_json(metrics / "sentences.json", sentences)
    write_page(written / "table.md", markdown(figures, sentences))


def collect(folder: Path) -> dict[str, dict[str, Any]]:
    """Measurements by seed, with their provenance."""
    by_seed = {}
    for path in sorted(folder.glob("seed-*"), key=lambda p: int(p.name.split("-")[1])):
        if complete(path):
            rows = read_trace(path / "trace.jsonl")
            last = [row for row in rows if row["kind"] == "run"][-1]  # a run that was gone on with for longer has several
            about = {key: last[key] for key in ("time", "git", "device", "versions", "settings", "vocabulary") if key in last}
            files = {Path(name).name: digest[:16] for name, digest in last["files"].items()}
            early = [row["perplexity"] for row in rows if row["kind"] == "validation" and row["updates"]["language"] == EARLY]
            metrics = read_json(path / "metrics.json")
            by_seed[path.name.split("-")[1]] = {
                **metrics,
                "early": early[0] if early else None,
                "from": {**about, "files": files},
            }
    return by_seed


INTRODUCTION = """\
# Language models and triple classifiers, alone and together

Written by `scripts/kglm_table.py` from runs whose settings, seeds, times and hashes are in [metrics](metrics). Means over seeds
with their standard deviation. Test texts are those of entities that no training line is about, test triples those with such a
head. Perplexities compare within a table only: vocabularies and steps differ between tables. `unk` counts as a word. Seconds
are CPU seconds of one core, training and validation together. Definitions, sizes and conclusions: [language.md](language.md).
"""
FAIR_NOTE = """
Accuracies in %, at a probability of one half; on the published hard false triples of CoDEx-M (its validation split) with a
threshold per relation, each half of them classified by the thresholds of the other. Ends of lines are predicted, padding is
not; dropout is off.
"""
FAIR_HEAD = (
    "run", "cells", "seeds", "perplexity", "without unk", "unk penalised", "bits/char", "easy", "same type", "uniform", "hard",
    "epochs to the best", "seconds",
)  # fmt: skip
ORIGINAL_NOTE = """
This is **the original's protocol**: the baselines' words are frozen and the joint run's are not, the two figures of a joint run
are those of two states, and training ends long before a language model converges. "As its script counts" is perplexity as the
original's `test_kge_lm` computes it, the script for joint runs; its script for language models alone is correct. Published
figures are of other texts and vocabularies: only changes are comparable.
"""

Figures = Mapping[str, Mapping[str, Mapping[str, Any]]]


def markdown(figures: Figures, sentences: Sequence[Mapping[str, Any]]) -> str:
    """The page, from figures by row and seed, and sentences by prompt."""
    lines = [INTRODUCTION, *_fair(figures), *_speed(figures), *_original(figures), *_sentences(sentences)]
    return "\n".join(lines) + "\n"


def _fair(figures: Figures) -> Iterator[str]:
    yield "## Fair protocol"
    yield ""
    rows = []
    for row in FAIR:
        if seeds := figures[row.name]:
            text = [_of(seeds, f"test.language.{key}", digits) for key, digits in TEXT_FIGURES]
            triples = [_of(seeds, f"test.triples.{key}", 2, 100) for key in TRIPLE_FIGURES]
            rows.append([row.what, row.cells, str(len(seeds)), *text, *triples, _epochs(seeds), _seconds(seeds)])
    yield markdown_table(FAIR_HEAD, rows, 2)
    yield FAIR_NOTE
    for cells, joint, alone in (("LSTM", "fair-joint", "fair-kge"), ("BiLSTM", "fair-joint-bilstm", "fair-kge-bilstm")):
        yield from _ratio(figures, f"{cells}: perplexity, together / alone", joint, "fair-lm", "test.perplexity", MOST)
        for kind, figure in zip(("easy", "same type", "uniform", "hard"), TRIPLE_FIGURES, strict=True):
            bar = LEAST if kind == "easy" else ""
            title = f"{cells}: accuracy ({kind}), together - alone, in points"
            yield from _difference(figures, title, joint, alone, f"test.triples.{figure}", bar)
        yield from _least(figures, f"{cells}: accuracy (easy), triples alone", alone, "test.triples.easy.accuracy")
    yield from _ratio(
        figures, "Perplexity, trainable / frozen words, without triples", "fair-lm", "fair-lm-frozen", "test.perplexity"
    )
    yield ""


MOST = "mean at most 1.005, each at most 1.02"
LEAST = "at least -0.5"
TEXT_FIGURES = (("perplexity", 2), ("without_unknown", 2), ("unknown_penalised", 2), ("bits_per_character", 4))
TRIPLE_FIGURES = ("easy.accuracy", "same_type.accuracy", "uniform.accuracy", "published.accuracy_by_relation")


def _speed(figures: Figures) -> Iterator[str]:
    yield "## Speed of learning"
    yield ""
    rows = []
    for row in SPEED:
        if seeds := figures[row.name]:
            perplexities = _of(seeds, "early", 2), _of(seeds, "test.perplexity", 2)
            easy = _of(seeds, "test.triples.easy.accuracy", 2, 100)
            rows.append([row.what, str(len(seeds)), *perplexities, easy, _seconds(seeds)])
    head = ["run", "seeds", f"perplexity after {EARLY} steps (validation)", "at the end (test)", "easy", "seconds"]
    yield markdown_table(head, rows, 1)
    yield ""
    early = f"After {EARLY} steps, together / alone"
    yield from _ratio(figures, early, "early-joint", "early-lm", "early", "at most .95")
    yield from _ratio(figures, "After 4,000 steps, together / alone", "speed-joint", "speed-lm", "test.perplexity")
    yield from _ratio(figures, "A tenth of the text, together / alone", "tenth-joint", "tenth-lm", "test.perplexity")
    yield ""


def _original(figures: Figures) -> Iterator[str]:
    yield "## The original's protocol"
    yield ""
    yield "| run | cells | seeds | perplexity | as its script counts | accuracy % (easy) | published | seconds |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: |"
    for row in ORIGINAL:
        if seeds := figures[row.name]:
            # Of a joint run, each task's figure is that of its own best state, as in the paper.
            best = {s: {**v, "test": {**v["test"], **v["test"].get("each_by_its_own_best", {})}} for s, v in seeds.items()}
            perplexities = _of(best, "test.perplexity", 2), _of(best, "test.language.as_the_original_counts", 2)
            accuracy = _of(best, "test.triples.easy.accuracy", 2, 100)
            line = [row.what, row.cells, str(len(seeds)), *perplexities, accuracy, PUBLISHED[row.name], _seconds(seeds)]
            yield f"| {' | '.join(line)} |"
    yield ORIGINAL_NOTE
    own_best = "test.each_by_its_own_best"
    as_counted, true = f"{own_best}.language.as_the_original_counts", f"{own_best}.perplexity"
    for cells, name, drop in (("LSTM", "original-joint", "19.1 %"), ("BiLSTM", "original-joint-bilstm", "32.0 %")):
        title = f"{cells}: relative change of perplexity, together against frozen words alone"
        yield from _change(figures, f"{title} (published: -{drop})", name, "original-lm", true, "test.perplexity")
        counted = f"{cells}: the same, where the joint run's is as the original's script counts (published: -{drop})"
        yield from _change(figures, counted, name, "original-lm", as_counted, "test.perplexity")
        fair = f"{cells}: together against trainable words, alone"
        yield from _change(figures, fair, name, "original-lm-learning", true, "test.perplexity")
    words = "Trainable words against frozen ones, without triples"
    yield from _change(figures, words, "original-lm-learning", "original-lm", "test.perplexity", "test.perplexity")
    yield ""


def generate_sentences(runs: Path) -> list[dict[str, Any]]:
    """What the best states of one seed make of a few prompts; a row has a prompt, how words are drawn, and a text a run."""
    names = [name for name in ("fair-lm", "fair-joint", "fair-joint-bilstm") if complete(runs / name / "seed-0")]
    models = {name: load_model(runs / name / "seed-0") for name in names}
    decodings = {
        "greedy": Sampling(words=25, unknown=False),
        "sampled": Sampling(words=25, temperature=0.8, top_p=0.9, unknown=False, seed=1),
    }
    return [
        {
            "prompt": prompt,
            "how": how,
            "texts": {name: " ".join(generate(m.model, m.vocabulary, prompt, decoding)) for name, m in models.items()},
        }
        for prompt in PROMPTS
        for how, decoding in decodings.items()
        if models
    ]


def _sentences(sentences: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not sentences:
        return
    yield "## Sentences"
    yield ""
    yield "Seed 0; greedy decoding, and one sample at temperature 0.8 with top-p 0.9; `unk` is excluded."
    yield ""
    rows = [[row["prompt"], row["how"], *(text.replace("|", "") for text in row["texts"].values())] for row in sentences]
    yield markdown_table(["prompt", "how", *sentences[0]["texts"]], rows)
    yield ""


def _values(seeds: Mapping[str, Mapping[str, Any]], path: str) -> dict[str, float]:
    """A figure by seed, as far as it is there."""
    values = {}
    for seed, metrics in seeds.items():
        value: Any = metrics
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            values[seed] = float(value)
    return values


def _of(seeds: Mapping[str, Mapping[str, Any]], path: str, digits: int, factor: float = 1.0) -> str:
    return mean_and_deviation([factor * value for value in _values(seeds, path).values()], digits)


def _epochs(seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """Epochs up to the best state, in the mean."""
    return f"{statistics.mean(value + 1 for value in _values(seeds, 'best.epoch').values()):.1f}"


def _seconds(seeds: Mapping[str, Mapping[str, Any]]) -> str:
    return f"{statistics.mean(_values(seeds, 'cost.cpu_seconds').values()):.0f}"


def _pairs(figures: Figures, one: str, other: str, path: str, other_path: str = "") -> list[tuple[str, float, float]]:
    first, second = _values(figures[one], path), _values(figures[other], other_path or path)
    return [(seed, first[seed], second[seed]) for seed in first if seed in second]


def _line(title: str, pairs: Sequence[tuple[str, float]], digits: int, unit: str = "", bar: str = "") -> Iterator[str]:
    if pairs:
        by_seed = ", ".join(f"{value:+.{digits}f}" if unit else f"{value:.{digits}f}" for _, value in pairs)
        mean = mean_and_deviation([value for _, value in pairs], digits)
        requirement = f"; required: {bar}" if bar else ""
        yield f"- {title}: **{mean}**{unit} (seeds {', '.join(seed for seed, _ in pairs)}: {by_seed}{requirement})"


def _ratio(figures: Figures, title: str, one: str, other: str, path: str, bar: str = "") -> Iterator[str]:
    yield from _line(title, [(seed, a / b) for seed, a, b in _pairs(figures, one, other, path)], 4, bar=bar)


def _difference(figures: Figures, title: str, one: str, other: str, path: str, bar: str = "") -> Iterator[str]:
    yield from _line(title, [(seed, 100 * (a - b)) for seed, a, b in _pairs(figures, one, other, path)], 2, " points", bar)


def _least(figures: Figures, title: str, row: str, path: str) -> Iterator[str]:
    yield from _line(
        title, [(seed, 100 * value) for seed, value in _values(figures[row], path).items()], 2, " %", "at least 90"
    )


def _change(figures: Figures, title: str, one: str, other: str, path: str, other_path: str) -> Iterator[str]:
    pairs = [(seed, 100 * (a / b - 1)) for seed, a, b in _pairs(figures, one, other, path, other_path)]
    yield from _line(title, pairs, 1, " %")


if __name__ == "__main__":
    run_script(table, "kglm_table.py")
