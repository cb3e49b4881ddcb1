"""Hiding words and entities, the loss of a step, what learns, and models before and after."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from pretraining_toys import roberta_tokenizer, tiny_texts
from transformers import LukeForMaskedLM, RobertaForMaskedLM

from blink.errors import CheckpointError, MismatchError, SettingsError
from examples.luke.features import EntitySlot, Feature, collate
from examples.luke.pretrained import load_pretrained, make_plain
from examples.luke.settings import TuneSettings
from examples.luke.tokenizer import PlainTokenizer
from examples.pretraining.dataset import PackedDataset
from examples.pretraining.masking import Masked, Masker, Windows
from examples.pretraining.settings import FreezeSettings, MaskSettings
from examples.pretraining.start import NEW_PREFIXES, freeze, from_luke, from_roberta, store
from examples.pretraining.steps import PretrainStepper, count, evaluate, predict
from examples.pretraining.vocabulary import MASK, VocabChoice, select_titles

VOCAB = select_titles(Counter({f"title {i}": 50 - i for i in range(40)}), VocabChoice())
ENTITY_MASK = VOCAB.row(MASK)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return roberta_tokenizer(tiny_texts())


def masker(tokenizer: Any, **settings: Any) -> Masker:
    return Masker(MaskSettings(**settings), PlainTokenizer(tokenizer), len(tokenizer), tokenizer.mask_token_id, VOCAB)


def feature(tokenizer: Any, text: str, entities: int = 0) -> Feature:
    words = [0, *PlainTokenizer(tokenizer).encode(text), 2]
    return Feature(0, "x", words, [EntitySlot(3 + i, 1 + i, 2 + i) for i in range(entities)], note=-1)


# --- hiding ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(0, 12), st.booleans(), st.booleans(), st.integers(0, 99))
def test_what_is_hidden(tokenizer: Any, length: int, entities: int, whole_words: bool, below: bool, seed: int) -> None:
    original = feature(tokenizer, " ".join(["thermometer Jakarta, in"] * 20))
    slots = [EntitySlot(3 + i, 1 + i % length, 2 + i % length) for i in range(entities)]
    original = Feature(0, "x", [0, *original.words[1 : length + 1], 2], slots)
    masking = masker(tokenizer, whole_word_masking=whole_words, mask_words_in_entity_span=below)
    masked = masking.mask(original, np.random.default_rng(seed))
    budget = max(1, round(0.15 * length))
    positions = masked.word_positions.tolist()
    assert len(set(positions)) == len(positions)
    assert {0, length + 1}.isdisjoint(positions)
    assert masked.words.tolist() == [original.words[i] for i in positions]
    changed = [i for i, (a, b) in enumerate(zip(original.words, masked.feature.words, strict=True)) if a != b]
    assert set(changed) <= set(positions)
    if not below:
        assert len(positions) <= budget
    if not whole_words and not below:
        assert len(positions) == budget
    assert len(masked.entities) == (max(1, round(0.15 * entities)) if entities else 0)
    assert masked.entities.tolist() == [slots[i].id for i in masked.entity_positions]
    hidden = set(masked.entity_positions.tolist())
    assert [s.id for s in masked.feature.entities] == [ENTITY_MASK if i in hidden else s.id for i, s in enumerate(slots)]
    if below:
        assert {p for i in hidden for p in range(slots[i].start, slots[i].end)} <= set(positions)


def test_words_are_hidden_whole(tokenizer: Any) -> None:
    text = "thermometer, Jakarta thermometer Jakarta."
    original = feature(tokenizer, text)
    luke_tokenizer = PlainTokenizer(tokenizer)
    words = [(i, luke_tokenizer.opens_word(w)) for i, w in enumerate(original.words)][1:-1]
    starts = [i for i, opens in words if opens]
    assert len(starts) < len(words)  # there are words of several tokens
    for seed in range(30):
        masked = masker(tokenizer, masked_lm_prob=0.5).mask(original, np.random.default_rng(seed))
        hidden = set(masked.word_positions.tolist())
        for start, end in zip(starts, [*starts[1:], len(original.words) - 1], strict=True):
            assert hidden.isdisjoint(range(start, end)) or hidden.issuperset(range(start, end))


def test_shares_of_masked_random_and_kept_words(tokenizer: Any) -> None:
    masking, mask = masker(tokenizer), tokenizer.mask_token_id
    original = feature(tokenizer, "Java Paris Texas Sun " * 25)
    kinds: Counter[str] = Counter()
    for seed in range(400):
        masked = masking.mask(original, np.random.default_rng(seed))
        assert len(masked.words) == 15
        for position, right in zip(masked.word_positions, masked.words, strict=True):
            now = masked.feature.words[position]
            kinds["mask" if now == mask else "kept" if now == right else "random"] += 1
            assert now > tokenizer.pad_token_id
    total = sum(kinds.values())
    assert kinds["mask"] / total == pytest.approx(0.8, abs=0.02)
    assert kinds["random"] / total == pytest.approx(0.1, abs=0.015)


def test_pieces_of_a_word_share_one_draw(tokenizer: Any) -> None:
    original = feature(tokenizer, "thermometer")
    assert len(original.words) > 4
    for seed in range(40):
        masked = masker(tokenizer, masked_lm_prob=1.0, random_word_prob=0.0, unmasked_word_prob=0.5).mask(
            original, np.random.default_rng(seed)
        )
        now = masked.feature.words[1:-1]
        assert set(now) == {tokenizer.mask_token_id} or now == list(original.words[1:-1])


def test_hidden_entities_may_be_random_or_kept(tokenizer: Any) -> None:
    masking = masker(tokenizer, masked_entity_prob=1.0, random_entity_prob=0.3, unmasked_entity_prob=0.3)
    original = feature(tokenizer, "Java " * 20, entities=20)
    kinds: Counter[str] = Counter()
    for seed in range(100):
        masked = masking.mask(original, np.random.default_rng(seed))
        for before, slot in zip(original.entities, masked.feature.entities, strict=True):
            kinds["mask" if slot.id == ENTITY_MASK else "kept" if slot.id == before.id else "random"] += 1
            assert slot.id == ENTITY_MASK or slot.id >= 3
    assert {k: round(n / sum(kinds.values()), 1) for k, n in kinds.items()} == {"mask": 0.4, "kept": 0.3, "random": 0.3}


def test_nothing_is_hidden_where_nothing_is_asked_for(tokenizer: Any) -> None:
    original = feature(tokenizer, "Java " * 20, entities=4)
    masked = masker(tokenizer, masked_lm_prob=0.0).mask(original, np.random.default_rng(0))
    assert (masked.words.tolist(), len(masked.entities)) == ([], 1)
    masked = masker(tokenizer, word_only_training=True).mask(original, np.random.default_rng(0))
    assert (len(masked.words), len(masked.entities), masked.feature.entities) == (3, 0, [])
    with pytest.raises(SettingsError, match="neither words nor entities"):
        MaskSettings(masked_lm_prob=0.0, word_only_training=True)
    with pytest.raises(SettingsError, match="at most 1"):
        MaskSettings(random_word_prob=0.6, unmasked_word_prob=0.6)


# --- models ---------------------------------------------------------------------------------------------------------


def model_of(roberta: Path, dataset: PackedDataset, seed: int = 0, size: int = 16) -> LukeForMaskedLM:
    torch.manual_seed(seed)
    return from_roberta(str(roberta), dataset.vocab(), size)


@pytest.mark.parametrize("size", [16, 32])  # with and without a projection
def test_a_new_model_reads_words_as_the_roberta_did(roberta: Path, dataset: PackedDataset, size: int) -> None:
    model = model_of(roberta, dataset, size=size).eval()
    assert hasattr(model.luke.entity_embeddings, "entity_embedding_dense") == (size != 32)
    words = torch.tensor([[0, *range(10, 30), 2, 1, 1]])
    with torch.no_grad():
        mask = (words != 1).long()
        expected = RobertaForMaskedLM.from_pretrained(roberta).eval()(words, attention_mask=mask).logits
        logits = model(words, attention_mask=mask).logits
    torch.testing.assert_close(logits, expected)


def test_what_no_new_model_can_be_made_of(tmp_path: Path, roberta: Path, dataset: PackedDataset) -> None:
    with pytest.raises(CheckpointError, match="cannot load the model"):
        from_roberta(str(tmp_path / "none"), dataset.vocab(), 16)
    store(model_of(roberta, dataset), dataset, "x", tmp_path / "luke")
    with pytest.raises(CheckpointError, match="type 'luke'"):
        from_roberta(str(tmp_path / "luke"), dataset.vocab(), 16)


@torch.no_grad()
def test_a_stored_model_goes_on_as_it_was(roberta: Path, dataset: PackedDataset, tmp_path: Path) -> None:
    model = model_of(roberta, dataset).eval()
    model.entity_predictions.bias.normal_()
    store(model, dataset, "roberta-base", tmp_path / "luke")
    again = from_luke(str(tmp_path / "luke"), dataset, None, print).eval()
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}
    assert not again.config.use_entity_aware_attention
    window = Windows(dataset, 0, 2)[0]
    batch = collate([window], 1, 30)
    for name in ("logits", "entity_logits"):
        torch.testing.assert_close(getattr(again(**batch), name), getattr(model(**batch), name))
    other = PackedDataset(dataset.folder)
    other.vocab = lambda: VOCAB  # type: ignore[method-assign]
    with pytest.raises(MismatchError, match="entities"):
        from_luke(str(tmp_path / "luke"), other, None, print)


@torch.no_grad()
def test_a_stored_model_is_ready_for_fine_tuning(roberta: Path, dataset: PackedDataset, tmp_path: Path) -> None:
    model = model_of(roberta, dataset).eval()
    store(model, dataset, "roberta-base", tmp_path / "luke")
    pretrained = load_pretrained(str(tmp_path / "luke"), None, print)
    words, entities = model.config.vocab_size, model.config.entity_vocab_size
    assert pretrained.model.config.use_entity_aware_attention
    assert pretrained.tokenizer.convert_tokens_to_ids("<ent>") == words
    assert pretrained.entities["[MASK2]"] == entities
    assert pretrained.entities["Java"] == dataset.vocab().ids()["Java"]
    batch = collate([Windows(dataset, 0, 2)[3]], 1, 30)
    output, expected = pretrained.model.eval()(**batch), model(**batch)
    torch.testing.assert_close(output.logits[..., :words], expected.logits)
    torch.testing.assert_close(output.entity_logits[..., :entities], expected.entity_logits)
    make_plain(pretrained.model.luke, pretrained.model.config)
    torch.testing.assert_close(pretrained.model(**batch).entity_logits, output.entity_logits)


@torch.no_grad()
def test_queries_that_have_learnt_stay(roberta: Path, dataset: PackedDataset, tmp_path: Path) -> None:
    store(model_of(roberta, dataset), dataset, "roberta-base", tmp_path / "luke")
    pretrained = load_pretrained(str(tmp_path / "luke"), None, print)
    pretrained.model.luke.encoder.layer[1].attention.self.e2e_query.weight += 0.1
    make_plain(pretrained.model.luke, pretrained.model.config)
    assert pretrained.model.config.use_entity_aware_attention
    assert hasattr(pretrained.model.luke.encoder.layer[0].attention.self, "w2e_query")


# --- steps ----------------------------------------------------------------------------------------------------------


def stepper(
    model: LukeForMaskedLM, dataset: PackedDataset, roberta: Path, *, pages: bool = False, **settings: Any
) -> PretrainStepper:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(roberta)
    if pages:
        torch.manual_seed(5)
        model.cls_entity = torch.nn.Linear(model.config.hidden_size, model.config.entity_emb_size)
    hide = Masker(MaskSettings(masked_entity_prob=0.3), PlainTokenizer(tokenizer), model.config.vocab_size, 4, dataset.vocab())
    values = {
        "train_batch_size": 8,
        "eval_batch_size": 8,
        "num_train_epochs": 1.0,
        "seed": 1,
        "learning_rate": 1e-2,
        **settings,
    }
    return PretrainStepper(model, hide, 30, 1, TuneSettings(**values), Accelerator(cpu=True), 10)


def gradients(model: LukeForMaskedLM) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_step_is_the_same_however_it_is_split(roberta: Path, dataset: PackedDataset) -> None:
    windows = Windows(dataset, 0, 2)
    batch = [windows[i] for i in range(7)]
    per_split = []
    for size in (7, 3, 1):
        model = model_of(roberta, dataset)
        learner = stepper(model, dataset, roberta, pages=True, train_batch_size=size)
        loss = learner.step(0, batch)
        assert loss == pytest.approx(learner.last["word_loss"] + learner.last["entity_loss"] + learner.last["page_loss"])
        per_split.append((learner.last, gradients(model)))
    for last, grads in per_split[1:]:
        assert last == pytest.approx(per_split[0][0], rel=1e-5)
        for name, value in per_split[0][1].items():
            torch.testing.assert_close(grads[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_the_loss_is_that_of_the_library(roberta: Path, dataset: PackedDataset) -> None:
    """Sum of two means, as LukeForMaskedLM computes it over all words and entities."""
    model = model_of(roberta, dataset).eval()
    learner = stepper(model, dataset, roberta)
    windows = Windows(dataset, 0, 2)
    masked = [learner.masker.mask(windows[i], np.random.default_rng(i)) for i in range(5)]
    batch = collate([m.feature for m in masked], 1, 30)
    labels, entity_labels = (torch.full_like(batch[k], -100) for k in ("input_ids", "entity_ids"))
    for row, m in enumerate(masked):
        labels[row, m.word_positions] = torch.from_numpy(m.words)
        entity_labels[row, m.entity_positions] = torch.from_numpy(m.entities)
    with torch.no_grad():
        expected = model(**batch, labels=labels, entity_labels=entity_labels)
        sums = predict(model, masked, 1, 30)
    totals = count(masked, pages=False)
    assert float(sums["word"].loss) / totals["word"] == pytest.approx(float(expected.mlm_loss), rel=1e-5)
    assert float(sums["entity"].loss) / totals["entity"] == pytest.approx(float(expected.mep_loss), rel=1e-5)


def test_windows_in_which_no_entity_is_hidden_give_a_number(roberta: Path, dataset: PackedDataset) -> None:
    model = model_of(roberta, dataset)
    learner = stepper(model, dataset, roberta)
    bare = Feature(0, "x", [0, *range(10, 20), 2], [], note=-1)
    assert learner.step(0, [bare]) == pytest.approx(learner.last["word_loss"])


def test_the_first_stage_changes_new_parameters_alone(roberta: Path, dataset: PackedDataset) -> None:
    model = model_of(roberta, dataset)
    freeze(model, FreezeSettings(fix_bert_weights=True))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    learner, windows = stepper(model, dataset, roberta), Windows(dataset, 0, 2)
    for number in range(3):
        learner.step(number, [windows[i] for i in range(8 * number, 8 * number + 8)])
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if name.startswith(NEW_PREFIXES)}
    assert "luke.entity_embeddings.entity_embeddings.weight" in changed


@pytest.mark.parametrize(
    ("trainable", "frozen"),
    [
        (FreezeSettings(freeze_entity_emb=True), "luke.entity_embeddings.entity_embeddings.weight"),
        (FreezeSettings(disable_entity_prediction_bias=True), "entity_predictions.bias"),
    ],
)
def test_parts_can_be_frozen(roberta: Path, dataset: PackedDataset, trainable: FreezeSettings, frozen: str) -> None:
    model = model_of(roberta, dataset)
    freeze(model, trainable)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [frozen]


def test_the_decoder_of_words_stays_tied(roberta: Path, dataset: PackedDataset) -> None:
    model = model_of(roberta, dataset)
    learner, windows = stepper(model, dataset, roberta), Windows(dataset, 0, 2)
    learner.step(0, [windows[i] for i in range(8)])
    assert model.lm_head.decoder.weight is model.luke.embeddings.word_embeddings.weight
    assert model.entity_predictions.decoder.weight is model.luke.entity_embeddings.entity_embeddings.weight


def test_a_loss_that_is_no_number_names_the_step(roberta: Path, dataset: PackedDataset) -> None:
    model = model_of(roberta, dataset)
    with torch.no_grad():
        model.lm_head.dense.weight.fill_(float("nan"))
    with pytest.raises(SettingsError, match="at step 5, with window 0"):
        stepper(model, dataset, roberta).step(4, [Windows(dataset, 0, 2)[0]])


def test_evaluation_does_not_depend_on_batches(roberta: Path, dataset: PackedDataset) -> None:
    learner, windows = stepper(model_of(roberta, dataset), dataset, roberta, pages=True), Windows(dataset, 0, 2, 9)
    metrics = [evaluate(learner, windows, size) for size in (9, 2)]
    assert len(windows) == 9
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-5)
    assert set(metrics[0]) == {"word_loss", "word_accuracy", "entity_loss", "entity_accuracy", "page_loss"}


def test_masks_of_a_step_follow_from_seed_and_step(roberta: Path, dataset: PackedDataset) -> None:
    masks: list[list[Masked]] = []
    for number, seed in ((0, 1), (0, 1), (1, 1), (0, 2)):
        learner = stepper(model_of(roberta, dataset), dataset, roberta, seed=seed)
        mask, calls = learner.masker.mask, []
        learner.masker.mask = lambda f, c, mask=mask, calls=calls: calls.append(mask(f, c)) or calls[-1]  # type: ignore[assignment, func-returns-value, misc]
        learner.step(number, [Windows(dataset, 0, 2)[i] for i in range(4)])
        masks.append(calls)
    masked_words = [[m.feature.words for m in masked] for masked in masks]
    assert masked_words[0] == masked_words[1]
    assert masked_words[0] != masked_words[2]
    assert masked_words[0] != masked_words[3]
