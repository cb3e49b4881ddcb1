"""The published layout: reading it safely, converting it, writing it; models and checkpoints to begin with."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LukeForEntityClassification, LukeForEntityPairClassification, LukeForMaskedLM, LukeModel

from blink.errors import CheckpointError, DataError, MissingFileError, SettingsError
from examples.luke.archive import (
    Archive,
    EntityRow,
    is_archive,
    read_archive,
    read_entities,
    read_state,
    read_titles,
    write_archive,
)
from examples.luke.convert import (
    FIRST,
    MASK,
    MASK2,
    PAD,
    QUERIES,
    SECOND,
    UNKNOWN,
    is_further_query,
    save_folder,
    to_archive,
    to_transformers,
)
from examples.luke.features import EntitySlot, Feature, collate
from examples.luke.heads import LukeForCloze
from examples.luke.loading import THIRD, Base, TunedModel, load_base, load_tuned, with_entities
from examples.luke.pretrained import load_pretrained

ENTITY_TABLE = "entity_embeddings.entity_embeddings.weight"


def batch(titles: dict[str, int]) -> dict[str, torch.Tensor]:
    """An input with words, masks and a real entity."""
    entities = [EntitySlot(titles[MASK], 1, 3), EntitySlot(titles["Vienna"], 3, 5)]
    return collate([Feature(0, "", [0, 20, 21, 22, 23, 2], entities), Feature(0, "", [0, 40, 2], entities[:1])], 1, 30)


@torch.no_grad()
def logits(model: Any, titles: dict[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
    out = model.eval()(**batch(titles))
    return out.logits, out.entity_logits


@pytest.fixture(scope="module")
def pretrained(tiny_folder: Path) -> tuple[LukeForMaskedLM, Any]:
    """The tiny model with its predictors, and its tokenizer."""
    loaded = load_pretrained(str(tiny_folder), None, print)
    return loaded.model, loaded.tokenizer


@pytest.fixture(scope="module")
def published(pretrained: tuple[LukeForMaskedLM, Any], tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It as an archive in the published layout."""
    path = tmp_path_factory.mktemp("archive") / "luke_tiny.tar.gz"
    write_archive(to_archive(*pretrained, str(tiny_folder), {"Vienna": 7}), path)
    return path


class TestLayout:
    def test_members_and_their_form(self, published: Path, pretrained: tuple[LukeForMaskedLM, Any]) -> None:
        with tarfile.open(published) as tar:
            assert sorted(tar.getnames()) == ["entity_vocab.tsv", "metadata.json", "pytorch_model.bin"]
        archive = read_archive(published)
        assert not any(name.startswith("luke.") or "e2w_query" in name for name in archive.state)
        assert [row.names[0] for row in archive.entities[:3]] == [PAD, UNKNOWN, MASK]
        assert MASK2 not in {row.names[0] for row in archive.entities}
        assert EntityRow(("Vienna",), 7) in archive.entities
        words = pretrained[1].convert_tokens_to_ids(FIRST)
        assert archive.config["vocab_size"] == len(archive.state["embeddings.word_embeddings.weight"]) == words

    def test_tar_folder_and_weights_file_are_the_same(self, published: Path, tmp_path: Path) -> None:
        with tarfile.open(published) as tar:
            tar.extractall(tmp_path / "folder", filter="data")
        paths = [published, tmp_path / "folder", tmp_path / "folder" / "pytorch_model.bin"]
        assert all(is_archive(path) for path in paths)
        first, *others = (read_archive(path) for path in paths)
        for other in others:
            assert (other.metadata, other.entities) == (first.metadata, first.entities)
            assert all(torch.equal(first.state[name], value) for name, value in other.state.items())

    @pytest.mark.parametrize("compress", ["", "gz", "bz2", "xz"])
    def test_any_compression(self, tmp_path: Path, compress: str) -> None:
        archive = Archive({"w": torch.ones(2)}, {"model_config": {}}, [EntityRow((PAD,))])
        write_archive(archive, tmp_path / "x.tar", compress)
        assert torch.equal(read_archive(tmp_path / "x.tar").state["w"], torch.ones(2))

    def test_members_in_a_folder_of_the_tar_and_nothing_else_is_unpacked(self, published: Path, tmp_path: Path) -> None:
        with tarfile.open(published) as source, tarfile.open(tmp_path / "x.tar", "w") as tar:
            for member in source:
                content = source.extractfile(member)
                member.name = f"luke_large_500k/{member.name}"
                tar.addfile(member, content)
            for name in ("../outside.txt", "/tmp/absolute.txt", "other.py"):
                bad = tarfile.TarInfo(name)
                bad.size = 3
                tar.addfile(bad, io.BytesIO(b"bad"))
            link = tarfile.TarInfo("x/metadata.json")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        assert read_archive(tmp_path / "x.tar").encoder_name
        assert sorted(p.name for p in tmp_path.iterdir()) == ["x.tar"]

    def test_older_weight_files_and_those_of_deepspeed(self, tmp_path: Path) -> None:
        torch.save({"module": {"module.w": torch.ones(2)}}, tmp_path / "w.bin", _use_new_zipfile_serialization=False)
        assert torch.equal(read_state(tmp_path / "w.bin")["w"], torch.ones(2))

    def test_weights_that_hold_more_are_refused(self, tmp_path: Path) -> None:
        torch.save({"w": Path("x")}, tmp_path / "w.bin")
        with pytest.raises(CheckpointError, match="holds more than weights"):
            read_state(tmp_path / "w.bin")
        torch.save([1, 2], tmp_path / "list.bin")
        with pytest.raises(CheckpointError, match="holds no weights by name"):
            read_state(tmp_path / "list.bin")

    def test_what_is_cut_short_or_lacks_a_file_is_named(self, published: Path, tmp_path: Path) -> None:
        (tmp_path / "cut.tar.gz").write_bytes(published.read_bytes()[:-2000])
        with pytest.raises(CheckpointError, match=r"cut.tar.gz is truncated or damaged"):
            read_archive(tmp_path / "cut.tar.gz")
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo("readme"))
        with pytest.raises(MissingFileError, match=r"holds no pytorch_model.bin; the published layout has"):
            read_archive(tmp_path / "x.tar")
        with pytest.raises(MissingFileError, match="does not exist"):
            read_archive(tmp_path / "none.tar")

    def test_both_vocabulary_files(self, tmp_path: Path) -> None:
        (tmp_path / "v.tsv").write_text("[PAD]\t0\nA\tB\t12\n", encoding="utf-8")
        assert list(read_titles(tmp_path / "v.tsv")) == [EntityRow(("[PAD]",), 0), EntityRow(("A\tB",), 12)]
        (tmp_path / "v.tsv").write_text("[PAD]\t0\nBern 12\n", encoding="utf-8")
        with pytest.raises(DataError, match=r"v.tsv, line 2: found 'Bern 12'"):
            list(read_titles(tmp_path / "v.tsv"))
        rows = [
            {"id": 0, "entities": [["[PAD]", None]], "count": 0},
            {"id": 1, "entities": [["Bern", "de"], ["Berne", "fr"]], "count": 3},
        ]
        (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        assert list(read_entities(tmp_path / "v.jsonl"))[1] == EntityRow(("de:Bern", "fr:Berne"), 3)
        (tmp_path / "v.jsonl").write_text(json.dumps(rows[1]), encoding="utf-8")
        with pytest.raises(DataError, match=r"v.jsonl, line 1: 'id' 0"):
            list(read_entities(tmp_path / "v.jsonl"))

    def test_of_two_vocabularies_the_older_form_wins(self, tmp_path: Path) -> None:
        torch.save({}, tmp_path / "pytorch_model.bin")
        (tmp_path / "metadata.json").write_text('{"model_config": {}}')
        (tmp_path / "entity_vocab.tsv").write_text("old\t1\n")
        (tmp_path / "entity_vocab.jsonl").write_text('{"id": 0, "entities": [["new", null]], "count": 1}\n')
        assert read_archive(tmp_path).entities == [EntityRow(("old",), 1)]


class TestConversion:
    def test_logits_are_those_of_the_model_it_was_made_from(
        self, published: Path, pretrained: tuple[LukeForMaskedLM, Any]
    ) -> None:
        model, tokenizer = pretrained
        converted, words = to_transformers(read_archive(published))
        assert words.entity_vocab == tokenizer.entity_vocab
        assert words.get_vocab() == tokenizer.get_vocab()
        for ours, theirs in zip(logits(converted, words.entity_vocab), logits(model, tokenizer.entity_vocab), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)

    @pytest.mark.parametrize("attention", ["aware, learnt", "aware, copies", "plain", "plain, queries unused"])
    def test_logits_whatever_the_attention(self, attention: str, tiny_folder: Path, tmp_path: Path) -> None:
        """A model of transformers to an archive on disk, and back through the cache that ``--model-file`` fills."""
        loaded = load_pretrained(str(tiny_folder), None, print)
        torch.manual_seed(1)
        model, config = loaded.model, loaded.model.config
        config.use_entity_aware_attention = not attention.startswith("plain")
        for layer in model.luke.encoder.layer:
            layer.attention.self.use_entity_aware_attention = config.use_entity_aware_attention
            if not attention.endswith("copies"):
                for query in QUERIES:
                    torch.nn.init.normal_(getattr(layer.attention.self, query).weight, std=0.1)
        archive = to_archive(model, loaded.tokenizer, str(tiny_folder))
        if attention == "plain":
            archive = replace(archive, state={k: v for k, v in archive.state.items() if not is_further_query(k)})
        assert any(map(is_further_query, archive.state)) == (attention in ("aware, learnt", "plain, queries unused"))
        write_archive(archive, tmp_path / "luke.tar.gz")
        back = load_pretrained(str(tmp_path / "luke.tar.gz"), None, print)
        assert back.model.config.use_entity_aware_attention
        pairs = zip(logits(back.model, back.entities), logits(model, loaded.entities), strict=True)
        assert max(float((ours - theirs).abs().max()) for ours, theirs in pairs) < 1e-5

    def test_logits_of_a_plain_model_as_it_was_published(
        self, tiny_folder: Path, pretrained: tuple[LukeForMaskedLM, Any]
    ) -> None:
        """A model with plain attention, no markers and no second mask, built and run without the converter."""
        tokenizer, ids = pretrained[1], pretrained[1].entity_vocab
        config = load_base(str(tiny_folder), None, lambda text: None).config
        config.vocab_size, config.entity_vocab_size = tokenizer.convert_tokens_to_ids(FIRST), len(ids) - 1
        config.use_entity_aware_attention = False
        torch.manual_seed(3)
        plain = LukeForMaskedLM(config)
        with torch.no_grad():
            plain.lm_head.decoder.weight.copy_(plain.luke.embeddings.word_embeddings.weight)
            plain.entity_predictions.bias.normal_()
            plain.lm_head.decoder.bias.normal_()
        state = {k.removeprefix("luke."): v for k, v in plain.state_dict().items() if k != "lm_head.decoder.weight"}
        metadata = {"model_config": {**config.to_dict(), "bert_model_name": str(tiny_folder), "pad_token_id": 0}}
        rows = [EntityRow((title,)) for title in sorted(ids, key=lambda t: ids[t]) if title != MASK2]
        converted, words = to_transformers(Archive(state, metadata, rows))
        assert converted.config.use_entity_aware_attention
        before, after = logits(plain, ids), logits(converted, words.entity_vocab)
        assert torch.allclose(after[0][..., : config.vocab_size], before[0], atol=1e-5)
        assert torch.allclose(after[1][..., : len(rows)], before[1], atol=1e-5)
        # Markers are initialised from the signs that they replace, the second mask from the first.
        token_ids = words.get_vocab()
        for marker, like in ((FIRST, "@"), (SECOND, "#")):
            assert torch.equal(after[0][..., token_ids[marker]], after[0][..., token_ids[like]])
        assert torch.equal(after[1][..., words.entity_vocab[MASK2]], after[1][..., words.entity_vocab[MASK]])

    def test_the_word_decoder_comes_back_from_disk(self, published: Path, tmp_path: Path) -> None:
        """transformers ties it no more: a file without it would be read with a random one."""
        model, words = to_transformers(read_archive(published))
        save_folder(model, words, tmp_path / "m")
        assert "lm_head.decoder.weight" in load_file(tmp_path / "m" / "model.safetensors")
        back = load_pretrained(str(tmp_path / "m"), None, print).model
        assert torch.equal(back.lm_head.decoder.weight, back.luke.embeddings.word_embeddings.weight)

    def test_copied_queries_are_plain_attention(self, tiny_base: Base) -> None:
        models = []
        for aware in (True, False):
            config = type(tiny_base.config)(**{**tiny_base.config.to_dict(), "use_entity_aware_attention": aware})
            model = LukeModel(config).eval()
            model.load_state_dict(tiny_base.state, strict=aware)
            models.append(model)
        with torch.no_grad():
            one, other = (m(**batch(tiny_base.tokenizer.entity_vocab)) for m in models)
        assert torch.allclose(one.last_hidden_state, other.last_hidden_state, atol=1e-6)
        assert torch.allclose(one.entity_last_hidden_state, other.entity_last_hidden_state, atol=1e-6)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a: a.state.pop("embeddings.LayerNorm.bias"), "do not fit the settings"),
            (lambda a: a.state.pop("embeddings.word_embeddings.weight"), "hold no embeddings.word_embeddings.weight"),
            (lambda a: a.entities.pop(), "do not belong together"),
            (lambda a: a.entities.__setitem__(2, EntityRow(("x",))), r"lacks \[MASK\]"),
            (
                lambda a: a.metadata["model_config"].update(bert_model_name="/no/such/tokenizer"),
                "give its folder by --tokenizer",
            ),
        ],
    )
    def test_what_does_not_fit_is_named(self, published: Path, change: Any, message: str) -> None:
        archive = read_archive(published)
        change(archive)
        with pytest.raises(CheckpointError, match=message):
            to_transformers(archive)


class TestPaddingRow:
    """Row 0 of the entity table never learns; the vocabularies of lite models have the mask there."""

    def lite(self, base: Base) -> Base:
        titles = [MASK, UNKNOWN, PAD, MASK2, "Vienna"]
        table = base.state[ENTITY_TABLE][[base.tokenizer.entity_vocab[t] for t in titles]]
        tokenizer = with_entities(base.tokenizer, {t: i for i, t in enumerate(titles)})
        return Base(base.config, {**base.state, ENTITY_TABLE: table}, tokenizer)

    @pytest.mark.parametrize("all_entities", [False, True])
    def test_the_mask_learns_whatever_the_order(self, tiny_base: Base, all_entities: bool) -> None:
        lite = self.lite(tiny_base)
        tuned = lite.with_head(LukeForEntityClassification, ["a", "b"], all_entities=all_entities)
        ids = tuned.vocabulary().entities
        assert ids[PAD] == 0
        table = tuned.model.base_model.entity_embeddings.entity_embeddings.weight
        assert torch.equal(table[ids[MASK]], lite.state[ENTITY_TABLE][0])
        assert torch.equal(table[ids[PAD]], lite.state[ENTITY_TABLE][2])
        tuned.model(**collate([Feature(0, "", [0, 20, 2], [EntitySlot(ids[MASK], 1, 2)])], 1, 30)).logits.sum().backward()
        assert table.grad is not None
        assert table.grad[ids[MASK]].abs().sum() > 0
        assert table.grad[0].abs().sum() == 0
        if all_entities:
            assert torch.equal(table[ids["Vienna"]], lite.state[ENTITY_TABLE][4])

    def test_an_archive_with_padding_elsewhere_is_put_in_order(self, published: Path) -> None:
        archive = read_archive(published)
        order = [2, 1, 0, *range(3, len(archive.entities))]
        moved = {k: v[order] if v.shape[0] == len(order) and "entit" in k else v for k, v in archive.state.items()}
        lite = Archive(moved, archive.metadata, [archive.entities[i] for i in order])
        (one, words), (other, same) = to_transformers(archive), to_transformers(lite)
        assert words.entity_vocab == same.entity_vocab
        assert all(torch.equal(a, other.state_dict()[name]) for name, a in one.state_dict().items())


class TestBase:
    def test_archive_and_folder_begin_alike(self, published: Path, tiny_base: Base) -> None:
        messages: list[str] = []
        base = load_base(str(published), None, messages.append)
        assert base.tokenizer.entity_vocab == tiny_base.tokenizer.entity_vocab
        assert all(torch.equal(value, base.state[name]) for name, value in tiny_base.state.items())
        load_base(str(published), None, messages.append)
        assert len(messages) == 1  # converted once

    @pytest.mark.parametrize("unused", [False, True], ids=["without further queries", "with unused ones"])
    def test_a_model_of_plain_attention_begins_with_copies(self, unused: bool, tiny_folder: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_folder, tmp_path / "m")
        state = load_file(tmp_path / "m" / "model.safetensors")
        further = [name for name in state if is_further_query(name)]
        assert len(further) == 2 * 3 * 2
        for name in further:
            state[name] = state[name] + 1.0
            if not unused:
                del state[name]
        save_file(state, tmp_path / "m" / "model.safetensors", {"format": "pt"})
        config = json.loads((tmp_path / "m" / "config.json").read_text())
        (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "use_entity_aware_attention": False}))
        base = load_base(str(tmp_path / "m"), None, lambda text: None)
        assert base.config.use_entity_aware_attention
        for query in ("w2e_query", "e2w_query", "e2e_query"):
            name = "encoder.layer.0.attention.self.query.weight"
            assert torch.equal(base.state[name], base.state[name.replace("query", query)])

    def never(self, base: Base) -> TunedModel:
        raise AssertionError("a whole folder needs no blank model")

    def test_a_folder_as_on_the_hub(self, tiny_folder: Path, tiny_base: Base, tmp_path: Path) -> None:
        """Vocabularies in files of their own, markers as added tokens, weights of the encoder alone."""
        folder = tmp_path / "hub"
        folder.mkdir()
        tokenizer = tiny_base.tokenizer
        bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
        words = {token: i for token, i in bpe["vocab"].items() if token not in (FIRST, SECOND)}
        (folder / "vocab.json").write_text(json.dumps(words))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in bpe["merges"]))
        (folder / "entity_vocab.json").write_text(json.dumps(tokenizer.entity_vocab))
        (folder / "added_tokens.json").write_text(json.dumps({FIRST: len(words), SECOND: len(words) + 1}))
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LukeTokenizer", "max_entity_length": 32}')
        shutil.copy(tiny_folder / "config.json", folder)
        save_file(tiny_base.state, folder / "model.safetensors", {"format": "pt"})
        base = load_base(str(folder), None, lambda text: None)
        assert base.tokenizer.entity_vocab == tokenizer.entity_vocab
        assert base.tokenizer.convert_tokens_to_ids([FIRST, SECOND]) == [len(words), len(words) + 1]
        for all_entities in (False, True):
            tuned = base.with_head(LukeForEntityClassification, ["a"], all_entities=all_entities)
            save_folder(tuned.model, tuned.tokenizer, tmp_path / "out")
            back = load_tuned(tmp_path / "out", LukeForEntityClassification, fail, self.never)
            assert back.vocabulary().entities == tuned.vocabulary().entities
            assert back.vocabulary().markers == tuned.vocabulary().markers
            assert back.vocabulary().tokenizer.encode("Vienna, 1571") == tuned.vocabulary().tokenizer.encode("Vienna, 1571")

    def test_weights_that_lack_something_are_refused(self, tiny_folder: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_folder, tmp_path / "m")
        state = load_file(tmp_path / "m" / "model.safetensors")
        state.pop("luke.encoder.layer.1.output.dense.weight")
        save_file(state, tmp_path / "m" / "model.safetensors", {"format": "pt"})
        with pytest.raises(CheckpointError, match=r"lacks encoder.layer.1.output.dense.weight"):
            load_base(str(tmp_path / "m"), None, lambda text: None)

    def test_what_is_not_there_or_no_luke_is_named(self, tiny_folder: Path, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"none.tar.gz does not exist"):
            load_base(str(tmp_path / "none.tar.gz"), None, lambda text: None)
        with pytest.raises(CheckpointError, match="cannot load the model 'no-such/luke'"):
            load_base("no-such/luke", None, lambda text: None)
        shutil.copytree(tiny_folder, tmp_path / "other")
        (tmp_path / "other" / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
        with pytest.raises(CheckpointError, match="has a RobertaTokenizer; these tasks need LUKE's"):
            load_base(str(tmp_path / "other"), None, lambda text: None)
        (tmp_path / "bert").mkdir()
        (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(CheckpointError, match="is a model of type 'bert'"):
            load_base(str(tmp_path / "bert"), None, lambda text: None)


def fail() -> Base:
    raise AssertionError("the base model is not needed")


class TestCheckpoints:
    def tuned(self, base: Base, head: Any = LukeForEntityClassification, markers: tuple[str, ...] = (FIRST,)) -> TunedModel:
        extra = [m for m in markers if m == THIRD]
        return base.with_head(head, ["a", "b"], all_entities=False, markers=extra, task_markers=list(markers))

    def same(self, one: TunedModel, other: TunedModel) -> bool:
        state = other.model.state_dict()
        return all(torch.equal(value, state[name]) for name, value in one.model.state_dict().items())

    @pytest.mark.parametrize("name", ["", "model.safetensors", "pytorch_model.bin"])
    def test_folder_and_file_even_by_the_originals_name(self, tiny_base: Base, tmp_path: Path, name: str) -> None:
        tuned = self.tuned(tiny_base)
        save_folder(tuned.model, tuned.tokenizer, tmp_path / "out")
        back = load_tuned(tmp_path / "out" / name, LukeForEntityClassification, fail, self.tuned)
        assert self.same(tuned, back)
        assert back.labels == ("a", "b")
        assert back.vocabulary().entities == tuned.vocabulary().entities

    @pytest.mark.parametrize(
        ("head", "markers", "rows"),
        [
            (LukeForEntityClassification, (FIRST,), 2),
            (LukeForEntityPairClassification, (FIRST, SECOND), 3),
            (LukeForCloze, (FIRST, SECOND, THIRD), 2),
        ],
    )
    def test_weights_as_the_original_published_them(
        self, tiny_base: Base, tmp_path: Path, head: Any, markers: tuple[str, ...], rows: int
    ) -> None:
        tuned = self.tuned(tiny_base, head, markers)
        ids, plain = tuned.vocabulary().markers, tuned.tokenizer.convert_tokens_to_ids(FIRST)
        with torch.no_grad():  # as training leaves them: unlike those that a blank model begins with
            for table in (
                tuned.model.base_model.embeddings.word_embeddings,
                tuned.model.base_model.entity_embeddings.entity_embeddings,
            ):
                table.weight[[*(ids[m] for m in markers)] if len(table.weight) > 4 else [2, 3]] += 0.5
        state = {k.removeprefix("luke."): v for k, v in tuned.model.state_dict().items()}
        if head is LukeForEntityClassification:
            state = {k.replace("classifier.", "typing."): v for k, v in state.items()}
        words = state["embeddings.word_embeddings.weight"]
        state["embeddings.word_embeddings.weight"] = torch.cat([words[:plain], *(words[ids[m]][None] for m in markers)])
        table, entities = state[ENTITY_TABLE], tuned.vocabulary().entities
        state[ENTITY_TABLE] = table[[entities[t] for t in (PAD, MASK, MASK2)[:rows]]]
        state["embeddings.position_ids"] = torch.arange(514)[None]
        torch.save(state, tmp_path / "original.bin")
        torch.manual_seed(5)
        back = load_tuned(tmp_path / "original.bin", head, lambda: tiny_base, lambda base: self.tuned(base, head, markers))
        features = [
            Feature(0, "", [0, *ids.values(), 30, 2], [EntitySlot(entities[MASK], 1, 3), EntitySlot(entities[MASK2], 2, 4)])
        ]
        with torch.no_grad():
            before, after = (m.model.eval()(**collate(features, 1, 30)).logits for m in (tuned, back))
        if rows == 3:
            assert torch.equal(before, after)
        assert torch.equal(
            back.model.state_dict()["luke.encoder.layer.0.output.dense.weight"], state["encoder.layer.0.output.dense.weight"]
        )
        used = [ids[m] for m in markers]
        assert torch.equal(back.model.base_model.embeddings.word_embeddings.weight[used], words[used])

    def test_a_head_is_never_left_random(self, tiny_base: Base, tiny_folder: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"lacks classifier.bias, classifier.weight; was it trained for this task"):
            load_tuned(tiny_folder, LukeForEntityClassification, fail, self.tuned)
        state = {
            k.removeprefix("luke."): v for k, v in self.tuned(tiny_base).model.state_dict().items() if "classifier" not in k
        }
        torch.save(state, tmp_path / "headless.bin")
        with pytest.raises(CheckpointError, match=r"headless.bin does not fit the task .*Missing key"):
            load_tuned(tmp_path / "headless.bin", LukeForEntityClassification, lambda: tiny_base, self.tuned)

    def test_weights_of_another_task_are_refused(self, tiny_base: Base, tmp_path: Path) -> None:
        other = self.tuned(tiny_base, LukeForEntityPairClassification, (FIRST, SECOND))
        save_folder(other.model, other.tokenizer, tmp_path / "pair")
        with pytest.raises(CheckpointError, match="was it trained for this task"):
            load_tuned(tmp_path / "pair", LukeForEntityClassification, fail, self.tuned)
        state = {k.removeprefix("luke."): v for k, v in other.model.state_dict().items()}
        state["embeddings.word_embeddings.weight"] = torch.zeros(600 + 3, 64)
        torch.save(state, tmp_path / "w.bin")
        with pytest.raises(CheckpointError, match="has 3 more tokens than RoBERTa, this task adds 1"):
            load_tuned(tmp_path / "w.bin", LukeForEntityClassification, lambda: tiny_base, self.tuned)

    def test_entities_of_another_model_are_refused(self, tiny_base: Base, tmp_path: Path) -> None:
        state = dict(self.tuned(tiny_base).model.state_dict())
        state[f"luke.{ENTITY_TABLE}"] = torch.zeros(9, 32)
        torch.save(state, tmp_path / "w.bin")
        with pytest.raises(SettingsError, match="has 9 entities, the model 4"):
            load_tuned(tmp_path / "w.bin", LukeForEntityClassification, lambda: tiny_base, self.tuned)

    def test_what_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="does not exist; give the folder of a run"):
            load_tuned(tmp_path / "none.bin", LukeForEntityClassification, fail, self.tuned)


def test_files_of_a_model_are_readable_by_others(tiny_folder: Path) -> None:
    assert all(file.stat().st_mode & 0o077 == 0o044 for file in tiny_folder.iterdir())
