"""Two processes that prepare the same text in one shared cache at the same time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nanochat.data.tokens.prepare import CorpusOptions, prepare
from nanochat.data.tokens.shards import StoredShards
from nanochat.data.tokens.token_files import TokenFile


@pytest.mark.parametrize(("kind", "reader"), [(TokenFile, "open"), (StoredShards, "open_folder")])
def test_a_result_finished_by_another_process_is_kept(
    kind: Any, reader: str, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process finishes after this one has found the cache empty, and before it starts."""
    monkeypatch.setenv("NANOCHAT_CACHE", str(tmp_path))
    sources = CorpusOptions(str(corpus_folder))
    read = getattr(kind, reader)
    made: list[Path] = []
    calls: list[Any] = []

    def read_after_miss(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 1:
            return read(*arguments)
        with pytest.raises((OSError, ValueError)):
            read(*arguments)
        prepare(sources, 300)  # the other process
        made.extend((tmp_path / "tokens").iterdir())
        for folder in made:
            (folder / "made by the other process").touch()
        raise FileNotFoundError

    monkeypatch.setattr(kind, reader, read_after_miss)
    prepare(sources, 300)
    assert len(made) == 2
    assert all((folder / "made by the other process").exists() for folder in made)
    assert sorted(made) == sorted((tmp_path / "tokens").iterdir())
