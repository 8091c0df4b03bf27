import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.tokens.batches import HeldOutBatches
from nanochat.data.tokens.held_out_rows import HeldOutRows
from nanochat.model import IGNORE
from tests.data.tokens.test_token_stream import LENGTHS, token_file


@given(LENGTHS, st.integers(1, 20))
def test_each_held_out_token_is_predicted_once(lengths: list[int], row_length: int) -> None:
    file = token_file(lengths)
    rows = HeldOutRows(file, row_length)
    targets = np.concatenate([rows.row(i)[1:] for i in range(len(rows))] or [np.zeros(0, np.int64)])
    assert sorted(targets) == sorted(set(range(sum(lengths))) - set(file.starts.tolist()))
    assert rows.predictions == len(targets)
    for i in range(len(rows)):
        row = rows.row(i)
        assert 2 <= len(row) <= row_length + 1
        document = np.searchsorted(file.starts, row[0], side="right")
        assert row[-1] < file.starts[document]  # a row lies within one document


@given(LENGTHS, st.integers(1, 4))
def test_ranks_share_the_rows_in_equal_numbers_of_batches(lengths: list[int], world_size: int) -> None:
    rows = HeldOutRows(token_file(lengths), 16)
    ranks = [list(HeldOutBatches(rows, len(rows), 0, rank, world_size)) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    targets = [t for batches in ranks for _, target in batches for t in target[target != IGNORE].tolist()]
    assert sorted(targets) == sorted(t for i in range(len(rows)) for t in rows.row(i)[1:].tolist())


def test_first_counts_rows_up_to_a_number_of_predictions() -> None:
    rows = HeldOutRows(token_file([17] * 20), 16)
    assert [rows.first(n) for n in (1, 16, 17, 160, 10_000)] == [1, 1, 2, 10, 20]
