"""Entity losses against plain computations, and what negatives may never be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toys import tokenizer
from training_toys import make_toy, question, trainer

from blink.data.records import NOT_IN_CATALOGUE, Mention, Sample
from blink.kb.alias_table import AliasMatch
from blink.kb.index import ExactIndex
from blink.kb.knowledge_base import KnowledgeBase
from blink.training.data.examples import Batch, collate, examples_from
from blink.training.settings import OBJECTIVE_NAMES
from blink.training.step.losses import span_count
from blink.training.step.negatives import Miner
from blink.training.step.objectives import OBJECTIVES, Entities, counted_pairs, needed_rows

torch.set_num_threads(1)

ROWS = st.lists(st.integers(-1, 6), min_size=1, max_size=8)


def batch_of(rows: Sequence[int], negatives: Sequence[Sequence[int]] | None = None, text: Sequence[int] | None = None) -> Batch:
    """Mentions of these rows, each in a text of its own unless said otherwise."""
    texts = torch.tensor(list(range(len(rows))) if text is None else text)
    mask = torch.ones(int(texts.max()) + 1, 4, dtype=torch.bool)
    ones = torch.ones_like(texts)
    table = None if negatives is None else torch.tensor(negatives)
    return Batch(mask.long(), mask, texts, ones, ones, torch.tensor(rows), torch.zeros(len(mask), dtype=torch.bool), table)


def entities_of(batch: Batch, vectors: Tensor) -> Entities:
    rows, named = needed_rows([batch]), batch.rows.unique()
    return Entities(rows, vectors[rows], torch.searchsorted(rows, named[named >= 0]), vectors)


def loss(name: str, mentions: Tensor, batch: Batch, vectors: Tensor) -> float:
    objective = OBJECTIVES[name]
    return objective.loss(mentions, batch, entities_of(batch, vectors), objective.count(batch)).item()


def surprise(gold: Tensor, others: Sequence[Tensor]) -> float:
    """-log of the softmax share of the gold score."""
    return float(torch.logsumexp(torch.stack([gold, *others]), 0) - gold)


def vectors_and_mentions(count: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(count)
    return torch.randn(7, 5), torch.randn(count, 5)


def test_every_name_has_a_loss() -> None:
    assert tuple(OBJECTIVES) == OBJECTIVE_NAMES


@given(ROWS)
def test_in_batch_compares_with_the_other_entities_each_once(rows: list[int]) -> None:
    vectors, mentions = vectors_and_mentions(len(rows))
    named = {r for r in rows if r >= 0}
    terms = [
        surprise(vectors[row] @ m, [vectors[other] @ m for other in named - {row}])
        for row, m in zip(rows, mentions, strict=True)
        if row >= 0
    ]
    expected = sum(terms) / max(len(terms), 1)
    assert loss("in_batch", mentions, batch_of(rows), vectors) == pytest.approx(expected, abs=1e-5)


@given(ROWS, st.integers(1, 3), st.randoms(use_true_random=False))
def test_hard_negatives_compare_each_mention_with_its_own(rows: list[int], k: int, random: np.random.Generator) -> None:
    vectors, mentions = vectors_and_mentions(len(rows))
    table = [[random.randint(-1, 6) for _ in range(k)] for _ in rows]  # type: ignore[attr-defined]
    table = [[NOT_IN_CATALOGUE if n == row else n for n in negatives] for row, negatives in zip(rows, table, strict=True)]
    terms = [
        surprise(vectors[row] @ m, [vectors[n] @ m for n in negatives if n >= 0])
        for row, negatives, m in zip(rows, table, mentions, strict=True)
        if row >= 0
    ]
    expected = sum(terms) / max(len(terms), 1)
    assert loss("hard_negatives", mentions, batch_of(rows, table), vectors) == pytest.approx(expected, abs=1e-5)


def test_pairs_of_the_original_leave_out_a_rank_that_any_mention_of_the_text_lacks() -> None:
    rows, table, text = [0, 1, 2, -1], [[3, 4, 5], [6, -1, 4], [-1, 0, 1], [-1, -1, -1]], [0, 0, 1, 1]
    batch = batch_of(rows, table, text)
    counted = [[True, False, True], [True, False, True], [False, True, True]]
    assert counted_pairs(batch).tolist() == counted
    vectors, mentions = vectors_and_mentions(4)
    terms = [math.log1p(math.exp(-float(vectors[r] @ m))) for r, m in zip(rows[:3], mentions, strict=False)]
    for mention, negatives, counted_ranks in zip(mentions, table, counted, strict=False):
        terms += [math.log1p(math.exp(float(vectors[n] @ mention))) for n, k in zip(negatives, counted_ranks, strict=True) if k]
    assert loss("hard_negatives_bce", mentions, batch, vectors) == pytest.approx(sum(terms) / len(terms), abs=1e-5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 12))
def test_spans_are_counted_from_lengths(lengths: list[int], longest: int) -> None:
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    expected = sum(1 for n in lengths for start in range(n) for end in range(start, n) if end - start <= longest)
    assert span_count(mask, longest) == expected


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("toy"))


class TestMining:
    @given(st.integers(1, 30), st.integers(0, 5), st.lists(st.integers(-1, 23), min_size=1, max_size=4))
    def test_a_negative_is_never_the_gold_nor_there_twice(self, toy: Path, mined: int, named: int, gold: list[int]) -> None:
        kb = KnowledgeBase.open(toy / "kb")
        examples = examples_from([question(max(g, 0), kb) for g in gold], tokenizer(), 32)
        batch = collate(examples, 0)
        batch = Batch(**{**vars(batch), "rows": torch.tensor(gold)})
        torch.manual_seed(mined)
        miner = Miner(kb.index, tokenizer(), kb.alias_table, mined=mined, namesakes=named, bad=lambda row: row == 7)
        vectors = torch.randn(len(gold), kb.index.dim)
        for row, negatives in zip(gold, miner.full(batch, vectors).tolist(), strict=True):
            listed = [n for n in negatives if n != NOT_IN_CATALOGUE]
            assert len(set(listed)) == len(listed)
            assert row not in listed
            assert 7 not in negatives or named
            assert len(listed) == 0 if row < 0 else len(listed) >= min(mined - 1, 22)
        mined_rows = miner.nearest(batch, vectors)
        order = np.argsort(-(vectors.numpy() @ np.asarray(kb.vectors).T), axis=1)[:, :mined]
        for row, negatives, nearest in zip(gold, mined_rows.tolist(), order.tolist(), strict=True):
            expected = [NOT_IN_CATALOGUE if row in (n, NOT_IN_CATALOGUE) else n for n in nearest]
            assert negatives[: len(expected)] == expected
            assert set(negatives[len(expected) :]) <= {NOT_IN_CATALOGUE}

    def test_namesakes_are_added(self) -> None:
        class Forms:
            def lookup(self, text: str, most: int) -> list[AliasMatch]:
                assert text == "georgia"
                return [AliasMatch(row, 2) for row in (4, 0, 9, 8, 6)]

        batch = collate(examples_from([Sample("1", "in Georgia", (Mention(3, 10, 4),))], tokenizer(), 32), 0)
        index = ExactIndex(np.eye(10, dtype=np.float32))
        miner = Miner(index, tokenizer(), Forms(), mined=2, namesakes=3)  # type: ignore[arg-type]
        vector = torch.zeros(1, 10)
        vector[0, [0, 4, 5]] = torch.tensor([3.0, 2.0, 1.0])
        assert miner.full(batch, vector).tolist() == [[0, 5, 9, 8, 6]]

    def test_mining_is_for_the_batches_up_to_the_next_refresh(self, toy: Path, tmp_path: Path) -> None:
        training = trainer(toy, tmp_path, objective="hard_negatives", refresh_steps=3, epochs=2)
        mined: list[int] = []
        embed = training.learner.stepper.embed

        def counting(batch: Batch) -> Tensor:
            mined.append(training.state.step)
            return embed(batch)

        training.learner.stepper.embed = counting  # type: ignore[method-assign]
        training.run()
        assert mined == [0, 0, 0, 3, 4, 4, 4, 7]  # of four batches an epoch
