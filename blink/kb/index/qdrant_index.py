"""Entity vectors in a Qdrant service, for catalogues that one machine does not hold; the extra ``qdrant``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blink.errors import BlinkError, CheckpointError, MismatchError, MissingFileError, SettingsError, ShapeError
from blink.files import read_json, write_json
from blink.kb.index.protocol import NO_ROW, Hits, checked_queries, no_hits
from blink.kb.index.scoring import sorted_hits
from blink.kb.index.selector import RowSelector

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

QDRANT = "qdrant"
"""Name of the kind of index."""
ADDRESS_FILE = "service.json"
"""The address, in the folder of a knowledge base."""
API_KEY = "BLINK_QDRANT_API_KEY"
"""Environment variable with the key of the service: a key belongs into no file and no command line."""
URL = "BLINK_QDRANT_URL"
"""Environment variable with the URL of the service, where it is another one than at the build."""
UPLOADED_ROWS = 512
"""Vectors of a request; 512 of 1,024 numbers take about 10 MB as JSON."""
QUERIES_PER_REQUEST = 256
IDS_PER_REQUEST = 1 << 18
"""Ids of points in the filters of a request, about 2 MB as JSON."""
MAX_FILTERED_IDS = 1 << 14
"""Most ids of a filter; where more rows than these are allowed and forbidden, longer lists of hits are requested."""
GROWTH = 4
"""Factor by which lists of hits grow that have too few allowed rows."""
INSTALL = "pip install 'blink-linker[qdrant]'"


class ServiceError(BlinkError):
    """The service of an index does not answer, or refuses."""


@dataclass(frozen=True)
class QdrantAddress:
    """Where the vectors of a knowledge base are.

    Attributes:
        url: of the service, such as ``http://localhost:6333``.
        collection: name of the collection.
        exact: search every vector instead of the service's graph.
        timeout_s: longest wait for an answer, in seconds.
    """

    url: str
    collection: str
    exact: bool = False
    timeout_s: int = 60

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> QdrantAddress:
        """Read it; the variable `URL` has precedence over the URL in the file.

        Raises:
            MissingFileError: there is no such file.
            CheckpointError: it holds something else.
        """
        try:
            address = cls(**read_json(path, "build the knowledge base again"))
        except TypeError as error:
            raise CheckpointError(f"{path} holds no address of a service; build the knowledge base again") from error
        return cls(os.environ.get(URL) or address.url, address.collection, address.exact, address.timeout_s)


@dataclass(frozen=True)
class QdrantService:
    """Where a build stores vectors.

    Attributes:
        url: of the service.
        collection: name of the collection; empty for one made of the hashes of what the vectors are of, so that it is never
            mistaken for another.
        exact: search every vector instead of the service's graph.
    """

    url: str
    collection: str = ""
    exact: bool = False

    def ping(self) -> None:
        """Check that the service answers.

        Raises:
            ServiceError: it does not.
            SettingsError: the URL is none.
        """
        address = QdrantAddress(self.url, self.collection)
        client = connect(address)
        with _answers(address):
            client.get_collections()


def connect(address: QdrantAddress) -> QdrantClient:
    """A client of the service. The key, if it needs one, is in the environment variable `API_KEY`.

    Raises:
        SettingsError: the address is no URL.
        MissingFileError: the extra ``qdrant`` is not installed.
    """
    if not address.url.startswith(("http://", "https://")):
        raise SettingsError(f"the URL of the index is {address.url!r}; give one such as http://localhost:6333")
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise MissingFileError(f"an index in Qdrant needs the package qdrant-client; run: {INSTALL}") from error
    key = os.environ.get(API_KEY) or None
    return QdrantClient(url=address.url, api_key=key, timeout=address.timeout_s, check_compatibility=False)


class QdrantIndex:
    """Search in a collection whose point ids are rows of the catalogue.

    Args:
        client: of the service.
        address: of the collection.

    Raises:
        ServiceError: the service does not answer, or has no such collection.
        MismatchError: the collection holds something else than one inner-product vector a point.
    """

    def __init__(self, client: QdrantClient, address: QdrantAddress) -> None:
        self._client, self._address = client, address
        with _answers(address):
            if not client.collection_exists(address.collection):
                raise ServiceError(
                    f"{address.url} has no collection {address.collection!r}; build the knowledge base again (--index qdrant)"
                )
            parameters = client.get_collection(address.collection).config.params.vectors
            self._size = int(client.count(address.collection, exact=True).count)
        if parameters is None or isinstance(parameters, dict) or str(parameters.distance.value) != "Dot":
            raise MismatchError(
                f"collection {address.collection!r} of {address.url} does not hold one vector a point with the inner product; "
                "build the knowledge base again with --index qdrant"
            )
        self._dim = int(parameters.size)

    @property
    def dim(self) -> int:
        """Dimension of the queries."""
        return self._dim

    @property
    def size(self) -> int:
        """Number of vectors."""
        return self._size

    def search(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None = None) -> Hits:
        """The ``k`` best rows, exactly or by the service's graph; see :meth:`Index.search`.

        The service filters by the ids of the allowed rows, or of the forbidden ones where they are fewer. Where both are many,
        lists of hits are requested that grow until ``k`` of them are allowed.

        Raises:
            ServiceError: the service does not answer.
        """
        checked = checked_queries(queries, k, self.dim)
        if selector is not None and not len(selector):
            return no_hits(len(checked), k)
        if selector is None or min(len(selector), len(selector.mask) - len(selector)) <= MAX_FILTERED_IDS:
            return self._hits(checked, k, selector)
        scores, rows = no_hits(len(checked), k)
        pending, length = np.arange(len(checked)), int(1.5 * k * self.size / len(selector)) + 1
        while len(pending):
            of_all, found = self._hits(checked[pending], min(length, self.size), None)
            is_allowed = (found != NO_ROW) & selector.mask[found]
            of_all, found = np.where(is_allowed, of_all, np.float32(-np.inf)), np.where(is_allowed, found, NO_ROW)
            scores[pending], rows[pending] = sorted_hits(of_all, found, k)
            pending = pending[is_allowed.sum(1) < min(k, len(selector))] if length < self.size else pending[:0]
            length *= GROWTH
        return scores, rows

    def _hits(self, queries: npt.NDArray[np.float32], k: int, selector: RowSelector | None) -> Hits:
        from qdrant_client import models

        scores, rows = no_hits(len(queries), k)
        parameters = models.SearchParams(exact=True) if self._address.exact else None
        allowed, n_ids = _filter(selector)
        per_request = max(1, min(QUERIES_PER_REQUEST, IDS_PER_REQUEST // max(1, n_ids)))
        for start in range(0, len(queries), per_request):
            block = queries[start : start + per_request]
            requests = [
                models.QueryRequest(query=query.tolist(), limit=k, params=parameters, filter=allowed) for query in block
            ]
            with _answers(self._address):
                answers = self._client.query_batch_points(self._address.collection, requests)
            for i, answer in enumerate(answers, start):
                hits = sorted((-point.score, int(point.id)) for point in answer.points)  # ties by row
                scores[i, : len(hits)] = [-score for score, _ in hits]
                rows[i, : len(hits)] = [row for _, row in hits]
        return scores, rows


def _filter(selector: RowSelector | None) -> tuple[Any, int]:
    """The filter of a selector for the service, and its number of ids; None and 0 where all rows are allowed."""
    from qdrant_client import models

    if selector is None:
        return None, 0
    forbidden = np.flatnonzero(~selector.mask)
    if len(forbidden) < len(selector):
        condition = models.HasIdCondition(has_id=forbidden.tolist())
        return (models.Filter(must_not=[condition]), len(forbidden)) if len(forbidden) else (None, 0)
    return models.Filter(must=[models.HasIdCondition(has_id=selector.rows.tolist())]), len(selector)


def upload(
    vectors: npt.NDArray[Any],
    client: QdrantClient,
    address: QdrantAddress,
    progress: Callable[[int, int], None] | None = None,
) -> QdrantIndex:
    """Store vectors in a new collection; their rows become the ids of the points.

    A collection of that name that is already complete is used as it is, one that is not is completed: names of collections
    should say what the vectors were made of, see `collection_name`.

    Args:
        vectors: may be a memory map. *Shape:* (n, d), float.
        client: of the service.
        address: of the collection.
        progress: called with (vectors stored, total vectors).

    Raises:
        ServiceError: the service does not answer, or refuses.
        ShapeError: ``vectors`` is not a matrix.
        MismatchError: the collection of that name has other vectors.
    """
    from qdrant_client import models

    if vectors.ndim != 2:
        raise ShapeError(f"vectors have {vectors.ndim} dimensions; give a matrix of shape (entities, width)")
    n, dim = vectors.shape
    with _answers(address):
        if not client.collection_exists(address.collection):
            parameters = models.VectorParams(size=dim, distance=models.Distance.DOT, on_disk=True)
            client.create_collection(address.collection, vectors_config=parameters)
    stored = QdrantIndex(client, address)
    if stored.dim != dim or stored.size > n:
        raise MismatchError(
            f"collection {address.collection!r} of {address.url} has {stored.size} vectors of dimension {stored.dim}, not "
            f"{n} of {dim}; give another --collection"
        )
    # Rows are stored in order, so that the number of points says where a killed upload stopped.
    for start in range(stored.size, n, UPLOADED_ROWS):
        block = np.asarray(vectors[start : start + UPLOADED_ROWS], dtype=np.float32)
        batch = models.Batch(ids=list(range(start, start + len(block))), vectors=block.tolist())
        with _answers(address):
            client.upsert(address.collection, batch, wait=True)
        if progress is not None:
            progress(start + len(block), n)
    return QdrantIndex(client, address)


def store(
    vectors: npt.NDArray[Any],
    service: QdrantService,
    hashes: tuple[str, str],
    address_file: Path,
    advance: Callable[[int], None] = lambda rows: None,
) -> None:
    """Store the vectors of a knowledge base in a service, and its address in a file; see `upload`.

    Args:
        vectors: *Shape:* (n, d), float.
        service: where to.
        hashes: of the catalogue and of the model, for the name of the collection.
        address_file: written at the end.
        advance: called with newly stored rows.
    """
    address = QdrantAddress(service.url, service.collection or collection_name(*hashes), service.exact)
    stored = 0

    def progress(rows: int, _total: int) -> None:
        nonlocal stored
        advance(rows - stored)
        stored = rows

    upload(vectors, connect(address), address, progress)
    address.save(address_file)


def open_stored(path: Path) -> QdrantIndex:
    """The index whose address is in a file; see `QdrantAddress.load` and `QdrantIndex`."""
    address = QdrantAddress.load(path)
    return QdrantIndex(connect(address), address)


def collection_name(catalogue: str, model: str) -> str:
    """A name that differs for other entities or another model.

    Args:
        catalogue: hash of the catalogue.
        model: fingerprint of the candidate encoder.
    """
    return f"blink-{catalogue[:12]}-{model[:12]}"


@contextmanager
def _answers(address: QdrantAddress) -> Iterator[None]:
    """Turn errors of the service and of the way to it into one line.

    Raises:
        ServiceError: instead of them.
    """
    from httpx import HTTPError
    from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except UnexpectedResponse as error:
        remedy = f"set {API_KEY}" if error.status_code in (401, 403) else "look at its log"
        raise ServiceError(f"{address.url} refused ({error.status_code} {error.reason_phrase}); {remedy}") from error
    except (ApiException, ResponseHandlingException, HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ServiceError(f"{address.url} does not answer ({reason}); is Qdrant running there?") from error
