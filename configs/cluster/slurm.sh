#!/bin/bash
# Trains on a SLURM cluster, and requeues itself when the job's time is up. From the project's folder:
#   sbatch configs/cluster/slurm.sh
# Arguments after the script's name are passed to `fit`: sbatch configs/cluster/slurm.sh --trainer.max_steps=1000
# docs/cluster.md explains the rest: downloading the text, watching, continuing, and what to do when something is wrong.

# ---- Edit from here ... ----------------------------------------------------------------------------------------------

# Nodes; GPUs of each, given twice because each GPU has its own task; cores for each task.
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=6

# How long the job may run before it is requeued. Short jobs often start sooner.
#SBATCH --time=08:00:00

# The job's name ("bash" and "interactive" are not possible) and its output: %j is the job's number.
#SBATCH --job-name=nanochat
#SBATCH --output=nanochat-%j.log

# If your cluster needs these, remove one #:
##SBATCH --partition=...
##SBATCH --account=...
##SBATCH --mem=...

# Before the time is up (300 seconds here) all tasks get SIGUSR1: they finish the step, save it and requeue the job. The
# time must suffice for a step, a validation and a checkpoint. ("B:SIGUSR1" would signal only this script.)
#SBATCH --signal=SIGUSR1@300
#SBATCH --requeue
#SBATCH --open-mode=append

config=configs/full.yaml
name=full # the run: lightning_logs/$name. The same name continues its last job, another one starts a new run

# The Python environment, and the folders of the text: on a disk that all nodes share, with enough space. Set the same two
# folders when downloading: export NANOCHAT_CACHE=... HF_HOME=...; python cli.py download ...
environment=.venv
export NANOCHAT_CACHE=${NANOCHAT_CACHE:-$HOME/.cache/nanochat}
export HF_HOME=${HF_HOME:-$HOME/.cache/huggingface}

# ---- ... to here -----------------------------------------------------------------------------------------------------

set -eo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
if [ ! -f cli.py ]; then
    echo "slurm.sh: there is no cli.py in $PWD: call sbatch from the project's folder" >&2
    exit 2
fi
if [ -f "$environment/bin/activate" ]; then
    source "$environment/bin/activate"
fi

export HF_HUB_OFFLINE=1 # compute nodes often have no network, and must not wait for one
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # since SLURM 22.05 srun does not take it from sbatch
# An array (sbatch --array=1-4 ...) is that many runs, each with its own name.
name=$name${SLURM_ARRAY_TASK_ID:+-$SLURM_ARRAY_TASK_ID}

# srun starts one process for each GPU, on all nodes; Lightning reads its rank and the main address from SLURM's variables.
# --ckpt_path=auto continues from the run's last checkpoint if there is one: after a requeue, or a new sbatch.
srun --kill-on-bad-exit=1 python cli.py fit --config "$config" --name="$name" --ckpt_path=auto \
    --trainer.accelerator=cuda --trainer.strategy=ddp \
    --trainer.num_nodes="$SLURM_NNODES" --trainer.devices="$SLURM_NTASKS_PER_NODE" "$@"
