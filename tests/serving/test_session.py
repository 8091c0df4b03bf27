"""Session (messages, undo, save, load), and the chat's commands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nanochat.inference.sampling import Sampling
from nanochat.serving.commands import COMMANDS, run_command
from nanochat.serving.session import Session, message_text, read_conversation
from tests.serving.checkpoints import attentive_model


def new_session(is_chat: bool = True, **options: object) -> Session:
    options = {"settings": Sampling(1.0), "max_tokens": 8, "seed": 1, **options}
    return Session(attentive_model(is_chat), **options)  # type: ignore[arg-type]


def ask(session: Session, question: str) -> str:
    return "".join(text for kind, text in session.ask(question) if kind == "text")


def test_answer_depends_on_the_conversation() -> None:
    session = new_session()
    first, second = ask(session, "hello"), ask(session, "again")
    assert [m["role"] for m in session.messages] == ["user", "assistant"] * 2
    assert [message_text(m) for m in session.messages] == ["hello", first, "again", second]
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": first}]
    messages += [{"role": "user", "content": "again"}]
    assert second == session.model.chat(messages, temperature=1.0, max_tokens=8, seed=2)
    assert second != session.model.chat("again", temperature=1.0, max_tokens=8, seed=2)


def test_seed_repeats_a_conversation_and_retry_varies() -> None:
    session = new_session()
    first = ask(session, "hello")
    assert first == ask(new_session(), "hello")
    reply = run_command(session, "/retry")
    assert (reply.ask, session.messages) == ("hello", [])
    assert ask(session, reply.ask or "") != first
    assert len(session.messages) == 2


def test_system_message_changes_the_answer() -> None:
    assert ask(new_session(system="be brief"), "hello") != ask(new_session(), "hello")


def test_stopped_answer_is_kept() -> None:
    session = new_session(max_tokens=None)
    received: list[str] = []
    for _, text in session.ask("hello", stopped=lambda: len(received) >= 3):
        received.append(text)
    assert [message_text(m) for m in session.messages] == ["hello", "".join(received)]
    assert session.stats[-1].finished == "cancelled"
    assert not session.model.engine.active


def test_question_stopped_before_its_answer_is_removed() -> None:
    session = new_session()
    assert list(session.ask("hello", stopped=lambda: True)) == []
    assert session.messages == []


def test_closing_the_answer_cancels() -> None:
    session = new_session(max_tokens=None)
    chunks = session.ask("hello")
    next(chunks)
    chunks.close()
    assert not session.model.engine.active
    assert len(session.messages) == 2


def test_oldest_turns_are_dropped() -> None:
    session = new_session(system="be brief")
    for _ in range(12):
        ask(session, "a question of thirty letters..")
    assert session.dropped >= 2
    assert session.dropped % 2 == 0
    assert len(session.messages) == 24  # the user can still see and save them
    assert f"without the oldest {session.dropped} messages" in run_command(session, "/stats").text


def test_too_long_question_changes_nothing() -> None:
    session = new_session()
    with pytest.raises(ValueError, match="too long"):
        session.ask("x" * 300)
    assert session.messages == []


def test_base_model_continues_each_text_independently() -> None:
    session = new_session(is_chat=False)
    ask(session, "hello")
    assert ask(session, "again") == session.model.generate("again", temperature=1.0, max_tokens=8, seed=2)
    with pytest.raises(ValueError, match="takes no system message"):
        run_command(session, "/system be brief")


def test_calculator_calls_are_parts() -> None:
    session = new_session()
    model = session.model
    special = model.tokenizer.special_tokens
    generation = model.start("x", max_tokens=64)
    for token in [special["<|python_start|>"], *b"2*3", special["<|python_end|>"], *b"It is 6."]:
        generation.add(token)
    generation.finish("stop")
    chunks = session._answer(generation, {"role": "user", "content": "2*3?"}, lambda: False)
    assert list(chunks) == [("python", "2*3"), ("python_output", "6"), ("text", "It is 6.")]
    assert session.messages[-1]["content"] == [
        {"type": "python", "text": "2*3"},
        {"type": "python_output", "text": "6"},
        {"type": "text", "text": "It is 6."},
    ]
    assert message_text(session.messages[-1]) == "It is 6."


# ---------------------------------------------------------------------------------------------------- commands


def test_help_lists_every_command() -> None:
    text = run_command(new_session(), "/help").text
    assert all(f"\n/{name}" in f"\n{text}" for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 80


def test_new_keeps_the_system_message() -> None:
    session = new_session(system="be brief")
    ask(session, "hello")
    run_command(session, "/new")
    assert (session.messages, session.system) == ([], "be brief")


def test_undo() -> None:
    session = new_session()
    ask(session, "first")
    ask(session, "second")
    assert "second" in run_command(session, "/undo").text
    assert [message_text(m) for m in session.messages][::2] == ["first"]
    run_command(session, "/undo")
    for command in ("/undo", "/retry"):
        with pytest.raises(ValueError, match="there is nothing to"):
            run_command(session, command)


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "a chat.json"
    session = new_session(system="be brief")
    ask(session, "h\u00e9llo")
    run_command(session, f"/save {path}")
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved == {"messages": [{"role": "system", "content": "be brief"}, *session.messages]}
    other = new_session()
    assert "2 messages" in run_command(other, f"/load {path}").text
    assert (other.messages, other.system) == (session.messages, "be brief")
    run_command(other, f"/save {path}")  # overwrites a conversation
    assert read_conversation(path) == saved["messages"]


def test_unanswered_question_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "question.json"
    path.write_text('{"messages": [{"role": "user", "content": "hello"}]}')
    session = new_session()
    assert "/retry asks it" in run_command(session, f"/load {path}").text
    assert run_command(session, "/retry").ask == "hello"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a conversation"),
        ("[]", "there is no"),
        ('{"messages": []}', "there are no messages"),
        ('{"messages": [{"role": "cook", "content": "x"}]}', "message 1 has the role 'cook'"),
        ('{"messages": ' + "[" * 100_000, "is not a conversation"),
    ],
)
def test_other_files_are_neither_loaded_nor_overwritten(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    session = new_session()
    ask(session, "hello")
    before = list(session.messages)
    with pytest.raises(ValueError, match=message):
        run_command(session, f"/load {path}")
    with pytest.raises(ValueError, match="exists and is not a conversation: give another name"):
        run_command(session, f"/save {path}")
    assert (session.messages, path.read_text()) == (before, content)


def test_file_errors_are_one_line(tmp_path: Path) -> None:
    session = new_session()
    with pytest.raises(ValueError, match="nothing to save yet"):
        run_command(session, f"/save {tmp_path / 'x.json'}")
    ask(session, "hello")
    (tmp_path / "file").touch()
    for line, message in (
        ("/save", "/save needs a file name"),
        ("/load", "/load needs a file name"),
        (f"/load {tmp_path / 'none.json'}", "cannot read .*none.json: No such file"),
        (f"/save {tmp_path / 'file' / 'x.json'}", "cannot write|exists"),
        ("/save ~no-such-user/x.json", "there is no home folder for the user in ~no-such-user/x.json"),
    ):
        with pytest.raises(ValueError, match=message):
            run_command(session, line)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.timeout(200)
def test_named_pipe_does_not_block(tmp_path: Path) -> None:
    session = new_session()
    ask(session, "hello")
    os.mkfifo(tmp_path / "pipe")
    for command in ("load", "save"):
        with pytest.raises(ValueError, match="is not a conversation"):
            run_command(session, f"/{command} {tmp_path / 'pipe'}")


def test_temperature_and_system() -> None:
    session = new_session()
    assert run_command(session, "/temperature 0.25").text == "The temperature is 0.25."
    assert (session.settings.temperature, session.settings.top_k) == (0.25, 50)
    for invalid in ("hot", "-1", "nan"):
        with pytest.raises(ValueError, match="temperature"):
            run_command(session, f"/temperature {invalid}")
    assert run_command(session, "/temperature").text == "The temperature is 0.25."
    run_command(session, "/system be brief")
    assert run_command(session, "/system").text == "be brief"
    run_command(session, "/system off")
    assert session.system == ""


def test_stats_shows_the_speed() -> None:
    session = new_session()
    ask(session, "hello")
    assert "8 tokens at" in run_command(session, "/stats").text
    assert "tokens/s" in run_command(session, "/stats").text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/hlep", "there is no command /hlep, did you mean /help\\?"),
        ("/s", "did you mean /save or /system or /stats\\?"),
        ("/usr/bin", "/help lists the commands; to ask a question that begins with /, type a space first"),
        ("/", "there is no command /"),
        ("/new chat", "/new takes no argument"),
    ],
)
def test_unknown_command_suggests_the_nearest(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_command(new_session(), line)


def test_aliases_of_quit() -> None:
    assert all(run_command(new_session(), line).quit for line in ("/quit", "/exit", "/q", "/QUIT"))
