"""The file of a prior: what is written comes back, what is no prior or damaged is refused in one line, nothing is unpickled."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prior_toys import table, weights
from safetensors.numpy import load_file, save_file

from blink.data import prior_file as module
from blink.data.prior_file import Prior, PriorTable, PriorWeights, read_prior, write_prior
from blink.errors import BlinkError, DataError, MismatchError, MissingFileError

pytestmark = pytest.mark.quick

IDS = ("Q1", "", "a b\tc", "Zoë\u0301", "\u2028line\nbreak", "𝒳", '"quoted\\', "\0", "None")
"""Whatever an id may be; none is changed on the way."""


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same, arrays to the last bit."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, tuple):
        return isinstance(other, tuple) and len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def there_and_back(prior: Prior) -> Prior:
    with tempfile.TemporaryDirectory() as folder:
        write_prior(Path(folder) / "p.safetensors", prior)
        return read_prior(Path(folder) / "p.safetensors")


few = settings(max_examples=30)
"""Files take longer than numbers."""
id_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@few
@given(
    st.lists(id_texts, min_size=1, max_size=8, unique=True),
    st.integers(0, 1000),
    st.sampled_from([(0, None), (6, None), (4, "real"), (6, "re_im")]),
    st.lists(st.sampled_from(["ranker-1", "ranker-2", "encoder-1"]), unique=True),
)
def test_any_prior_comes_back(ids: list[str], seed: int, kind: tuple[int, str | None], scores: list[str]) -> None:
    width, layout = kind
    prior_table, counted = table(ids, seed, width=width, layout=layout), float(width > 0)
    prior_weights = [
        weights(name, text=5, graph=width, seed=i, vector=counted, scale=0.1 + i, cutoff=-0.3, about={"weak_f1": i / 3})
        for i, name in enumerate(scores)
    ]
    prior = Prior(prior_table, tuple(prior_weights))
    assert alike(there_and_back(prior), prior)


def test_odd_ids_and_weights_without_vectors_come_back() -> None:
    prior = Prior(table(IDS, width=0), (PriorWeights("ranker-x", True, popularity=0.25, relatedness="cosine"),))
    assert alike(there_and_back(prior), prior)


def test_a_file_of_an_earlier_version_has_no_triples() -> None:
    prior = Prior(replace(table(["Q1", "Q2"]), triples=None))
    assert alike(there_and_back(prior), prior)


def test_vectors_take_half_the_room_and_are_near_what_they_were(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    prior_table = replace(table([f"Q{i}" for i in range(50)]), vectors=random.normal(size=(50, 100)).astype(np.float32))
    write_prior(tmp_path / "p", Prior(prior_table))
    assert load_file(tmp_path / "p")["vectors"].dtype == np.float16
    vectors = read_prior(tmp_path / "p").table.vectors
    assert vectors is not None
    assert prior_table.vectors is not None
    assert vectors.dtype == np.float32
    assert 0 < np.abs(vectors - prior_table.vectors).max() < 2e-3
    write_prior(tmp_path / "again", Prior(replace(prior_table, vectors=vectors)))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "p").read_bytes()


def test_weights_are_kept_by_the_scores_they_are_for() -> None:
    prior = Prior(table(["Q1"]))
    assert prior.weights_for_scorer("ranker-1") is None
    one, other = PriorWeights("ranker-1", True, popularity=1.0), PriorWeights("encoder-1", False)
    both = prior.with_weights(one).with_weights(other)
    assert both.weights_for_scorer("ranker-1") is one
    assert both.weights_for_scorer("encoder-1") is other
    again = both.with_weights(replace(one, popularity=2.0))
    assert len(again.weights) == 2
    prior_weights = again.weights_for_scorer("ranker-1")
    assert prior_weights is not None
    assert prior_weights.popularity == 2.0
    assert prior.weights == ()


class TestDirections:
    def test_they_are_centred_on_those_that_are_there(self) -> None:
        prior_table = table([f"Q{i}" for i in range(9)], bare=3)
        assert prior_table.vectors is not None
        directions, real = prior_table.directions(), prior_table.vectors[:6].astype(np.float64)
        centred = real - real.mean(0)
        assert np.allclose(directions[:6], centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-5)
        assert not directions[6:].any()
        assert np.array_equal(
            replace(prior_table, vectors=np.delete(prior_table.vectors, 7, 0)).directions(), np.delete(directions, 7, 0)
        )

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("width", [0, 4])
    def test_where_there_are_none_all_is_nothing(self, width: int) -> None:
        prior_table = table(["Q1", "Q2"], width=width, bare=2 if width else 0)
        assert prior_table.directions().shape == (2, width)
        assert not prior_table.directions().any()


# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    prior_weights = weights("ranker-1", text=5, vector=1.0)
    write_prior(tmp_path / "p.safetensors", Prior(table(["Q1", "Q2", "Q3"], layout="re_im"), (prior_weights,)))
    return tmp_path / "p.safetensors"


def refused(path: Path, kind: type[BlinkError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        read_prior(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


def rewrite(path: Path, tensors: dict[str, Any] | None = None, **about: Any) -> None:
    """Change tensors (None removes one) and the header."""
    from safetensors import safe_open

    with safe_open(str(path), framework="np") as f:
        header = json.loads(f.metadata()["prior"])
    header.pop("sha256", None)  # as earlier versions write it
    stored = {**load_file(path), **(tensors or {})}
    save_file({k: v for k, v in stored.items() if v is not None}, path, {"prior": json.dumps(header | about)})


def test_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", MissingFileError, "does not exist", "blink kglm prior")
    refused(tmp_path, MissingFileError, "is a folder", "blink kglm prior")


@few
@given(number=st.integers(0, 10_000))
def test_a_file_cut_short_or_with_a_byte_changed_is_no_other_error(number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p"
        write_prior(path, Prior(table(["Q1", "Q2", "Q3"], layout="re_im"), (weights("ranker-1", text=5, vector=1.0),)))
        content = path.read_bytes()
        path.write_bytes(content[: number % len(content)])
        refused(path, DataError, "no prior, or is damaged", "blink kglm prior")
        offset = number % 1200  # in the header
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 0x15]) + content[offset + 1 :])
        try:
            read_prior(path)
        except (DataError, MismatchError) as error:
            assert "\n" not in str(error)  # noqa: PT017 - a changed byte may mean nothing


def test_other_files_are_no_priors(tmp_path: Path) -> None:
    save_file({"mean": np.zeros(3)}, tmp_path / "ranker", {"ranker": "{}"})
    save_file({"mean": np.zeros(3)}, tmp_path / "bare")
    save_file({"mean": np.zeros(3)}, tmp_path / "list", {"prior": "[]"})
    save_file({"mean": np.zeros(3)}, tmp_path / "number", {"prior": "1"})
    save_file({"mean": np.zeros(3)}, tmp_path / "text", {"prior": "no JSON"})
    (tmp_path / "words").write_text("some words\n" * 40)
    (tmp_path / "empty").touch()
    for name in ("ranker", "bare", "list", "number", "text", "words", "empty"):
        refused(tmp_path / name, DataError, "no prior, or is damaged", "blink kglm prior")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return Path.touch, (tmp_path / "sprung",)

    (tmp_path / "p").write_bytes(pickle.dumps(Trap()))
    refused(tmp_path / "p", DataError)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("tensors", "about", "kind", "words"),
    [
        ({}, {"format": 2}, MismatchError, ("version 2", "version 1", "make it again")),
        ({"edges": np.array([[0, 3]], np.int32)}, {}, MismatchError, ("edges", "3 entities")),
        ({"edges": np.array([[-1, 2]], np.int32)}, {}, MismatchError, ("edges", "3 entities")),
        ({"edges": np.array([0, 1], np.int32)}, {}, MismatchError, ("edges",)),
        ({"triples": np.array([[0, 9, 3]], np.int32)}, {}, MismatchError, ("triples", "3 entities")),
        ({"triples": np.array([[0, 1]], np.int32)}, {}, MismatchError, ("triples",)),
        ({"degrees": np.zeros(2, np.int64)}, {}, MismatchError, ("degrees", "3 entities")),
        ({"degrees": np.array([1, -1, 2])}, {}, MismatchError, ("a degree below 0",)),
        ({"vectors": np.zeros((4, 6), np.float16)}, {}, MismatchError, ("vectors", "3 entities")),
        ({"vectors": np.zeros((3, 8), np.float16)}, {}, MismatchError, ("relation vectors", "8-dimensional")),
        ({"vectors": np.zeros(3, np.float16)}, {}, MismatchError, ("vectors", "3 entities")),
        ({"vectors": None}, {}, MismatchError, ("relation vectors",)),
        (
            {"vectors": None},
            {"layout": None},
            MismatchError,
            ("weights for 6-dimensional vectors, it has vectors of dimension 0",),
        ),
        ({"relations.bias": np.zeros(2, np.float32)}, {}, MismatchError, ("relation vectors, biases",)),
        ({"vectors": np.full((3, 6), np.nan, np.float16)}, {}, DataError, ("its vectors are float16, or not finite",)),
        ({"weights.0.gate": np.full(6, np.inf, np.float32)}, {}, DataError, ("not finite",)),
        ({"edges": np.array([[0, 1.5]], np.float32)}, {}, DataError, ("its edges are float32",)),
        ({"degrees": np.array([1, 2, 3], np.bool_)}, {}, DataError, ("its degrees are bool",)),
        ({}, {"weights": [{"scores": "r", "ranked": True, "cutoff": float("inf")}]}, MismatchError, ("cutoff of inf",)),
        ({}, {"layout": "quaternion"}, MismatchError, ("'quaternion'", "real, re_im")),
        ({"weights.0.graph": np.zeros((3, 5), np.float32)}, {}, MismatchError, ("weights for 5-dimensional vectors",)),
        ({"weights.0.graph": np.zeros((2, 6), np.float32)}, {}, MismatchError, ("weights for 6-dimensional vectors",)),
        ({"weights.0.gate": np.zeros(5, np.float32)}, {}, MismatchError, ("weights for 6-dimensional vectors",)),
        ({"weights.0.text": np.zeros(3, np.float32)}, {}, MismatchError, ("not matrices",)),
        ({"weights.0.text": None}, {}, DataError, ("weights.0.text",)),
        ({"ids": module._packed(["Q1", "Q2", "Q1"])}, {}, MismatchError, ("3 ids, 2 of them different",)),
        ({"ids": np.frombuffer(b'{"Q1": 1}', np.uint8)}, {}, DataError, ("no list of texts",)),
        ({"ids": np.frombuffer(b'["Q1", "Q2", 3]', np.uint8)}, {}, DataError, ("no list of texts",)),
        ({"ids": np.frombuffer(b"\xff\xfe", np.uint8)}, {}, DataError, ("damaged",)),
        ({"ids": None}, {}, DataError, ("ids",)),
        ({}, {"weights": [{"scores": "ranker-1", "ranked": True, "smell": 1}]}, DataError, ("smell",)),
        ({}, {"weights": [{"scores": "ranker-1", "ranked": True, "relatedness": "x"}]}, MismatchError, ("'x'", "cosine")),
        ({}, {"weights": [{"scores": "ranker-1", "ranked": True, "scale": 0.0}]}, MismatchError, ("scale of 0.0",)),
        ({}, {"weights": [{"scores": "ranker-1", "ranked": True, "scale": float("nan")}]}, MismatchError, ("scale of nan",)),
        ({}, {"weights": [{"scores": "ranker-1", "ranked": True, "scale": "1"}]}, DataError, ("damaged",)),
    ],
)
def test_what_does_not_fit(
    file: Path, tensors: dict[str, Any], about: dict[str, Any], kind: type[BlinkError], words: tuple[str, ...]
) -> None:
    rewrite(file)
    read_prior(file)  # rewriting alone leaves it sound
    rewrite(file, tensors, **about)
    refused(file, kind, *words)


def test_a_changed_bit_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    for at in range(0, len(content), 97):
        file.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(BlinkError):
            read_prior(file)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [1e6, float("nan"), float("inf")])
def test_vectors_that_do_not_fit_into_half_the_room_are_not_written(file: Path, number: float) -> None:
    before, prior_table = file.read_bytes(), table(["Q1", "Q2"])
    assert prior_table.vectors is not None
    with pytest.raises(DataError, match="not finite"):
        write_prior(file, Prior(replace(prior_table, vectors=prior_table.vectors * np.float32(number))))
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_write_that_fails_leaves_what_was_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def half(tensors: Any, name: str, metadata: Any) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", half)
    with pytest.raises(OSError, match="No space"):
        write_prior(file, Prior(PriorTable(("Q9",), np.zeros(1, np.int64), np.zeros((0, 2), np.int32))))
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name]
