"""What this machine computes in."""

from __future__ import annotations

import functools

__all__ = ["hardware_bfloat16"]


@functools.cache
def hardware_bfloat16(device: str = "cpu") -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware, so that the format saves time.

    Elsewhere PyTorch still computes in it, by converting, and is slower than in float32.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """
    import torch

    if device == "cpu":
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return False
