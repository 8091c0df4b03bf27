"""The command line in a checkout: ``python cli.py fit --config configs/tiny.yaml``."""

import sys

from nanochat.virtualenv import continue_in_project_environment

if __name__ == "__main__":  # worker processes import this file, and must not start a run
    continue_in_project_environment()

    from nanochat.cli import main

    sys.exit(main())
