"""A model's life: which run began with the weights of which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nanochat.runs import CHECKPOINTS, RUNS, STAGES, Run, find_runs, read_run

LABELS = {"pretrain": "BASE", "middle": "MIDDLE", "chat": "CHAT", "reinforce": "RL"}
ALWAYS = ("BASE", "CHAT", "RL")  # have a column of their own, even where there is no such run


@dataclass(frozen=True)
class LineageStage:
    """One stage of a life.

    Attributes:
        label: "BASE", "MIDDLE", "CHAT" or "RL", with a number behind it where a stage comes several times.
        run: what the stage left behind.
        by_name: whether the run does not say what it began with, and its place here follows from its name alone.
        lost: what the run began with, where that is none of the runs that are here.
    """

    label: str
    run: Run
    by_name: bool = False
    lost: str | None = None


@dataclass(frozen=True)
class Lineage:
    """A model's stages, in their order.

    Attributes:
        name: of the model.
        folder: where its report belongs.
        chapters: at least one.
        missing: of :data:`ALWAYS`, those that it has not been through.
    """

    name: str
    folder: Path
    chapters: tuple[LineageStage, ...]
    missing: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        have = {LABELS.get(chapter.run.stage) for chapter in self.chapters}
        object.__setattr__(self, "missing", tuple(label for label in ALWAYS if label not in have))

    def of(self, label: str) -> LineageStage | None:
        """The last chapter of a stage."""
        return next((c for c in reversed(self.chapters) if LABELS.get(c.run.stage) == label), None)


def find_lineage(root: str | Path = ".", name: str | None = None) -> Lineage:
    """The life of a model: the run that was trained last, all that it descends from, and what descends from it.

    Args:
        root: the folder that lightning_logs is in.
        name: of its runs ("tiny" means all stages of tiny), or the folder of one run; None for the newest run of all.

    Raises:
        ValueError: if there is none, in one line that says what to do.
    """
    runs = find_runs(root)
    here = Path(root, RUNS)
    if name is None:
        if not runs:
            raise ValueError(f"there is no run below {here}: train a model first, or say with --root where runs are")
        chosen = runs[-1]
    elif (mine := [run for run in runs if name in (run.base_name, run.name)]) != []:
        chosen = mine[-1]
    elif Path(name).is_dir():
        chosen = _of_folder(Path(name), runs)
    else:
        names = ", ".join(sorted({run.base_name for run in runs})) or "none at all"
        raise ValueError(f"--name={name}: there is no run of that name below {here} (there is {names}), and no folder")
    chapters = _before(chosen, runs)
    chapters += _after(chosen, runs, {chapter.run.folder for chapter in chapters})
    folder = chosen.folder.parent.with_name(chosen.base_name)
    if not folder.is_dir():
        folder = chosen.folder.parent
    return Lineage(folder.name, folder, tuple(_numbered(chapters)))


def _of_folder(folder: Path, runs: Sequence[Run]) -> Run:
    """The run in a folder, or the newest one in the folder of a name."""
    for run in reversed(runs):
        if folder.resolve() in (run.folder.resolve(), run.folder.parent.resolve()):
            return run
    return read_run(folder)


def _before(run: Run, runs: Sequence[Run]) -> list[LineageStage]:
    """The run and all that it descends from, the oldest first."""
    chapters: list[LineageStage] = []
    seen: set[Path] = set()
    following: Run | None = run
    while following is not None and following.folder not in seen:
        seen.add(following.folder)
        parent, by_name = parent_of(following, runs)
        lost = following.started_from if parent is None else None
        chapters.append(LineageStage("", following, by_name, lost))
        following = parent
    return chapters[::-1]


def _after(run: Run, runs: Sequence[Run], seen: set[Path]) -> list[LineageStage]:
    """What descends from a run: of several children the newest of its own name, else the newest; and so on."""
    chapters: list[LineageStage] = []
    while True:
        children = [(child, *parent_of(child, runs)) for child in runs if child.folder not in seen]
        mine = [(child, by_name) for child, parent, by_name in children if parent is not None and parent is run]
        if not mine:
            return chapters
        family = [pair for pair in mine if pair[0].base_name == run.base_name]
        run, by_name = (family or mine)[-1]
        seen.add(run.folder)
        chapters.append(LineageStage("", run, by_name))


def parent_of(run: Run, runs: Sequence[Run]) -> tuple[Run | None, bool]:
    """The run whose weights another began with; and whether that follows from their names alone.

    Args:
        run: the one that began.
        runs: all there are, those trained last at the end.
    """
    start = run.started_from
    others = [other for other in runs if other.folder != run.folder]
    if start is not None:
        parts = Path(start).parts
        if CHECKPOINTS in parts:
            parts = parts[: len(parts) - 1 - parts[::-1].index(CHECKPOINTS)]
        same = [other for other in others if parts[-2:] == (other.name, other.folder.name)]
        return _latest(run, same or [other for other in others if other.name == start]), False
    if run.stage not in STAGES[1:]:
        return None, False
    earlier = STAGES[: STAGES.index(run.stage)]
    family = [other for other in others if other.base_name == run.base_name and other.stage in earlier]
    return _latest(run, family), True


def _latest(run: Run, candidates: Sequence[Run]) -> Run | None:
    """Of the runs that it may have begun with, the newest that was there by then."""
    before = [other for other in candidates if other.started <= run.started]
    ordered = sorted(before or candidates, key=lambda other: (_rank(other), other.started))
    return ordered[-1] if ordered else None


def _rank(run: Run) -> int:
    return STAGES.index(run.stage) if run.stage in STAGES else -1


def _numbered(chapters: Sequence[LineageStage]) -> list[LineageStage]:
    """With their labels: BASE, CHAT, CHAT 2."""
    counts: dict[str, int] = {}
    labelled = []
    for chapter in chapters:
        label = LABELS.get(chapter.run.stage, chapter.run.stage.upper())
        counts[label] = counts.get(label, 0) + 1
        number = f" {counts[label]}" if counts[label] > 1 else ""
        labelled.append(LineageStage(label + number, chapter.run, chapter.by_name, chapter.lost))
    return labelled
