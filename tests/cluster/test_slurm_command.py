"""``blink slurm``: encode, link, evaluate and train in shards; stopped, damaged and given again; the same as without shards."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_slurm import FakeSlurm
from locks import locked_elsewhere
from toys import base_folder, knowledge_base, model, rows, write_catalogue

from blink.apps.common import guarded, say
from blink.apps.slurm import follow
from blink.bulk import sources
from blink.bulk.journal import BulkOutput
from blink.cluster import encoding, tasks
from blink.cluster.jobs import JobFolder
from blink.cluster.script import Job
from blink.cluster.submit import ENDED, NEVER, SUCCESS, State, Task
from blink.kb.knowledge_base import KnowledgeBase
from blink.linking import opening
from blink.model.loading import load_model

torch.set_num_threads(1)

Blink = Callable[..., tuple[int, str, str]]
GOLDEN = Path(__file__).parent / "golden"
ROWS = 22


class Here:
    """Runs tasks one after the other in this process, which saves loading everything again for each."""

    poll_s = (0.0, 0.0)
    settle_s = 0.0

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self._states: dict[Task, State] = {}

    def submit(self, job: Job) -> str:
        name = f"here-{len(self.jobs)}"
        self.jobs[name] = job
        return name

    def states(self, ids: Sequence[str]) -> Mapping[Task, State]:
        for name in ids:
            job = self.jobs.get(name)
            failed = job is not None and any(
                s.reason != SUCCESS for (other, _), s in self._states.items() if other in job.after
            )
            for shard in () if job is None else job.array or (None,):
                if (name, shard) not in self._states:
                    self._states[name, shard] = State(ENDED, NEVER) if failed else self._run(name, job, shard)  # type: ignore[arg-type]
        return self._states

    def _run(self, name: str, job: Job, shard: int | None) -> State:
        folder = JobFolder(job.folder)
        with folder.log_file(name, shard).open("a") as log, contextlib.redirect_stderr(log), contextlib.redirect_stdout(log):
            try:
                status = guarded(lambda: tasks.run_task(str(job.folder), shard, "--merge" in job.command, say), "blink")
            except SystemExit as stop:
                status = int(str(stop.code))
        return State(ENDED, SUCCESS if not status else f"FAILED, exit status {status}")

    def cancel(self, job: str) -> None:
        raise AssertionError("nothing here waits")

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are run by `Here`."""
    monkeypatch.setattr(follow, "submitter", lambda settings: Here())


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model``, its ``kb``, ``entity.jsonl``, ``texts.txt`` and mention files."""
    folder = tmp_path_factory.mktemp("toy")
    source_model = model(0)
    source_model.save_pretrained(folder / "model")
    kb = knowledge_base(folder / "kb", source_model, rows(ROWS))
    write_catalogue(folder / "entity.jsonl", rows(ROWS))
    titles = [kb.catalogue.title(i) for i in range(ROWS)]
    (folder / "texts.txt").write_text("".join(f"is {titles[i % ROWS]} near {titles[i * 7 % ROWS]}?\n" for i in range(30)))
    for name, subset in (("one", titles[:9]), ("two", titles[5:])):
        lines = [
            json.dumps({"id": str(i), "text": f"where is {t}?", "mentions": [[9, 9 + len(t)]], "label_id": [titles.index(t)]})
            for i, t in enumerate(subset)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def done(result: tuple[int, str, str]) -> tuple[str, str]:
    status, out, err = result
    assert status == 0, err
    return out, err


def encode(toy: Path, out: Path, *more: object) -> tuple[object, ...]:
    arguments = ("--model", toy / "model", "--precision", "fp32", "--device", "cpu")
    return ("slurm", "encode", toy / "entity.jsonl", "--out", out, "--shard-rows", 8, *arguments, *more)


def same_files(one: Path, other: Path) -> None:
    names = {p.name for p in one.iterdir() if p.is_file()} - {"entity.jsonl.offsets"}
    assert names == {p.name for p in other.iterdir() if p.is_file()} - {"entity.jsonl.offsets"}
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.usefixtures("here")
class TestEncode:
    def test_as_built_at_once(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        _, err = done(blink(*encode(toy, tmp_path / "kb")))
        assert "submitted 3 of 3 shards" in err
        assert f"{tmp_path / 'kb'}: {ROWS} entities" in err
        arguments = ("--model", toy / "model", "--precision", "fp32", "--device", "cpu", "--chunk-rows", 8)
        done(blink("kb", "build", toy / "entity.jsonl", "--out", tmp_path / "once", *arguments))
        same_files(tmp_path / "kb", tmp_path / "once")
        _, err = done(blink(*encode(toy, tmp_path / "kb")))
        assert "all is done already" in err

    def test_files_of_the_original(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        out = tmp_path / "enc"
        done(blink(*encode(toy, out, "--layout", "t7")))
        assert sorted(p.name for p in out.iterdir()) == ["0_8.t7", "16_24.t7", "8_16.t7", "all.t7", "slurm"]
        merged = torch.load(out / "all.t7", weights_only=True)
        source_model = model(0)
        assert np.allclose(
            merged.numpy(), source_model.encode_entities(list(KnowledgeBase.open(toy / "kb").catalogue)), atol=1e-6
        )

    def test_chunks_made_by_hand_are_taken(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        out = tmp_path / "enc"
        for chunk in ((8, 16), (16, 24)):
            done(blink(*encode(toy, out, "--layout", "t7", "--chunk", *chunk)))
        made_at = (out / "8_16.t7").stat().st_mtime_ns
        _, err = done(blink(*encode(toy, out, "--layout", "t7")))
        assert "submitted 1 of 3 shards" in err
        assert (out / "8_16.t7").stat().st_mtime_ns == made_at
        done(blink(*encode(toy, tmp_path / "all", "--layout", "t7")))
        same_files(out, tmp_path / "all")

    def test_a_chunk_to_the_end(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        done(blink(*encode(toy, tmp_path / "enc", "--layout", "t7", "--chunk", 20, -1)))
        assert len(torch.load(tmp_path / "enc" / f"20_{ROWS}.t7", weights_only=True)) == ROWS - 20

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--layout", "t7", "--chunk", 30, 40), f"the chunk is 30 to 40; the catalogue has rows 0 to {ROWS}"),
            (("--chunk", 0, 4), "give --layout t7 too"),
            (("--layout", "t7", "--index", "hnsw"), "leave --dtype and --index out"),
            (("--shard-rows", 0), "shard_rows is 0 (from --shard-rows); it must be at least 1"),
            (("--model", "nowhere"), "nowhere is no model folder"),
        ],
    )
    def test_mistakes(self, toy: Path, tmp_path: Path, blink: Blink, more: tuple[object, ...], message: str) -> None:
        status, _, err = blink(*encode(toy, tmp_path / "kb", *more))
        assert status == 1
        assert message in err
        assert len(err.splitlines()) == 1

    def test_a_damaged_shard_is_named_and_made_anew(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        out = tmp_path / "kb"
        done(blink(*encode(toy, out, "--no-merge")))
        file = out / ".build" / "chunks" / "00000008_00000016.npy"
        content = bytearray(file.read_bytes())
        content[-3] ^= 1
        file.write_bytes(content)
        status, _, err = blink(*encode(toy, out))
        assert status == 1
        named = f"shard 1 (entities 8 to 16) is not sound: {file} has changed"
        assert f"blink: the merge of 3 shards failed (FAILED, exit status 1): {named}" in err.splitlines()[-1]
        assert any(line.startswith("  | blink: shard 1") for line in err.splitlines())
        assert not (out / "manifest.json").exists()
        _, err = done(blink(*encode(toy, out)))
        assert "submitted 1 of 3 shards" in err
        done(blink(*encode(toy, tmp_path / "whole")))
        same_files(out, tmp_path / "whole")

    def test_another_catalogue_or_model_is_refused(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        catalogue = write_catalogue(tmp_path / "entity.jsonl", rows(ROWS))
        words = [
            "slurm",
            "encode",
            catalogue,
            "--model",
            toy / "model",
            "--out",
            tmp_path / "kb",
            "--shard-rows",
            8,
            "--no-merge",
        ]
        done(blink(*words))
        write_catalogue(catalogue, rows(ROWS, seed=1))
        status, _, err = blink(*words)
        assert status == 1
        assert "was started with other catalogue; give the same ones" in err
        status, _, err = blink(*words, "--batch-size", 8)
        assert "was started with other catalogue, encoder;" in err

    def test_a_shard_stopped_half_way_goes_on(
        self, toy: Path, tmp_path: Path, blink: Blink, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Time is up when three entities are left: what is there is kept, Slurm is asked for a new start."""
        monkeypatch.setattr(encoding, "CHUNK_ROWS", 3)
        monkeypatch.setenv("SLURM_JOB_ID", "77")
        slurm.signal_twice()
        encoded: list[int] = []
        load = opening.open_candidate_encoder

        def loading(*words: Any, **named: Any) -> Any:
            encoder = load(*words, **named)

            def encode_some(entities: Sequence[Any]) -> np.ndarray:
                encoded.extend(e.row for e in entities)
                if encoded == list(range(14)):
                    os.kill(os.getpid(), signal.SIGUSR1)
                return encoder.encode(entities)

            return type(encoder)(encode_some, encoder.fingerprint)

        monkeypatch.setattr(opening, "open_candidate_encoder", loading)
        out = tmp_path / "kb"
        status, _, err = blink(*encode(toy, out))
        assert status == 1
        assert "time is up: what is done is kept, and the job is queued again" in err
        assert slurm.calls("scontrol") == ["requeue 77"]
        assert "shard 1 (entities 8 to 16) failed (FAILED, exit status 138)" in err
        again = encoded[14:]
        done(blink(*encode(toy, out)))
        assert encoded[14 + len(again) :] == [11, 12, 13, 14, 15]
        assert len(KnowledgeBase.open(out).catalogue) == ROWS

    @pytest.mark.parametrize("within", [True, False])
    def test_told_to_end(
        self, toy: Path, tmp_path: Path, blink: Blink, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, within: bool
    ) -> None:
        """A pre-empted job must not end before Slurm has queued it again; outside of Slurm there is nothing to wait for."""
        waits: list[float] = []
        monkeypatch.setattr(tasks, "MAX_WAIT_S", 0.01)
        monkeypatch.setattr(encoding, "write_t7", lambda *words: os.kill(os.getpid(), signal.SIGTERM))
        monkeypatch.setattr(tasks.time, "sleep", waits.append)
        if within:
            monkeypatch.setenv("SLURM_JOB_ID", "77")
        with pytest.raises(SystemExit) as error:
            blink(*encode(toy, tmp_path / "enc", "--layout", "t7", "--chunk", 0, 8))
        assert error.value.code == 143
        assert waits == ([0.01] if within else [])
        assert slurm.calls("scontrol") == []

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk(self, toy: Path, tmp_path: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        def full(*words: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(encoding, "save_chunk", full)
        status, _, err = blink(*encode(toy, tmp_path / "kb"))
        assert status == 1
        assert f"the disk of {tmp_path / 'kb'} is full ({os.strerror(number)}); make room and give the same command" in err


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of texts of which a few texts have several: shards are made of whole ones."""
    monkeypatch.setattr(sources, "CHUNK_LINES", 5)


@pytest.mark.usefixtures("here", "short_chunks")
class TestLink:
    def words(self, toy: Path, out: Path, *more: object) -> tuple[object, ...]:
        arguments = ("--model", toy / "model", "--kb", toy / "kb", "--no-rank", "--threshold", -20, "--device", "cpu")
        return ("slurm", "link", toy / "texts.txt", "--out", out, *arguments, *more)

    def test_as_linked_at_once(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        out = tmp_path / "links.jsonl"
        _, err = done(blink(*self.words(toy, out, "--shards", 4, "--descriptions")))
        assert f"{out}: 30 texts linked" in err
        arguments = ("--model", toy / "model", "--kb", toy / "kb", "--no-rank", "--threshold", -20, "--device", "cpu")
        once, _ = done(blink("link", "--file", toy / "texts.txt", "--json", *arguments))
        assert out.read_text() == once
        assert once.count("\n") == 30

    def test_a_lost_part_is_made_anew(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        out = tmp_path / "links.jsonl"
        done(blink(*self.words(toy, out, "--shards", 3, "--no-merge")))
        (tmp_path / "links.jsonl.slurm" / "parts" / "00002.jsonl").unlink()
        status, _, err = blink(*self.words(toy, out, "--shards", 3))
        assert status == 1
        assert "shard 2 (texts 20 to 30) is not sound: " in err
        assert "00002.jsonl is missing; give the same command again" in err
        _, err = done(blink(*self.words(toy, out, "--shards", 3)))
        assert "submitted 1 of 3 shards" in err
        assert len(out.read_text().splitlines()) == 30

    @pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
    def test_records_of_several_files(self, toy: Path, tmp_path: Path, blink: Blink, ending: str) -> None:
        """The file of all shards is that of one run, errors in their places; the manifest accounts for every line."""
        texts = (toy / "texts.txt").read_text().splitlines()
        lines = [json.dumps({"id": i, "body": text, "day": i % 3}) for i, text in enumerate(texts)]
        lines[6] = "{broken"
        (tmp_path / "a.jsonl").write_text("\n".join(lines[:19]))
        (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(["", *lines[19:]]).encode()))
        files, out = (tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"), tmp_path / f"links{ending}"
        arguments = ("--model", toy / "model", "--kb", toy / "kb", "--no-rank", "--threshold", -20, "--device", "cpu")
        arguments += ("--text-key", "body", "--carry", "day")
        done(blink("slurm", "link", *files, "--out", out, "--shards", 3, *arguments))
        once = tmp_path / f"once{ending}"
        _, err = done(blink("link", "--file", files[0], "--file", files[1], "--out", once, *arguments))
        assert "1 of 30 records have an error instead of links (1 not JSON); first: " in err
        assert out.read_bytes() == once.read_bytes()
        manifest = json.loads((tmp_path / f"links{ending}.slurm" / "manifest.json").read_text())
        assert (manifest["lines"], manifest["records"], manifest["errors"]) == (31, 30, {"not JSON": 1})
        assert manifest["merged"] is True
        assert [row["state"] for row in manifest["shards"]] == ["done"] * 3
        ranges = [(Path(i["path"]).name, i["start"], i["end"]) for row in manifest["shards"] for i in row["inputs"]]
        assert sum(end - start for _, start, end in ranges) == 31
        assert {name for name, _, _ in ranges} == {"a.jsonl", "b.jsonl.gz"}
        assert all(row["files"] for row in manifest["shards"])

    def test_a_shard_may_hold_nothing_but_errors(
        self, toy: Path, tmp_path: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad = tmp_path / "bad.txt"
        bad.write_bytes(b"\xff\n" * 300 + b"fine\n")
        monkeypatch.setattr(sources, "CHUNK_LINES", 256)
        arguments = ("--model", toy / "model", "--kb", toy / "kb", "--device", "cpu", "--no-candidates")
        status, _, err = blink("slurm", "link", bad, "--out", tmp_path / "links.jsonl", "--shards", 2, *arguments)
        assert status == 1
        assert "none of the first 256 records can be linked; first: " in err.splitlines()[-1]
        bad.write_bytes(b"fine\n" + b"\xff\n" * 600)
        done(blink("slurm", "link", bad, "--out", tmp_path / "more.jsonl", "--shards", 3, *arguments))
        assert [row.get("line", 1) for row in map(json.loads, (tmp_path / "more.jsonl").open())] == list(range(1, 602))

    def test_a_stopped_shard_continues(self, toy: Path, tmp_path: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch) -> None:
        out, commit = tmp_path / "links.jsonl", BulkOutput.commit

        def stopped(output: BulkOutput, *arguments: Any) -> None:
            commit(output, *arguments)
            os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(BulkOutput, "commit", stopped)
            status, _, err = blink(*self.words(toy, out, "--shards", 2))
        assert (status, "shard 0 (texts 0 to 15) and 1 more failed (FAILED, exit status 143)" in err) == (1, True)
        manifest = json.loads((tmp_path / "links.jsonl.slurm" / "manifest.json").read_text())
        assert [(row["state"], row["lines"], row["records"]) for row in manifest["shards"]] == [("missing", 15, 5)] * 2
        done(blink(*self.words(toy, out, "--shards", 2)))
        done(blink(*self.words(toy, tmp_path / "once.jsonl", "--shards", 1)))
        assert out.read_bytes() == (tmp_path / "once.jsonl").read_bytes()

    def test_a_changed_input_is_refused(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        texts = tmp_path / "texts.txt"
        texts.write_bytes((toy / "texts.txt").read_bytes())
        words = [
            texts if word == toy / "texts.txt" else word for word in self.words(toy, tmp_path / "links.jsonl", "--no-merge")
        ]
        done(blink(*words))
        texts.write_text("another\n" * 30)
        status, _, err = blink(*words)
        assert (status, "was started with other lines, texts; give the same ones" in err) == (1, True)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"file": "nowhere.txt"}, "nowhere.txt does not exist"),
            ({"file": "empty.txt"}, "empty.txt is empty"),
            ({"--out": "no/links.jsonl"}, "does not exist; name a file to write"),
            ({"--model": "nowhere"}, "nowhere is no model folder"),
            ({"--kb": "nowhere"}, "nowhere is not a knowledge base"),
        ],
    )
    def test_mistakes(
        self, toy: Path, tmp_path: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty.txt").touch()
        words = {"file": toy / "texts.txt", "--out": "links.jsonl", "--model": toy / "model", "--kb": toy / "kb", **changes}
        file = words.pop("file")
        status, _, err = blink("slurm", "link", file, *(w for pair in words.items() for w in pair))
        assert status == 1
        assert message in err
        assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("here")
class TestEvaluate:
    def test_each_file_as_evaluated_alone(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        arguments = (
            "--model",
            toy / "model",
            "--kb",
            toy / "kb",
            "--no-rank",
            "--threshold",
            -20,
            "--cluster",
            "paraphrase",
            "--device",
            "cpu",
        )
        out = tmp_path / "scores"
        done(blink("slurm", "eval", toy / "one.jsonl", toy / "two.jsonl", "--out", out, "--save-preds", *arguments))
        scores = json.loads((out / "scores.json").read_text())
        assert sorted(scores) == ["one", "two"]
        for name in scores:
            alone = tmp_path / f"{name}.json"
            done(blink("eval", toy / f"{name}.jsonl", "--json", alone, "--rows", tmp_path / "rows.jsonl", *arguments))
            assert (out / f"{name}.rows.jsonl").read_bytes() == (tmp_path / "rows.jsonl").read_bytes()
            figures = json.loads(alone.read_text())
            for metrics in (figures, scores[name]):
                metrics.pop("questions_per_s")
            assert scores[name] == figures
            assert figures["cluster"] == "paraphrase"
            assert (out / f"{name}.npz").is_file()

    def test_files_of_one_name(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "dev.jsonl").write_bytes((toy / "one.jsonl").read_bytes())
        arguments = ("--model", toy / "model", "--kb", toy / "kb", "--device", "cpu", "--out", tmp_path / "scores")
        done(blink("slurm", "eval", tmp_path / "a" / "dev.jsonl", tmp_path / "b" / "dev.jsonl", *arguments))
        assert sorted(json.loads((tmp_path / "scores" / "scores.json").read_text())) == ["a_dev", "b_dev"]
        status, _, err = blink("slurm", "eval", tmp_path / "a" / "dev.jsonl", tmp_path / "a" / "dev.jsonl", *arguments)
        assert (status, "several files would write a_dev.json" in err) == (1, True)


TRAIN = (
    "--epochs", 2, "--batch-size", 8, "--precision", "fp32", "--adapter-rank", 4, "--device", "cpu", "--log-steps", 1,
    "--objective", "in_batch", "--learning-rate", 0.01, "--dropout", 0,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Flags of a short training."""
    folder = tmp_path_factory.mktemp("train")
    base = base_folder(folder / "base")
    knowledge_base(folder / "kb", load_model(base, context=False, candidate=True), rows(ROWS))
    return ("--train", toy / "two.jsonl", "--dev", toy / "one.jsonl", "--kb", folder / "kb", "--model", base, *TRAIN)


class TestTrain:
    @pytest.mark.slow
    def test_two_nodes_on_this_machine(self, data: tuple[object, ...], tmp_path: Path, blink: Blink) -> None:
        """Two tasks that know each other start a process each; those train together through accelerate and gloo."""
        _, err = done(blink("slurm", "train", "--nodes", 2, "--submit", "local", *data, "--out", tmp_path / "two"))
        assert f"the best model is in {tmp_path / 'two' / 'best'}" in err
        done(blink("train", *data, "--out", tmp_path / "one"))
        traces = {n: [json.loads(line) for line in (tmp_path / n / "trace.jsonl").open()] for n in ("one", "two")}
        assert [trace[0]["processes"] for trace in traces.values()] == [1, 2]
        one, two = ([(r["entity"], r["span"]) for r in trace if r["kind"] == "step"] for trace in traces.values())
        assert len(one) > 3
        assert np.allclose(one, two, rtol=1e-4)

    def test_a_training_that_fails_says_why(self, data: tuple[object, ...], tmp_path: Path, blink: Blink) -> None:
        words = [tmp_path / "nowhere.jsonl" if str(w).endswith("one.jsonl") else w for w in data]
        status, _, err = blink("slurm", "train", "--submit", "local", *words, "--out", tmp_path / "run")
        assert status == 1
        last = err.splitlines()[-1]
        assert "shard 0 (runs 0 to 1) failed (FAILED, exit status 1): " in last
        assert "nowhere.jsonl does not exist" in last
        assert str(tmp_path / "run" / "slurm" / "log") in last

    @pytest.mark.parametrize(
        ("words", "status", "message"),
        [
            (("--out", "run", "--epochz", 3), 2, "No such option '--epochz'"),
            (("--out", "run", "--learning_rate", "fast"), 2, "--learning_rate is 'fast'; it must be a number"),
            ((), 1, "give --out DIR"),
            (("--out", "run", "--epochs", 0), 1, "epochs is 0; it must be at least 1"),
        ],
    )
    def test_mistakes_are_told_before_anything_waits(
        self,
        tmp_path: Path,
        blink: Blink,
        monkeypatch: pytest.MonkeyPatch,
        words: tuple[object, ...],
        status: int,
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result, _, err = blink("slurm", "train", "--train", "t", "--dev", "d", "--kb", "kb", *words)
        assert (result, message in err) == (status, True), err
        assert not (tmp_path / "run").exists()

    def test_flags_of_the_original(self, blink: Blink, tmp_path: Path) -> None:
        out, _ = done(blink("slurm", "train", "--data_path", "d", "--output_path", tmp_path / "run", "--nodes", 2, "--dry-run"))
        assert f"--output={tmp_path / 'run' / 'slurm' / 'log' / '%A_%a.out'}" in out


@pytest.mark.usefixtures("short_chunks")
class TestDryRun:
    @pytest.mark.parametrize("command", ["train", "encode", "eval", "link"])
    def test_golden(self, command: str, toy: Path, tmp_path: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch) -> None:
        words: dict[str, tuple[object, ...]] = {
            "train": ("--nodes", 2, "--data", "d", "--kb", "kb", "--out", tmp_path / "run"),
            "encode": (toy / "entity.jsonl", "--out", tmp_path / "kb", "--shard-rows", 8, "--parallel", 2),
            "eval": (toy / "one.jsonl", toy / "two.jsonl", "--out", tmp_path / "scores"),
            "link": (toy / "texts.txt", "--shards", 5, "--out", tmp_path / "links.jsonl", "--account", "nlp"),
        }
        file = tmp_path / "site.ini"
        file.write_text("[slurm]\npartition = learnfair\ngpus = 8\ncpus = 24\nmem_gb = 400\ntime_min = 3000\n")
        monkeypatch.setenv("BLINK_CLUSTER", str(file))
        monkeypatch.setenv("BLINK_DRY_RUN", "1")
        out, err = done(blink("slurm", command, *words[command]))
        script = out.replace(str(tmp_path), "/lab").replace(sys.executable, "python3")
        golden = GOLDEN / f"command-{command}.sh"
        if os.environ.get("BLINK_GOLDEN") == "write":
            golden.write_text(script)
        assert script == golden.read_text()
        assert err == ""
        assert [p.name for p in tmp_path.iterdir()] == ["site.ini"]


class TestSubmission:
    def test_detached_and_attached_again(self, toy: Path, tmp_path: Path, blink: Blink, slurm: FakeSlurm) -> None:
        site = tmp_path / "site.ini"
        site.write_text("[slurm]\npartition = learnfair\n")
        words = encode(toy, tmp_path / "kb", "--settings", site, "--gpus", 2, "--detach")
        _, err = done(blink(*words))
        assert "submitted 3 of 3 shards as job 1" in err
        assert "submitted the merge as job 2" in err
        assert "not waiting for the jobs" in err
        assert "#SBATCH --partition=learnfair\n#SBATCH --gres=gpu:2\n#SBATCH --array=0-2\n" in slurm.script(1)
        assert "#SBATCH --dependency=afterok:1\n" in slurm.script(2)
        handed_on = (slurm.folder / "environment").read_text()
        assert f"BLINK_CLUSTER={site}\n" in handed_on
        assert "BLINK_GPUS=2\n" in handed_on
        slurm.queue(*(f"1_{n}|PENDING|Priority" for n in range(3)), "2|PENDING|Dependency")
        _, err = done(blink(*words))
        assert "submitted" not in err
        assert len(slurm.calls("sbatch")) == 2

    def test_detached_here(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        status, _, err = blink(*encode(toy, tmp_path / "kb", "--submit", "local", "--detach"))
        assert (status, "--detach leaves jobs to Slurm" in err) == (1, True)

    def test_a_partition_that_does_not_exist(self, toy: Path, tmp_path: Path, blink: Blink, slurm: FakeSlurm) -> None:
        slurm.refuse("sbatch: error: invalid partition specified: nix\n")
        status, _, err = blink(*encode(toy, tmp_path / "kb", "--partition", "nix"))
        assert status == 1
        expected = (
            "blink: Slurm refused the job: invalid partition specified: nix; partition is 'nix' (from --partition), there are:"
        )
        assert err.splitlines()[-1].startswith(expected)
        assert len(err.splitlines()) == 1

    def test_two_commands_at_once(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        job = tmp_path / "kb" / "slurm"
        job.mkdir(parents=True)
        with locked_elsewhere(job):
            status, _, err = blink(*encode(toy, tmp_path / "kb", "--submit", "local"))
        assert (status, "another process is writing to" in err) == (1, True)


class TestTask:
    def test_no_job(self, tmp_path: Path, blink: Blink) -> None:
        status, _, err = blink("slurm", "task", tmp_path)
        assert (status, "is no folder of a job" in err) == (1, True)

    @pytest.mark.usefixtures("here")
    def test_a_shard_there_is_not(self, toy: Path, tmp_path: Path, blink: Blink) -> None:
        done(blink(*encode(toy, tmp_path / "kb", "--no-merge")))
        status, _, err = blink("slurm", "task", tmp_path / "kb" / "slurm", "--shard", 3)
        assert (status, "the shard is 3; this job has 3, from 0" in err) == (1, True)


class TestSettings:
    def test_values_and_origins(self, tmp_path: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BLINK_GPUS", "8")
        file = tmp_path / "site.ini"
        file.write_text("[slurm]\npartition = learn fair\n[sizes]\nlarge = /toy\n")
        out, _ = done(blink("slurm", "settings", "--settings", file))
        lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
        assert lines["slurm.gpus"] == ["8", "BLINK_GPUS"]
        assert lines["slurm.partition"] == ["learn", "fair", str(file)]
        assert lines["sizes.large"] == ["/toy", str(file)]
        assert lines["slurm.account"] == ["-", "default"]
        out, _ = done(blink("slurm", "settings", "--settings", file, "--export"))
        assert out == "export SBATCH_PARTITION='learn fair'\nexport SBATCH_GRES=gpu:8\n"

    def test_the_example_is_read(self, root: Path, blink: Blink) -> None:
        out, _ = done(blink("slurm", "settings", "--settings", root / "examples" / "cluster.ini"))
        assert "slurm.partition" in out

    def test_help_teaches(self, blink: Blink) -> None:
        out, _ = done(blink("slurm", "--help"))
        assert "BLINK_CLUSTER" in out
        for command in ("train", "encode", "eval", "link", "settings"):
            text, _ = done(blink("slurm", command, "--help"))
            assert "Example" in text
            assert command in out
        assert "task" not in [line.split()[0] for line in out.splitlines() if line.strip()]


@pytest.mark.slow
def test_local_processes_give_the_same(toy: Path, tmp_path: Path, blink: Blink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for real: each shard and the merge as processes of their own."""
    arguments = ("--shard-rows", ROWS // 2)
    done(blink(*encode(toy, tmp_path / "kb", *arguments, "--submit", "local", "--parallel", 2)))
    monkeypatch.setattr(follow, "submitter", lambda settings: Here())
    done(blink(*encode(toy, tmp_path / "here", *arguments)))
    same_files(tmp_path / "kb", tmp_path / "here")
