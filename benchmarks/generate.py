"""Measures generation on the CPU.

    python benchmarks/generate.py tiny medium --streams 1 8

continues a short prompt with the decoder (nanochat/inference), sampling included, and for comparison with the model's
own forward pass with a KV cache. The weights are random, which does not change the time. If a model's matrices do not
fit into the caches, the time to read them once is a lower bound for a step: ``times reading`` is the time of a step
divided by the time to read that many bytes, at the bandwidth of a sum over a large tensor in the same process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from report import ROOT, report

Step = Callable[[list[int]], Any]  # one token of each stream -> logits of the next


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiers", nargs="*", default=["tiny", "small", "medium"], help="names of files in configs/")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8], help="texts generated at once")
    parser.add_argument("--tokens", type=int, default=300, help="tokens to generate in each text")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions; the fastest is reported")
    parser.add_argument("--threads", type=int, help="torch threads; torch's default if omitted")
    arguments = parser.parse_args()

    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    bandwidth = read_bandwidth()
    rows = [measure(tier, streams, arguments, bandwidth) for tier in arguments.tiers for streams in arguments.streams]
    report("generate", rows)


def measure(tier: str, streams: int, arguments: argparse.Namespace, bandwidth: float) -> dict[str, Any]:
    """The fastest of several generations with the decoder and with the model, alternating."""
    import torch

    from nanochat.inference.decoder import Decoder
    from nanochat.inference.sampling import Sampler, Sampling, choose

    gpt = random_gpt(tier)
    prompt, tokens = list(range(8)), arguments.tokens
    seconds: dict[str, float] = {}

    def by_decoder() -> tuple[torch.Tensor, Step]:
        decoder = Decoder(gpt)
        texts = [decoder.new_stream(len(prompt) + tokens) for _ in range(streams)]
        logits = decoder.read(texts, [prompt] * streams)
        return logits, lambda chosen: decoder.read(texts, [[token] for token in chosen])

    def by_model() -> tuple[torch.Tensor, Step]:
        cache = gpt.new_cache(streams, len(prompt) + tokens)

        def read(ids: torch.Tensor) -> torch.Tensor:
            return gpt(ids, cache)[:, -1]

        return read(torch.tensor([prompt] * streams)), lambda chosen: read(torch.tensor(chosen).unsqueeze(1))

    with torch.inference_mode():
        for _ in range(arguments.repeats):
            for name, begin in (("decoder", by_decoder), ("model", by_model)):
                samplers = [Sampler(Sampling(temperature=0.8, top_k=50), seed) for seed in range(streams)]
                logits, step = begin()
                logits = step(choose(logits, samplers))  # the first step allocates memory
                started = time.perf_counter()
                for _ in range(tokens - 1):
                    logits = step(choose(logits, samplers))
                taken = (time.perf_counter() - started) / (tokens - 1)
                seconds[name] = min(taken, seconds.get(name, taken))
    reading = 4 * gpt.num_matmul_parameters / bandwidth
    return {
        "tier": tier,
        "matrices M": gpt.num_matmul_parameters / 1e6,
        "streams": streams,
        "C++": "yes" if Decoder(gpt).is_native else "no",
        "tokens/s": streams / seconds["decoder"],
        "by the model": streams / seconds["model"],
        "ms/step": 1e3 * seconds["decoder"],
        "ms to read": 1e3 * reading,
        "times reading": seconds["decoder"] / reading,
        "GB/s": bandwidth / 1e9,
    }


@cache
def random_gpt(tier: str) -> Any:
    """A model of a tier's size with random weights."""
    import torch
    import yaml

    from nanochat.model import GPT, GPTConfig

    config = yaml.safe_load((ROOT / "configs" / f"{tier}.yaml").read_text())
    gpt = GPT(GPTConfig.from_hyperparameters({**config["data"], **config["model"]}))
    with torch.no_grad():
        for block in gpt.blocks:
            for p in block.parameters():
                p.normal_(std=p.size(-1) ** -0.5)
        gpt.lm_head.weight.normal_(std=gpt.config.n_embd**-0.5)
    return gpt


def read_bandwidth() -> float:
    """Memory bandwidth in bytes per second: the best of several sums over 256 MiB of float32."""
    import torch

    numbers = torch.ones(2**26)
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - started)
    return 4 * numbers.numel() / best


if __name__ == "__main__":
    main()
