"""What a report card lacks: why, and which command would fill it in."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nanochat.evaluation.chat_core import CHATCORE_TASKS
from nanochat.reporting.life import LABELS, Life
from nanochat.reporting.schema import Missing, Score, Stage
from nanochat.runs import CHECKPOINTS, CONFIG, RUNS, SUMMARY, read_run

OVERLAYS = {"CHAT": "chat", "RL": "reinforce"}  # the configuration that makes a stage of the one before


def missing_stages(life: Life, program: str) -> Iterator[Missing]:
    """The stages that the model has not been through, or of which the run is gone."""
    first = life.chapters[0]
    for label in life.missing:
        if label == "BASE":
            gone = first.lost is not None
            why = f"{first.label} began with {first.lost}, which is not here any more" if gone else "no run of it"
            yield {"what": "BASE", "why": why, "command": None}
            continue
        later = any(LABELS.get(chapter.run.stage) == "RL" for chapter in life.chapters)
        command = None if later or label not in OVERLAYS else _next_stage(life, label, program)
        first_chat = ", which comes after CHAT" if label == "RL" and life.of("CHAT") is None else ""
        yield {"what": label, "why": f"the model has not been through this stage{first_chat}", "command": command}


def _next_stage(life: Life, label: str, program: str) -> str | None:
    """How to go on from the last stage that comes before; None if that one, or its checkpoint, is missing, too."""
    before = life.of("CHAT") if label == "RL" else life.of("MIDDLE") or life.of("BASE")
    if before is None or before.run.checkpoint is None:
        return None
    overlay = f"--config configs/{OVERLAYS[label]}.yaml"
    name, tier = before.run.base_name, Path("configs", f"{before.run.base_name}.yaml")
    start = f"--start_from={shlex.quote(str(before.run.folder))}"
    if tier.is_file() and _is_newest(before.run.folder):
        middle = f" {start}" if LABELS.get(before.run.stage) == "MIDDLE" else ""
        return f"{program} fit --config {tier} {overlay}{middle}"
    return f"{program} fit {overlay} --name={shlex.quote(name)} {start}"


def _is_newest(folder: Path) -> bool:
    """Whether a run is the one of its name that a command takes by itself."""
    numbers = [path.name.removeprefix("version_") for path in folder.parent.glob("version_*")]
    here = [int(number) for number in numbers if number.isdecimal()]
    return Path(RUNS).resolve() == folder.parent.parent.resolve() and folder.name == f"version_{max(here)}"


def missing_ends(stages: list[Stage], program: str) -> Iterator[Missing]:
    """The stages that have not come to their end, and those whose summary cannot be read."""
    for stage in stages:
        if stage["state"] == "finished":
            continue
        steps = stage["figures"]["steps"]
        where = f"at step {steps:,}" if steps is not None else "before its first lines"
        if stage["state"] == "training":
            why = f"it seems to be training still, {where}: it was written to within the last minutes"
            again = f"{program} report --name={shlex.quote(stage['folder'])}"
            yield {"what": f"{stage['label']}, its end", "why": why, "command": again}
            continue
        damage = next((problem for problem in stage["problems"] if problem.startswith(SUMMARY)), None)
        why = damage or f"the run was interrupted {where}"
        folder = Path(stage["folder"])
        last = folder / CHECKPOINTS / "last.ckpt"
        config = shlex.quote(str(folder / CONFIG))
        command = f"{program} fit --config {config} --ckpt_path={shlex.quote(str(last))}"
        possible = last.is_file() and (folder / CONFIG).is_file()
        yield {"what": f"{stage['label']}, its end", "why": why, "command": command if possible else None}


def missing_scores(
    stages: list[Stage],
    core: Mapping[str, Score],
    chat: Mapping[str, Score],
    whys: Mapping[tuple[str, str], str],
    program: str,
) -> Iterator[Missing]:
    """CORE of the base model, and ChatCORE's six of the later ones; with no command where no checkpoint is left.

    Args:
        stages: of the model.
        core, chat: what has been scored, by label.
        whys: for ("core", label) and ("chat", label) that have not: why.
        program: how the user calls the command line.
    """
    for stage in stages:
        label, evaluate = stage["label"], _evaluation(stage["folder"], program)
        if stage["stage"] == "pretrain":
            score = core.get(label)
            if score is None:
                why = whys.get(("core", label), "it was not scored")
                yield {"what": f"CORE of {label}", "why": why, "command": evaluate("core")}
            elif not score["whole"]:
                why = f"what was scored is {score['name']}"
                yield {"what": f"CORE of {label}, whole", "why": why, "command": evaluate("core")}
            continue
        score = chat.get(label)
        lacking = [name for name in CHATCORE_TASKS if score is None or name not in score["tasks"]]
        if lacking:
            why = whys.get(("chat", label), "it was not scored") if score is None else f"without {', '.join(lacking)}"
            tasks = "humaneval --allow_code_execution" if lacking == ["humaneval"] else "chat"
            yield {"what": f"ChatCORE of {label}", "why": why, "command": evaluate(tasks)}
        elif score is not None and not score["whole"]:
            why = f"what was scored is {score['name']}"
            command = evaluate("chat --allow_code_execution")  # as it was allowed before: HumanEval is there
            yield {"what": f"ChatCORE of {label}, whole", "why": why, "command": command}


def _evaluation(folder: str, program: str) -> Callable[[str], str | None]:
    """How a run is scored in tasks that are named, with what follows their names; None if it has no checkpoint."""
    possible = read_run(folder).checkpoint is not None
    command = f"{program} evaluate --ckpt_path={shlex.quote(folder)} --tasks="
    return lambda tasks: command + tasks if possible else None
