"""Export of entities: the files give back the model's own scores, ids are unique, titles are matched to ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pretraining_toys import Examples
from safetensors.torch import load_file

from blink.errors import DataError, MissingFileError
from examples.export_entities import read_id_map, select_rows
from examples.luke.archive import write_archive
from examples.luke.convert import SPECIAL_ENTITIES, save_folder, to_archive
from examples.luke.pretrained import load_pretrained
from examples.luke.tiny import make_tiny_model

TITLES = ("Java", "Sun", 'The "Sun"', "Bern (city)", "Paris, Texas")


@pytest.fixture(scope="module")
def luke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("luke") / "tiny"
    make_tiny_model(folder, ["Java and the Sun"], TITLES, size=32)
    pretrained = load_pretrained(str(folder), None, print)
    with torch.no_grad():
        pretrained.model.entity_predictions.bias.normal_()
    save_folder(pretrained.model, pretrained.tokenizer, folder)
    return folder


def exported(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, allow_pickle=False) for path in folder.glob("*.npy")}


@torch.no_grad()
def test_the_files_give_the_models_own_scores(examples: Examples, luke: Path, tmp_path: Path) -> None:
    assert examples("export-entities", "--model-file", luke, "--out", tmp_path / "out") == (
        0,
        "",
        f"{tmp_path / 'out'}: 5 entities of width 32\n",
    )
    arrays = exported(tmp_path / "out")
    ids = (tmp_path / "out" / "entity_ids.txt").read_text().splitlines()
    pretrained = load_pretrained(str(luke), None, print)
    rows = [pretrained.entities[title] for title in ids]
    assert tuple(ids) == TITLES
    assert not set(ids) & set(SPECIAL_ENTITIES)
    entities = pretrained.model.luke.entity_embeddings
    projected = entities.entity_embedding_dense(entities.entity_embeddings(torch.tensor(rows)))
    np.testing.assert_allclose(arrays["entity_vectors"], projected.numpy(), rtol=1e-6)
    assert arrays["entity_vectors"].dtype == np.float32
    states = torch.randn(3, 32)
    transform = load_file(tmp_path / "out" / "mention_transform.safetensors")
    dense = torch.nn.functional.linear(states, transform["dense.weight"], transform["dense.bias"])
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    normed = torch.nn.functional.layer_norm(
        torch.nn.functional.gelu(dense),
        (16,),
        transform["LayerNorm.weight"],
        transform["LayerNorm.bias"],
        meta["layer_norm_eps"],
    )
    scores = normed.numpy() @ arrays["entity_raw_vectors"].T + arrays["entity_biases"]
    np.testing.assert_allclose(scores, pretrained.model.entity_predictions(states)[:, rows].numpy(), rtol=1e-5, atol=1e-6)
    assert (meta["dim"], meta["raw_dim"], meta["rows"], meta["layout"], meta["ids"]) == (32, 16, 5, "real", "title")
    norms = np.linalg.norm(arrays["entity_vectors"], axis=1)
    assert (meta["mean_norm"], meta["std_norm"]) == pytest.approx((norms.mean(), norms.std()), rel=1e-5)


def test_the_folder_opens_like_any_of_entity_vectors(examples: Examples, luke: Path, tmp_path: Path) -> None:
    vectors = pytest.importorskip("blink.kglm.text_init.vectors")
    examples("--model-file", luke, "export-entities", "--out", tmp_path / "out")
    space = vectors.read_folder(tmp_path / "out")
    assert (tuple(space.names), space.vectors.shape) == (TITLES, (5, 32))


def test_the_linkers_prior_takes_the_folder(examples: Examples, luke: Path, tmp_path: Path) -> None:
    """A graph of entities of which two have a vector."""
    prior = pytest.importorskip("blink.kglm.prior_table")
    (tmp_path / "map.tsv").write_text("Java\tQ3757\nSun\tQ525\n")
    examples("export-entities", "--model-file", luke, "--out", tmp_path / "out", "--id-map", tmp_path / "map.tsv")
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "train.txt").write_text("Q525\tP1\tQ2\nQ3757\tP1\tQ2\n")
    table = prior.make_table(prior.read_train_graph([str(tmp_path / "graph")]), str(tmp_path / "out"))
    vectors = dict(zip(table.ids, table.vectors, strict=True))
    written = dict(zip(("Q3757", "Q525"), exported(tmp_path / "out")["entity_vectors"], strict=True))
    assert set(vectors) == {"Q2", "Q525", "Q3757"}
    assert not vectors["Q2"].any()
    assert all(np.array_equal(vectors[name], written[name]) for name in written)


def test_titles_become_ids_and_the_rest_is_listed(examples: Examples, luke: Path, tmp_path: Path) -> None:
    (tmp_path / "map.tsv").write_text('Java\tQ3757\nSun\tQ525\nThe "Sun"\tQ525\nBern\tQ70\nOther\tQ1\n')
    (tmp_path / "redirects.tsv").write_text("Bern_(city)\tBern\n")
    done = examples(
        "export-entities", "--model-file", luke, "--out", tmp_path / "out", "--id-map", tmp_path / "map.tsv",
        "--redirects-file", tmp_path / "redirects.tsv",
    )  # fmt: skip
    assert (done[0], "2 titles are left out" in done[2]) == (0, True)
    assert (tmp_path / "out" / "entity_ids.txt").read_text().split() == ["Q3757", "Q525", "Q70"]
    assert (tmp_path / "out" / "unmatched.tsv").read_text().splitlines()[1:] == [
        '"The ""Sun"""\tQ525 is Sun',
        "Paris, Texas\tno id",
    ]
    all_rows = exported(tmp_path / "out")
    assert {len(values) for values in all_rows.values()} == {3}
    pretrained = load_pretrained(str(luke), None, print)
    bern = pretrained.model.luke.entity_embeddings.entity_embeddings.weight[pretrained.entities["Bern (city)"]]
    np.testing.assert_array_equal(all_rows["entity_raw_vectors"][2], bern.detach().numpy())
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["ids"] == "wikidata"


def test_an_archive_is_exported_too_with_its_counts(
    examples: Examples, luke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pretrained = load_pretrained(str(luke), None, print)
    write_archive(
        to_archive(pretrained.model, pretrained.tokenizer, str(luke), {"Java": 7, "Sun": 5}), tmp_path / "luke.tar.gz"
    )
    done = examples("export-entities", "--model-file", tmp_path / "luke.tar.gz", "--out", tmp_path / "a")
    assert done[0] == 0, done
    examples("export-entities", "--model-file", luke, "--out", tmp_path / "b")
    one, other = exported(tmp_path / "a"), exported(tmp_path / "b")
    assert one["entity_counts"].tolist() == [7, 5, 0, 0, 0]
    for name in ("entity_vectors", "entity_raw_vectors", "entity_biases"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-6)


@given(
    st.dictionaries(st.text("ab", min_size=1), st.sampled_from(["Q1", "Q2", "Q3"])),
    st.permutations([f"{a}{b}" for a in "ab" for b in "ab"]),
)
def test_ids_are_unique_and_nothing_is_lost(ids: dict[str, str], titles: list[str]) -> None:
    entities = {title: row for row, title in enumerate([*SPECIAL_ENTITIES, *titles])}
    if not set(titles) & set(ids):
        with pytest.raises(DataError, match="in the map"):
            select_rows(entities, ids, {})
        return
    selection = select_rows(entities, ids, {})
    assert len(set(selection.ids)) == len(selection.ids)
    assert sorted([*selection.titles, *(t for t, _ in selection.unmatched)]) == sorted(titles)
    assert list(selection.rows) == sorted(selection.rows)
    assert all(
        entities[t] == row and ids[t] == name
        for t, row, name in zip(selection.titles, selection.rows, selection.ids, strict=True)
    )


def test_models_without_titles_are_refused() -> None:
    with pytest.raises(DataError, match="lite"):
        select_rows({title: row for row, title in enumerate(SPECIAL_ENTITIES)}, None, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("Java Q1\n", "line 1: found 'Java Q1'"),
        ("Java\tQ1\nJava\tQ2\n", "line 2: 'Java' is Q1 and Q2"),
        ("a\tb\tc\n", "line 1"),
    ],
)
def test_malformed_maps(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "map.tsv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_id_map(str(tmp_path / "map.tsv"))
    with pytest.raises(MissingFileError):
        read_id_map(str(tmp_path / "none.tsv"))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--out", "out"], 1, "no model was named"),
        (["--model-file", "./none", "--out", "out"], 1, "./none does not exist"),
        (["--model-file", "x"], 2, "--out"),
    ],
)
def test_mistakes_end_in_one_line(arguments: list[str], status: int, message: str, examples: Examples) -> None:
    got, _, err = examples("export-entities", *arguments)
    assert (got, err.count("\n"), message in err) == (status, 1, True), err


def test_a_fine_tuned_model_is_refused(examples: Examples, luke: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, LukeForEntityClassification

    LukeForEntityClassification.from_pretrained(luke).save_pretrained(tmp_path / "tuned")
    AutoTokenizer.from_pretrained(luke).save_pretrained(tmp_path / "tuned")
    status, _, err = examples("export-entities", "--model-file", tmp_path / "tuned", "--out", tmp_path / "out")
    assert (status, "lacks entity_predictions" in err) == (1, True), err
    assert not (tmp_path / "out").exists()
