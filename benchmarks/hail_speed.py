"""Time and memory of HINet at the published size: 20 windows of 128 x 128 cells.

    python benchmarks/hail_speed.py

The rows are:

- one time step of its recurrent stack, and of a straightforward ST-LSTM of the same width with a separate
  convolution for each gate, as in the equations;
- inference of one sample;
- a training step of two samples with and without activation checkpointing, with the largest resident memory;
- memory of the tensors of a training step of the published 32 samples in mixed precision, and with a GPU its
  time and the reserved memory.

Each row is measured in a separate process and appended to ``benchmarks/hail_speed.csv``.

The memory of such a step is computed without a GPU, with tensors that have a shape and no values. The largest
sum of all tensors that exist at one time is the memory that a GPU needs, in addition to that of its
libraries. The computation takes some minutes.

    python benchmarks/hail_speed.py --only tensors
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from memory import peak
from rows import append
from torch import Tensor, nn

import geovision
from geovision.models.st_lstm import RecurrentStack, STLSTMCell
from geovision.models.tmc import TMCSTLSTMCell
from geovision.provenance import git_commit
from geovision.registry import find_task

WINDOWS, SIDE, WIDTH, KERNEL = 20, 128, 32, 5


class PlainSTLSTM(nn.Module):
    """Two ST-LSTM layers with one convolution per term of the equations.

    The equations are those of `geovision.models.st_lstm`.

    Args:
        channels: Number of input channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        names = {"x": "g i f g_ i_ f_ o", "h": "g i f o", "m": "g_ i_ f_"}
        self.layers = nn.ModuleList()
        for given in (channels, WIDTH):
            wide = {"x": given, "h": WIDTH, "m": WIDTH}
            gates = {
                f"{source}{gate}": nn.Conv2d(wide[source], WIDTH, KERNEL, padding=KERNEL // 2)
                for source, gates in names.items()
                for gate in gates.split()
            }
            gates["co"] = nn.Conv2d(2 * WIDTH, WIDTH, KERNEL, padding=KERNEL // 2)
            gates["mix"] = nn.Conv2d(2 * WIDTH, WIDTH, 1)
            self.layers.append(nn.ModuleDict(gates))

    def forward(self, sequence: Tensor) -> Tensor:
        """Return the hidden state after the last window.

        Args:
            sequence: Input, shape (batch, time, channel, y, x).
        """
        zeros = sequence.new_zeros(len(sequence), WIDTH, *sequence.shape[-2:])
        h, c, m = [zeros, zeros], [zeros, zeros], zeros
        for x in sequence.unbind(1):
            for number, w in enumerate(self.layers):
                g = torch.tanh(w["xg"](x) + w["hg"](h[number]))
                i = torch.sigmoid(w["xi"](x) + w["hi"](h[number]))
                f = torch.sigmoid(w["xf"](x) + w["hf"](h[number]) + 1)
                c[number] = f * c[number] + i * g
                g_ = torch.tanh(w["xg_"](x) + w["mg_"](m))
                i_ = torch.sigmoid(w["xi_"](x) + w["mi_"](m))
                f_ = torch.sigmoid(w["xf_"](x) + w["mf_"](m) + 1)
                m = f_ * m + i_ * g_
                both = torch.cat([c[number], m], 1)
                o = torch.sigmoid(w["xo"](x) + w["ho"](h[number]) + w["co"](both))
                h[number] = x = o * torch.tanh(w["mix"](both))
        return x


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=tuple(_MEASURES), default=list(_MEASURES), help="measurements"
    )
    parser.add_argument("--turns", type=int, default=3, help="number of turns")
    parser.add_argument("--samples", type=int, default=32, help="samples of a step in mixed precision")
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # without a new process
    options = parser.parse_args()
    if options.here:
        print(json.dumps(_MEASURES[options.only[0]](options)))
        return
    facts = {"threads": torch.get_num_threads(), "commit": git_commit()}
    for only in options.only:
        if only == "graphics" and not torch.cuda.is_available():
            continue
        for more in ([], ["--checkpointing"]) if only in _STEPS else ([],):
            command = [
                sys.executable,
                __file__,
                "--here",
                "--only",
                only,
                "--turns",
                str(options.turns),
                "--samples",
                str(options.samples),
                *more,
            ]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            append(Path(__file__).with_suffix(".csv"), *(r | facts for r in json.loads(found)), show=True)


def stacks(options: Any) -> list[dict[str, Any]]:
    """Return the duration of one time step of two layers over patches of the radar."""
    sequence = torch.randn(1, WINDOWS, 22 * 16, SIDE // 4, SIDE // 4)
    kinds: dict[str, nn.Module] = {
        "ST-LSTM, straightforward": PlainSTLSTM(22 * 16),
        "ST-LSTM": RecurrentStack([STLSTMCell(22 * 16, WIDTH, KERNEL), STLSTMCell(WIDTH, WIDTH, KERNEL)]),
        "TMC-STLSTM": RecurrentStack(
            [TMCSTLSTMCell(22 * 16, WIDTH, KERNEL), TMCSTLSTMCell(WIDTH, WIDTH, KERNEL)]
        ),
    }
    rows = []
    for name, network in kinds.items():
        with torch.no_grad():
            forward = best(lambda network=network: network(sequence), options.turns)
        both = best(lambda network=network: network(sequence).sum().backward(), options.turns)
        for what, spent in ((f"{name}, a time", forward), (f"{name}, a time with gradient", both)):
            rows.append(_row(what, spent[0] / WINDOWS, spent[1] / WINDOWS))
    return rows


def inference(options: Any) -> list[dict[str, Any]]:
    """Return the duration of a prediction of one sample."""
    model = geovision.create("hail-hinet")
    sample = {name: values[0] for name, values in batch(1).items()}
    model.predict(sample)  # prepares the optimized model
    spent = best(lambda: model.predict(sample), options.turns)
    return [_row("inference of one sample", *spent) | {"note": "at most 2 s on two cores"}]


def training(options: Any) -> list[dict[str, Any]]:
    """Return duration and memory of a training step of two samples."""
    spent = best(TrainingStep(2, options.checkpointing), options.turns)
    what = "training step of two samples" + (", checkpointing" if options.checkpointing else "")
    return [_row(what, *spent) | {"gigabytes": round(peak() / 1000, 2), "note": "at most 6 GB"}]


def tensors(options: Any) -> list[dict[str, Any]]:
    """Return the largest sum of tensors that exist at one time of a step, in GB."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode():
        step = TrainingStep(options.samples, options.checkpointing, mixed=True)
        step.begin()
        tracker = MemTracker()
        tracker.track_external(step.model, step.optimizer, *step.inputs.values(), step.target)
        with tracker:
            step()
    held = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"] / 1e9
    what = f"tensors of a training step of {options.samples} samples, mixed precision"
    what += ", checkpointing" if options.checkpointing else ""
    return [{"what": what, "gigabytes": round(held, 2), "note": "at most 11 GB with what libraries need"}]


def graphics(options: Any) -> list[dict[str, Any]]:
    """Return duration and reserved memory of a training step on the GPU."""
    step = TrainingStep(options.samples, options.checkpointing, "cuda", mixed=True)
    spent = best(step, options.turns)
    # The GPU must provide the reserved memory, which is more than the used memory.
    reserved = torch.cuda.max_memory_reserved() / 1e9
    what = f"training step of {options.samples} samples on {torch.cuda.get_device_name()}, mixed precision"
    what += ", checkpointing" if options.checkpointing else ""
    return [_row(what, *spent) | {"gigabytes": round(reserved, 2), "note": "at most 11 GB"}]


class TrainingStep:
    """Step of Adam at the published size, in float32 or in mixed precision.

    Args:
        samples: Batch size.
        checkpointing: Use activation checkpointing.
        device: Device of the model. Default: cpu.
        mixed: Use mixed precision. Default: False.
    """

    def __init__(
        self, samples: int, checkpointing: bool, device: str = "cpu", *, mixed: bool = False
    ) -> None:
        self.device, self.mixed = device, mixed
        with torch.device(device):  # tensors without values cannot be moved to a device
            self.model = geovision.create("hail-hinet", model_args={"checkpointing": checkpointing}).train()
        self.inputs = {name: values.to(device) for name, values in batch(samples).items()}
        self.target = (torch.rand(samples, 1, SIDE, SIDE) > 0.99).float().to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def begin(self) -> None:
        """Initialize the moments of the optimizer, which exist in every step except the first."""
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()

    def __call__(self) -> None:
        """Run one step."""
        self.optimizer.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.mixed):
            loss = self.model.loss(self.model(self.inputs).values, self.target)
        loss.backward()
        self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()


_STEPS = ("training", "tensors", "graphics")
_MEASURES: dict[str, Callable[[Any], list[dict[str, Any]]]] = {
    "stacks": stacks,
    "inference": inference,
    "training": training,
    "tensors": tensors,
    "graphics": graphics,
}


def batch(count: int) -> dict[str, Tensor]:
    """Return generated inputs in physical units, around the mean of each channel."""
    generator = torch.Generator().manual_seed(0)
    inputs = {}
    for spec in find_task("hail").inputs:
        times = [WINDOWS] if "time" in spec.layout.split() else []
        noise = torch.randn(count, *times, len(spec.channels), SIDE, SIDE, generator=generator)
        mean, std, low, high = (
            torch.tensor(numbers).view(-1, 1, 1)
            for numbers in zip(*((c.mean, c.std, *c.valid_range) for c in spec.channels), strict=True)
        )
        inputs[spec.name] = (mean + std * noise).clamp(low, high)
    return inputs


def best(work: Callable[[], Any], turns: int) -> tuple[float, float]:
    """Return seconds and processor seconds of the fastest turn, after one that is not counted."""
    work()
    spent = []
    for _ in range(turns):
        began, cpu = time.perf_counter(), time.process_time()
        work()
        spent.append((time.perf_counter() - began, time.process_time() - cpu))
    return min(spent)


def _row(what: str, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    return {"what": what, "seconds": round(seconds, 4), "cpu_seconds": round(cpu_seconds, 4)}


if __name__ == "__main__":
    main()
