"""The candidates of a window and their features, one span, candidate and name at a time: what the flat arrays must equal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from blink.kb.alias_table import ALIAS, BARE_TITLE, TITLE, VARIANT, normalise
from blink.kb.fuzzy_index import FuzzyIndex
from blink.kb.hashed_names import hashed, hashed_words, initials_hash
from blink.kb.name_index import NameIndex
from blink.kb.name_similarity import MEASURES
from blink.kb.popularity import COLUMNS
from blink.linking.analysis import DetectedMentions
from blink.linking.features import MANY_ENTITIES
from blink.linking.scoring import ScoredSpans
from blink.linking.surroundings import SURROUNDINGS, TextContext, surroundings

Measured = list[list[tuple[int, dict[str, float]]]]
"""Row and features of each candidate of each span."""
NO = VARIANT - 1


def measured(
    spans: ScoredSpans, mentions: DetectedMentions, context: TextContext, names: NameIndex, vectors: np.ndarray
) -> Measured:
    """The candidates of the spans of one window, with their features."""
    matches = [{m.row: m.kind for m in names.candidates(string)} for string in context.strings]
    around = surroundings([context])
    result: Measured = []
    for i, string in enumerate(context.strings):
        rows = [row for row in spans.rows[i].tolist() if row >= 0]
        logits = spans.entity_logits[i, : len(rows)].tolist()
        added = [row for row in list(matches[i]) or names.fuzzy_index.similar(string) if row not in rows]
        logits += [float(vectors[row] @ mentions.vectors[i]) for row in added]
        rows += added
        topics = None if mentions.topics is None else [float(vectors[row] @ mentions.topics[i]) for row in rows]
        kinds = [matches[i].get(row, NO) for row in rows]
        of_span = _mention(i, spans, context, matches) | dict(zip(SURROUNDINGS, around[i].tolist(), strict=True))
        of_span |= {"entities": math.log(min(len(names.popularity), MANY_ENTITIES)), "namesakes": math.log1p(len(matches[i]))}
        of_span["in_alias_table"] = len(matches[i]) > 0
        columns = [_spelling(names.fuzzy_index, string, row, context.window_text) for row in rows]
        popular = [dict(zip(COLUMNS, names.popularity[row].tolist(), strict=True)) for row in rows]
        result.append([])
        for c, (row, kind) in enumerate(zip(rows, kinds, strict=True)):
            by_kind = {"alias": kind >= ALIAS, "bare_title": kind >= BARE_TITLE, "title": kind >= TITLE}
            by_kind |= {"is_fuzzy_match": kind == VARIANT, "is_unambiguous": kind >= VARIANT and len(matches[i]) == 1}
            by_kind["behind_best_dice"] = columns[c]["dice"] - max(of_row["dice"] for of_row in columns)
            famous = max((f["popularity"] for f, k in zip(popular, kinds, strict=True) if k >= ALIAS), default=0)
            by_kind["popularity_gap"] = popular[c]["popularity"] - famous if kind >= ALIAS else 0
            products = _products(c, logits, kinds) | _topics(c, topics, kinds)
            result[-1].append((row, of_span | by_kind | columns[c] | popular[c] | products))
    return result


def _products(c: int, logits: Sequence[float], kinds: Sequence[int]) -> dict[str, float]:
    others = sorted(logits)[:-1] if logits[c] == max(logits) else [max(logits)]
    named = [x for x, kind in zip(logits, kinds, strict=True) if kind >= ALIAS]
    unnamed = [x for x, kind in zip(logits, kinds, strict=True) if kind < ALIAS]
    of_named = logits[c] - _log_sum(named) if kinds[c] >= ALIAS else 0
    return {
        "logit": logits[c],
        "behind_best": max(logits[c] - max(logits), -30),
        "ahead_of_next": _limited(logits[c] - max(others, default=max(logits) - 10), 30),
        "log_softmax": max(logits[c] - _log_sum(logits), -30),
        "named_margin": _limited(max(named) - max(unnamed)) if named and unnamed else 0,
        "behind_best_named": _limited(logits[c] - max(named)) if named else 0,
        "namesake_log_softmax": max(of_named, -20),
        "namesakes_ahead": math.log1p(sum(x > logits[c] for x in named)),
    }


def _topics(c: int, topics: Sequence[float] | None, kinds: Sequence[int]) -> dict[str, float]:
    names = ("topic", "topic_behind_best", "topic_behind_best_named", "topic_ahead_of_next")
    if topics is None:
        return dict.fromkeys(names, 0.0)
    named = [x for x, kind in zip(topics, kinds, strict=True) if kind >= ALIAS]
    others = sorted(topics)[:-1] if topics[c] == max(topics) else [max(topics)]
    differences = [[max(topics)], named, others]
    return dict(zip(names, [topics[c], *(_limited(topics[c] - max(x)) if x else 0 for x in differences)], strict=True))


def _spelling(index: FuzzyIndex, mention: str, row: int, context: str) -> dict[str, float]:
    query, best = hashed(mention), dict[str, float]()
    trigrams, words = set(query.trigrams.tolist()), set(query.words.tolist())
    around = set(hashed_words(normalise(context).split()).tolist())
    for name in range(int(index.first[row]), int(index.first[row + 1])) if words else ():
        of_name = set(index.words[index.word_at[name] : index.word_at[name + 1]].tolist())
        letters = set(index.grams[index.gram_at[name] : index.gram_at[name + 1]].tolist())
        shared, weight, of_mention = (_rarity(index, x) for x in (words & of_name, of_name, words))
        rest = of_name - words
        values = {
            "dice": 2 * len(trigrams & letters) / (len(trigrams) + len(letters)),
            "words_found": len(words & of_name) / len(words),
            "words_covered": len(words & of_name) / len(of_name),
            "initials": float(index.initials[name] == initials_hash(mention)),
            "mention_coverage": shared / of_mention,
            "name_coverage": shared / weight,
            "word_dice": 2 * shared / (of_mention + weight),
            "rest_in_context": _rarity(index, rest) if words & of_name and rest <= around else 0,
        }
        best = {measure: max(value, best.get(measure, 0)) for measure, value in values.items()}
    return {measure: best.get(measure, 0.0) for measure in MEASURES}


def _rarity(index: FuzzyIndex, words: set[int]) -> float:
    return float(index.rarity(np.array(sorted(words), dtype=np.uint32)).sum()) if words else 0.0


def _mention(i: int, spans: ScoredSpans, context: TextContext, matches: Sequence[dict[int, int]]) -> dict[str, float]:
    string, logit = context.strings[i], float(spans.mention_logits[i])
    bounds = list(zip(spans.start.tolist(), spans.end.tolist(), spans.mention_logits.tolist(), matches, strict=True))
    first, last = bounds[i][:2]
    others = [(b - a, x, of) for j, (a, b, x, of) in enumerate(bounds) if j != i and a <= last and b >= first]
    longer, shorter = ([o for o in others if (o[0] - (last - first)) * sign > 0] for sign in (1, -1))
    is_cased = np.broadcast_to(context.is_cased, len(bounds))[i]
    return {
        "mention": _limited(logit, 12),
        "width": math.log1p(string.count(" ")),
        "is_lowercase": string[:1].islower() and bool(is_cased),
        "is_capitalized": string[:1].isupper(),
        "is_numeric": string.replace(" ", "").isdigit(),
        "overlap_margin": _limited(logit - max([-12.0, *(o[1] for o in others)]), 12),
        "longer_name": any(o[2] for o in longer),
        "shorter_name": any(o[2] for o in shorter),
        "longer_mention": _limited(logit - max([-12.0, *(o[1] for o in longer)]), 12),
    }


def _log_sum(values: Sequence[float]) -> float:
    return max(values) + math.log(sum(math.exp(x - max(values)) for x in values))


def _limited(value: float, limit: float = 20) -> float:
    return max(-limit, min(limit, value))
