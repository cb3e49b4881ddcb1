"""The heads against loops in plain Python: span scores, their best, and mention vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blink.errors import SettingsError, ShapeError
from blink.model.config import AGGREGATIONS
from blink.model.heads import MentionAggregator, MentionScorer, SpanScores, span_logits

pytestmark = pytest.mark.quick

NONE = float("-inf")


@st.composite
def scored_tokens(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Token scores, a mask whose rows are prefixes, and the longest mention."""
    lengths = draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    seq = max(1, max(lengths) + draw(st.integers(0, 3)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    scores = torch.randn(len(lengths), seq, 3, generator=generator) * draw(st.sampled_from([1.0, 30.0]))
    mask = torch.arange(seq) < torch.tensor(lengths)[:, None]
    return scores, mask, draw(st.integers(0, 12))


def naive(scores: torch.Tensor, mask: torch.Tensor, longest: int) -> dict[tuple[int, int, int], float]:
    """Score of every span (text, first, last) that there is."""
    scored = {}
    for text in range(len(scores)):
        for first in range(scores.shape[1]):
            for last in range(first, min(first + longest + 1, scores.shape[1])):
                if mask[text, last]:
                    inside = sum(float(scores[text, t, 2]) for t in range(first, last + 1))
                    scored[text, first, last] = float(scores[text, first, 0]) + float(scores[text, last, 1]) + inside
    return scored


def as_dict(spans: SpanScores) -> dict[tuple[int, int, int], float]:
    return {
        (int(b), int(s), int(s + w)): float(spans.logits[b, s, w]) for b, s, w in np.argwhere(spans.logits.numpy() > -np.inf)
    }


# --- span_logits ----------------------------------------------------------------------------------------------------


@given(scored_tokens())
def test_spans_are_scored_as_start_plus_end_plus_inside(case: tuple[torch.Tensor, torch.Tensor, int]) -> None:
    scored = as_dict(span_logits(*case))
    assert scored == pytest.approx(naive(*case), abs=1e-3, rel=1e-5)


@given(scored_tokens())
def test_padding_changes_nothing_whatever_stands_there(case: tuple[torch.Tensor, torch.Tensor, int]) -> None:
    scores, mask, longest = case
    clean = span_logits(scores, mask, longest).logits
    for rubbish in (float("nan"), float("inf"), 1e30):
        spoilt = scores.masked_fill(~mask[..., None], rubbish)
        assert torch.equal(span_logits(spoilt, mask, longest).logits, clean)
    assert not clean.isnan().any()
    assert (clean < float("inf")).all()


def test_a_longer_padding_gives_the_same_scores() -> None:
    scores, mask = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(1)), torch.ones(1, 6, dtype=torch.bool)
    padded = torch.cat([scores, torch.full((1, 5, 3), 9.0)], 1), torch.cat([mask, torch.zeros(1, 5, dtype=torch.bool)], 1)
    assert as_dict(span_logits(scores, mask, 3)) == as_dict(span_logits(*padded, 3))


def test_eleven_tokens_fit_a_longest_mention_of_ten() -> None:
    spans = span_logits(torch.zeros(1, 20, 3), torch.ones(1, 20, dtype=torch.bool), 10)
    assert {last - first for _, first, last in as_dict(spans)} == set(range(11))
    # As many spans as the original counts for a text of 20 positions.
    assert len(as_dict(spans)) == 165


def test_half_precision_scores_are_summed_in_single() -> None:
    scores = torch.full((1, 64, 3), 0.1, dtype=torch.bfloat16)
    spans = span_logits(scores, torch.ones(1, 64, dtype=torch.bool), 63)
    assert spans.logits.dtype == torch.float32
    assert float(spans.logits[0, 0, 63]) == pytest.approx(66 * float(torch.tensor(0.1, dtype=torch.bfloat16)), rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 2), (2, 4, 3), (3, 5, 3)])
def test_scores_and_mask_must_agree(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="token scores have shape"):
        span_logits(torch.zeros(shape), torch.ones(2, 5, dtype=torch.bool), 3)


def test_gradient_reaches_each_real_token_and_no_padding() -> None:
    scores = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    mask = torch.arange(6) < torch.tensor([6, 3])[:, None]
    logits = span_logits(scores, mask, 2).logits
    logits[logits > NONE].sigmoid().sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[mask] != 0).all()
    assert (scores.grad[~mask] == 0).all()


# --- SpanScores -----------------------------------------------------------------------------------------------------


@given(case=scored_tokens(), k=st.integers(1, 60))
def test_top_gives_the_best_spans_first(case: tuple[torch.Tensor, torch.Tensor, int], k: int) -> None:
    spans = span_logits(*case)
    logits, start, end = spans.top(k)
    assert logits.shape == start.shape == end.shape
    assert logits.shape[1] == min(k, spans.logits.shape[1] * spans.logits.shape[2])
    everything = as_dict(spans)
    for text in range(len(logits)):
        sorted_scores = sorted((v for (b, _, _), v in everything.items() if b == text), reverse=True)
        top = [v for v in logits[text].tolist() if v > NONE]
        assert top == sorted_scores[: logits.shape[1]]
        for value, first, last in zip(logits[text].tolist(), start[text].tolist(), end[text].tolist(), strict=True):
            if value > NONE:
                assert everything[text, first, last] == value


@given(scored_tokens())
def test_without_ends_leaves_out_what_touches_the_special_tokens(case: tuple[torch.Tensor, torch.Tensor, int]) -> None:
    scores, mask, longest = case
    lengths = mask.sum(1).tolist()
    spans = span_logits(scores, mask, longest)
    expected = {k: v for k, v in as_dict(spans).items() if k[1] > 0 and k[2] < lengths[k[0]] - 1}
    assert as_dict(spans.without_ends(mask)) == expected


@given(case=scored_tokens(), seed=st.integers(0, 99))
def test_whole_words_begin_and_end_at_borders_of_words(case: tuple[torch.Tensor, torch.Tensor, int], seed: int) -> None:
    scores, mask, longest = case
    continues = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.4
    continues &= mask
    spans = span_logits(scores, mask, longest)

    def at_word_borders(text: int, first: int, last: int) -> bool:
        after = last + 1 < mask.shape[1] and bool(continues[text, last + 1])
        return not continues[text, first] and not after

    assert as_dict(spans.whole_words(continues)) == {k: v for k, v in as_dict(spans).items() if at_word_borders(*k)}


def test_scores_of_given_spans() -> None:
    case = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(3)), torch.ones(2, 7, dtype=torch.bool), 4
    spans, expected = span_logits(*case), naive(*case)
    text, start, end = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 6]), torch.tensor([2, 4, 6])
    scored = spans.gather(start, end, text).tolist()
    assert scored == pytest.approx(
        [expected[k] for k in zip(text.tolist(), start.tolist(), end.tolist(), strict=True)], abs=1e-5
    )


# --- MentionScorer --------------------------------------------------------------------------------------------------


def test_linear_scores_are_a_linear_layer() -> None:
    scorer, hidden = MentionScorer("qa_linear", 8), torch.randn(2, 5, 8)
    weight, bias = scorer.bound_classifier.weight, scorer.bound_classifier.bias
    assert torch.allclose(scorer(hidden), hidden @ weight.T + bias, atol=1e-6)


@pytest.mark.parametrize("name", ["qa_mlp", "qa"])
def test_mlp_scores_have_a_hidden_layer_and_its_alias_the_same_keys(name: str) -> None:
    scorer, hidden = MentionScorer(name, 8).eval(), torch.randn(2, 5, 8)
    state = scorer.state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "bound_classifier.0.weight": (8, 8),
        "bound_classifier.0.bias": (8,),
        "bound_classifier.3.weight": (3, 8),
        "bound_classifier.3.bias": (3,),
    }
    inner = (hidden @ state["bound_classifier.0.weight"].T + state["bound_classifier.0.bias"]).clamp(min=0)
    expected = inner @ state["bound_classifier.3.weight"].T + state["bound_classifier.3.bias"]
    assert torch.allclose(scorer(hidden), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["BIO", "none", ""])
def test_unknown_scorers_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="allowed are qa_linear, qa_mlp"):
        MentionScorer(name, 8)


# --- MentionAggregator ----------------------------------------------------------------------------------------------


def naive_vector(aggregator: MentionAggregator, kind: str, hidden: torch.Tensor, first: int, last: int) -> torch.Tensor:
    tokens = [hidden[t] for t in range(first, last + 1)]
    if kind.startswith("all"):
        vector = sum(tokens[1:], tokens[0]) / len(tokens)
    elif kind in ("fl_avg", "cls"):
        vector = (tokens[0] + tokens[-1]) / 2
    else:
        vector = torch.cat([tokens[0], tokens[-1]])
    layer = aggregator.mention_agg_linear
    if layer is None:
        return vector
    if kind.endswith("linear"):
        return layer.weight @ vector + layer.bias
    first_layer, second_layer = layer[0], layer[3]
    return second_layer.weight @ (first_layer.weight @ vector + first_layer.bias).clamp(min=0) + second_layer.bias


@pytest.mark.parametrize("kind", AGGREGATIONS)
@settings(max_examples=15)
@given(seed=st.integers(0, 999), spans=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(0, 4)), max_size=6))
def test_mention_vectors_by_hand(kind: str, seed: int, spans: list[tuple[int, int, int]]) -> None:
    torch.manual_seed(seed)
    sized = kind.endswith(("linear", "mlp"))
    aggregator = MentionAggregator(kind, 8, 5 if sized else 8).eval()
    hidden = torch.randn(3, 7, 8)
    bounds = [(text, first, min(first + width, 6)) for text, first, width in spans]
    columns = torch.tensor(bounds, dtype=torch.long).reshape(-1, 3).unbind(1)
    vectors = aggregator(hidden, *columns)
    assert vectors.shape == (len(bounds), 5 if sized else 8)
    assert vectors.dtype == torch.float32
    for vector, (text, first, last) in zip(vectors, bounds, strict=True):
        assert torch.allclose(vector, naive_vector(aggregator, kind, hidden[text], first, last), atol=1e-5)


def test_the_mean_of_a_span_ignores_what_is_outside_even_nan() -> None:
    aggregator = MentionAggregator("all_avg", 4, 4)
    hidden = torch.zeros(1, 6, 4)
    hidden[0, 3:] = 7.0
    one, two = aggregator(hidden, torch.tensor([0, 0]), torch.tensor([0, 3]), torch.tensor([2, 3]))
    assert one.tolist() == [0] * 4
    assert two.tolist() == [7] * 4


@pytest.mark.parametrize("kind", ["all_avg", "fl_avg", "cls"])
def test_plain_averages_need_equal_sizes(kind: str) -> None:
    with pytest.raises(SettingsError, match="mention vectors of 8 numbers, entity vectors have 5"):
        MentionAggregator(kind, 8, 5)


@pytest.mark.parametrize("kind", [k for k in AGGREGATIONS if k != "cls"])
def test_gradient_flows_to_the_tokens_of_the_span_only(kind: str) -> None:
    torch.manual_seed(1)
    aggregator = MentionAggregator(kind, 16, 16).eval()
    hidden = torch.randn(2, 6, 16, requires_grad=True)
    aggregator(hidden, torch.tensor([1]), torch.tensor([1]), torch.tensor([3])).square().sum().backward()
    assert hidden.grad is not None
    touched = {(int(b), int(t)) for b, t in hidden.grad.abs().sum(-1).nonzero().tolist()}
    assert touched == ({(1, 1), (1, 2), (1, 3)} if kind.startswith("all") else {(1, 1), (1, 3)})
    assert torch.isfinite(hidden.grad).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in aggregator.parameters())
