"""The ``chat`` command: a conversation in the terminal, or the answer to one question."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TextIO

from nanochat.cli.errors import UsageError, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import new_parser
from nanochat.options import at_least

LOADING = "Loading the model ..."


def chat(
    prompt: str = "",
    ckpt_path: str | None = None,
    name: str | None = None,
    root: str = ".",
    temperature: float | None = None,
    top_k: int | None = 50,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    max_tokens: int | None = None,
    system: str = "",
    device: str = "cpu",
) -> None:
    """Chats with a model in the terminal, or answers one question from --prompt or from standard input.

    Args:
        prompt: A question to answer instead of a conversation. Without it, standard input is read if it is a pipe.
        ckpt_path: The model: a checkpoint file, a run's folder, or last or best of the newest run. null takes the
            newest chat model, or the newest base model if there is no chat model.
        name: The name of a run, of which the newest is taken; "tiny" prefers tiny-chat, the fine-tuned model.
        root: The folder that contains lightning_logs.
        temperature: 0 always takes the most likely token, 1 samples from the model's distribution, above 1 flattens
            it. null takes 0.3 for a chat model, and 0.8 for a base model.
        top_k: Sample from the k most likely tokens only; null for no limit.
        top_p: Sample from the smallest set of most likely tokens with this total probability.
        min_p: Exclude tokens less likely than this fraction of the most likely token's probability.
        repetition_penalty: Above 1 reduces the probability of tokens that are in the text already.
        seed: The same seed gives the same answers; null takes a new one each time.
        max_tokens: The limit of tokens per answer; null for as many as the context has room for.
        system: The system message, which comes before the first question.
        device: cpu, cuda or mps. A small model is fastest on the CPU.
    """
    stdin: TextIO | None = sys.stdin  # None if it is closed
    piped = not prompt and not (stdin and stdin.isatty())
    if piped:
        prompt = stdin.read().rstrip("\n") if stdin else ""
        if not prompt.strip():
            raise UsageError("there is no question on standard input")
    # imported here, so that --help does not wait for torch
    with _loading(interactive=not prompt):
        from nanochat.inference.sampling import Sampling
        from nanochat.serving.chat_loop import answer_once, chat_loop
        from nanochat.serving.find_model import resolve_checkpoint
        from nanochat.serving.model import load
        from nanochat.serving.screen import new_screen
        from nanochat.serving.session import Session

        settings = Sampling(temperature or 0.0, top_k, top_p, min_p, repetition_penalty)  # validated before loading
        at_least(1, max_tokens=max_tokens)
        model = load(resolve_checkpoint(ckpt_path, name, root, program_name()), device=device)
        settings = replace(settings, temperature=model.temperature(temperature))
        session = Session(model, settings, max_tokens, seed, system)
        assert model.engine  # created, and compiled if necessary, before the first question
    if prompt:
        answer_once(session, prompt, new_screen(plain=piped), program_name())
        return
    from nanochat.serving.keyboard import new_keyboard

    chat_loop(session, new_keyboard(), new_screen(), program_name())


@contextmanager
def _loading(interactive: bool) -> Iterator[None]:
    """Shows a message in the terminal while the model is loaded, and erases it afterwards."""
    shown = interactive and sys.stderr.isatty()
    if shown:
        print(LOADING, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r" + " " * len(LOADING) + "\r", end="", file=sys.stderr, flush=True)


def run(arguments: Sequence[str]) -> int:
    """Runs ``chat``; returns the exit status."""
    return report_errors(lambda: _call(arguments[1:]))


def _call(options: Sequence[str]) -> None:
    settings = new_parser("chat", chat).parse_args(list(options)).as_dict()
    if not settings["prompt"].strip() and any(word.split("=")[0] == "--prompt" for word in options):
        raise UsageError("there is no question in --prompt")
    chat(**settings)
