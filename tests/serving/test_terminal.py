"""The chat in the terminal: keys, pasted lines, completion, and Markdown that is rendered while it arrives."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from nanochat.serving.chat_loop import chat_loop
from nanochat.serving.keyboard import CommandCompleter, Keyboard, PlainKeyboard, interruptible, new_keyboard
from nanochat.serving.markdown import MarkdownBlock, clean, split_complete_blocks
from nanochat.serving.screen import THEME, PlainScreen, RichScreen
from nanochat.serving.session import Chunk, Session, message_text
from tests.serving.test_session import new_session

CTRL_C, CTRL_D, ALT_ENTER = "\x03", "\x04", "\x1b\r"


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe:
        yield pipe


def chat(keys: PipeInput, typed: str, session: Session | None = None) -> tuple[Session, str]:
    """Types the keys; returns the session and the output."""
    session, out = session or new_session(), io.StringIO()
    keys.send_text(typed)
    chat_loop(session, Keyboard(input=keys, output=DummyOutput()), PlainScreen(out, out), "python cli.py")
    return session, out.getvalue()


def questions(session: Session) -> list[str]:
    return [message_text(m) for m in session.messages if m["role"] == "user"]


def test_answers_questions_until_ctrl_d(keys: PipeInput) -> None:
    session, shown = chat(keys, "hello\r\r  \ragain\r" + CTRL_D)
    assert questions(session) == ["hello", "again"]
    assert all(clean(message_text(m)) in shown for m in session.messages if m["role"] == "assistant")
    assert shown.startswith("babbler: 29,248 parameters, context 256 tokens\n/help lists")


def test_commands_are_not_asked(keys: PipeInput) -> None:
    session, shown = chat(keys, "hello\r/stats\r/retry\r/hlep\r /usr is what?\r/undo\r/quit\rnever\r")
    assert questions(session) == ["hello"]
    assert "Retry: hello" in shown
    assert "error: there is no command /hlep, did you mean /help?" in shown
    assert "Removed: /usr is what?" in shown
    assert "all      1 answer, " in shown
    assert f"file     {session.model.path}" in shown


def test_pasted_lines_are_one_question(keys: PipeInput) -> None:
    session, _ = chat(keys, "\x1b[200~def f():\n    return 1\n\x1b[201~what?\r" + "one" + ALT_ENTER + "two\r" + CTRL_D)
    assert questions(session) == ["def f():\n    return 1\nwhat?", "one\ntwo"]


def test_ctrl_c_clears_the_line_and_twice_quits(keys: PipeInput) -> None:
    session, shown = chat(keys, "not this" + CTRL_C + "this\r" + CTRL_C + "that\r" + CTRL_C + CTRL_C + "never\r")
    assert questions(session) == ["this", "that"]
    assert shown.count("Press Ctrl-C again") == 2


@pytest.mark.timeout(200)
def test_pasted_escape_sequences_are_ignored(keys: PipeInput, capfd: pytest.CaptureFixture[str]) -> None:
    """prompt_toolkit parses a colour as a mouse event without a position."""
    session, _ = chat(keys, "\x1b[31mred\x1b[0m\r\x1b[<0;1Mone\x1b[1;1R\r" + CTRL_D)
    assert questions(session) == ["red", "one"]
    assert capfd.readouterr() == ("", "")  # no traceback


@pytest.mark.timeout(200)
def test_ctrl_c_ends_a_history_search(keys: PipeInput) -> None:
    session, shown = chat(keys, "\x12" + CTRL_C + "hello\r" + CTRL_D)
    assert questions(session) == ["hello"]
    assert "Ctrl-C again" not in shown


def test_too_long_question_does_not_end_the_chat(keys: PipeInput) -> None:
    session, shown = chat(keys, "x" * 300 + "\rhello\r" + CTRL_D)
    assert questions(session) == ["hello"]
    assert "error: the last message is too long" in shown


def test_notes_about_dropped_turns_and_cut_answers(keys: PipeInput) -> None:
    _, shown = chat(keys, "a question of thirty letters..\r" * 12 + CTRL_D)
    assert "The oldest 2 messages no longer fit into the model's context of 256 tokens" in shown
    assert "Cut off: --max_tokens is reached." in shown


def test_base_model_notice(keys: PipeInput) -> None:
    session, shown = chat(keys, "hello\r" + CTRL_D, new_session(is_chat=False))
    assert "it continues your text, but does not answer questions" in shown
    assert "python cli.py fit --config configs/tiny.yaml --config configs/chat.yaml" in shown
    assert clean("hello" + message_text(session.messages[1])) in shown


def test_ctrl_c_stops_the_answer(keys: PipeInput) -> None:
    """SIGINT arrives during the answer."""
    session = new_session(max_tokens=None)
    ask, sent = session.ask, []

    def interrupted(question: str, stopped: object = None) -> Iterator[Chunk]:
        for chunk in ask(question, stopped):  # type: ignore[arg-type]
            yield chunk
            if len(session.stats) == 0 and not sent:
                sent.append(os.kill(os.getpid(), signal.SIGINT))

    session.ask = interrupted  # type: ignore[method-assign, assignment]
    _, shown = chat(keys, "hello\ragain\r" + CTRL_D, session)
    assert [answer.finished for answer in session.stats] == ["cancelled", "length"]
    assert "Stopped." in shown
    assert questions(session) == ["hello", "again"]


def test_ctrl_c_between_line_and_answer(keys: PipeInput) -> None:
    """SIGINT arrives after the line was accepted, while prompt_toolkit's handler is still installed."""

    async def signal_late() -> None:
        app = Keyboard(input=keys, output=DummyOutput()).session.app
        app.key_processor.send_sigint()
        await app.cancel_and_wait_for_background_tasks()

    asyncio.run(signal_late())


def test_second_ctrl_c_raises() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as stopped:
        assert not stopped()
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_redirected_stdout_keeps_the_prompt_in_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    monkeypatch.setenv("TERM", "xterm")
    near, far = pty.openpty()
    with open(near, "rb"), open(far, "w") as terminal:
        monkeypatch.setattr("sys.stdout", io.StringIO())
        monkeypatch.setattr("sys.stderr", terminal)
        keyboard = new_keyboard()
        assert isinstance(keyboard, Keyboard)
        assert keyboard.session.output.fileno() == terminal.fileno()


def test_echo_is_off_between_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise keys pressed during an answer would appear in the middle of it."""
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    import termios

    near, far = pty.openpty()
    with open(near, "wb"), open(far) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)

        def echoes() -> bool:
            return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)

        def fake_input(prompt: str) -> str:
            during_read.append(echoes())
            return "/stats" if len(during_read) < 3 else "/quit"

        class Screen(PlainScreen):
            def note(self, text: str) -> None:
                between.append(echoes())

        during_read: list[bool] = []
        between: list[bool] = []
        monkeypatch.setattr("builtins.input", fake_input)
        chat_loop(new_session(), PlainKeyboard(), Screen(io.StringIO(), io.StringIO()), "python cli.py")
        assert during_read == [True] * 3
        assert between == [False] * 3  # the greeting, and two replies
        assert echoes()


def test_command_completion() -> None:
    def completions(text: str) -> list[str]:
        return [c.text for c in CommandCompleter().get_completions(Document(text), CompleteEvent())]

    assert completions("/s") == ["save", "system", "stats"]
    assert completions("s") == []
    assert completions("/load ./pyproj") == ["ect.toml"]


# ---------------------------------------------------------------------------------------------------- output

ANSWER = """`dedent` removes **common** whitespace; see __init__, <lambda> and 2*3*4.

```python
def f():

    return 1
```
- one
- two

>>> f()
1

The end."""


def shown(text: str, width: int = 60) -> list[str]:
    console = Console(file=io.StringIO(), width=width, theme=THEME, highlight=False)
    console.print(MarkdownBlock(text))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_names_and_tags_are_literal() -> None:
    assert shown("see __init__, _x_, <lambda>, 2*3*4 and **bold** *it*") == [
        "see __init__, _x_, <lambda>, 2*3*4 and bold it"
    ]


def test_doctests_are_code() -> None:
    assert shown("Such as:\n>>> f(1)\n[1]\n\nSo it is.") == ["Such as:", "", ">>> f(1)", "[1]", "", "So it is."]


def test_code_has_no_left_padding() -> None:
    assert shown("```python\ndef f():\n    return 1\n```") == ["def f():", "    return 1"]


def test_link_shows_its_address() -> None:
    assert "https://elsewhere.example" in " ".join(shown("[here](https://elsewhere.example)"))


def test_control_characters_are_replaced() -> None:
    assert clean("a\x1b]0;title\x07b\x9b\r\n\tc") == "a\ufffd]0;title\ufffdb\ufffd\ufffd\n\tc"
    assert "\x1b" not in "".join(shown("a\x1b[2Jb"))


@given(
    st.lists(st.sampled_from(["a\n", "\n", "```\n", "~~~\n", "````\n", "- b\n", "    c\n", "``` x\n"])),
    st.integers(0, 99),
)
def test_blocks_do_not_depend_on_chunking(lines: list[str], cut: int) -> None:
    text = "".join(lines)
    blocks, rest = split_complete_blocks(text)
    assert "".join([*blocks, rest]).replace("\n", "") == text.replace("\n", "")
    first, left = split_complete_blocks(text[:cut])
    assert first == blocks[: len(first)]
    assert split_complete_blocks(left + text[cut:]) == (blocks[len(first) :], rest)


def test_streamed_answer_ends_like_a_whole_one() -> None:
    chunks = [("text", c) for c in ANSWER]
    console = Console(file=io.StringIO(), width=60, height=6, force_terminal=True, theme=THEME, highlight=False)
    RichScreen(console).show([("python", "6*7"), ("python_output", "42"), *chunks])
    final = _final(console.file.getvalue())  # type: ignore[attr-defined]
    blocks, rest = split_complete_blocks(ANSWER)
    wanted = [line for block in [*blocks, rest] for line in [*shown(block), ""]]
    assert final == ["6*7 = 42", *wanted]


def _final(text: str) -> list[str]:
    """The final lines of a terminal of unlimited height."""
    import re

    lines, row = [""], 0
    for part in re.split(r"(\x1b\[[\d;?]*[a-zA-Z]|\n|\r)", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif match := re.fullmatch(r"\x1b\[(\d*)A", part):
            row -= int(match[1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b") and part != "\r":
            lines[row] += part
    while lines and not lines[-1]:
        lines.pop()
    return [*(line.rstrip() for line in lines), ""]


def test_call_without_result() -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, theme=THEME, highlight=False)
    chunks = [("python", "1/"), ("python", "0"), ("text", "No."), ("python", "6*7"), ("python_output", "42")]
    RichScreen(console).show([*chunks, ("text", "Yes.")])
    shown = _final(console.file.getvalue())  # type: ignore[attr-defined]
    assert shown == ["1/0 = no result", "No.", "", "6*7 = 42", "Yes.", ""]


def test_command_in_a_note_is_not_broken() -> None:
    console = Console(file=io.StringIO(), width=32, theme=THEME, highlight=False)
    RichScreen(console).note(
        "Fine-tune it for chat with this command line:\n  python cli.py fit --config configs/tiny.yaml"
    )
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    command = "  python cli.py fit --config configs/tiny.yaml"
    assert [line.rstrip() for line in lines] == ["Fine-tune it for chat with this", "command line:", command, ""]


def test_plain_screen_prints_text_only() -> None:
    out, notes = io.StringIO(), io.StringIO()
    PlainScreen(out, notes).show([("python", "6*7"), ("python_output", "42"), ("text", "It is **42**.")])
    assert (out.getvalue(), notes.getvalue()) == ("It is **42**.\n", "")
