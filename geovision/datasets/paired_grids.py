"""Daily fields of several sources, paired by date with a target on another grid."""

from __future__ import annotations

import copy
import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from geovision import registry
from geovision.datasets.base import GeoDataset, Sample, Transforms
from geovision.datasets.derived_predictors import adjacent_days, moisture_fluxes, parse_predictor
from geovision.errors import DatasetError, OptionError
from geovision.readers.grids import (
    GridSource,
    align,
    check_finer,
    check_overlap,
    open_source,
    regrid_auto,
    split_groups,
)
from geovision.readers.grids.times import step_days
from geovision.spec import FieldTarget, Grid, GridPair

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from geovision.heads.prediction import Prediction
    from geovision.models.geomodel import GeoModel

__all__ = ["INPUT_NAME", "PairedGrids"]

INPUT_NAME = "fields"
"""Name of the input of the precipitation tasks."""

_log = logging.getLogger(__name__)
_YEARS = re.compile(r"^(\d{4})(?:-(\d{4}))?$")


class PairedGrids(GeoDataset):
    """Daily fields on one grid, each paired with a target on another grid.

    A sample is one day. It contains ``inputs["fields"]``, float32, shape ``(channel, y, x)``, in the units of
    the channels, 0 where missing. ``valid["fields"]`` is its valid mask, bool. The target has its own grid,
    shape ``(1, y, x)``, the unit of the target of the task, and the valid mask ``valid["target"]``. Rows
    start in the south and columns in the west.

    All fields are regridded to the grid of the first source, or to that of the target if the first source has
    two-dimensional latitudes. Fields without a time axis, such as ``surface_altitude``, are repeated for
    every day. ``NAME_day_before`` and ``NAME_day_after`` are predictors of the adjacent days; they are
    missing if that day is missing or in another group. Moisture fluxes are computed from pressure and
    humidity.

    Args:
        root: Folder of the files.
        split: Years, ``"1985"`` or ``"1985-1992"``, both included; winters count by the year of their
            January. Default: None, all years.
        size: Must be None; fields keep their grid.
        synchronous: Whether each day of the sources must match the target. False accepts sources whose days
            differ from those of the target, for methods that are fitted on distributions only. Default: True.
        transforms: Function from a sample to a sample, applied last. Default: None.
        download: Whether to download the files to `root`, if the dataset has a download. Default: False.

    Raises:
        DatasetError: A source is a free-running model and `synchronous` is True.
        OptionError: There is no such split, or `size` is given.
        InputError: Files, units, times or grids do not match; see `geovision.readers.grids`.
    """

    supports_unpaired: ClassVar[bool] = True
    target: FieldTarget

    def __init__(
        self,
        root: Path,
        *,
        split: str | None = None,
        size: tuple[int, int] | None = None,
        synchronous: bool = True,
        transforms: Transforms | None = None,
        download: bool = False,
    ) -> None:
        if size is not None:
            raise OptionError(f"size={size}: fields keep their grid; leave out size")
        self.root = self._prepare(root, transforms, download)
        target = registry.find_task(self.task).target
        assert isinstance(target, FieldTarget)
        self.target = target
        self.synchronous = True
        given, target_source = self.sources()
        self._check_synchronous(given, target_source, allowed=not synchronous)
        self._open(given, target_source)
        self.days: Sequence[int] = self._days_in_years(split)

    # --- methods for adapters ---------------------------------------------------------------------

    group_by: ClassVar[str] = "auto"
    """Group that a split keeps together: ``"year"``, ``"winter"`` or ``"auto"``.

    ``"auto"`` means winters if no day is in summer, and years otherwise.
    """

    def sources(self) -> tuple[Mapping[str, GridSource], GridSource]:
        """Return the input sources by channel, precipitation first, and the target source."""
        raise NotImplementedError

    # --- reading ----------------------------------------------------------------------------------

    def _check_synchronous(
        self, given: Mapping[str, GridSource], target: GridSource, *, allowed: bool
    ) -> None:
        free = [each.name for each in (*given.values(), target) if not each.synchronous]
        if free and not allowed:
            raise DatasetError(
                f"{', '.join(free)}: a free-running model has no days in common with {target.name}, so it "
                "cannot be paired by date. Pass synchronous=False and use a method that is fitted on "
                f"distributions ({', '.join(unpaired_models(self.task))}), or train a network on a "
                "reanalysis and apply it to the free-running model"
            )
        self.synchronous = not free

    def _open(self, given: Mapping[str, GridSource], target: GridSource) -> None:
        fields = {name: open_source(self.root, source) for name, source in given.items()}
        fields |= moisture_fluxes(fields)
        observed = open_source(self.root, target)
        for name, field in (*fields.items(), ("target", observed)):
            if "member" in field.dims:
                raise DatasetError(f"{name} is an ensemble; choose one member with select=")
        first = next(iter(fields.values()))
        grid = first if first["lat"].ndim == 1 else observed
        if observed["lat"].ndim != 1:
            raise DatasetError("the target has two-dimensional latitudes; regrid it to a regular grid first")
        if first["lat"].ndim == 1:
            check_finer(first, observed)
        check_overlap(first, observed)
        paired = align({**fields, "target": observed})
        self.alignment = str(paired)
        if any(paired.dropped.values()):
            _log.warning("%s: %s", self.root, paired)
        *parts, observed = paired.fields.values()
        self._predictors = {name: regrid_auto(field, grid) for name, field in zip(fields, parts, strict=True)}
        self._observed = observed
        self.grids = _grids(grid, observed)
        self.channels: tuple[str, ...] = tuple(given)
        by = self.group_by if self.group_by != "auto" else _infer_group_by(observed)
        self._groups = split_groups(observed, "winter" if by == "winter" else "year")
        self._adjacent_days = adjacent_days(observed, self._groups)
        self._is_daily = abs((step_days(observed) or 1.0) - 1) < 1 / 24
        index: Any = observed.indexes["time"]
        self._dates = [
            str(each) for each in index.strftime("%Y-%m-%d" if _daily(observed) else "%Y-%m-%dT%H:%M")
        ]

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """All fields in memory, NaN where missing.

        Shapes: ``(day, channel, y, x)`` for the inputs and ``(day, 1, y, x)`` for the target.
        """
        observed = self._observed.values
        days = [
            np.broadcast_to(field.values, (len(observed), *field.shape[-2:]))
            for field in self._predictors.values()
        ]
        return np.stack(days, axis=1).astype(np.float32), observed[:, None].astype(np.float32)

    def _days_in_years(self, split: str | None) -> list[int]:
        if split is None:
            return list(range(len(self._groups)))
        years = [int(group.split()[-1]) for group in self._groups]
        found = _YEARS.match(split)
        if not found:
            raise OptionError(
                f"split {split!r}: give years, such as {min(years)} or {min(years)}-{max(years)}"
            )
        first, last = int(found[1]), int(found[2] or found[1])
        days = [day for day, year in enumerate(years) if first <= year <= last]
        if not days:
            raise OptionError(f"split {split!r}: the data have {min(years)} to {max(years)}")
        return days

    # --- samples ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of days."""
        return len(self.days)

    def read_sample(self, index: int) -> Sample:
        """Read one day, before `transforms`.

        Args:
            index: Position of the day.
        """
        given, observed = self._arrays
        day = self.days[index]
        fields = torch.from_numpy(np.stack([self._field(given, day, name) for name in self.channels]))
        target = torch.from_numpy(observed[day])
        valid, target_valid = torch.isfinite(fields), torch.isfinite(target)
        return Sample(
            inputs={INPUT_NAME: fields.nan_to_num(0.0)},
            valid={INPUT_NAME: valid, "target": target_valid},
            target=target.nan_to_num(0.0),
            group=self._groups[day],
            source=f"{self.root}#{self._dates[day]}",
        )

    def _field(self, given: NDArray[np.floating], day: int, name: str) -> NDArray[np.floating]:
        """Return a channel of a day, shape ``(y, x)``, NaN where missing."""
        field, step = parse_predictor(name)
        at = self._adjacent_days[step][day]
        values = given[at, list(self._predictors).index(field)]
        return values if at >= 0 else np.full_like(values, np.nan)

    @property
    def groups(self) -> Sequence[str]:
        """Year or winter of each day."""
        return [self._groups[day] for day in self.days]

    @property
    def dates(self) -> Sequence[str]:
        """Date of each sample, ISO 8601."""
        return [self._dates[day] for day in self.days]

    @property
    def is_consecutive(self) -> Sequence[bool] | None:
        """Whether each day follows the previous sample; None if the data are not daily."""
        if not self._is_daily:
            return None
        before = [None, *self.days[:-1]]
        return [self._adjacent_days[-1][day] == last for day, last in zip(self.days, before, strict=True)]

    def subset(self, indices: Sequence[int]) -> Self:
        """Return the dataset with these days only, in this order.

        Args:
            indices: Positions of the days.
        """
        other = copy.copy(self)
        other.days = [self.days[index] for index in indices]
        return other

    def with_predictors(self, names: Sequence[str]) -> Self:
        """Return the same days with precipitation and these channels.

        Args:
            names: Names of the channels, in this order.

        Raises:
            OptionError: The data have no such channel.
        """
        first, *others = self._predictors
        for name in names:
            if parse_predictor(name)[0] not in self._predictors or name == first:
                raise OptionError(
                    f"{self.root} has no predictor {name!r}; it has: {', '.join(others) or 'none'}"
                )
        other = copy.copy(self)
        other.channels = (first, *names)
        return other

    def adapt_to(self, model: GeoModel) -> Self:
        """Return the same days with the predictors of a model.

        Args:
            model: Model that is trained or evaluated with the days.
        """
        return self.with_predictors(model.config.predictors)

    def model_kwargs(self) -> Mapping[str, Any]:
        """Return grids and predictors as keywords of `geovision.create`."""
        return {"grids": self.grids, "predictors": self.channels[1:]}

    def plot(self, sample: Sample, prediction: Prediction | None = None) -> Figure:
        """Plot the input precipitation, the prediction if there is one, and the target.

        Args:
            sample: Sample of this dataset.
            prediction: Prediction of a model for the sample. Default: None.
        """
        from geovision.heads.prediction import FieldPrediction
        from geovision.plots.fields import grid_extent, plot_fields

        given = sample["inputs"][INPUT_NAME][0].where(sample["valid"][INPUT_NAME][0], torch.nan).numpy()
        target = sample["target"][0].where(sample["valid"]["target"][0], torch.nan).numpy()
        predicted = prediction.values if isinstance(prediction, FieldPrediction) else None
        return plot_fields(
            given,
            predicted,
            target,
            extent=grid_extent(self.grids.target),
            coarse_extent=grid_extent(self.grids.given),
            unit=self.target.channel.unit,
            levels=self.target.contour_levels,
            suptitle=sample["source"].split("#")[-1],
        )


def unpaired_models(task: str) -> list[str]:
    """Return the models of a task that are fitted on distributions only.

    Args:
        task: Name of the task.
    """
    return [
        name
        for name in registry.list_models(task=task)
        if "unpaired" in registry.find_model(name).capabilities
    ]


def _grids(given: xr.DataArray, target: xr.DataArray) -> GridPair:
    """Return both grids, with the longitudes of the first shifted to those of the second."""
    lat, lon = (np.asarray(target[axis], float) for axis in ("lat", "lon"))
    given_lon = np.asarray(given["lon"], float)
    given_lon = given_lon - 360 * np.round((given_lon.mean() - lon.mean()) / 360)
    return GridPair(_grid(np.asarray(given["lat"], float), given_lon), _grid(lat, lon))


def _grid(lat: NDArray, lon: NDArray) -> Grid:
    return Grid(tuple(lat.round(6).tolist()), tuple(lon.round(6).tolist()))


def _infer_group_by(field: xr.DataArray) -> str:
    months = set(field["time"].dt.month.values.tolist())
    return "winter" if {12, 1} <= months and not months & {6, 7, 8} else "year"


def _daily(field: xr.DataArray) -> bool:
    return (step_days(field) or 1.0) >= 1


def parse_sources(table: Mapping[str, Any], *, where: str) -> tuple[dict[str, GridSource], GridSource]:
    """Return the sources that a table of ``grids.toml`` declares.

    The keys are described in `geovision.datasets.rain_grids`.

    Args:
        table: Content of the file.
        where: Name of the file, for error messages.

    Returns:
        Input sources by channel, and the target source.

    Raises:
        DatasetError: A key is missing or unknown.
    """
    known = {field.name for field in dataclasses.fields(GridSource)} - {"name"}
    unknown = sorted(set(table) - {"target", "given"})
    if unknown or "target" not in table or not table.get("given"):
        raise DatasetError(
            f"{where}: expected the tables [target] and [given.precipitation]"
            + (f", not [{unknown[0]}]" if unknown else "")
        )

    def source(name: str, entry: Mapping[str, Any]) -> GridSource:
        if "file" not in entry or (wrong := sorted(set(entry) - known)):
            problem = f"has no {wrong[0]!r}" if "file" in entry else "needs a file"
            raise DatasetError(f"{where}: [{name}] {problem}; it takes {', '.join(sorted(known))}")
        pole = entry.get("pole")
        field = entry.get("field", re.sub(r"_\d+$", "", name.split(".")[-1]))
        return GridSource(**{**entry, "name": name, "field": field, "pole": tuple(pole) if pole else None})

    given = {name: source(f"given.{name}", entry) for name, entry in table["given"].items()}
    if next(iter(given)) != "precipitation":
        raise DatasetError(f"{where}: [given.precipitation] comes first, before other predictors")
    return given, source("target", {"field": "precipitation", **table["target"]})
