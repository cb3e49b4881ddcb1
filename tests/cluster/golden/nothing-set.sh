#!/bin/bash
#SBATCH --job-name=blink-encode
#SBATCH --output=/kb/slurm/log/%A_%a.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --array=0-2

exec srun --unbuffered python3 -m blink.apps.cli slurm task /kb/slurm
