"""The candidate encoder of a stored model without PyTorch: the vectors of a build, ready for single entities."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.data.records import Entity
from blink.errors import MismatchError, SettingsError
from blink.linking.linker import Linker
from blink.linking.opening import open_kb_for_edits
from blink.model.backends import exported as exports
from blink.model.backends.exported import exported_candidate
from blink.model.biencoder import BiEncoder
from blink.model.entity_encoder import EntityEncoder
from blink.model.loading import load_model

KINDS: dict[str, dict[str, Any]] = {
    "cosine": {"cosine": True, "candidate_pooling": "mean", "candidate_fields": "title_aliases_text", "isolate_symbols": True},
    "original": {"candidate_pooling": "linear"},
    "first token": {},
}


@pytest.fixture(scope="module", params=KINDS)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    toys.model(3, **KINDS[request.param]).save_pretrained(path)
    return path


texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)
entities = st.lists(
    st.builds(lambda title, text, aliases: Entity(0, title, text, aliases=tuple(aliases)), texts, texts, st.lists(texts)),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("one") / "model"
    toys.model(3, **KINDS["cosine"]).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoders(stored: Path) -> tuple[EntityEncoder, BiEncoder]:
    return EntityEncoder(stored), load_model(stored, context=False, candidate=True)


@settings(max_examples=10)
@given(some=entities)
def test_vectors_are_those_of_a_build(encoders: tuple[EntityEncoder, BiEncoder], some: list[Entity]) -> None:
    ours, theirs = encoders
    vectors, expected = ours(some), theirs.encode_entities(some)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=2e-5 * max(1.0, float(np.abs(expected).max())))


def test_it_has_the_fingerprint_of_the_model_and_is_made_again_when_damaged(one: Path) -> None:
    fingerprint = load_model(one, context=False, candidate=True).candidate_fingerprint()
    assert EntityEncoder(one).fingerprint == fingerprint
    folder = exported_candidate(one)
    (folder / "candidate.onnx").write_bytes(b"damaged")
    assert EntityEncoder(one).fingerprint == fingerprint
    assert exported_candidate(one) == folder


def test_an_encoder_that_cannot_be_exported_runs_with_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = toys.model(3)
    model.save_pretrained(tmp_path)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "_make", fail)
    encoder = EntityEncoder(tmp_path)
    assert np.allclose(encoder([Entity(0, "Oslo")]), model.encode_entities([Entity(0, "Oslo")]))
    assert "encodes with PyTorch" in caplog.text
    assert encoder.fingerprint == model.candidate_fingerprint()


def test_a_linker_gives_its_knowledge_base_the_encoder(one: Path) -> None:
    model = load_model(one, candidate=True)
    folder = one.with_name("kb-of-linker")
    toys.knowledge_base(folder, model, toys.rows())
    expected = model.encode_entities([Entity(20, "Zorblax", "a moon")])
    for source in (one, model):
        linker = Linker.from_pretrained(source, folder) if isinstance(source, Path) else Linker(source, toys_kb(folder))
        row = linker.kb.add({"title": "Zorblax", "text": "a moon"}).row
        changes = linker.kb.changes
        np.testing.assert_allclose(changes.vectors[changes.vector_rows == row], expected, atol=1e-4)


def toys_kb(folder: Path) -> Any:
    from blink.kb.knowledge_base import KnowledgeBase

    return KnowledgeBase.open(folder)


def test_a_knowledge_base_for_edits_needs_its_own_model(one: Path) -> None:
    folder, other = one.with_name("kb"), one.with_name("other")
    toys.knowledge_base(folder, load_model(one, candidate=True), toys.rows())
    toys.model(5).save_pretrained(other)
    with pytest.raises(SettingsError, match="no model to encode"):
        open_kb_for_edits(folder).add({"title": "x"})
    open_kb_for_edits(folder).remove(3)
    with pytest.raises(MismatchError, match="another model"):
        open_kb_for_edits(folder, str(other))
    assert open_kb_for_edits(folder, str(one)).add({"title": "x"}).row == 20


def test_editing_needs_no_torch(tmp_path: Path) -> None:
    stored, folder, model = tmp_path / "model", tmp_path / "kb", toys.model(3)
    model.save_pretrained(stored)
    toys.knowledge_base(folder, model, toys.rows())
    exported_candidate(stored)
    code = (
        "import sys\nfrom blink.linking.opening import open_kb_for_edits\n"
        f"kb = open_kb_for_edits({str(folder)!r}, {str(stored)!r})\n"
        "kb.add({'title': 'Zorblax'}); kb.undo()\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    environment = {"BLINK_BACKEND": "onnx", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
