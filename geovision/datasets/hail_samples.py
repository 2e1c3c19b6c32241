"""Hail samples as `geovision hail-samples` writes them: radar, satellite, reanalysis and ground over the
windows that end with the label."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geovision.datasets.base import DatasetCard, GeoDataset, Sample, Transforms
from geovision.errors import DatasetError, InputError, OptionError
from geovision.readers import hail_samples
from geovision.readers.hail_samples import HailSample, SampleName, sample_files
from geovision.spec import MaskTarget, Target, resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geovision.heads.prediction import MaskPrediction, Prediction

__all__ = ["TEST_YEARS", "HailSamples"]

TEST_YEARS = (2023,)
"""As published: trained on 2022 and 2024, tested on 2023."""


class HailSamples(GeoDataset):
    """One file a sample, read when it is asked for.

    A sample holds ``inputs["radar"]``, ``["fy4b"]`` and ``["era5"]``, float32 ``(time, channel, y, x)``,
    and ``inputs["dem"]`` ``(channel, y, x)``; channels and units are in
    `geovision.readers.hail_samples.CHANNELS`. What is missing is 0 there
    and False in ``valid`` of the same name. In the radar no echo is -33 dBZ and valid, not covered is
    missing. ``target`` is float ``(1, y, x)``, 1 where hail came down by the last window, and
    ``valid["target"]`` says where that is known.

    Args:
        root: Folder of ``hail_*.nc`` or ``hail_*.zarr``.
        split: ``"test"``: the years `test_years`; ``"train"``: all others; None: both.
        size: (height, width) of the middle part that is taken, points; None: all of it.
        test_years: Years of the test split.
        group_by: What a split keeps together: a storm ``"day"``, from 6 to 6 hours local solar time, or a
            ``"year"``.

    Raises:
        DatasetError: No such folder, no samples in it, or a name that does not say when and where.
        OptionError: No such split or group.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="hail-samples",
        title="Radar, FY-4B, ERA5 and terrain before hail, built by geovision hail-samples",
        source="your own radar grids, AGRI files, ERA5 and elevation; the published set is not public",
        license="of what they are built from",
        citation="Zhang et al. 2024, HINet, doi:10.12347/j.ycyk.20240520002, for the composition",
        split_group="storm day: from 6 to 6 hours of local solar time; group_by='year' keeps a year together",
        layout="hail_20230617T083000_N3050_E11200.nc: the time of the last window, UTC, and the middle of "
        "the grid in hundredths of a degree; NetCDF or Zarr",
        caveats=(
            "The label is computed from reflectivity, which is also an input: scores say how well a model "
            "follows a rule, not how well it knows hail from the ground.",
            "Samples of one day show the same storms minutes apart. Random splits leak.",
            "Matched by 'nearest', as published, a window holds values from up to 30 minutes later (ERA5) "
            "and 7.5 minutes later (FY-4B). A forecaster's are matched 'backward'.",
            "FY-4B moved from 133 E to 105 E in February 2024: viewing angles before and after differ.",
            "The published strata of plain and complex terrain are not defined; ours go by span of heights.",
        ),
    )
    task: ClassVar[str] = "hail"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    target: Target = MaskTarget("hail")

    def __init__(
        self,
        root: Path,
        *,
        split: str | None = None,
        size: tuple[int, int] | None = None,
        test_years: Sequence[int] = TEST_YEARS,
        group_by: Literal["day", "year"] = "day",
        transforms: Transforms | None = None,
        download: bool = False,
    ) -> None:
        if split not in (None, *self.splits):
            raise OptionError(f"split {split!r} is not known; choose {' or '.join(self.splits)}")
        if group_by not in ("day", "year"):
            raise OptionError(f"group_by={group_by!r} is not known; choose day or year")
        self.root, self.size = self._prepare(root, transforms, download), size
        self.group_by = group_by
        files = _list_samples(self.root)
        names = [_parse_name(path) for path in files]
        chosen = [
            i
            for i, name in enumerate(names)
            if split is None or (split == "test") == (int(name.storm_day[:4]) in test_years)
        ]
        if not chosen:
            years = ", ".join(sorted({name.storm_day[:4] for name in names}))
            raise DatasetError(
                f"{self.root}: no sample is of the {split} split (test is "
                f"{', '.join(map(str, test_years))}; here are {years}); give test_years="
            )
        self.paths = [files[index] for index in chosen]
        self._days = [names[index].storm_day for index in chosen]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def groups(self) -> Sequence[str]:
        return [day if self.group_by == "day" else day[:4] for day in self._days]

    @functools.cached_property
    def terrain(self) -> list[str]:
        """``"plain"``, ``"complex"`` or ``"unknown"`` of each sample; the files' headers are read for it."""
        return [str(hail_samples.read_header(path).get("terrain", "unknown")) for path in self.paths]

    def filter_terrain(self, terrain: Literal["plain", "complex"]) -> Self:
        """The samples of one kind of terrain, which may be none."""
        return self.subset([index for index, each in enumerate(self.terrain) if each == terrain])

    def subset(self, indices: Sequence[int]) -> Self:
        other = copy.copy(self)
        other.paths = [self.paths[index] for index in indices]
        other._days = [self._days[index] for index in indices]
        if "terrain" in self.__dict__:
            other.__dict__["terrain"] = [self.terrain[index] for index in indices]
        return other

    def with_size(self, size: tuple[int, int] | None) -> Self:
        """The same samples, of each the middle part."""
        other = copy.copy(self)
        other.size = size
        return other

    def read_sample(self, index: int) -> Sample:
        path = self.paths[index]
        held = hail_samples.read_sample(path)
        arrays = hail_samples.to_arrays(held)
        valid = {
            name: _center_crop(torch.from_numpy(~mask), self.size, path) for name, (_, mask) in arrays.items()
        }
        inputs = {
            name: _center_crop(torch.from_numpy(values), self.size, path)
            for name, (values, _) in arrays.items()
        }
        label = _center_crop(torch.from_numpy(held.label)[None], self.size, path)
        return Sample(
            inputs=inputs,
            valid=valid | {"target": label >= 0},
            target=(label == 1).float(),
            group=self.groups[index],
            source=str(path),
        )

    def read(self, index: int) -> HailSample:
        """A sample as it stands in its file, with its times, its grid and the ages of its sources."""
        return hail_samples.read_sample(self.paths[index])

    def oracle(self, index: int) -> NDArray[np.bool_]:
        """What an oracle on the true state says ``(y, x)``: the ceiling of every score.

        Raises:
            DatasetError: The sample was not generated; nobody knows the truth.
        """
        held = self.read(index)
        if "oracle" not in held.extra:
            raise DatasetError(f"{self.paths[index]}: no oracle, which only generated samples have")
        return _center_crop(torch.from_numpy(held.extra["oracle"] > 0), self.size, self.paths[index]).numpy()

    def plot(self, sample: Sample, prediction: Prediction | None = None) -> Figure:
        """The last window of each source with the outline of the label, how the largest reflectivity came
        down over the windows, and the answer where there is one."""
        from geovision.datasets.hail_sample_plot import plot_hail_sample

        answer = cast("MaskPrediction | None", prediction)
        return plot_hail_sample(
            {name: values.numpy() for name, values in sample["inputs"].items()},
            {name: mask.numpy() for name, mask in sample["valid"].items()},
            sample["target"][0].numpy(),
            bands=list(hail_samples.CHANNELS["fy4b"]),
            levels=hail_samples.LEVELS,
            no_echo=hail_samples.NO_ECHO_DBZ,
            source=Path(sample["source"]).name,
            probability=None if answer is None else answer.probability,
        )

    @classmethod
    def synthetic(
        cls, root: Path, n: int, *, seed: int = 0, size: tuple[int, int] = (64, 64), windows: int = 10
    ) -> Path:
        """Write `n` generated samples; see `geovision.datasets.synthetic.storm`.

        Args:
            size: (y, x), points; the published samples have 128 x 128.
            windows: 6 minutes each; the published samples have 20.
        """
        return resolve("geovision.datasets.synthetic.storm:write")(
            Path(root), n, seed=seed, size=size, windows=windows
        )


def _list_samples(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected {HailSamples.card.layout}")
    files = sample_files(root)
    if not files:
        entries = ", ".join(sorted(path.name for path in root.iterdir())[:4]) or "nothing"
        raise DatasetError(f"{root}: holds {entries}; expected {HailSamples.card.layout}")
    return files


def _parse_name(path: Path) -> SampleName:
    try:
        return SampleName.from_path(path)
    except InputError as error:
        raise DatasetError(str(error)) from None


def _center_crop(values: Tensor, size: tuple[int, int] | None, path: Path) -> Tensor:
    if size is None or tuple(values.shape[-2:]) == tuple(size):
        return values
    height, width = values.shape[-2:]
    if height < size[0] or width < size[1]:
        raise DatasetError(
            f"{path}: {height} x {width} points; size {size[0]} x {size[1]} is more than there are"
        )
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return values[..., top : top + size[0], left : left + size[1]].contiguous()
