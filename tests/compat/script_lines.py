"""Lines of the original's README that call its shell scripts."""

from __future__ import annotations

import shlex

LARGE = "all_mention_biencoder_all_avg_true_128_true_true_bert_large_qa_linear"

LINES = {
    "train-webqsp": "sbatch examples/train_biencoder.sh webqsp_all_ents all_avg train 128 true 20 true true large qa_linear",
    "train-large-22": "sbatch examples/train_biencoder.sh wiki_all_ents all_avg train 32 true 128 true true large qa_linear "
    "0 -1 22 64",
    "train-base-10": "sbatch examples/train_biencoder.sh wiki_all_ents all_avg train 32 true 128 false false base qa_linear "
    "0 -1 10 64",
    "encode-base-10": "bash run_slurm.sh wiki_all_ents all_avg true 128 false false base 10",
    "encode-large-3": "bash run_slurm.sh wiki_all_ents all_avg true 128 false false large 3",
    "eval-webqsp": f"bash run_eval_all_ents_slurm.sh WebQSP_EL test 'wiki_all_ents;{LARGE};15' joint 0.0 50 joint_0",
    "eval-graphquestions": "CUDA_VISIBLE_DEVICES=0 bash run_eval_all_ents_slurm.sh graphquestions_EL test "
    f"'wiki_all_ents;{LARGE};15' joint 0.0 50 joint_0",
    "eval-nq": "bash run_eval_all_ents_slurm.sh nq dev 'finetuned_webqsp_all_ents;"
    "all_mention_biencoder_all_avg_true_20_true_true_bert_large_qa_linear' joint 0.25 100 joint_0 16",
}
"""Verbatim from the README of the original."""


def arguments_of(line: str) -> list[str]:
    """What a line passes to its script."""
    arguments = shlex.split(line)
    return arguments[next(i for i, argument in enumerate(arguments) if argument.endswith(".sh")) + 1 :]
