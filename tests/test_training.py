"""Training: losses against plain computations, synthetic texts, and runs that resume to the same weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import knowledge_base, tokenizer
from training_toys import fresh, make_toy, question, trainer

from blink.data.records import Mention, Sample
from blink.errors import DataError, MismatchError, SettingsError
from blink.kb.knowledge_base import KnowledgeBase
from blink.model.biencoder import BiEncoder
from blink.model.heads import SpanScores, span_logits
from blink.runs.checkpoints import CHECKPOINTS_FOLDER, checkpoints
from blink.runs.folder import TRACE_FILE
from blink.training.data.examples import Batch, collate, examples_from, order
from blink.training.data.synthetic import COMMON_NOUN_TAILS, MAKERS, Synthesizer, Triple, mixed, read_triples
from blink.training.settings import SYNTHETIC_SOURCES, TrainSettings, parse_mix
from blink.training.step.losses import catalogue_loss, span_loss
from blink.training.trainer import Trainer

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def base(toy: Path) -> Path:
    return toy / "base"


@pytest.fixture(scope="module")
def kb(toy: Path) -> KnowledgeBase:
    return KnowledgeBase.open(toy / "kb")


class TestLosses:
    def test_catalogue_loss_is_the_softmax_over_all_entities(self) -> None:
        torch.manual_seed(0)
        mentions, entities = torch.randn(5, 8), torch.randn(11, 8)
        gold = torch.tensor([3, -1, 0, 10, 3])
        expected = [-torch.log(torch.softmax(entities @ m, 0)[g]) for m, g in zip(mentions, gold, strict=True) if g >= 0]
        assert catalogue_loss(mentions, gold, entities).item() == pytest.approx(torch.stack(expected).mean().item(), abs=1e-5)

    def test_without_known_rows_the_loss_is_zero_and_differentiable(self) -> None:
        mentions = torch.randn(2, 4, requires_grad=True)
        loss = catalogue_loss(mentions, torch.tensor([-1, -1]), torch.randn(3, 4))
        loss.backward()
        assert loss.item() == 0
        assert mentions.grad is not None

    def test_span_loss_is_the_mean_over_real_spans(self) -> None:
        torch.manual_seed(1)
        mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
        scores = span_logits(torch.randn(2, 6, 3), mask, 2)
        batch = self._batch(mask, gold=[(0, 1, 2), (1, 3, 3), (0, 0, 5)])  # the last is longer than the model's spans
        terms = []
        for text in range(2):
            for start in range(6):
                for width in range(3):
                    logit = scores.logits[text, start, width]
                    if torch.isfinite(logit):
                        is_gold = (text, start, start + width) in [(0, 1, 2), (1, 3, 3)]
                        terms.append(-torch.nn.functional.logsigmoid(logit if is_gold else -logit))
        assert span_loss(scores, batch).item() == pytest.approx(torch.stack(terms).mean().item(), abs=1e-6)

    def test_unlabelled_spans_of_a_partial_text_count_for_nothing(self) -> None:
        mask = torch.ones(2, 5, dtype=torch.bool)
        logits = span_logits(torch.randn(2, 5, 3), mask, 3).logits
        batch = self._batch(mask, gold=[(1, 2, 3)], partial=[False, True])
        loss = span_loss(SpanScores(logits), batch)
        moved = logits.clone()
        moved[1, 0, 0] += 50  # not labelled: may be a mention or not
        assert torch.equal(span_loss(SpanScores(moved), batch), loss)
        moved[1, 2, 1] += 50  # labelled: a mention for certain
        assert span_loss(SpanScores(moved), batch) < loss

    def test_spans_that_touch_unlabelled_tokens_count_only_where_they_are_gold(self) -> None:
        mask = torch.ones(1, 6, dtype=torch.bool)
        logits = span_logits(torch.randn(1, 6, 3), mask, 3).logits
        unlabelled = torch.tensor([[False, False, False, True, True, False]])
        batch = replace(self._batch(mask, gold=[(0, 2, 3)]), unlabelled=unlabelled)
        loss = span_loss(SpanScores(logits), batch)
        for start, width in [(s, w) for s in range(6) for w in range(4) if s + w < 6]:
            moved = logits.clone()
            moved[0, start, width] += 50
            touches = start <= 4 and start + width >= 3
            is_gold = (start, width) == (2, 1)
            changed = not torch.equal(span_loss(SpanScores(moved), batch), loss)
            assert changed == (is_gold or not touches), (start, width)

    @staticmethod
    def _batch(mask: torch.Tensor, gold: list[tuple[int, int, int]], partial: list[bool] | None = None) -> Batch:
        text, start, end = torch.tensor(gold).unbind(1)
        flags = torch.tensor(partial or [False] * len(mask))
        return Batch(mask.long(), mask, text, start, end, torch.zeros_like(text), flags)


class TestExamples:
    def test_bounds_point_at_the_mention(self) -> None:
        text = "did Ångström, of Uppsala, measure light?"
        sample = Sample("1", text, (Mention(17, 24, 5), Mention(4, 12, 2)))
        (example,) = examples_from([sample], tokenizer(), 32)
        words = [tokenizer().decode(example.ids[s : e + 1]) for s, e in example.bounds]
        assert words == ["angstrom", "uppsala"]
        assert example.rows == [2, 5]

    def test_stored_pieces_win(self) -> None:
        from blink.data.records import TokenMention

        sample = Sample("1", "x", (Mention(0, 1, 3),), (2054, 2003, 2605), (TokenMention(2, 3, 3),))
        (example,) = examples_from([sample], tokenizer(), 32)
        assert example.ids[1:-1] == [2054, 2003, 2605]
        assert example.bounds == [(3, 3)]

    def test_unlabelled_texts_are_refused(self) -> None:
        with pytest.raises(DataError, match="has no labels"):
            examples_from([Sample("7", "hello")], tokenizer(), 32)

    def test_shuffled_batches_hold_every_example_once(self, kb: KnowledgeBase) -> None:
        examples = examples_from([question(i, kb) for i in range(45)], tokenizer(), 32)
        expected = sorted(tuple(e.ids) for e in examples)
        for seed in (0, 1):
            got: list[tuple[int, ...]] = []
            batches = order(np.array([len(e.ids) for e in examples]), 8, np.random.default_rng(seed))
            assert sorted(map(len, batches)) == [5, 8, 8, 8, 8, 8]
            for indices in batches:
                batch = collate([examples[i] for i in indices], tokenizer().pad_id)
                got += [tuple(ids[mask].tolist()) for ids, mask in zip(batch.ids, batch.mask, strict=True)]
            assert sorted(got) == expected

    def test_a_batch_without_mentions(self) -> None:
        batch = collate(examples_from([Sample("1", "nothing here", ())], tokenizer(), 32), 0)
        assert batch.text.shape == batch.rows.shape == (0,)


class TestMadeTexts:
    @pytest.fixture
    def synthesizer(self, kb: KnowledgeBase) -> Synthesizer:
        triples = [Triple(i, "P19", i + 1) for i in range(6)]
        questions = [question(i, kb) for i in range(9)]
        return Synthesizer(kb.catalogue, triples, questions, pseudo_labelled=questions[:3], augmentation=0.0)

    def test_sources_have_the_names_that_settings_know(self) -> None:
        assert tuple(sorted(MAKERS)) == SYNTHETIC_SOURCES

    @pytest.mark.parametrize("source", ["plain", "pseudo", "related", "slotted", "swapped"])
    def test_mentions_spell_names_of_their_entity(self, synthesizer: Synthesizer, kb: KnowledgeBase, source: str) -> None:
        for sample in synthesizer.make(source, 60, seed=3):
            assert sample.mentions is not None
            for m in sample.mentions:
                entity = kb.catalogue[m.row]
                assert sample.text[m.start : m.end] in (entity.title, *entity.aliases)
            assert bool(sample.mentions) == (source != "plain")

    def test_the_same_seed_gives_the_same_texts(self, synthesizer: Synthesizer) -> None:
        for source in ("related", "swapped", "plain", "slotted"):
            assert synthesizer.make(source, 20, 1) == synthesizer.make(source, 20, 1)
            assert synthesizer.make(source, 20, 1) != synthesizer.make(source, 20, 2)

    def test_common_nouns_are_no_mentions(self, kb: KnowledgeBase) -> None:
        relation = sorted(COMMON_NOUN_TAILS)[0]
        synthesizer = Synthesizer(kb.catalogue, [Triple(0, relation, 1)], [])
        rows_seen = {m.row for s in synthesizer.make("related", 40, 0) for m in s.mentions or ()}
        assert rows_seen == {0}

    def test_described_sentences_name_their_entity(self, base: Path, tmp_path: Path) -> None:
        text = "The Zorp Bridge crosses the wide river Quill near the old mill. It was built long ago by monks."
        lines = [{"title": "Zorp Bridge", "text": text, "aliases": ["Old Zorp"]}, {"title": "Quill", "text": "A river."}]
        small_kb = knowledge_base(tmp_path / "kb", fresh(base), lines)
        samples = Synthesizer(small_kb.catalogue, [Triple(0, "P17", 1)], []).make("described", 30, 0)
        assert all(s.partial for s in samples)
        forms = {(s.text[m.start : m.end], m.row) for s in samples for m in s.mentions or ()}
        assert forms == {("Zorp Bridge", 0), ("Old Zorp", 0), ("Quill", 1)}

    def test_mixture_has_its_shares(self, synthesizer: Synthesizer, kb: KnowledgeBase) -> None:
        questions = [question(i, kb) for i in range(20)]
        samples = list(mixed(questions, {"questions": 1.5, "plain": 0.25}, synthesizer, seed=0))
        assert len(samples) == 20 + 10 + 5
        assert sum(not s.mentions for s in samples) == 5

    @pytest.mark.parametrize(
        ("text", "words"), [("plane=1", "plane"), ("plain=x", "'x'"), ("plain=-1", "'-1'"), ("plain", "''")]
    )
    def test_shares_that_cannot_be_read(self, text: str, words: str) -> None:
        with pytest.raises(SettingsError, match=words):
            parse_mix(text)

    def test_triples_outside_the_catalogue_are_left_out(
        self, kb: KnowledgeBase, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "t.tsv"
        file.write_text("Q101\tP19\tQ102\nQ101\tP19\tQ999999\n")
        rows_of_ids = kb.catalogue.row_of("Q101"), kb.catalogue.row_of("Q102")
        assert [(t.head, t.tail) for t in read_triples(file, kb.catalogue)] == [rows_of_ids]
        file.write_text("Q999998\tP19\tQ999999\n")
        assert read_triples(file, kb.catalogue) == []
        assert "no triple has both of its entities in the catalogue (the first: 'Q999998 P19 Q999999')" in caplog.text
        file.write_text("Q101\tP19\n")
        with pytest.raises(DataError, match="line 1: found 2 columns"):
            read_triples(file, kb.catalogue)


class TestRuns:
    def test_it_learns(self, toy: Path, tmp_path: Path) -> None:
        run = trainer(toy, tmp_path, epochs=30)
        before = run.learner.validation.score()
        best = run.run()
        trace = [json.loads(line) for line in (tmp_path / TRACE_FILE).read_text().splitlines()]
        losses = [row["entity_loss"] + row["span_loss"] for row in trace if "entity_loss" in row]
        assert losses[-1] < 0.75 * losses[0]
        assert best.f1 > before.f1 + 0.25
        assert BiEncoder.from_pretrained(tmp_path / "best").config.threshold == best.threshold

    def test_other_settings_do_not_resume(self, toy: Path, tmp_path: Path) -> None:
        trainer(toy, tmp_path, epochs=1).run()
        with pytest.raises(MismatchError, match="batch_size"):
            trainer(toy, tmp_path, epochs=1, batch_size=4).run(resume=True)

    def test_the_state_holds_tensors_only(self, toy: Path, tmp_path: Path) -> None:
        trainer(toy, tmp_path, epochs=1).run()
        state = torch.load(checkpoints(tmp_path / CHECKPOINTS_FOLDER)[-1], weights_only=True)
        assert state["step"] == state["standing"]["step"] == 4

    def test_the_rate_is_never_zero(self, toy: Path, tmp_path: Path) -> None:
        for epochs, size in ((1, 64), (1, 8), (3, 7)):
            run = trainer(toy, tmp_path, epochs=epochs, batch_size=size)
            factors = [run.learner.stepper.rate(step) for step in range(run.total_steps)]
            assert min(factors) > 0
            assert max(factors) <= 1

    def test_only_adapters_norms_biases_and_heads_learn(self, toy: Path, tmp_path: Path) -> None:
        run = trainer(toy, tmp_path, epochs=1)
        before = {n: p.detach().clone() for n, p in run.model.named_parameters()}
        run.run()
        changed = {n for n, p in run.model.named_parameters() if not torch.equal(p, before[n])}
        assert not any("embeddings.word" in n or n.startswith("candidate_encoder") or "original" in n for n in changed)
        assert any("parametrizations" in n for n in changed)
        assert {"mention_scorer.bound_classifier.weight", "log_scale"} <= changed

    def test_a_loss_that_is_no_number_stops_the_run(self, toy: Path, tmp_path: Path) -> None:
        run = trainer(toy, tmp_path, epochs=1)
        with torch.no_grad():
            assert run.model.mention_scorer is not None
            run.model.mention_scorer.bound_classifier.bias.fill_(float("nan"))
        with pytest.raises(SettingsError, match="the loss is nan"):
            run.run()

    def test_vectors_of_another_model_are_refused(self, toy: Path, base: Path, kb: KnowledgeBase, tmp_path: Path) -> None:
        other = fresh(base)
        other.config = other.config.replace(candidate_fingerprint="0" * 64)
        with pytest.raises(MismatchError, match="another model"):
            Trainer(other, kb, [], [], tmp_path, TrainSettings())
