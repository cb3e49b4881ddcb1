"""The command ``reading-comprehension``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from blink.apps.common import bar, say
from blink.apps.options import settings_options
from blink.errors import MissingFileError
from examples.luke.options import Common, TaskGroup, run_options, take_plan
from examples.reading_comprehension.options import QaOptions

USUAL_FILES = {
    "wiki_link_db_file": "enwiki_20160305.pkl",
    "link_redirects_file": "enwiki_20160305_redirects.pkl",
    "model_redirects_file": "enwiki_20181220_redirects.pkl",
}
"""Default files, used if they exist in the working folder."""


@click.group("reading-comprehension", cls=TaskGroup)
def command() -> None:
    """Answers in a passage (SQuAD)."""


@command.command()
@run_options("data/squad", seed=14, train_batch_size=2, eval_batch_size=32, num_train_epochs=2.0)
@click.option("--with-negative/--no-negative", default=True, show_default=True, help="SQuAD 2.0, or 1.1.")
@settings_options(QaOptions, without=("with_negative",), bounds=True)
@click.pass_obj
def run(common: Common, /, **options: Any) -> None:
    """Fine-tune on the training questions, choose weights by the development set and evaluate it.

    The original keeps the weights of the last epoch: --keep last. Without a file of links, inputs have no entities.

    \b
    Example (published: EM 89.8, F1 95.0 on dev):
      python -m examples.cli --num-gpus=8 --model-file=luke_large_500k.tar.gz --output-dir=out \\
          reading-comprehension run --data-dir=data/squad --no-negative \\
          --wiki-link-db-file=enwiki_20160305.pkl --model-redirects-file=enwiki_20181220_redirects.pkl \\
          --link-redirects-file=enwiki_20160305_redirects.pkl --train-batch-size=2 \\
          --gradient-accumulation-steps=3 --learning-rate=15e-6 --num-train-epochs=2 --fp16
    """
    from examples.luke.run import run_task
    from examples.reading_comprehension.task import ReadingComprehension

    plan = take_plan(options)
    options |= link_files(options)
    if options["wiki_link_db_file"] is None and not options["no_entity"]:
        say("there is no file of links (--wiki-link-db-file); inputs have words only")
    run_task(ReadingComprehension(QaOptions(**options)), common, plan)


@command.command("build-wiki-link-db")
@click.argument("dump_db", metavar="DUMP_DB")
@click.argument("out", metavar="OUT.jsonl[.gz]")
@click.option("--data-dir", metavar="DIR", default="data/squad", show_default=True, help="Folder with SQuAD, of any version.")
@click.option("--pool-size", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
def build_wiki_link_db(dump_db: str, out: str, data_dir: str, pool_size: int) -> None:
    """Write the links of the pages of SQuAD's articles, for --wiki-link-db-file.

    DUMP_DB is a folder of parsed pages (pretraining build-dump-db).

    \b
    Example:
      python -m examples.cli reading-comprehension build-wiki-link-db dump-db links.jsonl.gz --data-dir=data/squad
    """
    from examples.pretraining.dump_db import DumpDb
    from examples.reading_comprehension.build_links import write_links

    titles, db = _titles(Path(data_dir)), DumpDb(dump_db)
    with bar("reading", 2 * len(db.shards), "shard") as progress:
        n_articles = write_links(db, titles, Path(out), pool_size=pool_size, advance=progress.advance)
    say(f"{out}: links of {n_articles} of {len(titles)} articles")


@command.command("generate-redirect-file")
@click.argument("dump_db", metavar="DUMP_DB")
@click.argument("out", metavar="OUT.json[.gz]")
def generate_redirect_file(dump_db: str, out: str) -> None:
    """Write the redirects of a dump, for --link-redirects-file and --model-redirects-file.

    DUMP_DB is a folder of parsed pages (pretraining build-dump-db), of the dump that the links, or the model, come from.

    \b
    Example:
      python -m examples.cli reading-comprehension generate-redirect-file dump-db redirects.json.gz
    """
    from examples.pretraining.dump_db import DumpDb
    from examples.reading_comprehension.build_links import write_redirects

    say(f"{out}: {write_redirects(DumpDb(dump_db), Path(out))} redirects")


def _titles(folder: Path) -> set[str]:
    """Titles of the articles in the available files of SQuAD."""
    from examples.reading_comprehension.data import file_name, read_squad

    kinds = [(split, negative) for split in ("train", "dev") for negative in (False, True)]
    available = [kind for kind in kinds if (folder / file_name(*kind)).is_file()]
    if not available:
        raise MissingFileError(
            f"{folder} holds no file of SQuAD, such as {file_name('train', False)}; name its folder by --data-dir"
        )
    return {example.passage.title for split, negative in available for example in read_squad(folder, split, negative)}


def link_files(options: dict[str, Any]) -> dict[str, str | None]:
    """The named files, or the default ones that exist.

    Raises:
        MissingFileError: a named file does not exist.
    """
    files: dict[str, str | None] = {}
    for name, usual in USUAL_FILES.items():
        named = options[name]
        if named is not None and not Path(named).is_file():
            raise MissingFileError(
                f"{named} does not exist; see examples/reading_comprehension/README.md for --{name.replace('_', '-')}"
            )
        files[name] = named if named is not None else usual if Path(usual).is_file() else None
    return files
