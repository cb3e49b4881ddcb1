"""The network: masks, directions, losses and samples, each against a plain computation of the same."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from blink.errors import SettingsError, ShapeError
from blink.kglm.lm.corpus import Corpus, encode
from blink.kglm.lm.generation import Sampling, format_columns, generate, sample_word
from blink.kglm.lm.model import KGLanguageModel, Network, TripleBatch, reversed_ids
from blink.kglm.lm.perplexity import line_losses, measure_perplexity
from blink.kglm.lm.softmax import sampled_loss, token_losses
from blink.kglm.lm.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from blink.kglm.settings import Cells
from tests.kglm.lm_toys import DEFAULTS, classifier_options, language_options, toy_model

torch.set_num_threads(1)

WORDS = Vocabulary(tuple("abcdefghij"), tuple(range(10, 0, -1)))
BOTH = Cells(kind="BiLSTM", layers=[6], keep=0.6)
HEADED = classifier_options(hidden=[7, 5], keep=0.5)


def lines(*texts: str) -> Corpus:
    return encode([list(text) for text in texts], WORDS)


def by_hand(layer: torch.nn.LSTM, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and last cell state of an LSTM, from its equations. *Shape:* (time, width) to (time, units) and (units,)."""
    units = layer.hidden_size
    hidden, cell, outputs = torch.zeros(units), torch.zeros(units), []
    for vector in vectors:
        gates = layer.weight_ih_l0 @ vector + layer.bias_ih_l0 + layer.weight_hh_l0 @ hidden + layer.bias_hh_l0
        take, forget, new, show = gates.split(units)
        cell = forget.sigmoid() * cell + take.sigmoid() * new.tanh()
        hidden = show.sigmoid() * cell.tanh()
        outputs.append(hidden)
    return torch.stack(outputs), cell


@torch.no_grad()
def test_losses_of_a_line_follow_from_the_equations() -> None:
    model = toy_model(len(WORDS), cells=BOTH)
    ids = lines("abc").batch([0])
    outputs, _ = by_hand(model.encoder.forwards.layers[0], model.encoder.words(ids[0, :-1]))
    assert model.language is not None
    logits = outputs @ model.language.weight.T + model.language.bias
    expected = -logits.log_softmax(1)[torch.arange(4), ids[0, 1:]]
    torch.testing.assert_close(model.line_losses(ids)[0], expected)
    torch.testing.assert_close(model.language_loss(ids), expected.mean())


@torch.no_grad()
def test_both_directions_judge_a_triple_and_padding_is_never_read() -> None:
    model = toy_model(cells=Cells(kind="BiLSTM", layers=[6, 4], keep=0.6), classifier=HEADED)
    ids, lengths = torch.tensor([[1, 7, 8, 9, 0, 0], [1, 5, 6, 7, 8, 9]]), torch.tensor([4, 6])
    alone = model.encoder.summary(ids[:1, :4], lengths[:1])
    torch.testing.assert_close(model.encoder.summary(ids, lengths)[:1], alone)
    result = []
    for stack, row in ((model.encoder.forwards, [1, 7, 8, 9]), (model.encoder.backwards, [9, 8, 7, 1])):
        assert stack is not None
        below, _ = by_hand(stack.layers[0], model.encoder.words(torch.tensor(row)))
        result.append(by_hand(stack.layers[1], below)[1])
    torch.testing.assert_close(alone[0], torch.cat(result))


def test_ids_are_reversed_within_their_lengths() -> None:
    ids = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]])
    assert reversed_ids(ids, torch.tensor([3, 4])).tolist() == [[3, 2, 1, 0], [7, 6, 5, 4]]


def test_the_next_word_is_not_seen() -> None:
    """Neither kind of cells may look ahead: what comes later changes no loss before it."""
    for kind in ("LSTM", "BiLSTM"):
        model = toy_model(len(WORDS), cells=Cells(kind=kind, layers=[6, 5], keep=0.6))
        one, other = (model.line_losses(lines(text).batch([0]))[0] for text in ("abcde", "abcij"))
        assert one[:3].equal(other[:3])
        assert not one[3:].equal(other[3:])


def test_a_backward_stack_changes_nothing_of_the_language_model() -> None:
    one, both = (toy_model(len(WORDS), cells=Cells(kind=kind, layers=[6], keep=0.6)) for kind in ("LSTM", "BiLSTM"))
    ids = lines("abcdef", "gh").batch([0, 1])
    assert one.line_losses(ids).equal(both.line_losses(ids))


def test_backward_cells_learn_from_text_only_where_asked() -> None:
    for backward in (False, True):
        model = toy_model(len(WORDS), cells=BOTH, language=language_options(backward=backward))
        model.language_loss(lines("abcd", "ef").batch([0, 1])).backward()
        assert model.encoder.backwards is not None
        assert all((p.grad is not None) == backward for p in model.encoder.backwards.parameters())


def test_padding_changes_no_loss() -> None:
    model = toy_model(len(WORDS))
    text = lines("abcdefgh", "ab", "cde")
    together = model.line_losses(text.batch([0, 1, 2]))
    for row in range(3):
        alone = model.line_losses(text.batch([row]))[0]
        torch.testing.assert_close(together[row, : len(alone)], alone)
        assert not together[row, len(alone) :].any()
    expected = sum(model.line_losses(text.batch([row])).sum() for row in range(3)) / (8 + 2 + 3 + 3)
    torch.testing.assert_close(model.language_loss(text.batch([0, 1, 2])), torch.as_tensor(expected))


def test_perplexity_is_of_the_corpus_with_ends_and_without_dropout() -> None:
    model = toy_model(len(WORDS), cells=Cells(kind="LSTM", layers=[6], keep=0.3)).train()
    text = lines("abcde", "xyxb", "a")
    result = measure_perplexity(model, text)
    assert model.training
    model.eval()
    losses = [model.line_losses(text.batch([i])).flatten().numpy() for i in range(3)]
    targets = [text.batch([i])[0, 1:].numpy() for i in range(3)]
    flat, ids = np.concatenate(losses).astype(float), np.concatenate(targets)
    assert (result.tokens, result.lines, result.unknown, result.unknown_types) == (13, 3, 3, 2)
    assert result.perplexity == pytest.approx(math.exp(flat.mean()), rel=1e-6)
    assert result.without_unknown == pytest.approx(math.exp(flat[ids != UNK].mean()), rel=1e-6)
    penalised = flat.sum() + 3 * math.log(2)
    assert result.unknown_penalised == pytest.approx(math.exp(penalised / 13), rel=1e-6)
    assert result.bits_per_character == pytest.approx(penalised / math.log(2) / (2 * 10 + 3), rel=1e-6)
    assert result.unknown_rate == pytest.approx(0.3)
    assert result.vocabulary == len(WORDS)


def test_a_uniform_model_has_the_vocabulary_as_its_perplexity() -> None:
    model = toy_model(len(WORDS))
    assert model.language is not None
    with torch.no_grad():
        model.language.weight.zero_()
    assert measure_perplexity(model, lines("abc", "xx")).perplexity == pytest.approx(len(WORDS), rel=1e-6)


def test_perplexity_does_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, text = toy_model(len(WORDS)), lines("abcdefghij", "ab", "cdefg", "a", "hgfe")
    full_nats = measure_perplexity(model, text).nats
    monkeypatch.setattr("blink.kglm.lm.perplexity.BATCH_WORDS", 1)
    assert [len(rows) for rows, _ in line_losses(model, text)] == [1] * 5
    assert measure_perplexity(model, text).nats == pytest.approx(full_nats, rel=1e-6)


@pytest.mark.parametrize(("kind", "unscored"), [("LSTM", 3), ("BiLSTM", 4)])
def test_the_original_counts_too_many_words(kind: str, unscored: int) -> None:
    model, text = toy_model(len(WORDS), cells=Cells(kind=kind, layers=[6], keep=1.0)), lines("abcdef", "ghij")
    scored = [model.line_losses(text.batch([row]))[0, : ids - unscored].sum().item() for row, ids in ((0, 8), (1, 6))]
    assert measure_perplexity(model, text).as_the_original_counts == pytest.approx(math.exp(sum(scored) / (6 + 4)), rel=1e-6)


def test_softmax_in_chunks_equals_the_full_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden, weight, bias, targets = torch.randn(9, 4), torch.randn(20, 4), torch.randn(20), torch.randint(20, (9,))
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T + bias, targets, reduction="none")
    monkeypatch.setattr("blink.kglm.lm.softmax.MAX_LOGITS", 45)
    torch.testing.assert_close(token_losses(hidden, targets, weight, bias), expected)
    assert token_losses(hidden[:0], targets[:0], weight, bias).shape == (0,)


def test_the_sampled_gradient_is_about_that_of_the_full_softmax() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(60, 4), torch.zeros(60)
    hidden, targets = torch.randn(5, 4, requires_grad=True), torch.randint(2, 60, (5,))
    full = torch.autograd.grad(torch.nn.functional.cross_entropy(hidden @ weight.T + bias, targets), hidden)[0]
    drawn = [torch.autograd.grad(sampled_loss(hidden, targets, weight, bias, 60), hidden)[0] for _ in range(400)]
    mean = torch.stack(drawn).mean(0)
    assert torch.nn.functional.cosine_similarity(mean.flatten(), full.flatten(), dim=0) > 0.99
    assert 0.8 < mean.norm() / full.norm() < 1.2
    everything = sampled_loss(hidden, targets, weight, bias, 200_000)  # all words are drawn
    torch.testing.assert_close(
        everything, torch.nn.functional.cross_entropy(hidden @ weight.T + bias, targets), rtol=1e-3, atol=1e-3
    )


def test_a_sampled_softmax_is_for_training_alone() -> None:
    model, ids = toy_model(len(WORDS), language=language_options(softmax="sampled", samples=3)), lines("abcd").batch([0])
    assert model.language_loss(ids).item() == model.language_loss(ids).item()
    torch.testing.assert_close(model.language_loss(ids), model.line_losses(ids).mean())


def test_a_tied_model_predicts_by_the_table_it_reads() -> None:
    for width in (5, 6):  # as wide as the words, and not
        model = toy_model(len(WORDS), cells=Cells(kind="LSTM", layers=[width], keep=1.0), language=language_options(tied=True))
        names = {name for name, _ in model.named_parameters()}
        assert "language.weight" not in names
        assert ("language.onto.weight" in names) == (width != 5)
        before = model.line_losses(lines("ab").batch([0]))
        with torch.no_grad():
            model.encoder.words.weight[WORDS.id("j")] += 1.0  # a word that is not in the line
        assert not model.line_losses(lines("ab").batch([0])).equal(before)


def classifier_gradients(**changes: object) -> KGLanguageModel:
    model = toy_model(cells=BOTH, classifier=classifier_options(**{**HEADED.to_dict(), **changes})).train()
    batch = TripleBatch(torch.tensor([[1, 7, 8], [1, 9, 0]]), torch.tensor([3, 2]))
    model.classifier_loss(batch, torch.tensor([1.0, 0.0])).backward()
    return model


def test_the_classifier_reaches_the_shared_table_but_as_in_the_original() -> None:
    table = classifier_gradients().encoder.words.weight.grad
    assert table is not None
    assert table.abs().sum(1).nonzero().flatten().tolist() == [1, 7, 8, 9]
    original = classifier_gradients(reach_words=False)
    assert original.encoder.words.weight.grad is None
    assert all(p.grad is not None for p in original.encoder.forwards.parameters())


def test_the_penalty_is_half_the_squared_weights() -> None:
    model = toy_model(cells=BOTH, classifier=classifier_options(hidden=[7, 5], penalty=0.01, balance=3.0))
    batch, labels = TripleBatch(torch.tensor([[1, 7, 8], [1, 9, 5]]), torch.tensor([3, 3])), torch.tensor([1.0, 0.0])
    logits = model.logits(batch)
    plain = (3 * torch.nn.functional.softplus(-logits[0]) + torch.nn.functional.softplus(logits[1])) / 2
    assert model.classifier is not None
    weights = sum((0.5 * layer.weight**2).sum() for layer in model.classifier.layers)
    torch.testing.assert_close(model.classifier_loss(batch, labels), plain + 0.01 * weights)


def test_parts_begin_alike_whatever_others_there_are() -> None:
    alone, joint = toy_model(cells=BOTH), toy_model(cells=BOTH, classifier=HEADED)
    assert alone.state_dict().keys() < joint.state_dict().keys()
    assert all(value.equal(joint.state_dict()[name]) for name, value in alone.state_dict().items())
    other = toy_model(cells=BOTH, seed=1).state_dict()
    assert not other["encoder.words.weight"].equal(alone.state_dict()["encoder.words.weight"])


def test_the_random_numbers_of_the_caller_are_left_alone() -> None:
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    toy_model()
    assert torch.rand(1).equal(expected)


def test_vectors_of_entities_stand_beside_words() -> None:
    options = classifier_options(hidden=[7], entity_width=4, entity_keep=1.0)
    model = toy_model(cells=BOTH, classifier=options, entities=3, relations=2)
    ids, lengths = torch.tensor([[1, 7, 8]] * 3), torch.tensor([3] * 3)
    rows = (torch.tensor([0, 1, -1]), torch.tensor([0, 0, 1]), torch.tensor([2, 2, 2]))
    logits = model.logits(TripleBatch(ids, lengths, *rows))
    assert len(set(logits.tolist())) == 3
    assert model.tables is not None
    features = model.tables(TripleBatch(ids, lengths, *rows))
    assert not features[2].any()  # an unseen head leaves its words alone
    torch.testing.assert_close(
        features[0], model.tables.entities.weight[0] * model.tables.relations.weight[0] * model.tables.entities.weight[2]
    )
    with pytest.raises(ShapeError, match="needs their rows in the batch"):
        model.logits(TripleBatch(ids, lengths))


def test_the_distance_of_entities_from_their_words_is_taken_down_by_learning() -> None:
    model = toy_model(classifier=classifier_options(hidden=[7], entity_width=4, align=1.0), entities=3, relations=2).train()
    names, lengths = torch.tensor([[1, 7, 8], [1, 9, 0], [1, 5, 6]]), torch.tensor([3, 2, 3])
    words = model.name_vectors(names, lengths).detach()
    torch.testing.assert_close(words[1], model.encoder.words.weight[9])
    torch.testing.assert_close(words[0], model.encoder.words.weight[[7, 8]].mean(0))
    assert model.tables is not None
    adam = torch.optim.Adam(model.tables.parameters(), 0.05)
    first = model.tables.distance(torch.arange(3), words).item()
    for _ in range(60):
        adam.zero_grad()
        model.tables.distance(torch.arange(3), words).backward()
        adam.step()
    assert model.tables.distance(torch.arange(3), words).item() < 0.2 * first


def test_frozen_words_are_in_no_group() -> None:
    model = toy_model(cells=BOTH, classifier=HEADED, learn_words=False)
    assert [name for name, _ in model.groups()] == ["cells", "language", "classifier"]
    assert sum(len(group) for _, group in model.groups()) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cells.kind", "GRU", "cells.kind is 'GRU'"),
        ("cells.layers", [], "cells.layers"),
        ("cells.keep", 0.0, "cells.keep"),
        ("language.softmax", "adaptive", "language.softmax"),
        ("language.samples", 0, "language.samples"),
        ("classifier.hidden", [0], "classifier.hidden"),
        ("classifier.balance", 0.0, "balance"),
    ],
)
def test_options_out_of_range_are_told(name: str, value: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        DEFAULTS.replace({name: value})


def test_a_network_comes_back_from_plain_values() -> None:
    network = Network(vocabulary=30, width=5, cells=BOTH, language=DEFAULTS.language, classifier=HEADED, entities=3)
    assert Network.model_validate(json.loads(json.dumps(network.to_dict()))) == network


# -- samples ---------------------------------------------------------------------------------------------------------------


def test_greedy_words_are_the_likeliest_of_the_whole_prefix() -> None:
    model = toy_model(len(WORDS), cells=Cells(kind="BiLSTM", layers=[6, 5], keep=0.5)).train()
    generated = generate(model, WORDS, "a b c", Sampling(words=6))
    assert model.training
    model.eval()
    ids = [BOS, *WORDS.ids("abc")]
    for word in generated:
        logits, _ = model.next_logits(torch.tensor([ids]), None)
        assert WORDS.word(sample_word(logits[0], Sampling(), torch.Generator())) == word
        ids += WORDS.ids([word])
    assert generated == generate(model, WORDS, "a b c", Sampling(words=6))


def test_the_end_of_a_prompt_matters() -> None:
    """In the original the last two words of a prompt were left out in a BiLSTM."""
    model = toy_model(len(WORDS), cells=BOTH, scale=3.0)
    first = {tuple(generate(model, WORDS, f"a b {word}", Sampling(words=4))) for word in "cdefghij"}
    assert len(first) > 3


def test_choice_keeps_to_top_k_and_top_p() -> None:
    logits = torch.full((10,), -50.0)
    logits[[5, 6, 7, 8]] = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    random = torch.Generator().manual_seed(0)

    def drawn(**options: float) -> set[int]:
        return {sample_word(logits, Sampling(temperature=1.0, **options), random) for _ in range(200)}  # type: ignore[arg-type]

    assert drawn() == {5, 6, 7, 8}
    assert drawn(top_k=2) == {5, 6}
    assert drawn(top_p=0.65) == {5, 6}
    assert drawn(top_p=0.01) == {5}
    assert sample_word(logits, Sampling(), random) == 5


def test_reserved_ids_are_never_chosen_and_the_end_ends() -> None:
    logits = torch.zeros(8)
    logits[[PAD, BOS]] = 99.0
    random = torch.Generator().manual_seed(0)
    assert not {sample_word(logits, Sampling(temperature=1.0), random) for _ in range(100)} & {PAD, BOS}
    assert UNK not in {sample_word(logits, Sampling(temperature=1.0, unknown=False), random) for _ in range(100)}
    model = toy_model(len(WORDS))
    assert model.language is not None
    with torch.no_grad():
        model.language.bias[EOS] = 99.0
    assert generate(model, WORDS, "a", Sampling()) == []


def test_sampling_follows_its_seed_and_temperature() -> None:
    model = toy_model(len(WORDS), scale=1.0)
    once = [generate(model, WORDS, "a", Sampling(words=12, temperature=1.0, seed=s)) for s in (1, 1, 2)]
    assert once[0] == once[1] != once[2]
    cold = generate(model, WORDS, "a", Sampling(words=12, temperature=1e-4, seed=5))
    assert cold == generate(model, WORDS, "a", Sampling(words=12))


@pytest.mark.parametrize("wrong", [{"words": 0}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_sampling_out_of_range_is_told(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="take at least one word"):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_a_classifier_alone_makes_no_sentences() -> None:
    model = toy_model(len(WORDS), language=None, classifier=HEADED)
    with pytest.raises(SettingsError, match="without a language model"):
        generate(model, WORDS, "a", Sampling())
    with pytest.raises(SettingsError, match="without a language model"):
        measure_perplexity(model, lines("abc"))


def test_columns_hold_all_words_of_each_text() -> None:
    texts = ["one two three " * 9, "four five"]
    wide = format_columns(["A", "B"], texts, 80)
    assert " ".join(row.split("|")[0] for row in wide[2:]).split() == texts[0].split()
    assert " ".join(row.split("|")[1] for row in wide[2:] if "|" in row).split() == texts[1].split()
    assert all(len(row) <= 80 for row in wide)
    assert format_columns(["A", "B"], texts, 30)[0] == "A:"
