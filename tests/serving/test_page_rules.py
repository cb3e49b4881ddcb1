"""The rules that the web page applies in the browser, run by Node.js where it is installed, beside those of the server."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blink.linking.decoder import PROBABILITY, Thresholds, decide
from blink.linking.scoring import ScoredSpans, link_probabilities

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js; the browser tests run the same rules")
STATIC = Path(str(files("blink.serving") / "static"))
LENGTH = 24


def evaluated(code: str, given: Any, folder: Path) -> Any:
    """What JavaScript returns for a value: ``code`` is imports of modules of the page, ``---`` and a function body."""
    imports, _, body = code.rpartition("---")
    script = folder / "script.mjs"
    script.write_text(
        f"import {{ readFileSync }} from 'node:fs';\n{imports.replace('./', f'{STATIC.as_uri()}/')}\n"
        f"const run = (given) => {{ {body} }};\n"
        "process.stdout.write(JSON.stringify(run(JSON.parse(readFileSync(0, 'utf8')))));\n",
        encoding="utf-8",
    )
    package = folder / "package.json"
    package.write_text('{"type": "module"}', encoding="utf-8")
    command = ["node", "--experimental-default-type=module", str(script)]
    result = subprocess.run(command, input=json.dumps(given).encode(), capture_output=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout)


def random_spans(rng: random.Random, ties: bool) -> ScoredSpans:
    """Spans over characters, some of them alike in score."""
    bounds = sorted(
        {(start, min(LENGTH - 1, start + rng.randrange(5))) for start in rng.choices(range(LENGTH), k=rng.randrange(14))}
    )
    logits = [[rng.choice((-1.0, 0.0, 1.0)) if ties else rng.gauss(0, 2) for _ in range(3)] for _ in bounds]
    entity_logits = -np.sort(-np.array(logits, np.float32).reshape(-1, 3), axis=1)
    rows = np.array([rng.sample(range(50), 3) for _ in bounds], np.int64).reshape(-1, 3)
    start, end = (np.array([span[i] for span in bounds], np.int64) for i in (0, 1))
    return ScoredSpans(start, end, np.zeros(len(bounds), np.float32), rows, entity_logits)


def as_mentions(spans: ScoredSpans) -> list[dict[str, Any]]:
    scores = link_probabilities(spans)[:, 0].tolist()
    bounds = zip(spans.start.tolist(), spans.end.tolist(), scores, spans.rows[:, 0].tolist(), strict=True)
    return [{"start": s, "end": e + 1, "score": score, "candidates": [{"row": row}]} for s, e, score, row in bounds]


def test_links_at_a_threshold_are_those_of_the_decoder(tmp_path: Path) -> None:
    rng = random.Random(5)
    cases, expected = [], []
    for number in range(400):
        spans = random_spans(rng, ties=number % 2 == 0)
        scores = link_probabilities(spans)[:, 0].tolist()
        # Also at the scores themselves, which are no links then, and at the next number below, at which they are.
        thresholds = [rng.random(), *rng.sample(scores, min(2, len(scores))), *[np.nextafter(x, 0) for x in scores[:1]]]
        for threshold in map(float, thresholds):
            cases.append({"mentions": as_mentions(spans), "threshold": threshold})
            kept = decide(spans, PROBABILITY, Thresholds(threshold))
            expected.append(sorted([int(spans.start[d.span]), int(spans.end[d.span]) + 1, d.row] for d in kept))
    assert len({len(links) for links in expected}) > 3
    code = """import { linksAt } from "./decoding.js"; ---
        const bounds = (m) => [m.start, m.end, m.candidates[0].row];
        return given.map(({ mentions, threshold }) => linksAt(mentions, threshold).map(bounds));"""
    assert evaluated(code, cases, tmp_path) == expected


def test_offsets_count_characters_whatever_their_width(tmp_path: Path) -> None:
    texts = ["", "plain", "😀 in Paris 😀😀", "𝒜𝒷", "é\u0301 日本 😀"]
    code = """import { Offsets } from "./offsets.js"; ---
        return given.map((text) => {
          const offsets = new Offsets(text);
          const points = [...Array(offsets.length + 1).keys()];
          const units = points.map((i) => offsets.toUnit(i));
          return { length: offsets.length, units, back: units.map((i) => offsets.toPoint(i)) };
        });"""
    for text, offsets in zip(texts, evaluated(code, texts, tmp_path), strict=True):
        assert offsets["length"] == len(text)
        assert offsets["back"] == list(range(len(text) + 1))
        assert offsets["units"] == [len(text[:i].encode("utf-16-le")) // 2 for i in range(len(text) + 1)]


def test_links_by_hand_hide_links_that_they_overlap(tmp_path: Path) -> None:
    mention = {"start": 0, "end": 5, "score": 0.9, "candidates": [{"row": 1, "title": "Paris", "types": ["city"]}]}
    other = {"start": 6, "end": 9, "score": 0.2, "candidates": [{"row": 2, "title": "Ohm", "types": []}]}
    explanation = {"score_kind": "probability", "mode": "probability", "threshold": 0.5, "mentions": [mention, other]}
    given = {"text": "Paris Ohm 😀", "section": {"explanation": explanation, "entities": {}, "start": 0, "end": 11}}
    code = """import { Session } from "./session.js"; ---
        const session = new Session(given.text);
        session.add(given.section);
        const row = ({ mention, entity, state }) => [mention.start, mention.end, entity?.title ?? null, state];
        const shown = () => session.items().map(row);
        const steps = [shown(), session.weaker(session.items()).map((item) => item.mention.start)];
        session.pin({ start: 2, end: 9, score: 0.1, candidates: [{ row: 3, title: "By hand" }] });
        steps.push(shown());
        session.correct(session.mentions[1], { entity: null, verdict: "nothing" });
        steps.push(shown());
        session.threshold = 0.95;
        session.correct(session.mentions[1], null);
        session.pinned = [];
        return [...steps, shown(), session.toJSON().links.length];"""
    first, weaker, pinned, corrected, strict, count = evaluated(code, given, tmp_path)
    assert first == [[0, 5, "Paris", "link"]]
    assert weaker == [6]
    assert pinned == [[2, 9, "By hand", "pinned"]]
    assert corrected == [[0, 5, "Paris", "link"], [6, 9, None, "nothing"]]
    assert strict == []
    assert count == 0


def test_kinds_and_addresses(tmp_path: Path) -> None:
    types = [
        ["person", "actor"],
        ["place", "city"],
        ["organization", "sports team"],
        ["gene"],
        ["gene"],
        [],
        ["television series"],
    ]
    urls = [
        "https://en.wikipedia.org/wiki/Nile",
        "javascript:alert(1)",
        " data:text/html,x",
        "JaVaScRiPt:1",
        None,
        "http://[bad",
        "//host/x",
    ]
    code = """import { kindOf } from "./kinds.js"; import { pageAddress } from "./dom.js"; ---
        return { kinds: given.types.map(kindOf), addresses: given.urls.map(pageAddress) };"""
    answer = evaluated(code, {"types": types, "urls": urls}, tmp_path)
    names = [kind["name"] for kind in answer["kinds"]]
    assert names == ["person", "place", "team", "gene", "gene", "entity", "work"]
    assert answer["kinds"][3]["colour"] == answer["kinds"][4]["colour"]
    assert answer["kinds"][3]["colour"].startswith("other-")
    assert answer["addresses"] == ["https://en.wikipedia.org/wiki/Nile", *[None] * 6]


@pytest.mark.parametrize(
    ("kind", "scores"), [("probability", [0.2, 0.999]), ("log_probability", [-7.5, -0.1]), ("inner_product", [-3.0, 41.5])]
)
def test_scales_hold_all_scores_and_modes_of_the_server_their_links(tmp_path: Path, kind: str, scores: list[float]) -> None:
    mentions = [
        {"start": i, "end": i + 2, "score": score, "status": "linked", "candidates": [{"row": i}]}
        for i, score in enumerate(scores)
    ]
    explanation = {"score_kind": kind, "threshold": None, "mentions": mentions}
    code = """import { Session } from "./session.js"; ---
        return ["joint", "thresholded_entity_by_mention"].map((mode) => {
          const session = new Session("abcdef");
          session.add({ explanation: { ...given, mode }, entities: {}, start: 0, end: 6 });
          const positions = session.mentions.map((mention) => session.scale.position(mention.score));
          const texts = session.mentions.map((mention) => session.scale.text(mention.score));
          return { positions, texts, rows: session.items().map((item) => item.entity.row), threshold: session.threshold };
        });"""
    filtered, as_given = evaluated(code, explanation, tmp_path)
    assert 0 <= filtered["positions"][0] < filtered["positions"][1] <= 1
    assert len(set(filtered["texts"])) == 2
    assert filtered["threshold"] < min(scores)
    assert filtered["rows"] == [1]  # the better of two that overlap
    assert as_given["rows"] == [0, 1]  # a mode that links both
