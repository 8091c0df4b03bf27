import pytest

from nanochat.model import GPTConfig


@pytest.mark.parametrize(
    ("depth", "width", "heads"), [(4, 256, 4), (6, 384, 6), (8, 512, 8), (12, 768, 12), (20, 1280, 10), (13, 832, 13)]
)
def test_width_and_heads_follow_the_depth(depth: int, width: int, heads: int) -> None:
    assert GPTConfig.from_options(depth, 512, 256) == GPTConfig(
        sequence_len=256, vocab_size=512, n_layer=depth, n_head=heads, n_kv_head=heads, n_embd=width
    )


@pytest.mark.parametrize("depth", range(1, 65))
def test_every_depth_gives_a_shape(depth: int) -> None:
    config = GPTConfig.from_options(depth, 512, 512)
    assert config.n_head * config.head_dim == config.n_embd
    assert config.head_dim in (64, 128)


def test_hyperparameters_and_back() -> None:
    config = GPTConfig.from_options(3, 300, 64, width=96, heads=6, kv_heads=2)
    saved = config.to_hyperparameters()
    assert saved == {"depth": 3, "width": 96, "heads": 6, "kv_heads": 2, "vocab_size": 300, "context": 64}
    assert GPTConfig.from_hyperparameters({**saved, "matrix_lr": 0.02}) == config
    least = {"depth": 4, "vocab_size": 300, "context": 64}
    assert GPTConfig.from_hyperparameters({**least, "width": None}) == GPTConfig.from_options(4, 300, 64)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depth": 0}, "depth must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
        ({"width": 300}, "take 256 or 320"),
        ({"width": 256, "heads": 3}, "3 heads"),
        ({"width": 257, "heads": 257}, "even"),
        ({"heads": 4, "kv_heads": 3}, "3 key/value heads"),
        ({"heads": 4, "kv_heads": 0}, "0 key/value heads"),
        ({"vocab_size": 0}, "at least one token"),
        ({"context": 0}, "at least one token"),
    ],
)
def test_impossible_shapes_are_refused(options: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GPTConfig.from_options(**{"depth": 4, "vocab_size": 512, "context": 512, **options})
