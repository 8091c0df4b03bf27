"""``python -m nanochat``: the command line of an installed package, which has no ``cli.py``."""

import sys

from nanochat.cli import main

if __name__ == "__main__":  # worker processes import this file and must not start a run
    sys.exit(main())
