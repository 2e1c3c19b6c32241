"""Fields of several sources on grids of their own, paired by date with the truth: one day is one sample."""

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
"""Name of the input that the tasks of rain take."""

_log = logging.getLogger(__name__)
_YEARS = re.compile(r"^(\d{4})(?:-(\d{4}))?$")


class PairedGrids(GeoDataset):
    """Days of fields on one grid, each with the truth on another.

    A sample holds ``inputs["fields"]`` (float32 ``(channel, y, x)``, in the units of the channels, 0 where
    missing), ``valid["fields"]`` (bool, where they are there) and, on its own grid, the target
    ``(1, y, x)`` in the unit of the task's target, with ``valid["target"]``. South and west come first. All
    fields are brought to the grid of the first source, and those that are the same on all days, such as
    ``surface_altitude``, to every day. ``NAME_day_before`` and ``NAME_day_after`` are predictors like those
    of the day itself, missing where that day is not there or in another unit; the flux of moisture is made of
    pressure and humidity.

    Args:
        root: Folder of the files.
        split: Years, ``"1985"`` or ``"1985-1992"``, both included; winters count by the year of their
            January. None: all of them.
        size: None; fields keep their grid.
        synchronous: False takes sources whose days are not those of the truth, for methods that are fitted
            on distributions alone.

    Raises:
        DatasetError: A source that runs freely, without ``synchronous=False``.
        OptionError: No such split; a size.
        InputError: Files, units, times or grids that do not fit; see `geovision.readers.grids`.
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
            raise OptionError(f"size={size}: fields keep the grid that they come on")
        self.root = self._prepare(root, transforms, download)
        target = registry.find_task(self.task).target
        assert isinstance(target, FieldTarget)
        self.target = target
        self.synchronous = True
        given, truth = self.sources()
        self._check_synchronous(given, truth, allowed=not synchronous)
        self._open(given, truth)
        self.days: Sequence[int] = self._days_in_years(split)

    # --- what an adapter says ---------------------------------------------------------------------

    group_by: ClassVar[str] = "auto"
    """What a split keeps together: ``"year"``, ``"winter"``; ``"auto"``: winters if no day is in summer."""

    def sources(self) -> tuple[Mapping[str, GridSource], GridSource]:
        """The sources by the channel that they are, precipitation first, and that of the truth."""
        raise NotImplementedError

    # --- reading ----------------------------------------------------------------------------------

    def _check_synchronous(
        self, given: Mapping[str, GridSource], truth: GridSource, *, allowed: bool
    ) -> None:
        free = [each.name for each in (*given.values(), truth) if not each.synchronous]
        if free and not allowed:
            raise DatasetError(
                f"{', '.join(free)}: a model that runs freely, whose days are not those of {truth.name}; it "
                "cannot be paired day by day. With synchronous=False, methods that are fitted on "
                f"distributions take it ({', '.join(unpaired_models(self.task))}); or train a network on a "
                "reanalysis and apply it to the model"
            )
        self.synchronous = not free

    def _open(self, given: Mapping[str, GridSource], truth: GridSource) -> None:
        fields = {name: open_source(self.root, source) for name, source in given.items()}
        fields |= moisture_fluxes(fields)
        observed = open_source(self.root, truth)
        for name, field in (*fields.items(), ("truth", observed)):
            if "member" in field.dims:
                raise DatasetError(f"{name}: an ensemble; choose one member with select=")
        first = next(iter(fields.values()))
        grid = first if first["lat"].ndim == 1 else observed
        if observed["lat"].ndim != 1:
            raise DatasetError("the truth is on a grid with two-dimensional latitudes; regrid it first")
        if first["lat"].ndim == 1:
            check_finer(first, observed)
        check_overlap(first, observed)
        paired = align({**fields, "truth": observed})
        self.alignment = str(paired)
        if any(paired.dropped.values()):
            _log.warning("%s: %s", self.root, paired)
        *parts, observed = paired.fields.values()
        self._predictors = {name: regrid_auto(field, grid) for name, field in zip(fields, parts, strict=True)}
        self._truth = observed
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
        """All fields in memory: ``(day, channel, y, x)`` and ``(day, 1, y, x)``, NaN where missing."""
        truth = self._truth.values
        days = [
            np.broadcast_to(field.values, (len(truth), *field.shape[-2:]))
            for field in self._predictors.values()
        ]
        return np.stack(days, axis=1).astype(np.float32), truth[:, None].astype(np.float32)

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

    # --- what a data set is -----------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.days)

    def read_sample(self, index: int) -> Sample:
        given, truth = self._arrays
        day = self.days[index]
        fields = torch.from_numpy(np.stack([self._field(given, day, name) for name in self.channels]))
        target = torch.from_numpy(truth[day])
        there, known = torch.isfinite(fields), torch.isfinite(target)
        return Sample(
            inputs={INPUT_NAME: fields.nan_to_num(0.0)},
            valid={INPUT_NAME: there, "target": known},
            target=target.nan_to_num(0.0),
            group=self._groups[day],
            source=f"{self.root}#{self._dates[day]}",
        )

    def _field(self, given: NDArray[np.floating], day: int, name: str) -> NDArray[np.floating]:
        """A channel of a day ``(y, x)``, NaN where missing."""
        field, step = parse_predictor(name)
        at = self._adjacent_days[step][day]
        values = given[at, list(self._predictors).index(field)]
        return values if at >= 0 else np.full_like(values, np.nan)

    @property
    def groups(self) -> Sequence[str]:
        return [self._groups[day] for day in self.days]

    @property
    def dates(self) -> Sequence[str]:
        """Of each sample, ISO 8601."""
        return [self._dates[day] for day in self.days]

    @property
    def is_consecutive(self) -> Sequence[bool] | None:
        if not self._is_daily:
            return None
        before = [None, *self.days[:-1]]
        return [self._adjacent_days[-1][day] == last for day, last in zip(self.days, before, strict=True)]

    def subset(self, indices: Sequence[int]) -> Self:
        other = copy.copy(self)
        other.days = [self.days[index] for index in indices]
        return other

    def with_predictors(self, names: Sequence[str]) -> Self:
        """The same days with precipitation and these channels.

        Raises:
            OptionError: A channel that the data do not have.
        """
        first, *others = self._predictors
        for name in names:
            if parse_predictor(name)[0] not in self._predictors or name == first:
                raise OptionError(f"{self.root} has no {name!r}; it has: {', '.join(others) or 'no others'}")
        other = copy.copy(self)
        other.channels = (first, *names)
        return other

    def adapt_to(self, model: GeoModel) -> Self:
        return self.with_predictors(model.config.predictors)

    def model_kwargs(self) -> Mapping[str, Any]:
        return {"grids": self.grids, "predictors": self.channels[1:]}

    def plot(self, sample: Sample, prediction: Prediction | None = None) -> Figure:
        """What went in, the answer where there is one, and the truth."""
        from geovision.heads.prediction import FieldPrediction
        from geovision.plots.fields import grid_extent, plot_fields

        given = sample["inputs"][INPUT_NAME][0].where(sample["valid"][INPUT_NAME][0], torch.nan).numpy()
        truth = sample["target"][0].where(sample["valid"]["target"][0], torch.nan).numpy()
        answer = prediction.values if isinstance(prediction, FieldPrediction) else None
        return plot_fields(
            given,
            answer,
            truth,
            extent=grid_extent(self.grids.target),
            coarse_extent=grid_extent(self.grids.given),
            unit=self.target.channel.unit,
            levels=self.target.contour_levels,
            suptitle=sample["source"].split("#")[-1],
        )


def unpaired_models(task: str) -> list[str]:
    """Models of a task that are fitted on distributions alone."""
    return [
        name
        for name in registry.list_models(task=task)
        if "unpaired" in registry.find_model(name).capabilities
    ]


def _grids(given: xr.DataArray, truth: xr.DataArray) -> GridPair:
    """Both grids, the longitudes of the first about those of the second."""
    lat, lon = (np.asarray(truth[axis], float) for axis in ("lat", "lon"))
    own = np.asarray(given["lon"], float)
    own = own - 360 * np.round((own.mean() - lon.mean()) / 360)
    return GridPair(_grid(np.asarray(given["lat"], float), own), _grid(lat, lon))


def _grid(lat: NDArray, lon: NDArray) -> Grid:
    return Grid(tuple(lat.round(6).tolist()), tuple(lon.round(6).tolist()))


def _infer_group_by(field: xr.DataArray) -> str:
    months = set(field["time"].dt.month.values.tolist())
    return "winter" if {12, 1} <= months and not months & {6, 7, 8} else "year"


def _daily(field: xr.DataArray) -> bool:
    return (step_days(field) or 1.0) >= 1


def parse_sources(table: Mapping[str, Any], *, where: str) -> tuple[dict[str, GridSource], GridSource]:
    """Sources as a table of one's own declares them, see `geovision.datasets.rain_grids`.

    Raises:
        DatasetError: A key that is missing or not known.
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
            what = f"has no {wrong[0]!r}" if "file" in entry else "needs a file"
            raise DatasetError(f"{where}: [{name}] {what}; it takes {', '.join(sorted(known))}")
        pole = entry.get("pole")
        field = entry.get("field", re.sub(r"_\d+$", "", name.split(".")[-1]))
        return GridSource(**{**entry, "name": name, "field": field, "pole": tuple(pole) if pole else None})

    given = {name: source(f"given.{name}", entry) for name, entry in table["given"].items()}
    if next(iter(given)) != "precipitation":
        raise DatasetError(f"{where}: [given.precipitation] comes first, before other predictors")
    return given, source("target", {"field": "precipitation", **table["target"]})
