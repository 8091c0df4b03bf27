"""What makers say that their GPUs can do, to measure MFU against."""

from __future__ import annotations

import torch

# TFLOP/s of products in bfloat16 or float16 with sums in float32, and of float32 without tensor cores. None of them
# counts sparsity, by which the makers' tables double the first. From NVIDIA's data sheets of each card, for GeForce and
# RTX from the white papers of their generations. Where one name begins another's words, the longer one comes first.
TFLOPS = {
    "B200": (2250.0, 75.0),
    "GH200": (989.4, 66.9),
    "H200 NVL": (835.5, 60.0),
    "H200": (989.4, 66.9),
    "H100 NVL": (835.5, 60.0),
    "H100 PCIe": (756.0, 51.2),
    "H100": (989.4, 66.9),  # SXM, which calls itself "H100 80GB HBM3"
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
OTHERS = {"MIG", "LAPTOP", "D"}  # a part of a card, and slower cards under the same name


def rated_flops(name: str, dtype: torch.dtype) -> float | None:
    """FLOP/s of a GPU, by its maker.

    Args:
        name: as torch.cuda.get_device_name gives it.
        dtype: of the matrices that are multiplied.

    Returns:
        None if it is not known.
    """
    words = set(name.upper().replace("-", " ").split())
    for card, (half, single) in TFLOPS.items():
        if set(card.upper().split()) <= words and not words & OTHERS:
            return 1e12 * (single if dtype == torch.float32 else half)
    return None
