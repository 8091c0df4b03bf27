"""HumanEval: builds a program from a model's answer, runs its tests in the sandbox, and estimates pass@k."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from nanochat.evaluation.sandbox.run import Limits, Outcome, run_tests

CODE_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Unbiased estimate of pass@k, the probability that at least one of ``k`` samples is right.

    ``1 - C(samples - right, k) / C(samples, k)`` (arXiv 2107.03374, section 2.1), in integers, so exact.

    Args:
        samples: number of samples.
        right: number of right ones among them.
        k: from 1 to ``samples``.
    """
    assert 0 <= right <= samples
    assert 1 <= k <= samples
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def build_program(prompt: str, name: str, answer: str) -> str:
    """Combines a question and an answer into a program.

    An answer may be the whole function, with or without a code block, or only the body that follows the question, which
    ends after the function's docstring.

    Args:
        prompt: the question: imports, perhaps helper functions, and the function's signature and docstring.
        name: name of the function.
        answer: text that the model generated.
    """
    blocks = CODE_BLOCK.findall(answer)
    code = next((block for block in blocks if _defines(block, name)), blocks[0] if blocks else answer)
    if _defines(code, name):
        return f"{prompt}\n\n{code}"  # the prompt's function has only a docstring; the answer's definition replaces it
    return prompt.rstrip("\n") + "\n" + code


def _defines(code: str, name: str) -> bool:
    return re.search(rf"^(?:async )?def {re.escape(name)}\b", code, re.MULTILINE) is not None


def run_answer(record: Mapping[str, Any], answer: str, limits: Limits | None = None) -> Outcome:
    """Runs the program of an answer in the sandbox, with the question's tests."""
    prompt, name = str(record["prompt"]), str(record["entry_point"])
    tests = f"{record['test']}\n\ncheck({name})\n"
    return run_tests(build_program(prompt, name, answer), name, tests, prompt, limits)
