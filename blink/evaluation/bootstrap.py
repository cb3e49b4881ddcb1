"""Bootstrap intervals of micro averages.

A resample draws as many texts as there are, with replacement. The spread of an average over many resamples estimates its
sampling error (Efron and Tibshirani 1993, chapter 13; paired for two systems as in Berg-Kirkpatrick et al. 2012). Texts
that are not independent, such as paraphrases, are drawn together as one cluster.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from blink.errors import SettingsError, ShapeError

_BLOCK_CELLS = 1 << 22  # int64 cells sampled at a time: 32 MiB


def cluster_sums(counts: npt.NDArray[np.int64], clusters: Sequence[Hashable] | None) -> npt.NDArray[np.int64]:
    """Sum the counts of the texts of each cluster. With None, every text is its own cluster.

    Args:
        counts: one row per text. *Shape:* (n, k).
        clusters: a cluster label per text.

    Returns:
        one row per cluster. *Shape:* (c, k).

    Raises:
        ShapeError: the number of labels is not the number of texts.
    """
    if clusters is None:
        return counts
    if len(clusters) != len(counts):
        raise ShapeError(f"{len(clusters)} clusters for {len(counts)} texts; give one for each")
    cluster_ids: dict[Hashable, int] = {}
    cluster_of_row = [cluster_ids.setdefault(cluster, len(cluster_ids)) for cluster in clusters]
    sums = np.zeros((len(cluster_ids), counts.shape[1]), dtype=np.int64)
    np.add.at(sums, cluster_of_row, counts)
    return sums


def resample(counts: npt.NDArray[np.int64], n_resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw n of the n rows with replacement, and sum them.

    Equal rows are interchangeable. It suffices to draw how often each distinct row occurs, which gives the same distribution
    at lower cost and does not depend on the order of the rows.

    Args:
        counts: one row per text or cluster, at least one. *Shape:* (n, k).
        n_resamples: number of resamples.
        seed: of the generator.

    Returns:
        sums of each resample. *Shape:* (n_resamples, k).

    Raises:
        SettingsError: ``n_resamples`` is less than 1.
    """
    if n_resamples < 1:
        raise SettingsError(f"{n_resamples} bootstrap samples requested; use 1 or more, say 1000")
    distinct, times = np.unique(counts, axis=0, return_counts=True)
    shares = times / len(counts)
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // len(distinct))
    draws = (
        generator.multinomial(len(counts), shares, size=min(block, n_resamples - done)) @ distinct
        for done in range(0, n_resamples, block)
    )
    return np.concatenate(list(draws))


def f1_of(correct: npt.NDArray[np.int64], mentions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Micro F1 of resampled counts; ``mentions`` is predicted plus gold. 0 where there are none. *Shapes:* (n_resamples,)."""
    return np.asarray(2 * correct / np.maximum(mentions, 1), dtype=np.float64)


def middle(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of ``values``."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def two_sided_p(differences: npt.NDArray[np.float64]) -> float:
    """Two-sided bootstrap p-value of "no difference": twice the smaller share of the resamples on either side of zero.

    Resamples with a difference of 0 count on both sides. One is added to both counts, so that p is never 0, and is 1 for
    systems that do not differ.
    """
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))
