"""An index in Qdrant answers as the local one: with the client's in-memory service, and what happens without a service."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.apps.cli import cli
from blink.errors import BlinkError, MismatchError, SettingsError, ShapeError
from blink.kb.building import build_knowledge_base
from blink.kb.index import ExactIndex
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.subset import subset
from blink.linking.linker import Linker
from tests import toys

qdrant_client = pytest.importorskip("qdrant_client")
from blink.kb.index import qdrant_index  # noqa: E402 - behind the extra
from blink.kb.index.qdrant_index import (  # noqa: E402
    QdrantAddress,
    QdrantIndex,
    QdrantService,
    ServiceError,
    collection_name,
    connect,
    upload,
)

ADDRESS = QdrantAddress("http://localhost:6333", "entities")

pytestmark = [pytest.mark.filterwarnings("ignore:Local mode")]


@pytest.fixture
def client() -> Iterator[qdrant_client.QdrantClient]:
    memory = qdrant_client.QdrantClient(":memory:")
    yield memory
    memory.close()


def vectors(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@given(n=st.integers(1, 60), d=st.integers(1, 12), m=st.integers(0, 5), k=st.integers(1, 70), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_hits_are_those_of_exact_search(n: int, d: int, m: int, k: int, seed: int) -> None:
    matrix, queries = vectors(n, d, seed), vectors(m, d, seed + 1)
    memory = qdrant_client.QdrantClient(":memory:")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        index = upload(matrix, memory, ADDRESS)
        scores, rows = index.search(queries, k)
    expected_scores, expected_rows = ExactIndex(matrix).search(queries, k)
    assert (index.size, index.dim) == (n, d)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    np.testing.assert_array_equal(rows, expected_rows)


def test_requests_are_limited_in_size(client: qdrant_client.QdrantClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_index, "QUERIES_PER_REQUEST", 2)
    monkeypatch.setattr(qdrant_index, "UPLOADED_ROWS", 7)
    matrix, queries, progress = vectors(30, 8), vectors(5, 8, 1), []
    index = upload(matrix, client, ADDRESS, lambda stored, total: progress.append((stored, total)))
    assert progress == [(7, 30), (14, 30), (21, 30), (28, 30), (30, 30)]
    np.testing.assert_array_equal(index.search(queries, 4)[1], ExactIndex(matrix).search(queries, 4)[1])


def test_an_upload_that_was_killed_is_completed(client: qdrant_client.QdrantClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_index, "UPLOADED_ROWS", 10)
    matrix, stored = vectors(35, 6), []

    def stop_at_twenty(rows: int, _total: int) -> None:
        stored.append(rows)
        if rows == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(matrix, client, ADDRESS, stop_at_twenty)
    assert QdrantIndex(client, ADDRESS).size == 20
    index = upload(matrix, client, ADDRESS, lambda rows, _total: stored.append(rows))
    assert stored == [10, 20, 30, 35]
    np.testing.assert_array_equal(index.search(matrix[:3], 5)[1], ExactIndex(matrix).search(matrix[:3], 5)[1])


def test_a_collection_of_other_vectors_is_refused(client: qdrant_client.QdrantClient) -> None:
    upload(vectors(5, 4), client, ADDRESS)
    with pytest.raises(MismatchError, match="5 vectors of dimension 4, not 5 of 6; give another --collection"):
        upload(vectors(5, 6), client, ADDRESS)
    with pytest.raises(MismatchError, match="give another --collection"):
        upload(vectors(3, 4), client, ADDRESS)
    with pytest.raises(ShapeError):
        upload(np.zeros(4, np.float32), client, ADDRESS)


def test_a_missing_collection_and_another_metric_are_named(client: qdrant_client.QdrantClient) -> None:
    with pytest.raises(ServiceError, match="has no collection 'entities'; build"):
        QdrantIndex(client, ADDRESS)
    models = qdrant_client.models
    client.create_collection("entities", vectors_config=models.VectorParams(size=4, distance=models.Distance.EUCLID))
    with pytest.raises(MismatchError, match="inner product"):
        QdrantIndex(client, ADDRESS)


def test_a_service_that_does_not_answer_is_one_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = QdrantAddress(f"http://127.0.0.1:{unused.getsockname()[1]}", "entities", timeout_s=2)
        with pytest.raises(ServiceError, match=r"does not answer .* is Qdrant running there") as error:
            QdrantIndex(connect(address), address)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["", "localhost:6333", "ftp://host", "file:/tmp/x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="give one such as http://localhost:6333"):
        connect(QdrantAddress(url, "entities"))


def test_names_of_collections_differ_by_catalogue_and_model() -> None:
    names = {collection_name(catalogue * 64, model * 64) for catalogue in "ab" for model in "cd"}
    assert len(names) == 4


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[qdrant_client.QdrantClient]:
    """One service in memory for every connection."""
    memory = qdrant_client.QdrantClient(":memory:")
    monkeypatch.setattr(qdrant_index, "connect", lambda address: memory)
    yield memory
    memory.close()


def test_a_knowledge_base_in_a_service_links_as_the_local_one(
    service: qdrant_client.QdrantClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toys.model()
    catalogue = toys.write_catalogue(tmp_path / "entity.jsonl", toys.rows())
    build = partial(build_knowledge_base, catalogue, encode=model.encode_entities, model=model.candidate_fingerprint())
    build(out=tmp_path / "local", index="flat")
    manifest = build(out=tmp_path / "remote", index="qdrant", service=QdrantService("http://localhost:6333"))
    local, remote = KnowledgeBase.open(tmp_path / "local"), KnowledgeBase.open(tmp_path / "remote")
    assert manifest.index == "qdrant"
    assert isinstance(remote.index, QdrantIndex)
    assert "service.json" in manifest.samples
    queries = vectors(7, local.index.dim)
    np.testing.assert_array_equal(local.index.search(queries, 3)[1], remote.index.search(queries, 3)[1])
    texts = ["oslo is in norway", "java and paris"]
    links = [[t.links for t in Linker(model, kb, threshold=-np.inf).link(texts)] for kb in (local, remote)]
    assert any(links[0])
    for ours, theirs in zip(*links, strict=True):
        assert [(x.start, x.end, x.row) for x in ours] == [(x.start, x.end, x.row) for x in theirs]
        np.testing.assert_allclose([x.score for x in ours], [x.score for x in theirs], atol=1e-4)
    # What is derived from it has an index of its own.
    assert subset(remote, [0]).base.manifest.index == "flat"
    # The service has moved.
    monkeypatch.setenv(qdrant_index.URL, "http://elsewhere:6333")
    assert QdrantAddress.load(tmp_path / "remote" / "service.json").url == "http://elsewhere:6333"


def test_a_build_without_its_service_is_refused_at_once(tmp_path: Path) -> None:
    catalogue = toys.write_catalogue(tmp_path / "entity.jsonl", toys.rows())
    build = partial(build_knowledge_base, catalogue, tmp_path / "kb", encode=pytest.fail, model="")
    with pytest.raises(SettingsError, match="belong together"):
        build(index="qdrant")
    with pytest.raises(SettingsError, match="belong together"):
        build(index="flat", service=QdrantService("http://localhost:6333"))
    with pytest.raises(ServiceError, match="does not answer"):
        build(index="qdrant", service=QdrantService("http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--index", "qdrant"], "belong together"),
        (["--collection", "mine"], "give --index qdrant and --url URL too"),
        (["--index", "qdrant", "--url", "localhost"], "give one such as http://localhost:6333"),
    ],
)
def test_mistakes_of_the_command_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    catalogue = toys.write_catalogue(tmp_path / "entity.jsonl", toys.rows())
    model = tmp_path / "model"
    toys.model().save_pretrained(model)
    command = ["kb", "build", str(catalogue), "--out", str(tmp_path / "kb"), "--model", str(model), *arguments]
    outcome = CliRunner().invoke(cli, command)
    assert isinstance(outcome.exception, BlinkError)
    assert message in str(outcome.exception)
