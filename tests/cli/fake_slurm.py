"""A stand-in for SLURM on one machine: a job's variables, ``srun`` and ``scontrol``.

Run as ``srun`` it starts the tasks of all nodes here, each with the variables that tell it who it is, and answers for
them with the worst of their exit statuses. Run as ``scontrol`` it writes down what it was asked.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path


def install(folder: Path) -> Path:
    """Makes the two commands, for a PATH; beside them lie ``pids`` and ``asked``, which they write."""
    folder.mkdir(parents=True)
    ours = f"{sys.executable} {__file__} {folder}"
    for name, what in (("srun", f"{ours} srun"), ("scontrol", f"{ours} scontrol"), ("python", sys.executable)):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {what} "$@"\n')
        script.chmod(0o755)
    return folder


def job(folder: Path, nodes: int, tasks: int, number: int = 4001, **more: str) -> dict[str, str]:
    """The environment of a job with ``nodes`` nodes and tasks on each; every node is this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "MASTER_"))}
    return {
        **kept,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": str(number),
        "SLURM_JOB_NAME": "nanochat",
        "SLURM_NNODES": str(nodes),
        "SLURM_NTASKS": str(nodes * tasks),
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "SLURM_NODELIST": "127.0.0.[1-2]" if nodes > 1 else "127.0.0.1",
        **more,
    }


def free_number() -> int:
    """A job's number from which Lightning makes a port that is free: 15000 and the last four digits."""
    while True:
        number = random.randint(0, 9999)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", 15000 + number))
            return 70000 + number


def srun(folder: Path, arguments: list[str]) -> int:
    while arguments[0].startswith("--"):
        arguments = arguments[1:]
    tasks = int(os.environ["SLURM_NTASKS_PER_NODE"])
    processes = []
    for number in range(int(os.environ["SLURM_NTASKS"])):
        who = {"SLURM_PROCID": number, "SLURM_LOCALID": number % tasks, "SLURM_NODEID": number // tasks}
        more = {name: str(value) for name, value in who.items()}
        # each node of a test may have folders of its own: NODE_0_NANOCHAT_CACHE, NODE_1_...
        prefix = f"NODE_{who['SLURM_NODEID']}_"
        more |= {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix)}
        processes.append(subprocess.Popen(arguments, env={**os.environ, **more}))
    (folder / "pids.part").write_text(" ".join(str(process.pid) for process in processes))
    (folder / "pids.part").replace(folder / "pids")
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):  # --kill-on-bad-exit
            time.sleep(5)
            for process in processes:
                process.kill()
        time.sleep(0.1)
    return max(abs(process.wait()) for process in processes)


if __name__ == "__main__":
    here, command = Path(sys.argv[1]), sys.argv[2]
    if command == "srun":
        sys.exit(srun(here, sys.argv[3:]))
    with open(here / "asked", "a") as file:
        file.write(" ".join(sys.argv[3:]) + "\n")
