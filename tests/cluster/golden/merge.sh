#!/bin/bash
#SBATCH --job-name=blink-encode-merge
#SBATCH --output=/kb/slurm/log/%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --partition=learnfair
#SBATCH --account=nlp
#SBATCH --qos=low
#SBATCH --constraint=volta32gb
#SBATCH --cpus-per-task=24
#SBATCH --mem=400G
#SBATCH --time=3000
#SBATCH --dependency=afterok:12:15
#SBATCH --kill-on-invalid-dep=yes

module load cuda
source ~/env/bin/activate

exec srun --unbuffered --cpus-per-task=24 python3 -m blink.apps.cli slurm task /kb/slurm --merge
