"""The bi-encoder on toy weights: what is saved is what is loaded, towers are read only where needed, and the fingerprint
follows from what decides an entity's vector."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils import parametrize

from blink.checksums import CHECKSUMS_FILE
from blink.data.records import Entity
from blink.errors import BlinkError, CheckpointError, MismatchError, MissingFileError, SettingsError
from blink.model import biencoder as module
from blink.model.adapters import add_adapters, merge_adapters, shrunk, trained_state
from blink.model.biencoder import BiEncoder, shrink_model
from blink.model.config import AGGREGATIONS, BROKEN_AGGREGATIONS, ModelConfig
from blink.model.folder import ADAPTERS_FILE, CONFIG_FILE, WEIGHTS_FILE
from blink.model.loading import load_model
from blink.model.reranker import RANKER_FILE
from blink.model.stored_files import store_checksums
from blink.model.tokenizer import pad
from tests import toys

ENTITIES = [
    Entity(i, f"{name} {i}", "a place " * (i % 5), aliases=(f"alias of {name}",) if i % 2 else ())
    for i, name in enumerate(toys.NAMES)
]


def outputs(model: BiEncoder, text: str = "who lives in tbilisi near the ohio river") -> dict[str, torch.Tensor]:
    """Everything that linking asks of a model."""
    ids, real = pad([[model.tokenizer.cls_id, *model.tokenizer.tokenize([text])[0].ids.tolist(), model.tokenizer.sep_id]], 0)
    mask = torch.from_numpy(real)
    with torch.inference_mode():
        hidden = model.encode_context(torch.from_numpy(ids), mask)
        logits = model.score_spans(hidden, mask).logits
        spans = torch.tensor([0, 0]), torch.tensor([1, 3]), torch.tensor([2, 3])
        return {"hidden": hidden, "logits": logits, "mentions": model.embed_mentions(hidden, *spans)}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], atol: float = 0.0) -> None:
    for key in one:
        assert torch.allclose(one[key], other[key], atol=atol, rtol=0), key


def assert_one_line(caught: pytest.ExceptionInfo[BlinkError], *phrases: str) -> None:
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    for phrase in phrases:
        assert phrase in message


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[BiEncoder, Path]:
    """A model with all its weights, and the folder that it was saved to; not to be changed."""
    model, folder = toys.model(1, cosine=True, aggregation="all_avg_linear"), tmp_path_factory.mktemp("full")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.base_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture
def adapted(base: Path) -> BiEncoder:
    """A model with adapters that were moved away from zero."""
    torch.manual_seed(3)
    settings = ModelConfig(adapter_rank=4, cosine=True, candidate_pooling="mean", max_context_length=32, max_mention_length=4)
    model = BiEncoder.from_encoder(str(base), settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@pytest.fixture
def copied(full: tuple[BiEncoder, Path], tmp_path: Path) -> Path:
    """A copy of the full model's folder that a test may spoil."""
    return shutil.copytree(full[1], tmp_path / "model")


# --- save and load, all weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cosine": True, "candidate_pooling": "mean", "candidate_fields": "title_aliases_text"},
        {"aggregation": "fl_mlp", "mention_scorer": "qa_mlp", "candidate_pooling": "linear"},
    ],
)
def test_a_saved_model_computes_the_same_when_loaded(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = toys.model(2, **settings)
    model.save_pretrained(tmp_path / "m")
    loaded = BiEncoder.from_pretrained(tmp_path / "m", candidate=True)
    assert_same(outputs(model), outputs(loaded))
    assert np.array_equal(model.encode_entities(ENTITIES), loaded.encode_entities(ENTITIES))
    assert loaded.config == model.config
    assert not loaded.training
    loaded.save_pretrained(tmp_path / "again")
    first, second = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("m", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_load_model_knows_a_folder_of_ours(full: tuple[BiEncoder, Path]) -> None:
    assert_same(outputs(full[0]), outputs(load_model(full[1])))


class Recorder:
    """Stands in for an open safetensors file and notes which tensors are read."""

    read: list[str]

    def __init__(self, handle: Any, read: list[str]) -> None:
        self.handle, self.read = handle, read

    def __enter__(self) -> Recorder:
        self.handle = self.handle.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.handle.__exit__(*error)

    def keys(self) -> list[str]:
        return list(self.handle.keys())

    def get_tensor(self, key: str) -> torch.Tensor:
        self.read.append(key)
        return self.handle.get_tensor(key)


@pytest.fixture
def read_keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    original, read = module.safe_open, []
    monkeypatch.setattr(module, "safe_open", lambda *args, **named: Recorder(original(*args, **named), read))
    return read


def test_linking_never_reads_the_candidate_tower(full: tuple[BiEncoder, Path], read_keys: list[str]) -> None:
    model = BiEncoder.from_pretrained(full[1])
    assert model.candidate_encoder is None
    assert not [n for n, _ in model.named_parameters() if n.startswith(("candidate_encoder", "additional_linear"))]
    assert read_keys
    assert not [k for k in read_keys if k.startswith(("candidate_encoder", "additional_linear"))]
    assert_same(outputs(full[0]), outputs(model))
    with pytest.raises(SettingsError, match="candidate encoder was not loaded"):
        model.encode_entities(ENTITIES)


def test_encoding_entities_needs_no_context_tower(full: tuple[BiEncoder, Path]) -> None:
    model = BiEncoder.from_pretrained(full[1], context=False, candidate=True)
    assert model.context_encoder is None
    assert not [n for n, _ in model.named_parameters() if n.startswith("context_encoder")]
    assert np.array_equal(model.encode_entities(ENTITIES), full[0].encode_entities(ENTITIES))
    with pytest.raises(SettingsError, match="context encoder was not loaded"):
        outputs(model)


def test_a_bi_encoder_without_towers_is_refused() -> None:
    with pytest.raises(SettingsError, match="a context encoder, a candidate encoder, or both"):
        BiEncoder(ModelConfig(), toys.tokenizer())


# --- adapters -------------------------------------------------------------------------------------------------------


def test_fresh_adapters_change_nothing_and_only_they_are_trained() -> None:
    plain, ids = toys.tower(7), torch.arange(100, 110)[None]
    before = plain(ids).last_hidden_state
    add_adapters(plain, 3)
    assert torch.equal(plain(ids).last_hidden_state, before)
    trained = trained_state(plain)
    assert all(".weight.0." in k or k.endswith("bias") or "LayerNorm" in k for k in trained)
    assert any(".weight.0.a" in k for k in trained)
    plain(ids).last_hidden_state.square().sum().backward()
    assert {n for n, p in plain.named_parameters() if p.grad is not None} == set(trained)


def test_merged_adapters_compute_exactly_the_same(adapted: BiEncoder) -> None:
    before = outputs(adapted)
    assert adapted.context_encoder is not None
    merge_adapters(adapted.context_encoder)
    assert not any(parametrize.is_parametrized(m) for m in adapted.modules())
    assert_same(before, outputs(adapted))


def test_an_adapted_model_is_stored_small_and_computes_the_same(adapted: BiEncoder, tmp_path: Path, base: Path) -> None:
    adapted.save_pretrained(tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [ADAPTERS_FILE, CHECKSUMS_FILE, CONFIG_FILE]
    assert (tmp_path / "m" / ADAPTERS_FILE).stat().st_size < (base / WEIGHTS_FILE).stat().st_size / 10
    loaded = BiEncoder.from_pretrained(tmp_path / "m", candidate=True)
    # Adapters are stored in half precision.
    assert_same(outputs(adapted), outputs(loaded), atol=0.05)
    assert np.array_equal(loaded.encode_entities(ENTITIES), adapted.encode_entities(ENTITIES))
    assert loaded.config == adapted.config


def test_half_precision_is_lost_once_only(adapted: BiEncoder, tmp_path: Path) -> None:
    adapted.save_pretrained(tmp_path / "one")
    once = BiEncoder.from_pretrained(tmp_path / "one", trainable=True)
    assert any(p.requires_grad for p in once.parameters())
    once.save_pretrained(tmp_path / "two")
    twice = BiEncoder.from_pretrained(tmp_path / "two")
    assert_same(outputs(once), outputs(twice))
    assert (tmp_path / "one" / ADAPTERS_FILE).read_bytes() == (tmp_path / "two" / ADAPTERS_FILE).read_bytes()


def test_a_model_whose_adapters_are_merged_is_not_saved_as_if_it_had_them(adapted: BiEncoder, tmp_path: Path) -> None:
    adapted.save_pretrained(tmp_path / "m")
    before = (tmp_path / "m" / ADAPTERS_FILE).read_bytes()
    merged = BiEncoder.from_pretrained(tmp_path / "m")
    with pytest.raises(SettingsError, match="trainable=True"):
        merged.save_pretrained(tmp_path / "m")
    assert (tmp_path / "m" / ADAPTERS_FILE).read_bytes() == before


def test_an_adapted_model_reads_no_more_towers_than_asked(
    adapted: BiEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted.save_pretrained(tmp_path / "m")
    loads: list[str] = []
    original = module.load_encoder
    monkeypatch.setattr(module, "load_encoder", lambda name: loads.append(name) or original(name))
    assert BiEncoder.from_pretrained(tmp_path / "m").candidate_encoder is None
    assert len(loads) == 1
    assert BiEncoder.from_pretrained(tmp_path / "m", context=False, candidate=True).context_encoder is None
    assert len(loads) == 2


def test_another_version_of_the_base_is_refused(adapted: BiEncoder, tmp_path: Path, base: Path) -> None:
    copied_base = shutil.copytree(base, tmp_path / "base")
    adapted.config = adapted.config.replace(base=str(copied_base))
    adapted.save_pretrained(tmp_path / "m")
    assert BiEncoder.from_pretrained(tmp_path / "m").context_encoder is not None
    toys.base_folder(copied_base, seed=6)
    with pytest.raises(MismatchError) as caught:
        BiEncoder.from_pretrained(tmp_path / "m")
    assert_one_line(caught, "another version", str(copied_base))


def test_a_missing_base_is_named(adapted: BiEncoder, tmp_path: Path) -> None:
    adapted.config = adapted.config.replace(base=str(tmp_path / "gone"), base_sha256=None)
    adapted.save_pretrained(tmp_path / "m")
    with pytest.raises(BlinkError) as caught:
        BiEncoder.from_pretrained(tmp_path / "m")
    assert_one_line(caught, "gone")


def test_adapters_of_another_rank_are_refused(adapted: BiEncoder, tmp_path: Path) -> None:
    adapted.save_pretrained(tmp_path / "m")
    edit_config(tmp_path / "m", adapter_rank=5)
    with pytest.raises(CheckpointError, match="adapters do not fit"):
        BiEncoder.from_pretrained(tmp_path / "m")


# --- damaged folders ------------------------------------------------------------------------------------------------


def edit_config(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**values, **changes}))
    store_checksums(folder)


def edit_weights(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    state = load_file(folder / WEIGHTS_FILE)
    save_file({k: v for k, v in {**state, **changes}.items() if v is not None}, folder / WEIGHTS_FILE)
    store_checksums(folder)


@pytest.mark.parametrize("spoil", ["half", "empty", "rubbish", "header only"])
def test_damaged_weights_are_one_line(copied: Path, spoil: str) -> None:
    path = copied / WEIGHTS_FILE
    content = path.read_bytes()
    path.write_bytes(
        {"half": content[: len(content) // 2], "empty": b"", "rubbish": b"no weights" * 99, "header only": content[:200]}[spoil]
    )
    with pytest.raises(CheckpointError) as caught:
        BiEncoder.from_pretrained(copied)
    assert_one_line(caught, str(path), "damaged", "copy the model folder again")


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(MissingFileError) as caught:
        BiEncoder.from_pretrained(copied)
    assert_one_line(caught, name)


def test_a_missing_tokenizer_is_one_line(copied: Path) -> None:
    for path in copied.iterdir():
        if path.name not in (CONFIG_FILE, WEIGHTS_FILE):
            path.unlink()
    with pytest.raises(BlinkError) as caught:
        BiEncoder.from_pretrained(copied)
    assert_one_line(caught, str(copied))


def test_a_damaged_tokenizer_is_one_line(copied: Path) -> None:
    (copied / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(CheckpointError) as caught:
        BiEncoder.from_pretrained(copied)
    assert_one_line(caught, str(copied), "tokenizer")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    for load in (BiEncoder.from_pretrained, load_model):
        with pytest.raises(MissingFileError) as caught:
            load(tmp_path / "gone")
        assert_one_line(caught, "gone", "blink train")


@pytest.mark.parametrize("content", ["[]", "3", "{"])
def test_a_config_that_is_none_is_refused(copied: Path, content: str) -> None:
    (copied / CONFIG_FILE).write_text(content)
    with pytest.raises(BlinkError) as caught:
        BiEncoder.from_pretrained(copied)
    assert_one_line(caught, CONFIG_FILE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregation": "middle"}, "aggregation is 'middle'"),
        ({"aggregation": "all_linear"}, "use 'all_avg_linear'"),
        ({"mention_scorer": "BIO"}, "mention_scorer is 'BIO'"),
        ({"aggregation": "fl_linear"}, "another shape for aggregator.mention_agg_linear.weight"),
        ({"aggregation": "fl_mlp"}, "lacks aggregator.mention_agg_linear.0"),
        ({"mention_scorer": "qa_mlp"}, "lacks mention_scorer.bound_classifier.0"),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused(copied: Path, changes: dict[str, Any], message: str) -> None:
    edit_config(copied, **changes)
    with pytest.raises((CheckpointError, SettingsError)) as caught:
        BiEncoder.from_pretrained(copied)
    assert_one_line(caught, message)


@pytest.mark.parametrize(
    "changes",
    [
        {"context_encoder.encoder.layer.0.attention.self.query.weight": None},
        {"context_encoder.encoder.layer.0.attention.self.query.weight": torch.zeros(3, 3)},
        {"context_encoder.encoder.layer.9.attention.self.query.weight": torch.zeros(32, 32)},
        {"log_scale": None},
        {"log_scale": torch.zeros(2)},
        {"mention_scorer.bound_classifier.bias": torch.zeros(4)},
    ],
)
def test_weights_that_are_missing_superfluous_or_misshapen_are_refused(
    copied: Path, changes: dict[str, torch.Tensor | None]
) -> None:
    edit_weights(copied, changes)
    with pytest.raises(CheckpointError) as caught:
        BiEncoder.from_pretrained(copied)
    assert_one_line(caught)


def test_a_save_that_fails_keeps_the_old_weights(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in copied.iterdir()}

    def full_disk(tensors: object, name: str) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        toys.model(9).save_pretrained(copied)
    assert {p.name: p.read_bytes() for p in copied.iterdir()} == before


# --- what the model computes ----------------------------------------------------------------------------------------


def test_without_a_mention_head_only_finding_mentions_fails() -> None:
    model = toys.model(0, mention_scorer="none")
    ids, real = pad([[101, 2040, 102]], 0)
    mask = torch.from_numpy(real)
    hidden = model.encode_context(torch.from_numpy(ids), mask)
    assert model.embed_mentions(hidden, torch.tensor([0]), torch.tensor([1]), torch.tensor([1])).shape == (1, toys.HIDDEN)
    with pytest.raises(CheckpointError) as caught:
        model.score_spans(hidden, mask)
    assert_one_line(caught, "no mention head")


def test_an_encoder_as_it_stands_has_no_random_mention_head(base: Path) -> None:
    model = load_model(base, candidate=True)
    assert model.mention_scorer is None
    assert model.encode_entities(ENTITIES).shape == (len(ENTITIES), toys.HIDDEN)


def test_cosine_models_measure_angles_and_learn_the_scale() -> None:
    model = toys.model(0, cosine=True)
    assert np.allclose(np.linalg.norm(model.encode_entities(ENTITIES), axis=1), 1, atol=1e-5)
    assert model.log_scale is not None
    for scale in (20.0, 3.0):
        with torch.no_grad():
            model.log_scale.fill_(np.log(scale))
        assert torch.allclose(outputs(model)["mentions"].norm(dim=1), torch.tensor(scale), atol=1e-3)
    hidden = torch.randn(1, 4, toys.HIDDEN)
    model.embed_mentions(hidden, torch.tensor([0]), torch.tensor([1]), torch.tensor([2])).sum().backward()
    assert model.log_scale.grad is not None


def test_plain_models_keep_lengths() -> None:
    norms = np.linalg.norm(toys.model(0, candidate_pooling="mean").encode_entities(ENTITIES), axis=1)
    assert np.ptp(norms) > 1e-3
    mentions = outputs(toys.model(0))["mentions"].norm(dim=1)
    assert abs(float(mentions[0] - mentions[1])) > 1e-3


@pytest.mark.parametrize("pooling", ["cls", "mean", "linear"])
def test_padding_never_reaches_an_entity_s_vector(pooling: str) -> None:
    model = toys.model(0, candidate_pooling=pooling)
    alone = np.concatenate([model.encode_entities([e]) for e in ENTITIES])
    assert np.allclose(model.encode_entities(ENTITIES), alone, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_entities_may_come_in_any_order_and_batch(batch_size: int) -> None:
    model = toys.model(0)
    expected, order = model.encode_entities(ENTITIES), np.random.default_rng(0).permutation(len(ENTITIES))
    shuffled = model.encode_entities([ENTITIES[i] for i in order], batch_size=batch_size)
    assert np.allclose(shuffled, expected[order], atol=1e-5)
    assert expected.dtype == np.float32
    assert model.encode_entities([]).shape == (0, toys.HIDDEN)


def test_aliases_count_only_where_the_settings_say_so() -> None:
    bare = [Entity(e.row, e.title, e.text) for e in ENTITIES]
    model = toys.model(0)
    assert np.array_equal(model.encode_entities(ENTITIES), model.encode_entities(bare))
    model = toys.model(0, candidate_fields="title_aliases_text")
    same = (np.abs(model.encode_entities(ENTITIES) - model.encode_entities(bare)) < 1e-5).all(1)
    assert same.tolist() == [not e.aliases for e in ENTITIES]


def test_entity_inputs_are_those_of_the_original() -> None:
    (ids,) = toys.tokenizer().entity_ids([Entity(0, "Oslo", "  a city ")], "title_text", 128)
    assert ids == [101, 9977, 3, 1037, 2103, 102]
    (entity_ids,) = toys.tokenizer().entity_ids([Entity(0, "Oslo", "city " * 500)], "title_text", 128)
    assert (len(entity_ids), entity_ids[:3], entity_ids[-1]) == (128, [101, 9977, 3], 102)
    (empty,) = toys.tokenizer().entity_ids([Entity(0, "")], "title_aliases_text", 128)
    assert empty == [101, 3, 102]


# --- fingerprint ----------------------------------------------------------------------------------------------------


def test_the_fingerprint_survives_saving_with_and_without_the_tower(full: tuple[BiEncoder, Path]) -> None:
    model, folder = full
    fingerprint = model.candidate_fingerprint()
    assert BiEncoder.from_pretrained(folder).candidate_fingerprint() == fingerprint
    assert BiEncoder.from_pretrained(folder, context=False, candidate=True).candidate_fingerprint() == fingerprint


def test_the_fingerprint_of_an_adapted_model_survives_too(adapted: BiEncoder, tmp_path: Path) -> None:
    fingerprint = adapted.candidate_fingerprint()
    adapted.save_pretrained(tmp_path / "m")
    assert BiEncoder.from_pretrained(tmp_path / "m").candidate_fingerprint() == fingerprint
    assert BiEncoder.from_pretrained(tmp_path / "m", candidate=True).candidate_fingerprint() == fingerprint


def test_saving_stores_the_fingerprint_of_the_weights_that_are_saved(tmp_path: Path) -> None:
    model = toys.model(4)
    before = model.candidate_fingerprint()
    assert model.candidate_encoder is not None
    with torch.no_grad():
        next(model.candidate_encoder.parameters()).add_(0.5)
    model.save_pretrained(tmp_path / "m")
    loaded = BiEncoder.from_pretrained(tmp_path / "m")
    assert loaded.candidate_fingerprint() == model.candidate_fingerprint() != before


def test_the_fingerprint_follows_what_decides_an_entity_s_vector() -> None:
    model = toys.model(4)
    fingerprints = {model.candidate_fingerprint()}
    for changes in (
        {"max_candidate_length": 25},
        {"candidate_fields": "title_aliases_text"},
        {"cosine": True},
        {"lowercase": False},
    ):
        model.config = toys.model(4).config.replace(**changes)
        fingerprints.add(model.candidate_fingerprint())
    model.config = toys.model(4).config
    assert model.candidate_encoder is not None
    for parameter in model.candidate_encoder.parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 0.25
        fingerprints.add(model.candidate_fingerprint())
    assert len(fingerprints) == 5 + len(list(model.candidate_encoder.parameters()))


def test_the_fingerprint_ignores_what_does_not() -> None:
    model = toys.model(4)
    expected = model.candidate_fingerprint()
    assert toys.model(4, context=False).candidate_fingerprint() == expected
    model.config = model.config.replace(threshold=-1.0, max_context_length=16, aggregation="fl_avg", cutoff=0.3)
    assert model.context_encoder is not None
    with torch.no_grad():
        next(model.context_encoder.parameters()).add_(1.0)
    assert model.candidate_fingerprint() == expected


def test_a_fingerprint_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(SettingsError, match="load it with candidate=True"):
        toys.model(0, candidate=False).candidate_fingerprint()


# --- settings -------------------------------------------------------------------------------------------------------


def test_settings_survive_the_round_trip_and_foreign_keys_are_ignored() -> None:
    config = ModelConfig(aggregation="fl_avg", cosine=True, threshold=-1.25)
    assert ModelConfig.from_dict({**config.to_dict(), "entity_size": 3}) == config


@pytest.mark.parametrize("name", BROKEN_AGGREGATIONS)
def test_what_the_original_leaves_unfinished_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"use '{BROKEN_AGGREGATIONS[name]}'"):
        ModelConfig(aggregation=name)
    assert BROKEN_AGGREGATIONS[name] in AGGREGATIONS


@pytest.mark.parametrize(
    "changes",
    [
        {"max_mention_length": -1},
        {"max_context_length": 2},
        {"max_candidate_length": 0},
        {"candidate_pooling": "max"},
        {"candidate_fields": "text"},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(changes))):
        ModelConfig(**changes)


# --- smaller adapters -----------------------------------------------------------------------------------------------


def test_shrunk_adapters_are_the_nearest_of_their_rank() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 12, generator=random), torch.randn(9, 6, generator=random)
    stored = {"x.parametrizations.weight.0.a": a, "x.parametrizations.weight.0.b": b, "bias": torch.ones(3)}
    reduced = shrunk(stored, 4)
    product = reduced["x.parametrizations.weight.0.b"] @ reduced["x.parametrizations.weight.0.a"]
    lost = torch.linalg.svdvals(b @ a)[4:].square().sum().sqrt()
    assert reduced["x.parametrizations.weight.0.a"].shape == (4, 12)
    assert float((product - b @ a).norm()) == pytest.approx(float(lost), rel=1e-4)
    assert torch.equal(reduced["bias"], stored["bias"])
    assert all(torch.equal(stored[k], v) for k, v in shrunk(stored, 6).items())


def test_a_shrunk_model_is_smaller_and_much_the_same(adapted: BiEncoder, tmp_path: Path) -> None:
    adapted.save_pretrained(tmp_path / "whole")
    rank = adapted.config.adapter_rank
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / RANKER_FILE).write_bytes(b"of another model that stood here")
    shrink_model(tmp_path / "whole", tmp_path / "small", rank - 1)
    reduced = BiEncoder.from_pretrained(tmp_path / "small")
    assert reduced.config.adapter_rank == rank - 1
    assert reduced.config.candidate_fingerprint == adapted.config.candidate_fingerprint
    sizes = [(tmp_path / name / "adapters.safetensors").stat().st_size for name in ("small", "whole")]
    assert sizes[0] < sizes[1]
    assert reduced.reranker is None
    with pytest.raises(SettingsError, match="a rank below"):
        shrink_model(tmp_path / "whole", tmp_path / "small", rank)
