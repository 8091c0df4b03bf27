"""``tokenizer train`` and ``tokenizer evaluate``: a vocabulary by itself, and how well it compresses."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nanochat.cli.errors import UsageError, check_free, report_errors
from nanochat.cli.main import COMMANDS, program_name
from nanochat.cli.parser import call
from nanochat.options import nearest
from nanochat.runs import CHECKPOINTS

if TYPE_CHECKING:
    from nanochat.tokenizer import Tokenizer

COLUMN = 14  # characters


def train(
    out: str,
    corpus: str = "embedded",
    vocab_size: int = 512,
    column: str = "text",
    split: str = "train",
    max_shards: int | None = None,
    overwrite: bool = False,
) -> None:
    """Learns a vocabulary from a corpus, and writes it as JSON. (`fit` does so by itself.)

    Args:
        out: The JSON file to write.
        corpus: embedded, the path of a file or a folder, or a corpus on the hub; as --data.corpus of `fit`.
        vocab_size: Number of tokens, the nine special ones included; at least 265.
        column: The column of .parquet files, or the field of .jsonl records, that holds the text.
        split: Of a corpus on the hub.
        max_shards: Of a corpus on the hub, read no more than its first so many files.
        overwrite: Whether the file may be replaced.
    """
    from nanochat.cache import write_atomically
    from nanochat.data.corpora import open_corpus
    from nanochat.data.prepare import cached_tokenizer
    from nanochat.tokenizer.tokenizer import check_vocab_size

    path = Path(out)
    check_vocab_size(vocab_size)
    check_free(path, "--out", overwrite)
    tokenizer = cached_tokenizer(open_corpus(corpus, column, split, max_shards), True, vocab_size)
    write_atomically(path, json.dumps(tokenizer.to_dict(), indent=0))
    learned = len(tokenizer.tokens)
    few = "" if learned + len(tokenizer.special_tokens) == vocab_size else " (the text yields no more)"
    print(f"Wrote {path}: {vocab_size:,} tokens, {learned - 256:,} of them learned from {corpus}{few}")
    print("How well it compresses:")
    print(f"  {program_name()} tokenizer evaluate --tokenizer={path}")


def evaluate(
    tokenizer: str | None = None,
    ckpt_path: str | None = None,
    name: str | None = None,
    root: str = ".",
    text: str | None = None,
) -> None:
    """Shows how many bytes of text a token stands for, beside GPT-2's and GPT-4's where tiktoken has or can fetch them.

    Args:
        tokenizer: A JSON file that `tokenizer train` wrote; null takes the tokenizer of a model.
        ckpt_path: The model: a file, a run's folder, or last or best of the newest run.
        name: Of the runs to take the newest from.
        root: The folder that lightning_logs is in.
        text: A text file of your own to measure on as well.
    """
    from nanochat.grid import grid
    from nanochat.tokenizer.compression import TEXTS, bytes_per_token, others

    texts = dict(TEXTS)
    if text is not None:
        texts[Path(text).name[:COLUMN]] = _read(Path(text))
    label, mine = _tokenizer(tokenizer, ckpt_path, name, root)
    found, absent = others(texts)
    rows = {label: bytes_per_token(mine.encode, texts), **found}
    cells = [[who, *(f"{figure:.2f}" for figure in figures.values())] for who, figures in rows.items()]
    print("Bytes per token: the more, the shorter the rows that say the same")
    print(grid([["", *texts], *cells], right=range(1, 1 + len(texts))))
    if absent:
        print(f"Not compared with {' and '.join(absent)}: not on this machine, and there is no network to fetch it by")


def _read(path: Path) -> str:
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"--text={path}: not a text file in UTF-8") from error
    except OSError as error:
        raise UsageError(f"--text={path} cannot be read: {error.strerror}") from error
    if not content:
        raise UsageError(f"--text={path}: the file is empty")
    return content


def _tokenizer(file: str | None, ckpt_path: str | None, name: str | None, root: str) -> tuple[str, Tokenizer]:
    """What to call it, and the tokenizer."""
    from nanochat.tokenizer import Tokenizer  # not above: --help does not wait for it

    if file is not None:
        if not Path(file).is_file():
            raise UsageError(f"there is no file {file}: `{program_name()} tokenizer train` writes one")
        return Path(file).stem, Tokenizer.load(Path(file))
    from nanochat.serving.find import choose
    from nanochat.training.model_files import read_model

    path = choose(ckpt_path, name, root, program_name())
    in_run = path.absolute().parent.name == CHECKPOINTS
    return (path.absolute().parts[-4] if in_run else path.stem), read_model(path).tokenizer


FUNCTIONS: dict[str, Callable[..., None]] = {"train": train, "evaluate": evaluate}
WHAT = {"train": "learn a vocabulary from a corpus", "evaluate": "measure how well one compresses"}


def run(arguments: Sequence[str]) -> int:
    """Runs ``tokenizer train`` or ``tokenizer evaluate``; returns the exit status."""
    return report_errors(lambda: _call(arguments[1:]))


def _call(words: Sequence[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(
            f"usage: {program_name()} tokenizer {{{','.join(FUNCTIONS)}}} [options]\n\n"
            f"{COMMANDS['tokenizer'].description}\n"
        )
        print("\n".join(f"  {name:<10}{what}" for name, what in WHAT.items()))
        return
    command = words[0]
    if command not in FUNCTIONS:
        raise UsageError(f"there is no tokenizer {command}{nearest(command, FUNCTIONS)} ({', '.join(FUNCTIONS)})")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    flags = {"overwrite": "Replace the file, if there is one."} if command == "train" else {}
    call(FUNCTIONS[command], [f"tokenizer {command}", *words[1:]], WHAT[command], **flags)
