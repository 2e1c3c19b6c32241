"""What this machine computes in."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator

__all__ = ["flush_denormals", "has_fast_bfloat16", "has_vnni"]

_MIN_SPEEDUP = 1.3
"""How much faster bfloat16 has to be. Processors are far from this on either side: a half to a third
of the speed of float32 where the instruction is slow, two to eight times where it is not."""


@functools.cache
def has_fast_bfloat16(device: str = "cpu") -> bool:
    """Whether a device multiplies bfloat16 matrices so that the format saves time.

    Elsewhere PyTorch still computes in it, by converting, and is slower than in float32. A processor
    with matrix tiles (AMX) gains; one that has the instruction for vectors alone (AVX512-BF16) may gain
    or lose, and is timed, once.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
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
    """Whether the processor multiplies 8-bit integers and sums them in 32 bits in one instruction (VNNI).

    Without it, sums of two products would have to fit into 16 bits, which those of weights and activations
    do not.
    """
    import torch

    operator = hasattr(torch.ops.onednn, "qconv2d_pointwise")
    return torch.backends.mkldnn.is_available() and operator and torch.cpu._is_vnni_supported()


@contextlib.contextmanager
def flush_denormals() -> Iterator[None]:
    """Within it, numbers too small for the usual precision (below 1e-38 in float32) are 0.

    Processors are many times slower with them, and the gradients of a gate that is shut fade through them: a
    training of recurrent networks takes several times as long, and an explanation by gradients half as long
    again. The setting is that of this thread and of those that it begins; where the processor has none,
    nothing changes.
    """
    import torch

    before = float(torch.tensor(1e-40) * 0.5) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _bfloat16_speedup() -> float:
    """Time of a product of matrices in float32, over that in bfloat16.

    By one thread, in turns, and the best of several in time of that thread: what else the machine does
    falls on neither.
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
