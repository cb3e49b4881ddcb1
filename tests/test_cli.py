"""The contract of the commands, and one clear line for every bad input."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcomes import one_clear_line
from toys import change_manifest

from blink.linking.starter import starter_kb

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def starter() -> Path:
    return starter_kb()


def outside(root: Path, *arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a process of its own, as users do: no PYTHONPATH, the default backend."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BLINK_BACKEND")} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "blink.apps.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, timeout=120, check=False, **options)


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def entities(tmp_path: Path) -> Path:
    rows = [
        {"title": "Ada Lovelace", "text": "English mathematician who wrote about the Analytical Engine.", "kb_idx": "Q7259"},
        {"title": "Danube", "text": "River from the Black Forest to the Black Sea.", "kb_idx": "Q1653", "aliases": ["Donau"]},
        {"title": "Vienna", "text": "Capital of Austria, on the Danube.", "kb_idx": "Q1741"},
    ]
    return write_lines(tmp_path / "entity.jsonl", rows)


class TestContract:
    def test_link_json_has_the_promised_keys(self, blink: Run, starter: Path) -> None:
        status, out, err = blink("link", "The Nile flows through Egypt.", "nothing of note here", "--json")
        assert (status, err) == (0, "")
        first, second = map(json.loads, out.splitlines())
        assert list(first) == ["text", "links"]
        assert second == {"text": "nothing of note here", "links": []}
        assert [link["kb_id"] for link in first["links"]] == ["Q3392", "Q79"]
        for link in first["links"]:
            assert list(link) == [
                "start",
                "end",
                "mention",
                "row",
                "kb_id",
                "title",
                "score",
                "description",
                "url",
                "types",
                "candidates",
            ]
            assert first["text"][link["start"] : link["end"]] == link["mention"]
            assert list(link["candidates"][0]) == ["row", "kb_id", "title", "score"]
            assert link["candidates"][0]["row"] == link["row"]
            assert 0 < link["score"] <= 1

    def test_the_starter_has_a_name(self, blink: Run, starter: Path) -> None:
        named = blink("link", "The Nile flows through Egypt.", "--json", "--model", "starter")
        assert named == blink("link", "The Nile flows through Egypt.", "--json")
        assert "Q3392" in named[1]

    def test_link_reads_a_file_and_keeps_blank_lines(self, blink: Run, starter: Path, tmp_path: Path) -> None:
        file = tmp_path / "texts.txt"
        file.write_bytes("\ufeffParis is in France\r\n\r\nhello\n".encode())
        status, out, _ = blink("link", "--file", file, "--json")
        assert status == 0
        assert [json.loads(line)["text"] for line in out.splitlines()] == ["Paris is in France", "", "hello"]

    def test_threshold_only_removes_links_here(self, blink: Run, starter: Path) -> None:
        links = []
        for threshold in (0.01, 1):
            _, out, _ = blink("link", "Mozart was born in Salzburg", "--json", "--threshold", threshold)
            links.append(json.loads(out)["links"])
        assert links[0]
        assert links[1] == []

    def test_without_rank_scores_are_the_bi_encoder_s(self, blink: Run, starter: Path) -> None:
        scores = []
        for flag in ("--rank", "--no-rank"):
            _, out, _ = blink("link", "The Nile flows through Egypt.", "--json", "--threshold", -5, flag)
            scores.append([(x["mention"], x["score"]) for x in json.loads(out)["links"]])
        assert scores[0] != scores[1]

    def test_eval_json_has_the_promised_keys(self, blink: Run, starter: Path, root: Path, tmp_path: Path) -> None:
        out, rows = tmp_path / "scores.json", tmp_path / "rows.jsonl"
        status, text, _ = blink("eval", root / "tests/data/everyday-dev.jsonl", "--json", out, "--rows", rows)
        assert status == 0
        assert "covered weak" in text
        report = json.loads(out.read_text())
        assert {"questions", "threshold", "all", "covered", "questions_per_s"} <= report.keys()
        for section in ("all", "covered"):
            for matching in ("weak", "strong"):
                keys = {"precision", "recall", "f1", "f1_low", "f1_high", "correct", "predicted", "gold"}
                assert set(report[section][matching]) == keys
                assert report[section][matching]["f1_low"] <= report[section][matching]["f1"]
        texts = (root / "tests/data/everyday-dev.jsonl").read_text().splitlines()
        assert len(rows.read_text().splitlines()) == report["questions"] == len(texts)

    @pytest.mark.parametrize("index", ["flat", "hnsw", "ivfflat"])
    def test_kb_build_then_link(self, blink: Run, entities: Path, tmp_path: Path, index: str) -> None:
        status, _, err = blink("kb", "build", entities, "--out", tmp_path / "kb", "--index", index)
        assert status == 0, err
        status, out, _ = blink("link", "Ada Lovelace never saw Vienna.", "--kb", tmp_path / "kb", "--json")
        assert status == 0
        assert [link["title"] for link in json.loads(out)["links"]] == ["Ada Lovelace", "Vienna"]

    def test_a_title_wins_over_a_description_that_names_it(self, blink: Run, entities: Path, tmp_path: Path) -> None:
        assert blink("kb", "build", entities, "--out", tmp_path / "kb")[0] == 0
        _, out, _ = blink("link", "The Danube runs past Vienna.", "--kb", tmp_path / "kb", "--json")
        assert [link["title"] for link in json.loads(out)["links"]] == ["Danube", "Vienna"]

    def test_every_command_teaches(self, blink: Run) -> None:
        for command in ([], ["link"], ["eval"], ["kb"], ["kb", "build"], ["train"], ["shell"], ["compare"]):
            status, out, _ = blink(*command, "--help")
            assert status == 0
            assert "Usage: blink" in out

    def test_pipe(self, root: Path, starter: Path) -> None:
        done = outside(root, "link", "--json", "--backend", "onnx", input=b"Rome is old\nno names\n")
        assert done.returncode == 0
        assert [json.loads(line)["text"] for line in done.stdout.decode().splitlines()] == ["Rome is old", "no names"]


class TestBadInput:
    def test_empty_text(self, blink: Run) -> None:
        one_clear_line(*blink("link", "")[::2], "empty")

    def test_nothing_to_link_in_a_file(self, blink: Run, starter: Path, tmp_path: Path) -> None:
        (tmp_path / "empty.txt").touch()
        one_clear_line(*blink("link", "--file", tmp_path / "empty.txt")[::2], "empty")

    def test_missing_file(self, blink: Run) -> None:
        one_clear_line(*blink("link", "--file", "nowhere.txt")[::2], "nowhere.txt")
        one_clear_line(*blink("eval", "nowhere.jsonl")[::2], "nowhere.jsonl")
        one_clear_line(*blink("kb", "build", "nowhere.jsonl", "--out", "x")[::2], "nowhere.jsonl")

    def test_nul_and_lone_surrogates(self, blink: Run, starter: Path, tmp_path: Path) -> None:
        (tmp_path / "nul.txt").write_bytes(b"fine\nnot \0 fine\n")
        one_clear_line(*blink("link", "--file", tmp_path / "nul.txt")[::2], "line 2", "NUL")
        one_clear_line(*blink("link", "half \ud83d a pair")[::2], "surrogate")

    def test_bytes_that_are_no_text(self, blink: Run, root: Path, starter: Path, tmp_path: Path) -> None:
        (tmp_path / "latin.txt").write_bytes("Besançon\n".encode("latin-1"))
        one_clear_line(*blink("link", "--file", tmp_path / "latin.txt")[::2], "line 1", "UTF-8")
        done = outside(root, "link", b"caf\xe9".decode("utf-8", "surrogateescape"))
        one_clear_line(done.returncode, done.stderr.decode(), "text 1")

    @pytest.mark.parametrize("sentences", [1_000, pytest.param(13_600, marks=pytest.mark.slow)])
    def test_a_long_text_on_one_line_is_linked(self, root: Path, starter: Path, sentences: int) -> None:
        """A megabyte of it among the slow tests."""
        text = "The ferry left Lisbon at dawn and nobody on board could sleep any longer. " * sentences
        done = outside(root, "link", "--json", "--backend", "onnx", input=text.encode())
        assert done.returncode == 0, done.stderr
        links = json.loads(done.stdout)["links"]
        assert len(text) > 70_000
        assert sum(link["mention"] == "Lisbon" for link in links) >= 0.95 * sentences

    def test_unknown_options_and_values(self, blink: Run) -> None:
        one_clear_line(*blink("link", "x", "--nonsense")[::2], "--nonsense")
        one_clear_line(*blink("link", "x", "--precision", "fp7")[::2], "fp7", "bf16")
        one_clear_line(*blink("link", "x", "--threshold", "high")[::2], "high")
        one_clear_line(*blink("link", "x", "--batch-size", "0")[::2], "0")
        one_clear_line(*blink("link", "x", "--device", "cuda:99")[::2], "cuda")
        one_clear_line(*blink("flink")[::2], "flink")

    def test_a_model_without_its_kb(self, blink: Run, root: Path) -> None:
        one_clear_line(*blink("link", "x", "--model", root / "models/starter")[::2], "--kb")
        one_clear_line(*blink("link", "x", "--kb", root / "tests")[::2], "not a knowledge base", "blink kb build")

    def test_broken_catalogue_lines_are_named(self, blink: Run, tmp_path: Path) -> None:
        broken = tmp_path / "entity.jsonl"
        broken.write_text('{"title": "One"}\n{"title": \n{"text": "no title"}\n{"title": "Two"}\n{"title": "Three"}\n')
        one_clear_line(*blink("kb", "build", broken, "--out", tmp_path / "kb")[::2], "line 2", "--skip-bad")
        status, _, err = blink("kb", "build", broken, "--out", tmp_path / "kb", "--skip-bad")
        assert status == 0, err
        assert "2 lines skipped" in err

    def test_malformed_mention_file(self, blink: Run, tmp_path: Path) -> None:
        file = write_lines(tmp_path / "m.jsonl", [{"text": "abc", "mentions": [[0, 9]], "label_id": [0]}])
        one_clear_line(*blink("eval", file)[::2], "line 1", "[0, 9)")
        some = {"text": "abc", "mentions": [[0, 3]], "label_id": [0]}
        file = write_lines(tmp_path / "u.jsonl", [some, {"text": "abc"}])
        one_clear_line(*blink("eval", file)[::2], "gold mentions")

    def test_damaged_model(self, blink: Run, root: Path, starter: Path, tmp_path: Path) -> None:
        model = tmp_path / "model"
        model.mkdir()
        for file in filter(Path.is_file, (root / "models/starter").iterdir()):
            (model / file.name).write_bytes(file.read_bytes())
        weights = model / "adapters.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        one_clear_line(*blink("link", "x", "--model", model, "--kb", starter)[::2], "adapters.safetensors")
        weights.unlink()
        one_clear_line(*blink("link", "x", "--model", model, "--kb", starter)[::2], "adapters.safetensors")

    def test_kb_of_another_model(self, blink: Run, starter: Path, tmp_path: Path) -> None:
        kb = tmp_path / "kb"
        kb.mkdir()
        for file in starter.glob("*.*"):
            (kb / file.name).write_bytes(file.read_bytes())
        change_manifest(kb, model="0" * 64)
        one_clear_line(*blink("link", "x", "--kb", kb)[::2], "another model", "blink kb build")

    def test_full_disk_leaves_what_was_good(self, root: Path, entities: Path, starter: Path, tmp_path: Path) -> None:
        kb = tmp_path / "kb"
        assert outside(root, "kb", "build", entities, "--out", kb).returncode == 0
        before = {f.name: f.read_bytes() for f in kb.iterdir() if f.is_file()}
        many = write_lines(tmp_path / "many.jsonl", [{"title": f"Entity {i}", "text": "word " * 20} for i in range(300)])

        def small_disk() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

        done = outside(root, "kb", "build", many, "--out", kb, preexec_fn=small_disk)
        one_clear_line(done.returncode, done.stderr.decode().replace("reading catalogue ...\n", ""), "disk")
        assert {f.name: f.read_bytes() for f in kb.iterdir() if f.is_file()} == before

    def test_unwritable_output(self, blink: Run, root: Path, starter: Path, tmp_path: Path) -> None:
        dev = root / "tests/data/everyday-dev.jsonl"
        one_clear_line(*blink("eval", dev, "--json", tmp_path / "no" / "out.json")[::2], "does not exist")
        (tmp_path / "file").touch()
        status, _, err = blink("kb", "build", dev, "--out", tmp_path / "file" / "kb")
        one_clear_line(status, err.replace("reading catalogue ...\n", ""))
