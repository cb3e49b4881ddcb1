"""Fixtures: the command line in this process, the tiny dump as a dataset, a small RoBERTa."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretraining_toys import TINY_DUMP, Examples, roberta_folder

from examples.pretraining.build_dataset import build_dataset
from examples.pretraining.dataset import PackedDataset
from examples.pretraining.dump_db import build_dump_db
from examples.pretraining.settings import DatasetChoice, WindowLimits
from examples.pretraining.vocabulary import VocabChoice, build_vocab


@pytest.fixture
def examples(capfd: pytest.CaptureFixture[str]) -> Examples:
    """Runs a command of `examples.cli` in this process: exit status, standard output, standard error."""
    from blink.apps.common import guarded
    from examples.cli import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        words = [str(a) for a in arguments]
        try:
            status = guarded(lambda: cli.main(words, prog_name="examples", standalone_mode=False), "examples")
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    return run


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained RoBERTa."""
    return roberta_folder(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(scope="session")
def dataset(roberta: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """The tiny dump in windows of 48 tokens."""
    folder = tmp_path_factory.mktemp("dataset")
    db = build_dump_db(TINY_DUMP, folder / "db")
    build_vocab(db, VocabChoice()).write(folder / "entity_vocab.jsonl")
    choice = DatasetChoice(limits=WindowLimits(max_seq_length=48))
    return build_dataset(db, str(roberta), folder / "entity_vocab.jsonl", folder / "data", choice)
