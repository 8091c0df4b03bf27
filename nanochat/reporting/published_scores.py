"""Published scores of nanochat d20 and GPT-2, for comparison."""

from __future__ import annotations

from collections.abc import Mapping

from nanochat.reporting.schema import Published, Score

# nanochat's own model of depth 20, October 2025 (github.com/karpathy/nanochat, discussion 1), by stage; rounded.
MODEL = "nanochat d20"
ABOUT = "560,988,160 parameters, trained for about 4 hours on eight H100, October 2025"
NANOCHAT = {
    ("BASE", "CORE"): 0.22,
    ("CHAT", "arc-easy"): 0.39,
    ("CHAT", "arc-challenge"): 0.28,
    ("CHAT", "mmlu"): 0.32,
    ("CHAT", "gsm8k"): 0.05,
    ("CHAT", "humaneval"): 0.09,
    ("RL", "gsm8k"): 0.08,
}
GPT2 = {("BASE", "CORE"): 0.2565}  # OpenAI's model of 1.6B parameters, 2019; its CORE as nanochat reports it


def compare_with_published(core: Mapping[str, Score], chat: Mapping[str, Score]) -> list[Published]:
    """Each published score with the same score of this model, where it was measured.

    Args:
        core, chat: the scores by the label of the stage.
    """
    rows: list[Published] = []
    for (label, name), figure in NANOCHAT.items():
        score = (core if name == "CORE" else chat).get(label)
        value, comparable = None, False
        if score is not None and name == "CORE":
            value, comparable = score["value"], score["whole"]
        elif score is not None and name in score["tasks"]:
            value, comparable = score["tasks"][name]["accuracy"], score["max_per_task"] is None
        rows.append(
            {
                "name": name,
                "label": label,
                "value": value,
                "comparable": comparable,
                "nanochat": figure,
                "gpt2": GPT2.get((label, name)),
            }
        )
    return rows
