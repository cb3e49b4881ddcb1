#!/usr/bin/env bash
#SBATCH --job-name=run_slurm
#SBATCH --output=log/%j.out
#SBATCH --error=log/%j.err
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#
# Encodes the catalogue with a trained model, a job for each million entities, and joins their vectors. Submits Slurm jobs,
# or encodes on this machine where there is no Slurm.
#
#   bash run_slurm.sh wiki_all_ents all_avg true 128 false false base 10
#   BLINK_DRY_RUN=1 bash run_slurm.sh ...     prints what it would read, write and run
#
# Arguments: data, mention_agg_type, joint detection, context_length, load_saved_cand_encs, adversarial, model_size (all as the
# model was trained with, see examples/train_biencoder.sh), epoch (-1 for the best).
#
# Vectors go into models/entity_encodings/..., with a copy of the model; existing shards are kept, missing ones are encoded.
#
# Partition, account, GPUs, CPUs, memory and time are those of your cluster: give them to sbatch, or once in cluster.ini
# (see examples/cluster.ini):  eval "$(blink slurm settings --export)"
# Folders of data, models and runs: [paths] there, or BLINK_DATA_ROOT, BLINK_MODELS_DIR, BLINK_EXPERIMENTS_DIR.
set -euo pipefail

# A batch job runs a copy of this script in Slurm's spool: the project is then the folder of submission, or BLINK_ROOT.
name=run_slurm.sh marker=blink/main_dense_all_ents.py
root=${BLINK_ROOT:-$(realpath -m "$(dirname "$(realpath "$0")")")}
[ -n "${BLINK_ROOT:-}" ] || [ -f "$root/$marker" ] || root=${SLURM_SUBMIT_DIR:-$PWD}
if [ ! -f "$root/$marker" ]; then
  echo "$name: this is not BLINK's folder: $root; submit the script from there, or set BLINK_ROOT" >&2
  exit 1
fi
. "$root/blink/compat/slurm/launch.sh"
exec "$python" -m blink.compat.slurm encode "$@"
