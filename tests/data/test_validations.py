"""The interval between validations."""

from types import SimpleNamespace

import pytest

from nanochat.data.text_data import TextDataModule

NOW, LEFT = 1160, 2  # in the middle of a run of four validations


def due(data: TextDataModule, steps: int, now: int = 0) -> list[int]:
    """The steps after ``now`` at which Lightning validates, with two micro-steps per step."""
    interval = data.trainer.val_check_batch  # type: ignore[union-attr]
    return [step for step in range(now + 1, steps + 1) if 2 * step % interval == 0]


@pytest.fixture
def data() -> TextDataModule:
    module = TextDataModule(validations=4)
    module.trainer = SimpleNamespace(accumulate_grad_batches=2)  # type: ignore[assignment]
    module._spaces_validations = True
    return module


def test_validations_are_spread_evenly(data: TextDataModule) -> None:
    data.space_validations(2000)
    assert due(data, 2000) == [500, 1000, 1500, 2000]
    data.space_validations(3)
    assert due(data, 3) == [1, 2, 3]


@pytest.mark.parametrize("steps", [1170, 1200, 1300, 1600, 1900, 2000, 2100, 2600, 5000])
def test_a_changed_run_length_keeps_their_number(data: TextDataModule, steps: int) -> None:
    data.space_validations(steps, NOW, LEFT)
    still = due(data, steps, NOW)
    assert len(still) == LEFT
    assert NOW not in due(data, steps)  # Lightning also checks the step just done
    assert still[-1] > steps - 20  # the last one at the end, except for a remainder


def test_the_users_interval_is_kept(data: TextDataModule) -> None:
    data._spaces_validations = False
    data.trainer.val_check_batch = 7  # type: ignore[union-attr]
    data.space_validations(2000)
    assert data.trainer.val_check_batch == 7  # type: ignore[union-attr]
