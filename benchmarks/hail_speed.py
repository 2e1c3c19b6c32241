"""What HINet costs at the published size: 20 windows of 128 x 128 cells.

    python benchmarks/hail_speed.py

Rows: one time of its recurrent stack beside a straightforward ST-LSTM of the same width, every gate a
convolution of its own as the equations stand; inference of one sample; a training step of two samples with
and without activation checkpointing, with the largest resident memory; what a training step of the
published 32 samples in mixed precision holds, and, where there is a graphics processor, its time there and
the memory that it reserves. Each in a process of its own. Appends to ``benchmarks/hail_speed.csv``.

What such a step holds is counted without a graphics processor: it is taken with tensors that have a shape
and no values, and the largest sum of all that live at one time is what a card has to hold, beside what its
libraries need. That takes some minutes.

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
    """Two layers of the equations of `geovision.models.st_lstm`, one convolution each."""

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(_MEASURES), default=list(_MEASURES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--samples", type=int, default=32, help="of a step in mixed precision")
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this very process
    options = parser.parse_args()
    if options.here:
        print(json.dumps(_MEASURES[options.only[0]](options)))
        return
    told = {"threads": torch.get_num_threads(), "commit": git_commit()}
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
            append(Path(__file__).with_suffix(".csv"), *(r | told for r in json.loads(found)), show=True)


def stacks(options: Any) -> list[dict[str, Any]]:
    """One time of two layers over patches of the radar."""
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
    model = geovision.create("hail-hinet")
    sample = {name: values[0] for name, values in batch(1).items()}
    model.predict(sample)  # what is prepared once
    spent = best(lambda: model.predict(sample), options.turns)
    return [_row("inference of one sample", *spent) | {"note": "at most 2 s on two cores"}]


def training(options: Any) -> list[dict[str, Any]]:
    spent = best(TrainingStep(2, options.checkpointing), options.turns)
    what = "training step of two samples" + (", checkpointing" if options.checkpointing else "")
    return [_row(what, *spent) | {"gigabytes": round(peak() / 1000, 2), "note": "at most 6 GB"}]


def tensors(options: Any) -> list[dict[str, Any]]:
    """The largest sum of tensors that live at one time of a step."""
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
    step = TrainingStep(options.samples, options.checkpointing, "cuda", mixed=True)
    spent = best(step, options.turns)
    # What is reserved, not only what is in use, has to fit on the card.
    reserved = torch.cuda.max_memory_reserved() / 1e9
    what = f"training step of {options.samples} samples on {torch.cuda.get_device_name()}, mixed precision"
    what += ", checkpointing" if options.checkpointing else ""
    return [_row(what, *spent) | {"gigabytes": round(reserved, 2), "note": "at most 11 GB"}]


class TrainingStep:
    """One step of Adam at the published size, in float32 or in mixed precision."""

    def __init__(
        self, samples: int, checkpointing: bool, device: str = "cpu", *, mixed: bool = False
    ) -> None:
        self.device, self.mixed = device, mixed
        with torch.device(device):  # made there, since tensors without values cannot be moved
            self.model = geovision.create("hail-hinet", model_args={"checkpointing": checkpointing}).train()
        self.inputs = {name: values.to(device) for name, values in batch(samples).items()}
        self.target = (torch.rand(samples, 1, SIDE, SIDE) > 0.99).float().to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def begin(self) -> None:
        """Let the optimizer make its moments, which are there in every step but the first."""
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()

    def __call__(self) -> None:
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
    """Generated inputs in physical units, about the mean of each channel."""
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
    """Seconds and processor seconds of the quickest turn, after one that is not counted."""
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
