"""``main_dense_all_ents.py``: every flag of every release, and one clear line for everything that can go wrong."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blink.compat.elq.flags import FLAGS, GOLD, JOINT, SCRIPT, SINGLE
from blink.compat.elq.plan import Plan, resolve
from blink.compat.elq.run import main
from blink.model.original import OriginalFiles, read_original
from tests.compat.originals import Reference, Shape

CHECKPOINT = "experiments/wiki_all_ents/all_mention_biencoder_all_avg_true_128_true_true_bert_large_qa_linear"
README_LINE = (
    "-i --test_entities models/entity.jsonl --entity_catalogue models/entity.jsonl "
    "--entity_encoding models/all_entities_large.t7 "
    f"--biencoder_model {CHECKPOINT}/epoch_22/pytorch_model.bin --biencoder_config {CHECKPOINT}/training_params.txt "
    "-n joint_all_ents --threshold -4.5 --top_k 50 --final_thresholding joint"
)
SLURM_LINE = (
    "--test_mentions in.jsonl --test_entities e --entity_catalogue models/entity.jsonl --entity_encoding models/v.t7 "
    "--biencoder_model m.bin --biencoder_config p.txt --save_preds_dir out -n joint_all_ents "
    "--mention_classifier_threshold 0.0 --top_k 50 --final_thresholding joint_0 --eval_batch_size 64 --get_predictions"
)
E_LINE = (
    "--test_mentions in.jsonl --biencoder_model models/elq_wiki_large.bin --threshold=-2.9 --threshold_type joint "
    "--num_cand_mentions 40 --num_cand_entities 5 --faiss_index hnsw --index_path models/faiss_hnsw_index.pkl --no_logger"
)


def plan(line: str) -> Plan:
    resolved = resolve(SCRIPT.parse(line.split()))
    assert resolved is not None
    return resolved


# --- flags ----------------------------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize("name", [name for flag in FLAGS for name in flag.names])
def test_every_flag_of_every_release_parses(name: str):
    flag = next(f for f in FLAGS if name in f.names)
    values = (
        [] if flag.kind is None else [*(flag.choices or ("0.5" if flag.kind.__name__ in ("number", "probability") else "7",))]
    )
    for value in values or [None]:
        options = vars(SCRIPT.parse([name] if value is None else [name, value]))
        assert options[flag.names[0].lstrip("-")] not in (None, False)


@pytest.mark.quick
@pytest.mark.parametrize(("spelling", "value"), [
    ("--threshold -4.5", -4.5), ("--threshold=-4.5", -4.5), ("--threshold=-inf", -math.inf), ("--threshold -inf", -math.inf),
    ("--threshold -Infinity", -math.inf), ("--threshold 0", 0.0), ("--threshold -1e-3", -0.001),
])  # fmt: skip
def test_thresholds_are_spelt_in_many_ways(spelling: str, value: float):
    assert SCRIPT.parse(["-i", *spelling.split()]).threshold == value


@pytest.mark.quick
def test_only_numbers_are_joined_to_flags():
    assert SCRIPT.join_numbers(["-i", "--test_mentions", "-n", "--top_k", "-3"]) == [
        "-i",
        "--test_mentions",
        "-n",
        "--top_k=-3",
    ]


@pytest.mark.quick
@pytest.mark.parametrize(("line", "fields"), [
    (README_LINE, {"interactive": True, "threshold": -4.5, "mentions": 50, "mode": "joint", "detector": JOINT}),
    (
        SLURM_LINE,
        {"threshold": -2.9, "min_mention_log_prob": -math.inf, "batch_size": 64, "mode": "joint", "save_to": Path("out")},
    ),
    (E_LINE, {"threshold": -2.9, "mentions": 40, "entities": 5, "interactive": False}),
    ("-i", {"files": None, "threshold": None}),
    ("-i --biencoder_model m", {"threshold": -4.5}),
    ("-i --biencoder_model m --final_thresholding joint_0", {"threshold": -4.5}),
    ("--test_mentions f --biencoder_model m", {"threshold": -4.5}),
    ("--test_mentions f --biencoder_model m --final_thresholding joint_0", {"threshold": -2.9}),
    ("--test_mentions f --biencoder_model m --mention_classifier_threshold 0.5 --threshold -1", {"threshold": -1.0}),
    ("--test_mentions f --mention_classifier_threshold 0.5", {"min_mention_log_prob": math.log(0.5)}),
    (
        "--test_mentions f --final_thresholding top_entity_by_mention",
        {"mode": "best_entity_by_mention", "min_mention_log_prob": -4.5},
    ),
    ("--test_mentions f --threshold_type top_entity_by_mention --mention_threshold -0.1", {"mode": "top_entity_by_mention"}),
    ("--test_mentions f --threshold_type joint_0 --final_thresholding joint", {"mode": "joint"}),
    ("--test_mentions f -n none", {"detector": GOLD}), ("--test_mentions f -n single", {"detector": SINGLE}),
    ("--test_mentions f", {"detector": JOINT, "device": "cpu", "precision": "auto"}),
    ("--test_mentions f -n joint_all_ents_pretokenized", {"detector": JOINT, "stored_tokens": True}),
    ("--test_mentions f --compat elq --precision bf16", {"elq": True, "precision": "fp32", "min_mention_log_prob": -4.5}),
    ("--test_mentions f --compat elq --threshold -1", {"min_mention_log_prob": -1.0}),
    ("--test_mentions f --compat elq --mention_classifier_threshold 0 --threshold -1", {"min_mention_log_prob": -math.inf}),
])  # fmt: skip
def test_flags_mean(line: str, fields: dict[str, Any]):
    resolved = plan(line)
    assert {key: getattr(resolved, key) for key in fields} == fields


@pytest.mark.quick
@pytest.mark.parametrize(("line", "index", "settings"), [
    ("--biencoder_model a/m.bin", None, "models/elq_large_params.txt"),
    ("--faiss_index hnsw", "models/faiss_hnsw_index.pkl", "models/elq_large_params.txt"),
    ("--faiss_index flat --index_path x.pkl --biencoder_config c.json", "x.pkl", "c.json"),
    ("--index_path x.pkl", "x.pkl", "models/elq_large_params.txt"),
    ("--faiss_index none --index_path x.pkl", None, "models/elq_large_params.txt"),
])  # fmt: skip
def test_files_that_stand_in_for_those_not_named(line: str, index: str | None, settings: str):
    files = plan(f"-i {line}").files
    assert files is not None
    assert files.index == (None if index is None else Path(index))
    assert (files.settings, files.catalogue) == (Path(settings), Path("models/entity.jsonl"))


@pytest.mark.quick
def test_settings_beside_the_checkpoint_are_found(tmp_path: Path):
    (tmp_path / "training_params.txt").write_text("{}")
    files = plan(f"-i --biencoder_model {tmp_path / 'm.bin'}").files
    assert files is not None
    assert files.settings == tmp_path / "training_params.txt"


@pytest.mark.quick
@pytest.mark.parametrize(("line", "words"), [
    ("", "nothing to do"),
    ("--threshold x -i", "--threshold invalid number value x"),
    ("--threshold nan -i", "--threshold invalid"),
    ("-i --thresh -3", "unrecognized --thresh"),
    ("-i --unknown", "unrecognized --unknown"),
    ("-i --top_k 0", "0 at least 1"),
    ("-i --num_cand_entities -3", "-3 at least 1"),
    ("-i --mention_classifier_threshold 1.5", "1.5 probability"),
    ("-i --faiss_index annoy", "annoy hnsw flat ivfflat none"),
    ("-i --final_thresholding max", "max joint_0"),
    ("-i --compat blink", "blink elq"),
    ("-i --precision fp8", "fp8 bf16"),
    ("-i -n spacy", "spacy joint_all_ents"),
    ("-i -n flair", "flair joint"),
    ("--test_mentions f -n qa_classifier", "qa_classifier joint"),
    ("--test_mentions f -n ngram", "ngram joint"),
    ("-i -n none", "none --test_mentions"),
    ("-i -n single", "single --test_mentions"),
    ("-i --compat elq", "--compat --test_mentions"),
    ("--test_mentions f --compat elq -n none", "--compat joint"),
    ("--test_mentions f --threshold_type top_entity_by_mention", "--mention_threshold"),
    ("--test_mentions f --threshold_type joint --final_thresholding top_entity_by_mention", "contradict"),
    ("-i --test_mentions", "--test_mentions expected one argument"),
])  # fmt: skip
def test_wrong_flags_are_one_clear_line(line: str, words: str, capsys):
    assert_fails(line.split(), words, capsys)


def assert_fails(arguments: list[str], words: str, capsys) -> str:
    assert main(arguments) in (1, 2)
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert last.startswith("main_dense_all_ents.py: ")
    assert "Traceback" not in captured.err
    assert captured.out == ""
    for word in words.split():
        assert word in last
    return last


@pytest.mark.quick
def test_q_makes_it_no_error_that_there_is_nothing_to_do(capsys):
    assert main(["-q"]) == 0


@pytest.mark.quick
def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert all(name in output for flag in FLAGS for name in flag.names)


# --- missing files --------------------------------------------------------------------------------------------------


def test_the_readme_s_files_are_named_with_what_gets_them(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = assert_fails(README_LINE.split(), "epoch_22/pytorch_model.bin training_params.txt models/entity.jsonl", capsys)
    for command in ("elq_wiki_large.bin", "elq_large_params.txt", "entity.jsonl", "all_entities_large.t7"):
        assert f"--only {command}" in message
    assert "never published" in message
    assert "--biencoder_config models/elq_large_params.txt" in message


@pytest.mark.parametrize(("line", "words"), [
    ("--biencoder_model models/elq_webqsp_large.bin", "`./download_models.sh --only elq_webqsp_large.bin`"),
    ("--index_path models/blink/faiss_hnsw_index.pkl", "`./download_models.sh --only blink/faiss_hnsw_index.pkl`"),
    ("--faiss_index flat", "`./download_models.sh --only faiss_flat_index.pkl`"),
    ("--biencoder_model mine.bin", "mine.bin check the path"),
])  # fmt: skip
def test_published_files_are_known(line: str, words: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_fails(["-i", *line.split()], words, capsys)


def test_names_in_the_messages_are_those_of_download_models(root: Path):
    names = {entry["name"] for entry in json.loads((root / "models" / "MANIFEST.json").read_text())["files"]}
    assert {"elq_wiki_large.bin", "elq_large_params.txt"} <= names


def test_a_missing_mention_file_is_told_before_a_model_is_loaded(tmp_path: Path, capsys):
    assert_fails(["--test_mentions", str(tmp_path / "no.jsonl")], "no.jsonl does not exist", capsys)


# --- the original's files, whole and damaged ------------------------------------------------------------------------

TEXTS = ("where is lake garda?", "who was ada lovelace", "mount etna!")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    torch.set_num_threads(1)
    return Reference(Shape("plain"), tmp_path_factory.mktemp("original")).write()


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts_file(folder: Path, texts: tuple[str, ...] = TEXTS) -> Path:
    return write(folder / "texts.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(texts)])


def link(original: Reference, file: Path, out: Path, *flags: str) -> list[dict[str, Any]]:
    """Run the script over a file of mentions."""
    arguments = [*original.flags(), "--test_mentions", str(file), "--save_preds_dir", str(out), "--precision", "fp32"]
    assert main([*arguments, *flags]) == 0
    return [json.loads(line) for line in (out / "biencoder_outs.jsonl").read_text().splitlines()]


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xffnot what it says\n" * 9)


def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> Callable[[Path], None]:
    return lambda path: torch.save(torch.zeros(shape, dtype=dtype), path)


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


class Trap:
    """Runs code where a file of it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("the trap went off",)


@pytest.mark.parametrize(("name", "corrupt", "words"), [
    ("pytorch_model.bin", half, "pytorch_model.bin cut short"),
    ("pytorch_model.bin", garbage, "pytorch_model.bin"),
    ("pytorch_model.bin", text(""), "pytorch_model.bin"),
    ("pytorch_model.bin", tensor(3), "pytorch_model.bin state dict"),
    ("pytorch_model.bin", lambda path: torch.save({"x": torch.zeros(2)}, path), "pytorch_model.bin context encoder"),
    ("pytorch_model.bin", lambda path: torch.save({"x": Trap()}, path), "pytorch_model.bin"),
    ("training_params.txt", garbage, "training_params.txt JSON dict"),
    ("training_params.txt", text("__import__('os').getcwd()"), "training_params.txt JSON dict"),
    ("training_params.txt", text("[1, 2]"), "training_params.txt JSON dict"),
    ("training_params.txt", text("{'mention_aggregation_type': 'best'}"), "best all_avg"),
    ("training_params.txt", text("{'mention_aggregation_type': 'fl_linear'}"), "pytorch_model.bin aggregator"),
    ("training_params.txt", text("{'mention_aggregation_type': 'all_avg', 'max_context_length': 999}"), "999 160"),
    ("training_params.txt", text("{'mention_aggregation_type': 'all_avg', 'max_context_length': 'long'}"), "params.txt long"),
    ("training_params.txt", text("{'mention_aggregation_type': 'all_avg', 'max_cand_length': [1]}"), "params.txt list"),
    ("all_entities.t7", half, "all_entities.t7 cut short"),
    ("all_entities.t7", tensor(23, 32), "entity.jsonl 24 all_entities.t7 23"),
    ("all_entities.t7", tensor(24, 31), "pytorch_model.bin 32 all_entities.t7 31"),
    ("all_entities.t7", tensor(24, 1, 32), "all_entities.t7 (24, 1, 32)"),
    ("all_entities.t7", tensor(24, 128, dtype=torch.int64), "all_entities.t7 int64"),
    ("all_entities.t7", lambda path: torch.save({"x": torch.zeros(2)}, path), "all_entities.t7"),
    ("entity.jsonl", half, "entity.jsonl line"),
    ("entity.jsonl", text('{"title": "one"}\n'), "entity.jsonl 1 24"),
    ("entity.jsonl", text(""), "entity.jsonl 0 24"),
    ("vocab.txt", text("a\nb\n"), "vocab.txt"),
    ("config.json", garbage, "config.json"),
])  # fmt: skip
def test_damaged_files_are_one_clear_line(original: Reference, name: str, corrupt: Any, words: str, tmp_path: Path, capsys):
    folder = shutil.copytree(original.folder, tmp_path / "copy")
    corrupt(folder / name)
    flags = [word.replace(str(original.folder), str(folder)) for word in original.flags()]
    out = tmp_path / "out"
    assert_fails([*flags, "--test_mentions", str(texts_file(tmp_path)), "--save_preds_dir", str(out)], words, capsys)
    assert list(out.iterdir()) == []


def test_a_broken_catalogue_is_told_once_and_without_flags_of_other_commands(
    original: Reference, tmp_path: Path, capsys, caplog
):
    folder = shutil.copytree(original.folder, tmp_path / "copy")
    lines = (folder / "entity.jsonl").read_text().splitlines()
    (folder / "entity.jsonl").write_text("\n".join([*lines[:2], "{broken", *lines[3:]]) + "\n")
    flags = [word.replace(str(original.folder), str(folder)) for word in original.flags()]
    texts = ["--test_mentions", str(texts_file(tmp_path))]
    assert main([*flags, *texts]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "entity.jsonl, line 3: " in line
    assert "fix the line, or get the file again" in line
    assert "--skip-bad" not in line
    assert caplog.records == []
    twice = [json.dumps(json.loads(line) | {"kb_idx": "Q7"}) for line in lines[:2]]
    (folder / "entity.jsonl").write_text("\n".join([*twice, *lines[2:]]) + "\n")
    assert main([*flags, *texts]) == 0
    err = capsys.readouterr().err
    assert "entity.jsonl: ids that stand on several lines lead to the last; lines that lose theirs: 1" in err
    assert "--skip-bad" not in err
    assert caplog.records == []


def test_what_is_no_tensor_is_not_advised_to_be_run(original: Reference, tmp_path: Path, capsys):
    folder = shutil.copytree(original.folder, tmp_path / "copy")
    torch.save({"x": Trap()}, folder / "pytorch_model.bin")
    flags = [word.replace(str(original.folder), str(folder)) for word in original.flags()]
    assert main([*flags, "--test_mentions", str(texts_file(tmp_path))]) == 1
    assert "weights_only" not in capsys.readouterr().err


@pytest.mark.parametrize("ids", [[1037, 999_999], [-5, 1037]])
def test_stored_word_pieces_of_another_vocabulary(original: Reference, ids: list[int], tmp_path: Path, capsys):
    file = tmp_path / "stored.jsonl"
    file.write_text(json.dumps({"tokenized_text_ids": ids, "text": "", "id": "seven"}) + "\n")
    assert_fails([*original.flags(), "--test_mentions", str(file)], "seven token model", capsys)


@pytest.mark.parametrize(("corrupt", "words"), [(half, "index.pkl"), (garbage, "index.pkl"), (text(""), "index.pkl empty")])
def test_a_damaged_index_is_one_clear_line(original: Reference, corrupt: Any, words: str, tmp_path: Path, capsys):
    write_index(original, tmp_path / "index.pkl")
    corrupt(tmp_path / "index.pkl")
    flags = [*original.flags(), "--index_path", str(tmp_path / "index.pkl")]
    assert_fails([*flags, "--test_mentions", str(texts_file(tmp_path))], words, capsys)


def write_index(original: Reference, path: Path, rows: int = 24, width: int = 32) -> None:
    import faiss

    index = faiss.IndexFlatIP(width)
    index.add(np.ascontiguousarray(original.vectors[:rows, :width]))
    faiss.write_index(index, str(path))


@pytest.mark.parametrize(("rows", "width", "words"), [(20, 32, "24 index.pkl 20"), (24, 30, "32 index.pkl 30")])
def test_an_index_of_another_size_is_refused(original: Reference, rows: int, width: int, words: str, tmp_path: Path, capsys):
    write_index(original, tmp_path / "index.pkl", rows, width)
    flags = [*original.flags(), "--index_path", str(tmp_path / "index.pkl")]
    assert_fails([*flags, "--test_mentions", str(texts_file(tmp_path))], words, capsys)


def test_an_index_is_searched_and_the_vectors_are_then_not_read(original: Reference, tmp_path: Path, capsys):
    exact = link(original, texts_file(tmp_path), tmp_path / "exact", "--threshold", "-inf")
    write_index(original, tmp_path / "index.pkl")
    flags = ("--index_path", str(tmp_path / "index.pkl"), "--entity_encoding", "nowhere.t7", "--threshold", "-inf")
    for searched, theirs in zip(link(original, texts_file(tmp_path), tmp_path / "flat", *flags), exact, strict=True):
        np.testing.assert_allclose(searched.pop("scores"), theirs.pop("scores"), atol=1e-4)
        assert searched == theirs


@pytest.mark.parametrize(("content", "words"), [
    (b"", "empty"),
    (b"\xff\xfe{}\n", "line 1 UTF-8"),
    (b'{"id": "a", "text": "x"}\n{"id": \n', "line 2 JSON"),
    (b'{"id": "a", "text": "x"}\n{"id": "b"}\n', "line 2"),
    (b'{"id": "a", "text": "x"}\n{"id": "b", "text": "a\\ud800"}\n', "'b' surrogate"),
    (b'{"id": "a", "text": 3}\n', "line 1 string"),
])  # fmt: skip
def test_bad_mention_files_leave_old_predictions_alone(original: Reference, content: bytes, words: str, tmp_path: Path, capsys):
    out = tmp_path / "out"
    link(original, texts_file(tmp_path), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (tmp_path / "bad.jsonl").write_bytes(content)
    capsys.readouterr()
    flags = [*original.flags(), "--test_mentions", str(tmp_path / "bad.jsonl"), "--save_preds_dir", str(out)]
    assert_fails(flags, words, capsys)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_one_clear_line(original: Reference, tmp_path: Path, capsys):
    (tmp_path / "file").write_text("in the way")
    flags = [
        *original.flags(),
        "--test_mentions",
        str(texts_file(tmp_path)),
        "--save_preds_dir",
        str(tmp_path / "file" / "out"),
    ]
    assert_fails(flags, "file", capsys)


def test_cuda_is_refused_where_there_is_none(original: Reference, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_fails([*original.flags(), "--test_mentions", str(texts_file(tmp_path)), "--use_cuda"], "--use_cuda", capsys)


@pytest.mark.parametrize("length", ["2", "161"])
def test_context_lengths_that_do_not_fit_are_refused(original: Reference, length: str, tmp_path: Path, capsys):
    flags = [*original.flags(), "--test_mentions", str(texts_file(tmp_path)), "--max_context_length", length]
    assert_fails(flags, f"{length} 160", capsys)


# --- linking files --------------------------------------------------------------------------------------------------


def labelled(original: Reference, row_id: str, words: list[tuple[str, int | None]], **more: Any) -> dict[str, Any]:
    """A labelled row in the original's format: words, and the entity of those that are mentions."""
    ids, spans, bounds, labels, text = [], [], [], [], ""
    for word, entity in words:
        start, offset = len(ids), len(text) + bool(text)
        ids += original.token_ids(word)
        text += (" " if text else "") + word
        if entity is not None:
            spans.append([start, len(ids)])
            bounds.append([offset, len(text)])
            labels.append(entity)
    return {
        "id": row_id, "text": text, "mentions": bounds, "tokenized_text_ids": ids, "tokenized_mention_idxs": spans,
        "label_id": labels, **more,
    }  # fmt: skip


def test_predictions_of_texts_without_a_folder_are_printed(original: Reference, tmp_path: Path, capsys):
    want = link(original, texts_file(tmp_path), tmp_path / "out", "--threshold", "-inf")
    capsys.readouterr()
    flags = [*original.flags(), "--test_mentions", str(texts_file(tmp_path)), "--precision", "fp32", "--threshold", "-inf"]
    assert main(flags) == 0
    captured = capsys.readouterr()
    assert [json.loads(line) for line in captured.out.splitlines()] == want
    assert "biencoder runtime = " in captured.err


def test_predictions_do_not_depend_on_the_batch_size(original: Reference, tmp_path: Path, capsys):
    file = texts_file(tmp_path, (*TEXTS, "peru " * 60, ""))
    one = link(original, file, tmp_path / "one", "--threshold", "-inf", "--eval_batch_size", "1")
    for single, theirs in zip(one, link(original, file, tmp_path / "many", "--threshold", "-inf"), strict=True):
        np.testing.assert_allclose(single.pop("scores"), theirs.pop("scores"), atol=1e-4)
        assert single == theirs


def test_long_texts_are_read_to_their_end(original: Reference, tmp_path: Path, capsys):
    long = "so " * 100 + "where is lake garda?"
    (row,) = link(original, texts_file(tmp_path, (long,)), tmp_path / "out", "--threshold", "-inf", "--top_k", "999")
    assert row["tokens"] == original.token_ids(long)
    assert max(end for _, _, end in row["pred_triples"]) > 100
    assert all(0 <= start < end <= len(row["tokens"]) for _, start, end in row["pred_triples"])


def test_arrays_lie_where_tokens_say(original: Reference, tmp_path: Path, capsys):
    rows = [labelled(original, "a", [("so", None)] * 50 + [("Peru", 5)] + [("on", None)] * 50), {"id": "b", "text": TEXTS[0]}]
    records = link(original, write(tmp_path / "in.jsonl", rows), tmp_path / "out", "--threshold", "-inf")
    with np.load(tmp_path / "out" / "predictions.npz", allow_pickle=False) as arrays:
        offsets, bounds, nns, scores = (arrays[k] for k in ("offsets", "mention_bounds", "nns", "dists"))
    for i, row in enumerate(records):
        bounds_of_text = bounds[offsets[i] : offsets[i + 1]]
        assert ((bounds_of_text >= 1) & (bounds_of_text <= len(row["tokens"]))).all()
        # Labelled rows are reported in positions of the whole text.
        text_ids = rows[i].get("tokenized_text_ids", row["tokens"])
        shift = 1 - next(k for k in range(len(text_ids)) if text_ids[k : k + len(row["tokens"])] == row["tokens"])
        best = {
            (int(s), int(e)): (str(n), v)
            for (s, e), n, v in zip(bounds_of_text, nns[offsets[i] :, 0], scores[offsets[i] :, 0], strict=False)
        }
        for (entity, start, end), score in zip(row["pred_triples"], row["scores"], strict=True):
            assert best[start + shift, end - 1 + shift] == (entity, pytest.approx(score))


def test_labels_are_looked_at_row_by_row(original: Reference, tmp_path: Path, capsys):
    rows = [
        {"id": "free", "text": TEXTS[0]},
        labelled(original, "gold", [("where is", None), ("Peru", 5)]),
        labelled(original, "none", [("where", None)]),
        {"id": "chars", "text": "in Peru", "mentions": [[3, 7]], "label_id": [5]},
    ]
    records = link(original, write(tmp_path / "in.jsonl", rows), tmp_path / "out")
    assert ["gold_triples" in row for row in records] == [False, True, True, True]
    assert [row.get("gold_triples") for row in records[1:]] == [[["5", 2, 3]], [], [["5", 1, 2]]]
    assert records[1]["gold_tuples_string"] == [["Peru 5", "peru"]]
    assert re.findall(r"^recall = \d+ / (\d+)", capsys.readouterr().out, re.MULTILINE) == ["2"] * 4


def test_gold_of_another_catalogue_is_looked_up_by_its_id(original: Reference, tmp_path: Path, capsys):
    catalogue = write(tmp_path / "entity.jsonl", [e | {"kb_idx": f"Q{100 + i}"} for i, e in enumerate(original.entities)])
    rows = [
        labelled(original, "moved", [("Peru", 3)], wikidata_id=["Q105"]),
        labelled(original, "gone", [("Peru", 3)], wikidata_id=["Q9"]),
    ]
    file = write(tmp_path / "in.jsonl", rows)
    records = link(original, file, tmp_path / "out", "--entity_catalogue", str(catalogue))
    assert [row["gold_triples"] for row in records] == [[["5", 0, 1]], [["-1", 0, 1]]]


def test_gold_spans_are_linked_whatever_their_score(original: Reference, tmp_path: Path, capsys):
    """Also those that no single window holds."""
    words = [("Peru", 5), *[("so", None)] * 60, ("Lake Garda", 1)]
    rows = [labelled(original, "stored", words), {k: v for k, v in labelled(original, "text", words).items() if "tok" not in k}]
    records = link(original, write(tmp_path / "in.jsonl", rows), tmp_path / "out", "-n", "none", "--threshold", "0")
    for row in records:
        assert sorted((s, e) for _, s, e in row["pred_triples"]) == [(0, 1), (61, 64)]
        assert row["scores"] == sorted(row["scores"], reverse=True)
    assert_fails([*original.flags(), "--test_mentions", str(texts_file(tmp_path)), "-n", "none"], "'0' gold", _fresh(capsys))


def _fresh(capsys):
    capsys.readouterr()
    return capsys


def test_the_whole_text_as_one_mention(original: Reference, tmp_path: Path, capsys):
    file = write(
        tmp_path / "in.jsonl",
        [{"id": "a", "text": "Lake Garda"}, {"id": "b", "text": ""}, labelled(original, "c", [("Peru", 5)])],
    )
    records = link(original, file, tmp_path / "out", "-n", "single")
    assert [[(s, e) for _, s, e in row["pred_triples"]] for row in records] == [[(0, 3)], [], [(0, 1)]]


def test_stored_word_pieces_are_used_and_can_be_insisted_on(original: Reference, tmp_path: Path, capsys):
    row = labelled(original, "a", [("Peru", 5)]) | {"text": "something else entirely", "mentions": [[0, 9]]}
    records = link(original, write(tmp_path / "in.jsonl", [row]), tmp_path / "out", "-n", "joint_all_ents_pretokenized")
    assert records[0]["tokens"] == original.token_ids("Peru")
    flags = [*original.flags(), "--test_mentions", str(texts_file(tmp_path)), "-n", "joint_all_ents_pretokenized"]
    assert_fails(flags, "'0' tokenized_text_ids", _fresh(capsys))


def test_a_model_folder_of_ours_in_place_of_the_original_s_files(original: Reference, tmp_path: Path, capsys):
    files = OriginalFiles(original.folder / "pytorch_model.bin", original.folder / "training_params.txt")
    folder = tmp_path / "model"
    read_original(files, candidate=True).save_pretrained(folder)
    texts = texts_file(tmp_path)
    theirs = link(original, texts, tmp_path / "theirs", "--threshold=-inf")
    ours = [*original.flags()[4:], "--biencoder_model", str(folder), "--test_mentions", str(texts)]
    named = [*ours, "--biencoder_config", str(files.settings)]
    assert_fails(named, f"{folder} is a model folder, which holds its own settings", _fresh(capsys))
    assert main([*ours, "--save_preds_dir", str(tmp_path / "ours"), "--precision", "fp32", "--threshold=-inf"]) == 0
    predictions = (tmp_path / "ours" / "biencoder_outs.jsonl").read_text()
    assert predictions == (tmp_path / "theirs" / "biencoder_outs.jsonl").read_text()
    assert any(row["pred_triples"] for row in theirs)


def test_july_s_flags_give_july_s_threshold(original: Reference, tmp_path: Path, capsys):
    file = texts_file(tmp_path)
    july = link(original, file, tmp_path / "j", "--mention_classifier_threshold", "0.0", "--final_thresholding", "joint_0")
    assert july == link(original, file, tmp_path / "x", "--threshold", "-2.9")


def test_the_mention_threshold_is_a_probability(original: Reference, tmp_path: Path, capsys):
    file, scores = texts_file(tmp_path), {}
    for probability in ("0", "0.5"):
        link(original, file, tmp_path / probability, "--threshold", "-inf", "--mention_classifier_threshold", probability)
        with np.load(tmp_path / probability / "predictions.npz") as arrays:
            scores[probability] = arrays["mention_scores"]
    np.testing.assert_allclose(np.sort(scores["0"][scores["0"] > 0]), np.sort(scores["0.5"]), atol=1e-5)
    assert len(scores["0.5"]) < len(scores["0"])


def test_modes_by_mention(original: Reference, tmp_path: Path, capsys):
    file = texts_file(tmp_path)
    raw = ("--threshold_type", "top_entity_by_mention", "--mention_threshold", "-2")
    overlapping = link(original, file, tmp_path / "raw", *raw)
    assert any(
        a[1] < b[2] and b[1] < a[2] for row in overlapping for a in row["pred_triples"] for b in row["pred_triples"] if a != b
    )
    for mode in ("top_entity_by_mention", "top_joint_by_mention"):
        for row in link(original, file, tmp_path / mode, "--final_thresholding", mode, "--threshold", "-inf"):
            entities = [entity for entity, _, _ in row["pred_triples"]]
            assert entities
            assert len(set(entities)) == len(entities)


def test_compat_refuses_what_the_original_could_not_do(original: Reference, tmp_path: Path, capsys):
    flags = [*original.flags(), "--compat", "elq", "--test_mentions"]
    assert_fails([*flags, str(texts_file(tmp_path, ("so " * 200,)))], "'0' 200 158 --compat", capsys)
    mixed = write(tmp_path / "mixed.jsonl", [labelled(original, "a", [("Peru", 5)]), {"id": "b", "text": "x"}])
    assert_fails([*flags, str(mixed)], "'b' tokenized_text_ids", capsys)


def test_compat_cuts_no_text_that_the_model_can_read(original: Reference, tmp_path: Path, capsys):
    (row,) = link(original, texts_file(tmp_path, ("so " * 150,)), tmp_path / "out", "--compat", "elq")
    assert len(row["tokens"]) == 150


# --- typing texts ---------------------------------------------------------------------------------------------------


def run_outside(
    root: Path, home: Path, arguments: list[str], typed: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the script as a person does: no PYTHONPATH, its folder first on the path."""
    command = [sys.executable, str(root / "blink" / "main_dense_all_ents.py"), *arguments]
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HOME": str(home)}
    return subprocess.run(
        command, cwd=cwd or root, input=typed, capture_output=True, text=True, env=environment, timeout=120, check=False
    )


def test_the_readme_s_line_works_once_its_files_exist(original: Reference, root: Path, tmp_path: Path):
    paths = {
        "entity.jsonl": "models/entity.jsonl", "all_entities.t7": "models/all_entities_large.t7",
        "pytorch_model.bin": f"{CHECKPOINT}/epoch_22/pytorch_model.bin", "config.json": f"{CHECKPOINT}/epoch_22/config.json",
        "training_params.txt": f"{CHECKPOINT}/training_params.txt",
    }  # fmt: skip
    for name, path in paths.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(original.folder / name, tmp_path / path)
    done = run_outside(root, tmp_path, README_LINE.split(), "where is lake garda?\n", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "lake garda" in done.stdout.lower()


@pytest.mark.slow  # tests/test_readme.py starts it so too
@pytest.mark.usefixtures("starter")
def test_i_alone_uses_the_starter(root: Path, tmp_path: Path):
    done = run_outside(root, tmp_path, ["-i"], "Which river flows through Egypt?\n")
    assert done.returncode == 0, done.stderr
    assert "starter" in done.stderr
    assert "Egypt" in done.stdout


def test_texts_through_the_starter_are_linked_as_everywhere_else(root: Path, tmp_path: Path, capsys):
    if not (root / "models" / "starter" / "config.json").is_file():
        pytest.skip("needs the starter model")
    from blink.apps.model_options import open_linker

    texts = ("Which river flows through Egypt?", "Mercury is closer to the Sun than Venus.")
    assert main(["--test_mentions", str(texts_file(tmp_path, texts)), "--precision", "fp32"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    linker = open_linker(None, None, precision="fp32", device="cpu")
    for row, linked in zip(rows, linker.link(texts), strict=True):
        assert sorted(int(entity) for entity, _, _ in row["pred_triples"]) == sorted(link.row for link in linked.links)
        np.testing.assert_allclose(sorted(row["scores"]), sorted(link.score for link in linked.links), atol=1e-4)


def test_errors_are_one_line_without_traceback_outside_too(root: Path, tmp_path: Path):
    done = run_outside(root, tmp_path, ["-i", "--biencoder_model", "no.bin"], "", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
