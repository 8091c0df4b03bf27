"""Peak FLOP/s of GPUs from their data sheets, the reference for MFU."""

from __future__ import annotations

import torch

# TFLOP/s of matrix products in bfloat16 or float16 with float32 accumulation, and in float32 without tensor cores; both
# without sparsity, which doubles the first one in data sheets. Sources: NVIDIA's data sheet of each card; for GeForce
# and RTX the white paper of the generation. If all words of one name are in another, the longer name comes first.
TFLOPS = {
    "B200": (2250.0, 75.0),
    "GH200": (989.4, 66.9),
    "H200 NVL": (835.5, 60.0),
    "H200": (989.4, 66.9),
    "H100 NVL": (835.5, 60.0),
    "H100 PCIe": (756.0, 51.2),
    "H100": (989.4, 66.9),  # SXM; its device name is "H100 80GB HBM3"
    "A100": (312.0, 19.5),
    "A40": (149.7, 37.4),
    "A30": (165.0, 10.3),
    "A10": (125.0, 31.2),
    "L40S": (362.0, 91.6),
    "L40": (181.0, 90.5),
    "L4": (121.0, 30.3),
    "RTX 6000 Ada": (364.2, 91.1),
    "RTX A6000": (154.8, 38.7),
    "RTX 5090": (209.5, 104.8),
    "RTX 4090": (165.2, 82.6),
    "RTX 4080 SUPER": (104.4, 52.2),
    "RTX 4080": (97.5, 48.7),
    "RTX 3090 Ti": (80.0, 40.0),
    "RTX 3090": (71.0, 35.6),
    "V100 SXM2": (125.0, 15.7),
    "V100 PCIE": (112.0, 14.0),
    "T4": (65.0, 8.1),
}
OTHERS = {"MIG", "LAPTOP", "D"}  # words of slices of a card, and of slower cards with the same name


def rated_flops(name: str, dtype: torch.dtype) -> float | None:
    """Peak FLOP/s of a GPU; None if unknown.

    Args:
        name: the result of torch.cuda.get_device_name.
        dtype: of the matrices that are multiplied.
    """
    words = set(name.upper().replace("-", " ").split())
    for card, (half, single) in TFLOPS.items():
        if set(card.upper().split()) <= words and not words & OTHERS:
            return 1e12 * (single if dtype == torch.float32 else half)
    return None
