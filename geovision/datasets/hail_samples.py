"""Hail samples as `geovision hail-samples` writes them.

A sample contains radar, satellite, reanalysis and terrain over the windows that end with the label.
"""

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
"""Published test years: trained on 2022 and 2024, tested on 2023."""


class HailSamples(GeoDataset):
    """Hail samples, one file each, read on access.

    A sample contains ``inputs["radar"]``, ``["fy4b"]`` and ``["era5"]``, float32, shape ``(time, channel, y,
    x)``, and ``inputs["dem"]``, shape ``(channel, y, x)``. Channels and units are in
    `geovision.readers.hail_samples.CHANNELS`. Missing values are 0 in the input and False in the ``valid``
    mask of the same name. In the radar, no echo is -33 dBZ and valid; an area without coverage is missing.

    ``target`` is float, shape ``(1, y, x)``, 1 where hail fell by the last window. ``valid["target"]`` marks
    the cells where the label is known.

    Args:
        root: Folder of ``hail_*.nc`` or ``hail_*.zarr``.
        split: ``"test"`` for the years in `test_years`, ``"train"`` for all others. Default: None, all years.
        size: Height and width of the central crop, in grid points. Default: None, the whole grid.
        test_years: Years of the test split. Default: 2023.
        group_by: Group that a split keeps together: a storm ``"day"``, from 6 to 6 h local solar time, or a
            ``"year"``. Default: "day".
        transforms: Function from a sample to a sample, applied last. Default: None.
        download: Must be False; the dataset has no download.

    Raises:
        DatasetError: The folder is missing or contains no samples, or a file name lacks time and position.
        OptionError: There is no such split or group.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="hail-samples",
        title="Radar, FY-4B, ERA5 and terrain before hail, built by geovision hail-samples",
        source="your radar grids, AGRI files, ERA5 and elevation; the published dataset is not public",
        license="that of the files that the samples are built from",
        citation="Zhang et al. 2024, HINet, doi:10.12347/j.ycyk.20240520002, for the composition",
        split_group="storm day: from 6 to 6 hours of local solar time; group_by='year' keeps a year together",
        layout="hail_20230617T083000_N3050_E11200.nc: the time of the last window, UTC, and the "
        "center of the grid in hundredths of a degree; NetCDF or Zarr",
        caveats=(
            "The label is computed from reflectivity, which is also an input. Scores measure how well a "
            "model reproduces this rule, not how well it detects hail at the ground.",
            "Samples of one day show the same storms minutes apart. Random splits leak.",
            "With the published matching, 'nearest', a window contains values from up to 30 minutes later "
            "(ERA5) and 7.5 minutes later (FY-4B). Use 'backward' for forecasts.",
            "FY-4B moved from 133 E to 105 E in February 2024: viewing angles before and after differ.",
            "The published strata of plain and complex terrain are not defined; here, they are defined by "
            "the range of heights.",
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
                f"{', '.join(map(str, test_years))}; here are {years}); pass test_years="
            )
        self.paths = [files[index] for index in chosen]
        self._days = [names[index].storm_day for index in chosen]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.paths)

    @property
    def groups(self) -> Sequence[str]:
        """Storm day or year of each sample."""
        return [day if self.group_by == "day" else day[:4] for day in self._days]

    @functools.cached_property
    def terrain(self) -> list[str]:
        """Terrain of each sample: ``"plain"``, ``"complex"`` or ``"unknown"``.

        The first access reads the headers of the files.
        """
        return [str(hail_samples.read_header(path).get("terrain", "unknown")) for path in self.paths]

    def filter_terrain(self, terrain: Literal["plain", "complex"]) -> Self:
        """Return the samples of one kind of terrain; there may be none.

        Args:
            terrain: Kind of terrain, ``"plain"`` or ``"complex"``.
        """
        return self.subset([index for index, each in enumerate(self.terrain) if each == terrain])

    def subset(self, indices: Sequence[int]) -> Self:
        """Return the dataset with these samples only, in this order.

        Args:
            indices: Positions of the samples.
        """
        other = copy.copy(self)
        other.paths = [self.paths[index] for index in indices]
        other._days = [self._days[index] for index in indices]
        if "terrain" in self.__dict__:
            other.__dict__["terrain"] = [self.terrain[index] for index in indices]
        return other

    def with_size(self, size: tuple[int, int] | None) -> Self:
        """Return the same samples, cropped to their center.

        Args:
            size: Height and width of the crop, in grid points; None for the whole grid.
        """
        other = copy.copy(self)
        other.size = size
        return other

    def read_sample(self, index: int) -> Sample:
        """Read one sample, before `transforms`.

        Args:
            index: Position of the sample.

        Raises:
            DatasetError: The grid is smaller than `size`.
        """
        path = self.paths[index]
        content = hail_samples.read_sample(path)
        arrays = hail_samples.to_arrays(content)
        valid = {
            name: _center_crop(torch.from_numpy(~mask), self.size, path) for name, (_, mask) in arrays.items()
        }
        inputs = {
            name: _center_crop(torch.from_numpy(values), self.size, path)
            for name, (values, _) in arrays.items()
        }
        label = _center_crop(torch.from_numpy(content.label)[None], self.size, path)
        return Sample(
            inputs=inputs,
            valid=valid | {"target": label >= 0},
            target=(label == 1).float(),
            group=self.groups[index],
            source=str(path),
        )

    def read(self, index: int) -> HailSample:
        """Return the content of a sample file, with times, grid and ages of the sources.

        Args:
            index: Position of the sample.
        """
        return hail_samples.read_sample(self.paths[index])

    def oracle(self, index: int) -> NDArray[np.bool_]:
        """Return the oracle of a generated sample: its label from the true state.

        The scores of the oracle are the upper limit of every score.

        Args:
            index: Position of the sample.

        Returns:
            Oracle, bool, shape ``(y, x)``.

        Raises:
            DatasetError: The sample was not generated; the true state is unknown.
        """
        content = self.read(index)
        if "oracle" not in content.extra:
            raise DatasetError(f"{self.paths[index]}: no oracle; only generated samples have one")
        return _center_crop(
            torch.from_numpy(content.extra["oracle"] > 0), self.size, self.paths[index]
        ).numpy()

    def plot(self, sample: Sample, prediction: Prediction | None = None) -> Figure:
        """Plot the last window of each source with the outline of the label.

        A further panel shows how the height of the largest reflectivity changes over the windows. A
        prediction adds its probability.

        Args:
            sample: Sample of this dataset.
            prediction: Prediction of a model for the sample. Default: None.
        """
        from geovision.datasets.hail_sample_plot import plot_hail_sample

        predicted = cast("MaskPrediction | None", prediction)
        return plot_hail_sample(
            {name: values.numpy() for name, values in sample["inputs"].items()},
            {name: mask.numpy() for name, mask in sample["valid"].items()},
            sample["target"][0].numpy(),
            bands=list(hail_samples.CHANNELS["fy4b"]),
            levels=hail_samples.LEVELS,
            no_echo=hail_samples.NO_ECHO_DBZ,
            source=Path(sample["source"]).name,
            probability=None if predicted is None else predicted.probability,
        )

    @classmethod
    def synthetic(
        cls, root: Path, n: int, *, seed: int = 0, size: tuple[int, int] = (64, 64), windows: int = 10
    ) -> Path:
        """Write generated samples; see `geovision.datasets.synthetic.storm`.

        Args:
            root: Folder to write to.
            n: Number of samples.
            seed: Seed of the generator. Default: 0.
            size: Height and width, in grid points; the published samples have 128 x 128. Default: 64 x 64.
            windows: Number of windows of 6 minutes; the published samples have 20. Default: 10.
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
        raise DatasetError(f"{root}: contains {entries}; expected {HailSamples.card.layout}")
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
            f"{path}: the grid has {height} x {width} points, fewer than size {size[0]} x {size[1]}; "
            "choose a smaller size"
        )
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return values[..., top : top + size[0], left : left + size[1]].contiguous()
