"""What ``report.json`` holds.

A figure that was not measured is null; "missing" says which, why, and what would fill it in.
The number under "format" changes when a name is taken away or comes to mean something else; new names may come at any
time.
"""

from __future__ import annotations

from typing import Any, TypedDict

FORMAT = 1


class Stage(TypedDict):
    """One stage of the model's life, the first of them first.

    Keys:
        label: "BASE", "MIDDLE", "CHAT" or "RL", as a column is called; with a number where a stage comes again.
        stage: "pretrain", "middle", "chat" or "reinforce".
        run, folder: "tiny/version_0", and where that is.
        state: "finished", "training" (written to a iso_time ago) or "interrupted".
        started, updated: when it began, and when training last wrote anything (ISO 8601).
        began_with: the checkpoint or the run whose weights it began with; null for fresh ones.
        by_name: whether the run does not say so, and it follows from the names of the runs.
        figures: by name, numbers or null: parameters, steps, tokens, flops_per_token, flops, seconds (of the whole
            command), training_seconds (of its steps alone), tokens_per_second, mfu (0 to 1), peak_memory_bytes,
            peak_gpu_memory_bytes, devices, val_bpb (bits per byte on all of the held-out text), best_val_bpb (the best
            on the way, on a part of it), val_accuracy (0 to 1, of reinforcement learning: the last on the way), flops,
            dollars.
        tasks: the share of right answers that the run ended with, by task.
        device, precision, corpus, corpus_fingerprint: texts or null. Scores compare only on the same corpus.
        versions, machine, code: as the run says; empty if it does not.
        config: ``config.yaml``, whole.
        problems: what is wrong with the run's files.
    """

    label: str
    stage: str
    run: str
    folder: str
    state: str
    started: str
    updated: str
    began_with: str | None
    by_name: bool
    figures: dict[str, float | int | None]
    tasks: dict[str, float]
    device: str | None
    precision: str | None
    corpus: str | None
    corpus_fingerprint: str | None
    versions: dict[str, Any]
    machine: dict[str, Any]
    code: dict[str, Any]
    config: dict[str, Any]
    problems: list[str]


class Score(TypedDict):
    """CORE or ChatCORE of one stage, with the tasks that it comes from.

    Keys:
        name: what the figure may be called: "CORE" alone is all 22 tasks with all of their items.
        whole: whether it is that.
        value: the mean of the centred accuracies; null if none of the tasks counts.
        interval: 95%, low and high; or null.
        missing: names of the tasks that are not in it.
        max_per_task: how many items of each task were asked at most; null for all.
        checkpoint: the file's name.
        seconds: that scoring took, all tasks together.
        tasks: by name: "accuracy", "chance", "centred", "interval" (low and high), "items".
    """

    name: str
    whole: bool
    value: float | None
    interval: list[float] | None
    missing: list[str]
    max_per_task: int | None
    checkpoint: str
    seconds: float
    tasks: dict[str, dict[str, Any]]


class Compression(TypedDict):
    """How many bytes of text a token stands for.

    Keys:
        vocab_size: of the model's tokenizer.
        bytes_per_token: by tokenizer ("this model", "GPT-2", "GPT-4") and by text.
        absent: tokenizers that were not on this machine and could not be fetched.
    """

    vocab_size: int
    bytes_per_token: dict[str, dict[str, float]]
    absent: list[str]


class Sample(TypedDict):
    """What a stage's model makes of a prompt, the likeliest token taken each time."""

    label: str
    prompt: str
    text: str


class Published(TypedDict):
    """A figure beside those that others have published of theirs.

    Keys:
        name: of the figure: "CORE", or a task.
        label: the stage that it is of.
        value: this model's; null if it was not measured.
        comparable: whether it was measured in the same way: all tasks, all items.
        nanochat, gpt2: theirs; null where none is published.
    """

    name: str
    label: str
    value: float | None
    comparable: bool
    nanochat: float | None
    gpt2: float | None


class MissingItem(TypedDict):
    """What the card lacks.

    Keys:
        what: the stage or the figure.
        why: in words.
        command: what would fill it in; null where nothing does.
    """

    what: str
    why: str
    command: str | None


class ReportCard(TypedDict):
    """The whole.

    Keys:
        format: of this description, :data:`FORMAT`.
        name: of the model.
        written: when (ISO 8601).
        machine, versions, code: that this report was written by; those of a stage are in the stage.
        stages: in their order.
        totals: sums over the stages of "tokens", "flops", "seconds", "training_seconds", "dollars"; null where no stage
            has the figure.
        not_in_totals: for each of these, the labels of stages that lack it.
        tokenizer: null if there is no checkpoint to take it from.
        core, chat: by the label of the stage.
        samples: none if they were left out.
        published: in the order of the page.
        missing: in the order of a model's life.
    """

    format: int
    name: str
    written: str
    machine: dict[str, Any]
    versions: dict[str, str]
    code: dict[str, Any]
    stages: list[Stage]
    totals: dict[str, float | int | None]
    not_in_totals: dict[str, list[str]]
    tokenizer: Compression | None
    core: dict[str, Score]
    chat: dict[str, Score]
    samples: list[Sample]
    published: list[Published]
    missing: list[MissingItem]
