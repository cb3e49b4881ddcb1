"""Questions per second of `Linker` against the same model run the original's way; same predictions but for ties.

The original's way: float32, batches in file order, every text padded to 128, the 50 best spans of every text kept where
none passes the threshold and, for each batch, a matrix product with all entity vectors and the ten largest of each line.
Both sides run alternately in one process; the ratio of each pair of runs is what counts, absolute speeds depend on the
machine.

    python benchmarks/linking_speed.py FILE [--kb DIR] [--model DIR] [--runs 5] [--no-rank] [--out OUT.json]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.model_options import open_linker
from blink.data.mention_files import read_samples
from blink.data.records import LinkedText
from blink.linking.analysis import Analysis, DetectedMentions
from blink.linking.linker import Linker
from blink.linking.scoring import ScoredSpans
from blink.linking.surroundings import TextContext
from blink.model.tokenizer import pad
from scripts.harness import alternate, print_json

LENGTH = 128
MENTIONS = 50


@torch.inference_mode()
def link_padded(linker: Linker, matrix: torch.Tensor, texts: Sequence[str], batch_size: int) -> list[LinkedText]:
    """Link texts the original's way with the linker's model, knowledge base, ranker and threshold."""
    model, pieces = linker.model, linker.model.tokenizer
    stages, results = linker.stages, []
    for at in range(0, len(texts), batch_size):
        batch = texts[at : at + batch_size]
        cut = pieces.tokenize(batch)
        rows = [[pieces.cls_id, *p.ids.tolist()[: LENGTH - 2], pieces.sep_id] for p in cut]
        ids, real = pad(rows, pieces.pad_id, LENGTH)
        mask = torch.from_numpy(real)
        hidden = model.encode_context(torch.from_numpy(ids), mask)
        scores = model.score_spans(hidden, mask).without_ends(mask)
        if model.config.whole_words:
            scores = scores.whole_words(torch.from_numpy(pieces.inside_words(ids)))
        logits, start, end = scores.top(MENTIONS)
        passed = torch.nn.functional.logsigmoid(logits) > least_log_prob(linker)
        passed |= ~passed.any(1, keepdim=True)
        passed &= logits > float("-inf")
        text = passed.nonzero()[:, 0]
        vectors = model.embed_mentions(hidden, text, start[passed], end[passed])
        scores_of_entities, entities = (column.numpy() for column in (vectors @ matrix.T).topk(linker.options.entities))
        flat = (start[passed].numpy(), end[passed].numpy(), logits[passed].numpy())
        borders = np.searchsorted(text.numpy(), np.arange(1, len(batch)))
        columns = zip(
            *(np.split(column, borders) for column in (*flat, entities, scores_of_entities, vectors.numpy())), strict=True
        )
        for text_string, piece, (s, e, mention, row, entity, vector) in zip(batch, cut, columns, strict=True):
            spans = ScoredSpans(s - 1, e - 1, mention, row, entity)
            if stages.reranker is not None and stages.featurizer is not None and len(spans):
                bounds = [(int(piece.offsets[a, 0]), int(piece.offsets[b, 1])) for a, b in zip(s - 1, e - 1, strict=True)]
                cased = any(c.isupper() for c in text_string)
                context = TextContext(text_string, bounds, (0, len(text_string)), cased)
                mentions = DetectedMentions(s, e, mention, vector)
                features = stages.featurizer.measure(stages.candidates.expand(spans, mentions, context.strings), [context])
                spans = stages.reranker.rerank(features, [context], linker.options.entities)
            results.append(linker.decode(Analysis(text_string, piece.offsets, spans)))
    return results


def least_log_prob(linker: Linker) -> float:
    """Log probability that a mention must be above for the linker to look at it."""
    least, reranker = linker.min_mention_log_prob, linker.stages.reranker
    return least if reranker is None else max(least, reranker.network.min_mention_log_prob)


def differences(ours: Sequence[LinkedText], theirs: Sequence[LinkedText]) -> int:
    """Texts whose links differ in span or entity."""
    key = [[[(x.start, x.end, x.row) for x in t.links] for t in side] for side in (ours, theirs)]
    return sum(a != b for a, b in zip(*key, strict=True))


def main() -> None:
    """Run the comparison, print it and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--model")
    parser.add_argument("--kb")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--no-rank", action="store_true", help="both sides without the model's ranker")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    texts = [s.text for s in read_samples(args.file)]
    options = {"rank": not args.no_rank}
    linkers = {p: open_linker(args.model, args.kb, precision=p, **options) for p in ("fp32", "auto")}
    matrix = torch.from_numpy(np.array(linkers["fp32"].kb.vectors, dtype=np.float32))
    sides = {
        "original's way": lambda: link_padded(linkers["fp32"], matrix, texts, args.batch_size),
        "fp32": lambda: list(linkers["fp32"].link(texts, batch_size=args.batch_size)),
        "auto": lambda: list(linkers["auto"].link(texts, batch_size=args.batch_size)),
    }
    outputs = {name: run() for name, run in sides.items()}
    speeds = {name: [len(texts) / s for s in seconds] for name, seconds in alternate(sides, args.runs).items()}
    base = speeds["original's way"]
    result = {
        "texts": len(texts),
        "batch_size": args.batch_size,
        "ranked": linkers["auto"].stages.reranker is not None,
        "runs": args.runs,
        "threads": torch.get_num_threads(),
        "precision_auto": linkers["auto"].stages.detector.backend.precision,
        "questions_per_s": {name: round(statistics.median(s), 1) for name, s in speeds.items()},
        "ratio": {
            name: {
                "median": round(statistics.median(ratios), 2),
                "min": round(min(ratios), 2),
                "max": round(max(ratios), 2),
                "texts_linked_differently": differences(outputs[name], outputs["original's way"]),
            }
            for name in ("fp32", "auto")
            for ratios in [[a / b for a, b in zip(speeds[name], base, strict=True)]]
        },
    }
    print_json(result, args.out)


if __name__ == "__main__":
    main()
