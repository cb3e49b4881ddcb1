"""The bi-encoder on encoders other than BERT: DistilBERT, ELECTRA (its embeddings narrower than its layers), RoBERTa."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from blink.data.records import Entity
from blink.errors import CheckpointError, SettingsError
from blink.linking.linker import Linker
from blink.model.adapters import trained_state
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig
from blink.model.loading import load_model
from blink.model.pretrained import load_encoder, longest_input
from blink.model.tokenizer import Tokenizer

POSITIONS = 64
TEXTS = (
    "Georgia borders Lake Garda, or does it?",
    "😀Java 🏳️‍🌈 and “Tbilisi”…  Oslo",
    "Łódź, naïve café",
    "Is the 東京 Ohio River in A-B (Java)?\r\n\tMercury!",
    "Java",
    "",
    " ".join(["the Ohio River flows past Atlanta and"] * 9),
)


@functools.cache
def byte_pieces() -> PreTrainedTokenizerFast:
    """Byte-level BPE as RoBERTa has it, learned from a few sentences."""
    tokenizer = RawTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*TEXTS, *toys.NAMES, "thing of kind 0 1 2 3"] * 3, trainer)
    ends = {name: tokenizer.token_to_id(name) for name in ("<s>", "</s>")}
    # Without trimming, a piece's offsets hold the blank before its word: the linker must not.
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", ends["</s>"]), ("<s>", ends["<s>"]), trim_offsets=False, add_prefix_space=False
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", **names
    )


def small_encoder(kind: str) -> tuple[torch.nn.Module, Any]:
    """A random encoder of a kind, its weights drawn wide, and its tokenizer."""
    torch.manual_seed(3)
    vocabulary, shape = len(toys.tokenizer()), {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    common = {"hidden_size": 32, "max_position_embeddings": POSITIONS, "initializer_range": 0.3, **shape}
    if kind == "distilbert":
        settings = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "initializer_range": 0.3}
        config = DistilBertConfig(vocab_size=vocabulary, max_position_embeddings=POSITIONS, **settings)
        return DistilBertModel(config), toys.tokenizer().transformers_tokenizer
    if kind == "electra":
        return ElectraModel(
            ElectraConfig(vocab_size=vocabulary, embedding_size=16, **common)
        ), toys.tokenizer().transformers_tokenizer
    tokenizer = byte_pieces()
    config = RobertaConfig(vocab_size=len(tokenizer), type_vocab_size=1, pad_token_id=tokenizer.pad_token_id, **common)
    return RobertaModel(config), tokenizer


KINDS = ("distilbert", "electra", "roberta")


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder as Hugging Face stores it."""
    path = tmp_path_factory.mktemp(request.param)
    encoder, tokenizer = small_encoder(request.param)
    encoder.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def fresh(folder: Path, **settings: Any) -> BiEncoder:
    torch.manual_seed(1)
    config = {"max_context_length": 24, "max_mention_length": 4, "max_candidate_length": 24, **settings}
    return BiEncoder.from_encoder(str(folder), ModelConfig(**config)).eval()


ENTITIES = [Entity(i, name, f"a thing called {name}", aliases=(f"the {name}",)) for i, name in enumerate(toys.NAMES)]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_entity_vectors_are_those_of_the_encoder_alone(folder: Path, pooling: str) -> None:
    model = fresh(folder, candidate_pooling=pooling)
    vectors = model.encode_entities(ENTITIES, batch_size=3)
    encoder = load_encoder(str(folder))
    for row, ids in enumerate(model.tokenizer.entity_ids(ENTITIES, "title_text", 24)):
        with torch.inference_mode():
            hidden = encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]
        expected = hidden[0] if pooling == "cls" else hidden.mean(0)
        np.testing.assert_allclose(vectors[row], expected, atol=1e-5)


def test_span_scores_do_not_depend_on_padding(folder: Path) -> None:
    model = fresh(folder)
    ids = torch.tensor(
        [[model.tokenizer.cls_id, *model.tokenizer.tokenize([TEXTS[0]])[0].ids.tolist()[:12], model.tokenizer.sep_id]]
    )
    padded = torch.nn.functional.pad(ids, (0, 7), value=model.tokenizer.pad_id)
    mask = torch.arange(padded.shape[1])[None] < ids.shape[1]
    with torch.inference_mode():
        alone = model.score_spans(model.encode_context(ids, torch.ones_like(ids, dtype=torch.bool)), mask[:, : ids.shape[1]])
        padded_spans = model.score_spans(model.encode_context(padded, mask), mask)
    n = ids.shape[1]
    assert alone.logits.shape == (1, n, 5)
    torch.testing.assert_close(padded_spans.logits[:, :n], alone.logits, atol=1e-4, rtol=1e-4)
    assert torch.isneginf(padded_spans.logits[:, n:]).all()


@pytest.mark.parametrize("rank", [0, 2])
def test_saved_and_loaded(folder: Path, tmp_path: Path, rank: int) -> None:
    model = fresh(folder, adapter_rank=rank, isolate_symbols=True)
    if rank:
        with torch.no_grad():
            for parameter in trained_state(model.context_encoder).values():  # type: ignore[arg-type]
                parameter.add_(0.01)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, candidate=True)
    assert loaded.candidate_fingerprint() == model.candidate_fingerprint()
    np.testing.assert_array_equal(loaded.encode_entities(ENTITIES), model.encode_entities(ENTITIES))
    encoding = model.tokenizer.tokenize([TEXTS[1]])[0]
    ids = torch.tensor([[model.tokenizer.cls_id, *encoding.ids.tolist()[:20], model.tokenizer.sep_id]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.inference_mode():
        # Adapters are stored in half precision.
        torch.testing.assert_close(
            loaded.encode_context(ids, mask), model.encode_context(ids, mask), atol=0.05 if rank else 1e-6, rtol=0.0
        )
    np.testing.assert_array_equal(loaded.tokenizer.tokenize([TEXTS[1]])[0].offsets, encoding.offsets)


def test_adapters_train_the_layer_norms_whatever_their_name(folder: Path) -> None:
    model = fresh(folder, adapter_rank=2)
    norms = [m for m in model.context_encoder.modules() if isinstance(m, torch.nn.LayerNorm)]  # type: ignore[union-attr]
    assert norms
    assert all(p.requires_grad for norm in norms for p in norm.parameters())


def inside_word(text: str, offset: int) -> bool:
    """Whether an offset is between two Latin letters; BERT takes each Chinese character for a word."""
    around = text[offset - 1 : offset + 1]
    return 0 < offset < len(text) and around.isalpha() and all(c < "\u0250" for c in around)


@pytest.mark.parametrize("whole_words", [False, True])
def test_links_carry_offsets_of_the_text(folder: Path, tmp_path: Path, whole_words: bool) -> None:
    model = fresh(folder, whole_words=whole_words, isolate_symbols=True)
    base = toys.knowledge_base(tmp_path / "kb", model, toys.rows(12))
    linker = Linker(model, base, threshold=float("-inf"), precision="fp32")
    one_by_one = [linker(text) for text in TEXTS]
    batched = list(linker.link(TEXTS, batch_size=3))
    assert [[(x.start, x.end, x.row) for x in t.links] for t in batched] == [
        [(x.start, x.end, x.row) for x in t.links] for t in one_by_one
    ]
    for text, linked in zip(TEXTS, one_by_one, strict=True):
        assert bool(linked.links) == bool(text)
        linked_characters: set[int] = set()
        for link in linked.links:
            assert link.mention == text[link.start : link.end] == link.mention.strip() != ""
            assert linked_characters.isdisjoint(range(link.start, link.end))
            linked_characters.update(range(link.start, link.end))
            if whole_words:
                assert not inside_word(text, link.start), link.mention
                assert not inside_word(text, link.end), link.mention


def test_given_spans(folder: Path, tmp_path: Path) -> None:
    model = fresh(folder)
    linker = Linker(model, toys.knowledge_base(tmp_path / "kb", model, toys.rows(12)), precision="fp32")
    spans = [(0, 7), (16, 26)]
    links = linker(TEXTS[0], spans=spans).links
    assert [(x.start, x.end, x.mention) for x in links] == [(0, 7, "Georgia"), (16, 26, "Lake Garda")]


def test_every_word_may_be_a_mention(folder: Path) -> None:
    """Words at the start of a text and after punctuation have no mark in byte-level tokens."""
    tokenizer = Tokenizer.from_pretrained(folder)
    text = "Java (Oslo) “Tbilisi” Łódź"
    encoding = tokenizer.tokenize([text])[0]
    inside = tokenizer.inside_words(np.concatenate([[tokenizer.cls_id], encoding.ids])[None])[0, 1:]
    begins = {int(start) + (text[start] == " ") for start in encoding.offsets[~inside, 0]}
    words = [0, text.index("Oslo"), text.index("Tbilisi"), text.index("Łódź")]
    assert begins.issuperset(words)
    letters = {i for i in range(1, len(text)) if text[i - 1].isalnum() and text[i].isalnum()}
    assert begins.isdisjoint(letters)


def test_roberta_keeps_positions_for_padding() -> None:
    encoder, _ = small_encoder("roberta")
    longest = longest_input(encoder)
    assert longest == POSITIONS - 2
    ids = torch.full((1, longest), 7)
    encoder(input_ids=ids)
    with pytest.raises((IndexError, RuntimeError)):
        encoder(input_ids=torch.full((1, longest + 1), 7))
    assert (
        longest_input(BertModel(BertConfig(hidden_size=8, num_attention_heads=1, num_hidden_layers=1, intermediate_size=8)))
        == 512
    )


def test_inputs_as_long_as_the_encoder_reads(folder: Path, tmp_path: Path) -> None:
    model = fresh(folder, max_candidate_length=500)
    base = toys.knowledge_base(tmp_path / "kb", model, [{"title": "Oslo", "text": "a city by the sea " * 60}])
    longest = toys.detector(model).positions
    linker = Linker(model, base, threshold=float("-inf"), context_length=longest, precision="fp32")
    assert linker(TEXTS[-1]).links
    with pytest.raises(SettingsError, match="context_length"):
        Linker(model, base, context_length=longest + 1)


def test_a_pooler_is_not_asked_of_encoders_without_one(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    settings = encoder.config.to_dict()
    model = fresh(folder)
    towers = {"context_encoder": settings, "candidate_encoder": settings}
    config = model.config.replace(candidate_pooling="linear")
    if settings["model_type"] == "roberta":
        assert not any(name.startswith("pooler") for name, _ in encoder.named_parameters())
        return
    with pytest.raises(CheckpointError, match="no pooler"):
        BiEncoder.from_state(config, model.tokenizer, towers, model.state_dict(), 32, candidate=True)
