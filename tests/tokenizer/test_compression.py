"""Bytes per token, and the time limit for reference tokenizers that are unavailable."""

from __future__ import annotations

import time

import pytest

from nanochat.tokenizer import Tokenizer, compression
from nanochat.tokenizer.compression import TEXTS, bytes_per_token, measure_references


def test_bytes_per_token() -> None:
    letters = Tokenizer([bytes([byte]) for byte in range(256)], 265)
    assert bytes_per_token(letters.encode, TEXTS) == dict.fromkeys(TEXTS, 1.0)
    pairs = Tokenizer([*(bytes([byte]) for byte in range(256)), b"ab"], 266)
    assert bytes_per_token(pairs.encode, {"a": "abab", "b": "abc", "c": "é"}) == {"a": 2.0, "b": 1.5, "c": 1.0}


def test_texts_match_their_names() -> None:
    assert all(len(text.encode()) > 800 for text in TEXTS.values())
    assert sum(c.isdigit() for c in TEXTS["numbers"]) > 0.6 * len(TEXTS["numbers"])
    assert all(len(line.encode()) > 1.5 * len(line) for line in TEXTS["other scripts"].splitlines())
    compile(TEXTS["code"], "code", "exec")


def test_unavailable_references_are_named() -> None:
    measured, unavailable = measure_references({"a": "text"})
    assert {*measured, *unavailable} == {"GPT-2", "GPT-4"}


def test_references_have_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "REFERENCES", {"GPT-2": "gpt2"})
    monkeypatch.setattr(compression, "_measure", time.sleep)  # raises in the subprocess, whose arguments are not a time
    started = time.monotonic()
    assert measure_references({"a": "text"}, timeout=0.0) == ({}, ["GPT-2"])
    assert time.monotonic() - started < 100
