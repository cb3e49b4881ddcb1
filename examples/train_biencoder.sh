#!/usr/bin/env bash
#SBATCH --job-name=train_biencoder
#SBATCH --output=log/%j.out
#SBATCH --error=log/%j.err
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#
# Trains the linker, or encodes entities with a trained one. With sbatch, or with bash on this machine.
#
#   sbatch examples/train_biencoder.sh webqsp_all_ents all_avg train 128 true 20 true true large qa_linear
#   BLINK_DRY_RUN=1 bash examples/train_biencoder.sh ...     prints what it would read, write and run
#
#   1 data                 folder of the data root with train.jsonl, and valid.jsonl or dev.jsonl
#   2 mention_agg_type     all_avg, fl_avg, all_avg_linear, fl_linear, all_mlp, fl_mlp, none, none_no_mentions
#   3 objective            train, predict (encode entities), both                            [both]
#   4 batch_size           texts, or entities, per batch                                     [32; 128 for pretrain]
#   5 joint detection      true: the model detects mentions
#   6 context_length       longest text, in tokens                                           [128]
#   7 load_saved_cand_encs true: entity vectors are BLINK's and frozen; false: their encoder is trained
#   8 adversarial          true: negatives are mined
#   9 model_size           base, large, or a size of your own in [sizes] of cluster.ini
#  10 mention scorer       qa_linear, qa_mlp
#  11 chunk_start, 12 chunk_end   rows that predict encodes; end -1 is the last               [0 1000000]
#  13 epoch                continue after it; -1 starts a run, or continues a stopped one       [-1]
#  14 eval_batch_size                                                                         [32]
#
# A run goes into experiments/DATA/all_mention_biencoder_..., one model an epoch. It is saved and queued again before its
# time limit.
#
# Partition, account, GPUs, CPUs, memory and time are those of your cluster: give them to sbatch, or once in cluster.ini
# (see examples/cluster.ini):  eval "$(blink slurm settings --export)"
# Folders of data, models and runs: [paths] there, or BLINK_DATA_ROOT, BLINK_MODELS_DIR, BLINK_EXPERIMENTS_DIR.
set -euo pipefail

# A batch job runs a copy of this script in Slurm's spool: the project is then the folder of submission, or BLINK_ROOT.
name=train_biencoder.sh marker=blink/main_dense_all_ents.py
root=${BLINK_ROOT:-$(realpath -m "$(dirname "$(realpath "$0")")/..")}
[ -n "${BLINK_ROOT:-}" ] || [ -f "$root/$marker" ] || root=${SLURM_SUBMIT_DIR:-$PWD}
if [ ! -f "$root/$marker" ]; then
  echo "$name: this is not BLINK's folder: $root; submit the script from there, or set BLINK_ROOT" >&2
  exit 1
fi
. "$root/blink/compat/slurm/launch.sh"
# On several nodes, once on each.
on_each=()
if [ "${SLURM_NNODES:-1}" -gt 1 ]; then on_each=(srun --kill-on-bad-exit=1); fi
exec "${on_each[@]}" "$python" -m blink.compat.slurm train "$@"
