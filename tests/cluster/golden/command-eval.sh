#!/bin/bash
#SBATCH --job-name=blink-eval
#SBATCH --output=/lab/scores/slurm/log/%A_%a.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --partition=learnfair
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=24
#SBATCH --mem=400G
#SBATCH --time=3000
#SBATCH --array=0-1

exec srun --unbuffered --cpus-per-task=24 python3 -m blink.apps.cli slurm task /lab/scores/slurm

#!/bin/bash
#SBATCH --job-name=blink-eval-merge
#SBATCH --output=/lab/scores/slurm/log/%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --partition=learnfair
#SBATCH --cpus-per-task=24
#SBATCH --mem=400G
#SBATCH --time=3000
#SBATCH --dependency=afterok:ARRAY
#SBATCH --kill-on-invalid-dep=yes

exec srun --unbuffered --cpus-per-task=24 python3 -m blink.apps.cli slurm task /lab/scores/slurm --merge
