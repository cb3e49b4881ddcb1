"""Entity disambiguation: the public files, windows over documents, local and global decisions, the learning check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretraining_toys import Examples
from torch import nn

from blink.errors import DataError, MissingFileError
from examples.entity_disambiguation.data import SETS, Candidate, Document, Mention, Titles, read_documents, read_titles
from examples.entity_disambiguation.model import NO_CANDIDATE, DisambiguationOutput, LukeForEntityDisambiguation
from examples.entity_disambiguation.task import Answer, DisambiguationOptions, EntityDisambiguation, decide_one_by_one
from examples.entity_disambiguation.windows import SPLIT_MODES, Limits, candidate_rows, document_inputs, gold_index
from examples.luke.loading import Vocabulary, load_base
from examples.luke.pretrained import load_pretrained
from examples.luke.tiny import make_tiny_model

TINY = Path(__file__).resolve().parents[2] / "examples" / "entity_disambiguation" / "tiny"


def titles_of(documents: list[Document]) -> set[str]:
    return {t for d in documents for m in d.mentions for t in (m.title, *(c.title for c in m.candidates))}


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return read_documents(TINY, "train")


@pytest.fixture(scope="module")
def luke(documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("luke") / "tiny"
    make_tiny_model(folder, [" ".join(d.words) for d in documents], sorted(titles_of(documents)))
    return folder


def new_task(luke: Path, **options: Any) -> EntityDisambiguation:
    return EntityDisambiguation(DisambiguationOptions(**options), lambda: load_pretrained(str(luke), None, print))


def new_model(task: EntityDisambiguation, luke: Path) -> tuple[LukeForEntityDisambiguation, Vocabulary]:
    torch.manual_seed(0)
    tuned = load_base(str(luke), None, print).with_head(task.head(), task.labels([]), all_entities=True, **task.head_settings())
    task.adopt(tuned.labels, tuned.model)
    return tuned.model, tuned.vocabulary()  # type: ignore[return-value]


# --- files ----------------------------------------------------------------------------------------------------------


def test_the_tiny_set(documents: list[Document]) -> None:
    assert len(documents) == 20
    assert sum(len(d.mentions) for d in documents) == 37
    first = documents[0]
    assert (first.name, first.words[:4]) == ("1 PLANET", ("Mercury", "goes", "around", "the"))
    mention = first.mentions[0]
    assert (mention.text, mention.title, mention.start, mention.end) == ("Mercury", "Mercury (planet)", 0, 1)
    assert mention.candidates == (Candidate("Mercury (element)", 0.48), Candidate("Mercury (planet)", 0.44))
    for document in documents:
        for m in document.mentions:
            assert " ".join(document.words[m.start : m.end]) == m.text
            assert m.title in [c.title for c in m.candidates]
    for split in ("dev", "test"):
        assert len(read_documents(TINY, split)) == 10


def test_a_part_of_a_persons_name_has_the_candidates_of_the_longer_name(documents: list[Document]) -> None:
    gosling = next(m for d in documents for m in d.mentions if m.text == "Gosling")
    assert gosling.candidates == (Candidate("James Gosling", 1.0),)


def row(name: str, mention: str, *candidates: str, gold: str) -> str:
    return "\t".join([name, name, mention, "left", "right", "CANDIDATES", *(candidates or ("EMPTYCAND",)), "GT:", gold])


def word(text: str, tag: str = "", title: str = "X") -> str:
    return "\t".join([text, tag, text, title, f"http://en.wikipedia.org/wiki/{title}", "7"]) if tag else text


def write_set(folder: Path, rows: list[str], words: list[str], persons: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "aida_train.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "aida_train.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "persons.txt").write_text(persons, encoding="utf-8")
    return folder


def test_oddities_of_the_public_files(tmp_path: Path) -> None:
    rows = [
        row("d1", "AT&T Inc.", "1,0.1,Tom, Dick", "2,0.7,AT&amp;T", "3,0.2,", gold="1,2,0.7,AT&amp;T"),
        row("d1", "Bern", gold="-1,9,Bern, Switzerland"),
        row("d1", "nobody", gold="-1,-1,"),
        row("Jiří_Třanovský", "x", "1,1.0,X", gold="0,1,1.0,X"),
    ]
    # A mention that the table does not have, one without an entity, a name without its closing bracket, blank lines.
    words = [
        "-DOCSTART- (d1)", word("Rome", "B"), "", "went\tB\twent\t--NME--", word("AT&T", "B"), word("Inc", "I"), word(".", "I"),
        "to", word("Bern", "B"), "",
    ]  # fmt: skip
    (document,) = read_documents(write_set(tmp_path / "set", rows, words), "train")
    assert document.words == ("Rome", "went", "AT&T", "Inc", ".", "to", "Bern")
    one, two = document.mentions
    assert (one.title, one.start, one.end) == ("AT&T", 2, 5)
    assert one.candidates == (Candidate("AT&T", 0.7), Candidate("Tom, Dick", 0.1))
    assert (two.title, two.candidates, two.start) == ("Bern, Switzerland", (), 6)


def test_priors_are_averaged_over_longer_names_of_persons(tmp_path: Path) -> None:
    rows = [
        row("d", "Ann Lee", "1,0.8,Ann Lee", "2,0.2,Ann Lee (singer)", gold="0,1,0.8,Ann Lee"),
        row("d", "Bob Lee", "3,0.6,Bob Lee", "2,0.4,Ann Lee (singer)", gold="0,3,0.6,Bob Lee"),
        row("d", "Lee", "4,1.0,Lee County", gold="-1,1,Ann Lee"),
        row("d", "Leeds", "5,1.0,Leeds", gold="0,5,1.0,Leeds"),
        row("d", "Lee County", "4,1.0,Lee County", gold="0,4,1.0,Lee County"),
    ]
    words = ["-DOCSTART- (d"]
    for text in ("Ann Lee", "Bob Lee", "Lee", "Leeds", "Lee County"):
        first, *rest = text.split()
        words += [word(first, "B"), *(word(w, "I") for w in rest)]
    (document,) = read_documents(write_set(tmp_path / "set", rows, words, "Ann Lee\nBob Lee\n"), "train")
    by_text = {m.text: m for m in document.mentions}
    assert {c.title: c.prior for c in by_text["Lee"].candidates} == pytest.approx(
        {"Ann Lee": 0.4, "Ann Lee (singer)": 0.3, "Bob Lee": 0.3}
    )
    assert by_text["Leeds"].candidates[0].title == "Leeds"
    assert by_text["Ann Lee"].candidates[0].prior == 0.8


def test_old_titles_become_new_ones(tmp_path: Path) -> None:
    rows = [
        row("d", "Kiev", "1,1.0,Kiev", gold="0,1,1.0,Kiev"),
        row("d", "Atlantis", "2,1.0,Atlantis", gold="0,2,1.0,Atlantis"),
    ]
    folder = write_set(tmp_path / "set", rows, ["-DOCSTART- (d)", word("Kiev", "B"), word("Atlantis", "B")])
    (tmp_path / "r.tsv").write_text("Kiev\tKyiv\n")
    (tmp_path / "t.txt").write_text("Kyiv\n")
    (document,) = read_documents(folder, "train", read_titles(str(tmp_path / "t.txt"), str(tmp_path / "r.tsv")))
    assert [(m.title, m.candidates[0].title) for m in document.mentions] == [("Kyiv", "Kyiv")]
    (tmp_path / "r.tsv").write_text("Kiev Kyiv\n")
    with pytest.raises(DataError, match="line 1: expected source"):
        read_titles(None, str(tmp_path / "r.tsv"))


GOOD = row("d", "Bern", "1,1.0,Bern", gold="0,1,1.0,Bern")


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        (["d\td\tBern"], ["-DOCSTART- (d)"], "aida_train.csv, line 1: found 3 columns"),
        ([GOOD.replace("GT:", "X")], ["-DOCSTART- (d)"], "line 1: found"),
        ([GOOD.replace("1,1.0,Bern", "1,much,Bern", 1)], ["-DOCSTART- (d)"], "candidate '1,much,Bern'"),
        ([GOOD[:-5]], ["-DOCSTART- (d)"], "gold entity"),
        ([GOOD], ["-DOCSTART- (e)", word("Bern", "B")], "document 'd' is not in"),
        ([GOOD], ["-DOCSTART- (d)", "Bern"], "no mention 'Bern'"),
        ([GOOD, GOOD], ["-DOCSTART- (d)", word("Bern", "B")], "line 2: aida_train.txt has no mention 'Bern'"),
        ([GOOD], ["Bern"], "before the first -DOCSTART-"),
        ([GOOD], ["-DOCSTART- (d)", word("Bern", "I")], "line 2: found 'I'"),
    ],
)
def test_malformed_files_are_errors_of_one_line(rows: list[str], words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")) as error:
        read_documents(write_set(tmp_path / "set", rows, words), "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["aida_train.csv", "aida_train.txt", "persons.txt"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", [GOOD], ["-DOCSTART- (d)", word("Bern", "B")])
    (folder / name).unlink()
    with pytest.raises(MissingFileError, match=name):
        read_documents(folder, "train")


# --- windows --------------------------------------------------------------------------------------------------------


def long_document(mentions: int, gap: int) -> Document:
    words: list[str] = []
    occurrences = []
    for _ in range(mentions):
        words += ["the"] * gap
        occurrences.append(
            Mention("x", "Java", "Java", (Candidate("Java", 1.0), Candidate("Sun", 0.5)), len(words), len(words) + 1)
        )
        words.append("Java")
    return Document("x", "d", tuple(words), tuple(occurrences))


@pytest.fixture(scope="module")
def vocabulary(luke: Path) -> Vocabulary:
    return new_model(new_task(luke), luke)[1]


@settings(max_examples=40)
@given(
    st.integers(0, 9), st.integers(0, 9), st.integers(6, 40), st.integers(1, 5), st.sampled_from(SPLIT_MODES), st.booleans()
)  # fmt: skip
def test_every_mention_is_answered_once(
    vocabulary: Vocabulary, mentions: int, gap: int, size: int, most: int, mode: str, training: bool
) -> None:
    document = long_document(mentions, gap)
    limits = Limits(max_seq_length=size, max_entity_length=most, split_mode=mode)
    inputs = document_inputs(3, document, vocabulary, limits, training=training)
    answered = [n for f in inputs for n in f.note.mentions[: f.note.answered]]
    assert sorted(answered) == list(range(mentions))
    java = vocabulary.tokenizer.encode("Java")
    for f in inputs:
        assert f.example == 3
        assert len(f.words) <= size
        assert 1 <= len(f.entities) <= most
        assert len(f.entities) == len(f.note.mentions) == len(f.note.candidates)
        assert (len(f.label) == len(f.entities)) if training else not f.label
        for slot in f.entities:
            assert list(f.words[slot.start : slot.end]) == java


def test_a_part_around_each_mention_has_it_in_the_middle(vocabulary: Vocabulary) -> None:
    document = long_document(9, 5)
    n_tokens = len(vocabulary.tokenizer.encode("Java"))
    limits = Limits(max_seq_length=22, split_mode="per_mention")
    inputs = document_inputs(0, document, vocabulary, limits, training=False)
    middle = inputs[4]
    slot = middle.entities[0]
    assert (len(middle.words), middle.note.mentions[0], middle.note.answered) == (22, 4, 1)
    assert abs((slot.start - 1) - (21 - slot.end)) <= 1
    assert n_tokens == slot.end - slot.start
    assert set(middle.note.mentions[1:]) <= {3, 5}


def test_candidates_become_rows(vocabulary: Vocabulary) -> None:
    titles = ("Java", "Nowhere", "Sun", "Elsewhere", "Java")
    mention = Mention("x", "Java", "Sun", tuple(Candidate(t, 1.0) for t in titles))
    java, sun, unknown = (vocabulary.entities[t] for t in ("Java", "Sun", "[UNK]"))
    assert candidate_rows(mention, vocabulary, Limits()) == (java, unknown, sun, -1, -1)
    assert candidate_rows(mention, vocabulary, Limits(max_candidate_length=2)) == (java, unknown)
    assert gold_index(mention, vocabulary, Limits()) == 2
    assert gold_index(mention, vocabulary, Limits(max_candidate_length=2)) is None
    assert gold_index(Mention("x", "x", "Nowhere", mention.candidates), vocabulary, Limits()) is None


# --- the model ------------------------------------------------------------------------------------------------------


def batch_of(task: EntityDisambiguation, documents: list[Document], vocabulary: Vocabulary) -> tuple[list[Any], dict[str, Any]]:
    features = [f for windows in task.features(documents, vocabulary, training=False) for f in windows]
    return features, task.inputs(features, vocabulary)


@torch.no_grad()
def test_scores_are_those_of_the_pre_trained_head(luke: Path, documents: list[Document]) -> None:
    task = new_task(luke)
    model, vocabulary = new_model(task, luke)
    pretrained = load_pretrained(str(luke), None, print).model.eval()
    pretrained.entity_predictions.bias.normal_()
    model.entity_predictions.bias.copy_(pretrained.entity_predictions.bias)
    _, inputs = batch_of(task, documents[:4], vocabulary)
    candidates = inputs.pop("candidates")
    del inputs["shown"]
    expected = pretrained(**inputs).entity_logits.gather(2, candidates.clamp(min=0))
    scores = model.eval()(candidates=candidates, **inputs).logits
    torch.testing.assert_close(scores[candidates >= 0], expected[candidates >= 0])
    assert bool((scores[candidates < 0] == NO_CANDIDATE).all())


def test_what_learns_and_what_does_not(luke: Path, documents: list[Document]) -> None:
    task = new_task(luke)
    model, vocabulary = new_model(task, luke)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"luke.entity_embeddings.entity_embeddings.weight", "entity_predictions.bias"}
    assert not model.config.use_entity_aware_attention  # copies of queries would diverge
    features = [f for windows in task.features(documents, vocabulary, training=True) for f in windows]
    torch.manual_seed(0)
    model.train()
    task.loss(task.logits(model, task.inputs(features, vocabulary)), features).backward()
    assert model.mask_embedding.grad is not None
    assert float(model.mask_embedding.grad.abs().sum()) > 0
    assert torch.equal(model.mask_embedding.detach(), model.table.weight[vocabulary.entities["[MASK]"]])


def test_shown_mentions_have_no_loss(luke: Path, documents: list[Document]) -> None:
    task = new_task(luke, masked_entity_prob=0.5)
    model, vocabulary = new_model(task, luke)
    features = [f for windows in task.features(documents, vocabulary, training=True) for f in windows]
    torch.manual_seed(3)
    inputs = task.inputs(features, vocabulary)
    mask, unmasked = vocabulary.entities["[MASK]"], inputs["shown"] >= 0
    assert 0 < int(unmasked.sum()) < int(inputs["entity_attention_mask"].sum())
    real = inputs["entity_attention_mask"].bool()
    assert bool(((inputs["entity_ids"] == mask) == (real & ~unmasked))[real].all())
    masked = [int((real & ~unmasked)[i].sum()) for i in range(len(features))]
    assert masked == [task.decisions(f) for f in features]
    for i, f in enumerate(features):
        for j, index in enumerate(f.label):
            if unmasked[i, j]:
                assert int(inputs["entity_ids"][i, j]) == f.note.candidates[j][index]
    model.train()
    logits = task.logits(model, dict(inputs))
    alone = task.loss(torch.where(unmasked.unsqueeze(-1), logits, torch.zeros_like(logits)), features)
    zeros = task.loss(torch.zeros_like(logits), features)
    n_candidates = logits.shape[2]
    assert alone.item() == pytest.approx(zeros.item() - float(np.log(n_candidates)) * int(unmasked.sum()), rel=1e-4)


class Agreeing(nn.Module):
    """Most confident of mention 1; predicts candidate 1 of the others where the input has candidate 1 for mention 1, else 0."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[list[list[int]]] = []

    def forward(self, candidates: torch.Tensor, **inputs: torch.Tensor) -> DisambiguationOutput:
        ids = inputs["entity_ids"]
        self.passes.append(ids.tolist())
        logits = torch.zeros(candidates.shape)
        resolved = ids[:, 1] == candidates[:, 1, 1]
        logits[:, 1, 1] = 9.0
        logits[:, 0, 0], logits[:, 2, 0] = 1.0, 2.0
        logits[resolved, 0, 1], logits[resolved, 2, 1] = 5.0, 7.0
        return DisambiguationOutput(logits.masked_fill(candidates < 0, NO_CANDIDATE))


def test_the_surest_is_decided_first_and_read_on_with() -> None:
    mask = 99
    candidates = torch.tensor([[[10, 11], [20, 21], [30, 31], [-1, -1]], [[10, -1], [20, 21], [-1, -1], [-1, -1]]])
    inputs = {"entity_ids": torch.full((2, 4), mask), "candidates": candidates}
    model = Agreeing()
    scores = decide_one_by_one(model, inputs)
    assert scores.argmax(-1)[0, :3].tolist() == [1, 1, 1]
    assert model.passes == [
        [[mask] * 4, [mask] * 4],
        [[mask, 21, mask, mask], [10, mask, mask, mask]],  # of the second, one candidate alone is surest of all
        [[mask, 21, 31, mask], [10, 21, mask, mask]],
    ]
    local = model(**inputs).logits
    assert local.argmax(-1)[0, :3].tolist() == [0, 1, 0]
    assert bool((scores[:, 3] == NO_CANDIDATE).all())


def test_the_metric_by_hand() -> None:
    mentions = tuple(Mention("x", "m", title, (Candidate("A", 1.0),) if title != "C" else ()) for title in ("A", "B", "A", "C"))
    answers = [[Answer("A"), Answer("A"), Answer("A"), Answer(None)]]
    task = EntityDisambiguation(DisambiguationOptions(), lambda: pytest.fail("no model is needed"))
    scores = task.score([Document("x", "d", (), mentions)], answers)
    assert scores == pytest.approx({"accuracy": 0.5, "precision": 2 / 3, "recall": 0.5, "f1": 4 / 7})
    nothing = task.score([Document("x", "d", (), mentions)], [[Answer(None)] * 4])
    assert nothing == {"accuracy": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


# --- the command ----------------------------------------------------------------------------------------------------


def arguments(luke: Path, run: Path, *more: object) -> list[object]:
    return [
        "--model-file", luke, "--output-dir", run, "--num-gpus", 0, "entity-disambiguation", "run", "--data-dir", TINY,
        "--train-batch-size", 20, "--learning-rate", "2e-3", *more,
    ]  # fmt: skip


def results(run: Path) -> dict[str, float]:
    return dict(json.loads((run / "results.json").read_text()))


def predictions(run: Path) -> list[str]:
    return [(run / f"{split}_predictions.jsonl").read_text() for split in ("dev", "test")]


def test_the_learning_check(examples: Examples, luke: Path, tmp_path: Path) -> None:
    """All mentions of the tiny set are learnt, and the stored model gives the same again."""
    run = tmp_path / "run"
    done = examples(*arguments(luke, run, "--num-train-epochs", 40))
    assert done[0] == 0, done
    learnt = results(run)
    assert (learnt["dev_accuracy"], learnt["test_accuracy"]) == (1.0, 1.0)
    rows = [json.loads(line) for text in predictions(run) for line in text.splitlines()]
    assert len(rows) == 37
    assert all(r["predicted"] == r["gold"] and 0 < r["probability"] <= 1 for r in rows)
    again = tmp_path / "again"
    done = examples(*arguments(luke, again, "--no-train", "--checkpoint-file", run))
    assert done[0] == 0, done
    assert {k: v for k, v in learnt.items() if k in results(again)} == results(again)
    assert predictions(run) == predictions(again)
    local = tmp_path / "local"
    examples(
        *arguments(luke, local, "--no-train", "--checkpoint-file", run, "--inference-mode", "local", "--eval-batch-size", 3)
    )
    assert results(local)["dev_accuracy"] > 0.9
    assert set(results(local)) == set(results(again))


def test_a_stopped_run_goes_on_to_the_same(
    examples: Examples, luke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.luke.steps import Stepper

    more = ["--num-train-epochs", 3, "--train-batch-size", 8, "--save-steps", 2]
    assert examples(*arguments(luke, tmp_path / "whole", *more))[0] == 0
    step, stops = Stepper.step, {5}

    def stop_once(self: Stepper, number: int, features: Any) -> float:
        if number in stops:
            stops.discard(number)
            raise MemoryError
        return step(self, number, features)

    monkeypatch.setattr(Stepper, "step", stop_once)
    assert examples(*arguments(luke, tmp_path / "stopped", *more))[0] == 1
    assert examples(*arguments(luke, tmp_path / "stopped", *more, "--resume"))[0] == 0
    assert results(tmp_path / "whole") == results(tmp_path / "stopped")
    assert predictions(tmp_path / "whole") == predictions(tmp_path / "stopped")
    status, _, err = examples(*arguments(luke, tmp_path / "stopped", *more, "--resume", "--masked-entity-prob", 0.5))
    assert (status, "options" in err) == (1, True), err


def test_a_pre_trained_model_is_evaluated_as_it_is(examples: Examples, luke: Path, tmp_path: Path) -> None:
    done = examples(*arguments(luke, tmp_path / "run", "--no-train"))
    assert done[0] == 0, done
    scores = results(tmp_path / "run")
    assert 0 < scores["dev_accuracy"] < 1
    status, _, err = examples("--model-file", luke, "entity-disambiguation", "run", "--data-dir", TINY, "--no-train")
    assert (status, "give --output-dir" in err) == (1, True)


def test_candidates_are_listed_for_the_vocabulary(examples: Examples, tmp_path: Path, documents: list[Document]) -> None:
    assert examples("entity-disambiguation", "candidates", tmp_path / "c.txt", "--data-dir", TINY)[0] == 0
    assert set((tmp_path / "c.txt").read_text().splitlines()) == titles_of(documents)
    status, _, err = examples("entity-disambiguation", "candidates", tmp_path / "c.txt", "--data-dir", tmp_path)
    assert (status, "holds none of the sets" in err, err.count("\n")) == (1, True, 1)


def test_the_sets_are_the_public_ones() -> None:
    assert [SETS[name][0] for name in ("train", "dev", "test")] == ["aida_train.csv", "aida_testA.csv", "aida_testB.csv"]
    assert Titles({"a": "b"}).new("a") == "b"
