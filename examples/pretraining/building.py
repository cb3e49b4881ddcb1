"""Implementation of the commands that build data: progress on standard error, and a line about the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blink.apps.common import bar, say
from blink.apps.options import take_settings
from examples.pretraining.build_dataset import build_dataset
from examples.pretraining.dump import Dump
from examples.pretraining.dump_db import BuildProgress, DumpDb, build_dump_db
from examples.pretraining.settings import DatasetChoice, WindowLimits
from examples.pretraining.vocabulary import VocabChoice, build_vocab, first_titles, read_white_list

MEGABYTE = 1 << 20


def make_dump_db(dump: str, out: str, pool_size: int, chunk_size: int) -> None:
    """Parse a dump."""
    with bar("parsing", Dump(dump).bytes // MEGABYTE, "MB") as progress_bar:
        done = 0

        def read(position: int) -> None:
            nonlocal done
            if position // MEGABYTE > done:
                progress_bar.advance(position // MEGABYTE - done)
                done = position // MEGABYTE

        progress = BuildProgress(read, lambda pages: progress_bar.note(f"{pages} new articles"))
        db = build_dump_db(dump, out, pool_size=pool_size, chunk_size=chunk_size, progress=progress)
    say(f"{out}: {db.metadata['articles']} articles and {db.metadata['redirects']} redirects, in {len(db.shards)} files")


def make_entity_vocab(
    dump_db: str,
    out: str,
    vocab_size: int,
    min_count: int,
    language: str | None,
    white_list: Sequence[str],
    white_list_only: bool,
    pool_size: int,
) -> None:
    """Build an entity vocabulary."""
    db = DumpDb(dump_db)
    choice = VocabChoice(vocab_size, min_count, read_white_list(white_list), white_list_only, language)
    with bar("counting links", len(db.shards), "file") as progress:
        vocab = build_vocab(db, choice, pool_size, progress.advance)
    vocab.write(out, language)
    say(f"{out}: {len(vocab)} entities, first {', '.join(first_titles(vocab))}")


def make_dataset(dump_db: str, tokenizer: str, vocab: str, out: str, **options: Any) -> None:
    """Build a dataset."""
    pool_size = options.pop("pool_size")
    choice = DatasetChoice(limits=take_settings(WindowLimits, options), **options)
    db = DumpDb(dump_db)
    n_windows = 0
    with bar("making windows", len(db.shards), "file") as progress_bar:

        def count_windows(windows: int) -> None:
            nonlocal n_windows
            n_windows += windows
            progress_bar.advance()
            progress_bar.note(f"{n_windows} new windows")

        data = build_dataset(db, tokenizer, vocab, out, choice, pool_size=pool_size, progress=count_windows)
    about = data.metadata
    say(f"{out}: {len(data)} windows, {about['number_of_words']} tokens, {about['number_of_links']} links")
