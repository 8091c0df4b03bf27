"""Creates a virtual environment with the pinned dependencies: ``python scripts/install.py .venv``.

Needs Python alone. Uses uv where it is installed: that takes seconds, and pip minutes.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# PyTorch's own index has builds without CUDA; PyPI's default build for Linux downloads gigabytes of it.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
INDEX_TIMEOUT = 5  # seconds; if that index does not answer, PyPI's build is installed
WINDOWS = sys.platform == "win32"


def has_nvidia_gpu() -> bool:
    """Whether NVIDIA's driver lists a GPU."""
    program = shutil.which("nvidia-smi")
    return program is not None and subprocess.run([program, "-L"], capture_output=True).returncode == 0


def is_reachable(index: str) -> bool:
    """Whether a package index answers."""
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=INDEX_TIMEOUT):
            return True
    except OSError:
        return False


def create_with_uv(uv: str, target: Path) -> list[str]:
    """Creates the environment with uv; returns the command that installs packages into it."""
    # with pip in it (--seed), which the documentation uses
    subprocess.run(
        [uv, "venv", "--quiet", "--seed", "--allow-existing", "--python", sys.executable, target], check=True
    )
    return [uv, "pip", "install", "--quiet", "--python", str(python_of(target))]


def create_with_venv(target: Path) -> list[str]:
    """Creates the environment with Python's own venv; returns the command that installs packages into it."""
    if find_spec("venv") is None or find_spec("ensurepip") is None:  # Debian and Ubuntu package them separately
        sys.exit("this Python has no `venv` module: `sudo apt install python3-venv` installs it")
    import venv

    venv.create(target, with_pip=True)
    return [str(python_of(target)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def python_of(environment: Path) -> Path:
    """The path of an environment's interpreter."""
    return environment / ("Scripts/python.exe" if WINDOWS else "bin/python")


def install_packages(install: Sequence[str]) -> None:
    """Installs the project and its development tools with a command such as ``pip install``."""
    pinned = ["-c", str(ROOT / "constraints.txt")]
    # macOS has no CUDA builds, so its default build is the right one.
    if sys.platform != "darwin" and not has_nvidia_gpu() and is_reachable(CPU_INDEX):
        print("Installing torch without CUDA ...", flush=True)
        # If this fails, the next command installs the default build.
        subprocess.run([*install, "--no-deps", "torch", *pinned, "--index-url", CPU_INDEX])
    print("Installing the dependencies ...", flush=True)
    subprocess.run([*install, "-e", f"{ROOT}[dev]", *pinned], check=True)


def install(target: Path) -> None:
    """Creates the environment and installs the project into it."""
    if sys.version_info < (3, 10):  # noqa: UP036 (users of an older Python should read this instead of a traceback)
        newer = "start this with a newer one, as `PYTHON=python3.12 make setup` does"
        sys.exit(f"nanochat needs Python 3.10 or newer, and this is {platform.python_version()}: {newer}")
    uv = shutil.which("uv")
    try:
        if uv is None or not install_with_uv(uv, target):
            install_packages(create_with_venv(target))
    except subprocess.CalledProcessError as error:
        sys.exit(f"the installation failed (pip ended with {error.returncode}); its message is above")
    (target / ".ready").touch()


def install_with_uv(uv: str, target: Path) -> bool:
    """Installs with uv; returns whether that succeeded: pip may be configured for a proxy or an index, and uv not."""
    try:
        install_packages(create_with_uv(uv, target))
    except subprocess.CalledProcessError as error:
        print(f"uv ended with {error.returncode}; its message is above. Continuing with pip ...", flush=True)
        return False
    return True


if __name__ == "__main__":
    install(Path(sys.argv[1] if len(sys.argv) > 1 else ".venv"))
