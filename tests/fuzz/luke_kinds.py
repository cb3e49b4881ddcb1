"""Kinds of `python -m examples.cli`: the data of LUKE's tasks, its models and archives."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.fuzz.kinds import COMMANDS, Kind, Use, shared

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODEL = "luke"


def _tiny_model(folder: Path) -> None:
    if COMMANDS["examples"](["make-tiny-model", str(folder), "--size", "16", "--layers", "1"]):
        raise RuntimeError("make-tiny-model")


def _data(task: str) -> Use:
    def make(folder: Path) -> None:
        shared(MODEL, _tiny_model)
        shutil.copytree(EXAMPLES / task / "tiny", folder / "data")

    return make  # type: ignore[return-value]


SHORT = "--num-train-epochs=1 --train-batch-size=40 --eval-batch-size=40 --learning-rate=1e-3"
RUN = "examples --model-file={shared}/luke --output-dir={}/out --num-gpus=0 %s run --data-dir={}/data " + SHORT
SQUAD = " --no-negative --wiki-link-db-file={}/data/links.jsonl --link-redirects-file={}/data/link_redirects.json"


def _model(folder: Path) -> None:
    _tiny_model(folder / "model")
    shutil.copytree(EXAMPLES / "entity_typing" / "tiny", folder / "data")


def _archive(folder: Path) -> None:
    shared(MODEL, _tiny_model)
    _tiny_model(folder / "model")
    if COMMANDS["examples"](["create-model-archive", str(folder / "model"), str(folder / "luke.tar.gz")]):
        raise RuntimeError("create-model-archive")


def _dump(folder: Path) -> None:
    shutil.copytree(EXAMPLES / "pretraining" / "tiny", folder / "data")


KINDS = (
    Kind("luke-typing", _data("entity_typing"), (RUN % "entity-typing",), ("data/*",), needs="luke"),
    Kind("luke-relations", _data("relation_classification"), (RUN % "relation-classification",), ("data/*",), needs="luke"),
    Kind("luke-ner", _data("ner"), (RUN % "ner",), ("data/*",), needs="luke"),
    Kind("luke-record", _data("entity_span_qa"), (RUN % "entity-span-qa",), ("data/*",), needs="luke"),
    Kind(
        "luke-squad",
        _data("reading_comprehension"),
        ((RUN + SQUAD + " --model-redirects-file={}/data/model_redirects.json") % "reading-comprehension",),
        ("data/*",),
        needs="luke",
        weight=1.5,
    ),
    Kind("luke-disambiguation", _data("entity_disambiguation"), (RUN % "entity-disambiguation",), ("data/*",), needs="luke"),
    Kind(
        "luke-dump",
        _dump,
        ("examples pretraining build-dump-db {}/data/dump.xml {}/db",),
        ("data/*",),
        needs="luke",
        weight=0.5,
    ),
    Kind(
        "luke-model",
        _model,
        ("examples --model-file={}/model --output-dir={}/out --num-gpus=0 entity-typing run --data-dir={}/data " + SHORT,),
        ("model/*",),
        needs="luke",
        weight=1.5,
    ),
)
