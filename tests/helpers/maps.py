"""Data sets of fields and masks without files, and tasks for them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geovision.datasets.base import DatasetCard, GeoDataset, Sample
from geovision.errors import OptionError
from geovision.models.field_baselines import RidgeRegression
from geovision.models.residual_learning import ResidualNetwork
from geovision.spec import (
    Channel,
    DemoConfig,
    FieldTarget,
    Grid,
    GridPair,
    InputSpec,
    MaskTarget,
    ModelSpec,
    Recipe,
    Stage,
    Task,
)

RAIN = Channel("rain", "mm day-1", (0.0, 500.0))
ECHO = Channel("echo", "dBZ", (-40.0, 80.0), mean=10.0, std=15.0)
HEIGHT = Channel("height", "km", (0.0, 20.0), mean=2.0, std=1.0)
TARGETS = {"field": FieldTarget(RAIN), "mask": MaskTarget("hail", threshold=0.4)}
SIDE, FACTOR, TIMES = 6, 2, 3


class Coarse(nn.Module):
    """Two convolutions on an interpolated field, or on its mean over time.

    A second input may be missing. Predictions are valid where the first input is valid.
    """

    def __init__(self, inputs: Sequence[InputSpec], *, factor: int, width: int = 8) -> None:
        super().__init__()
        self.specs, self.factor, self.num_features = inputs, factor, width
        channels = sum(len(spec.channels) for spec in inputs)
        self.layers = nn.Sequential(
            nn.Conv2d(channels + len(inputs), width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.register_buffer("level", torch.zeros(()))

    def fit_statistics(self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        self.level.copy_(next(iter(inputs.values())).mean())

    def valid_mask(self, inputs, valid, shape) -> Tensor | None:
        there = (valid or {}).get(self.specs[0].name)
        if there is None:
            return None
        flat = there.flatten(1, -3).any(1, keepdim=True).float()
        return F.interpolate(flat, shape[-2:]) > 0.5

    def forward(self, inputs, *, valid=None, context=None) -> Tensor:
        some = next(iter(inputs.values()))
        size = some.shape[-2:]
        maps = []
        for spec in self.specs:
            values = inputs.get(spec.name)
            if values is None:
                values = some.new_zeros(len(some), len(spec.channels), *size)
                present = torch.zeros_like(values[:, :1])
            else:
                mask = (valid or {}).get(spec.name)
                present = torch.ones_like(values) if mask is None else mask.to(values).expand_as(values)
                present = present.flatten(1, -3).mean(1, keepdim=True)
                values = values.mean(1) if values.ndim == 5 else values
            maps += [values - self.level, present]
        finer = F.interpolate(torch.cat(maps, 1), scale_factor=float(self.factor), mode="bilinear")
        return self.layers(finer)


class Repeated(nn.Module):
    """First channel with repeated cells."""

    num_features = 1

    def __init__(self, name: str, factor: int) -> None:
        super().__init__()
        self.name, self.factor = name, factor

    def forward(self, inputs, *, valid=None, context=None) -> Tensor:
        return F.interpolate(inputs[self.name][:, :1], scale_factor=float(self.factor), mode="nearest")


class Climatology(Repeated):
    """Mean of the training set on its grid."""

    def __init__(self, name: str, factor: int) -> None:
        super().__init__(name, factor)
        self.register_buffer("usual", torch.zeros(1, SIDE * factor, SIDE * factor))

    def fit(self, data) -> None:
        self.usual.copy_(torch.stack([data[n]["target"] for n in range(len(data))]).nanmean(0))

    def forward(self, inputs, *, valid=None, context=None) -> Tensor:
        return self.usual.expand(len(inputs[self.name]), -1, -1, -1)


def build_residual(arch, *, inputs, size=None, grids=None) -> nn.Module:
    members = [Coarse(inputs, factor=FACTOR, width=4) for _ in range(arch["members"])]
    return ResidualNetwork(members, RidgeRegression(inputs[0], components=12))


def build(arch: Mapping[str, Any], *, inputs, size=None, grids: GridPair | None = None) -> nn.Module:
    kind = arch.get("kind", "coarse")
    if kind not in ("coarse", "repeated", "climatology"):
        raise OptionError(f"kind={kind!r}")
    factor = arch.get("factor", FACTOR)
    if kind == "coarse":
        return Coarse(inputs, factor=factor)
    return {"repeated": Repeated, "climatology": Climatology}[kind](inputs[0].name, factor)


_RECIPE = Recipe(stages=(Stage(epochs=14, batch_size=8, lr=1e-2, weight_decay=0.0),), precision="32-true")


def _task(kind: str, inputs: tuple[InputSpec, ...], head: str, metrics: tuple[str, ...]) -> Task:
    return Task(
        name=f"a{kind}",
        title=kind,
        question="?",
        inputs=inputs,
        target=TARGETS[kind],
        datasets={f"maps-{kind}": "helpers.maps:Fields" if kind == "field" else "helpers.maps:Masks"},
        head=head,
        loss="",
        metrics=metrics,
        recipe=_RECIPE,
        demo=DemoConfig(f"a{kind}-tiny", 24, _RECIPE),
        heads={"quantiles": "geovision.heads.field:QuantileHead"} if kind == "field" else {},
        predictors=(HEIGHT,) if kind == "field" else (),
    )


TASKS = {
    "field": _task(
        "field",
        (InputSpec("coarse", (RAIN,)),),
        "geovision.heads.field:FieldHead",
        (
            "rmse",
            "correlation",
            "csi(threshold=1)",
            "fss(threshold=10, scale=5)",
            "quantile_bias(q=0.99)",
            "ralsd",
            "ssim(data_range=100)",
        ),
    ),
    "mask": _task(
        "mask",
        (
            InputSpec("radar", (ECHO,), layout="time channel y x"),
            InputSpec("relief", (HEIGHT,), optional=True),
        ),
        "geovision.heads.mask:MaskHead",
        ("csi", "pod", "far", "pr_auc", "brier", "fss(scale=5)"),
    ),
}
MODELS = {
    "field": ModelSpec("afield-tiny", "afield", "helpers.maps:build", {"factor": FACTOR}),
    "mask": ModelSpec(
        "amask-tiny",
        "amask",
        "helpers.maps:build",
        {"factor": 1},
        head_args={"error": "bce+dice", "positive_weight": "balanced"},
    ),
    "none": ModelSpec(
        "afield-nearest",
        "afield",
        "helpers.maps:build",
        {"kind": "repeated"},
        fit="none",
        head="geovision.heads.field:GivenField",
    ),
    "closed": ModelSpec(
        "afield-climatology",
        "afield",
        "helpers.maps:build",
        {"kind": "climatology"},
        fit="closed_form",
        head="geovision.heads.field:GivenField",
    ),
}
GRIDS = GridPair(
    Grid(tuple(40.5 + n for n in range(SIDE)), tuple(0.5 + n for n in range(SIDE))),
    Grid(tuple(40.25 + 0.5 * n for n in range(2 * SIDE)), tuple(0.25 + 0.5 * n for n in range(2 * SIDE))),
)


class Maps(GeoDataset):
    """Smooth positive fields, four samples per group."""

    card: ClassVar[DatasetCard] = DatasetCard("maps", "Maps", "", "", "", "four in a row", "none")

    def __init__(self, n: int = 120, *, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        rough = torch.randn(n, 1, SIDE * FACTOR, SIDE * FACTOR, generator=draw)
        smooth = F.avg_pool2d(F.pad(rough, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
        self.truth = (4 * smooth).exp() * (smooth > -0.1)
        self.numbers = list(range(n))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def groups(self) -> Sequence[str]:
        return [f"unit {number // 4}" for number in self.numbers]

    def subset(self, indices: Sequence[int]) -> Self:
        other = copy.copy(self)
        other.numbers = [self.numbers[index] for index in indices]
        return other

    def plot(self, sample, prediction=None):
        raise NotImplementedError

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        raise NotImplementedError


class Fields(Maps):
    """Fields whose targets always miss two corner cells."""

    task: ClassVar[str] = "afield"
    target = TARGETS["field"]

    def model_kwargs(self) -> Mapping[str, Any]:
        return {"grids": GRIDS}

    def read_sample(self, index: int) -> Sample:
        number = self.numbers[index]
        truth = self.truth[number].clone()
        truth[0, :1, :2] = torch.nan
        given = F.avg_pool2d(self.truth[number], FACTOR)
        return Sample(
            inputs={"coarse": given}, valid={}, target=truth, group=self.groups[index], source=f"day {number}"
        )


class Masks(Maps):
    """Echoes at several times, one of them missing in every second sample, and relief in some."""

    task: ClassVar[str] = "amask"
    target = TARGETS["mask"]

    def read_sample(self, index: int) -> Sample:
        number = self.numbers[index]
        rain = F.avg_pool2d(self.truth[number], FACTOR)
        echo = (10 * torch.log10(rain.clamp_min(0.1)) + 20).expand(TIMES, 1, -1, -1).clone()
        seen = torch.ones_like(echo, dtype=torch.bool)
        if number % 2:
            echo[0], seen[0] = 0.0, False
        seen[:, :, 0, 0] = False
        covered = torch.ones_like(rain, dtype=torch.bool)
        covered[0, -1] = False
        inputs: dict[str, Tensor] = {"radar": echo}
        if number % 3:
            inputs["relief"] = torch.full_like(rain, 1.5)
        return Sample(
            inputs=inputs,
            valid={"radar": seen, "target": covered},
            target=(rain > 2).float(),
            group=self.groups[index],
            source=f"window {number}",
        )
