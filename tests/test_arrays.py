"""Arrays on disk: what was saved is mapped again, and what is no array is said in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blink.data.arrays import map_array, save_array
from blink.errors import MismatchError, MissingFileError

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "values",
    [np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(6).reshape(2, 3).T, np.arange(8, dtype=np.uint16)[::2],
     np.empty((0, 3), np.float16), np.array([-1], np.int64)],
)  # fmt: skip
def test_what_was_saved_is_mapped(tmp_path: Path, values: np.ndarray) -> None:
    save_array(tmp_path / "a.npy", values)
    mapped = map_array(tmp_path / "a.npy", "save it")
    assert mapped.dtype == values.dtype
    assert np.array_equal(mapped, values)
    with pytest.raises(ValueError, match="read-only"):
        mapped[...] = 0


def test_a_save_that_fails_leaves_what_stood_there(tmp_path: Path) -> None:
    save_array(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(ValueError, match="allow_pickle"):
        save_array(tmp_path / "a.npy", np.array([{}], dtype=object))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
    assert map_array(tmp_path / "a.npy", "save it").tolist() == [0, 1, 2]


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(MismatchError, match="damaged"):
        map_array(tmp_path / "a.npy", "save it")


@pytest.mark.parametrize("name", ["a.npy", "folder"])
def test_what_is_missing_is_said_with_what_makes_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingFileError, match=f"{name} .*; save it$"):
        map_array(tmp_path / name, "save it", damaged="delete it")


@pytest.mark.parametrize(("advice", "message"), [(None, "save it"), ("delete it", "delete it")])
def test_what_is_damaged_is_said_with_what_to_do(tmp_path: Path, advice: str | None, message: str) -> None:
    (tmp_path / "a.npy").write_bytes(b"no array")
    with pytest.raises(MismatchError, match=rf"a\.npy is damaged \(.*\); {message}$"):
        map_array(tmp_path / "a.npy", "save it", damaged=advice)


@given(index=st.integers(0, 127), byte=st.integers(0, 255), size=st.integers(0, 200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_a_line_or_none(tmp_path: Path, index: int, byte: int, size: int) -> None:
    save_array(tmp_path / "a.npy", np.arange(9, dtype=np.int64))
    content = bytearray((tmp_path / "a.npy").read_bytes())
    content[index] = byte
    (tmp_path / "a.npy").write_bytes(content[:size])
    problem = ""
    try:
        map_array(tmp_path / "a.npy", "save it")
    except MismatchError as error:
        problem = str(error)
    assert size >= 128 or problem
    assert len(problem.splitlines()) <= 1
