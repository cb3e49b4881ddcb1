"""Fits the weights of the resolver and selects its threshold.

    python scripts/resolve_pairs.py FACTS.jsonl.gz ENTITY.jsonl TRAIN.jsonl
    python scripts/fit_resolver.py TRAIN.jsonl tests/data/resolve/pairs-{dev,train}.jsonl

Weights are fitted on all files; the probabilities of DEV, by which the threshold is selected, are out of fold.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from blink.linking.opening import open_candidate_encoder
from blink.resolve.fitting import by_kind, fit_scorer, operating_point, pair_profiles, read_pairs, select_threshold
from blink.resolve.scorer import WEIGHTS_FILE

COUNT = 8.0
"""How often a labelled pair counts, of which there are few."""
REVIEW = 0.3


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FILE)
    arguments = parser.parse_args()
    encode = open_candidate_encoder(None, "auto", None, 64).encode
    train, dev = read_pairs(arguments.train), [pair for path in arguments.dev for pair in read_pairs(path)]
    pairs, profiles = [*train, *dev], [*pair_profiles(train, encode), *pair_profiles(dev, encode)]
    scorer, p = fit_scorer(pairs, profiles, np.r_[np.ones(len(train)), np.full(len(dev), COUNT)])
    same = np.array([pair.same for pair in pairs])
    of_train, of_dev = slice(0, len(train)), slice(len(train), len(pairs))
    point = select_threshold(p[of_dev], same[of_dev])
    about = {
        "pairs_from_catalogue": len(train),
        "labelled_pairs": len(dev),
        "recall": round(point.recall, 4),
        "precision": round(point.precision, 4),
        "precision_low": round(point.precision_low, 4),
    }
    replace(scorer, same=point.threshold, new=REVIEW, about=about).save(arguments.out)
    rows = [f"labelled: {point}", f"{arguments.train}: {operating_point(point.threshold, p[of_train], same[of_train])}"]
    sys.stdout.write("\n".join([*rows, *map(str, by_kind(dev, p[of_dev], point.threshold))]) + "\n")


if __name__ == "__main__":
    main()
