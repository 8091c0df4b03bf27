"""The one way in: ``python cli.py fit --config configs/tiny.yaml``."""

import sys

from nanochat.cli import main

if __name__ == "__main__":  # worker processes import this file, and must not start a run
    sys.exit(main())
