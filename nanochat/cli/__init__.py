"""The command line: ``python cli.py COMMAND``, or ``nanochat COMMAND`` once installed."""

from nanochat.cli.main import main

__all__ = ["main"]
