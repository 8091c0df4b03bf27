"""Rows that are made up, so that there is nothing to fetch, to prepare or to go on from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanochat.data.module import RowsDataModule


class MadeUpRows(RowsDataModule):
    """What every LightningDataModule of this project answers, for one whose rows come from no text."""

    def prepare_data(self) -> None:
        """There is nothing to prepare."""

    def _prepare_rows(self) -> None:
        pass

    @property
    def source(self) -> str:
        return "made up"

    @property
    def extent(self) -> str:
        return "no text"

    @property
    def fingerprint(self) -> str:
        return ""

    def prompt(self, text: str) -> list[int]:
        return []

    @property
    def stop_ids(self) -> Sequence[int]:
        return []

    def _go_on(self, state_dict: dict[str, Any]) -> None:
        pass
