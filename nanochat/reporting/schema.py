"""The format of ``report.json``.

A figure that was not measured is null; "missing" lists these with the reason and the command that adds them.
The number under "format" changes when a key is removed or its meaning changes; keys may be added at any time.
"""

from __future__ import annotations

from typing import Any, TypedDict

FORMAT = 1


class Stage(TypedDict):
    """One training stage.

    Keys:
        label: the column title: "BASE", "MIDDLE", "CHAT" or "RL", followed by a number if the stage is repeated.
        stage: "pretrain", "middle", "chat" or "reinforce".
        run, folder: "tiny/version_0", and its path.
        state: "finished", "training" (its files changed within the last minutes) or "interrupted".
        started, updated: when training started and when it last wrote a file (ISO 8601).
        began_with: the checkpoint or run that provided the initial weights; null if they were random.
        by_name: whether the run does not record this and its parent was inferred from the names of the runs.
        figures: numbers or null: parameters, steps, tokens, flops_per_token, flops, seconds (of the whole command),
            training_seconds (of the training steps), tokens_per_second, mfu (0 to 1), peak_memory_bytes,
            peak_gpu_memory_bytes, devices, val_bpb (bits per byte on all held-out text at the end), best_val_bpb (the
            best during training, on a part of the held-out text), val_accuracy (0 to 1, the last one logged by
            reinforcement learning), dollars.
        tasks: accuracy at the end of the run, by task.
        device, precision, corpus, corpus_fingerprint: texts or null. Scores are comparable only on the same corpus.
        versions, machine, code: as recorded by the run; empty if it did not record them.
        config: the content of ``config.yaml``.
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
    """CORE or ChatCORE of one stage, with the results of its tasks.

    Keys:
        name: "CORE" or "ChatCORE", followed by its restrictions: "CORE over 2 of 22 tasks".
        whole: whether all tasks were scored on all of their items.
        value: the mean of the centred accuracies; null if none of the scored tasks belongs to the metric.
        interval: the 95% confidence interval as low and high; or null.
        missing: names of the tasks that were not scored.
        max_per_task: the largest number of items scored in a task; null for all.
        checkpoint: name of the checkpoint file.
        seconds: duration of the scoring, summed over the tasks.
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
    """Bytes of UTF-8 text per token.

    Keys:
        vocab_size: of the model's tokenizer.
        bytes_per_token: by tokenizer ("this model", "GPT-2", "GPT-4") and by text.
        absent: tokenizers that were not on this machine and could not be downloaded.
    """

    vocab_size: int
    bytes_per_token: dict[str, dict[str, float]]
    absent: list[str]


class Sample(TypedDict):
    """A greedy sample: the stage's label, the prompt and the text that the model generated."""

    label: str
    prompt: str
    text: str


class Published(TypedDict):
    """A score of this model with the published scores of others.

    Keys:
        name: "CORE" or the name of a task.
        label: label of the stage that was scored.
        value: score of this model; null if it was not measured.
        comparable: whether it was measured in the same way: on all tasks and all items.
        nanochat, gpt2: the published scores; null where there is none.
    """

    name: str
    label: str
    value: float | None
    comparable: bool
    nanochat: float | None
    gpt2: float | None


class MissingItem(TypedDict):
    """A result that the report card lacks.

    Keys:
        what: the stage or the figure.
        why: the reason, as text.
        command: the shell command that adds it; null if there is none.
    """

    what: str
    why: str
    command: str | None


class ReportCard(TypedDict):
    """The report card.

    Keys:
        format: version of this format, :data:`FORMAT`.
        name: of the model.
        written: time of the report (ISO 8601).
        machine, versions, code: where this report was written; each stage has its own.
        stages: in training order.
        totals: sums over the stages of "tokens", "flops", "seconds", "training_seconds", "dollars"; null where no stage
            has the figure.
        not_in_totals: for each of these, the labels of stages that lack it.
        tokenizer: null if there is no readable checkpoint.
        core, chat: scores by the label of the stage.
        samples: empty if they were disabled.
        published: in the order of the page.
        missing: stages first, then scores, tokenizer and samples.
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
