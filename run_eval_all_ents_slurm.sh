#!/usr/bin/env bash
#SBATCH --job-name=run_eval_all_ents
#SBATCH --output=log/%j.out
#SBATCH --error=log/%j.err
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#
# Links a question set with a trained model and evaluates it. With bash on this machine, or with sbatch.
#
#   bash run_eval_all_ents_slurm.sh WebQSP_EL test 'wiki_all_ents;all_mention_biencoder_all_avg_true_128_true_true_bert_large_qa_linear;15' joint 0.0 50 joint_0
#   BLINK_DRY_RUN=1 bash run_eval_all_ents_slurm.sh ...     prints what it would read, write and run
#
#   1 test_questions       folder of the data root: WebQSP_EL, graphquestions_EL, nq, ...
#   2 subset               file in it, tokenized/SUBSET.jsonl
#   3 model_full           'data;folder;epoch' of experiments/, without epoch the best; or a name in models/entity_encodings/
#   4 ner                  part of the name of the output
#   5 mention threshold    probability
#   6 top_k                most mentions per text
#   7 final_thresholding   joint, joint_0, top_joint_by_mention, top_entity_by_mention
#   8 eval_batch_size                                                                         [64]
#   9 entity_encoding      vectors                                                            [models/all_entities_large.t7]
#
# Predictions go into saved_preds/. A GPU is used where there is one.
#
# Partition, account, GPUs, CPUs, memory and time are those of your cluster: give them to sbatch, or once in cluster.ini
# (see examples/cluster.ini):  eval "$(blink slurm settings --export)"
# Folders of data, models and runs: [paths] there, or BLINK_DATA_ROOT, BLINK_MODELS_DIR, BLINK_EXPERIMENTS_DIR.
set -euo pipefail

# A batch job runs a copy of this script in Slurm's spool: the project is then the folder of submission, or BLINK_ROOT.
name=run_eval_all_ents_slurm.sh marker=blink/main_dense_all_ents.py
root=${BLINK_ROOT:-$(realpath -m "$(dirname "$(realpath "$0")")")}
[ -n "${BLINK_ROOT:-}" ] || [ -f "$root/$marker" ] || root=${SLURM_SUBMIT_DIR:-$PWD}
if [ ! -f "$root/$marker" ]; then
  echo "$name: this is not BLINK's folder: $root; submit the script from there, or set BLINK_ROOT" >&2
  exit 1
fi
. "$root/blink/compat/slurm/launch.sh"
exec "$python" -m blink.compat.slurm eval "$@"
