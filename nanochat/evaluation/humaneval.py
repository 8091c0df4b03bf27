"""HumanEval: what program an answer is, whether it is right, and how often one of k tries would be."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from nanochat.evaluation.sandbox.run import Limits, Outcome, run_tests

FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def pass_at_k(samples: int, right: int, k: int) -> float:
    """How likely at least one of ``k`` samples is right, if ``right`` of ``samples`` were: without bias.

    ``1 - C(samples - right, k) / C(samples, k)`` (arXiv 2107.03374, section 2.1), in whole numbers, so exact.
    """
    assert 0 <= right <= samples
    assert 1 <= k <= samples
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def program_of(prompt: str, name: str, answer: str) -> str:
    """The program that an answer makes of a question.

    An answer may be the whole function, in a fenced block or not, or go on where the question stopped, which is after
    the first line and the docstring of the function.

    Args:
        prompt: the question: imports, perhaps other functions, and the beginning of the function.
        name: of the function.
        answer: what the model wrote.
    """
    blocks = FENCE.findall(answer)
    code = next((block for block in blocks if _defines(block, name)), blocks[0] if blocks else answer)
    if _defines(code, name):
        return f"{prompt}\n\n{code}"  # the question's function has no body but its docstring: the answer's replaces it
    return prompt.rstrip("\n") + "\n" + code


def _defines(code: str, name: str) -> bool:
    return re.search(rf"^(?:async )?def {re.escape(name)}\b", code, re.MULTILINE) is not None


def try_program(record: Mapping[str, Any], answer: str, limits: Limits | None = None) -> Outcome:
    """Runs the program that an answer makes, in the sandbox, with the question's own tests."""
    prompt, name = str(record["prompt"]), str(record["entry_point"])
    tests = f"{record['test']}\n\ncheck({name})\n"
    return run_tests(program_of(prompt, name, answer), name, tests, prompt, limits)
