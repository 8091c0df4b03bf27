"""Results that a report card lacks: the reason, and the command that adds them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nanochat.evaluation.chat_core import CHATCORE_TASKS
from nanochat.reporting.lineage import Lineage
from nanochat.reporting.schema import MissingItem, Score, Stage
from nanochat.runs import CHECKPOINTS, CONFIG, RUNS, SUMMARY, read_run

OVERLAYS = {"CHAT": "chat", "RL": "reinforce"}  # the configuration file that trains a stage from the one before


def missing_stages(lineage: Lineage, program: str) -> Iterator[MissingItem]:
    """Stages that the model was not trained in, or whose run no longer exists."""
    first = lineage.stages[0]
    for label in lineage.missing_labels:
        if label == "BASE":
            lost = first.missing_parent
            why = (
                f"{first.label} started from {lost}, which no longer exists" if lost is not None else "there is no run"
            )
            yield {"what": "BASE", "why": why, "command": None}
            continue
        has_rl = lineage.last("RL") is not None
        command = None if has_rl or label not in OVERLAYS else _next_stage_command(lineage, label, program)
        requires = "; it requires CHAT" if label == "RL" and lineage.last("CHAT") is None else ""
        yield {"what": label, "why": f"this stage has not been trained{requires}", "command": command}


def _next_stage_command(lineage: Lineage, label: str, program: str) -> str | None:
    """The command that trains a stage from the last one before it; None if that or its checkpoint is missing."""
    previous = lineage.last("CHAT") if label == "RL" else lineage.last("MIDDLE") or lineage.last("BASE")
    if previous is None or previous.run.checkpoint is None:
        return None
    overlay = f"--config configs/{OVERLAYS[label]}.yaml"
    name, tier = previous.run.base_name, Path("configs", f"{previous.run.base_name}.yaml")
    start = f"--start_from={shlex.quote(str(previous.run.folder))}"
    if tier.is_file() and _is_default_start(previous.run.folder):
        middle = f" {start}" if previous.kind == "MIDDLE" else ""
        return f"{program} fit --config {tier} {overlay}{middle}"
    return f"{program} fit {overlay} --name={shlex.quote(name)} {start}"


def _is_default_start(folder: Path) -> bool:
    """Whether ``fit`` starts from this run when only its name is given: the newest version in the default folder."""
    versions = [path.name.removeprefix("version_") for path in folder.parent.glob("version_*")]
    numbers = [int(version) for version in versions if version.isdecimal()]
    return Path(RUNS).resolve() == folder.parent.parent.resolve() and folder.name == f"version_{max(numbers)}"


def unfinished_stages(stages: list[Stage], program: str) -> Iterator[MissingItem]:
    """Stages whose training has not finished, and those whose summary cannot be read."""
    for stage in stages:
        if stage["state"] == "finished":
            continue
        what = f"end of {stage['label']}"
        steps = stage["figures"]["steps"]
        where = f"at step {steps:,}" if steps is not None else "before its first logged step"
        if stage["state"] == "training":
            why = f"the run seems to be still training, {where}: its files changed within the last minutes"
            command = f"{program} report --name={shlex.quote(stage['folder'])}"
            yield {"what": what, "why": why, "command": command}
            continue
        damage = next((problem for problem in stage["problems"] if problem.startswith(SUMMARY)), None)
        why = damage or f"the run was interrupted {where}"
        folder = Path(stage["folder"])
        checkpoint = folder / CHECKPOINTS / "last.ckpt"
        config = shlex.quote(str(folder / CONFIG))
        command = f"{program} fit --config {config} --ckpt_path={shlex.quote(str(checkpoint))}"
        can_resume = checkpoint.is_file() and (folder / CONFIG).is_file()
        yield {"what": what, "why": why, "command": command if can_resume else None}


def missing_scores(
    stages: list[Stage],
    core: Mapping[str, Score],
    chat: Mapping[str, Score],
    reasons: Mapping[tuple[str, str], str],
    program: str,
) -> Iterator[MissingItem]:
    """CORE of the base model and ChatCORE of later stages, where they were not measured on all tasks and items.

    The command is None where no checkpoint is left.

    Args:
        stages: of the model.
        core, chat: the measured scores by label.
        reasons: why a score is missing, by ("core", label) or ("chat", label).
        program: how the user calls the command line.
    """
    for stage in stages:
        label, evaluate = stage["label"], _evaluate_command(stage["folder"], program)
        if stage["stage"] == "pretrain":
            score = core.get(label)
            if score is None:
                why = reasons.get(("core", label), "it was not scored")
                yield {"what": f"CORE of {label}", "why": why, "command": evaluate("core")}
            elif not score["whole"]:
                why = f"only {score['name']} was measured"
                yield {"what": f"full CORE of {label}", "why": why, "command": evaluate("core")}
            continue
        score = chat.get(label)
        absent = [name for name in CHATCORE_TASKS if score is None or name not in score["tasks"]]
        if absent:
            reason = reasons.get(("chat", label), "it was not scored")
            why = reason if score is None else f"not scored: {', '.join(absent)}"
            tasks = "humaneval --allow_code_execution" if absent == ["humaneval"] else "chat"
            yield {"what": f"ChatCORE of {label}", "why": why, "command": evaluate(tasks)}
        elif score is not None and not score["whole"]:
            why = f"only {score['name']} was measured"
            # HumanEval has a score, so the user allowed its code to run before
            command = evaluate("chat --allow_code_execution")
            yield {"what": f"full ChatCORE of {label}", "why": why, "command": command}


def _evaluate_command(folder: str, program: str) -> Callable[[str], str | None]:
    """A function from the value of ``--tasks`` to the ``evaluate`` command for a run, or to None without checkpoint."""
    has_checkpoint = read_run(folder).checkpoint is not None
    command = f"{program} evaluate --ckpt_path={shlex.quote(folder)} --tasks="
    return lambda tasks: command + tasks if has_checkpoint else None
