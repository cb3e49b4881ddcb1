"""What other implementations of these tasks stumbled over, each with the test that keeps it from coming back."""

from __future__ import annotations

import ast
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from examples.entity_typing.data import TypingExample
from examples.entity_typing.task import EntityTyping
from examples.luke.loading import Base
from examples.relation_classification.data import RelationExample
from examples.relation_classification.task import RelationClassification

Examples = Callable[..., tuple[int, str]]

TRAPS = {
    # of transformers 5
    "entity-aware calls cannot truncate": ("test_the_library_cannot_truncate", "test_a_long_text_is_cut_far_from_the_mention"),
    "nor do they keep to the limit of entities": (
        "test_shared_out_evenly",
        "test_entities_are_cut_at_their_limit_questions_first",
    ),
    "a space before every piece": ("test_a_tokenizer_made_to_prefix_spaces_gives_the_same",),
    "[MASK] in a text is out of range": (
        *("test_nothing_in_a_text_is_special", "test_literal_mask_in_a_text_is_no_special_word"),
        "test_the_library_gives_such_texts_ids_without_a_row",
    ),
    "the entity vocabulary goes astray on disk": (
        "test_a_folder_as_on_the_hub",
        "test_files_of_a_model_are_readable_by_others",
    ),
    "the decoder of words is not tied": ("test_the_word_decoder_comes_back_from_disk", "test_the_decoder_of_words_stays_tied"),
    "accumulation scales gradients": (
        *("test_a_step_is_the_same_however_it_is_split", "test_the_gradient_is_that_of_the_mean_over_decisions"),
        "test_accumulation_and_the_first_stage_through_the_command_line",
    ),
    "labels of spans padded to the words": ("test_batches_of_unequal_numbers_of_spans",),
    "a batch without any label gives no number": ("test_windows_in_which_no_entity_is_hidden_give_a_number",),
    # of the models
    "row 0 never learns, which in lite models is the mask's": (
        *("test_the_mask_learns_whatever_the_order", "test_an_archive_with_padding_elsewhere_is_put_in_order"),
    ),
    "special entities have other ids elsewhere": ("test_special_rows_are_found_by_name",),
    "further queries begin as copies, or are there unused": (
        *("test_copied_queries_are_plain_attention", "test_logits_whatever_the_attention"),
        "test_a_model_of_plain_attention_begins_with_copies",
    ),
    "task checkpoints have 2 or 3 entities": ("test_weights_as_the_original_published_them",),
    # of the original's code
    "a wrong checkpoint leaves the head random": (
        "test_a_head_is_never_left_random",
        "test_weights_of_another_task_are_refused",
    ),
    "--no-train needs the training file": ("test_a_checkpoint_brings_its_labels_along",),
    "--checkpoint-file is not looked at after training": ("test_a_named_checkpoint_is_evaluated_even_after_training",),
    "the first and the last sentence are lost": ("test_no_sentence_is_lost",),
    "--save-steps writes into a folder that is not there": ("test_stopped_and_resumed_it_ends_the_same",),
    "a run shorter than an epoch keeps no weights": (
        *("test_an_unfinished_epoch_at_the_end_is_validated_too", "test_a_run_without_evaluation_and_one_without_checkpoint"),
    ),
    "micro-batches leak into the next epoch": (
        *("test_the_last_group_of_an_epoch_is_a_step_and_fractions_count", "test_each_epoch_takes_everything_once"),
    ),
    "@highlight without a space is doubled": ("test_markers_at_the_level_of_ids",),
    "a long question loses its gap": ("test_a_long_question_keeps_its_gap",),
    "launched processes call another module": ("test_the_command_for_several_gpus",),
    "a long sentence has negative context": ("test_of_a_sentence_too_long_every_candidate_is_in_one_window",),
    "unseen labels of a development set": (
        *("test_unseen_types_of_a_development_set_count_as_missed", "test_unseen_labels_count_as_missed"),
    ),
    "tars and pickles are trusted": (
        *("test_members_in_a_folder_of_the_tar_and_nothing_else_is_unpacked", "test_weights_that_hold_more_are_refused"),
        "test_nothing_in_a_pickle_is_run",
    ),
    # that users told of
    "tag schemes are mixed up": ("test_schemes_mean_the_same", "test_the_tiny_set_in_both_schemes"),
    "seqeval wants sentences": ("test_scores_as_conlleval_counts",),
    "names longer than the limit stop the run": ("test_names_that_are_too_long_are_told_or_refused",),
    "labels are fixed": ("test_labels_in_the_published_order_or_of_the_data",),
    "a text for a list of words": ("test_what_is_malformed_is_named",),
    "questions need files of Wikipedia": ("test_plain_dictionary", "test_words_alone"),
    "no run without a GPU": ("test_what_a_run_leaves", "test_gpus_that_are_asked_for_must_be_there"),
    "a needless second entity": ("test_mention_between_markers_and_the_mask_over_both",),
    "titles without an entity vanish": ("test_titles_become_ids_and_the_rest_is_listed",),
    "a full disk": ("test_a_full_disk_is_one_line",),
}
"""Trap -> tests."""


@pytest.mark.quick
def test_every_trap_has_its_tests(root: Path) -> None:
    defined = {name for folder in ("examples", "examples_pretraining") for name in named_in(root / "tests" / folder)}
    assert {trap: sorted(set(named) - defined) for trap, named in TRAPS.items() if set(named) - defined} == {}


def named_in(folder: Path) -> Iterator[str]:
    for file in folder.glob("test_*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_the_library_cannot_truncate(tiny_base: Base, tasks: Path) -> None:
    """Where it can one day, this fails, and nothing is lost: windows are made without it."""
    with pytest.raises(AttributeError, match="truncate_sequences"):
        tiny_base.tokenizer("Vienna lies on the Danube. " * 40, entity_spans=[(0, 6)], truncation=True, max_length=32)
    calls = [f for f in tasks.rglob("*.py") if "truncation=" in f.read_text(encoding="utf-8")]
    assert calls == []


def test_unseen_labels_count_as_missed() -> None:
    typing, relations = EntityTyping(), RelationClassification()
    typing.adopt(("person", "place"), torch.nn.Linear(1, 1))
    examples = [TypingExample("x", "Bern", 0, 4, ("place", "canton"))]
    predictions = typing.decode(examples, [], [np.array([-1.0, 1.0])])
    assert typing.score(examples, predictions) == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    relations.adopt(("no_relation", "org:a"), torch.nn.Linear(1, 1))
    unseen = [RelationExample("x", ("a",), (0, 1), (0, 1), "org:unseen")]
    assert relations.score(unseen, relations.decode(unseen, [], [np.array([0.0, 1.0])]))["f1"] == 0.0


@pytest.fixture(scope="module")
def tuned(tiny_folder: Path, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that one step was taken with, on relations."""
    from examples.cli import cli

    out = tmp_path_factory.mktemp("tuned")
    words = [f"--model-file={tiny_folder}", f"--output-dir={out}", "--num-gpus=0", *relations(tasks), *ONE_STEP]
    cli.main(words, prog_name="examples", standalone_mode=False)
    return out


ONE_STEP = ("--train-batch-size=20", "--num-train-epochs=1", "--learning-rate=3e-3")


def relations(tasks: Path) -> list[str]:
    return ["relation-classification", "run", f"--data-dir={tasks / 'relation_classification' / 'tiny'}"]


def scores(folder: Path) -> dict[str, float]:
    results: dict[str, float] = json.loads((folder / "results.json").read_text())
    return {name: value for name, value in results.items() if "epoch" not in name}


def test_a_checkpoint_brings_its_labels_along(tuned: Path, run_examples: Examples, tasks: Path, tmp_path: Path) -> None:
    shutil.copytree(tasks / "relation_classification" / "tiny", tmp_path / "data")
    (tmp_path / "data" / "train.json").unlink()
    words = ("relation-classification", "run", f"--data-dir={tmp_path / 'data'}", "--no-train", f"--checkpoint-file={tuned}")
    status, err = run_examples(f"--output-dir={tmp_path / 'out'}", "--num-gpus=0", *words)
    assert status == 0, err
    assert scores(tmp_path / "out") == scores(tuned)


def test_a_named_checkpoint_is_evaluated_even_after_training(
    tuned: Path, tiny_folder: Path, run_examples: Examples, tasks: Path, tmp_path: Path
) -> None:
    words = (*relations(tasks), *ONE_STEP, "--seed=1", f"--checkpoint-file={tuned}")
    status, err = run_examples(f"--model-file={tiny_folder}", f"--output-dir={tmp_path}", "--num-gpus=0", *words)
    assert status == 0, err
    assert "as --checkpoint-file asks, not the weights just trained" in err
    assert (tmp_path / "dev_predictions.txt").read_bytes() == (tuned / "dev_predictions.txt").read_bytes()
    assert (tmp_path / "model.safetensors").read_bytes() != (tuned / "model.safetensors").read_bytes()


def test_a_checkpoint_of_another_task_is_one_line(tuned: Path, run_examples: Examples, tasks: Path, tmp_path: Path) -> None:
    words = ("ner", "run", f"--data-dir={tasks / 'ner' / 'tiny'}", "--no-train", f"--checkpoint-file={tuned}")
    status, err = run_examples(f"--output-dir={tmp_path}", "--num-gpus=0", *words)
    assert (status, err.count("\n")) == (1, 1)
    assert "its weights have other shapes); was it trained for this task?" in err


@pytest.mark.parametrize("what", ["checkpoint", "model"])
def test_a_full_disk_is_one_line(what: str, tiny_folder: Path, run_examples: Examples, tasks: Path, tmp_path: Path) -> None:
    """A limit on the size of files replaces a full disk: the errors are the same."""
    begin: dict[str, Any] = {
        "checkpoint": (f"--model-file={tiny_folder}", f"--output-dir={tmp_path / 'x'}", *relations(tasks), *ONE_STEP),
        "model": ("make-tiny-model", tmp_path / "x"),
    }
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        status, err = run_examples(*begin[what])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 1
    assert "File too large; check the path, its permissions and the free disk space" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("*.pt*"))


@pytest.mark.parametrize("words", [(), ("ner",), ("pretraining",)])
def test_without_words_the_help_is_shown(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    from blink.apps.common import guarded
    from examples.cli import cli

    assert guarded(lambda: cli.main(list(words), prog_name="examples", standalone_mode=False), "examples") == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: examples")
    assert "\nCommands:\n" in out
    assert err == ""
