# ruff: noqa: RUF001 (letters that look like Latin ones)
"""Compression of a tokenizer: UTF-8 bytes per token on texts of different kinds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

REFERENCES = {"GPT-2": "gpt2", "GPT-4": "cl100k_base"}  # tokenizers to compare with: name and tiktoken encoding
TIMEOUT = 20.0  # seconds to download one of them

PROSE = """\
When the ferry had gone, the harbour fell quiet again. Two boys sat on the wall with their feet above the water and
argued about the number of islands one could see on a clear day. The older one had counted eleven; the younger one said
that a rock with a bush on it was an island too, and so there were thirteen, or twelve if the one behind the lighthouse
was part of the mainland at low tide. Nobody had ever settled the question. Their grandmother, who mended nets in the
shade, said that an island was a place from which you could not walk to the baker, and went on with her work.

In the afternoon the wind turned. It brought the smell of rain, and the gulls came in from the sea to stand on roofs,
all of them looking the same way. People took their washing down. By the time the first drops fell, the boys had agreed
on twelve and a half, which seemed fair to both, and had begun to argue about the half.
"""
CODE = '''\
from dataclasses import dataclass, field


@dataclass
class Node:
    """A node of a search tree; keys to the left are smaller, those to the right larger."""

    key: int
    value: str
    left: "Node | None" = None
    right: "Node | None" = None
    tags: list[str] = field(default_factory=list)


def insert(root: Node | None, key: int, value: str) -> Node:
    if root is None:
        return Node(key, value)
    if key < root.key:
        root.left = insert(root.left, key, value)
    elif key > root.key:
        root.right = insert(root.right, key, value)
    else:
        root.value = value
    return root


def depth(root: Node | None) -> int:
    return 0 if root is None else 1 + max(depth(root.left), depth(root.right))


if __name__ == "__main__":
    tree = None
    for number, word in enumerate(["pear", "apple", "plum"], start=1):
        tree = insert(tree, hash(word) % 97, f"{number}: {word!r}")
    assert tree is not None and depth(tree) <= 3, "the tree is too deep"
'''
SCRIPTS = """\
Утром в деревне было тихо, только где-то за рекой лаяла собака. Дети пошли в школу по узкой тропинке.
早上村子里很安静，只有河对岸的一只狗在叫。孩子们沿着小路去上学，老师已经在门口等他们。
朝、村はとても静かだった。川の向こうで犬が一匹ほえていた。子どもたちは細い道を歩いて学校へ行った。
아침에 마을은 조용했다. 강 건너에서 개 한 마리만 짖고 있었다. 아이들은 좁은 길을 따라 학교에 갔다.
في الصباح كانت القرية هادئة، ولم يكن يُسمع سوى نباح كلب خلف النهر. ذهب الأطفال إلى المدرسة.
सुबह गाँव में शांति थी, केवल नदी के पार एक कुत्ता भौंक रहा था। बच्चे पगडंडी से स्कूल गए।
Το πρωί το χωριό ήταν ήσυχο, μόνο ένας σκύλος γάβγιζε πέρα από το ποτάμι. Τα παιδιά πήγαν στο σχολείο.
בבוקר היה הכפר שקט, ורק כלב אחד נבח מעבר לנהר. הילדים הלכו לבית הספר בשביל הצר.
"""
NUMBERS = "".join(f"{n * 7919 % 10_007},{n * n / 8:.3f},{1900 + n * 37 % 130}-{n % 12 + 1:02}\n" for n in range(1, 60))
TEXTS = {"prose": PROSE, "code": CODE, "numbers": NUMBERS, "other scripts": SCRIPTS}  # all written for this module


def bytes_per_token(encode: Callable[[str], Sequence[int]], texts: dict[str, str]) -> dict[str, float]:
    """Mean number of UTF-8 bytes per token, for each text."""
    return {name: len(text.encode()) / len(encode(text)) for name, text in texts.items()}


def measure_references(
    texts: dict[str, str], timeout: float = TIMEOUT
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """:func:`bytes_per_token` of the tokenizers in :data:`REFERENCES` that are cached or can be downloaded.

    tiktoken downloads without a timeout, so each tokenizer is measured in a subprocess that is killed after
    ``timeout`` seconds.

    Returns:
        The measurements by tokenizer name; and the names of the tokenizers that are unavailable.
    """
    measured: dict[str, dict[str, float]] = {}
    context = multiprocessing.get_context("spawn")
    for name, encoding in REFERENCES.items():
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_measure, args=(sender, encoding, texts), daemon=True)
        process.start()
        sender.close()
        try:
            if receiver.poll(timeout) and (result := receiver.recv()) is not None:
                measured[name] = result
        except EOFError:
            pass  # the process ended without an answer
        process.kill()
        process.join()
        receiver.close()
    return measured, [name for name in REFERENCES if name not in measured]


def _measure(pipe: Any, encoding: str, texts: dict[str, str]) -> None:
    """Sends the bytes per token of a tiktoken encoding, or None if it is unavailable."""
    import tiktoken

    try:
        pipe.send(bytes_per_token(tiktoken.get_encoding(encoding).encode_ordinary, texts))
    except Exception:  # whatever the HTTP library raises
        pipe.send(None)
