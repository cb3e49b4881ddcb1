"""Builds a packed dataset from parsed pages and an entity vocabulary, in parallel; a stopped build is resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.errors import DataError, SettingsError
from blink.files import locked, sha256, write_json
from blink.work_folders import remove_work_folder, work_folder
from examples.luke.tokenizer import PlainTokenizer
from examples.pretraining.dataset import FORMAT, METADATA_FILE, VOCAB_FILE, PackedDataset, join_shards, save_shard, to_arrays
from examples.pretraining.dump_db import DumpDb, begin_folder, read_shard
from examples.pretraining.pool import spread
from examples.pretraining.sentences import make_splitter
from examples.pretraining.settings import DatasetChoice
from examples.pretraining.vocabulary import UNK, TitleIndex, read_vocab, write_title_index
from examples.pretraining.windows import Window, WindowMaker

_WORK_FOLDER = ".build"


@dataclass(frozen=True)
class _Job:
    source: Path
    target: Path
    articles: int | None


def build_dataset(
    db: DumpDb,
    tokenizer_name: str,
    vocab_path: str | Path,
    folder: str | Path,
    choice: DatasetChoice,
    *,
    pool_size: int = 1,
    progress: Callable[[int], None] = lambda windows: None,
) -> PackedDataset:
    """Build a dataset; shards that an earlier, stopped build completed are kept.

    Args:
        db: parsed pages.
        tokenizer_name: folder or name of a byte-level BPE tokenizer, as RoBERTa and LUKE have.
        vocab_path: entity vocabulary.
        folder: output folder.
        choice: contents of the dataset.
        pool_size: processes.
        progress: called after each shard with its number of windows.

    Raises:
        MismatchError: the folder was started with other settings or files, or the tokenizer is of another kind.
        DataError: there are no windows, or an input is malformed.
    """
    folder, work = Path(folder), Path(folder) / _WORK_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        request = {
            **choice.to_dict(),
            "vocab": sha256(vocab_path),
            "tokenizer": tokenizer_name,
            "pages": db.metadata,
            "format": FORMAT,
        }
        begin_folder(folder, request)
        if not (folder / METADATA_FILE).is_file():
            work_folder(work, ("tokenizer",))
            _build(db, tokenizer_name, Path(vocab_path), folder, choice, pool_size, progress)
            remove_work_folder(work)
    return PackedDataset(folder)


def _build(
    db: DumpDb,
    tokenizer_name: str,
    vocab_path: Path,
    folder: Path,
    choice: DatasetChoice,
    pool_size: int,
    progress: Callable[[int], None],
) -> None:
    from transformers import AutoTokenizer

    vocab, work = read_vocab(vocab_path), folder / _WORK_FOLDER
    tokenizer = load_tokenizer(tokenizer_name)
    tokenizer.save_pretrained(work / "tokenizer")
    write_title_index(work, vocab.ids(choice.language), db.redirects())
    shards = [work / f"part-{number:06d}.npz" for number in range(len(db.shards))]
    jobs = [job for job in _jobs(db, shards, choice.max_num_documents) if not job.target.is_file()]
    for windows in spread(_make_shard, jobs, pool_size, _set_up, (work, choice, vocab.row(UNK))):
        progress(windows)
    counts = join_shards([shard for shard in shards if shard.is_file()], folder)
    if not counts["number_of_items"]:
        raise DataError(
            "no window is left: no sentence has a link to a title of the vocabulary; check --vocab-size and the dump"
        )
    vocab.write(folder / VOCAB_FILE, choice.language)
    AutoTokenizer.from_pretrained(work / "tokenizer").save_pretrained(folder)
    about = {**choice.limits.to_dict(), "language": choice.language, "tokenizer_class": type(tokenizer).__name__}
    write_json(folder / METADATA_FILE, {"format": FORMAT, **counts, **about, "entity_vocab_size": len(vocab)})


def _jobs(db: DumpDb, shards: list[Path], most: int | None) -> Iterator[_Job]:
    chunk = db.metadata["chunk_size"]
    for number, (source, target) in enumerate(zip(db.shards, shards, strict=True)):
        if most is None:
            yield _Job(source, target, None)
        elif (n_articles := most - number * chunk) > 0:
            yield _Job(source, target, n_articles)


class _Worker:
    """State of a process between shards."""

    def __init__(self, work: Path, choice: DatasetChoice, unk: int) -> None:
        plain_tokenizer = PlainTokenizer(load_tokenizer(str(work / "tokenizer")))
        self.rows, self.choice = TitleIndex(work), choice
        self.maker = WindowMaker(plain_tokenizer, make_splitter(choice.sentence_splitter), self.rows.get, unk, choice.limits)

    def windows(self, job: _Job) -> Iterator[tuple[int, Window]]:
        for number, article in enumerate(read_shard(job.source)):
            if number == job.articles:
                return
            row = self.rows.get(article.title)
            if row is not None or not self.choice.predefined_entities_only:
                yield from ((-1 if row is None else row, window) for window in self.maker.windows(article))


_worker: list[_Worker] = []


def _set_up(work: Path, choice: DatasetChoice, unk: int) -> None:
    _worker[:] = [_Worker(work, choice, unk)]


def _make_shard(job: _Job) -> int:
    windows = list(_worker[0].windows(job))
    save_shard(job.target, to_arrays(windows))
    return len(windows)


def load_tokenizer(name: str) -> Any:
    """A tokenizer, by folder or name.

    Raises:
        SettingsError: there is none, or it is not a fast tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        problem = f"{name!r} is no tokenizer that can be loaded ({str(error).splitlines()[0]})"
        raise SettingsError(f"{problem}; give a folder with tokenizer files, or a name such as roberta-base") from error
    if not getattr(tokenizer, "is_fast", False):
        raise SettingsError(f"{name!r} holds no fast tokenizer; give a folder with tokenizer.json, such as roberta-base has")
    return tokenizer
