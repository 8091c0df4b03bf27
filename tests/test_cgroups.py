"""Memory and CPU limits of containers, in both versions of control groups and at any level of the tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanochat.cgroups import cpu_limit, memory_limit

V1 = "4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n0::/\n"
V1_CPU = {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}
NONE = str(2**63 - 4096)


@pytest.mark.parametrize(
    ("membership", "files", "memory", "cores"),
    [
        pytest.param(
            "0::/\n",
            {"memory.max": "2000", "memory.current": "500", "cpu.max": "150000 100000"},
            (2000, 1500),
            1.5,
            id="container whose own group is the root",
        ),
        pytest.param(
            "0::/\n",
            {"memory.max": "max", "memory.current": "500", "cpu.max": "max 100000"},
            None,
            None,
            id="no limit",
        ),
        pytest.param(
            "0::/slurm/job_1/step_0\n",
            {
                "slurm/job_1/memory.max": "4000",
                "slurm/job_1/memory.current": "1000",
                "slurm/job_1/step_0/memory.max": "max",
                "slurm/job_1/step_0/memory.current": "900",
                "slurm/cpu.max": "400000 100000",
                "slurm/job_1/cpu.max": "200000 100000",
            },
            (4000, 3000),
            2.0,
            id="limit of a parent group",
        ),
        pytest.param(
            V1,
            {
                "memory/docker/1f/memory.limit_in_bytes": "4000",
                "memory/docker/1f/memory.usage_in_bytes": "1000",
                **{f"cpu,cpuacct/docker/1f/{name}": value for name, value in V1_CPU.items()},
            },
            (4000, 3000),
            0.5,
            id="version 1",
        ),
        pytest.param(
            V1,
            {
                "memory/memory.limit_in_bytes": "4000",
                "memory/memory.usage_in_bytes": "1000",
                **{f"cpu/{name}": value for name, value in V1_CPU.items()},
            },
            (4000, 3000),
            0.5,
            id="version 1 in a container that cannot see the named group",
        ),
        pytest.param(V1, {"memory/memory.limit_in_bytes": NONE, "memory/memory.usage_in_bytes": "1"}, None, None),
        pytest.param(
            "0::/\n",
            {
                "memory.max": "4000",
                "memory.current": "3900",
                "memory.stat": "anon 900\ninactive_file 2500\nactive_file 500",
            },
            (4000, 2600),
            None,
            id="inactive file cache counts as available",
        ),
        pytest.param("", {}, None, None, id="no membership"),
    ],
)
def test_smallest_limit_of_all_levels(
    membership: str, files: dict[str, str], memory: object, cores: object, tmp_path: Path
) -> None:
    (tmp_path / "self").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert memory_limit(tmp_path / "cgroup", tmp_path / "self") == memory
    assert cpu_limit(tmp_path / "cgroup", tmp_path / "self") == cores


def test_no_limit_without_cgroups(tmp_path: Path) -> None:
    assert memory_limit(tmp_path, tmp_path / "missing") is None
    assert cpu_limit(tmp_path, tmp_path / "missing") is None
