"""``blink kglm prior``, ``blink kglm tune-prior``, and ``--prior`` of the commands that link: from a graph to better links."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from outcomes import done, refused
from shell_toys import Script, weighing

pytest.importorskip("pykeen", reason="needs the extra kglm")

from graph_toys import write_triples
from prior_toys import table

from blink.apps.shell.session import Session
from blink.apps.slurm import evaluate as slurm_eval
from blink.apps.slurm import link as slurm_link
from blink.cluster.jobs import JobFolder, Plan
from blink.data.prior_file import Prior, read_prior, write_prior
from blink.evaluation.saved import read_predictions
from blink.files import sha256
from blink.linking import starter
from blink.linking.linker import Linker
from blink.linking.starter import prior_of

torch.set_num_threads(1)

Run = Callable[..., tuple[int, str, str]]
NAMES = ("Georgia", "Mercury", "Java", "Turing", "Oslo", "Victoria")
MODEL_OPTIONS = ("--model", "model", "--kb", "kb")
OPEN = (*MODEL_OPTIONS, "--device", "cpu", "--precision", "fp32")
ON = ("--on", "kb", "dev.jsonl")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows names but not which of two namesakes is meant, a graph that does, and labelled questions."""
    folder = tmp_path_factory.mktemp("home")
    model = toys.model(0, threshold=-30.0)
    model.reranker = weighing(-2.0, alias=4.0)
    model.save_pretrained(folder / "model")
    namesakes = [(2 * n + i, f"{name} {i}", name) for n, name in enumerate(NAMES) for i in (0, 1)]
    rows = [{"title": title, "kb_idx": f"Q{number}", "aliases": [name]} for number, title, name in namesakes]
    toys.knowledge_base(folder / "kb", model, rows)
    other = toys.model(3)
    other.save_pretrained(folder / "stranger")
    toys.knowledge_base(folder / "strange-kb", other, rows)
    toys.knowledge_base(folder / "other-ids", model, [{**row, "kb_idx": f"m.{i}"} for i, row in enumerate(rows)])
    entity_rows = [2 * n + n % 2 for n in range(len(NAMES))]
    triples = [(f"Q{row}", f"P{i % 3}", f"X{i % 7}") for row in entity_rows for i in range(20)]
    triples += [(f"Q{row ^ 1}", "P9", "X1") for row in entity_rows] + [("Q0", "P5", "Q3")]
    write_triples(folder / "graph" / "train.txt", triples)
    questions = [
        {"id": f"{i}", "text": f"where {verb} {name} {when}?", "mentions": [[7 + len(verb), 7 + len(verb) + len(name)]],
         "label_id": [entity_rows[NAMES.index(name)]]}
        for i, (name, verb, when) in enumerate((n, v, w) for n in NAMES for v in ("is", "lies") for w in ("now", "today"))
    ]  # fmt: skip
    plain = [{"id": q["id"], "text": q["text"]} for q in questions]
    for name, fold in (("dev", questions), ("train", questions), ("plain", plain)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in fold))
    for fold in (0, 1):
        shutil.copytree(folder / "model", folder / f"fold{fold}" / "best")
        (folder / f"fold{fold}" / "settings.json").write_text(json.dumps({"leave_out": f"{fold}/2"}))
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.fixture
def bare(blink: Run, home: Path) -> Path:
    """The prior of the graph, not tuned yet."""
    if not (home / "bare.safetensors").exists():
        done(blink("kglm", "prior", "--graph", "graph", "--vectors", "signature", "--out", "bare.safetensors"))
    return home / "bare.safetensors"


@pytest.fixture
def tuned(blink: Run, bare: Path, home: Path) -> Path:
    """The prior, tuned for the reranker's scores."""
    if not (home / "tuned.safetensors").exists():
        shutil.copy(bare, "tuned.safetensors")
        done(blink("kglm", "tune-prior", "tuned.safetensors", "--model", "model", *ON))
    return home / "tuned.safetensors"


def f1(blink: Run, *more: object) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(done(blink("eval", "dev.jsonl", *OPEN, "--json", "-", *more))[0])
    return figures


class TestPrior:
    def test_what_it_writes_and_says(self, blink: Run, tmp_path: Path) -> None:
        out, err = done(blink("kglm", "prior", "--graph", "graph", "--vectors", "signature", "--out", tmp_path / "p"))
        assert out == ""
        prior = read_prior(tmp_path / "p")
        assert f"{len(prior.table)} entities, {len(prior.table.edges)} pairs of neighbours" in err
        assert f"{len(prior.table)} vectors of {prior.table.vectors.shape[1]}" in err  # type: ignore[union-attr]
        assert f"next: blink kglm tune-prior {tmp_path / 'p'}" in err
        degrees = dict(zip(prior.table.ids, prior.table.degrees.tolist(), strict=True))
        assert (degrees["Q0"], degrees["Q1"], degrees["Q3"]) == (21, 1, 21)
        assert prior.weights == ()
        _, err = done(blink("kglm", "prior", "--graph", "graph", "--out", tmp_path / "p"))
        assert "no vectors" in err

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--graph", "nowhere", "--out", "o"), ("there is no nowhere",)),
            (("--graph", "graph", "--vectors", "nowhere", "--out", "o"), ("nowhere", "blink kglm export")),
            (("--graph", "graph", "--vectors", "kb", "--out", "o"), ("entity_vectors.npy", "blink kglm export")),
            (("--graph", "graph", "--out", "no/where"), ("no",)),
            (("--graph", "graph", "--out", "kb"), ("kb",)),
            (("--graph", "graph"), ("--out",)),
            (("--out", "o"), ("--graph",)),
        ],
    )
    def test_mistakes(self, blink: Run, home: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
        refused(blink("kglm", "prior", *arguments), *words)
        assert not (home / "o").exists()


class TestWeigh:
    def test_links_get_better(self, blink: Run, bare: Path, home: Path) -> None:
        before = f1(blink)
        shutil.copy(bare, "fresh.safetensors")
        out, err = done(blink("kglm", "tune-prior", "fresh.safetensors", "--model", "model", *ON, "--json", "-"))
        results = json.loads(out)
        assert results["popularity"] > 0.1
        assert results["on"] == ["dev.jsonl"]
        assert results["terms"] == ["popularity", "coherence"]  # without --train the vectors cannot be fitted
        assert "stored in fresh.safetensors; next: blink eval DEV.jsonl --prior fresh.safetensors" in err
        after = f1(blink, "--prior", "fresh.safetensors")
        assert after["all"]["weak"]["f1"] == pytest.approx(results["weak_f1"])
        assert after["all"]["weak"]["f1"] > before["all"]["weak"]["f1"] + 0.2
        assert after["threshold"] == results["cutoff"]
        none = f1(blink, "--prior", "none")
        for report in (none, before):
            report.pop("questions_per_s")
        assert none == before
        linked = json.loads(done(blink("link", "where is Mercury now?", "--json", *OPEN, "--prior", "fresh.safetensors"))[0])
        assert [link["kb_id"] for link in linked["links"]] == ["Q3"]

    def test_several_kinds_of_scores_stay_side_by_side(self, blink: Run, tuned: Path, home: Path) -> None:
        shutil.copy(tuned, "both.safetensors")
        out, _ = done(blink("kglm", "tune-prior", "both.safetensors", "--model", "model", *ON, "--no-rank"))
        assert "scores are multiplied by" in out
        ranked, plain = read_prior("both.safetensors").weights
        assert (ranked.ranked, plain.ranked) == (True, False)
        alone = read_prior(tuned).weights[0]
        assert (ranked.scale, ranked.popularity, ranked.cutoff) == (alone.scale, alone.popularity, alone.cutoff)
        assert f1(blink, "--prior", "both.safetensors")["threshold"] == ranked.cutoff
        assert f1(blink, "--prior", "both.safetensors", "--no-rank")["threshold"] == plain.cutoff
        done(blink("kglm", "weigh", "both.safetensors", "--model", "model", *ON))  # again, and replaces the earlier weights
        assert [w.ranked for w in read_prior("both.safetensors").weights] == [False, True]
        assert read_prior("both.safetensors").weights[1].popularity == alone.popularity

    def test_vectors_are_learned_where_texts_are_given(self, blink: Run, bare: Path, tmp_path: Path) -> None:
        train = ("--train", "train.jsonl", "--epochs", 3, "--width", 2, "--terms", "popularity,vector")
        folds = ("--fold", "fold0", "--fold", "fold1")
        results = []
        for name, more in (("one", folds), ("two", folds), ("self", ())):
            shutil.copy(bare, tmp_path / name)
            _, err = done(blink("kglm", "tune-prior", tmp_path / name, "--model", "model", *ON, *train, *more))
            assert ("no --fold is given" in err) == (name == "self")
            results.append(read_prior(tmp_path / name).weights[0])
        assert results[0].about["terms"] == ["popularity", "vector"]
        assert (results[0].text.shape, results[0].graph.shape[0]) == ((2, toys.HIDDEN), 2)
        assert np.array_equal(results[0].text, results[1].text)
        # Folds of the same model read the same, in another order.
        assert not np.array_equal(results[0].text, results[2].text)
        assert f1(blink, "--prior", tmp_path / "one")["threshold"] == results[0].cutoff

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("nowhere", "--model", "model", *ON), ("nowhere does not exist", "blink kglm prior")),
            (("dev.jsonl", "--model", "model", *ON), ("dev.jsonl is no prior",)),
            (("PRIOR", "--model", "nowhere", *ON), ("nowhere",)),
            (("PRIOR", "--model", "model", "--on", "nowhere", "dev.jsonl"), ("nowhere is not a knowledge base",)),
            (("PRIOR", "--model", "model", "--on", "kb", "nowhere.jsonl"), ("nowhere.jsonl does not exist",)),
            (("PRIOR", "--model", "model", "--on", "kb", "plain.jsonl"), ("plain.jsonl has no gold",)),
            (("PRIOR", "--model", "model", "--on", "strange-kb", "dev.jsonl"), ("made by another model",)),
            (
                ("PRIOR", "--model", "model", "--on", "other-ids", "dev.jsonl"),
                ("no entity of the knowledge base", "other-ids", "'m.0'", "its ids"),
            ),
            (("PRIOR", "--model", "stranger", "--on", "strange-kb", "dev.jsonl"), ("no reranker in the model", "--no-rank")),
            (("PRIOR", "--model", "model", *ON, "--terms", "vector"), ("the term vector cannot be fitted", "give --train")),
            (("PRIOR", "--model", "model", *ON, "--terms", "smell"), ("--terms has 'smell'", "popularity, vector, coherence")),
            (("PRIOR", "--model", "model", *ON, "--relatedness", "smell"), ("--relatedness has 'smell'", "plausibility")),
            (("PRIOR", "--model", "model", *ON, "--relatedness", "plausibility"), ("no relation vectors", "ComplEx")),
            (("PRIOR", "--model", "model", *ON, "--train", "train.jsonl", "--fold", "model"), ("settings.json",)),
            (("PRIOR", "--model", "model", *ON, "--width", "0"), ("width is 0",)),
            (("PRIOR", "--model", "model", *ON, "--json", "no/where.json"), ("no does not exist",)),
            (("PRIOR", "--model", "model"), ("--on",)),
        ],
    )
    def test_mistakes(self, blink: Run, bare: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
        before = bare.read_bytes()
        refused(blink("kglm", "tune-prior", *(str(bare) if a == "PRIOR" else a for a in arguments)), *words)
        assert bare.read_bytes() == before

    def test_a_prior_without_vectors_says_so(self, blink: Run, tmp_path: Path) -> None:
        write_prior(tmp_path / "p", Prior(table(["Q1", "Q2"], width=0)))
        words = ("--model", "model", *ON, "--train", "train.jsonl", "--terms", "vector")
        refused(blink("kglm", "tune-prior", tmp_path / "p", *words), "the prior has no vectors: make it with --vectors")
        words = ("--model", "nowhere", *ON, "--relatedness", "cosine")  # it is said before a model is looked for
        refused(blink("kglm", "tune-prior", tmp_path / "p", *words), "no vectors; make it with --vectors")


class TestLinking:
    @pytest.mark.parametrize(
        ("prior", "more", "words"),
        [
            ("nowhere", (), ("nowhere does not exist", "blink kglm prior")),
            ("", (), ("blink kglm prior",)),
            ("kb", (), ("kb is a folder",)),
            ("dev.jsonl", (), ("dev.jsonl is no prior",)),
            ("bare.safetensors", (), ("not tuned yet", "ranked scores", "blink kglm tune-prior")),
            (
                "tuned.safetensors",
                ("--no-rank",),
                ("tuned for 1 other", "a bi-encoder's own scores", "blink kglm tune-prior"),
            ),
            ("tuned.safetensors", ("--without", "spelling"), ("tuned for 1 other", "ranked scores")),
        ],
    )
    def test_mistakes(self, blink: Run, tuned: Path, prior: str, more: tuple[str, ...], words: tuple[str, ...]) -> None:
        refused(blink("link", "where is Oslo?", *OPEN, "--prior", prior, *more), *words)
        refused(blink("eval", "dev.jsonl", *OPEN, "--prior", prior, *more), *words)

    def test_through_a_pipe(self, blink: Run, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        results = []
        for more in (("--threshold", 0.3), ("--prior", tuned)):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"where is Mercury now?\n")))
            out, _ = done(blink("shell", *OPEN, *more))
            results.append([link["kb_id"] for link in json.loads(out)["links"]])
        assert results == [["Q2"], ["Q3"]]

    def test_labels(self, blink: Run, tuned: Path, tmp_path: Path) -> None:
        bounds = ("--sure", 0.2, "--doubtful", 0.1)
        done(blink("label", "plain.jsonl", *OPEN, "--prior", tuned, "--out", tmp_path / "l.jsonl", *bounds))
        rows = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
        gold = {q["text"]: q for q in map(json.loads, Path("dev.jsonl").read_text().splitlines())}
        assert len(rows) == len(gold)
        assert all(row["label_id"] == gold[row["text"]]["label_id"] for row in rows)

    def test_saved_readings_know_their_prior_by_what_it_holds(self, blink: Run, tuned: Path, tmp_path: Path) -> None:
        shutil.copy(tuned, tmp_path / "moved")
        shutil.copy(tuned, tmp_path / "again")
        for name, prior in (("plain", "none"), ("one", tuned), ("two", tmp_path / "moved")):
            done(blink("eval", "dev.jsonl", *OPEN, "--prior", prior, "--save-preds", tmp_path / f"{name}.npz"))
        parameters = {
            name: read_predictions(tmp_path / f"{name}.npz").provenance.parameters for name in ("plain", "one", "two")
        }
        assert "prior" not in parameters["plain"]
        assert parameters["one"] == parameters["two"]
        assert parameters["one"]["prior"] == sha256(tuned)
        done(blink("eval", "--preds", tmp_path / "one.npz", "--dev", tmp_path / "two.npz"))
        preds = ("eval", "--preds", tmp_path / "one.npz", "--dev", tmp_path / "plain.npz")
        refused(blink(*preds), "was made with prior", "make both with the same options")
        done(blink("kglm", "tune-prior", tmp_path / "again", "--model", "model", *ON, "--terms", "popularity", "--no-rank"))
        done(blink("eval", "dev.jsonl", *OPEN, "--prior", tmp_path / "again", "--save-preds", tmp_path / "again.npz"))
        refused(blink("eval", "--preds", tmp_path / "one.npz", "--dev", tmp_path / "again.npz"), "was made with prior")

    def test_jobs_find_it_from_wherever_they_run(
        self, blink: Run, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plans: list[tuple[JobFolder, Plan]] = []

        def start(job: JobFolder, plan: Plan, *more: Any, **options: Any) -> bool:
            job.path.mkdir(parents=True, exist_ok=True)
            job.begin(plan)
            plans.append((job, plan))
            return False

        for command in (slurm_eval, slurm_link):
            monkeypatch.setattr(command, "follow", start)
        Path("texts.txt").write_text("where is Mercury now?\n")
        shutil.copy(tuned, "job.safetensors")
        link = ("slurm", "link", "texts.txt", "--shards", 1, *OPEN, "--out", tmp_path / "links.jsonl")
        done(blink(*link, "--prior", "job.safetensors"))
        done(blink("slurm", "eval", "dev.jsonl", *OPEN, "--prior", "job.safetensors", "--out", tmp_path / "scores"))
        assert [plan.inputs["prior"] for _, plan in plans] == [sha256(tuned)] * 2
        monkeypatch.chdir(tmp_path)
        for job, _ in plans:
            done(blink("slurm", "task", job.path, "--shard", 0))
        (file,) = (plans[0][0].path / "parts").glob("*.jsonl")
        assert [link["kb_id"] for link in json.loads(file.read_text())["links"]] == ["Q3"]
        assert json.loads((tmp_path / "scores" / "dev.json").read_text())["all"]["weak"]["f1"] > 0.9
        monkeypatch.chdir(tuned.parent)
        refused(blink(*link, "--prior", "nowhere"), "nowhere does not exist", "blink kglm prior")
        done(blink("kglm", "tune-prior", "job.safetensors", "--model", "model", *ON, "--no-rank"))
        status, _, err = blink(*link, "--prior", "job.safetensors")
        assert (status, len(err.splitlines())) == (1, 1)  # the job was started with what the file held then
        plans.clear()
        done(blink(*link[:-1], tmp_path / "none.jsonl", "--prior", "none"))
        assert "prior" not in plans[0][1].inputs
        assert plans[0][1].work["options"]["prior"] == "none"

    def test_the_starter_s_own_stands_in_over_its_own_alone(self, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(starter, "starter_prior", lambda: tuned)
        assert prior_of(None, None, {}) == tuned
        assert prior_of(None, None, {"prior": None, "rank": True, "without": ()}) == tuned
        assert prior_of(None, None, {"prior": "mine"}) == prior_of("model", "kb", {"prior": "mine"}) == Path("mine")
        for model, kb, options in (
            (None, None, {"prior": "none"}),
            (None, None, {"rank": False}),
            (None, None, {"without": ("spelling",)}),
            (None, "kb", {}),
            ("model", "kb", {"prior": "none"}),
            ("model", "kb", {}),
        ):
            assert prior_of(model, kb, options) is None

    def test_the_shell_says_what_the_graph_knows(self, tuned: Path) -> None:
        linker = Linker.from_pretrained("model", "kb", device="cpu", precision="fp32", prior=tuned)
        console = Script("where is Mercury now?", ":explain 1", width=200)
        Session(linker, console).run()
        assert "Mercury 1: a name of it, shared with 1 other" in console.output[-1]
        lines = [line for line in console.output[-1].splitlines() if "known from the graph" in line]
        assert [line.split("known from the graph: ")[1] for line in lines] == ["21 links", "1 links"]
        plain = Script("where is Mercury now?", ":explain 1", width=200)
        Session(Linker.from_pretrained("model", "kb", device="cpu", precision="fp32", threshold=0.1), plain).run()
        assert "reasons" in plain.output[-1]
        assert "known from the graph" not in plain.output[-1]
