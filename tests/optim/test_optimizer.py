import pytest
import torch

from nanochat.optim import MuonAdamW, muon
from nanochat.optim import optimizer as optimizer_module
from nanochat.optim.learning_rates import LearningRates, default_learning_rates, default_muon_every
from nanochat.optim.muon import orthogonalize
from nanochat.optim.schedule import learning_rate_factor


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(64, 64), (128, 32), (32, 128)])
def test_orthogonalized_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    stack = torch.stack([matrix(*shape), 1000 * matrix(*shape, seed=1)])
    result = orthogonalize(stack)
    assert result.shape == stack.shape
    for before, after in zip(stack, result, strict=True):
        strengths = torch.linalg.svdvals(after)
        assert strengths.max() < 1.3
        assert strengths.quantile(0.05) > 0.5  # a random square matrix has a direction or two of no strength at all
        # and it keeps the directions: the polar factor U V^T is what it comes near to
        u, _, v = torch.linalg.svd(before, full_matrices=False)
        assert torch.nn.functional.cosine_similarity((u @ v).flatten(), after.flatten(), dim=0) > 0.95


def test_gram_iteration_equals_plain_iteration() -> None:
    """Also where singular values are as different as those of real momentum are."""
    x = torch.stack([matrix(32, 128), torch.diag(torch.logspace(0, -4, 32)) @ matrix(32, 128, seed=1)])
    x = x / x.norm(dim=(-2, -1), keepdim=True)
    torch.testing.assert_close(muon._iterate_gram(x), muon._iterate(x), rtol=1e-3, atol=1e-4)


def test_gram_iteration_in_bfloat16() -> None:
    x = torch.stack([matrix(32, 128), torch.diag(torch.logspace(0, -2, 32)) @ matrix(32, 128, seed=1)]).bfloat16()
    exact = orthogonalize(x.double())

    def error(y: torch.Tensor) -> float:
        return float((y.double() - exact).norm() / exact.norm())

    rounds = muon._iterate(x / x.norm(dim=(-2, -1), keepdim=True))
    assert error(orthogonalize(x)) < 1.05 * error(rounds)
    assert orthogonalize(x).dtype == torch.bfloat16


def test_bands_are_orthogonalized_separately() -> None:
    whole = matrix(64, 48)
    by_hand = torch.cat([orthogonalize(band[None])[0] for band in whole.split(16)])
    torch.testing.assert_close(orthogonalize(whole[None], band=16)[0], by_hand)
    for none in (None, 64, 128, 24):  # 24 does not divide the rows
        assert orthogonalize(whole[None], band=none).equal(orthogonalize(whole[None]))


@pytest.mark.parametrize("shape", [(64, 64), (128, 32), (32, 128)])
@pytest.mark.parametrize("band", [None, 16])
def test_update_norm_does_not_depend_on_bands(shape: tuple[int, int], band: int | None) -> None:
    p = torch.nn.Parameter(torch.zeros(shape))
    p.grad = matrix(*shape)
    MuonAdamW([{"name": "m", "algorithm": "muon", "params": [p], "lr": 0.5}], band=band).step()
    assert float(p.norm()) == pytest.approx(0.5 * shape[0] ** 0.5, rel=0.3)  # the singular values are 0.7 to 1.2


def test_muon_equals_torch_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_module, "MOMENTUM_START", 0.95)  # torch's has no warm-up of the momentum
    shapes = [(64, 64), (128, 32), (32, 128), (64, 64)]
    ours = [torch.nn.Parameter(matrix(*shape, seed=i)) for i, shape in enumerate(shapes)]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    start = [p.detach().clone() for p in ours]
    a = MuonAdamW([{"name": "m", "algorithm": "muon", "params": ours, "lr": 0.02}], weight_decay=0.1)
    b = torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1)
    for step in range(5):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            p.grad = matrix(*p.shape, seed=100 * step + i)
            q.grad = p.grad.clone()
        a.step()
        b.step()
    for p, q, s in zip(ours, theirs, start, strict=True):
        moved = (q - s).norm()  # torch's works in bfloat16, ours here in float32
        assert (p - q).norm() < 0.02 * moved


def test_adamw_equals_torch_adamw() -> None:
    ours = torch.nn.Parameter(matrix(8, 4))
    theirs = torch.nn.Parameter(matrix(8, 4))
    a = MuonAdamW([{"name": "e", "algorithm": "adamw", "params": [ours], "lr": 0.01}], betas=(0.8, 0.95), eps=1e-10)
    b = torch.optim.AdamW([theirs], lr=0.01, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0)
    for step in range(5):
        ours.grad = matrix(8, 4, seed=step)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs)


def both() -> tuple[MuonAdamW, list[torch.nn.Parameter]]:
    parameters = [torch.nn.Parameter(matrix(16, 16)), torch.nn.Parameter(matrix(8, 16))]
    groups = [
        {"name": "m", "algorithm": "muon", "params": parameters[:1], "lr": 0.02},
        {"name": "e", "algorithm": "adamw", "params": parameters[1:], "lr": 0.1},
    ]
    return MuonAdamW(groups), parameters


def test_resume_is_bitwise() -> None:
    def steps(optimizer: MuonAdamW, parameters: list[torch.nn.Parameter], first: int, last: int) -> None:
        for step in range(first, last):
            for p in parameters:
                p.grad = matrix(*p.shape, seed=step)
            optimizer.step()

    straight, parameters = both()
    steps(straight, parameters, 0, 6)
    stopped, half = both()
    steps(stopped, half, 0, 3)
    resumed, again = both()
    resumed.load_state_dict(stopped.state_dict())
    with torch.no_grad():
        for p, q in zip(again, half, strict=True):
            p.copy_(q)
    steps(resumed, again, 3, 6)
    for p, q in zip(parameters, again, strict=True):
        assert torch.equal(p, q)


def test_zero_learning_rate() -> None:
    optimizer, parameters = both()
    before = [p.detach().clone() for p in parameters]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(parameters, before, strict=True))


def test_invalid_groups() -> None:
    vector = torch.nn.Parameter(torch.zeros(4))
    with pytest.raises(ValueError, match="matrices only"):
        MuonAdamW([{"name": "v", "algorithm": "muon", "params": [vector], "lr": 0.1}])
    with pytest.raises(ValueError, match="unknown algorithm 'sgd'"):
        MuonAdamW([{"name": "v", "algorithm": "sgd", "params": [vector], "lr": 0.1}])


def test_schedule_values() -> None:
    def factors(*steps: int) -> list[float]:
        return [learning_rate_factor(s, 100, warmup_steps=4, warmdown=0.5, final=0.1) for s in steps]

    assert factors(0, 3, 4, 50) == pytest.approx([0.2, 0.8, 1.0, 1.0])
    assert factors(75, 100, 1000) == pytest.approx([0.55, 0.1, 0.1])
    assert learning_rate_factor(99, 100, warmdown=0.0) == 1.0


def test_user_rates_override_the_rule() -> None:
    rule = default_learning_rates(256, 2048, 300)
    assert LearningRates(0.5, None, None).or_else(rule) == (0.5, rule.embedding, rule.head)
    assert LearningRates(None, 0.0, 1.0).or_else(rule) == (rule.matrices, 0.0, 1.0)


def test_muon_every_accumulates_momentum() -> None:
    start, gradients = matrix(16, 8), [matrix(16, 8, seed=i) for i in (1, 2, 3, 4)]
    p = torch.nn.Parameter(start.clone())
    optimizer = MuonAdamW([{"name": "m", "algorithm": "muon", "params": [p], "lr": 0.1}], every=2)
    places = []
    for gradient in gradients:
        p.grad = gradient.clone()
        optimizer.step()
        places.append(p.detach().clone())
    assert places[0].equal(start)
    assert places[2].equal(places[1])
    momentum = torch.zeros(16, 8)
    for step, gradient in enumerate(gradients[:2]):
        weight = 0.85 + 0.1 * (step + 1) / 300
        momentum = weight * momentum + (1 - weight) * gradient
    ahead = weight * momentum + (1 - weight) * gradient
    torch.testing.assert_close(places[1], start - 0.1 * 2**0.5 * orthogonalize(ahead[None])[0], rtol=1e-3, atol=1e-4)
    assert not places[3].equal(places[2])


def test_default_muon_every() -> None:
    assert default_muon_every(512) == 8
    assert default_muon_every(2048) == 2
    assert default_muon_every(4096) == default_muon_every(524_288) == 1
    together, apart = default_learning_rates(256, 512, 976, 4), default_learning_rates(256, 512, 976)
    assert together.matrices == default_learning_rates(256, 2048, 244).matrices
    assert together[1:] == apart[1:]


def test_rule_matches_measurements() -> None:
    # steps of 512 tokens, with Muon after every four, and the range in which the best rate for matrices was found
    for steps, (low, high) in {384: (0.016, 0.022), 1880: (0.009, 0.014)}.items():
        assert low <= default_learning_rates(256, 512, steps, muon_every=4).matrices <= high  # type: ignore[operator]
    narrow, wide = default_learning_rates(256, 2048, 300), default_learning_rates(1024, 2048, 300)
    assert narrow.matrices == wide.matrices
    assert narrow.embedding == pytest.approx(2 * wide.embedding)  # type: ignore[operator]
    assert default_learning_rates(256, 2048, float("inf")) == default_learning_rates(256, 2048, 1000)
    assert default_learning_rates(256, 2048, 1).matrices == 0.028
