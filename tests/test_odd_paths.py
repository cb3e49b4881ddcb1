"""Files and folders of any name: every command works with them, or refuses them in one line, and nothing in a name is run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import toys

from blink.cluster.script import Job, sbatch_script
from blink.cluster.settings import ClusterSettings
from blink.errors import SettingsError
from blink.kglm.config import load_settings

torch.set_num_threads(1)
Run = Callable[..., tuple[int, str, str]]

NAMES = {
    "percent": "%j %% %(message)s %s %d it's",
    "shell": 'q"x $(touch pwned) `touch pwned` ;touch pwned; & *?[x] ~ #h !x',
    "dash": "-dash é中 {0} a=b,c:d @f",
    "backslash": "back\\slash",
    "line end": "new\nline\ttab \x1b[2J \u202e",
    "bytes": "bytes\udcff",
}
TRAIN = ["--epochs", "1", "--learning-rate", "0.02", "--batch-size", "8", "--precision", "fp32", "--device", "cpu"]
FIT = ["--floor", "-9", "--epochs", "3", "--batch-size", "128", "--members", "1", "--absent", "0"]


class Named:
    """A folder of an odd name, in the current one, with files of odd names."""

    def __init__(self, name: str, base: str | None = None) -> None:
        self.name = name
        self.base = self("base") if base is None else base
        self.runs = self if base is None else Named("plain")

    def __call__(self, end: str) -> str:
        """The relative path of a file."""
        return f"{self.name}/{self.name}{end}"

    def make(self, *, with_model: bool = False) -> None:
        """Write what the commands need, and a model perhaps."""
        Path(self.name).mkdir()
        Path(self.runs.name).mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:  # the tokenizers library takes names in UTF-8 alone
            shutil.copytree(toys.base_folder(Path(folder, "base")), self.base)
        if with_model:
            toys.model(3).save_pretrained(Path(self.runs("run"), "best"))
            self.base = f"{self.runs('run')}/best"
        toys.write_catalogue(Path(self(".jsonl")), toys.rows(24))
        rows = []
        for i in range(24):
            title = f"{toys.NAMES[i % len(toys.NAMES)]} {i}"
            rows.append({"id": str(i), "text": f"where is {title}?", "mentions": [[9, 9 + len(title)]], "label_id": [i]})
        Path(self("train.jsonl")).write_text("".join(json.dumps(row) + "\n" for row in rows))
        Path(self("dev.jsonl")).write_text("".join(json.dumps(row) + "\n" for row in rows[:8]))
        Path(self("texts.txt")).write_text("where is Georgia 0?\nOslo 7 is cold\n")
        Path(self("people.csv")).write_text("id,name\n1,Georgia 0\n2,Oslo 7\n")
        Path(self("graph")).mkdir()
        for split in ("train", "valid", "test"):
            Path(self("graph"), f"{split}.txt").write_text("a\tp\tb\nb\tp\tc\nc\tp\ta\na\tq\tc\n")
        Path(self("run.yaml")).write_text("kind: graph\ndevice: cpu\nmodel: {dim: 8}\ntrain: {epochs: 2}\nstop: {every: 1}\n")


def steps(p: Named) -> dict[str, list[str]]:
    """Commands over files of odd names, in an order in which later ones use what earlier ones made."""
    train = ["train", "--train", p("train.jsonl"), "--dev", p("dev.jsonl"), "--kb", p("kb"), "--model", p.base, *TRAIN]
    on = ["--model", p.runs("run") + "/best", "--kb", p("kb"), "--device", "cpu", "--precision", "fp32"]
    return {
        "kb build": ["kb", "build", "--out", p("kb"), "--model", p.base, "--device", "cpu", "--", p(".jsonl")],
        "kb new": ["kb", "new", "--model", p.base, "--", p("empty")],
        "kb list": ["kb", "list", "--", p("kb")],
        "kb show": ["kb", "show", "--", p("kb"), "0"],
        "kb search": ["kb", "search", "--json", "--", p("kb"), "Oslo"],
        "kb add": ["kb", "add", "--title", p.name, "--id", p.name, "--text", "A thing.", "--model", p.base, "--", p("kb")],
        "kb history": ["kb", "history", "--", p("kb")],
        "kb snapshot": ["kb", "snapshot", "--", p("kb"), "first"],
        "kb remove": ["kb", "remove", "--", p("kb"), p.name],
        "kb rollback": ["kb", "rollback", "--", p("kb"), "first"],
        "kb undo": ["kb", "undo", "--", p("kb")],
        "kb compact": ["kb", "compact", "--", p("kb")],
        "kb check": ["kb", "check", "--json", "--", p("kb")],
        "train": [*train, "--out", p.runs("run")],
        "train a": [*train, "--out", p.runs("a"), "--leave-out", "0/2"],
        "train b": [*train, "--out", p.runs("b"), "--leave-out", "1/2"],
        "rank": ["rank", "--kb", p("kb"), "--train", p("train.jsonl"), *FIT, "--fold", p.runs("a"), "--fold", p.runs("b"), "--",
                 p.runs("run") + "/best"],
        "calibrate": ["calibrate", "--on", p("kb"), p("dev.jsonl"), "--json", p("cal.json"), "--", p.runs("run") + "/best"],
        "export": ["export", "--onnx", "--", p.runs("run") + "/best"],
        "link": ["link", "--file", p("texts.txt"), *on, "--backend", "onnx"],
        "link html": ["link", "--file", p("texts.txt"), "--format", "html", *on],
        "link out": ["link", "--file", p("texts.txt"), "--out", p("links.csv"), *on],
        "link text": ["link", *on, "--", "-5 degrees", p.name],
        "eval": ["eval", "--json", p("a.json"), "--rows", p("a.rows"), "--save-preds", p("saved"), *on, "--", p("dev.jsonl")],
        "eval rows": ["eval", "--rows", p("b.rows"), *on, "--", p("dev.jsonl")],
        "compare": ["compare", "--", p("a.rows"), p("b.rows")],
        "label": ["label", "--out", p("labelled.jsonl"), *on, "--", p("dev.jsonl")],
        "convert": ["convert", "--to", "doccano", "--out", p("doccano.jsonl"), "--", p("dev.jsonl")],
        "convert back": ["convert", "--from", "doccano", "--out", p("back.jsonl"), "--", p("doccano.jsonl")],
        "resolve": ["resolve", "run", "--out", p("resolved.jsonl"), "--model", p.base, "--", p("kb"), p("people.csv")],
        "resolve merges": ["resolve", "merges", "--out", p("plan.json"), "--", p("kb")],
        "shrink": ["shrink", "--rank", "2", "--out", p.runs("small"), "--", p.runs("run") + "/best"],
        "bench": ["bench", *on, "--json", "--", p("texts.txt")],
        "doctor": ["doctor", "--kb", p("kb"), "--json"],
        "kb index": ["kb", "index", "--index", "sq8", "--", p("kb")],
        "kglm train": ["kglm", "train", p("run.yaml"), "--out", p("kge"), "--data.graph", p("graph")],
        "kglm eval": ["kglm", "eval", "--", p("kge")],
        "kglm resume": ["kglm", "resume", p("kge"), "--train.epochs", "3"],
        "kglm export": ["kglm", "export", "--out", p("vectors"), "--", p("kge")],
        "kglm predict": ["kglm", "predict", "--head", "a", "--relation", "p", "--", p("kge")],
        "kglm reduce": ["kglm", "reduce", "-e", p("vectors"), "-o", p("reduced.tsv"), "-m", "pca", "-d", "2"],
        "kglm plot": ["kglm", "plot", "--out", p("plot.png"), "--", p("reduced.tsv")],
        "kglm prior": ["kglm", "prior", "--graph", p("graph"), "--vectors", p("vectors"), "--out", p("prior")],
        "slurm encode": ["slurm", "encode", "--submit", "local", "--shard-rows", "12", "--out", p("skb"), "--model", p.base,
                         "--device", "cpu", "--", p(".jsonl")],
        "slurm link": ["slurm", "link", "--submit", "local", "--shards", "2", "--out", p("slinks.jsonl"), *on[:4], "--",
                       p("texts.txt")],
        "slurm eval": ["slurm", "eval", "--submit", "local", "--out", p("seval"), *on[:4], "--", p("dev.jsonl")],
        "slurm dry run": ["slurm", "link", "--dry-run", "--shards", "2", "--out", p("dry.jsonl"), *on[:4], "--",
                          p("texts.txt")],
    }  # fmt: skip


QUICK = (
    "kb build", "kb search", "kb add", "kb history", "kb check", "export", "link", "link out", "link text", "eval", "eval rows",
    "compare", "convert", "convert back", "resolve", "kglm train", "kglm predict", "kglm export", "kglm reduce", "kglm plot",
    "kglm prior", "slurm dry run",
)  # fmt: skip
"""Commands of the quick test, with a model that is not trained."""
NO_SLURM = ("backslash", "line end", "bytes")
"""Names of folders in which Slurm writes no log."""


def outcomes(blink: Run, files: Named, only: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Status and last line of each command; each is a success, or says what is wrong in one line."""
    results = {}
    for step in only:
        try:
            status, _, err = blink(*steps(files)[step])
        except SystemExit as end:
            status, err = int(str(end.code)), ""
        last = (err.strip().splitlines() or [""])[-1]
        assert "Traceback" not in err, (step, err)
        assert not status or last.startswith("blink: ") or step in ("doctor", "kb check"), (step, err)
        results[step] = (status, last)
    assert {path.name for path in Path.cwd().iterdir()} <= {files.name, files.runs.name, "base"}, "something in a name was run"
    assert not list(Path.cwd().rglob("pwned"))
    return results


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["blink"])


@pytest.mark.timeout(300)
def test_commands_work_with_a_name_of_all_odd_characters(blink: Run) -> None:
    files = Named('-dash %j %% %(m)s it\'s "q" $(touch pwned) `touch pwned` ;touch pwned; & *?[x] ~ #h é中 {0} a=b,c:d')
    files.make(with_model=True)
    assert {step: last for step, (status, last) in outcomes(blink, files, QUICK).items() if status} == {}


@pytest.mark.timeout(300)
def test_names_that_are_not_utf8_work_or_are_refused_in_one_line(blink: Run) -> None:
    files = Named(NAMES["bytes"], base="base")
    files.make(with_model=True)
    results = outcomes(blink, files, QUICK)
    assert {step for step, (status, _) in results.items() if not status} >= {"kb build", "kb search", "kb check", "link"}
    for step in ("link out", "eval", "slurm dry run"):
        assert "UTF-8" in results[step][1]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", NAMES)
def test_every_command_works_with_every_name(kind: str, blink: Run) -> None:
    files = Named(NAMES[kind], base="base" if kind == "bytes" else None)
    files.make()
    results = outcomes(blink, files, list(steps(files)))
    failed = {step for step, (status, _) in results.items() if status} - {"doctor"}
    assert kind == "bytes" or failed == ({"slurm dry run"} if kind in NO_SLURM else set())


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["link", "-5 degrees"], "blink link -- '-5 degrees'"),
        (["link", "-x"], "blink link -- -x"),
        (["eval", "-file.jsonl"], "blink eval -- -file.jsonl"),
        (["kb", "search", "kb", "-name"], "blink kb search -- -name"),
        (["kb", "check", "-kb"], "blink kb check -- -kb"),
        (["kglm", "eval", "-run"], "blink kglm eval -- -run"),
        (["convert", "-x.jsonl"], "blink convert -- -x.jsonl"),
        (["link", "--unheard of"], "blink link -- '--unheard of'"),
    ],
)
def test_an_argument_that_begins_with_a_dash_is_told_how_to(
    arguments: list[str], advice: str, blink: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["blink", *arguments])
    status, out, err = blink(*arguments)
    assert (status, out) == (2, "")
    assert f"give what begins with a dash after --: {advice}" in err


def test_groups_and_misspelt_options_get_no_such_advice(blink: Run) -> None:
    assert "after --" not in blink("kb", "-x")[2]
    assert "Did you mean '--file'?" in blink("link", "--flie", "x")[2]


@pytest.mark.parametrize("name", ["%j", "%", "%%A", "it's", 'q"x', "$(x)", "é", "a b", "%a_%A"])
def test_logs_of_jobs_keep_the_name_of_their_folder(name: str) -> None:
    job = Job(name="link", folder=Path("/data") / name, command=("blink",), array=(0, 1))
    option = next(line for line in sbatch_script(job, ClusterSettings().slurm).splitlines() if "--output=" in line)
    (pattern,) = shlex.split(option.removeprefix("#SBATCH --output="))
    assert re.sub("%([%Aa])", lambda m: {"%": "%", "A": "7", "a": "1"}[m[1]], pattern) == f"/data/{name}/log/7_1.out"


@pytest.mark.parametrize("name", ["back\\slash", "line\nend", "bytes\udcff"])
def test_folders_without_logs_are_refused(name: str) -> None:
    job = Job(name="link", folder=Path("/data") / name, command=("blink",))
    with pytest.raises(SettingsError, match="give another --out"):
        sbatch_script(job, ClusterSettings().slurm)


@pytest.mark.parametrize("name", ["%j", "a: b", "#h", "~", "- x", "{0}", "null", "yes", "@x", "*a", "&a", "!x", "a, b"])
def test_a_setting_that_lists_names_takes_any_name(name: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("kind: graph\ndata: {graph: [other]}\n")
    assert load_settings("graph", file, ("--data.graph", name)).data.graph == [name]
    assert load_settings("graph", file, ("--data.graph", "[a, 'b c']")).data.graph == ["a", "b c"]
