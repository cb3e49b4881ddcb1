"""Coherence: the mean field against a plain one, what it must leave alone, and how related entities are by each measure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prior_toys import AsTheyAre, by_row, random_spans, same, spans, table

from blink.data.prior_file import RELATEDNESS, PriorTable, PriorWeights
from blink.errors import MismatchError, SettingsError
from blink.linking import coherence as module
from blink.linking import shared_neighbours, siblings
from blink.linking.coherence import (
    GROUP_SIZE,
    MIN_LINK_PROBABILITY,
    PriorStages,
    Relatedness,
    mean_field_update,
    relatedness_of,
)
from blink.linking.scoring import ScoredSpans, joint_scores, link_probabilities
from blink.linking.shared_neighbours import SharedNeighbours
from blink.linking.siblings import Siblings

pytestmark = pytest.mark.quick

ENTITIES = 7
some = settings(max_examples=40)


def of_matrix(phi: np.ndarray) -> Relatedness:
    return lambda aligned: phi[np.ix_(aligned, aligned)].astype(np.float32)


def any_relatedness(random: np.random.Generator) -> np.ndarray:
    phi = random.random((ENTITIES, ENTITIES)) * (random.random((ENTITIES, ENTITIES)) < 0.5)
    phi = np.maximum(phi, phi.T)
    np.fill_diagonal(phi, 0)
    return phi


def plain_chances(scored: ScoredSpans, i: int, with_nothing: bool) -> list[float]:
    """What a span names by its scores alone."""
    logits, mention = scored.entity_logits[i].tolist(), float(scored.mention_logits[i])
    if with_nothing:
        total = 1 + sum(map(math.exp, logits))
        return [math.exp(x) / total for x in logits]
    total = sum(map(math.exp, logits))
    mention_prob = 1 / (1 + math.exp(-mention))
    return [mention_prob * math.exp(x) / total if total else 0.0 for x in logits]


def mean_field(
    scored: ScoredSpans,
    aligned: list[list[int]],
    phi: np.ndarray,
    weight: float,
    ranked: bool,
    triples: Sequence[tuple[int, int, int]] = (),
) -> list[list[float]]:
    """What is added to each score: the formulas of `coherence` and `siblings`, one number at a time."""
    m, k = scored.rows.shape
    with_nothing = ranked and not all(x == math.inf for x in scored.mention_logits.tolist())
    first = [plain_chances(scored, i, with_nothing) for i in range(m)]
    likely = [i for i in range(m) if sum(first[i]) > MIN_LINK_PROBABILITY and any(p >= 0 for p in aligned[i])]
    belief = [list(row) for row in first]
    added = [[0.0] * k for _ in range(m)]

    entities_of_text = {entity for i in likely for entity in aligned[i] if entity >= 0}

    def related(i: int, entity: int, other: int) -> float:
        """How related a candidate of mention i is to another entity, with the messages of siblings."""
        p = {candidate: first[i][f] for f, candidate in enumerate(aligned[i]) if candidate >= 0 and first[i][f]}

        def shared(tail: int, relation: int) -> float | None:
            heads = {h for h, r, t in triples if (r, t) == (relation, tail) and h != t and h in entities_of_text}
            rivals = [p[h] for h in heads if h != other and h in p]
            if other not in heads or tail not in p or not rivals:
                return None
            return float(phi[tail][other]) * min(p[tail] / max(rivals), 1)

        value = float(phi[entity][other])
        as_tail = [v - value for r in (0, 1) if (v := shared(entity, r)) is not None]
        as_head = [
            v - value
            for h, r, t in triples
            if h == entity and t != h and h in p and h != other and (v := shared(t, r)) is not None
        ]
        return value + min([0.0, *as_tail]) + max([0.0, *as_head])

    def received(i: int, entity: int, j: int) -> float:
        if entity < 0:
            return 0.0
        return sum(belief[j][f] * related(i, entity, other) for f, other in enumerate(aligned[j]) if other >= 0)

    for _ in range(4):
        for i in likely:
            others = [j for j in likely if scored.start[i] > scored.end[j] or scored.start[j] > scored.end[i]]
            expected = max(1.0, sum(sum(first[j]) for j in others))
            added[i] = [weight / expected * sum(received(i, entity, j) for j in others) for entity in aligned[i]]
        for i in likely:
            moved = [q * math.exp(a) for q, a in zip(first[i], added[i], strict=True)]
            total = sum(moved) + max(0.0, 1 - sum(first[i]))
            belief[i] = [b / 2 + x / total / 2 for b, x in zip(belief[i], moved, strict=True)]
    return added


def close(one: ScoredSpans, expected: list[dict[int, float]]) -> None:
    assert all(a == pytest.approx(b, abs=2e-5) for a, b in zip(by_row(one), expected, strict=True))


def require_in_order(scored: ScoredSpans) -> None:
    for rows, scores in zip(scored.rows.tolist(), scored.entity_logits.tolist(), strict=True):
        pairs = [(-score, row) for row, score in zip(rows, scores, strict=True)]
        assert pairs == sorted(pairs)


class TestMeanField:
    @some
    @given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4), st.booleans(), st.booleans())
    def test_it_is_the_formula(self, seed: int, m: int, k: int, ranked: bool, certain: bool) -> None:
        random = np.random.default_rng(seed)
        scored = random_spans(random, m, k, ENTITIES + 2)  # two of the entities the table lacks
        if certain:
            scored = replace(scored, mention_logits=np.full(m, np.inf, np.float32))
        aligned, phi, weight = AsTheyAre(ENTITIES)[scored.rows], any_relatedness(random), float(random.uniform(0.1, 4))
        updated = mean_field_update(scored, aligned, of_matrix(phi), weight, ranked)
        added = mean_field(scored, aligned.tolist(), phi, weight, ranked)
        expected = [
            {row: score + more for row, score, more in zip(rows, scores, mores, strict=True) if row >= 0}
            for rows, scores, mores in zip(scored.rows.tolist(), scored.entity_logits.tolist(), added, strict=True)
        ]
        close(updated, expected)
        require_in_order(updated)
        assert (np.isneginf(updated.entity_logits) == (updated.rows < 0)).all()
        for name in ("start", "end", "mention_logits"):
            assert np.array_equal(getattr(updated, name), getattr(scored, name))

    @some
    @given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 4), st.booleans())
    def test_with_siblings_too(self, seed: int, m: int, k: int, ranked: bool) -> None:
        random = np.random.default_rng(seed)
        scored = random_spans(random, m, k, ENTITIES + 2)
        aligned, phi = AsTheyAre(ENTITIES)[scored.rows], any_relatedness(random)
        triples = sorted({(int(h), int(r), int(t)) for h, r, t in random.integers((ENTITIES, 2, ENTITIES), size=(14, 3))})
        siblings = Siblings(np.array(triples, np.int32), ENTITIES)
        updated = mean_field_update(scored, aligned, of_matrix(phi), 1.5, ranked, siblings)
        added = mean_field(scored, aligned.tolist(), phi, 1.5, ranked, triples)
        expected = [
            {row: score + more for row, score, more in zip(rows, scores, mores, strict=True) if row >= 0}
            for rows, scores, mores in zip(scored.rows.tolist(), scored.entity_logits.tolist(), added, strict=True)
        ]
        close(updated, expected)

    @some
    @given(st.integers(0, 10_000), st.floats(0, 1000), st.booleans())
    def test_probabilities_stay_probabilities(self, seed: int, weight: float, ranked: bool) -> None:
        random = np.random.default_rng(seed)
        scored = random_spans(random, 6, 4, ENTITIES)
        updated = mean_field_update(scored, scored.rows, of_matrix(any_relatedness(random)), weight, ranked)
        of = link_probabilities if ranked else lambda candidates: np.exp(joint_scores(candidates))
        probabilities = of(updated)
        assert np.isfinite(probabilities).all()
        assert (probabilities >= 0).all()
        assert (probabilities.sum(1) <= 1 + 1e-5).all()
        if ranked:  # related entities raise each other's scores and lower none
            assert (probabilities.sum(1) >= of(scored).sum(1) - 1e-5).all()

    @some
    @given(st.integers(0, 10_000), st.permutations(range(6)))
    def test_the_order_of_mentions_does_not_matter(self, seed: int, order: list[int]) -> None:
        random = np.random.default_rng(seed)
        scored, related = random_spans(random, 6, 4, ENTITIES), of_matrix(any_relatedness(random))
        once = mean_field_update(scored, scored.rows, related, 1.5, True)
        other = scored.select(np.array(order))
        close(mean_field_update(other, other.rows, related, 1.5, True), by_row(once.select(np.array(order))))

    @some
    @given(st.integers(0, 10_000), st.booleans())
    def test_alone_or_overlapping_nothing_changes(self, seed: int, ranked: bool) -> None:
        random = np.random.default_rng(seed)
        scored, related = random_spans(random, 5, 4, ENTITIES), of_matrix(any_relatedness(random))
        together = replace(scored, start=np.arange(5), end=np.full(5, 5))  # all end in the same word
        assert same(mean_field_update(together, together.rows, related, 8.0, ranked), together)
        for i in range(5):
            alone = scored.select(np.array([i]))
            assert same(mean_field_update(alone, alone.rows, related, 8.0, ranked), alone)

    def test_unlikely_mentions_and_unknown_entities_say_nothing(self) -> None:
        related = of_matrix(np.ones((ENTITIES, ENTITIES)) - np.eye(ENTITIES))
        scored = spans([[0, 1], [2, 3]], [[1.0, 0.5], [-5.0, -6.0]])
        assert link_probabilities(scored)[1].sum() < MIN_LINK_PROBABILITY
        assert same(mean_field_update(scored, scored.rows, related, 4.0, True), scored)
        assert not same(mean_field_update(scored, scored.rows, related, 4.0, False), scored)  # as a mention it is likely enough
        likely = replace(scored, entity_logits=np.array([[1.0, 0.5], [2.0, 1.0]], np.float32))
        aligned = np.array([[0, 1], [-1, -1]])
        assert same(mean_field_update(likely, aligned, related, 4.0, True), likely)

    @pytest.mark.parametrize("ranked", [True, False])
    def test_many_mentions_are_taken_in_groups(self, ranked: bool) -> None:
        random = np.random.default_rng(3)
        scored = random_spans(random, GROUP_SIZE + 12, 3, ENTITIES, overlapping=False)
        scored = replace(scored, mention_logits=np.abs(scored.mention_logits), entity_logits=np.abs(scored.entity_logits))
        scored = replace(scored, rows=np.abs(scored.rows)).reordered(scored.entity_logits.clip(max=9))
        related = of_matrix(any_relatedness(random))
        together = mean_field_update(scored, scored.rows, related, 1.0, ranked)
        groups = [scored.select(group) for group in (np.arange(GROUP_SIZE), np.arange(GROUP_SIZE, len(scored)))]
        separate = [mean_field_update(group, group.rows, related, 1.0, ranked) for group in groups]
        assert same(together, ScoredSpans.concatenate(separate))
        assert not same(together, scored)

    def test_what_a_text_says_together_mends_a_wrong_candidate(self) -> None:
        # Two Georgias, of which the wrong one is better by itself; Tbilisi and the right one have to do with each other.
        state, country, tbilisi, garda = range(4)
        graph = PriorTable(("Q1428", "Q230", "Q994", "Q6414"), np.array([9, 9, 9, 9]), np.array([[country, tbilisi]], np.int32))
        scored = spans([[state, country], [tbilisi, garda]], [[1.5, 1.0], [3.0, -3.0]])
        weights = PriorWeights("ranker-1", True, coherence=2.0)
        updated = PriorStages.from_prior(graph, weights, AsTheyAre(4)).rescore(scored, np.ones((len(scored), 1)))
        assert scored.rows[0, 0] == state
        assert updated.rows[:, 0].tolist() == [country, tbilisi]
        assert same(
            PriorStages.from_prior(graph, replace(weights, coherence=0.0), AsTheyAre(4)).rescore(
                scored, np.ones((len(scored), 1))
            ),
            scored,
        )
        unrelated = replace(graph, edges=np.array([[state, garda]], np.int32))
        unchanged = PriorStages.from_prior(unrelated, weights, AsTheyAre(4)).rescore(scored, np.ones((len(scored), 1)))
        assert unchanged.rows[:, 0].tolist() == [state, tbilisi]

    def test_a_weight_of_nothing_changes_nothing(self) -> None:
        random = np.random.default_rng(0)
        scored = random_spans(random, 6, 4, ENTITIES)
        assert same(mean_field_update(scored, scored.rows, of_matrix(any_relatedness(random)), 0.0, True), scored)


class TestSiblings:
    CITY, CLUB, ANOTHER_CLUB, BAND, COUNTRY = range(5)
    SEAT, FORMED_IN, COUNTRY_OF = range(3)
    GRAPH = np.array(
        [
            (CLUB, SEAT, CITY),
            (ANOTHER_CLUB, SEAT, CITY),
            (BAND, FORMED_IN, CITY),
            (CITY, COUNTRY_OF, COUNTRY),
        ],
        np.int32,
    )

    def updated(self, other: int, *, city: float, club: float, triples: bool = True) -> dict[int, float]:
        """Scores of the city and of its club, the candidates of a mention next to a mention of another entity."""
        table_of_graph = PriorTable(
            tuple(f"Q{i}" for i in range(5)),
            np.array([4, 1, 1, 1, 1]),
            np.unique(np.sort(self.GRAPH[:, [0, 2]], axis=1), axis=0),
            triples=self.GRAPH if triples else None,
        )
        scored = spans([[other, -1], [self.CITY, self.CLUB]], [[4.0, -math.inf], [city, club]])
        scored = scored.reordered(scored.entity_logits)
        prior = PriorStages.from_prior(table_of_graph, PriorWeights("ranker-1", True, coherence=2.0), AsTheyAre(5))
        return by_row(prior.rescore(scored, np.ones((2, 1))))[1]

    def test_a_club_does_not_speak_for_its_rivals_seat(self) -> None:
        before = self.updated(self.ANOTHER_CLUB, city=1.0, club=1.5, triples=False)
        assert before[self.CITY] > before[self.CLUB]  # the edge to the seat outweighs the text
        for city, club in ((1.0, 1.5), (-1.0, 1.0), (1.0, 1.0), (3.0, 1.0)):
            after = self.updated(self.ANOTHER_CLUB, city=city, club=club)
            assert after[self.CITY] > city
            # What is above the difference by the text is that both clubs have a neighbour in common.
            assert after[self.CLUB] - after[self.CITY] >= club - city - 1e-5
            if city >= club:
                assert after[self.CLUB] - after[self.CITY] == pytest.approx(club - city, abs=1e-5)

    def test_the_city_still_gains_where_the_text_is_about_it(self) -> None:
        for other in (self.BAND, self.COUNTRY):
            one, without = (self.updated(other, city=1.0, club=1.5, triples=triples) for triples in (True, False))
            assert one == without
            assert one[self.CITY] > one[self.CLUB]

    def test_an_unlikely_tail_raises_nobody(self) -> None:
        one, without = (self.updated(self.ANOTHER_CLUB, city=-9.0, club=1.5, triples=t) for t in (True, False))
        assert one[self.CLUB] == pytest.approx(without[self.CLUB], abs=1e-3)

    @some
    @given(st.integers(0, 10_000), st.sets(st.integers(-1, 6)))
    def test_groups_are_those_of_the_triples(self, seed: int, entities: set[int]) -> None:
        self.check_groups(seed, entities)

    @some
    @given(st.integers(0, 10_000), st.sets(st.integers(-1, 6)), st.integers(0, 4))
    def test_heads_of_many_triples_are_searched_alike(self, seed: int, entities: set[int], many: int) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(siblings, "MANY_TRIPLES", many)
            self.check_groups(seed, entities)

    def check_groups(self, seed: int, entities: set[int]) -> None:
        triples = np.unique(np.random.default_rng(seed).integers((7, 2, 7), size=(20, 3)), axis=0).astype(np.int32)
        some_entities = np.array(sorted(entities), dtype=np.int64)
        groups = Counter(
            (int(some_entities[tail]), tuple(some_entities[heads].tolist()))
            for tail, heads in Siblings(triples, 7)(some_entities)
        )
        expected: dict[tuple[int, int], list[int]] = {}
        for head, relation, tail in triples.tolist():
            if head != tail and {head, tail} <= entities:
                expected.setdefault((tail, relation), []).append(head)
        assert groups == Counter((tail, tuple(heads)) for (tail, _), heads in expected.items() if len(heads) > 1)


def test_equal_scores_go_to_the_smaller_row() -> None:
    scored = spans([[5, 3, 4, -1]], [[0.0] * 4]).reordered(np.array([[1, 1, 2, -np.inf]], np.float32))
    assert scored.rows.tolist() == [[4, 3, 5, -1]]
    assert scored.entity_logits.tolist() == [[2, 1, 1, -math.inf]]


# --- relatedness -------------------------------------------------------------------------------------------------------


def plain_neighbours(prior_table: PriorTable, a: int, b: int) -> float:
    around: dict[int, set[int]] = {i: set() for i in range(len(prior_table))}
    for one, other in prior_table.edges.tolist():
        around[one].add(other)
        around[other].add(one)
    shared = sum(1 / math.log(1 + len(around[c])) for c in around[a] & around[b])
    return min(1.0, (b in around[a]) + shared)


def plain_cosine(prior_table: PriorTable, a: int, b: int) -> float:
    assert prior_table.vectors is not None
    real = [row for row in prior_table.vectors.astype(float).tolist() if any(row)]
    mean = [sum(column) / len(real) for column in zip(*real, strict=True)]

    def centred(i: int) -> list[float]:
        assert prior_table.vectors is not None
        row = prior_table.vectors[i].tolist()
        return [x - y for x, y in zip(row, mean, strict=True)] if any(row) else [0.0] * len(row)

    one, other = centred(a), centred(b)
    lengths = math.hypot(*one) * math.hypot(*other)
    return max(0.0, sum(x * y for x, y in zip(one, other, strict=True)) / lengths) if lengths else 0.0


def plain_plausibility(prior_table: PriorTable, a: int, b: int) -> float:
    assert prior_table.vectors is not None
    assert prior_table.relations is not None

    def numbers(row: np.ndarray) -> list[complex]:
        assert prior_table.relations is not None
        if prior_table.relations.layout == "real":
            return [complex(x) for x in row.tolist()]
        half = len(row) // 2
        return [complex(x, y) for x, y in zip(row[:half].tolist(), row[half:].tolist(), strict=True)]

    best = 0.0
    for vector, bias, spread in zip(
        prior_table.relations.vectors, prior_table.relations.bias, prior_table.relations.spread, strict=True
    ):
        for head, tail in ((a, b), (b, a)):
            components = zip(
                numbers(prior_table.vectors[head]), numbers(vector), numbers(prior_table.vectors[tail]), strict=True
            )
            score = sum((h * r * t.conjugate()).real for h, r, t in components)
            best = max(best, 1 / (1 + math.exp(-(score - bias) / spread)))
    return best


MEASURES: dict[str, tuple[Callable[[PriorTable, int, int], float], str | None]] = {
    "neighbours": (plain_neighbours, None),
    "cosine": (plain_cosine, None),
    "plausibility": (plain_plausibility, "re_im"),
    "plausibility of DistMult": (plain_plausibility, "real"),
}


@pytest.mark.parametrize("name", MEASURES)
@some
@given(seed=st.integers(0, 1000), entities=st.lists(st.integers(0, 11), min_size=1, max_size=6, unique=True))
def test_relatedness_is_what_it_says(name: str, seed: int, entities: list[int]) -> None:
    measure, layout = MEASURES[name]
    prior_table = table([f"Q{i}" for i in range(12)], seed, layout=layout, bare=2)
    if seed % 5 == 0:  # sparse, or without any edge
        prior_table = replace(prior_table, edges=prior_table.edges[: seed % 3])
    relatedness = relatedness_of(prior_table, name.split()[0])(np.array(entities))
    expected = [[0.0 if a == b else measure(prior_table, a, b) for b in entities] for a in entities]
    assert relatedness.dtype == np.float32
    assert np.allclose(relatedness, expected, atol=2e-5)


@some
@given(seed=st.integers(0, 1000), hub=st.integers(0, 12), step=st.integers(1, 3), block=st.integers(1, 3))
def test_neighbours_of_hubs_count_as_those_of_others(seed: int, hub: int, step: int, block: int) -> None:
    random = np.random.default_rng(seed)
    prior_table = table([f"Q{i}" for i in range(12)], seed)
    entities = random.permutation(12)[: random.integers(1, 12)]
    expected = SharedNeighbours(prior_table)(entities)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (("HUB_DEGREE", hub), ("_STEP", step), ("_BLOCK", block)):
            patched.setattr(shared_neighbours, name, value)
        found = SharedNeighbours(prior_table)
        for _ in range(2):  # pairs of hubs are remembered
            assert np.allclose(found(entities), expected, atol=2e-5)


def test_a_sample_of_the_neighbours_of_hubs_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hubs with a share of 200 common neighbours in 20,000, whose degrees are high, so that phi is below 1."""
    random = np.random.default_rng(0)
    n, hubs, common = 40_000, (0, 1), np.sort(random.choice(np.arange(2, 20_000), 12, replace=False))
    edges = np.unique(np.array([*((0, x) for x in range(2, 20_000)), *((1, x) for x in [*common, *range(20_000, n)])]), axis=0)
    both = PriorTable(tuple(f"Q{i}" for i in range(n)), np.ones(n, int), edges.astype(np.int32))
    exact = SharedNeighbours(both)
    exact._rarity = np.full(n, 0.05, np.float32)
    assert exact(np.array(hubs))[0, 1] == pytest.approx(12 * 0.05, abs=1e-5)
    estimates = []
    for sample in range(4_000, 12_000, 100):
        monkeypatch.setattr(shared_neighbours, "SAMPLE", sample)
        sampled = SharedNeighbours(both)
        sampled._rarity = exact._rarity
        estimates.append(float(sampled(np.array(hubs))[0, 1]))
    assert np.mean(estimates) == pytest.approx(0.6, abs=0.1)
    assert len(set(estimates)) > 1


def test_what_a_measure_lacks_is_said() -> None:
    without = table(["Q1", "Q2"], width=0)
    with pytest.raises(MismatchError, match=r"no vectors.*--vectors.*neighbours"):
        relatedness_of(without, "cosine")
    with pytest.raises(MismatchError, match=r"no relation vectors.*ComplEx or DistMult"):
        relatedness_of(table(["Q1", "Q2"]), "plausibility")
    with pytest.raises(SettingsError, match=r"'smell'.*neighbours, cosine, plausibility"):
        relatedness_of(without, "smell")
    assert set(RELATEDNESS) == {name.split()[0] for name in MEASURES}


def test_the_floor_of_mentions_is_that_of_what_is_likely() -> None:
    assert math.exp(module.MIN_MENTION_LOG_PROB) < MIN_LINK_PROBABILITY < 1.01 * math.exp(module.MIN_MENTION_LOG_PROB)
