"""Makes an environment with the pinned dependencies: ``python scripts/install.py .venv``. Needs Python alone."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import urllib.request
import venv
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# torch's own index has builds without CUDA; the package index's default build for Linux brings gigabytes of it.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE = 5  # seconds to wait for that index; without it the package index serves


def has_nvidia_gpu() -> bool:
    """Whether NVIDIA's driver answers."""
    program = shutil.which("nvidia-smi")
    return program is not None and subprocess.run([program, "-L"], capture_output=True).returncode == 0


def reachable(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/torch/", timeout=PATIENCE):
            return True
    except OSError:
        return False


def install(target: Path) -> None:
    """Creates the environment and installs the project into it, with the test tools."""
    if sys.version_info < (3, 10):  # noqa: UP036 (whoever has an older one should hear it from us)
        sys.exit(f"nanochat needs Python 3.10 or newer, this is {platform.python_version()}")
    if find_spec("ensurepip") is None:  # Debian and Ubuntu have it in a package of its own
        sys.exit("this Python lacks what makes environments: `sudo apt install python3-venv` brings it")
    venv.create(target, with_pip=True, clear=False, upgrade_deps=False)
    python = target / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = ["-c", str(ROOT / "constraints.txt")]

    # macOS has no CUDA builds; only where there would be one is the other index worth a try
    if sys.platform != "darwin" and not has_nvidia_gpu() and reachable(CPU_INDEX):
        print("Installing torch without CUDA ...", flush=True)
        subprocess.run([*pip, "--no-deps", "torch", *pinned, "--index-url", CPU_INDEX])  # if it fails, the next serves
    print("Installing the dependencies ...", flush=True)
    subprocess.run([*pip, "-e", f"{ROOT}[dev]", *pinned], check=True)
    (target / ".ready").touch()


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1] if len(sys.argv) > 1 else ".venv"))
    except subprocess.CalledProcessError as error:
        sys.exit(f"the installation failed (pip ended with {error.returncode}); its message is above")
