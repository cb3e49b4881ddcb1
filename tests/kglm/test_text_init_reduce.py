"""Principal components against a singular value decomposition, layouts for pictures, and the drawings."""

from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.errors import CheckpointError, DataError, SettingsError, ShapeError
from blink.kglm.text_init.pipeline import reduce_vectors
from blink.kglm.text_init.plot import REST, UNKNOWN, Points, colour_groups, sample, with_types
from blink.kglm.text_init.reduce import PCA_FILE, Pca, TsneSettings, check_method, project
from blink.kglm.text_init.vectors import Space, read_folder, read_tsv, write_folder, write_tsv


def cloud(n: int, width: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(size=(n, width)) @ random.normal(size=(width, width)) + 3).astype(np.float32)


def space(vectors: np.ndarray, kind: str = "entity", types: tuple[str, ...] = ("a", "b", "")) -> Space:
    ids = [f"Q{i}" for i in range(len(vectors))]
    kinds = [types[i % len(types)] for i in range(len(vectors))]
    return Space(kind, ids, vectors, [f"name {i}" for i in ids], kinds, list(range(1, len(ids) + 1)), {"model": "m"})


@given(st.integers(2, 40), st.integers(1, 8), st.booleans(), st.integers(0, 99))
def test_components_equal_those_of_a_singular_value_decomposition(n: int, components: int, whiten: bool, seed: int) -> None:
    vectors = cloud(n, 8, seed)
    pca = Pca.fit(vectors, components, whiten=whiten)
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    real = min(components, n - 1)  # the rest carries nothing
    scores = centred @ rows[:real].T
    if whiten:
        scores = scores / (singular[:real] / np.sqrt(n - 1))
    np.testing.assert_allclose(
        np.abs(pca.transform(vectors)[:, :real]), np.abs(scores), atol=2e-2 if whiten else 2e-3, rtol=1e-2
    )
    assert pca.explained == pytest.approx((singular[:components] ** 2).sum() / (singular**2).sum(), abs=1e-5)


def test_fewer_rows_than_numbers_give_zeros_at_the_end() -> None:
    """The original doubles rows before the fit and drops them afterwards, to the same end."""
    vectors = cloud(5, 10)
    for whiten in (False, True):
        reduced = Pca.fit(vectors, 8, whiten=whiten).transform(vectors)
        assert reduced.shape == (5, 8)
        np.testing.assert_allclose(reduced[:, 4:], 0, atol=2e-5)
        assert np.abs(reduced[:, :4]).max() > 0.1


def test_rows_that_are_all_alike() -> None:
    reduced = Pca.fit(np.ones((4, 3), np.float32), 2, whiten=True).transform(np.ones((4, 3), np.float32))
    assert np.array_equal(reduced, np.zeros((4, 2), np.float32))


def test_new_rows_are_reduced_like_those_fitted_on(tmp_path: Path) -> None:
    vectors = cloud(30, 6)
    pca = Pca.fit(vectors, 4, whiten=True)
    pca.save(tmp_path)
    back = Pca.load(tmp_path)
    assert np.array_equal(back.transform(vectors[7:9]), pca.transform(vectors)[7:9])
    assert (back.explained, back.whiten) == (pca.explained, True)
    with pytest.raises(ShapeError, match="for 6-dimensional vectors, these have 5"):
        back.transform(vectors[:, :5])
    (tmp_path / PCA_FILE).write_bytes(b"\x00" * 20)
    with pytest.raises(CheckpointError, match="damaged"):
        Pca.load(tmp_path)


@pytest.mark.parametrize("width", [0, 7])
def test_widths_that_cannot_be(width: int) -> None:
    with pytest.raises(SettingsError, match=f"6-dimensional vectors to {width} dimensions; give a number from 1 to 6"):
        Pca.fit(cloud(9, 6), width)


def test_pictures_are_of_two_dimensions() -> None:
    with pytest.raises(SettingsError, match=r"tsne reduces to 2 or 3 dimensions, not 400"):
        check_method("tsne", 400)
    with pytest.raises(SettingsError, match="method is 'lda'; allowed are pca, tsne, umap"):
        check_method("lda", 2)


def test_tsne_keeps_groups_together() -> None:
    pytest.importorskip("sklearn")
    random = np.random.default_rng(0)
    groups = np.repeat([[0.0] * 60, [9.0] * 60], 12, axis=0) + random.normal(size=(24, 60))
    projection = project(groups.astype(np.float32), "tsne", settings=TsneSettings(99, learning_rate=20, iterations=500))
    assert projection.shape == (24, 2)
    distances = np.linalg.norm(projection[:, None] - projection[None], axis=-1) + 1e9 * np.eye(24)
    assert (distances.argmin(1) < 12).tolist() == [True] * 12 + [False] * 12  # each one's nearest is of its own group
    with pytest.raises(DataError, match="needs at least 4 rows"):
        project(groups[:3].astype(np.float32), "tsne")


def test_umap_where_it_is_installed() -> None:
    try:
        import umap  # noqa: F401
    except ImportError:
        with pytest.raises(SettingsError, match="UMAP is not installed; run: pip install umap-learn"):
            project(cloud(20, 5), "umap")
    else:
        assert project(cloud(20, 5), "umap").shape == (20, 2)


def test_reducing_stores_the_reduction_beside_the_vectors(tmp_path: Path) -> None:
    vectors = space(cloud(30, 10))
    done = reduce_vectors(vectors, tmp_path / "small.tsv", width=4)
    assert (done.before, done.after) == (10, 4)
    folder = read_folder(tmp_path / "small.vectors")
    assert (folder.width, folder.ids, folder.meta["model"], folder.meta["reduced_from"]) == (4, vectors.ids, "m", 10)
    assert np.array_equal(read_tsv(tmp_path / "small.tsv").vectors, folder.vectors)
    single = Space("entity", ["new"], vectors.vectors[3:4], ["n"], [""], [1])
    again = reduce_vectors(single, tmp_path / "new.tsv", width=2, fitted=tmp_path / "small.vectors", tsv=False)
    assert again.after == 4
    np.testing.assert_allclose(read_folder(tmp_path / "new.vectors").vectors[0], folder.vectors[3], atol=1e-5)
    assert not (tmp_path / "new.tsv").exists()


def test_the_length_of_vectors_need_not_count(tmp_path: Path) -> None:
    vectors = space(cloud(30, 10))
    longer = np.linspace(0.5, 9, 30)[:, None]
    stretched = Space("entity", vectors.ids, vectors.vectors * longer, vectors.names, vectors.types, vectors.rows)
    for one, name in ((vectors, "a"), (stretched, "b")):
        reduce_vectors(one, tmp_path / f"{name}.tsv", width=4, normalize=True, tsv=False)
    arrays = [read_folder(tmp_path / f"{name}.vectors").vectors for name in "ab"]
    np.testing.assert_allclose(arrays[0], arrays[1], atol=1e-5)
    reduce_vectors(stretched, tmp_path / "c.tsv", width=2, fitted=tmp_path / "a.vectors", tsv=False)
    np.testing.assert_allclose(read_folder(tmp_path / "c.vectors").vectors, arrays[0], atol=1e-5)
    zeros = np.zeros((2, 10), dtype=np.float32)
    assert np.isfinite(Pca.fit(zeros, 3, normalize=True).transform(zeros)).all()


def test_the_reduce_command(tmp_path: Path, blink: Callable[..., tuple[int, str, str]]) -> None:
    write_tsv(space(cloud(12, 6)), tmp_path / "v.tsv")
    status, _, err = blink("kglm", "reduce", "-e", tmp_path / "v.tsv", "-d", 3, "-o", tmp_path / "out.tsv")
    assert status == 0
    assert re.search(r"12 vectors of 3 numbers instead of 6 \(pca\), which keep [\d.]+% of the variance", err)
    status, _, err = blink("kglm", "reduce", "-e", tmp_path / "v.tsv", "-d", 5, "-m", "tsne", "-o", tmp_path / "x.tsv")
    assert (status, err.count("\n")) == (1, 1)
    assert "use -m pca, or -d 2" in err
    status, _, err = blink("kglm", "reduce", "-e", tmp_path / "v.tsv", "-m", "tsne", "--whiten", "-o", tmp_path / "x.tsv")
    assert (status, "--whiten and --normalize are for -m pca" in err) == (1, True)


def test_rare_types_share_one_colour() -> None:
    types = ["t0"] * 5 + [f"t{i}" for i in range(1, 15)] + ["", "t3"]
    points = Points.of(np.zeros((len(types), 2)), [""] * len(types), types)
    legend = list(points.colours)
    assert legend[:2] == ["t0", "t3"]
    assert legend[-2:] == [REST, UNKNOWN]
    assert len(legend) == 14
    assert points.types[-2] == UNKNOWN
    assert points.types.count(REST) == 3


def test_relation_types_are_coloured_by_their_ends_or_source() -> None:
    vectors = space(cloud(3, 2), "relation")
    vectors.ids[:] = ["x::treats::B:A", "y::helps::A:B", "plain"]
    assert colour_groups(vectors, "type") == ["A - B", "A - B", ""]
    assert colour_groups(vectors, "resource") == ["x", "y", ""]
    with pytest.raises(SettingsError, match="--by resource does not go with vectors of the kind entity"):
        colour_groups(space(cloud(3, 2)), "resource")


def test_types_from_a_table(tmp_path: Path) -> None:
    vectors = space(cloud(4, 2))
    path = tmp_path / "types.tsv"
    path.write_text("Q0\tcity\tOslo\nQ2\triver\nQ77\tx\n", encoding="utf-8")
    typed = with_types(vectors, path)
    assert typed.types == ["city", "b", "river", "a"]
    assert typed.names[:2] == ["Oslo", "name Q1"]
    path.write_text("Q0\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1: 1 fields; a line is id<TAB>type"):
        with_types(vectors, path)
    path.write_text("X\tcity\n", encoding="utf-8")
    with pytest.raises(DataError, match="knows none of the 4 ids"):
        with_types(vectors, path)


def test_a_sample_keeps_rows_and_names_together() -> None:
    vectors = space(cloud(50, 3))
    sampled = sample(vectors, 9, seed=4)
    assert len(sampled.ids) == 9
    for name, vector in zip(sampled.ids, sampled.vectors, strict=True):
        assert np.array_equal(vector, vectors.vectors[int(name[1:])])
    assert sample(vectors, 50) is vectors


class Links(html.parser.HTMLParser):
    """What a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_plot_command_draws_a_picture_and_a_page_that_loads_nothing(
    tmp_path: Path, blink: Callable[..., tuple[int, str, str]]
) -> None:
    vectors = space(cloud(12, 4))
    vectors.names[3] = "</script><script>alert(1)</script>"
    write_folder(vectors, tmp_path / "v")
    status, _, err = blink("kglm", "plot", tmp_path / "v", "-m", "pca", "-o", tmp_path / "space", "--title", "a < b")
    assert status == 0
    assert "12 points of 3 types" in err
    assert (tmp_path / "space.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    page = (tmp_path / "space.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert (links.links, links.scripts) == ([], 2)
    assert "http" not in page.replace("{{", "")
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert data["name"] == vectors.names
    assert [data["types"][t]["name"] for t in data["type"]] == ["a", "b", UNKNOWN] * 4
    coordinates = Pca.fit(vectors.vectors, 2).transform(vectors.vectors)
    np.testing.assert_allclose(np.stack([data["x"], data["y"]], 1), coordinates, atol=1e-3)
    assert data["title"] == "a < b"
