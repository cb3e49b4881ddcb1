"""What the server counts, for Prometheus: of one process, or of all worker processes together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Folder in which worker processes keep their counts, set before this module is imported."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counts of requests, batches, links and edits, and gauges of the queue, the knowledge base and memory.

    Examples:
        >>> metrics = Metrics()
        >>> metrics.request("/link", "POST", 200, 0.01)
        >>> b'blink_requests_total{method="POST",route="/link",status="200"} 1.0' in metrics.page()
        True
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        of: dict[str, Any] = {"registry": self._registry}
        self._requests = Counter("blink_requests", "Answered requests.", ["route", "method", "status"], **of)
        self._seconds = Histogram("blink_request_seconds", "Time to an answer.", ["route"], buckets=SECONDS, **of)
        self._batch_texts = Histogram("blink_batch_texts", "Texts linked together.", buckets=TEXTS, **of)
        self._batch_seconds = Histogram("blink_batch_seconds", "Time to link a batch.", buckets=SECONDS, **of)
        self._characters = Counter("blink_characters", "Linked characters.", **of)
        self._links = Counter("blink_links", "Links in answers.", **of)
        self._edits = Counter("blink_edits", "Edits of the knowledge base.", ["kind"], **of)
        self._waiting = Gauge("blink_queue_texts", "Texts that wait.", multiprocess_mode="livesum", **of)
        self._waiting_characters = Gauge("blink_queue_characters", "Characters that wait.", multiprocess_mode="livesum", **of)
        self._rows = Gauge("blink_kb_rows", "Rows of the knowledge base.", multiprocess_mode="livemax", **of)
        self._edit_number = Gauge("blink_kb_edit", "Number of the last edit.", multiprocess_mode="livemax", **of)
        self._memory = Gauge("blink_resident_bytes", "Resident memory.", multiprocess_mode="liveall", **of)
        self._ready = Gauge("blink_ready", "Processes that are ready.", multiprocess_mode="livesum", **of)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, n_texts: int, n_characters: int, seconds: float) -> None:
        """Count texts that were linked together."""
        self._batch_texts.observe(n_texts)
        self._batch_seconds.observe(seconds)
        self._characters.inc(n_characters)

    def links(self, n_links: int) -> None:
        """Count the links of an answer."""
        self._links.inc(n_links)

    def edit(self, kind: str) -> None:
        """Count an edit."""
        self._edits.labels(kind).inc()

    def queue(self, n_texts: int, n_characters: int) -> None:
        """Note what waits."""
        self._waiting.set(n_texts)
        self._waiting_characters.set(n_characters)

    def state(self, *, ready: bool, rows: int, edit: int) -> None:
        """Note whether this process is ready, and what its knowledge base has; its memory is measured."""
        self._ready.set(float(ready))
        self._rows.set(rows)
        self._edit_number.set(edit)
        self._memory.set(resident_bytes())

    def page(self) -> bytes:
        """All of it in the text format of Prometheus."""
        if os.environ.get(FOLDER_VARIABLE):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self._registry)


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not say it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
