"""Where the runs of a command line are: lightning_logs/<name>[-<stage>]/version_N."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat.cli.stages import run_name
from nanochat.runs import RUNS


@dataclass(frozen=True)
class RunFolders:
    """The folders that a parsed configuration names.

    Attributes:
        root: lightning_logs.
        name: the run's name, with its stage.
        version: the N of version_N that the user has given; None if any.
    """

    root: Path
    name: str
    version: int | None

    @classmethod
    def of(cls, config: Any, stage: str) -> RunFolders:
        """The folders for the configuration of a subcommand."""
        root = Path(config.trainer.default_root_dir or ".", RUNS)
        return cls(root, run_name(config.name, stage), config.get("version"))

    @property
    def versions(self) -> Path:
        """The folder of all runs of this name and stage."""
        return self.root / self.name

    @property
    def pattern(self) -> str:
        """The folder of the run that is meant, or a pattern for all."""
        return "version_*" if self.version is None else f"version_{self.version}"
