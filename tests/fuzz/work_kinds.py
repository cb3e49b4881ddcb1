"""Kinds that work is given or leaves behind: plans, jobs, lists, manifests, predictions and files of the original."""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tests.fuzz.artefact_kinds import LINK, prior, training
from tests.fuzz.kinds import Kind
from tests.fuzz.text_kinds import PEOPLE, TEXTS, lines, write


def merge_plan(folder: Path) -> None:
    """A knowledge base with two entities that look like one, the plan to merge them, and labelled pairs."""
    from blink.resolve import merges
    from tests.resolve_toys import base

    kb = base(
        folder / "kb", [{"title": "Jena", "text": "city in Thuringia", "kb_idx": f"Q{i}", "types": ["city"]} for i in (1, 2)]
    )
    (folder / "kb.jsonl").unlink()
    a, b = kb.catalogue[0], kb.catalogue[1]
    merge = merges.Merge(merges.Side.of(a), merges.Side.of(b), 0.97, ("equal names",), approved=True)
    merges.MergePlan((merge,), 0.5).save(folder / "plan.json")
    pairs = [{"a": PEOPLE[0], "b": PEOPLE[i % 3], "same": i % 3 < 2} for i in range(24)]
    write(folder / "pairs.jsonl", lines(pairs))


def apply_merges(folder: Path, file: Path) -> None:
    """Merge what the plan says."""
    from blink.resolve import merges
    from tests.resolve_toys import reopened

    print(len(merges.apply(reopened(folder / "kb"), merges.MergePlan.load(folder / "plan.json"))))


def fit_pairs(folder: Path, file: Path) -> None:
    """Select a threshold on the pairs."""
    from blink.resolve.commands import fit_on_pairs
    from tests.resolve_toys import encode_words

    print(list(fit_on_pairs(str(folder / "pairs.jsonl"), encode=encode_words, out=str(folder / "scorer.json"))))


def job(folder: Path) -> None:
    """The folder of a cluster's job of which one shard is done."""
    from blink.cluster.jobs import JobFolder, Plan, Submission

    plan = Plan("encode", {"out": "kb", "shard_rows": 4}, {"catalogue": "abc"}, ((0, 4), (4, 8), (8, 10)), "entity")
    opened = JobFolder(folder / "kb" / "slurm")
    opened.begin(plan)
    opened.submitted(Submission("17", (0, 1)))
    opened.submitted(Submission("18_4", ()))
    opened.finish(0, 4, [write(folder / "kb" / "0.npy", bytes(100))])


def read_job(folder: Path, file: Path) -> None:
    """Say what is done and what is missing."""
    from blink.cluster.jobs import JobFolder

    opened = JobFolder(folder / "kb" / "slurm")
    print(asdict(opened.plan()), opened.missing(), opened.submissions())


def lists(folder: Path) -> None:
    """Lists of entities, a token, and a knowledge base to look entities up in."""
    from tests.resolve_toys import base

    base(folder / "kb", [{"title": f"Town {i}", "kb_idx": f"Q{i}"} for i in range(8)])
    write(folder / "allow.txt", "Q1\nrow:3\n# a comment\n\nQ5\tFive\n")
    write(folder / "token.txt", "0123456789abcdef\n")


def read_lists(folder: Path, file: Path) -> None:
    """Filter by the list, and read the token."""
    from blink.kb.where import Where
    from blink.serving.tokens import read_token
    from tests.resolve_toys import reopened

    where = Where.of_files([folder / "allow.txt"])
    print(where, len(read_token(str(folder / "token.txt")) or ""), len(reopened(folder / "kb").catalogue))


def manifest(folder: Path) -> None:
    """The list of published files, and the record of those that are there."""
    import hashlib

    content = b"one line\n"
    digest = hashlib.sha256(content).hexdigest()
    entry = {"name": "a.bin", "target": "a.bin", "path": "a.bin", "bytes": len(content), "groups": ["default"]}
    entry |= {"purpose": "a", "sha256": digest}
    write(
        folder / "models" / "MANIFEST.json",
        json.dumps({"base_url": "http://127.0.0.1:9", "groups": {"default": "d"}, "files": [entry]}),
    )
    write(folder / "models" / "a.bin", content)
    _download(folder, "--verify")


def _download(folder: Path, *arguments: str) -> int:
    from blink.apps.download.commands import main

    sys.argv = ["download_models.sh", *arguments]
    return main(folder)


def read_manifest(folder: Path, file: Path) -> int:
    """List and verify."""
    return _download(folder, "--list") or _download(folder, "--dry-run") or _download(folder, "--verify", "--only", "a.bin")


def legacy(folder: Path) -> None:
    """A folder of predictions as the original writes it."""
    from blink.evaluation.legacy import ARRAYS

    generator = np.random.default_rng(0)
    n, m = 3, 2
    arrays = {
        "mention_bounds": np.tile(np.array([[1, 1], [2, 3]]), (n, 1, 1)),
        "mention_scores": generator.normal(size=(n, m)),
        "nns": np.tile(np.arange(10), (n, m, 1)),
        "cand_scores": generator.normal(size=(n, m, 10)),
    }
    for name, values in arrays.items():
        np.save(folder / ARRAYS[name], values)
    row = {"text": "", "scores": [], "pred_triples": [], "gold_triples": [["3", 1, 2]], "tokens": [7] * 4}
    write(folder / "biencoder_outs.jsonl", lines([{"id": i} | row for i in range(n)]))


def original(folder: Path) -> None:
    """A checkpoint, vectors and a catalogue of the original."""
    from tests.compat.originals import Reference, Shape

    Reference(Shape("plain", context=(16, 1, 2), candidate=(16, 1, 2)), folder / "elq").write()
    write(folder / "texts.jsonl", lines([{"id": str(i), "text": text} for i, text in enumerate(TEXTS) if text]))


def original_texts(folder: Path) -> None:
    """Texts and triples by the names of the original's language models."""
    from tests.kglm.lm_toys import write_world

    write_world(folder / "world")
    rows = (folder / "world" / "lm" / "train.txt").read_text().splitlines(keepends=True)
    for name, selected in (("train", rows[:12]), ("dev", rows[12:16]), ("test", rows[16:])):
        write(folder / "data" / f"{name}_selected.txt.gz", gzip.compress("".join(selected).encode(), mtime=0))


def train_original(folder: Path, file: Path) -> int:
    """Train as the original's command does."""
    from blink.compat.kglm.commands import main
    from blink.kglm.run import KglmRun

    KglmRun.draw = lambda folder, losses, scores: None  # type: ignore[method-assign,assignment]
    line = f"--data_location {folder}/data/ --model-name NAM --exp_num 7 --words.width 8 --train.lines 4 --vocab_size 1"
    return main("train_lm", [*line.split(), "--lstm_layer", "[6]", "--epochs", "1", "--steps-per-epoch-lm", "2", "--seed", "3"])


def entity_tables(folder: Path) -> None:
    """Tables whose texts are embedded, with an encoder."""
    training(folder)
    header = "id\tname\tlabel\tdescription\tresource\ttaxid\tsynonyms\tpmids\txrefs\n"
    rows = (f"Q{i}\tname {i}\tplace\tthing {i} of kind\twd\t\ta|b\t1\t\n" for i in range(4))
    write(folder / "entities.tsv", header + "".join(rows))
    write(folder / "only.txt", "Q1\nQ2\n")


MAIN_DENSE = (
    "main_dense --biencoder_model {}/elq/pytorch_model.bin --biencoder_config {}/elq/training_params.txt "
    "--entity_catalogue {}/elq/entity.jsonl --entity_encoding {}/elq/all_entities.t7 --test_mentions {}/texts.jsonl "
    "--save_preds_dir {}/out --precision fp32"
)
EMBED = "blink kglm embed entities -e {}/entities.tsv -m {}/base -o {}/out.tsv --only {}/only.txt"

KINDS = (
    Kind("merges", merge_plan, (apply_merges,), ("plan.json",)),
    Kind("pairs", merge_plan, (fit_pairs,), ("pairs.jsonl",)),
    Kind("job", job, (read_job,), ("kb/slurm/*", "kb/slurm/*/*", "kb/*.npy")),
    Kind("lists", lists, (read_lists,), ("*.txt",)),
    Kind("download-manifest", manifest, (read_manifest,), ("models/*", "models/.*"), ("models/a.bin",)),
    Kind("legacy-predictions", legacy, ("blink eval --preds {} --json -",), ("*",)),
    Kind(
        "prior-linked",
        prior,
        (LINK + " --prior {}/prior.safetensors",),
        ("prior.safetensors",),
        ("*.safetensors",),
        needs="torch",
    ),
    Kind("original-script", original, (MAIN_DENSE,), ("elq/*", "*.jsonl"), needs="torch", weight=1.5),
    Kind("original-texts", original_texts, (train_original,), ("data/*",), needs="graph"),
    Kind("entity-tables", entity_tables, (EMBED,), ("*.tsv", "only.txt"), needs="torch"),
)
