"""A model's lineage: the training runs that led to it, each started from the weights of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nanochat.runs import CHECKPOINTS, RUNS, STAGES, Run, find_runs, read_run

LABELS = {"pretrain": "BASE", "middle": "MIDDLE", "chat": "CHAT", "reinforce": "RL"}
MAIN_LABELS = ("BASE", "CHAT", "RL")  # columns of every report card, with or without a run


@dataclass(frozen=True)
class LineageStage:
    """One run of a lineage.

    Attributes:
        run: the run.
        label: "BASE", "MIDDLE", "CHAT" or "RL", followed by a number from the second run of a stage on ("CHAT 2").
        by_name: whether the run records no starting weights, so that its parent was inferred from the runs' names.
        missing_parent: the checkpoint or run that it started from, if that run no longer exists.
    """

    run: Run
    label: str = ""
    by_name: bool = False
    missing_parent: str | None = None

    @property
    def kind(self) -> str:
        """The label without its number."""
        return LABELS.get(self.run.stage, self.run.stage.upper())


@dataclass(frozen=True)
class Lineage:
    """A model's stages in training order.

    Attributes:
        name: of the model.
        folder: the default folder of its report.
        stages: at least one.
        missing_labels: those of :data:`MAIN_LABELS` without a run.
    """

    name: str
    folder: Path
    stages: tuple[LineageStage, ...]
    missing_labels: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        present = {stage.kind for stage in self.stages}
        object.__setattr__(self, "missing_labels", tuple(label for label in MAIN_LABELS if label not in present))

    def last(self, kind: str) -> LineageStage | None:
        """The last stage of a kind ("BASE", "MIDDLE", "CHAT" or "RL"); None if there is none."""
        return next((stage for stage in reversed(self.stages) if stage.kind == kind), None)


def find_lineage(root: str | Path = ".", name: str | None = None) -> Lineage:
    """The lineage of a model: a run, its ancestors and its descendants.

    Args:
        root: the folder that contains lightning_logs.
        name: the name of the model's runs ("tiny" covers all stages of tiny, and the newest run is selected), or the
            folder of one run; None selects the most recently trained run.

    Raises:
        ValueError: if there is no such run.
    """
    runs = find_runs(root)
    logs = Path(root, RUNS)
    if name is None:
        if not runs:
            raise ValueError(f"there is no run in {logs}: train a model first, or set --root to the folder of {RUNS}")
        selected = runs[-1]
    elif (named := [run for run in runs if name in (run.base_name, run.name)]) != []:
        selected = named[-1]
    elif Path(name).is_dir():
        selected = _run_in(Path(name), runs)
    else:
        names = ", ".join(sorted({run.base_name for run in runs})) or "none"
        raise ValueError(f"--name={name} is neither a run in {logs} (available: {names}) nor a folder")
    stages = _ancestors(selected, runs)
    stages += _descendants(selected, runs, {stage.run.folder for stage in stages})
    folder = selected.folder.parent.with_name(selected.base_name)
    if not folder.is_dir():
        folder = selected.folder.parent
    return Lineage(folder.name, folder, tuple(_with_labels(stages)))


def _run_in(folder: Path, runs: Sequence[Run]) -> Run:
    """The run in a ``version_*`` folder, or the newest run in the folder above."""
    for run in reversed(runs):
        if folder.resolve() in (run.folder.resolve(), run.folder.parent.resolve()):
            return run
    return read_run(folder)


def _ancestors(run: Run, runs: Sequence[Run]) -> list[LineageStage]:
    """The run and its ancestors, oldest first."""
    stages: list[LineageStage] = []
    seen: set[Path] = set()
    current: Run | None = run
    while current is not None and current.folder not in seen:
        seen.add(current.folder)
        parent, by_name = find_parent(current, runs)
        missing_parent = current.started_from if parent is None else None
        stages.append(LineageStage(current, by_name=by_name, missing_parent=missing_parent))
        current = parent
    return stages[::-1]


def _descendants(run: Run, runs: Sequence[Run], seen: set[Path]) -> list[LineageStage]:
    """The chain of descendants of a run: at each step the newest child of the same base name, else the newest child."""
    stages: list[LineageStage] = []
    while True:
        parents = [(child, *find_parent(child, runs)) for child in runs if child.folder not in seen]
        children = [(child, by_name) for child, parent, by_name in parents if parent is not None and parent is run]
        if not children:
            return stages
        same_name = [pair for pair in children if pair[0].base_name == run.base_name]
        run, by_name = (same_name or children)[-1]
        seen.add(run.folder)
        stages.append(LineageStage(run, by_name=by_name))


def find_parent(run: Run, runs: Sequence[Run]) -> tuple[Run | None, bool]:
    """The run whose weights another run started from.

    Args:
        run: the child.
        runs: all runs, the most recently trained last.

    Returns:
        The parent, or None; and whether it was inferred from the names of the runs, because the child does not record
        what it started from.
    """
    start = run.started_from
    others = [other for other in runs if other.folder != run.folder]
    if start is not None:
        parts = Path(start).parts
        if CHECKPOINTS in parts:
            parts = parts[: len(parts) - 1 - parts[::-1].index(CHECKPOINTS)]
        same_folder = [other for other in others if parts[-2:] == (other.name, other.folder.name)]
        return _newest_before(run, same_folder or [other for other in others if other.name == start]), False
    if run.stage not in STAGES[1:]:
        return None, False
    earlier = STAGES[: STAGES.index(run.stage)]
    same_name = [other for other in others if other.base_name == run.base_name and other.stage in earlier]
    return _newest_before(run, same_name), True


def _newest_before(run: Run, candidates: Sequence[Run]) -> Run | None:
    """The candidate of the latest stage, then the newest, among those that started no later than the run."""
    before = [other for other in candidates if other.started <= run.started]
    ordered = sorted(before or candidates, key=lambda other: (_stage_index(other), other.started))
    return ordered[-1] if ordered else None


def _stage_index(run: Run) -> int:
    return STAGES.index(run.stage) if run.stage in STAGES else -1


def _with_labels(stages: Sequence[LineageStage]) -> list[LineageStage]:
    """The stages with their labels: BASE, CHAT, CHAT 2."""
    counts: dict[str, int] = {}
    labelled = []
    for stage in stages:
        counts[stage.kind] = counts.get(stage.kind, 0) + 1
        number = f" {counts[stage.kind]}" if counts[stage.kind] > 1 else ""
        labelled.append(replace(stage, label=stage.kind + number))
    return labelled
