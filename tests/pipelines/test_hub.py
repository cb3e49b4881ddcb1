"""The hub: what is published and downloaded again links the same; nothing is asked for unless a name says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toys
from fake_hub import TOKEN, Hub, serving
from prior_toys import table, weights
from shell_toys import weighing

import blink
from blink.data.prior_file import Prior, write_prior
from blink.errors import BlinkError, DataError, MissingFileError, SettingsError
from blink.hub.names import local_folder
from blink.linking.graph_prior import scorer_fingerprint
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig

constants = pytest.importorskip("huggingface_hub.constants")
from huggingface_hub import ModelCard  # noqa: E402

TEXTS = ["Who governed Georgia 0 before Atlanta 2 burned?", "the ohio river 3 and Oslo 7", "nothing here"]
FIGURE = {"name": "weak F1", "value": 0.9471, "data": "WebQSP dev", "precision": "fp32", "hardware": "AMD EPYC"}
OPTIONS: dict[str, Any] = {"precision": "fp32", "device": "cpu"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty hub, and an empty cache of it."""
    with serving() as (hub, address):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a reranker, its knowledge base, edited since, and a prior."""
    folder = tmp_path_factory.mktemp("home")
    model = toys.model(6)
    model.reranker = weighing(-3.0, alias=3.0, dice=4.0, logit=0.02)
    model.save_pretrained(folder / "model")
    (folder / "model" / "trace.jsonl").write_text("{}\n")  # of a training
    kb = toys.knowledge_base(folder / "kb", model, toys.rows(20))
    kb.encode = model.encode_entities
    kb.add({"title": "Oslo 77", "text": "a later one", "kb_idx": "X1"})
    ids = [entity.kb_id for entity in kb.catalogue if entity.kb_id]
    scorer = scorer_fingerprint(model, model.reranker)
    write_prior(folder / "prior", Prior(table(ids), (weights(scorer, text=toys.HIDDEN, vector=1.0, coherence=1.0),)))
    return folder


@pytest.fixture(scope="module")
def linker(home: Path) -> Linker:
    own = {"threshold": 0.011, "entities": 5, "where": "id!=Q101|Q102", "prior": home / "prior"}
    return Linker.from_pretrained(home / "model", home / "kb", **OPTIONS, **own)


def test_a_linker_comes_back_whole(hub: Hub, linker: Linker, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = linker(TEXTS)
    assert sum(len(linked.links) for linked in expected) > 2
    url = linker.push_to_hub("me/toys", private=True, license="mit", language="en", tags=["toys"], figures=[FIGURE])
    assert "/me/toys/commit/" in url
    assert hub.private == {"me/toys"}
    files = hub.files("me/toys") or {}
    assert {"linker.json", "prior.safetensors", "model/config.json", "kb/manifest.json", "kb/edits.jsonl"} < set(files)
    assert [name for name in files if "trace" in name or name.endswith((".offsets", ".bin"))] == []
    assert json.loads(files["linker.json"])["options"] == {
        "threshold": 0.011,
        "entities": 5,
        "where": [{"id!": ["Q101", "Q102"]}],
    }

    again = blink.load("hf://me/toys", **OPTIONS)
    assert again(TEXTS) == expected
    assert again.kb.digest() == linker.kb.digest()
    assert again.kb.manifest == linker.kb.manifest
    assert blink.load("hf://me/toys", threshold=0.99, **OPTIONS)(TEXTS) != expected  # given options come first
    asked = len(hub.requests)
    offline(monkeypatch)
    assert blink.load("hf://me/toys", **OPTIONS)(TEXTS) == expected
    assert len(hub.requests) == asked


def test_model_and_knowledge_base_apart(hub: Hub, home: Path, linker: Linker, tmp_path: Path) -> None:
    model = BiEncoder.from_pretrained(home / "model", candidate=True)
    model.push_to_hub("hf://me/model")
    linker.kb.push_to_hub("me/kb", license="cc0-1.0")
    again = BiEncoder.from_pretrained("hf://me/model", candidate=True)
    assert again.candidate_fingerprint() == model.candidate_fingerprint()
    assert again.heads_digest() == model.heads_digest()
    own = {"threshold": 0.01, "entities": 5}
    expected = Linker.from_pretrained(home / "model", home / "kb", **OPTIONS, **own)(TEXTS)
    assert blink.load("hf://me/model", "hf://me/kb", **OPTIONS, **own)(TEXTS) == expected

    kb = blink.KnowledgeBase.from_pretrained("hf://me/kb")
    assert (kb.digest(), kb.manifest) == (linker.kb.digest(), linker.kb.manifest)
    kb.encode = model.encode_entities
    with pytest.raises(SettingsError, match="in the cache of the hub and cannot be edited; copy it first"):
        kb.add({"title": "Zorblax"})
    own_copy = blink.KnowledgeBase.from_pretrained("hf://me/kb", out=tmp_path / "own")
    own_copy.encode = model.encode_entities
    own_copy.add({"title": "Zorblax"})
    assert (len(own_copy.catalogue), len(blink.KnowledgeBase.from_pretrained("hf://me/kb").catalogue)) == (22, 21)


def test_revisions(hub: Hub, home: Path, linker: Linker) -> None:
    first = linker.kb.push_to_hub("me/kb").rpartition("/")[2]
    other = toys.knowledge_base(home / "other", toys.model(6), toys.rows(3))
    other.push_to_hub("me/kb", revision="small")
    assert len(blink.KnowledgeBase.open("hf://me/kb@small").catalogue) == 3
    for name in ("hf://me/kb", f"hf://me/kb@{first}"):
        assert len(blink.KnowledgeBase.open(name).catalogue) == 21


def test_cards_have_metadata_and_keep_what_there_is(hub: Hub, home: Path, linker: Linker) -> None:
    linker.push_to_hub("me/toys", license="mit", language="en", tags=["toys"], figures=[FIGURE])
    card = ModelCard((hub.files("me/toys") or {})["README.md"].decode())
    values = card.data.to_dict()
    assert (values["library_name"], values["license"], values["language"]) == ("blink", "mit", ["en"])
    assert {"entity-linking", "linker", "toys"} <= set(values["tags"])
    result = card.data.eval_results[0]
    assert (result.dataset_name, result.metric_value) == ("WebQSP dev", 0.9471)
    assert result.metric_name == "weak F1 (fp32, AMD EPYC)"
    assert 'blink.load("hf://me/toys")' in card.text
    assert "| weak F1 | 0.947 | WebQSP dev | fp32 | AMD EPYC |" in card.text

    (home / "kb" / "README.md").write_text("---\nlicense: cc0-1.0\ntags: [own]\n---\n\n# My entities\n\nFrom my table.\n")
    try:
        linker.kb.push_to_hub("me/kb", license="mit")
    finally:
        (home / "kb" / "README.md").unlink()
    card = ModelCard((hub.files("me/kb") or {})["README.md"].decode())
    assert (card.data.license, card.data.tags, card.data.library_name) == ("cc0-1.0", ["own"], "blink")
    assert card.text.strip() == "# My entities\n\nFrom my table."


def test_saved_to_a_folder_it_is_the_same_and_can_be_edited(linker: Linker, tmp_path: Path) -> None:
    linker.save_pretrained(tmp_path / "saved")
    again = blink.load(tmp_path / "saved", **OPTIONS)
    assert again(TEXTS) == linker(TEXTS)
    assert blink.load(tmp_path / "saved", prior="none", **OPTIONS)(TEXTS) != linker(TEXTS)
    assert blink.load(tmp_path / "saved", linker.kb, prior=linker.options.prior, **OPTIONS)(TEXTS) == linker(TEXTS)
    again.kb.add({"title": "Zorblax"})
    again.save_pretrained(tmp_path / "twice")  # from a saved one
    assert blink.load(tmp_path / "twice", **OPTIONS).kb.digest() == again.kb.digest() != linker.kb.digest()
    with pytest.raises(SettingsError, match="is not empty; name a new folder"):
        linker.save_pretrained(tmp_path / "saved")


def test_an_encoder_in_a_folder_goes_along(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = toys.base_folder(tmp_path / "base")
    config = ModelConfig(cosine=True, adapter_rank=2, candidate_pooling="mean", max_candidate_length=24, max_mention_length=4)
    model = BiEncoder.from_encoder(str(base), config)
    model.save_pretrained(tmp_path / "model")
    kb = toys.knowledge_base(tmp_path / "kb", model, toys.rows(12))
    own = {"threshold": -1000.0, **OPTIONS}
    linker = Linker.from_pretrained(tmp_path / "model", tmp_path / "kb", **own)
    expected = linker(TEXTS)
    assert expected[0].links
    linker.push_to_hub("me/whole")
    base.rename(tmp_path / "elsewhere")
    again = blink.load("hf://me/whole", **own)
    assert [[link.to_json() | {"score": 0, "candidates": 0} for link in linked.links] for linked in again(TEXTS)] == [
        [link.to_json() | {"score": 0, "candidates": 0} for link in linked.links] for linked in expected
    ]
    scores = [[link.score for linked in of for link in linked.links] for of in (again(TEXTS), expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert again.kb.manifest == kb.manifest


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("hf://me/none", MissingFileError, "is not on the hub, or you may not read it"),
        ("hf://me/kb@none", MissingFileError, "no such revision on the hub"),
        ("hf://toys", SettingsError, "is no name of the hub; give hf://OWNER/NAME"),
        ("hf://me/../kb", SettingsError, "is no name of the hub"),
        ("hf://me/-x-", SettingsError, "is no name of the hub"),
    ],
)
def test_names_that_lead_nowhere(hub: Hub, linker: Linker, name: str, error: type[BlinkError], words: str) -> None:
    linker.kb.push_to_hub("me/kb")
    with pytest.raises(error, match=words) as raised:
        local_folder(name)
    assert "\n" not in str(raised.value)


def test_mistakes(hub: Hub, home: Path, linker: Linker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'toys' is no name of a repository; give OWNER/NAME"):
        linker.push_to_hub("toys")
    with pytest.raises(SettingsError, match="a figure of a card needs name, value, data, precision, hardware"):
        linker.push_to_hub("me/toys", figures=[{key: value for key, value in FIGURE.items() if key != "hardware"}])
    with pytest.raises(SettingsError, match="the stage 'reranker' was replaced"):
        Linker.from_pretrained(home / "model", home / "kb", stages={"reranker": None}, **OPTIONS).push_to_hub("me/toys")
    with pytest.raises(DataError, match="status 401"):
        linker.kb.push_to_hub("me/kb", token="hf_wrong")
    assert hub.branches == {}
    offline(monkeypatch)
    for call in (lambda: linker.kb.push_to_hub("me/kb"), lambda: blink.load("hf://me/toys")):
        with pytest.raises(MissingFileError, match="the hub cannot be reached") as raised:
            call()
        assert "\n" not in str(raised.value)
    (tmp_path / "linker.json").write_text('{"format": 1, "options": {"device": "cuda"}}')
    with pytest.raises(DataError, match=r"linker\.json is no linker of this version"):
        blink.load(tmp_path)


def test_other_names_are_never_asked_for(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("me/toys", "sentence-transformers/all-MiniLM-L6-v2", "bert-base-uncased"):
        for call in (
            lambda n=name: blink.load(n, "me/kb"),
            lambda n=name: BiEncoder.from_pretrained(n),
            lambda n=name: blink.KnowledgeBase.open(n),
        ):
            with pytest.raises(BlinkError):
                call()
    toys.model(0).save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"base": "me/encoder", "adapter_rank": 2}))
    with pytest.raises(BlinkError):
        BiEncoder.from_pretrained(tmp_path / "model")
    assert hub.requests == []


def test_the_command_line_takes_names(hub: Hub, linker: Linker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, whose library of the hub reads the environment."""
    linker.push_to_hub("me/toys")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    command = [
        sys.executable,
        "-m",
        "blink.apps.cli",
        "link",
        TEXTS[0],
        "--json",
        "--model",
        "hf://me/toys",
        "--backend",
        "onnx",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    titles = [link["title"] for link in json.loads(done.stdout)["links"]]
    assert titles == [link.title for link in linker(TEXTS[0]).links]
