"""The original's shell scripts: every row of their tables of arguments, what they plan, where it goes, and what they refuse."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from blink.cluster.runs import WHOLE_RUN, epochs_of, is_model_folder, model_of, read_parameters
from blink.cluster.settings import ClusterSettings, load_settings
from blink.compat.elq import flags as script_flags
from blink.compat.slurm import run as launchers
from blink.compat.slurm.arguments import (
    ENCODE_ARGUMENTS,
    EVAL_ARGUMENTS,
    FINAL_THRESHOLDING,
    TRAIN_ARGUMENTS,
    read_encode_arguments,
    read_eval_arguments,
    read_train_arguments,
)
from blink.compat.slurm.plans import Plan, Start, model_location, plan_encoding, plan_evaluation, plan_training
from blink.compat.slurm.run import check, copy_model, has_gpu, main, with_gpus_of_job
from blink.errors import MissingFileError, SettingsError
from tests.compat.script_lines import LARGE, LINES, arguments_of

pytestmark = pytest.mark.quick

ROOT = Path(__file__).resolve().parents[2]
WEBQSP = arguments_of(LINES["train-webqsp"])
PLANS = Path(__file__).parent / "plans"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterSettings:
    """Those of nobody, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return load_settings({"HOME": str(tmp_path)})


def plan_of(line: str, settings: ClusterSettings) -> Plan:
    words = arguments_of(line)
    if "train_biencoder" in line:
        return plan_training(read_train_arguments(words), settings)
    if "run_slurm" in line:
        return plan_encoding(read_encode_arguments(words), settings)
    return plan_evaluation(read_eval_arguments(words), settings, gpu=True)


def train(settings: ClusterSettings, /, **changes: str) -> Plan:
    """The plan of the first line with some arguments changed, by name."""
    names = [w.name for w in TRAIN_ARGUMENTS]
    words = WEBQSP + [""] * (len(names) - len(WEBQSP))
    for name, text in changes.items():
        words[names.index(name)] = text
    return plan_training(read_train_arguments(words), settings)


def options(words: tuple[str, ...]) -> dict[str, str]:
    """Flags and their values; a switch is ``true``."""
    parsed: dict[str, str] = {}
    for i, word in enumerate(words):
        if word.startswith("--"):
            bare = i + 1 == len(words) or (words[i + 1].startswith("--"))
            parsed[word] = "true" if bare else words[i + 1]
    return parsed


def train_options(settings: ClusterSettings, /, **changes: str) -> dict[str, str]:
    (step,) = train(settings, **changes).steps
    assert step.kind == "train"
    return options(step.arguments)


class TestReadmeLines:
    @pytest.mark.parametrize("name", LINES)
    def test_plan(self, name: str, settings: ClusterSettings) -> None:
        plan = "\n".join(plan_of(LINES[name], settings).lines()) + "\n"
        assert plan == (PLANS / f"{name}.txt").read_text()

    def test_there_is_no_other_plan(self) -> None:
        assert {p.stem for p in PLANS.iterdir()} == set(LINES)


class TestTrainWords:
    @pytest.mark.parametrize(
        "data", ["webqsp", "webqsp_all_ents", "graphqs_all_ents", "wiki_all_ents", "wiki_all_ents_sample", "zeshel", "pretrain"]
    )
    def test_data_choose_a_folder(self, data: str, settings: ClusterSettings) -> None:
        plan = train(settings, data=data)
        assert options(plan.steps[0].arguments)["--data_path"] == f"data/{data}"
        assert Path(f"data/{data}/train.jsonl") in plan.reads
        assert plan.writes[0].parts[:2] == ("experiments", data)

    def test_data_lie_elsewhere(self, tmp_path: Path) -> None:
        environment = {"HOME": str(tmp_path), "BLINK_DATA_ROOT": "/root of data", "BLINK_DATA_ZESHEL": "/far away"}
        settings = load_settings(environment)
        assert train_options(settings)["--data_path"] == "/root of data/webqsp_all_ents"
        assert train_options(settings, data="zeshel")["--data_path"] == "/far away"

    def test_a_data_set_brings_its_own_entities(self, settings: ClusterSettings) -> None:
        data_set = Path("data/webqsp_all_ents")
        data_set.mkdir(parents=True)
        (data_set / "entity.jsonl").touch()
        assert train_options(settings)["--catalogue"] == "models/entity.jsonl"
        (data_set / "all_entities_large.t7").touch()
        flags = train_options(settings)
        assert (flags["--catalogue"], flags["--cand_enc_path"]) == (
            str(data_set / "entity.jsonl"),
            str(data_set / "all_entities_large.t7"),
        )

    def test_validation_falls_back_to_dev(self, settings: ClusterSettings) -> None:
        assert train(settings).reads[1].name == "valid.jsonl"
        folder = Path("data/webqsp_all_ents")
        folder.mkdir(parents=True)
        (folder / "dev.jsonl").touch()
        assert train(settings).reads[1].name == "dev.jsonl"
        (folder / "valid.jsonl").touch()
        assert train(settings).reads[1].name == "valid.jsonl"

    @pytest.mark.parametrize(
        ("kind", "bounds", "aggregation"),
        [
            ("none", False, None), ("none_no_mentions", True, None), ("all_avg", True, "all_avg"), ("fl_avg", True, "fl_avg"),
            ("all_avg_linear", True, "all_avg_linear"), ("fl_linear", True, "fl_linear"), ("all_mlp", True, "all_mlp"),
        ],
    )  # fmt: skip
    def test_aggregation(self, kind: str, bounds: bool, aggregation: str | None, settings: ClusterSettings) -> None:
        flags = train_options(settings, mention_agg_type=kind)
        assert ("--no_mention_bounds" in flags, flags.get("--mention_aggregation_type")) == (bounds, aggregation)

    @pytest.mark.parametrize(
        ("objective", "kinds"),
        [
            ("train", ["train"]), ("predict", ["copy", "encode"]), ("both", ["train", "copy", "encode"]),
            ("", ["train", "copy", "encode"]),
        ],
    )  # fmt: skip
    def test_objective(self, objective: str, kinds: list[str], settings: ClusterSettings) -> None:
        assert [step.kind for step in train(settings, objective=objective).steps] == kinds

    @pytest.mark.parametrize(
        ("data", "batch_size", "batch"), [("wiki_all_ents", "", "32"), ("pretrain", "", "128"), ("pretrain", "7", "7")]
    )
    def test_batch_size(self, data: str, batch_size: str, batch: str, settings: ClusterSettings) -> None:
        assert train_options(settings, data=data, batch_size=batch_size)["--train_batch_size"] == batch
        encode = train(settings, data=data, batch_size=batch_size, objective="predict").steps[-1]
        assert options(encode.arguments)["--batch-size"] == batch

    @pytest.mark.parametrize(("word", "present"), [("true", True), ("false", False)])
    def test_joint_detection(self, word: str, present: bool, settings: ClusterSettings) -> None:
        assert ("--do_mention_detection" in train_options(settings, joint_mention_detection=word)) == present

    @pytest.mark.parametrize(("context_length", "length"), [("", "128"), ("20", "20")])
    def test_context_length(self, context_length: str, length: str, settings: ClusterSettings) -> None:
        assert train_options(settings, context_length=context_length)["--max_context_length"] == length

    def test_saved_encodings(self, settings: ClusterSettings) -> None:
        flags = train_options(settings, load_saved_cand_encs="true")
        assert flags["--freeze_cand_enc"] == flags["--load_cand_enc_only"] == "true"
        assert flags["--path_to_model"] == "models/biencoder_wiki_large.bin"
        assert Path("models/biencoder_wiki_large.bin") in train(settings).reads

    def test_no_saved_encodings(self, settings: ClusterSettings) -> None:
        flags = train_options(settings, load_saved_cand_encs="false")
        assert flags["--freeze_cand_enc"] == "false"
        assert flags.keys().isdisjoint(("--load_cand_enc_only", "--path_to_model"))
        assert Path("models/biencoder_wiki_large.bin") not in train(settings, load_saved_cand_encs="false").reads

    @pytest.mark.parametrize(
        ("load", "adversarial", "flag", "objective"),
        [
            ("true", "true", "true", None), ("true", "false", None, "in_batch"), ("false", "true", "true", None),
            ("false", "false", None, None),
        ],
    )  # fmt: skip
    def test_adversarial(
        self, load: str, adversarial: str, flag: str | None, objective: str | None, settings: ClusterSettings
    ) -> None:
        flags = train_options(settings, load_saved_cand_encs=load, adversarial=adversarial)
        assert (flags.get("--adversarial_training"), flags.get("--objective")) == (flag, objective)

    @pytest.mark.parametrize("size", ["base", "large"])
    def test_model_size(self, size: str, settings: ClusterSettings) -> None:
        assert train_options(settings, model_size=size)["--bert_model"] == f"bert-{size}-uncased"

    def test_a_size_of_ones_own(self, tmp_path: Path) -> None:
        flags = train_options(load_settings({"HOME": str(tmp_path), "BLINK_SIZE_TINY": "/my/tiny bert"}), model_size="tiny")
        assert flags["--bert_model"] == "/my/tiny bert"
        assert flags["--output_path"].endswith("_bert_tiny_qa_linear")

    @pytest.mark.parametrize("scorer", ["qa_linear", "qa_mlp"])
    def test_mention_scorer(self, scorer: str, settings: ClusterSettings) -> None:
        flags = train_options(settings, mention_scoring_method=scorer)
        assert flags["--mention_scoring_method"] == scorer
        assert flags["--output_path"].endswith(f"_bert_large_{scorer}")

    @pytest.mark.parametrize(
        ("start", "end", "expected"), [("", "", "0 1000000"), ("5", "9", "5 9"), ("0", "-1", "0 -1"), ("7", "-1", "7 -1")]
    )
    def test_chunk(self, start: str, end: str, expected: str, settings: ClusterSettings) -> None:
        encode = train(settings, objective="predict", chunk_start=start, chunk_end=end).steps[-1]
        index = encode.arguments.index("--chunk")
        assert encode.arguments[index + 1 : index + 3] == tuple(expected.split())

    def test_the_chunk_is_of_no_account_in_training(self, settings: ClusterSettings) -> None:
        assert (
            train(settings, chunk_start="0", chunk_end="-1")
            == train(settings)
            == train(settings, chunk_start="9", chunk_end="3")
        )

    @pytest.mark.parametrize(("size", "batch_size"), [("", "32"), ("64", "64")])
    def test_eval_batch_size(self, size: str, batch_size: str, settings: ClusterSettings) -> None:
        assert train_options(settings, eval_batch_size=size)["--eval_batch_size"] == batch_size

    @pytest.mark.parametrize(("data", "steps"), [("pretrain", "1000"), ("webqsp", "500")])
    def test_what_is_fixed(self, data: str, steps: str, settings: ClusterSettings) -> None:
        flags = train_options(settings, data=data)
        expected = {
            "--title_key": "entity", "--num_train_epochs": "100", "--learning_rate": "0.00001", "--max_cand_length": "128",
            "--eval_interval": steps, "--data_parallel": "true", "--get_losses": "true", "--last_epoch": "-1",
        }  # fmt: skip
        assert {k: flags[k] for k in expected} == expected

    @pytest.mark.parametrize(("data", "all_of_them"), [("wiki_all_ents", "false"), ("webqsp_all_ents", "true")])
    def test_only_millions_of_rows_are_dealt_out_to_epochs(
        self, data: str, all_of_them: str, settings: ClusterSettings
    ) -> None:
        assert train_options(settings, data=data)["--dont_distribute_train_samples"] == all_of_them

    def test_flags_of_the_settings_come_last(self, tmp_path: Path) -> None:
        settings = load_settings({"HOME": str(tmp_path), "BLINK_FLAGS_TRAIN": "--seed 3 --num_train_epochs 7 --mix 'a b'"})
        words = train(settings).steps[0].arguments
        assert words[-4:] == ("--seed", "3", "--mix", "a b")
        assert options(words)["--num_train_epochs"] == "7"
        with pytest.raises(SettingsError, match="--epochs of the training flags is 'many'; give a whole number"):
            train(load_settings({"HOME": str(tmp_path), "BLINK_FLAGS_TRAIN": "--epochs many"}))


RUN = "experiments/webqsp_all_ents/all_mention_biencoder_all_avg_true_20_{load}_{adversarial}_bert_large_qa_linear"


def make_run(load: str, adversarial: str, *, epochs: Mapping[int, str], start: Start | None = None) -> Path:
    """A run's folder with epochs as ``blink train`` or the original writes them, and, with ``start``, a checkpoint."""
    run = Path(RUN.format(load=load, adversarial=adversarial))
    for epoch, kind in epochs.items():
        folder = run / f"epoch_{epoch}"
        folder.mkdir(parents=True)
        if kind == "ours":
            (folder / "config.json").write_text('{"aggregation": "all_avg"}')
        else:
            (folder / "pytorch_model.bin").touch()
    (run / "training_params.txt").write_text("{'lowercase': True}" if start is None else json.dumps(asdict(start)))
    if start is not None:
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "step-000000100-0123456789abcdef.pt").touch()
    return run


class TestEpoch:
    @pytest.mark.parametrize("kind", ["ours", "original"])
    def test_goes_on_from_weights_with_the_epochs_that_are_left(self, kind: str, settings: ClusterSettings) -> None:
        run = make_run("true", "true", epochs={22: kind})
        plan = train(settings, epoch="22")
        flags = options(plan.steps[0].arguments)
        weights = run / "epoch_22" if kind == "ours" else run / "epoch_22" / "pytorch_model.bin"
        assert (flags["--path_to_model"], flags["--last_epoch"], flags["--num_train_epochs"]) == (str(weights), "22", "77")
        assert plan.models == ((run, 22),)
        check_models(plan)

    def test_the_encoder_flags_are_replaced(self, settings: ClusterSettings) -> None:
        for adversarial in ("true", "false"):
            flags = train_options(settings, epoch="3", adversarial=adversarial)
            assert flags["--freeze_cand_enc"] == flags["--adversarial_training"] == "true"
            assert "--load_cand_enc_only" not in flags

    @pytest.mark.parametrize("adversarial", ["true", "false"])
    def test_without_given_vectors_they_stay(self, adversarial: str, settings: ClusterSettings) -> None:
        flags = train_options(settings, epoch="3", load_saved_cand_encs="false", adversarial=adversarial)
        assert flags["--freeze_cand_enc"] == "false"
        assert ("--adversarial_training" in flags) == (adversarial == "true")

    def test_the_name_keeps_its_words(self, settings: ClusterSettings) -> None:
        (folder,) = train(settings, epoch="3", adversarial="false").writes
        assert str(folder) == RUN.format(load="true", adversarial="false")

    def test_a_run_that_was_stopped_goes_on_as_it_was_begun(self, settings: ClusterSettings) -> None:
        start = Start("models/biencoder_wiki_large.bin", True, True, True)
        run = make_run("true", "true", epochs={0: "ours", 1: "ours"}, start=start)
        for epoch in ("-1", "1"):
            plan = train(settings, epoch=epoch)
            flags = options(plan.steps[0].arguments)
            assert (flags["--path_to_model"], flags["--num_train_epochs"]) == ("models/biencoder_wiki_large.bin", "100")
            assert [step.kind for step in plan.steps] == ["train"]
            assert plan.notes == (f"{run} holds a run: going on from its newest checkpoint",)
        assert train(settings, epoch="1").models == ((run, 1),)

    def test_the_second_phase_begins(self, settings: ClusterSettings) -> None:
        run = make_run("true", "false", epochs={4: "ours"}, start=Start("models/biencoder_wiki_large.bin", True, True, False))
        plan = train(settings, epoch="4", adversarial="false")
        assert [step.kind for step in plan.steps] == ["remove", "train"]
        assert plan.steps[0].arguments == (str(run / "checkpoints" / "step-000000100-0123456789abcdef.pt"),)
        flags = options(plan.steps[1].arguments)
        assert (flags["--path_to_model"], flags["--adversarial_training"]) == (str(run / "epoch_4"), "true")
        assert not plan.notes

    def test_the_second_phase_goes_on(self, settings: ClusterSettings) -> None:
        start = Start(f"{RUN.format(load='true', adversarial='false')}/epoch_4", False, True, True, 4)
        make_run("true", "false", epochs={4: "ours", 5: "ours"}, start=start)
        for epoch in ("4", "5"):
            plan = train(settings, epoch=epoch, adversarial="false")
            assert [step.kind for step in plan.steps] == ["train"]
            flags = options(plan.steps[0].arguments)
            assert (flags["--path_to_model"], flags["--last_epoch"]) == (start.path_to_model, "4")
        with pytest.raises(SettingsError, match=r"gone on from epoch 4 with mined negatives.*argument 13 \(it holds 4, 5\)"):
            train(settings, adversarial="false")

    def test_no_epoch_is_left(self, settings: ClusterSettings) -> None:
        with pytest.raises(SettingsError, match="training has 100 epochs, 0 to 99, so none is left after epoch 99"):
            train(settings, epoch="99")

    def test_an_epoch_that_is_missing_is_told_with_those_that_are_there(self, settings: ClusterSettings) -> None:
        run = make_run("true", "true", epochs={2: "ours", 10: "original"})
        (run / "epoch_7").mkdir()
        assert epochs_of(run) == [2, 10]
        with pytest.raises(MissingFileError, match="holds no model of epoch 7; epochs that it holds: 2, 10"):
            check_models(train(settings, epoch="7"))
        with pytest.raises(MissingFileError, match="does not exist; train the model first"):
            check_models(train(settings, epoch="7", model_size="base"))


def check_models(plan: Plan) -> None:
    for path in plan.reads:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    check(plan)


class TestEncoding:
    WORDS = arguments_of(LINES["encode-base-10"])

    def test_model_of_the_whole_run(self, settings: ClusterSettings) -> None:
        run = Path("experiments/wiki_all_ents/all_mention_biencoder_all_avg_true_128_false_false_bert_base_qa_linear")
        plan = plan_encoding(read_encode_arguments([*self.WORDS[:-1], "-1"]), settings)
        assert plan.steps[0].arguments[0] == str(run / "pytorch_model.bin")
        assert plan.models == ((run, WHOLE_RUN),)

    def test_there_are_no_defaults(self) -> None:
        for i in range(len(self.WORDS)):
            with pytest.raises(SettingsError, match=rf"argument {i + 1}, {ENCODE_ARGUMENTS[i].name} \(.*\), is missing"):
                read_encode_arguments([*self.WORDS[:i], "", *self.WORDS[i + 1 :]])

    def test_a_folder_of_ours_is_copied_with_what_it_was_trained_with(self, settings: ClusterSettings) -> None:
        make_run("true", "true", epochs={3: "ours"})
        words = ["webqsp_all_ents", "all_avg", "true", "20", "true", "true", "large", "3"]
        copy, encode = plan_encoding(read_encode_arguments(words), settings).steps
        run, out = (
            RUN.format(load="true", adversarial="true"),
            "models/entity_encodings/webqsp_all_ents_all_avg_true_20_true_true",
        )
        assert copy.arguments == (f"{run}/epoch_3/.", f"{run}/training_params.txt", f"{out}_bert_large_qa_linear")
        assert options(encode.arguments)["--model"] == options(encode.arguments)["--out"] == f"{out}_bert_large_qa_linear"

    def test_both_encodes_what_it_has_trained(self, settings: ClusterSettings) -> None:
        steps = train(settings, objective="both").steps
        assert steps[1].arguments[0] == RUN.format(load="true", adversarial="true") + "/best/."

    def test_predict_encodes_an_epoch(self, settings: ClusterSettings) -> None:
        plan = train(settings, objective="predict", epoch="4")
        assert plan.steps[0].arguments[0].endswith("/epoch_4/pytorch_model.bin")
        assert [epoch_folder[1] for epoch_folder in plan.models] == [4]

    def test_copies_are_made_once_and_never_of_two_models(self, tmp_path: Path) -> None:
        source, out = tmp_path / "source", tmp_path / "out"
        source.mkdir()
        (source / "pytorch_model.bin").write_bytes(b"one")
        (source / "training_params.txt").write_text("{}")
        files = sorted(source.iterdir())
        copy_model(files, out)
        first = (out / "pytorch_model.bin").stat().st_mtime_ns
        (out / "0_9.t7").touch()
        (source / "training_params.txt").write_text('{"later": 1}')
        copy_model(files, out)
        assert (out / "pytorch_model.bin").stat().st_mtime_ns == first
        assert (out / "training_params.txt").read_text() == '{"later": 1}'
        (source / "pytorch_model.bin").write_bytes(b"two")
        with pytest.raises(SettingsError, match=r"holds 0_9\.t7 and perhaps more vectors of another model"):
            copy_model(files, out)
        assert (out / "pytorch_model.bin").read_bytes() == b"one"


class TestEvaluation:
    WORDS = arguments_of(LINES["eval-webqsp"])

    def plan(self, settings: ClusterSettings, *, gpu: bool = False, **changes: str) -> Plan:
        names = [w.name for w in EVAL_ARGUMENTS]
        words = self.WORDS + [""] * (len(names) - len(self.WORDS))
        for name, text in changes.items():
            words[names.index(name)] = text
        return plan_evaluation(read_eval_arguments(words), settings, gpu=gpu)

    def options(self, settings: ClusterSettings, *, gpu: bool = False, **changes: str) -> dict[str, str]:
        (step,) = self.plan(settings, gpu=gpu, **changes).steps
        parsed = script_flags.SCRIPT.parse(step.arguments)  # the script takes every flag
        assert parsed.get_predictions
        return options(step.arguments)

    @pytest.mark.parametrize(
        ("questions", "length"),
        [("nq", "32"), ("triviaqa", "256"), ("WebQSP_EL", None), ("graphquestions_EL", None), ("AIDA-YAGO2", None)],
    )
    def test_questions(self, questions: str, length: str | None, settings: ClusterSettings) -> None:
        flags = self.options(settings, test_questions=questions, subset="dev")
        assert flags["--test_mentions"] == f"data/{questions}/tokenized/dev.jsonl"
        assert flags.get("--max_context_length") == length

    def test_a_set_without_tokens(self, settings: ClusterSettings) -> None:
        plain = Path("data/WebQSP_EL/test.jsonl")
        plain.parent.mkdir(parents=True)
        plain.touch()
        assert self.options(settings)["--test_mentions"] == str(plain)

    @pytest.mark.parametrize(
        ("name", "folder", "epoch"),
        [
            (f"wiki_all_ents;{LARGE};15", f"experiments/wiki_all_ents/{LARGE}", 15),
            (f"wiki_all_ents;{LARGE};", f"experiments/wiki_all_ents/{LARGE}", WHOLE_RUN),
            (f"wiki_all_ents;{LARGE}", f"experiments/wiki_all_ents/{LARGE}", WHOLE_RUN),
            ("finetuned_webqsp_all_ents;f;0", "experiments/webqsp_all_ents/f", 0),
            ("finetuned_webqsp;f", "experiments/webqsp/f", WHOLE_RUN),
            ("graphqs_all_ents;f;2", "experiments/graphqs_all_ents/f", 2),
            ("some_name", "models/entity_encodings/some_name", WHOLE_RUN),
        ],
    )
    def test_models(self, name: str, folder: str, epoch: int, settings: ClusterSettings) -> None:
        assert model_location(name, settings) == (Path(folder), epoch)
        flags = self.options(settings, model_full=name)
        beneath = f"epoch_{epoch}/" if epoch != WHOLE_RUN else ""
        assert flags["--biencoder_model"] == f"{folder}/{beneath}pytorch_model.bin"
        assert flags["--biencoder_config"] == f"{folder}/training_params.txt"

    @pytest.mark.parametrize("name", ["zero_shot", "new_zero_shot", "zero_shot;;3"])
    def test_a_model_without_mention_head(self, name: str, settings: ClusterSettings) -> None:
        with pytest.raises(SettingsError, match="no mention head"):
            model_location(name, settings)

    @pytest.mark.parametrize("name", ["a;b;c", "a;b;1;2", ";b;1", "..;b", "a;..;1", "a;b;-1", ";"])
    def test_names_of_no_model(self, name: str, settings: ClusterSettings) -> None:
        with pytest.raises(SettingsError, match="give 'data;folder;epoch'"):
            model_location(name, settings)

    @pytest.mark.parametrize("where", ["best", "."])
    def test_a_model_of_ours(self, where: str, settings: ClusterSettings) -> None:
        folder = Path("experiments/wiki_all_ents") / LARGE / where
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"aggregation": "all_avg"}')
        (step,) = self.plan(settings, model_full=f"wiki_all_ents;{LARGE}").steps
        assert options(step.arguments)["--biencoder_model"] == str(folder)
        assert "--biencoder_config" not in step.arguments

    def test_ner_names_the_output_only(self, settings: ClusterSettings) -> None:
        one, other = (self.plan(settings, ner=word) for word in ("joint", "flair"))
        assert options(one.steps[0].arguments)["--do_ner"] == options(other.steps[0].arguments)["--do_ner"] == "joint_all_ents"
        assert "_flair0.0_top50" in str(other.writes[0])

    def test_thresholds(self, settings: ClusterSettings) -> None:
        changes = {"mention_classifier_threshold": "0.250", "top_k": "7", "final_thresholding": "top_joint_by_mention"}
        flags = self.options(settings, **changes)
        assert {f"--{name}": text for name, text in changes.items()}.items() <= flags.items()
        assert flags["--save_preds_dir"].endswith("_joint0.250_top7cands_final_top_joint_by_mention")

    @pytest.mark.parametrize(
        ("batch_size", "size", "ending"), [("", "64", "joint_0"), ("16", "16", "joint_0"), ("1", "1", "_realtime_test")]
    )
    def test_batch_size(self, batch_size: str, size: str, ending: str, settings: ClusterSettings) -> None:
        flags = self.options(settings, eval_batch_size=batch_size)
        assert flags["--eval_batch_size"] == size
        assert flags["--save_preds_dir"].endswith(ending)

    @pytest.mark.parametrize(("encoding", "file"), [("", "models/all_entities_large.t7"), ("my/all.t7", "my/all.t7")])
    def test_entity_encoding(self, encoding: str, file: str, settings: ClusterSettings) -> None:
        assert self.options(settings, entity_encoding=encoding)["--entity_encoding"] == file
        assert Path(file) in self.plan(settings, entity_encoding=encoding).reads

    def test_gpu(self, settings: ClusterSettings) -> None:
        assert "--use_cuda" in self.options(settings, gpu=True)
        assert "--use_cuda" not in self.options(settings)
        assert self.plan(settings).notes == ("there is no GPU here: evaluating on the CPU",)

    def test_a_gpu_is_seen_unless_it_is_hidden(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(launchers, "GPUS", ((str(tmp_path / "none"), "*"), (str(tmp_path), "nvidia[0-9]*")))
        (tmp_path / "nvidiactl").touch()
        assert not has_gpu()
        (tmp_path / "nvidia0").touch()
        assert has_gpu()
        for hidden in ("", "-1", "NoDevFiles"):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
            assert not has_gpu()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        assert has_gpu()

    def test_predictions_go_where_the_settings_say(self, tmp_path: Path) -> None:
        settings = load_settings({"HOME": str(tmp_path), "BLINK_PREDICTIONS_DIR": "/elsewhere/saved_preds"})
        assert str(self.plan(settings).writes[0]).startswith("/elsewhere/saved_preds/WebQSP_EL_test_wiki_all_ents;")

    def test_choices_are_those_of_the_script(self) -> None:
        assert set(FINAL_THRESHOLDING) == set(script_flags.FINAL_THRESHOLDING)


class TestMistakes:
    @pytest.mark.parametrize(
        ("name", "text", "allowed"),
        [
            ("data", "../secrets", "a name without slashes"), ("mention_agg_type", "avg", "all_avg, fl_avg"),
            ("mention_agg_type", "cls", "all_avg, fl_avg"), ("objective", "eval", "train, predict, both"),
            ("batch_size", "0", "at least 1"), ("batch_size", "many", "a whole number"),
            ("joint_mention_detection", "True", "true, false"), ("load_saved_cand_encs", "yes", "true, false"),
            ("adversarial", "1", "true, false"), ("context_length", "2", "at least 3"), ("model_size", "a/b", "slashes"),
            ("mention_scoring_method", "linear", "qa_linear, qa_mlp"), ("chunk_start", "-1", "at least 0"),
            ("chunk_end", "-2", "at least -1"), ("epoch", "-2", "at least -1"), ("eval_batch_size", "x", "a whole number"),
        ],
    )  # fmt: skip
    def test_a_word_that_is_not_allowed(self, name: str, text: str, allowed: str, settings: ClusterSettings) -> None:
        index = [w.name for w in TRAIN_ARGUMENTS].index(name) + 1
        with pytest.raises(
            SettingsError, match=rf"argument {index}, {name} \(.*\), is {re.escape(repr(text))}; allowed is .*{allowed}"
        ):
            train(settings, **{name: text})

    def test_an_unknown_size(self, settings: ClusterSettings) -> None:
        for objective in ("train", "predict"):
            with pytest.raises(SettingsError, match="model size is 'huge'; allowed are base, large"):
                train(settings, model_size="huge", objective=objective)

    @pytest.mark.parametrize("position", [1, 2, 5, 7, 8, 9, 10])
    def test_a_word_that_is_missing(self, position: int) -> None:
        with pytest.raises(
            SettingsError,
            match=rf"argument {position}, {TRAIN_ARGUMENTS[position - 1].name} \(.*\), is missing; the arguments are: data ",
        ):
            read_train_arguments([*WEBQSP[: position - 1], "", *WEBQSP[position:]])

    def test_a_word_too_many(self) -> None:
        with pytest.raises(SettingsError, match="'more' is one argument too many, of 9"):
            read_encode_arguments([*TestEncoding.WORDS, "more"])

    @pytest.mark.parametrize(("start", "end"), [("5", "5"), ("9", "3")])
    def test_an_empty_chunk(self, start: str, end: str, settings: ClusterSettings) -> None:
        with pytest.raises(SettingsError, match=f"is {start} to {end}; its end"):
            train(settings, objective="predict", chunk_start=start, chunk_end=end)

    @pytest.mark.parametrize(("text"), ["1.5", "-0.1", "nan", "x"])
    def test_no_probability(self, text: str, settings: ClusterSettings) -> None:
        with pytest.raises(SettingsError, match="a probability, from 0 to 1"):
            TestEvaluation().plan(settings, mention_classifier_threshold=text)

    def test_settings_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{'aggregation': __import__('os')}")
        assert read_parameters(tmp_path / "config.json") == {}
        assert not is_model_folder(tmp_path)
        assert model_of(tmp_path, WHOLE_RUN) is None


def run_script(script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env: dict[str, Any] = {
        **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        "CUDA_VISIBLE_DEVICES": "",
        **environment,
    }
    return subprocess.run(["bash", script, *words], env=env, capture_output=True, text=True, timeout=60, check=False)


class TestScripts:
    @pytest.mark.parametrize("name", LINES)
    def test_dry_run_says_what_will_be_done(self, name: str, tmp_path: Path, settings: ClusterSettings) -> None:
        script = next(word for word in shlex.split(LINES[name]) if word.endswith(".sh"))
        environment = {
            "BLINK_DRY_RUN": "1", "HOME": str(tmp_path), "BLINK_DATA_ROOT": "data", "BLINK_MODELS_DIR": str(tmp_path / "m"),
            "BLINK_EXPERIMENTS_DIR": str(tmp_path / "e"),
        }  # fmt: skip
        done = run_script(str(ROOT / script), *arguments_of(LINES[name]), **environment)
        assert (done.returncode, done.stderr) == (0, "")
        cluster = load_settings(environment)
        expected = plan_of(LINES[name], cluster).lines()
        assert done.stdout.splitlines() == [line.replace(" --use_cuda", "") for line in expected]
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("script", ["examples/train_biencoder.sh", "run_slurm.sh", "run_eval_all_ents_slurm.sh"])
    def test_from_anywhere_as_a_batch_job_would(self, script: str, tmp_path: Path) -> None:
        copy = tmp_path / "spool of Slurm" / "slurm_script"
        copy.parent.mkdir()
        copy.write_text((ROOT / script).read_text())
        for variable in ("SLURM_SUBMIT_DIR", "BLINK_ROOT"):
            done = run_script(str(copy), **{variable: str(ROOT)})
            assert done.returncode == 1
            assert done.stderr.startswith(f"{Path(script).name}: argument 1, ")
        done = run_script(str(copy), SLURM_SUBMIT_DIR=str(tmp_path))
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"this is not BLINK's folder: {tmp_path}; submit the script from there, or set BLINK_ROOT" in done.stderr

    def test_several_nodes(self, tmp_path: Path) -> None:
        srun = tmp_path / "srun"
        srun.write_text('#!/bin/sh\necho "$@"\n')
        srun.chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = run_script(str(ROOT / "examples/train_biencoder.sh"), "a", "b c", SLURM_NNODES="2", PATH=path)
        assert done.stdout.startswith("--kill-on-bad-exit=1 ")
        assert done.stdout.endswith("-m blink.compat.slurm train a b c\n")

    @pytest.mark.parametrize(
        ("settings", "processes"), [({}, 4), ({"BLINK_GPUS": "8"}, 8), ({"BLINK_PROCESSES": "1"}, 1), ({"BLINK_GPUS": "0"}, 1)]
    )
    def test_a_process_for_each_gpu_of_the_job(
        self, settings: dict[str, str], processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cluster = load_settings({"HOME": str(tmp_path), **settings})
        monkeypatch.setenv("SLURM_GPUS_ON_NODE", "4")
        assert with_gpus_of_job(cluster).slurm.processes_per_node == processes
        monkeypatch.delenv("SLURM_GPUS_ON_NODE")
        assert with_gpus_of_job(cluster) == cluster

    @pytest.mark.parametrize("script", ["examples/train_biencoder.sh", "run_slurm.sh", "run_eval_all_ents_slurm.sh"])
    def test_nothing_of_a_cluster_stands_in_a_script(self, script: str) -> None:
        text = (ROOT / script).read_text()
        options = re.findall(r"^#SBATCH --([\w-]+)", text, re.MULTILINE)
        assert set(options) == {"job-name", "output", "error", "open-mode", "requeue", "signal", "nodes", "ntasks-per-node"}
        assert os.access(ROOT / script, os.X_OK)

    def test_logs_have_a_folder(self) -> None:
        assert (ROOT / "log" / ".gitignore").is_file()

    def test_what_is_unknown(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["evaluate"]) == 2
        assert "'evaluate' is none of train, encode, eval" in capsys.readouterr().err

    def test_a_missing_file(self, settings: ClusterSettings, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        monkeypatch.setenv("HOME", str(Path.cwd()))
        monkeypatch.delenv("BLINK_CLUSTER", raising=False)
        assert main(["train", *WEBQSP]) == 1
        message = "data/webqsp_all_ents/train.jsonl does not exist; name the folder of the data sets by BLINK_DATA_ROOT"
        assert capsys.readouterr().err.startswith(f"train_biencoder.sh: {message}")
