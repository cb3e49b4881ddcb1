"""``blink.main_dense`` as programs call it, against a plain computation over files in the original's formats."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blink import main_dense
from blink.compat.blink_main_dense.calls import main
from blink.errors import BlinkError, CheckpointError, DataError, MismatchError, MissingFileError, SettingsError
from tests.compat.blink_originals import BlinkOriginal

TOLERANCE = 1e-4
TEXTS = (
    ("", "Oslo", " is where chess is played"),
    ("she met ", "Ada Lovelace", " on Mount Etna"),
    ("peru " * 60 + "and ", "the Blue Danube", " chess" * 60),
    ("where is ", "garda " * 40, "?"),
    ("a short left, ", "Mercury", ", and a right side of many words that goes on and on until no word fits any more " * 3),
    ("a left side of many words that goes on and on until no word fits any more, " * 3, "Peru", "!"),
    ("chess", "", "oslo"),
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> BlinkOriginal:
    return BlinkOriginal(tmp_path_factory.mktemp("blink")).write()


def mentions(**more: Any) -> list[dict[str, Any]]:
    """Mentions as callers build them."""
    keys = ("context_left", "mention", "context_right")
    unknown = {"label": "unknown", "label_id": -1}
    return [{"id": i, **unknown, **dict(zip(keys, map(str.lower, t), strict=True)), **more} for i, t in enumerate(TEXTS)]


def named() -> list[dict[str, Any]]:
    """Those whose mention is not empty, which the plain computation reads."""
    return [sample for sample in mentions() if sample["mention"]]


def arguments(folder: Path, **changes: Any) -> argparse.Namespace:
    """What callers set, after the original's README; None leaves an attribute out."""
    config: dict[str, Any] = {
        "interactive": False,
        "top_k": 5,
        "biencoder_model": f"{folder}/biencoder_wiki_large.bin",
        "biencoder_config": f"{folder}/biencoder_wiki_large.json",
        "entity_catalogue": f"{folder}/entity.jsonl",
        "entity_encoding": f"{folder}/all_entities_large.t7",
        "crossencoder_model": f"{folder}/cross/crossencoder_wiki_large.bin",
        "crossencoder_config": f"{folder}/cross/crossencoder_wiki_large.json",
        "fast": True,
        "output_path": "logs/",
    }
    config = {name: value for name, value in (config | changes).items() if value is not None}
    return argparse.Namespace(**{"test_entities": None, "test_mentions": None} | config)


# -- a caller -----------------------------------------------------------------------------------------------------------


@dataclass
class Document:
    text: str
    mentions: list[tuple[int, int]]


class BlinkLinker:
    """Links the mentions of documents, as a pipeline of zero-shot components does; Wikipedia addresses come from the tables."""

    def __init__(self, folder: Path, index: str | None) -> None:
        path = None if index is None else f"{folder}/faiss_{index}_index.pkl"
        self.config = arguments(folder, faiss_index=index, index_path=path, top_k=1)
        self.models: Any = None

    def load_models(self) -> None:
        if self.models is None:
            self.models = main_dense.load_models(self.config, logger=None)

    @property
    def entities_list(self) -> list[str]:
        return list(self.models[5].keys())

    def url_of(self, title: str) -> str:
        pages = {row: page for page, row in self.models[8].items()}
        return f"https://en.wikipedia.org/wiki?curid={pages[self.models[5][title]]}"

    def predict(self, documents: Sequence[Document]) -> list[list[tuple[int, int, str, float, str]]]:
        self.load_models()
        data = [
            {
                "id": number, "label": "unknown", "label_id": -1, "context_left": document.text[:start].lower(),
                "mention": document.text[start:end].lower(), "context_right": document.text[end:].lower(), "span": (start, end),
            }
            for number, document in enumerate(documents)
            for start, end in document.mentions
        ]  # fmt: skip
        _, _, _, _, _, predictions, scores = main_dense.run(self.config, None, *self.models, test_data=data)
        spans: list[list[tuple[int, int, str, float, str]]] = [[] for _ in documents]
        for row, titles, of_titles in zip(data, predictions, scores, strict=True):
            spans[row["id"]].append((*row["span"], titles[0], of_titles[0].item(), self.url_of(titles[0])))
        return spans


@pytest.mark.parametrize("index", [None, "flat", "hnsw"])
def test_a_pipeline_gets_titles_scores_and_addresses(original: BlinkOriginal, index: str | None) -> None:
    linker = BlinkLinker(original.folder, index)
    documents = [Document("Oslo lies far from Mount Etna.", [(0, 4), (19, 29)]), Document("Peru", [(0, 4)])]
    predicted = linker.predict(documents)
    assert linker.entities_list == [e["title"] for e in original.entities]
    assert [len(spans) for spans in predicted] == [2, 1]
    for document, spans in zip(documents, predicted, strict=True):
        for start, end, title, score, url in spans:
            text = document.text.lower()
            sample = {"context_left": text[:start], "mention": text[start:end], "context_right": text[end:]}
            products = original.products(sample)
            row = int(products.argmax())
            assert (title, url) == (original.entities[row]["title"], original.entities[row]["idx"])
            query, vectors = original.query(sample), original.lengthened()
            distance = float(((np.append(query, 0) - vectors[row]) ** 2).sum())
            assert score == pytest.approx(distance if index == "hnsw" else products[row], abs=TOLERANCE)


# -- candidates and scores ----------------------------------------------------------------------------------------------


def test_candidates_of_the_biencoder(original: BlinkOriginal) -> None:
    args = arguments(original.folder)
    samples = named()
    *shares, count, predictions, scores = main_dense.run(args, None, *main_dense.load_models(args), test_data=samples)
    assert (shares, count) == ([-1, -1, -1, -1], len(samples))
    for sample, titles, of_titles in zip(samples, predictions, scores, strict=True):
        products = original.products(sample)
        best = np.argsort(-products)[:5]
        assert titles == [original.entities[row]["title"] for row in best]
        assert of_titles.dtype == np.float32
        np.testing.assert_allclose(of_titles, products[best], atol=TOLERANCE, rtol=0)


def test_candidates_of_the_crossencoder(original: BlinkOriginal) -> None:
    args = arguments(original.folder, fast=False)
    models = main_dense.load_models(args)
    assert models[2] is not None
    assert models[3] is not None
    samples = named()
    *_, predictions, scores = main_dense.run(args, None, *models, test_data=samples)
    moved = 0
    for sample, titles, of_titles in zip(samples, predictions, scores, strict=True):
        retrieved = np.argsort(-original.products(sample))[:5]
        by_row = {int(row): original.pair_score(sample, int(row)) for row in retrieved}
        best = sorted(by_row, key=lambda row: -by_row[row])
        assert titles == [original.entities[row]["title"] for row in best]
        np.testing.assert_allclose(of_titles, [by_row[row] for row in best], atol=TOLERANCE, rtol=0)
        moved += best[0] != retrieved[0]
    assert moved
    fast = argparse.Namespace(**{**vars(args), "fast": True})
    assert main_dense.run(fast, None, *models, test_data=samples)[5] != predictions


def test_results_do_not_depend_on_the_batch(original: BlinkOriginal) -> None:
    args = arguments(original.folder, fast=False)
    models = main_dense.load_models(args)
    *_, titles, scores = main_dense.run(args, None, *models, test_data=mentions())
    models[1]["eval_batch_size"] = models[3]["eval_batch_size"] = 1  # type: ignore[index]
    for sample, of_all, in_all in zip(mentions(), titles, scores, strict=True):
        *_, alone, score = main_dense.run(args, None, *models, test_data=[sample])
        assert alone == [of_all]
        np.testing.assert_allclose(score[0], in_all, atol=TOLERANCE)


def test_more_candidates_than_entities(original: BlinkOriginal) -> None:
    for fast in (True, False):
        args = arguments(original.folder, top_k=100, fast=fast)
        *_, predictions, scores = main_dense.run(args, None, *main_dense.load_models(args), test_data=named())
        assert {len(titles) for titles in predictions} == {len(s) for s in scores} == {len(original.entities)}
        assert np.isfinite([s[-1] for s in scores]).all()


# -- labels -------------------------------------------------------------------------------------------------------------


def gold(original: BlinkOriginal) -> list[int]:
    """Rows that are the first, the third, none and the last of the retrieved, and so on."""
    order = [np.argsort(-original.products(sample)) for sample in named()]
    return [int(rows[(0, 2, 9, 4)[i % 4]]) for i, rows in enumerate(order)]


@pytest.mark.parametrize("fast", [True, False])
def test_shares_of_labelled_mentions(original: BlinkOriginal, fast: bool, capsys: pytest.CaptureFixture[str]) -> None:
    args = arguments(original.folder, fast=fast)
    labels = gold(original)
    samples = [{**sample, "label": "x", "label_id": row} for sample, row in zip(named(), labels, strict=True)]
    accuracy, recall, normalized, overall, count, predictions, _ = main_dense.run(
        args, None, *main_dense.load_models(args), test_data=samples
    )
    retrieved = [np.argsort(-original.products(sample))[:5].tolist() for sample in samples]
    weight = 1 / len(samples)
    assert accuracy == pytest.approx(weight * sum(row == rows[0] for row, rows in zip(labels, retrieved, strict=True)))
    assert recall == pytest.approx(weight * sum(row in rows[:4] for row, rows in zip(labels, retrieved, strict=True)))
    assert count == len(samples) == len(predictions)
    assert f"biencoder accuracy: {accuracy:.4f}" in capsys.readouterr().out
    if fast:
        assert (normalized, overall) == (-1, -1)
        return
    first = [max(rows, key=lambda row: original.pair_score(s, row)) for s, rows in zip(samples, retrieved, strict=True)]
    right = sum(row == best for row, best in zip(labels, first, strict=True))
    assert overall == pytest.approx(weight * right)
    assert normalized == pytest.approx(right / sum(row in rows for row, rows in zip(labels, retrieved, strict=True)))


def write_mentions(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_files_of_mentions(original: BlinkOriginal, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = gold(original)
    upper = [{**sample, "mention": sample["mention"].upper()} for sample in named()]
    by_page = [{**sample, "label_id": 1000 + row} for sample, row in zip(upper, labels, strict=True)]
    pages = write_mentions(tmp_path / "pages.jsonl", [*by_page, {**upper[0], "label_id": 7}])
    by_entity = [{**sample, "label_id": f"E{row}"} for sample, row in zip(upper, labels, strict=True)]
    ids = write_mentions(tmp_path / "ids.jsonl", [*by_entity, {**upper[0], "label_id": "E99"}])
    entities_known = [{"entity_id": f"E{row}", "title": e["title"]} for row, e in enumerate(original.entities)]
    entities = write_mentions(tmp_path / "entities.jsonl", [*entities_known, {"entity_id": "E99", "title": "nobody"}])
    samples = [{**sample, "label": "x", "label_id": row} for sample, row in zip(named(), labels, strict=True)]
    args = arguments(original.folder)
    models = main_dense.load_models(args, logging.getLogger("caller"))
    expected = main_dense.run(args, None, *models, test_data=samples)
    logger = logging.getLogger("caller")
    with caplog.at_level(logging.INFO, logger="caller"):
        for changes in ({"test_mentions": pages}, {"test_mentions": ids, "test_entities": entities}):
            answer = main_dense.run(argparse.Namespace(**{**vars(args), **changes}), logger, *models)
            assert answer[:6] == expected[:6]
    assert caplog.messages == [f"linking {len(samples)} mentions"] * 2


# -- mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"biencoder_model": None}, SettingsError, "args.biencoder_model is not set"),
        ({"entity_catalogue": None}, SettingsError, "args.entity_catalogue is not set"),
        ({"entity_encoding": None}, SettingsError, "args.entity_encoding is not set"),
        ({"faiss_index": "hnsw"}, SettingsError, "args.index_path is not set"),
        ({"faiss_index": "ivfflat", "index_path": "x"}, SettingsError, "'ivfflat'; allowed are flat, hnsw, none"),
        ({"faiss_index": "flat", "indexer_path": "nowhere.pkl"}, MissingFileError, "nowhere.pkl"),
        ({"biencoder_model": "nowhere.bin"}, MissingFileError, "nowhere.bin does not exist"),
        ({"fast": False, "crossencoder_model": "x/cross.bin"}, MissingFileError, "x/cross.bin does not exist"),
        ({"fast": False, "crossencoder_model": None}, MissingFileError, "set args.fast to True"),
        ({"top_k": 0}, SettingsError, "args.top_k is 0"),
        ({"interactive": True}, SettingsError, "blink shell"),
    ],
)
def test_wrong_arguments_end_in_one_line(
    original: BlinkOriginal, changes: dict[str, Any], error: type[BlinkError], words: str
) -> None:
    args = arguments(original.folder, **changes)
    with pytest.raises(error) as failure:
        main_dense.run(args, None, *main_dense.load_models(args), test_data=mentions())
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "there is nothing to link"),
        ([{"mention": "x", "context_left": ""}], "entry 0: 'context_right' must be a text, found no such key"),
        ([*named(), {"mention": 7, "context_left": "", "context_right": ""}], "'mention' must be a text, found int"),
    ],
)
def test_wrong_mentions_end_in_one_line(original: BlinkOriginal, data: Any, words: str) -> None:
    args = arguments(original.folder)
    models = main_dense.load_models(args)
    with pytest.raises((SettingsError, DataError), match=words):
        main_dense.run(args, None, *models, test_data=data)


def test_what_does_not_belong_together(original: BlinkOriginal, parity: Path, tmp_path: Path) -> None:
    args = arguments(original.folder)
    models = main_dense.load_models(args)
    with pytest.raises(SettingsError, match="without a cross-encoder"):
        main_dense.run(arguments(original.folder, fast=False), None, *models, test_data=mentions())
    short = write_mentions(tmp_path / "entity.jsonl", original.entities[:-1])
    with pytest.raises(MismatchError, match="23 entities"):
        main_dense.load_models(arguments(original.folder, entity_catalogue=short))
    with pytest.raises(CheckpointError, match="holds no cross-encoder"):
        main_dense.load_models(arguments(original.folder, fast=False, crossencoder_model=args.biencoder_model))
    shutil.copyfile(parity / "entity.jsonl", tmp_path / "entity.jsonl")
    elq = {
        "biencoder_model": str(parity / "pytorch_model.bin"), "biencoder_config": str(parity / "training_params.txt"),
        "entity_catalogue": str(tmp_path / "entity.jsonl"), "entity_encoding": str(parity / "all_entities.t7"),
    }  # fmt: skip
    with pytest.raises(SettingsError, match="call elq"):
        main_dense.load_models(arguments(original.folder, **elq))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"mention": "x"}, "line 1: a line needs context_left"),
        ({"mention": "x", "context_left": "", "context_right": "", "label_id": 1}, "names no entity of the catalogue"),
    ],
)
def test_wrong_files_of_mentions(original: BlinkOriginal, tmp_path: Path, row: dict[str, Any], words: str) -> None:
    args = arguments(original.folder, test_mentions=write_mentions(tmp_path / "m.jsonl", [row]))
    models = main_dense.load_models(args)
    with pytest.raises(DataError, match=words):
        main_dense.run(args, None, *models)


# -- the script ---------------------------------------------------------------------------------------------------------


def script(root: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "blink" / "main_dense.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": "", "OMP_NUM_THREADS": "1"}, check=False)


def test_the_script_measures_a_file(original: BlinkOriginal, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**sample, "label_id": 1000 + row} for sample, row in zip(named(), gold(original), strict=True)]
    file = write_mentions(tmp_path / "mentions.jsonl", rows)
    names = ("biencoder_model", "biencoder_config", "entity_catalogue", "entity_encoding", "crossencoder_model")
    options = vars(arguments(original.folder))
    flags = [word for name in (*names, "crossencoder_config") for word in (f"--{name}", options[name])]
    assert main(["--test_mentions", str(file), "--top_k", "5", *map(str, flags)]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "biencoder accuracy", "biencoder recall@5", "crossencoder normalized accuracy", "overall unnormalized accuracy",
    ]  # fmt: skip


@pytest.mark.parametrize(("flags", "words"), [(["-i"], "blink shell"), ([], "nothing to link"), (["--nonsense"], "--help")])
def test_the_script_refuses_in_one_line(root: Path, flags: list[str], words: str) -> None:
    done = script(root, *flags)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr


def test_importing_waits_for_nothing() -> None:
    code = "import sys, blink.main_dense; print([m for m in ('torch', 'transformers', 'faiss') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
