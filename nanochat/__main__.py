"""``python -m nanochat``: the command line where there is no cli.py, as in an installed package."""

import sys

from nanochat.cli import main

if __name__ == "__main__":  # worker processes import this file, and must not start a run
    sys.exit(main())
