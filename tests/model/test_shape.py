import pytest

from nanochat.model import resolve_shape


@pytest.mark.parametrize(
    ("depth", "width", "heads"), [(4, 256, 4), (6, 384, 6), (8, 512, 8), (12, 768, 12), (20, 1280, 10), (13, 832, 13)]
)
def test_depth_alone_picks_width_and_heads(depth: int, width: int, heads: int) -> None:
    assert resolve_shape(depth) == (depth, width, heads, heads)


@pytest.mark.parametrize("depth", range(1, 65))
def test_every_depth_gives_a_shape(depth: int) -> None:
    shape = resolve_shape(depth)
    assert shape.heads * shape.head_dim == shape.width
    assert shape.head_dim in (64, 128)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0,), "at least 1"),
        ((4, 0), "at least 1"),
        ((4, 300), "take 256 or 320"),
        ((4, 256, 3), "3 heads"),
        ((4, 257, 257), "even"),
        ((4, 256, 4, 3), "3 key/value heads"),
        ((4, 256, 4, 0), "0 key/value heads"),
    ],
)
def test_what_does_not_divide_is_refused(arguments: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve_shape(*arguments)
