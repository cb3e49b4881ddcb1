"""Writers of texts, links, corrections, evaluations, records and downloads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import bulk_toys
import dump_toys
import numpy as np
import prior_toys
import toys

from blink.bulk.run import link_files
from blink.completion import as_lines, install
from blink.data.annotation import from_doccano, from_label_studio, to_doccano, to_label_studio
from blink.data.corrections import Corrections
from blink.data.elevant import from_elevant, to_elevant
from blink.data.mention_files import read_samples
from blink.data.mention_store import line_table
from blink.data.prior_file import Prior, read_prior, write_prior
from blink.data.records import Entity, Mention, Sample
from blink.downloads.archives import unpack
from blink.downloads.folder import DownloadError, ModelsFolder, PublishedFile
from blink.dumps.anchors import AnchorOptions, write_anchors
from blink.dumps.run import run_job
from blink.dumps.segments import Dump
from blink.dumps.wikidata import WikidataOptions, wikidata_job
from blink.dumps.wikipedia import WikipediaOptions, wikipedia_job
from blink.errors import DataError, MissingFileError
from blink.files import read_json, read_json_lines, write_json, write_json_lines
from blink.resolve.ledger import Ledger
from blink.resolve.merges import MergePlan
from blink.resolve.scorer import PairScorer
from tests.faults.trial import Work, Writer


def content(path: Path) -> bytes:
    """A file as it is, where its reader takes any bytes."""
    if not path.is_file():
        raise MissingFileError(f"no {path}")
    return path.read_bytes()


def samples(version: int) -> list[Sample]:
    """Labelled texts; many, so that they are written in several calls."""
    texts = [f"where is Oslo {version} {i}?" for i in range(150 + version)]
    return [Sample(str(i), text, (Mention(9, 13, i, f"Q{i}", "Oslo"),)) for i, text in enumerate(texts)]


def listed(read: Callable[[Path], Any], name: str) -> Callable[[Work], Any]:
    """A reader of one file, whose values are compared."""

    def of_file(work: Work) -> Any:
        file = work.root / name
        if not file.is_file():
            raise MissingFileError(f"no {file}")
        return hashlib.sha256(repr(read(file)).encode()).hexdigest()

    return of_file


# -- annotation, corrections, priors ----------------------------------------------------------------------------------


def corrected(work: Work, version: int) -> None:
    corrections = Corrections()
    for i in range(80 * (version + 1)):
        corrections.add(f"where is Oslo {i}?", 9, 13, Entity(i, "Oslo", kb_id=f"Q{i}"))
    corrections.save(work.root / "corrections.jsonl")


def forgotten(work: Work, version: int) -> None:
    if not version:
        corrected(work, 0)
    else:
        Corrections.forget(work.root / "corrections.jsonl", "where is Oslo 3?", 9, 13)


def prior(work: Work, version: int) -> None:
    write_prior(work.root / "graph.prior", Prior(prior_toys.table([f"Q{i}" for i in range(300 + version)], version)))


def of_prior(work: Work) -> Any:
    if not (work.root / "graph.prior").is_file():
        raise MissingFileError("no prior")
    table = read_prior(work.root / "graph.prior").table
    return list(table.ids)[-3:], hashlib.sha256(np.asarray(table.vectors).tobytes()).hexdigest()


def stored_lines(work: Work, version: int) -> None:
    """The table of lines of a large mention file, in a cache: it is made again where it does not fit."""
    if not version:
        write_json_lines(work.inputs / "mentions.jsonl", ({"text": f"text {i}"} for i in range(900)))
        return
    line_table(work.inputs / "mentions.jsonl", work.root)


def of_lines(work: Work) -> Any:
    if not list(work.root.glob("*.npy")):
        raise MissingFileError("no table")
    return line_table(work.inputs / "mentions.jsonl", work.root).tolist()[-3:]


# -- evaluation -------------------------------------------------------------------------------------------------------


def figures(work: Work, version: int) -> None:
    write_json(work.root / "figures.json", {"f1": version, "rows": list(range(3000))})
    write_json_lines(work.root / "rows.jsonl", ({"id": i, "f1": version} for i in range(900)))


def of_figures(work: Work) -> Any:
    """Each of two files is whole; the second follows the first."""
    one = read_json(work.root / "figures.json")["f1"]
    rows = {row["f1"] for _, row in read_json_lines(work.root / "rows.jsonl")}
    if len(rows) != 1:
        raise DataError("rows of two results")
    return max(one, rows.pop())


# -- bulk linking -----------------------------------------------------------------------------------------------------


def texts(work: Work) -> None:
    bulk_toys.write_records(work.inputs / "in.jsonl", 40)


def bulk(name: str, work: Work, version: int) -> None:
    link_files(bulk_toys.job(work.inputs / "in.jsonl", work.root / name), bulk_toys.ToyLinker())


def of_bulk(name: str, work: Work) -> Any:
    if not (work.root / name).is_file():
        raise MissingFileError("no links")
    return bulk_toys.rows(work.root / name)


# -- dumps ------------------------------------------------------------------------------------------------------------


def dumps(work: Work) -> None:
    items = [dump_toys.item(i, f"City {i}", 30 + i, {"P31": [515]}) for i in range(20, 60)]
    dump_toys.stored(work.inputs, dump_toys.wikidata([dump_toys.item(515, "city", 300), *items]))
    pages = [dump_toys.page(i, f"City {i}", f"'''City {i}''' is a city near [[City {i + 1}]].") for i in range(20, 60)]
    (work.inputs / "wikipedia").mkdir()
    dump_toys.stored(work.inputs / "wikipedia", dump_toys.wikipedia(pages))
    source = toys.write_catalogue(work.inputs / "entity.jsonl", [{"title": f"City {i}"} for i in range(20, 60)])
    from blink.kb.building import build_knowledge_base

    build_knowledge_base(source, work.inputs / "kb", toys.letter_counts(), "letters")


def only_file(folder: Path) -> Path:
    return next(
        path for path in folder.iterdir() if (path.is_file() and "dump" in path.name) or path.suffix in (".xml", ".json")
    )


def wikidata(work: Work, version: int) -> None:
    run_job(wikidata_job(Dump.open(only_file(work.inputs)), work.root / "out", WikidataOptions()))


def wikipedia(work: Work, version: int) -> None:
    run_job(wikipedia_job(Dump.open(only_file(work.inputs / "wikipedia")), work.root / "out", WikipediaOptions(min_links=0)))


def anchors(work: Work, version: int) -> None:
    dump = Dump.open(only_file(work.inputs / "wikipedia"))
    write_anchors(dump, work.inputs / "kb", work.root / "anchors.jsonl", AnchorOptions())


def of_dump(work: Work) -> Any:
    """A dump's catalogue is complete once its summary is there."""
    out = work.root / "out"
    if not (out / "dump.json").is_file():
        raise MissingFileError("not complete")
    read_json(out / "dump.json")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir()) if path.is_file()}


# -- resolution -------------------------------------------------------------------------------------------------------


def ledger(work: Work, version: int) -> None:
    noted = Ledger(work.root)
    noted.add({f"{version}-{i}": f"E{i}" for i in range(200)})


def of_ledger(work: Work) -> Any:
    return [len(Ledger(work.root)), Ledger(work.root).entity_of("1-3")]


def merge_plan(work: Work, version: int) -> None:
    MergePlan((), 0.5 + version / 10).save(work.root / "plan.json")


def scorer(work: Work, version: int) -> None:
    from dataclasses import replace

    PairScorer.load().__class__.save(replace(PairScorer.load(), about={"version": version}), work.root / "scorer.json")


# -- downloads --------------------------------------------------------------------------------------------------------


def published(name: str) -> PublishedFile:
    return PublishedFile(name, name, name, ["default"], "a test")


def as_command(act: Callable[[], Any]) -> None:
    try:
        act()
    except DownloadError as error:
        raise DataError(str(error)) from error


def download_noted(work: Work, version: int) -> None:
    """The record of a file that was downloaded; the new state has one more."""
    file = work.inputs / f"{version}.bin"
    file.write_bytes(b"bytes" * 2000)
    name = published(f"{version}.bin")
    as_command(lambda: ModelsFolder(work.root, "http://host").record(name, f"{version}" * 64, file))


def of_downloads(work: Work) -> Any:
    folder = ModelsFolder(work.root, "http://host")
    return [folder.recorded(published(f"{version}.bin")) for version in (0, 1)]


def archive(work: Work) -> None:
    import tarfile

    with tarfile.open(work.root / "model.tar.gz", "w:gz") as packed:
        for name in ("a", "b"):
            (work.inputs / name).write_bytes(name.encode() * 3000)
            packed.add(work.inputs / name, f"model/{name}")


def unpacked(work: Work, version: int) -> None:
    as_command(lambda: unpack(work.root / "model.tar.gz", "0" * 64))


def of_unpacked(work: Work) -> Any:
    folder = work.root / "model"
    if not folder.is_dir():
        raise MissingFileError("not unpacked")
    if (folder / ".unpacked").read_text().strip() != "0" * 64:
        raise DataError("a folder that was not unpacked whole")
    return [(folder / name).read_bytes() == name.encode() * 3000 for name in ("a", "b")]


# -- the machine of a user --------------------------------------------------------------------------------------------


def completion(work: Work, version: int) -> None:
    os.environ |= {
        "HOME": str(work.root),
        "XDG_CONFIG_HOME": str(work.root),
        "XDG_DATA_HOME": str(work.root),
        "ZDOTDIR": str(work.root),
    }
    if not version:
        (work.root / ".zshrc").write_text("export A=1\n" * 500)
        return
    as_lines(install("zsh"))


def of_completion(work: Work) -> Any:
    text = (work.root / ".zshrc").read_text()
    if not text.startswith("export A=1\n" * 500):
        raise DataError("lines of the user are lost")
    return len(text) > 11 * 500


def history(work: Work, version: int) -> None:
    from blink.apps.shell.terminal import open_history

    open_history(work.root / "history").append_string(f"text {version}\n")


def of_history(work: Work) -> Any:
    from blink.apps.shell.terminal import open_history

    lines = {line.strip() for line in open_history(work.root / "history").load_history_strings()}
    if not lines <= {"text 0", "text 1"}:
        raise DataError(f"not what was typed: {lines}")
    return sorted(lines)


WRITERS: Sequence[Writer] = (
    Writer("corrections", corrected, listed(lambda file: list(read_samples(file)), "corrections.jsonl")),
    Writer("correction withdrawn", forgotten, listed(lambda file: list(read_samples(file)), "corrections.jsonl")),
    Writer(
        "convert to Label Studio",
        lambda work, version: to_label_studio(samples(version), work.root / "out.json"),
        listed(lambda file: list(from_label_studio(file, None)), "out.json"),  # type: ignore[arg-type]
    ),
    Writer(
        "convert to doccano",
        lambda work, version: to_doccano(samples(version), work.root / "out.jsonl"),
        listed(lambda file: list(from_doccano(file, None)), "out.jsonl"),  # type: ignore[arg-type]
    ),
    Writer(
        "convert to ELEVANT",
        lambda work, version: to_elevant(samples(version), work.root / "out.jsonl"),
        listed(lambda file: list(from_elevant(file, None)), "out.jsonl"),  # type: ignore[arg-type]
    ),
    Writer("prior file", prior, of_prior),
    Writer("table of lines", stored_lines, of_lines),
    Writer("results of an evaluation", figures, of_figures),
    Writer("link --out .jsonl", partial(bulk, "links.jsonl"), partial(of_bulk, "links.jsonl"), texts, old=False),
    Writer("link --out .jsonl.gz", partial(bulk, "links.jsonl.gz"), partial(of_bulk, "links.jsonl.gz"), texts, old=False),
    Writer("link --out .csv", partial(bulk, "links.csv"), partial(of_bulk, "links.csv"), texts, old=False),
    Writer("link --out .parquet", partial(bulk, "links.parquet"), partial(of_bulk, "links.parquet"), texts, old=False),
    Writer("kb from-wikidata", wikidata, of_dump, dumps, old=False),
    Writer("kb from-wikipedia", wikipedia, of_dump, dumps, old=False),
    Writer(
        "anchors of Wikipedia",
        anchors,
        listed(lambda file: list(read_samples(file)), "anchors.jsonl"),
        dumps,
        old=False,
        repeats=False,
    ),
    Writer("ledger of resolved records", ledger, of_ledger),
    Writer("plan of merges", merge_plan, listed(lambda file: MergePlan.load(file).to_json(), "plan.json")),
    Writer("weights of pairs", scorer, listed(lambda file: dict(PairScorer.load(file).about), "scorer.json")),
    Writer("record of downloads", download_noted, of_downloads),
    Writer("unpacked archive", unpacked, of_unpacked, archive, old=False),
    Writer("completion of a shell", completion, of_completion),
    Writer("history of the shell", history, of_history, required=False),
)
