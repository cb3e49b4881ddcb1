"""The script that makes the ablation table: its rows, resuming, and the contents of its tables."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_synthetic_texts import LINES
from toys import ROOT, base_folder, knowledge_base, rows

from blink.data.records import Mention, Sample
from blink.errors import BlinkError, MismatchError, SettingsError
from blink.linking.features import FEATURES
from blink.model.config import FEATURE_GROUPS
from blink.model.loading import load_model
from blink.model.reranker import RerankerNetwork
from blink.training.data.synthetic import mixed
from blink.training.settings import parse_mix

SCRIPT = ROOT / "scripts" / "ablation.py"
_spec = importlib.util.spec_from_file_location("ablation", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
ablation: Any = importlib.util.module_from_spec(_spec)
sys.modules["ablation"] = ablation  # dataclasses look their module up
_spec.loader.exec_module(ablation)

EVERYDAY = "tests/data/everyday-dev.jsonl"
TRAIN_OPTIONS = ("--batch-size", "8", "--precision", "fp32", "--adapter-rank", "4")
Blink = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, ``kb`` and, laid out as the real ones are, ``data``."""
    folder = tmp_path_factory.mktemp("ablation")
    encoder = load_model(base_folder(folder / "base"), context=False, candidate=True)
    kb = knowledge_base(folder / "kb", encoder, rows(24) + LINES)
    texts = []
    for i in range(24):
        title = kb.catalogue.title(i)
        row = {"text": f"where is {title}?", "mentions": [[9, 9 + len(title)]], "label_id": [i], "entity": [title]}
        texts += [json.dumps({"id": f"{i}-{n}", **row}) + "\n" for n in range(2)]
    for file, lines in (("WebQSP_EL/train", texts), ("WebQSP_EL/dev", texts[:16]), ("graphquestions_EL/train", texts[16:])):
        path = folder / "data" / f"{file}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
    prose = folder / "prose"
    prose.mkdir()
    for at, name in enumerate(("gum", "wned-wiki", "fewrel", "lcquad", "gum-dev")):
        (prose / f"{name}.jsonl").write_text(
            "".join(line.replace("where is", "they saw") for line in texts[8 * at : 8 * at + 12])
        )
    everyday = folder / EVERYDAY
    everyday.parent.mkdir(parents=True)
    everyday.write_text("".join(texts[4:12]))
    facts = folder / "data" / "kg" / "codex-m" / "train.txt"
    facts.parent.mkdir(parents=True)
    facts.write_text("Q101\tP17\tQ102\nQ103\tP17\tQ105\nQ106\tP17\tQ107\n")
    return folder


def plan(home: Path, out: Path, group: str = "train", **changes: Any) -> Any:
    options = {"model": str(home / "base"), "epochs": 1, "texts": 160, "prose": home / "prose", "everyday": home / EVERYDAY}
    options |= {"device": "cpu", "more": TRAIN_OPTIONS, **changes}
    return ablation.PLANS[group](group, data=home / "data", kb=str(home / "kb"), out=out, **options)


class InProcess:
    """Runs commands here; counts them, and fails those whose arguments hold ``fails``."""

    def __init__(self, blink: Blink) -> None:
        self.blink, self.fails = blink, "nothing"
        self.ran: Counter[str] = Counter()

    def __call__(self, arguments: tuple[str, ...], log: Path) -> None:
        if self.fails in arguments:
            raise ablation.RowFailed("out of luck")
        self.ran[arguments[0]] += 1
        status, out, err = self.blink(*arguments)
        assert status == 0, err
        with log.open("a") as f:
            f.write(out + err)


@pytest.mark.quick
class TestRows:
    def test_every_row_trains_on_as_many_texts(self) -> None:
        totals = {row.name: sum(parse_mix(ablation.mixture(row.mix, 6)).values()) for row in ablation.ROWS["train"]}
        assert totals == {name: pytest.approx(6 * 3.3, abs=1e-3) for name in totals}
        questions = [Sample(str(i), "x", (Mention(0, 1, 0),)) for i in range(50)]
        texts = list(mixed(questions, parse_mix(ablation.mixture({"questions": 1.0}, 2)), None, 0))
        assert len(texts) == 2 * 3.3 * 50

    def test_every_row_of_prose_reads_as_many_texts(self) -> None:
        counts = {"questions": 50, "gum": 40, "wned-wiki": 30, "fewrel": 20, "lcquad": 10}
        rows = {row.name: row for row in ablation.ROWS["prose"][1:]}
        mixes = {name: parse_mix(ablation.prose_mixture(row, counts, 1000)) for name, row in rows.items()}
        labelled = {name: sum(counts[file] for file in row.labelled) for name, row in rows.items()}
        for name, mix in mixes.items():
            assert sum(mix.values()) * labelled[name] == pytest.approx(1000, rel=1e-4), name
        base, without_gum, without_sport = (mixes[name] for name in ("base", "no-gum", "no-sport"))
        # What is in both rows keeps its proportions: texts of the other files to synthetic ones, and these among each other.
        assert without_gum["passage"] * labelled["no-gum"] / without_gum["questions"] == pytest.approx(
            0.2 * labelled["base"], 1e-4
        )
        assert without_sport["passage"] / without_sport["notname"] == pytest.approx(base["passage"] / base["notname"], 1e-4)
        assert "sport" not in without_sport
        assert mixes["questions"] == {"questions": pytest.approx(10.0)}

    def test_the_row_base_of_prose_is_the_recipe_of_the_starter(self) -> None:
        recipe = (ROOT / "scripts" / "train_starter.sh").read_text()
        shares = re.search(r"^mix=(\S+)\nmix\+=(\S+)$", recipe, re.MULTILINE)
        assert shares is not None
        base = ablation.ROWS["prose"][1]
        assert parse_mix("".join(shares.groups())) == base.mix
        texts = re.search(r"^texts=\(([^)]*)\)$", recipe, re.MULTILINE)
        assert texts is not None
        assert [Path(file.strip('"$')).stem for file in texts[1].split() if file != "--train"] == list(base.labelled)
        first_stage = recipe[recipe.index("blink train") : recipe.index("--seed")]
        common = re.search(r"local common=\((.*)\)", recipe)
        assert common is not None
        words = [*first_stage.split(), *common[1].split()]
        for option, value in zip(base.options, (*base.options[1:], ""), strict=True):
            if option.startswith("--"):
                assert option in words
                assert value.startswith("--") or words[words.index(option) + 1] == value

    def test_a_row_differs_from_its_reference_in_one_thing(self) -> None:
        for group in ablation.ROWS.values():
            by_name = {row.name: row for row in group}
            first = 2 if group[0].table == "prose" else 1
            assert [row.against for row in group[:first]] == [None] * first
            for row in group[first:]:
                other = by_name[row.against]
                sources = row.mix.keys() ^ other.mix.keys()
                files = set(row.labelled) ^ set(other.labelled)
                named = ("mix", "options", "begins", "labelled")
                changes = [name for name in named if getattr(row, name) != getattr(other, name)]
                several = row.name in ("questions", "pretrained", "no-prose", "no-synthetic")
                assert len(changes) == 1 or (row.name == "questions" and group[0].table == "prose"), row.name
                assert len(sources) <= 1 or several, row.name
                assert len(files) <= 1 or several, row.name
                assert row.table != "prose" or not set(row.options) - set(other.options) or row.name == "other-seed"

    def test_a_row_that_goes_on_needs_the_row_before(self, tmp_path: Path) -> None:
        plan = ablation.Plan("train", Path("data"), "kb", "encoder", out=tmp_path)
        tuned = next(row for row in ablation.ROWS["train"] if row.name == "tuned")
        training = plan.commands(tuned)[0]
        assert training[training.index("--model") + 1] == str(tmp_path / "train/pretrained/run/best")
        work = ablation.Work(plan, lambda arguments, log: None)
        work.request = lambda row: {"commands": [], "inputs": {}}
        with pytest.raises(ablation.RowFailed, match="pretrained"):
            work.make(tuned, "")

    def test_all_evidence_is_taken_away_once(self) -> None:
        assert [row.options[1] for row in ablation.ROWS["rank"] if "--without" in row.options] == list(FEATURE_GROUPS)

    def test_which_rows(self) -> None:
        assert "pseudo" not in [r.name for r in ablation.chosen_rows("train", None, None)]
        assert "pseudo" in [r.name for r in ablation.chosen_rows("train", None, "some.jsonl")]
        assert [r.name for r in ablation.chosen_rows("train", "hard, base", None)] == ["base", "hard"]
        with pytest.raises(SettingsError, match="names 'x'; table rank has full"):
            ablation.chosen_rows("rank", "x", None)
        with pytest.raises(SettingsError, match="--pseudo FILE"):
            ablation.chosen_rows("train", "pseudo", None)

    def test_an_entity_tower_that_learns_is_evaluated_with_its_own_vectors(self) -> None:
        commands_of = {row.name: ablation.Plan("train", Path("d"), "kb", "m").commands(row) for row in ablation.ROWS["train"]}
        for name, commands in commands_of.items():
            kb = commands[1][commands[1].index("--kb") + 1]
            assert kb == ("experiments/ablation/train/entity-tower/run/best-kb" if name == "entity-tower" else "kb")

    @pytest.mark.parametrize("log", ["", "one\ntwo\n", "10 %\r99 %\rtwo\n\n"])
    def test_the_last_thing_said(self, tmp_path: Path, log: str) -> None:
        (tmp_path / "log").write_text(log)
        assert ablation.last_line(tmp_path / "log") == ("two" if log else "nothing was said")


def test_rows_are_trained_compared_and_never_made_twice(blink: Blink, home: Path, tmp_path: Path) -> None:
    runner, results = InProcess(blink), tmp_path / "results"
    table_rows = ablation.chosen_rows("train", "base,questions", None)
    work = ablation.Work(plan(home, tmp_path / "out"), runner)

    runner.fails = "questions=3.3"
    with pytest.raises(ablation.RowFailed, match=r"1 of 2 rows failed \(questions\)"):
        ablation.make_tables(work, table_rows, results)
    assert runner.ran == {"train": 1, "eval": 4}

    runner.fails = "nothing"
    ablation.make_tables(work, table_rows, results)
    assert runner.ran == {"train": 2, "eval": 8, "compare": 4}
    ablation.make_tables(work, table_rows, results)
    assert runner.ran == {"train": 2, "eval": 8, "compare": 4}

    base, questions = json.loads((results / "ablation.json").read_text())["train"]
    assert (base["name"], base["compared"], questions["against"]) == ("base", {}, "base")
    assert base["best"]["dev"]["threshold"] == base["best"]["graph"]["threshold"]
    figures = json.loads((tmp_path / "out/train/base/graph.best.json").read_text())
    assert base["best"]["graph"]["covered"]["weak"]["f1_low"] == figures["covered"]["weak"]["f1_low"]
    assert figures["cluster"] == "paraphrase"
    sides = [row["best"]["dev"]["covered"]["weak"]["f1"] for row in (base, questions)]
    assert questions["compared"]["best"]["dev"]["covered weak"]["difference"] == pytest.approx(sides[1] - sides[0])
    assert base["commands"][0][:2] == ["blink", "train"]
    assert base["device"].startswith("cpu")
    page = (results / "ablation.md").read_text()
    assert f"| base | {base['what']} | {sides[0]:.4f} [" in page
    assert re.search(r"\| questions \|.*\| base \| [+-]0\.\d{4} \[[+-].*\] p ", page)
    assert "blink train --resume" in page

    traces = [(tmp_path / f"out/train/{name}/run/trace.jsonl").read_text().splitlines() for name in ("base", "questions")]
    steps = [[row["steps"] for row in map(json.loads, trace) if "steps" in row] for trace in traces]
    assert steps[0] == steps[1] == [20]  # 48 questions, 3.3 texts for each, in batches of 8


@pytest.mark.slow
def test_rows_of_prose_are_measured_on_questions_prose_and_traps(blink: Blink, home: Path, tmp_path: Path) -> None:
    runner, results = InProcess(blink), tmp_path / "results"
    table_rows = ablation.chosen_rows("prose", "start,base,no-gum", None)
    work = ablation.Work(plan(home, tmp_path / "out", "prose"), runner)
    ablation.make_tables(work, table_rows, results)
    assert runner.ran == {"train": 3, "eval": 9}

    start, base, row = json.loads((results / "ablation.json").read_text())["prose"]
    assert start["commands"][0][start["commands"][0].index("--mix") + 1] == "questions=5"
    assert Path(base["commands"][0][base["commands"][0].index("--model") + 1]).parts[-3:] == ("start", "run", "best")
    assert base["cut"].keys() == {"webqsp", "gum", "everyday"}
    assert len({base["cut"][name]["threshold"] for name in base["cut"]}) == 1
    assert 16 <= base["steps"] <= 21  # 160 texts, of which some are joined, in batches of 8
    assert abs(row["steps"] - base["steps"]) <= 2
    strong = [side["cut"]["gum"]["covered_mentions"]["strong"]["f1"] for side in (base, row)]
    assert row["compared"]["cut"]["gum"]["mentions strong"]["difference"] == pytest.approx(strong[1] - strong[0])
    assert base["cut"]["gum"]["spans"]["gold"] == 12
    assert (base["traps"]["lookalikes"]["pairs"]["total"], base["traps"]["traps"]["alone"]["total"]) == (50, 60)
    training = row["commands"][0]
    assert [Path(training[at + 1]).name for at, word in enumerate(training) if word == "--train"] == [
        "train.jsonl", "train.jsonl", "wned-wiki.jsonl", "fewrel.jsonl", "lcquad.jsonl"
    ]  # fmt: skip
    page = (results / "ablation.md").read_text()
    assert "## Prose" in page
    assert f"| base | {base['what']} | {base['steps']} |" in page
    assert re.search(r"\| no-gum \| base \|( [+-]0\.\d{4} \[[+-].*\] p [^|]* \|){3}", page)


def test_the_other_tables_stay(blink: Blink, home: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    rows_before = json.loads((ROOT / "benchmarks/results/ablation.json").read_text())
    write_stored(results / "ablation.json", rows_before)
    ablation.make_tables(ablation.Work(plan(home, tmp_path / "out", "prose"), InProcess(blink)), [], results)
    assert json.loads((results / "ablation.json").read_text()) == {"prose": [], **rows_before}


def test_prose_that_is_not_written_is_named(home: Path, tmp_path: Path) -> None:
    rows_of_table = ablation.chosen_rows("prose", "base", None)
    work = ablation.Work(plan(home, tmp_path, "prose", prose=tmp_path / "nowhere"), lambda arguments, log: None)
    with pytest.raises(BlinkError, match=r"gum\.jsonl does not exist; .*write labelled prose: scripts/prose_files\.py"):
        work.check(rows_of_table)


def write_stored(file: Path, tables: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(tables))


def test_other_options_or_files_are_refused(blink: Blink, home: Path, tmp_path: Path) -> None:
    runner = InProcess(blink)
    runner.fails = "train"
    table_rows = ablation.chosen_rows("train", "base", None)
    with pytest.raises(BlinkError):
        ablation.make_tables(ablation.Work(plan(home, tmp_path), runner), table_rows, tmp_path / "results")
    with pytest.raises(MismatchError, match="was started with other options; give the same"):
        ablation.make_tables(ablation.Work(plan(home, tmp_path, epochs=2), runner), table_rows, tmp_path / "results")
    record = tmp_path / "train" / "base" / "asked.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "inputs": {}}))
    with pytest.raises(MismatchError, match="was started with other files"):
        ablation.make_tables(ablation.Work(plan(home, tmp_path), runner), table_rows, tmp_path / "results")


@pytest.fixture
def ranked(blink: Blink, home: Path) -> Path:
    """A trained toy whose reranker uses the title match only."""
    folder = home / "ranked"
    if not folder.is_dir():
        files = [home / "data" / "WebQSP_EL" / f"{name}.jsonl" for name in ("train", "dev")]
        options = ("--model", home / "base", "--kb", home / "kb", "--epochs", "2", *TRAIN_OPTIONS, "--device", "cpu")
        status, _, err = blink("train", "--train", files[0], "--dev", files[1], *options, "--out", home / "run")
        assert status == 0, err
        shutil.copytree(home / "run" / "best", folder)
        weights = np.array([[2.0 * (name == "title") for name in FEATURES]], dtype=np.float32)
        ones = np.ones(len(FEATURES), dtype=np.float32)
        RerankerNetwork(FEATURES, 0 * ones, ones, ((weights, np.array([-1.0], np.float32)),), -5.0).save(folder)
    return folder


def test_a_ranker_is_taken_apart(blink: Blink, home: Path, ranked: Path, tmp_path: Path) -> None:
    runner = InProcess(blink)
    work = ablation.Work(plan(home, tmp_path, "rank", model=str(ranked)), runner)
    table_rows = ablation.chosen_rows("rank", "full,no-names,no-rank", None)
    ablation.make_tables(work, table_rows, tmp_path / "results", jobs=1)
    assert runner.ran == {"eval": 12, "compare": 8}
    results = {row["name"]: row for row in json.loads((tmp_path / "results/ablation.json").read_text())["rank"]}
    assert results["no-rank"]["cut"]["dev"]["threshold"] <= 0  # a log probability
    assert results["full"]["best"]["graph"]["best_anywhere"] >= results["full"]["best"]["graph"]["covered"]["weak"]["f1"]
    for row in ("no-names", "no-rank"):
        assert set(results[row]["compared"]) == {"best", "cut"}
    page = (tmp_path / "results/ablation.md").read_text()
    assert "## Training" not in page
    assert page.count("| no-names |") == 2
    assert page.count("| no-rank |") == 4


def test_a_model_without_a_ranker(home: Path) -> None:
    with pytest.raises(BlinkError, match="has no reranker to take apart; fit one: blink rank"):
        ablation.require_model("rank", str(home / "base"))
    with pytest.raises(SettingsError, match="give --model DIR"):
        ablation.require_model("rank", None)


def script(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
def test_as_a_command(home: Path) -> None:
    where = ("--data", "data", "--kb", "kb", "--model", "base", "--epochs", 1, "--device", "cpu")
    options = ("train", *where, "--threads", 1, "--jobs", 2, "--rows", "base,in-batch,entity-tower", "--", *TRAIN_OPTIONS)
    planned = script(home, "train", "--dry-run", *options[1:])
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.count("blink train --resume") == 3
    assert not (home / "experiments").exists()
    done = script(home, *options)
    assert done.returncode == 0, done.stderr
    assert "row 1 of 3 base: train (1 of 5)" in done.stderr
    table_rows = json.loads((home / "benchmarks/results/ablation.json").read_text())["train"]
    assert [(row["name"], row["against"]) for row in table_rows] == [
        ("base", None),
        ("in-batch", "base"),
        ("entity-tower", "in-batch"),
    ]
    again = script(home, *options)
    assert "3 of 3 rows are complete; 0 to make" in again.stderr


@pytest.mark.slow
def test_mistakes_are_one_line(home: Path) -> None:
    failed = script(home, "train", "--data", "nowhere", "--kb", "kb")
    assert failed.returncode == 1
    assert failed.stderr.strip().splitlines() == [
        "ablation: nowhere/WebQSP_EL/dev.jsonl does not exist; give the folder of the data: --data DIR"
    ]
