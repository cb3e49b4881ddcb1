"""The GERBIL round trip: texts to a server as NIF, one document a request, and the links back, compared with `blink link`.

    python benchmarks/gerbil_round_trip.py --rows 1000 --out benchmarks/results/gerbil.json

Starts `blink serve` unless --url names a running one. The texts are those of mention files, whose gold is scored as GERBIL
scores it next to `blink eval`, and after them descriptions of the starter's entities, up to --rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gerbil_client import GerbilDocument, annotations_of, gerbil_scores, turtle_of  # noqa: E402
from benchmarks.server_process import running_server  # noqa: E402
from blink.data.mention_files import labelled_samples  # noqa: E402
from blink.data.records import Entity, Link, LinkedText, Mention, Sample  # noqa: E402
from blink.evaluation.counts import evaluated_text  # noqa: E402
from blink.evaluation.report import evaluate  # noqa: E402
from blink.evaluation.speed.machine import machine  # noqa: E402
from blink.linking.linker import Linker  # noqa: E402
from blink.serving.entity_uris import uri_writer  # noqa: E402

FILES = ("tests/data/everyday.jsonl", "tests/data/everyday-dev.jsonl")
HEADERS = {"content-type": "application/x-turtle;charset=UTF-8", "accept": "application/x-turtle"}
URI_OF = uri_writer("wikidata")
SCORE_DIGITS = 5


def main() -> None:
    """Make both round trips and print, or write, what came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="texts")
    parser.add_argument("--url", help="a running server of the starter; by default one is started")
    parser.add_argument("--parallel", type=int, default=8, help="requests at once")
    parser.add_argument("--files", nargs="*", default=list(FILES), help="mention files")
    parser.add_argument("--out", help="JSON file of the result")
    options = parser.parse_args()
    linker = Linker.from_pretrained()
    labelled = [sample for file in options.files for sample in labelled_samples(str(ROOT / file), linker.kb.catalogue)]
    texts = [sample.text for sample in labelled]
    texts += [entity.text for entity in linker.kb.catalogue.iter(0, options.rows)][: max(0, options.rows - len(texts))]
    texts = texts[: options.rows]
    with running_server(options.url) as url:
        result = {"machine": machine(), "texts": len(texts), "parallel": options.parallel}
        result["a2kb"], answers, linked = round_trip(linker, url, texts, None, options.parallel)
        spans = [[(link.start, link.end) for link in of.links] for of in linked]
        result["d2kb"], _, _ = round_trip(linker, url, texts, spans, options.parallel)
    result["scores"] = {
        name: scores_of(labelled[: len(texts)], linked, answers, weak=name == "weak") for name in ("weak", "strong")
    }
    print(json.dumps(result, indent=2))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if all(result[task]["different_texts"] == 0 for task in ("a2kb", "d2kb")) else 1)


def round_trip(
    linker: Linker, url: str, texts: Sequence[str], spans: Sequence[list[tuple[int, int]]] | None, parallel: int
) -> tuple[dict[str, Any], list[list[Any]], list[LinkedText]]:
    """Send all texts, and compare the links that come back with the linker's own."""
    task = "a2kb" if spans is None else "d2kb"
    documents = [
        turtle_of(GerbilDocument(f"http://example.org/{i}", text, tuple(spans[i]) if spans else ()))
        for i, text in enumerate(texts)
    ]
    begin = time.perf_counter()
    with (
        httpx.Client(base_url=url, timeout=120, limits=httpx.Limits(max_connections=parallel)) as client,
        ThreadPoolExecutor(parallel) as pool,
    ):
        answers = list(
            pool.map(lambda of: client.post(f"/nif/{task}?uris=wikidata", content=of.encode(), headers=HEADERS), documents)
        )
    elapsed_s = time.perf_counter() - begin
    returned = [next(iter(annotations_of(answer.raise_for_status().text).values())) for answer in answers]
    begin = time.perf_counter()
    linked = linker(list(texts), spans=spans)
    linker_s = time.perf_counter() - begin
    expected = [[(x.start, x.end, URI_OF(_entity(x)), round(x.score, SCORE_DIGITS)) for x in of.links] for of in linked]
    rounded = [[(*of[:3], round(of[3], SCORE_DIGITS)) for of in links if of[3] is not None] for links in returned]
    same = [[of[:3] for of in a] == [of[:3] for of in b] for a, b in zip(rounded, expected, strict=True)]
    largest = max(
        (abs(a[3] - b[3]) for x, y in zip(rounded, expected, strict=True) for a, b in zip(x, y, strict=False)), default=0
    )
    figures = {"links": sum(map(len, expected)), "different_texts": same.count(False), "largest_difference_of_scores": largest}
    return figures | {"seconds": round(elapsed_s, 2), "seconds_of_the_linker_alone": round(linker_s, 2)}, returned, linked


def scores_of(
    samples: Sequence[Sample], linked: Sequence[LinkedText], answers: Sequence[list[Any]], *, weak: bool
) -> dict[str, Any]:
    """The scores of labelled texts as GERBIL counts them, and those of `blink eval`."""
    gold = [[(m.start, m.end, URI_OF(_entity(m))) for m in sample.mentions or ()] for sample in samples]
    predicted = [[of[:3] for of in links] for links in answers[: len(samples)]]
    gerbil = gerbil_scores(gold, predicted, weak=weak)
    overall = evaluate([evaluated_text(s, of) for s, of in zip(samples, linked, strict=False)], n_resamples=1).overall
    eval_scores = overall.weak if weak else overall.strong
    names = ("precision", "recall", "f1")
    return {
        "texts": len(samples),
        "gerbil_micro": dict(zip(names, map(_rounded, gerbil.micro), strict=True)),
        "gerbil_macro": dict(zip(names, map(_rounded, gerbil.macro), strict=True)),
        "blink_eval": {name: _rounded(getattr(eval_scores, name)) for name in names},
    }


def _entity(of: Link | Mention) -> Entity:
    """What is known of an entity without its catalogue: enough for its URI."""
    return Entity(of.row, of.title or "", kb_id=of.kb_id)


def _rounded(value: float) -> float:
    return round(value, 4)


if __name__ == "__main__":
    main()
