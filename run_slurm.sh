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
# Encodes the catalogue with a trained model, a job for each million entities, and joins their vectors. Submits jobs where
# there is a Slurm, and encodes right here where there is none.
#
#   bash run_slurm.sh wiki_all_ents all_avg true 128 false false base 10
#   BLINK_DRY_RUN=1 bash run_slurm.sh ...     says what it would read, write and run
#
# Arguments: data, mention_agg_type, joint detection, context_length, load_saved_cand_encs, adversarial, model_size (all as the
# model was trained with, see examples/train_biencoder.sh), epoch (-1 for the best).
#
# Vectors go into models/entity_encodings/..., with a copy of the model; what is finished is kept, what is missing is made.
#
# Partition, account, GPUs, CPUs, memory and time are those of your cluster: give them to sbatch, or once in cluster.ini
# (see examples/cluster.ini):  eval "$(blink slurm settings --export)"
# Where data, models and runs lie: [paths] there, or BLINK_DATA_ROOT, BLINK_MODELS_DIR, BLINK_EXPERIMENTS_DIR.
set -euo pipefail

# Batch jobs run a copy of this script that lies elsewhere: the project is where it was submitted, or where BLINK_ROOT says.
is_root() { [ -f "$1/blink/main_dense_all_ents.py" ]; }
root=${BLINK_ROOT:-}
if [ -z "$root" ]; then
  root=$(realpath -m "$(dirname "$(realpath "$0")")")
  is_root "$root" || root=${SLURM_SUBMIT_DIR:-$PWD}
fi
if ! is_root "$root"; then
  echo "run_slurm.sh: this is not BLINK's folder: $root; submit the script from there, or set BLINK_ROOT" >&2
  exit 1
fi
# What is named from where you are stays what it is.
if [ -n "${BLINK_CLUSTER:-}" ]; then
  BLINK_CLUSTER=$(realpath -m "$BLINK_CLUSTER")
  export BLINK_CLUSTER
fi
cd "$root"

python=${BLINK_PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3) || { echo "run_slurm.sh: no Python here; run make demo once, or set BLINK_PYTHON" >&2; exit 1; }
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m blink.compat.slurm encode "$@"
