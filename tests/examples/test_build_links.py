"""Links and redirects out of a parsed dump."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from blink.errors import DataError
from examples.pretraining.dump_db import DumpDb
from examples.reading_comprehension.build_links import Names, occurring, words_of, write_links, write_redirects
from examples.reading_comprehension.links import Link, read_links, read_redirects

PAGES = {
    "Danube": "The [Danube] ends in the [Black Sea|Euxine Sea]. The [Black Sea] is wide. A [black sea|Black Sea], [Nowhere]",
    "Black Sea": "The Black Sea lies between [Bulgaria] and others.",
    "Bulgaria": "Bulgaria has a coast on the black  sea, not on the blackest sea.",
    "Chess": "Chess is played with pawns.",
}


@pytest.fixture
def db(tmp_path: Path) -> DumpDb:
    """A folder of parsed pages, of two parts; ``[text|target]`` are links."""
    folder = tmp_path / "db"
    folder.mkdir()
    for n, titles in enumerate((["Danube", "Black Sea"], ["Bulgaria", "Chess"])):
        lines = []
        for title in titles:
            text, links = "", []
            for i, fragment in enumerate(PAGES[title].replace("]", "[").split("[")):
                label, _, target = fragment.partition("|")
                if i % 2:
                    links.append([target or label, len(text), len(text) + len(label)])
                text += label
            lines.append(json.dumps({"id": n, "title": title, "paragraphs": [[text, True, links]]}) + "\n")
        (folder / f"pages-{n:06d}.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    (folder / "titles.txt").write_text("".join(f"{t}\n" for t in PAGES))
    (folder / "redirects.tsv").write_text("Euxine Sea\tPontus\nPontus\tBlack Sea\nDonau\tDanube\n")
    (folder / "metadata.json").write_text(json.dumps({"format": 1, "parts": 2}))
    return DumpDb(folder)


@pytest.mark.parametrize("name", ["links.jsonl", "links.jsonl.gz"])
def test_links_of_the_articles_that_are_asked_for(db: DumpDb, tmp_path: Path, name: str) -> None:
    progress: list[int] = []
    assert write_links(db, {"Donau", "Unknown"}, tmp_path / name, advance=progress.append) == 1
    assert sum(progress) == 2 * len(db.shards)
    links = read_links(tmp_path / name, ["Danube", "Black Sea"])
    assert links == {
        "Danube": [
            Link("Danube", "Danube", 1.0),
            Link("Black Sea", "Black Sea", 1.0),  # three links in three articles that hold the text
            Link("black sea", "Black Sea", 1.0),
        ]
    }


def test_probability_is_links_over_articles_with_the_text(db: DumpDb, tmp_path: Path) -> None:
    write_links(db, {"Black Sea"}, tmp_path / "links.jsonl")
    assert read_links(tmp_path / "links.jsonl", ["Black Sea"]) == {"Black Sea": [Link("Bulgaria", "Bulgaria", 0.5)]}


def test_texts_occur_at_the_borders_of_words() -> None:
    names = Names.of(["Black Sea", "sea", "U.S.", "  "])
    assert occurring("the BLACK\nsea, the U.S. seas", names) == {("black", "sea"), ("sea",), ("u", ".", "s", ".")}
    assert words_of("Kepler's Café") == ("kepler", "'", "s", "café")
    assert occurring("", names) == set()


def test_redirects_end_at_articles(db: DumpDb, tmp_path: Path) -> None:
    assert write_redirects(db, tmp_path / "r.json.gz") == 3
    assert read_redirects(tmp_path / "r.json.gz") == {"Euxine Sea": "Black Sea", "Pontus": "Black Sea", "Donau": "Danube"}


def test_articles_of_another_wikipedia(db: DumpDb, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds none of the 1 articles"):
        write_links(db, {"Unknown"}, tmp_path / "links.jsonl")
    assert not (tmp_path / "links.jsonl").exists()


def test_commands(db: DumpDb, tasks: Path, tmp_path: Path, run_examples: Callable[..., tuple[int, str]]) -> None:
    out, data = tmp_path / "links.jsonl", tasks / "reading_comprehension" / "tiny"
    status, err = run_examples("reading-comprehension", "build-wiki-link-db", db.folder, out, f"--data-dir={data}")
    assert (status, err.splitlines()[-1]) == (0, f"{out}: links of 2 of 5 articles")
    status, err = run_examples("reading-comprehension", "generate-redirect-file", db.folder, tmp_path / "r.json")
    assert (status, "3 redirects" in err) == (0, True)
    status, err = run_examples("reading-comprehension", "build-wiki-link-db", db.folder, out, f"--data-dir={tmp_path}")
    assert (status, "holds no file of SQuAD, such as train-v1.1.json" in err) == (1, True)
