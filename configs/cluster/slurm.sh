#!/bin/bash
# Trains on a SLURM cluster, and goes on by itself when the job's time is up. From the project's folder:
#   sbatch configs/cluster/slurm.sh
# What comes after the script's name is passed on to `fit`: sbatch configs/cluster/slurm.sh --trainer.max_steps=1000
# docs/cluster.md tells the rest: fetching the text beforehand, watching, going on, what to do when something is wrong.

# ---- Edit from here ... ----------------------------------------------------------------------------------------------

# Nodes; GPUs of each, said twice, as each GPU is served by one task; cores for each task.
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=6

# How long the job may run before it makes room for others and queues again. Short jobs often start sooner.
#SBATCH --time=08:00:00

# The job's name ("bash" and "interactive" are not possible) and its output: %j is the job's number.
#SBATCH --job-name=nanochat
#SBATCH --output=nanochat-%j.log

# If your cluster wants them, take away one #:
##SBATCH --partition=...
##SBATCH --account=...
##SBATCH --mem=...

# Before the time is up (300 seconds here) all tasks get SIGUSR1: they finish the step, save it and requeue the job. It
# must be enough for a step, a validation and a checkpoint. (Not "B:SIGUSR1", which would tell this script alone.)
#SBATCH --signal=SIGUSR1@300
#SBATCH --requeue
#SBATCH --open-mode=append

config=configs/full.yaml
name=full # the run: lightning_logs/$name. The same name goes on where its last job stopped, another one begins anew

# The Python environment, and where the text lies: a disk that all nodes share, with room for it. The same two folders
# must be set when it is fetched: export NANOCHAT_CACHE=... HF_HOME=...; python cli.py download ...
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

export HF_HUB_OFFLINE=1 # compute nodes often have no network, and should not wait for one
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun does not take it from sbatch by itself (since SLURM 22.05)
# An array (sbatch --array=1-4 ...) is as many runs, each with a name of its own.
name=$name${SLURM_ARRAY_TASK_ID:+-$SLURM_ARRAY_TASK_ID}

# srun starts one process for each GPU, on all nodes; Lightning reads from SLURM's variables which one it is, and where
# they meet. --ckpt_path=auto goes on from the run's last checkpoint if it has one: after a requeue, or a new sbatch.
srun --kill-on-bad-exit=1 python cli.py fit --config "$config" --name="$name" --ckpt_path=auto \
    --trainer.accelerator=cuda --trainer.strategy=ddp \
    --trainer.num_nodes="$SLURM_NNODES" --trainer.devices="$SLURM_NTASKS_PER_NODE" "$@"
