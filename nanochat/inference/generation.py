"""A text in generation: its tokens, their text, and its calls of the calculator."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from nanochat.inference.calculator import calculate
from nanochat.inference.sampling import Sampler
from nanochat.inference.stream import Stream
from nanochat.tokenizer import Tokenizer

TEXT, PYTHON, OUTPUT = "text", "python", "python_output"  # the kinds of a message's parts
END_TOKENS = ("<|bos|>", "<|assistant_end|>", "<|user_start|>")  # each ends the text
MAX_RESULT_TOKENS = 64  # longer results of the calculator are dropped
PART_MARKERS = {  # special tokens that start a part, with its kind
    "<|python_start|>": PYTHON,
    "<|python_end|>": TEXT,
    "<|output_start|>": OUTPUT,
    "<|output_end|>": TEXT,
}


class Generation:
    """One continuation of a prompt. :meth:`Engine.start` creates it and :meth:`Engine.step` extends it.

    Attributes:
        tokens: the new tokens, including those of the calculator's results, without the token that ended the text.
        chosen: for each of them, whether the model sampled it; False for the calculator's results.
        end: the token with which the model ended the text; None if it did not.
        finished: the reason why it ended: "stop" (an end token or a stop text), "length" (``max_tokens`` or the context
            is used up) or "cancelled"; None while it is not finished.
        prompt_tokens: number of tokens of the prompt.
        pending: tokens that the model has yet to read before the next token can be sampled.
        siblings: other continuations of the same prompt, which start when the prompt has been read.
    """

    def __init__(
        self, tokenizer: Tokenizer, stream: Stream, prompt: Sequence[int], sampler: Sampler, stop: Sequence[str] = ()
    ) -> None:
        self.tokenizer, self.stream, self.sampler = tokenizer, stream, sampler
        self.prompt_tokens, self.pending, self.tokens = len(prompt), list(prompt), list[int]()
        self.chosen: list[bool] = []
        self.end: int | None = None
        self.finished: str | None = None
        self.siblings: list[Generation] = []
        self._stop = [text for text in stop if text]
        self._special = {name: tokenizer.special_tokens.get(name, -1) for name in (*END_TOKENS, *PART_MARKERS)}
        self._end_tokens = {self._special[name] for name in END_TOKENS}
        self._kind = TEXT  # of the current part
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may span tokens
        self._call: list[int] = []  # tokens of the current call of the calculator
        self._held = ""  # text held back because it may be the start of a stop text
        self._parts: list[tuple[str, str]] = []  # (kind, text) of all parts
        self._taken = (0, 0)  # number of parts, and of characters of the next one, that take() has returned

    @property
    def is_active(self) -> bool:
        """Whether it is unfinished, or its siblings still wait for it to read the prompt."""
        return self.finished is None or any(sibling.finished is None for sibling in self.siblings)

    def fork_from(self, other: Generation) -> None:
        """Starts from another generation that has read the same prompt."""
        self.stream, self.pending = other.stream.fork(), []

    def add(self, token: int) -> None:
        """Adds a sampled token."""
        if token in self._end_tokens:
            self.end = token
            return self.finish("stop")
        self._add_token(token)
        self.pending = [token]
        if self._kind == PYTHON and token == self._special["<|python_end|>"]:
            self._answer_call()
        if self.finished is None and self.stream.position + len(self.pending) >= self.stream.length:
            self.finish("length")
        return None

    def _answer_call(self) -> None:
        """Evaluates the call and adds the result to the text, for the model to read as if it had generated it.

        A call without result, or one whose result does not fit, is left unanswered.
        """
        result = calculate(self.tokenizer.decode(self._call))
        self._start_part(TEXT)
        if result is None:
            return
        forced = [self._special["<|output_start|>"], *self.tokenizer.encode(result), self._special["<|output_end|>"]]
        if len(forced) <= MAX_RESULT_TOKENS and self.stream.position + 1 + len(forced) < self.stream.length:
            for token in forced:
                self._add_token(token, chosen=False)
            self.pending += forced

    def _add_token(self, token: int, chosen: bool = True) -> None:
        self.tokens.append(token)
        self.chosen.append(chosen)
        for name, kind in PART_MARKERS.items():
            if token == self._special[name]:
                if name != "<|python_end|>":  # add() answers the call and then starts the next part
                    self._start_part(kind)
                return
        if self._kind == PYTHON:
            self._call.append(token)
        self._add_text(self._decoder.decode(self.tokenizer.decode_bytes([token])))

    def _start_part(self, kind: str) -> None:
        self._add_text(self._decoder.decode(b"", True), last=True)
        self._decoder.reset()
        self._kind, self._call = kind, []

    def _add_text(self, text: str, last: bool = False) -> None:
        """Adds text to the current part; cuts it at a stop text and finishes.

        Args:
            text: whole characters.
            last: whether the part ends here, so that no text needs to be held back.
        """
        if self._kind == TEXT and self._stop:
            text = self._held + text
            found = [position for stop in self._stop if (position := text.find(stop)) >= 0]
            if found:
                text, self._held = text[: min(found)], ""
                self._extend_parts(text)
                self.finished = "stop"
                return
            hold = 0 if last else max(_partial_stop(text, stop) for stop in self._stop)
            text, self._held = text[: len(text) - hold], text[len(text) - hold :]
        self._extend_parts(text)

    def _extend_parts(self, text: str) -> None:
        if not text:
            return
        if self._parts and self._parts[-1][0] == self._kind:
            self._parts[-1] = (self._kind, self._parts[-1][1] + text)
        else:
            self._parts.append((self._kind, text))

    def finish(self, reason: str) -> None:
        """Ends the text, unless it has ended before."""
        if self.finished is None:
            self._add_text(self._decoder.decode(b"", True), last=True)
            self.finished = self.finished or reason

    def take(self) -> list[tuple[str, str]]:
        """The text added since the previous call, as (kind, text), in whole characters.

        The kinds are those of a message's parts: "text", "python" (a call of the calculator) and "python_output".
        """
        parts, characters = self._taken
        new = self._parts[parts:]
        if new:
            new[0] = (new[0][0], new[0][1][characters:])
            self._taken = (len(self._parts) - 1, len(self._parts[-1][1]))  # the last part may still grow
        return [(kind, text) for kind, text in new if text]

    @property
    def parts(self) -> list[dict[str, str]]:
        """All parts, as the content of a message."""
        return [{"type": kind, "text": text} for kind, text in self._parts]

    @property
    def text(self) -> str:
        """The text without the calls of the calculator and their results."""
        return "".join(text for kind, text in self._parts if kind == TEXT)


def _partial_stop(text: str, stop: str) -> int:
    """Length of the longest proper prefix of the stop text that the text ends with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
