"""Popularity by rank: counts of pages or links on the scale of Wikidata's numbers.

The popularity of an entity is 7 - log10 of its Wikidata number, see `blink.kb.popularity`. Numbers were given in order of
creation, so that a number is about a rank among all items. An item with more pages than all but a share of the items thus has
the popularity of the number that is this share of all numbers. With it, both kinds of popularity have the same distribution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

WIKIDATA_ITEMS, WIKIPEDIA_PAGES = 115_000_000, 7_000_000
"""About as many items has Wikidata, and pages the English Wikipedia; ranks among a part of them are scaled up to these."""


def popularity_by_count(n_of_count: Mapping[int, int], population: int) -> dict[int, float]:
    """The popularity of things by a count that each of them has.

    Args:
        n_of_count: number of things with each count, of all things.
        population: number of ranks.

    Returns:
        7 - log10(10 + rank) by count, where things of the same count share the rank in their middle.
    """
    total, above, values = sum(n_of_count.values()), 0, {}
    for count in sorted(n_of_count, reverse=True):
        rank = (above + n_of_count[count] / 2) / total * population
        values[count] = round(7 - math.log10(10 + rank), 4)
        above += n_of_count[count]
    return values
