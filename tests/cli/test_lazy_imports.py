"""Heavy libraries that no command needs are not imported."""

import subprocess
import sys

PROGRAM = """
import sys
from nanochat.cli import main
main(["fit", "--help"])
assert "torchmetrics" in sys.modules
print("loaded:", [name for name in ("matplotlib", "transformers") if name in sys.modules])
import matplotlib  # an explicit import still works
"""


def test_training_imports_no_plotting() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
