"""Winters over Iberia in the files of climate4R.

The files contain no units. Some sources are synchronous with the observations, others are free-running
models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from geovision.datasets.base import DatasetCard, Transforms
from geovision.datasets.paired_grids import PairedGrids
from geovision.errors import DatasetError, OptionError, nearest
from geovision.readers.grids.grid_source import GridSource
from geovision.spec import resolve

__all__ = ["CORDEX_POLE", "SOURCES", "IberiaCorrection", "IberiaWinters"]

CORDEX_POLE = (39.25, -162.0)
"""Latitude and longitude of the rotated pole of EURO-CORDEX, in degrees.

The CORDEX file has the axes of this rotated grid, named as if they were geographic.
"""

_FIELDS = {
    "pr": "precipitation",
    "tas": "air_temperature",
    "psl": "air_pressure_at_mean_sea_level",
    "ta850": "air_temperature",
    "hus850": "specific_humidity",
}

# No file contains its units. These were inferred from the values, which `open_grid` checks again.
_UNITS = {
    "EOBS": {"pr": "mm/day", "tas": "degC"},
    "NCEP": {"pr": "kg m-2 s-1", "tas": "degC", "psl": "Pa", "ta850": "K", "hus850": "kg kg-1"},
    "CMIP5": {"pr": "kg m-2 s-1", "tas": "K", "psl": "Pa", "ta850": "K", "hus850": "kg kg-1"},
    "CORDEX": {"pr": "mm/day"},
}

_SYNCHRONOUS_SOURCES = ("EOBS", "NCEP")
"""Sources with the observed days.

The daily rain of NCEP, averaged over the land, correlates with E-OBS at 0.9; CMIP5 and CORDEX at 0.
"""


def _sources() -> Iterator[GridSource]:
    for origin, units in _UNITS.items():
        for field, unit in units.items():
            yield GridSource(
                name=f"{origin.lower()}.{field}",
                file=f"{origin}_Iberia_{field}.nc",
                field=_FIELDS[field],
                units=unit,
                synchronous=origin in _SYNCHRONOUS_SOURCES,
                pole=CORDEX_POLE if origin == "CORDEX" else None,
            )


SOURCES: Mapping[str, GridSource] = {source.name: source for source in _sources()}
"""Sources by name, such as ``"eobs.pr"``."""


# --- adapters -----------------------------------------------------------------------------------

_CHANNELS = {
    "precipitation": "pr",
    "air_temperature": "tas",
    "air_pressure_at_mean_sea_level": "psl",
    "air_temperature_850": "ta850",
    "specific_humidity_850": "hus850",
}
"""Field in the file names, by channel."""


class IberiaWinters(PairedGrids):
    """Daily rain of E-OBS at 0.5 degrees with fields of a coarse source.

    Args:
        root: Folder of the files.
        split: Years, ``"1985"`` or ``"1985-1992"``, both included; winters count by the year of their
            January. Default: None, all years.
        size: Must be None; fields keep their grid.
        synchronous: Whether each day of the source must match the target, see `PairedGrids`. Default: True.
        origin: Coarse source: ``"ncep"``, ``"cmip5"`` or ``"cordex"``; the last two are free-running models.
            Default: "ncep".
        transforms: Function from a sample to a sample, applied last. Default: None.
        download: Whether to download the files to `root`, if the dataset has a download. Default: False.

    Raises:
        DatasetError: A file is missing, or the source is a free-running model and `synchronous` is True.
        OptionError: There is no such split or origin, or `size` is given.
        InputError: Units, times or grids do not match; see `geovision.readers.grids`.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="iberia",
        title="Winters over Iberia: NCEP reanalysis, CMIP5 and CORDEX with E-OBS",
        source="climate4R (Iturbide et al. 2019, doi:10.1016/j.envsoft.2018.09.009)",
        license="E-OBS for non-commercial research and education; see climate4R for the others",
        citation="Cornes et al. 2018, doi:10.1029/2017JD028200 (E-OBS); Kalnay et al. 1996 (NCEP); "
        "Iturbide et al. 2019 (climate4R)",
        split_group="winter, by the year of its January",
        layout="EOBS_Iberia_pr.nc and NCEP_Iberia_{pr,tas,psl,ta850,hus850}.nc, the same for CMIP5, "
        "CORDEX_Iberia_pr.nc",
        caveats=(
            "No file contains its units. Rain of E-OBS and CORDEX is in mm/day, of NCEP and CMIP5 in "
            "kg m-2 s-1.",
            "CMIP5 and CORDEX are free-running models: their days are not those of E-OBS, although they have "
            "dates.",
            "CORDEX is on a rotated grid whose axes are named as if they were geographic.",
            "E-OBS is missing over the sea. It lacks 29 February 1984, which NCEP contains.",
            "The lowest rain of NCEP is -1e-10, a rounding error.",
        ),
    )
    task: ClassVar[str] = "downscale"
    group_by: ClassVar[str] = "winter"

    def __init__(
        self,
        root: Path,
        *,
        split: str | None = None,
        size: tuple[int, int] | None = None,
        synchronous: bool = True,
        origin: str = "ncep",
        transforms: Transforms | None = None,
        download: bool = False,
    ) -> None:
        origins = [name.lower() for name in _UNITS if name != "EOBS"]
        if origin not in origins:
            near = nearest(origin, origins)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise OptionError(f"origin {origin!r} is unknown; choose from {', '.join(origins)}{hint}")
        self.origin = origin
        super().__init__(
            root, split=split, size=size, synchronous=synchronous, transforms=transforms, download=download
        )
        self.channels = self.default_channels()

    def default_channels(self) -> tuple[str, ...]:
        """Return the channels unless `with_predictors` chooses others: all, also of adjacent days."""
        every = tuple(self._predictors)
        return every + tuple(f"{name}_day_{which}" for which in ("before", "after") for name in every)

    def sources(self) -> tuple[Mapping[str, GridSource], GridSource]:
        """Return the sources whose files exist, and rain of E-OBS as target.

        Raises:
            DatasetError: A file of precipitation is missing.
        """
        found = {
            channel: SOURCES[name]
            for channel, field in _CHANNELS.items()
            if (name := f"{self.origin}.{field}") in SOURCES and (self.root / SOURCES[name].file).is_file()
        }
        target = SOURCES["eobs.pr"]
        missing = [
            source.file
            for source in (SOURCES[f"{self.origin}.pr"], target)
            if not (self.root / source.file).is_file()
        ]
        if missing:
            raise DatasetError(f"{self.root}: {missing[0]} is missing; expected {self.card.layout}")
        return found, target

    @classmethod
    def synthetic(cls, root: Path, n: int, *, seed: int = 0) -> Path:
        """Write generated winter days; see `geovision.datasets.synthetic.iberia`.

        Args:
            root: Folder to write to.
            n: Number of days, in eight Januaries.
            seed: Seed of the generator. Default: 0.
        """
        return resolve("geovision.datasets.synthetic.iberia:write")(Path(root), n, seed=seed)


class IberiaCorrection(IberiaWinters):
    """Daily rain of a coarse source, to be corrected towards E-OBS on its grid.

    The arguments are those of `IberiaWinters`.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="iberia-correction",
        title="Winters over Iberia: rain to be corrected",
        source=IberiaWinters.card.source,
        license=IberiaWinters.card.license,
        citation=IberiaWinters.card.citation,
        split_group=IberiaWinters.card.split_group,
        layout=IberiaWinters.card.layout,
        caveats=IberiaWinters.card.caveats,
    )
    task: ClassVar[str] = "biascorrect"

    def default_channels(self) -> tuple[str, ...]:
        """Return precipitation only, which every source has."""
        return ("precipitation",)
