"""A process that links for `blink.evaluation.speed.bench`: it opens one side, then obeys commands, a JSON object a line.

Each side has a process of its own, so that its memory, its imports and the time until it is ready are its alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blink.errors import BlinkError
from blink.evaluation.speed.machine import peak_memory_mib

if TYPE_CHECKING:
    from blink.linking.linker import Linker

Links = list[list[tuple[int, int, int]]]
"""Start, end and entity of the links of each text."""


class Side(Protocol):
    """A way to link texts."""

    def link(self, texts: Sequence[str], batch_size: int) -> Links:
        """Link texts in batches."""


class BlinkSide:
    """A linker, with the time that its stages take.

    Attributes:
        stage_s: CPU seconds by stage.
    """

    def __init__(self, **options: Any) -> None:
        from blink.linking.opening import open_linker

        self.linker: Linker = open_linker(**options)
        self.stage_s: defaultdict[str, float] = defaultdict(float)
        stages = self.linker.stages
        for label, stage, method in (
            ("encode", stages.detector.backend, "encode"),
            ("search", stages.candidates.index, "search"),
            ("rerank", stages.candidates, "expand"),
            ("rerank", stages.featurizer, "measure"),
            ("rerank", stages.reranker, "rerank"),
        ):
            if stage is not None:
                setattr(stage, method, self._timed(getattr(stage, method), label))

    def link(self, texts: Sequence[str], batch_size: int) -> Links:
        """Link texts in batches; one text as a program would that has one."""
        linked = [self.linker(texts[0])] if len(texts) == 1 else self.linker.link(texts, batch_size=batch_size)
        return [[(link.start, link.end, link.row) for link in text.links] for text in linked]

    def about(self) -> dict[str, Any]:
        """What was chosen for this machine."""
        backend = self.linker.stages.detector.backend
        return {
            "entities": len(self.linker.catalogue),
            "backend": backend.name,
            "precision": backend.precision,
            "index": type(self.linker.stages.candidates.index).__name__,
            "ranked": self.linker.stages.reranker is not None,
        }

    def tokens(self, texts: Sequence[str]) -> int:
        """Tokens of texts, special ones left out."""
        return sum(len(encoding.ids) for encoding in self.linker.stages.tokenizer.tokenize(texts))

    def _timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.stage_s[label] += time.process_time() - started

        return timed


def open_side(request: dict[str, Any]) -> Side:
    """The side that a request names."""
    options = dict(request["options"])
    if request["side"] == "blink":
        return BlinkSide(**options)
    from blink.evaluation.speed.original_way import OriginalWay

    return OriginalWay(Path(options["model"]), Path(options["kb"]), padding=options["padding"], encodings=options["encodings"])


def run(side: Side, command: dict[str, Any]) -> dict[str, Any]:
    """Link the texts of a command once: in batches, or one after the other with the time of each."""
    texts, batch_size = command["texts"], command["batch_size"]
    stage_s = side.stage_s if isinstance(side, BlinkSide) else {}
    stage_s.clear()
    calls: list[tuple[float, float]] = []
    wall, cpu = time.perf_counter(), time.process_time()
    if batch_size:
        links = side.link(texts, batch_size)
    else:
        links = []
        for text in texts:
            call_wall, call_cpu = time.perf_counter(), time.process_time()
            links += side.link([text], 1)
            calls.append((time.perf_counter() - call_wall, time.process_time() - call_cpu))
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "calls": calls,
        "stage_s": dict(stage_s),
        "links": links,
        "peak_mib": peak_memory_mib(),
    }


def main() -> None:
    """Open the side of the first line, then answer each further line."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        request = json.loads(sys.stdin.readline())
        started = time.perf_counter()
        side = open_side(request)
        first = side.link([request["text"]], 1)
        answer(
            {
                "cpu_s": time.process_time(),
                "wall_s": time.perf_counter() - started,
                "peak_mib": peak_memory_mib(),
                "links": first,
                "about": side.about() if isinstance(side, BlinkSide) else {},
                "tokens": side.tokens(request["texts"]) if isinstance(side, BlinkSide) else None,
            }
        )
        for line in sys.stdin:
            answer(run(side, json.loads(line)))
    except BlinkError as error:
        answer({"error": str(error)})


if __name__ == "__main__":
    main()
