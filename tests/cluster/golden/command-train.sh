#!/bin/bash
#SBATCH --job-name=blink-train
#SBATCH --output=/lab/run/slurm/log/%A_%a.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --partition=learnfair
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=24
#SBATCH --mem=400G
#SBATCH --time=3000
#SBATCH --array=0

exec srun --unbuffered --cpus-per-task=24 --kill-on-bad-exit=1 python3 -m blink.apps.cli slurm task /lab/run/slurm
