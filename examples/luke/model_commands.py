"""Commands for models: a tiny random model, and the published layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from blink.apps.common import say
from blink.errors import MissingFileError, SettingsError
from blink.files import read_json_lines
from blink.input_files import read_lines_of, read_text

EXAMPLES = Path(__file__).resolve().parents[1]
TASKS = ("entity_typing", "relation_classification", "ner", "entity_span_qa", "reading_comprehension")
TINY_LINKS = EXAMPLES / "reading_comprehension" / "tiny" / "links.jsonl"


@click.command("make-tiny-model")
@click.argument("folder", metavar="DIR")
@click.option(
    "--text", "texts", multiple=True, metavar="FILE", help="Training text of the tokenizer; repeatable.  [default: tiny sets]"
)
@click.option("--titles", metavar="FILE", help="Titles of entities, one per line.  [default: those that the tiny sets link]")
@click.option("--size", type=click.IntRange(8), default=64, show_default=True, help="Hidden size, a multiple of 8.")
@click.option("--layers", type=click.IntRange(1), default=2, show_default=True, help="Number of layers.")
@click.option("--pieces", "vocab_size", type=click.IntRange(300), default=600, show_default=True, help="Maximum tokens.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the weights.")
def make_tiny_model(
    folder: str, texts: tuple[str, ...], titles: str | None, size: int, layers: int, vocab_size: int, seed: int
) -> None:
    """Make a small LUKE with random weights, to try the tasks on their tiny sets without network.

    \b
    Example:
      python -m examples.cli make-tiny-model tiny
    """
    from examples.luke.tiny import make_tiny_model as make

    if size % 8:
        raise SettingsError(f"--size is {size}; it must be a multiple of 8")
    files = [_file(f) for f in texts] if texts else [f for task in TASKS for f in sorted((EXAMPLES / task / "tiny").iterdir())]
    names = read_lines_of(titles) if titles else sorted(set(_linked()))
    contents = (read_text(f) for f in files)
    make(Path(folder), contents, [n for n in names if n.strip()], size=size, layers=layers, vocab_size=vocab_size, seed=seed)
    say(f"a tiny model is in {folder}; next: --model-file={folder} before one of the tasks")


@click.command("convert")
@click.argument("model", metavar="MODEL")
@click.argument("folder", metavar="DIR")
@click.option("--tokenizer", metavar="NAME", help="Word tokenizer, by name or folder.  [default: named by the archive]")
def convert(model: str, folder: str, tokenizer: str | None) -> None:
    """Convert LUKE's archive, or a folder of its files, into a folder of transformers.

    The tasks convert archives themselves, into a cache; this command writes to a folder of your choice.

    \b
    Example:
      python -m examples.cli convert luke_large_500k.tar.gz luke-large
    """
    from examples.luke.convert import convert as write

    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SettingsError(f"{folder} exists and is not empty; name a new folder")
    write(Path(model), target, tokenizer)
    say(f"the model is in {folder}")


@click.command("create-model-archive")
@click.argument("model", metavar="MODEL")
@click.argument("out", metavar="FILE")
@click.option(
    "--compress",
    type=click.Choice(["", "gz", "bz2", "xz"]),
    default="gz",
    show_default=True,
    help="Compression; empty for none.",
)
@click.option("--bert-model-name", metavar="NAME", help="Word tokenizer that the archive names.  [default: the model's folder]")
def create_model_archive(model: str, out: str, compress: str, bert_model_name: str | None) -> None:
    """Write a pre-trained model (a folder of transformers, or a name there) as an archive in the published layout.

    \b
    Example:
      python -m examples.cli create-model-archive tiny tiny.tar.gz
    """
    from examples.luke.archive import write_archive
    from examples.luke.convert import link_counts, to_archive
    from examples.luke.pretrained import load_pretrained

    pretrained = load_pretrained(model, None, say)
    folder = Path(pretrained.folder)
    name = bert_model_name or (str(folder.resolve()) if folder.is_dir() else pretrained.folder)
    write_archive(to_archive(pretrained.model, pretrained.tokenizer, name, link_counts(folder)), Path(out), compress)
    say(f"the archive is {out}; it names the tokenizer {name}")


def _file(name: str) -> Path:
    if not Path(name).is_file():
        raise MissingFileError(f"{name} does not exist; name a text file")
    return Path(name)


def _linked() -> Iterator[str]:
    for _, row in read_json_lines(TINY_LINKS):
        yield from {target for _, target, _ in row["links"]}
