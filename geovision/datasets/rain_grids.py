"""Rain on grids of one's own: NetCDF or Zarr, declared in ``grids.toml`` beside the files.

[target]                              # the truth
file = "gauges.nc"                    # a file, store, folder or pattern, below this folder
units = "mm/day"                      # where the file does not say

[given.precipitation]                 # what a model is given; precipitation first
file = "reanalysis/*.nc"
synchronous = true                    # its days are those of the truth

[given.specific_humidity_850]         # further predictors, by the task's names
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


class CoarseRain(PairedGrids):
    """Coarse rain with its truth on a finer grid, as ``grids.toml`` declares them. See `PairedGrids`."""

    card: ClassVar[DatasetCard] = DatasetCard(
        name="rain-grids",
        title="Rain on grids of one's own",
        source="this machine",
        license="one's own",
        citation="none",
        split_group="year, or winter where no day is in summer",
        layout=f"{GRIDS_FILE} with [target] and [given.precipitation], and NetCDF or Zarr beside it",
        caveats=(
            "kg m-2 s-1 read as mm/day lies inside every hard range; declare files without units.",
            "A climate model that runs freely has no days in common with the truth, though it has dates.",
            "Days of one winter know one another: a split keeps it whole.",
        ),
    )
    task: ClassVar[str] = "downscale"
    generated: ClassVar[tuple[str, str]] = ("rain_coarse.nc", "rain_fine.nc")
    """Of the generator's files, the one that is given and the truth."""

    def sources(self) -> tuple[Mapping[str, GridSource], GridSource]:
        path = self.root / GRIDS_FILE
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DatasetError(
                f"{self.root}: no {GRIDS_FILE} is there; expected {self.card.layout}"
            ) from None
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise DatasetError(f"{path}: not readable ({error})") from error
        given, target = parse_sources(table, where=str(path))
        predictors = [channel.name for channel in registry.find_task(self.task).predictors]
        known = [name for name in ("precipitation", *predictors) if parse_predictor(name)[1] == 0]
        for name in given:
            if name not in known:
                raise DatasetError(
                    f"{path}: [given.{name}] is no predictor of {self.task}; known: {', '.join(known)}"
                )
        return given, target

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        # Days of several years, so that a split finds units.
        resolve("geovision.datasets.synthetic.rain:write_years")(Path(root), n, seed=seed)
        given, target = cls.generated
        write_text(
            Path(root) / GRIDS_FILE,
            f'[target]\nfile = "{target}"\n\n[given.precipitation]\nfile = "{given}"\n',
        )
        return Path(root)


class BiasedRain(CoarseRain):
    """Biased rain with its truth on the same grid, or a finer one. See `PairedGrids`."""

    card: ClassVar[DatasetCard] = DatasetCard(
        name="biased-rain-grids",
        title="Biased rain on grids of one's own",
        source="this machine",
        license="one's own",
        citation="none",
        split_group=CoarseRain.card.split_group,
        layout=CoarseRain.card.layout,
        caveats=CoarseRain.card.caveats,
    )
    task: ClassVar[str] = "biascorrect"
    generated: ClassVar[tuple[str, str]] = ("rain_model.nc", "rain_coarse.nc")
