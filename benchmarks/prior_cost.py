"""What a prior costs: time of linking with it against time without, in one process, alternately.

python benchmarks/prior_cost.py FILE [--kb DIR] [--model DIR] --prior FILE [--no-rank] [--runs 15] [--out OUT.json]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.model_options import open_linker
from blink.data.mention_files import read_samples
from scripts.harness import alternate, print_json


def main() -> None:
    """Measure, print and write as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--model")
    parser.add_argument("--kb")
    parser.add_argument("--prior", required=True)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--no-rank", action="store_true", help="beside the bi-encoder's own scores")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    texts = [sample.text for sample in read_samples(args.file)]
    rank = not args.no_rank
    plain = open_linker(args.model, args.kb, prior="none", rank=rank)
    # The same threshold: another one would let another number of spans through.
    threshold = plain.thresholds.score
    sides = {"without": plain, "with": open_linker(args.model, args.kb, threshold, prior=args.prior, rank=rank)}
    actions = {name: lambda linker=linker: list(linker.link(texts)) for name, linker in sides.items()}
    seconds = alternate(actions, args.runs, time.process_time)
    more = [with_it / without - 1 for with_it, without in zip(seconds["with"], seconds["without"], strict=True)]
    low, _, high = statistics.quantiles(more, n=4)
    prior = sides["with"].stages.graph_prior
    weights = None if prior is None else prior.weights
    result = {
        "texts": len(texts),
        "ranked": not args.no_rank,
        "terms": [t for t in ("popularity", "vector", "coherence") if getattr(weights, t, 0)],
        "runs": args.runs,
        "threads": torch.get_num_threads(),
        "ms_a_text_without": round(1e3 * statistics.median(seconds["without"]) / len(texts), 3),
        "share_more": {"median": round(statistics.median(more), 4), "quartiles": [round(low, 4), round(high, 4)]},
    }
    print_json(result, args.out)


if __name__ == "__main__":
    main()
