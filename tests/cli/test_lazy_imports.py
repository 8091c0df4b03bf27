"""Libraries that no command asks for are not loaded."""

import subprocess
import sys

PROGRAM = """
import sys
from nanochat.cli import main
main(["fit", "--help"])
assert "torchmetrics" in sys.modules
print("loaded:", [name for name in ("matplotlib", "transformers") if name in sys.modules])
import matplotlib  # who asks for it by name finds it
"""


def test_training_loads_nothing_to_draw_with() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
