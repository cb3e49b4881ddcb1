"""Instances of `tests.artefacts`: knowledge bases, and work that a kill interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.records import Entity
from tests import toys

MODEL = "fingerprint"
DIM = 16
ROWS = 40


def files_in(folder: Path) -> list[Path]:
    """All files of a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def encode(entities: Sequence[Entity]) -> np.ndarray:
    """Distinct unit vectors that follow from titles. *Shape:* (n, `DIM`), float32."""
    seeds = [int.from_bytes(hashlib.blake2b(e.title.encode(), digest_size=4).digest(), "big") for e in entities]
    vectors = np.stack([np.random.default_rng(seed).normal(size=DIM) for seed in seeds]) if seeds else np.zeros((0, DIM))
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def catalogue_rows(seed: int, n: int = ROWS) -> list[dict[str, Any]]:
    """Lines of a catalogue with types, tags and popularities."""
    lines = toys.rows(n, seed)
    for i, line in enumerate(lines):
        line["title"] += f" {'ab'[seed % 2]}"
        line |= {"types": ["town"], "popularity": 1 + i % 7, "tags": [f"tag {i % 3}"]} if i % 3 else {}
    return lines


# -- knowledge bases -----------------------------------------------------------------------------------------------------


def _build(folder: Path, seed: int, **options: Any) -> None:
    from blink.kb.building import build_knowledge_base

    source = toys.write_catalogue(folder / "source.jsonl", catalogue_rows(seed))
    build_knowledge_base(source, folder / "kb", encode, MODEL, **options)
    source.unlink()


def make_base(folder: Path, seed: int, *, edited: bool = False, **options: Any) -> list[Path]:
    from blink.kb.knowledge_base import KnowledgeBase

    _build(folder, seed, **options)
    if edited:
        kb = KnowledgeBase.open(folder / "kb")
        kb.encode = encode
        kb.add({"title": "Zorblax", "text": "a moon", "kb_idx": "X1"})
        kb.update("Q101", text="changed")
        kb.remove("Q102")
        kb.compact()
        kb.update("Q103", text="changed too")
        kb.add({"title": "Zorblax two", "text": "another moon", "kb_idx": "X2"})
    return files_in(folder / "kb")


def use_base(folder: Path, *, verify: bool = False) -> Any:
    """All that is read of a knowledge base: entities, vectors, hits, names, filters, edits."""
    from blink.kb.knowledge_base import KnowledgeBase

    kb = KnowledgeBase.open(folder / "kb", **({"verify": True} if verify else {}))
    n = len(kb.catalogue)
    entities = [kb.catalogue[row] for row in range(n)]
    queries = encode(entities) if n else np.zeros((0, DIM), np.float32)
    scores, rows = kb.index.search(queries, 3)
    vectors = kb.vectors
    values = None if vectors is None else np.asarray(vectors[np.arange(n)]).tobytes()
    names = kb.names
    looked_up: list[Any] = []
    if names is not None:
        forms = sorted({form for e in entities for form in (e.title, *e.aliases)})
        looked_up += [[(m.row, m.kind) for m in names.alias_table.lookup(form)] for form in forms]
        looked_up += [names.fuzzy_index.compare(e.title, [e.row]).tolist() for e in entities]
        looked_up.append(np.asarray(names.popularity[np.arange(n)]).tobytes())
    looked_up += [kb.search_names(text, 5) for text in ("Georgia", "lake", "Q101")]
    filtered = [None if (s := kb.selector(where)) is None else s.mask.tolist() for where in ("type=town", "tag=tag 1")]
    titles = kb.titles_and_ids(list(range(n)))
    history = [dataclasses.asdict(transaction) for transaction in kb.history()]
    return [entities, titles, scores.tobytes(), rows.tolist(), values, looked_up, filtered, history, kb.digest()]


# -- work that a kill interrupted ----------------------------------------------------------------------------------------


class Killed(BaseException):
    """What stands for a kill in this process."""


def _dying(calls: int) -> Callable[[Sequence[Entity]], np.ndarray]:
    remaining = calls

    def dying(entities: Sequence[Entity]) -> np.ndarray:
        nonlocal remaining
        if not remaining:
            raise Killed
        remaining -= 1
        return encode(entities)

    return dying


def _contents(folder: Path) -> dict[str, str]:
    """Hashes of the files of a folder, without tables of offsets, which hold times."""
    files = (file for file in files_in(folder) if file.suffix != ".offsets")
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def make_chunks(folder: Path, seed: int) -> list[Path]:
    from blink.kb.building import build_knowledge_base

    source = toys.write_catalogue(folder / "source.jsonl", catalogue_rows(seed))
    with contextlib.suppress(Killed):
        build_knowledge_base(source, folder / "kb", _dying(4), MODEL, chunk_rows=8)
    return files_in(folder / "kb")


def use_chunks(folder: Path) -> Any:
    from blink.kb.building import build_knowledge_base

    build_knowledge_base(folder / "source.jsonl", folder / "kb", encode, MODEL, chunk_rows=8)
    return _contents(folder / "kb")


def _encoding(folder: Path, layout: str) -> Any:
    from blink.cluster.encoding import Encoding
    from blink.kb.catalogue import Catalogue

    with Catalogue.open(folder / "source.jsonl", sidecar=folder / "source.offsets") as catalogue:
        return Encoding(str(folder / "source.jsonl"), str(folder / "kb"), layout, 16, ROWS, catalogue.sha256, MODEL)


def make_shards(folder: Path, seed: int, layout: str) -> list[Path]:
    toys.write_catalogue(folder / "source.jsonl", catalogue_rows(seed))
    _encode_shards(folder, layout, kill_after=2)
    return [file for file in files_in(folder) if file.name not in ("source.jsonl", "source.offsets")]


def _encode_shards(folder: Path, layout: str, kill_after: int = 1000) -> None:
    from blink.cluster.jobs import JobFolder, Plan, split_into_shards
    from blink.kb.catalogue import Catalogue

    encoding = _encoding(folder, layout)
    shards = split_into_shards(ROWS, 16)
    job = JobFolder(folder / "slurm")
    work = {"out": "kb", "shard_rows": 16}
    job.begin(Plan("encode", work, {"catalogue": encoding.catalogue_sha256, "model": MODEL}, shards, "entity"))
    encoding.prepare()
    with Catalogue.open(folder / "source.jsonl", sidecar=folder / "source.offsets") as catalogue, contextlib.suppress(Killed):
        for shard in job.missing():
            dying = _dying(kill_after - shard)
            start, end = shards[shard]
            file = encoding.encode(catalogue, dying, start, end, folder / "work" / str(shard), lambda n: None)
            job.finish(shard, end - start, [file])


def use_shards(folder: Path, layout: str) -> Any:
    from blink.cluster.jobs import JobFolder

    encoding, job = _encoding(folder, layout), JobFolder(folder / "slurm")
    _encode_shards(folder, layout)
    for shard in range(len(job.plan().shards)):
        job.check(shard)
    merged = encoding.merge(job.plan().shards)
    return _contents(folder / "kb") if layout == "kb" else hashlib.sha256(merged.read_bytes()).hexdigest()


@contextlib.contextmanager
def _patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def make_bulk(folder: Path, seed: int, ending: str) -> list[Path]:
    from blink.bulk.journal import BulkOutput
    from blink.bulk.run import link_files
    from tests.bulk_toys import ToyLinker, job, write_records

    write_records(folder / "in.jsonl", 30 + 3 * seed)
    commit, remaining = BulkOutput.commit, 3

    def dying(*arguments: Any) -> None:
        nonlocal remaining
        if not remaining:
            raise Killed
        remaining -= 1
        commit(*arguments)

    with contextlib.suppress(Killed), _patched(BulkOutput, "commit", dying):
        link_files(job(folder / "in.jsonl", folder / f"out{ending}"), ToyLinker())
    return [file for file in files_in(folder) if file.name.startswith("out")]


def use_bulk(folder: Path, ending: str) -> Any:
    from blink.bulk.run import link_files
    from tests.bulk_toys import ToyLinker, job, rows

    out = folder / f"out{ending}"
    counts = link_files(job(folder / "in.jsonl", out), ToyLinker())
    return rows(out), counts


def _dump_items(seed: int) -> bytes:
    from tests import dump_toys

    items: list[Any] = [dump_toys.item(5, "human", 0, {"P279": [35120]})]
    items += [
        dump_toys.item(
            100 + i, f"Name {i} of {seed}", 30 + i, {"P31": [5], "P17": [100 + (i + 1) % 20]},
            descriptions=dump_toys.texts(en=f"a thing that is described with words enough to be kept, the {i}th"),
        )
        for i in range(20)
    ]  # fmt: skip
    return dump_toys.wikidata([*items, b"{broken"])


def make_dump(folder: Path, seed: int) -> list[Path]:
    from blink.dumps.journal import Journal

    (folder / "dump").write_bytes(_dump_items(seed))
    commit, remaining = Journal.commit, 6

    def dying(*arguments: Any) -> None:
        nonlocal remaining
        if not remaining:
            raise Killed
        remaining -= 1
        commit(*arguments)

    with contextlib.suppress(Killed), _patched(Journal, "commit", dying):
        use_dump(folder)
    return files_in(folder / "out")


def use_dump(folder: Path) -> Any:
    from blink.dumps import segments
    from blink.dumps.run import run_job
    from blink.dumps.segments import Dump
    from blink.dumps.wikidata import WikidataOptions, wikidata_job

    with _patched(segments, "PLAIN_BYTES", 900):
        run_job(wikidata_job(Dump.open(folder / "dump"), folder / "out", WikidataOptions()))
    return {name: (folder / "out" / name).read_text() for name in ("entity.jsonl", "triples.tsv", "relations.tsv", "dump.json")}
