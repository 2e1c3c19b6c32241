"""Detection of fast number formats, and treatment of denormal numbers."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator

__all__ = ["flush_denormals", "has_fast_bfloat16", "has_vnni"]

_MIN_SPEEDUP = 1.3
"""Smallest speedup from which bfloat16 is used.

Measured processors are far from it: bfloat16 has a half to a third of the speed of float32 where the
instruction is slow, and two to eight times the speed elsewhere.
"""


@functools.cache
def has_fast_bfloat16(device: str = "cpu") -> bool:
    """Return whether bfloat16 is faster than float32 on a device.

    Without hardware support PyTorch converts bfloat16 and is slower than in float32. A processor with matrix
    tiles (AMX) gains. A processor that only has the vector instruction (AVX512-BF16) may gain or lose, so its
    speed is measured once.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``. Default: ``"cpu"``.

    Returns:
        True if bfloat16 saves time; always False for ``"mps"``.
    """
    import torch

    if device == "cpu":
        if torch.cpu._is_amx_tile_supported():
            return True
        return torch.cpu._is_avx512_bf16_supported() and _bfloat16_speedup() >= _MIN_SPEEDUP
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return False


def has_vnni() -> bool:
    """Return whether the processor has instructions for 8-bit integers (VNNI).

    They multiply 8-bit integers and sum the products in 32 bits in one instruction. Without them, sums of two
    products would have to fit into 16 bits, which products of weights and activations do not.

    Returns:
        True if the processor and PyTorch support the instructions.
    """
    import torch

    operator = hasattr(torch.ops.onednn, "qconv2d_pointwise")
    return torch.backends.mkldnn.is_available() and operator and torch.cpu._is_vnni_supported()


@contextlib.contextmanager
def flush_denormals() -> Iterator[None]:
    """Treat denormal numbers as 0 inside a context.

    Denormal numbers are below 1e-38 in float32. Processors are many times slower with them, and gradients
    that vanish through a closed gate become denormal. They multiply the training time of recurrent networks
    by several times, and lengthen explanations by gradients by half. The setting applies to this thread and
    to the threads that it starts. Processors without the setting are not affected.

    Yields:
        None.
    """
    import torch

    before = float(torch.tensor(1e-40) * 0.5) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _bfloat16_speedup() -> float:
    """Return the speedup of a matrix product by bfloat16 over float32.

    One thread computes both in turns. The best of six CPU times of that thread is used, so that other load
    affects neither.
    """
    import torch

    best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    operands = {
        dtype: (torch.ones(256, 1024, dtype=dtype), torch.ones(1024, 512, dtype=dtype)) for dtype in best
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(6):
            for dtype, (a, b) in operands.items():
                begin = time.thread_time()
                torch.mm(a, b)
                best[dtype] = min(best[dtype], time.thread_time() - begin)
    finally:
        torch.set_num_threads(threads)
    return best[torch.float32] / best[torch.bfloat16]
