"""Two machines that prepare the same text in one shared folder at the same time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nanochat.data.tokens.prepare import CorpusOptions, prepare
from nanochat.data.tokens.shards import StoredShards
from nanochat.data.tokens.token_files import TokenFile


@pytest.mark.parametrize(("kind", "reader"), [(TokenFile, "open"), (StoredShards, "open_folder")])
def test_what_another_has_just_finished_is_left_alone(
    kind: Any, reader: str, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other is done between the moment when this one finds nothing and the moment when it begins."""
    monkeypatch.setenv("NANOCHAT_CACHE", str(tmp_path))
    sources = CorpusOptions(str(corpus_folder))
    read = getattr(kind, reader)
    made: list[Path] = []
    asked: list[Any] = []

    def too_early(*arguments: Any) -> Any:
        asked.append(arguments)
        if len(asked) > 1:
            return read(*arguments)
        with pytest.raises((OSError, ValueError)):
            read(*arguments)
        prepare(sources, 300)  # the other
        made.extend((tmp_path / "tokens").iterdir())
        for folder in made:
            (folder / "made by the other").touch()
        raise FileNotFoundError

    monkeypatch.setattr(kind, reader, too_early)
    prepare(sources, 300)
    assert len(made) == 2
    assert all((folder / "made by the other").exists() for folder in made)
    assert sorted(made) == sorted((tmp_path / "tokens").iterdir())
