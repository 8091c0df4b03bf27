"""A text in work: its tokens, the text that has come of them, and the calls of the calculator on the way."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from nanochat.inference.calculator import calculate
from nanochat.inference.sampling import Sampler
from nanochat.inference.stream import Stream
from nanochat.tokenizer import Tokenizer

TEXT, PYTHON, OUTPUT = "text", "python", "python_output"  # the kinds of parts, as a message has them
ENDS = ("<|bos|>", "<|assistant_end|>", "<|user_start|>")  # what ends a document, or an answer
MOST_RESULT = 64  # tokens of a calculator's result


class Generation:
    """One continuation. The engine makes it (:meth:`Engine.start`) and drives it.

    Attributes:
        tokens: the new tokens, those of the calculator's results included; what ended the text is not.
        chosen: of each of them, whether the model chose it; the calculator's results it was told.
        end: the token by which the model ended the text; None if it did not.
        finished: why it ended: "stop" (the model or a stop text ended it), "length" (no room, or as long as was
            asked for), "cancelled"; None while it is in work.
        prompt_tokens: tokens of the prompt.
        pending: tokens that the model has still to read before the next can be chosen.
        siblings: other continuations of the same prompt, which begin when it has been read.
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
        self._special = {name: tokenizer.special_tokens.get(name, -1) for name in (*ENDS, *_MARKS)}
        self._ends = {self._special[name] for name in ENDS}
        self._kind = TEXT
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may span tokens
        self._call: list[int] = []  # tokens of the call that is being written
        self._held = ""  # text that may turn out to be the beginning of a stop text
        self._parts: list[tuple[str, str]] = []  # all that has come, one for each part
        self._taken = (0, 0)  # parts, and characters of the next one, that have been handed out

    @property
    def in_work(self) -> bool:
        """Whether it is unfinished, or one that waits for its prompt to be read."""
        return self.finished is None or any(sibling.finished is None for sibling in self.siblings)

    def begin_like(self, other: Generation) -> None:
        """Takes over what another one has read of the same prompt."""
        self.stream, self.pending = other.stream.fork(), []

    def add(self, token: int) -> None:
        """Takes in the token that was chosen."""
        if token in self._ends:
            self.end = token
            return self.finish("stop")
        self._take_in(token)
        self.pending = [token]
        if self._kind == PYTHON and token == self._special["<|python_end|>"]:
            self._answer_call()
        if self.finished is None and self.stream.position + len(self.pending) >= self.stream.length:
            self.finish("length")
        return None

    def _answer_call(self) -> None:
        """Reckons what the model has asked for, and has it read the result, as if it had written that itself."""
        result = calculate(self.tokenizer.decode(self._call))
        self._begin(TEXT)
        if result is None:
            return  # it has to go on without
        forced = [self._special["<|output_start|>"], *self.tokenizer.encode(result), self._special["<|output_end|>"]]
        if len(forced) <= MOST_RESULT and self.stream.position + 1 + len(forced) < self.stream.length:
            for token in forced:
                self._take_in(token, chosen=False)
            self.pending += forced

    def _take_in(self, token: int, chosen: bool = True) -> None:
        self.tokens.append(token)
        self.chosen.append(chosen)
        for name, kind in _MARKS.items():
            if token == self._special[name]:
                if name != "<|python_end|>":  # whoever answers the call needs to know that it was one
                    self._begin(kind)
                return
        if self._kind == PYTHON:
            self._call.append(token)
        self._append(self._decoder.decode(self.tokenizer.decode_bytes([token])))

    def _begin(self, kind: str) -> None:
        """Another part begins."""
        self._append(self._decoder.decode(b"", True), last=True)
        self._decoder.reset()
        self._kind, self._call = kind, []

    def _append(self, text: str, last: bool = False) -> None:
        if self._kind == TEXT and self._stop:
            text = self._held + text
            found = [place for stop in self._stop if (place := text.find(stop)) >= 0]
            if found:
                text, self._held = text[: min(found)], ""
                self._put(text)
                self.finished = "stop"
                return
            keep = 0 if last else max(_overlap(text, stop) for stop in self._stop)
            text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self._put(text)

    def _put(self, text: str) -> None:
        if not text:
            return
        if self._parts and self._parts[-1][0] == self._kind:
            self._parts[-1] = (self._kind, self._parts[-1][1] + text)
        else:
            self._parts.append((self._kind, text))

    def finish(self, why: str) -> None:
        """Ends the text."""
        if self.finished is None:
            self._append(self._decoder.decode(b"", True), last=True)
            self.finished = self.finished or why

    def take(self) -> list[tuple[str, str]]:
        """What has come since the last time: (kind, text), whole characters only.

        The kinds are those of a message's parts: "text", "python" (a call of the calculator) and "python_output".
        """
        parts, characters = self._taken
        new = self._parts[parts:]
        if new:
            new[0] = (new[0][0], new[0][1][characters:])
            # the last part may go on
            self._taken = (len(self._parts) - 1, len(self._parts[-1][1]))
        return [(kind, text) for kind, text in new if text]

    @property
    def parts(self) -> list[dict[str, str]]:
        """All that has come, as the content of a message."""
        return [{"type": kind, "text": text} for kind, text in self._parts]

    @property
    def text(self) -> str:
        """All that was said, without the calls of the calculator and their results."""
        return "".join(text for kind, text in self._parts if kind == TEXT)


_MARKS = {
    "<|python_start|>": PYTHON,
    "<|python_end|>": TEXT,
    "<|output_start|>": OUTPUT,
    "<|output_end|>": TEXT,
}


def _overlap(text: str, stop: str) -> int:
    """How many of the text's last characters may be the beginning of the stop text."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
