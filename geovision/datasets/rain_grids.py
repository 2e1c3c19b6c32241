"""Precipitation on your own grids: NetCDF or Zarr, declared in ``grids.toml`` in the same folder.

.. code-block:: toml

    [target]                              # the target
    file = "gauges.nc"                    # file, store, folder or pattern below this folder
    units = "mm/day"                      # if the file does not contain it

    [given.precipitation]                 # inputs of a model, precipitation first
    file = "reanalysis/*.nc"
    synchronous = true                    # its days are those of the target

    [given.specific_humidity_850]         # further predictors, named as in the task
    file = "hus.nc"
    select = { plev = 85000 }
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from geovision import registry
from geovision._atomic_io import write_text
from geovision.datasets.base import DatasetCard
from geovision.datasets.derived_predictors import parse_predictor
from geovision.datasets.paired_grids import PairedGrids, parse_sources
from geovision.errors import DatasetError
from geovision.readers.grids import GridSource
from geovision.spec import resolve

__all__ = ["GRIDS_FILE", "BiasedRain", "CoarseRain"]

GRIDS_FILE = "grids.toml"
"""Name of the file that declares the sources."""


class CoarseRain(PairedGrids):
    """Coarse precipitation with a target on a finer grid, as ``grids.toml`` declares them.

    The arguments are those of `PairedGrids`.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="rain-grids",
        title="Precipitation on your own grids",
        source="your files",
        license="that of your data",
        citation="none",
        split_group="year, or winter if no day is in summer",
        layout=f"{GRIDS_FILE} with [target] and [given.precipitation], and NetCDF or Zarr in the same folder",
        caveats=(
            "Amounts in kg m-2 s-1 that are read as mm/day pass every range check. Declare the units of "
            "files that lack them.",
            "A free-running climate model has no days in common with the target, although it has dates.",
            "Days of one winter are correlated. A split keeps each winter together.",
        ),
    )
    task: ClassVar[str] = "downscale"
    generated: ClassVar[tuple[str, str]] = ("rain_coarse.nc", "rain_fine.nc")
    """Generated files of the input and of the target."""

    def sources(self) -> tuple[Mapping[str, GridSource], GridSource]:
        """Return the sources that ``grids.toml`` declares.

        Raises:
            DatasetError: The file is missing or unreadable, or it declares an unknown predictor.
        """
        path = self.root / GRIDS_FILE
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DatasetError(f"{self.root}: no {GRIDS_FILE} found; expected {self.card.layout}") from None
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise DatasetError(f"{path} cannot be read ({error})") from error
        given, target = parse_sources(table, where=str(path))
        predictors = [channel.name for channel in registry.find_task(self.task).predictors]
        known = [name for name in ("precipitation", *predictors) if parse_predictor(name)[1] == 0]
        for name in given:
            if name not in known:
                raise DatasetError(
                    f"{path}: [given.{name}] is not a predictor of {self.task}; "
                    f"choose from {', '.join(known)}"
                )
        return given, target

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated days of several years and their ``grids.toml``.

        Args:
            root: Folder to write to.
            n: Number of days, in eight Januaries.
            seed: Seed of the generator. Default: 0.
        """
        # Several years, so that a split has several groups.
        resolve("geovision.datasets.synthetic.rain:write_years")(Path(root), n, seed=seed)
        given, target = cls.generated
        write_text(
            Path(root) / GRIDS_FILE,
            f'[target]\nfile = "{target}"\n\n[given.precipitation]\nfile = "{given}"\n',
        )
        return Path(root)


class BiasedRain(CoarseRain):
    """Biased precipitation with a target on the same grid or a finer one.

    The arguments are those of `PairedGrids`.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="biased-rain-grids",
        title="Biased precipitation on your own grids",
        source="your files",
        license="that of your data",
        citation="none",
        split_group=CoarseRain.card.split_group,
        layout=CoarseRain.card.layout,
        caveats=CoarseRain.card.caveats,
    )
    task: ClassVar[str] = "biascorrect"
    generated: ClassVar[tuple[str, str]] = ("rain_model.nc", "rain_coarse.nc")
