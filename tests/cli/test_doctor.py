"""``doctor``: each check reports what it finds, and all of them run without any package."""

from __future__ import annotations

import errno
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanochat.cli import main
from nanochat.doctor import environment, packages, resources, system, torch_checks
from nanochat.doctor.all_checks import format_check, run_checks, verdict
from nanochat.doctor.check import NOTE, OK, PROBLEM, Check
from tests.cli.tools import ROOT, command

FACTS = {
    "version": "2.13.0",
    "capability": "AVX2",
    "features": ["AVX2"],
    "threads": 2,
    "machine": "x86_64",
    "float32_gflops": 100.0,
    "bfloat16_gflops": 20.0,
    "cuda_build": None,
    "cuda_says": "",
    "mps": False,
    "gpus": [],
}


def test_json() -> None:
    result = command("doctor", "--json", HF_HUB_OFFLINE="1")
    assert (result.returncode, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["ready"] is True
    checks = {check["name"]: check for check in told["checks"]}
    names = "Python, packages, processor, threads, speed, GPU, memory, disk, cache, compiler, hub, terminal, git"
    assert set(names.split(", ")) <= set(checks)
    assert checks["packages"]["facts"]["versions"]["torch"].startswith("2.")
    assert checks["speed"]["facts"]["float32_gflops"] > 0
    assert checks["threads"]["facts"]["torch_threads"] >= 1
    assert checks["hub"]["facts"]["offline"] is True


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of the project without an environment."""
    (tmp_path / "nanochat").symlink_to(ROOT / "nanochat")
    for name in ("cli.py", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path)
    return tmp_path


def without_packages(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with a Python that has no installed packages (-S), outside of any environment."""
    return subprocess.run(
        [os.path.realpath(sys.executable), "-S", *arguments],
        capture_output=True,
        text=True,
        timeout=250,
        cwd=checkout,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def test_without_packages(checkout: Path) -> None:
    result = without_packages(checkout, "cli.py", "doctor")
    assert result.returncode == 1
    assert result.stderr == ""
    assert "PROBLEM  packages" in result.stdout
    assert "lightning" in result.stdout
    assert "pip install" not in result.stdout  # into the system's Python
    assert "-> make setup" in result.stdout or "scripts/install.py .venv" in result.stdout
    assert "Not ready: packages" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_unused_environment_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/bash")
    venv.create(checkout / ".venv", symlinks=True)
    (checkout / ".venv" / ".ready").touch()
    result = without_packages(checkout, "-m", "nanochat", "doctor")  # which stays in its own Python
    words = " ".join(result.stdout.split())
    assert "note environment .venv is ready but not used: this is" in words
    advice = "-> activate it with `source .venv/bin/activate`, or run `.venv/bin/python cli.py`"
    assert words.count(advice) == 2  # for the environment, and for the packages
    assert "pip install" not in words


def test_environment_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "FOLDER", Path(sys.prefix))
    monkeypatch.setattr(environment, "python_command", lambda: "python")
    check = environment.environment()
    assert (check.status, check.advice) == (OK, "")
    assert check.found.endswith(", active")
    monkeypatch.setattr(environment, "python_command", lambda: ".venv/bin/python")
    check = environment.environment()
    assert check.status == OK
    assert "activate` makes `python` and `tensorboard`" in check.advice
    monkeypatch.setattr(environment, "FOLDER", tmp_path / "none")
    monkeypatch.setattr(environment.sys, "prefix", "/opt/conda")
    assert environment.environment().found == "/opt/conda"


def test_installation_advice(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(environment, "PROJECT", Path.cwd())
    monkeypatch.setattr(environment, "FOLDER", Path.cwd() / ".venv")
    monkeypatch.setattr(environment, "python_command", lambda: "python3")
    monkeypatch.setattr(environment, "is_virtual", lambda: False)
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    assert environment.installation_advice() == "python3 scripts/install.py .venv"
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert environment.installation_advice() == "make setup"
    (checkout / ".venv").mkdir()  # a set-up that was interrupted
    assert environment.installation_advice() == "make clean setup"
    monkeypatch.setattr(environment, "is_virtual", lambda: True)  # the user's own environment
    assert environment.installation_advice() == "python3 -m pip install -e . -c constraints.txt"
    monkeypatch.chdir(checkout.parent)
    here = Path(checkout.resolve().name)
    assert environment.installation_advice() == f"python3 -m pip install -e {here} -c {here / 'constraints.txt'}"
    monkeypatch.setattr(environment, "is_virtual", lambda: False)
    assert environment.installation_advice() == f"make -C {here} clean setup"


def test_other_commands_name_the_missing_package(checkout: Path) -> None:
    result = without_packages(checkout, "cli.py", "fit")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "is not installed" in result.stderr
    assert "doctor" in result.stderr


def test_failing_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_one.py").write_text("raise RuntimeError('an operator does not exist')")
    (tmp_path / "deadly_one.py").write_text("import os; os.kill(os.getpid(), 9)")
    (tmp_path / "good_one.py").write_text("")
    (tmp_path / "loud_one.py").write_text("print('[hello]'); print('\\n')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    errors = packages.import_errors(["good_one", "broken_one", "deadly_one", "json", "loud_one", "no_such_one"])
    assert sorted(errors) == ["broken_one", "deadly_one", "no_such_one"]
    assert errors["broken_one"] == "RuntimeError: an operator does not exist"
    assert "the process ends (-9)" in errors["deadly_one"]


def test_unfit_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.8.1", "lightning": "3.0", "numpy": "2.4.6", "psutil": None}
    monkeypatch.setattr(packages, "_version", versions.get)
    monkeypatch.setattr(packages, "import_errors", lambda modules: {})
    lines = ["torch>=2.9", "lightning>=2.6,<3", "numpy>=1.26", "psutil>=5.9"]
    good, bad = packages.packages([packages.parse(line) for line in lines])
    assert (good.status, good.facts["versions"]) == (OK, {"numpy": "2.4.6"})
    assert bad.status == PROBLEM
    assert "torch>=2.9 (2.8.1), lightning>=2.6,<3 (3.0), psutil" in bad.found


@pytest.mark.parametrize(
    ("version", "limits", "fits"),
    [
        ("2.13.0+cpu", ">=2.9", True),  # compared as numbers
        ("2.9", ">=2.9.0", True),
        ("2.8.9", ">=2.9", False),
        ("3.0.0", ">=2.6,<3", False),
        ("2.6.6", ">=2.6,<3", True),
        ("4.53.0", ">=4.40,<5", True),
        ("1.0", "==1.0.0", True),
        ("1.0", "!=1.0", True),  # an operator that is not evaluated raises no alarm
    ],
)
def test_versions(version: str, limits: str, fits: bool) -> None:
    assert packages.satisfies(version, packages.parse(f"some-package[extra]{limits}").limits) is fits


def test_requirements_of_the_project() -> None:
    found = {requirement.name: requirement for requirement in packages.requirements()}
    assert found["torch"].limits == ((">=", "2.9"),)
    assert found["jsonargparse"].limits == ((">=", "4.40"), ("<", "5"))
    assert "pytest" not in found
    assert len(found) > 15


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_memory", lambda: (16e9, 8e9))
    monkeypatch.setattr(resources, "memory_limit", lambda: None)
    assert resources.memory().status == OK
    monkeypatch.setattr(resources, "memory_limit", lambda: (900_000_000, 500_000_000))
    check = resources.memory()
    assert (check.status, check.found) == (PROBLEM, "500 MB free of 900 MB (container)")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "cpu_limit", lambda: None)
    monkeypatch.setattr(resources.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(resources, "physical_cores", lambda: 4)
    assert resources.threads(4).status == OK
    assert "OMP_NUM_THREADS=4" in resources.threads(1).advice
    monkeypatch.setattr(resources, "cpu_limit", lambda: 2.0)
    check = resources.threads(4)
    assert (check.status, check.advice) == (NOTE, "more threads than cores: set OMP_NUM_THREADS=2")
    assert "2 of 8 processors allowed" in check.found


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: _Usage(5e8))
    check = resources.disk("disk", tmp_path / "not" / "yet", "go elsewhere")
    assert (check.status, check.advice[-17:]) == (PROBLEM, ", or go elsewhere")
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: _Usage(5e10))
    assert resources.disk("disk", tmp_path, "").status == OK


def test_unwritable_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = os.access
    monkeypatch.setattr(resources.os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    monkeypatch.setattr(packages, "packages", lambda wanted: [])
    monkeypatch.setattr(torch_checks, "probe_torch", dict)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    disks = {check.name: check for check in run_checks(tmp_path) if check.name.endswith("disk")}
    assert (disks["disk"].status, disks["disk"].advice) == (PROBLEM, "give --trainer.default_root_dir another folder")
    assert (disks["cache disk"].status, disks["cache disk"].advice) == (PROBLEM, "set NANOCHAT_CACHE to another folder")


class _Usage:
    def __init__(self, free: float) -> None:
        self.free = free


def test_unwritable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NANOCHAT_CACHE", str(tmp_path / "file" / "cache"))
    check = system.cache()
    assert (check.status, check.advice) == (PROBLEM, "set NANOCHAT_CACHE to a folder of your own")


def test_cache_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_CACHE", str(tmp_path))
    assert system.cache().status == OK

    def full(*args: object, **options: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(system.tempfile, "TemporaryFile", full)
    assert "is not writable (No space left on device)" in system.cache().found
    assert not any(tmp_path.iterdir())


def test_without_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.setattr(packages, "packages", lambda wanted: [])
    monkeypatch.setattr(torch_checks, "probe_torch", dict)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    checks = {check.name: check for check in run_checks(tmp_path)}
    assert (checks["cache"].status, checks["cache"].found) == (PROBLEM, "this user has no home folder")
    assert checks["cache"].advice == "set NANOCHAT_CACHE to a folder of your own"


@pytest.fixture
def hub() -> Iterator[http.server.ThreadingHTTPServer]:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(int(self.path.strip("/") or 200))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_hub(hub: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{hub.server_port}"
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for path, status in (("", OK), ("/401", OK), ("/503", NOTE)):
        monkeypatch.setenv("HF_ENDPOINT", address + path)
        assert system.hub(60).status == status, path
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    check = system.hub()
    assert (check.status, check.facts["reachable"]) == (NOTE, False)
    monkeypatch.setenv("HF_ENDPOINT", "no address at all")
    assert system.hub().status == NOTE
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check = system.hub()
    assert (check.status, check.found) == (OK, "not checked, as HF_HUB_OFFLINE is set")


def test_unusable_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_checks, "nvidia_driver", lambda: None)
    assert torch_checks.gpu(FACTS).status == OK
    monkeypatch.setattr(torch_checks, "nvidia_driver", lambda: "570.1")
    assert "the build for CPUs" in torch_checks.gpu(FACTS).advice
    assert "CUDA 13.0" in torch_checks.gpu({**FACTS, "cuda_build": "13.0"}).advice
    gpu = {"name": "H100", "free_bytes": 80e9, "total_bytes": 85e9}
    check = torch_checks.gpu({**FACTS, "cuda_build": "13.0", "gpus": [gpu]})
    assert (check.status, check.found) == (OK, "H100 (80.0 GB free), CUDA 13.0, driver 570.1")


def test_slow_processor_and_missing_torch() -> None:
    assert torch_checks.processor(FACTS).status == OK
    assert torch_checks.processor({**FACTS, "features": []}).status == NOTE
    assert torch_checks.processor({**FACTS, "features": [], "machine": "arm64"}).status == OK
    assert torch_checks.speed({**FACTS, "float32_gflops": 3.0}).status == NOTE
    for check in (torch_checks.processor, torch_checks.speed, torch_checks.gpu):
        assert check({}).status == NOTE
        assert "too busy" in check({}).advice  # there is a line of torch only where it is broken


def test_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert system.compiler().status == NOTE
    assert "CXX=no-such-compiler does not exist" in system.compiler().found
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no C++ compiler" in system.compiler().found
    assert system.git().status == NOTE


def test_ascii_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", type("Ascii", (), {"encoding": "ascii", "isatty": lambda self: False})())
    check = system.terminal()
    assert (check.status, check.advice) == (NOTE, "set PYTHONUTF8=1")


def test_width_and_verdict() -> None:
    check = Check("a name too long", PROBLEM, "words " * 30, "what to do " * 10)
    assert max(map(len, format_check(check, 60).splitlines())) <= 60
    assert verdict([Check("a", OK, "")]) == "Ready to train."
    assert verdict([Check("a", NOTE, ""), Check("b", OK, "")]) == "Ready to train. Worth a look: a."
    assert verdict([Check("a", NOTE, ""), Check("b", PROBLEM, "")]).startswith("Not ready: b.")


def test_bad_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--jsn"]) == 2
    assert "there is no option --jsn, did you mean --json?" in capsys.readouterr().err
