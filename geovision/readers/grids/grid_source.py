"""What a data set declares of its grids where their files do not say it, and whether they may be paired."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geovision.errors import DatasetError
from geovision.readers.grids.alignment import Alignment, align
from geovision.readers.grids.reader import open_grid

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["GridSource", "open_paired", "open_source"]


@dataclass(frozen=True)
class GridSource:
    """One field of a data set.

    Args:
        name: How it is called among the others, e.g. ``"ncep.psl"``.
        file: Below the root of the data set; a file, store, folder or pattern.
        field: Of `geovision.readers.grids.VARIABLES`.
        units: Where the file does not say; see `open_grid`, as for `pole`, `variable` and `select`.
        synchronous: Its days are those of the reference, as a reanalysis has them. A climate model that
            runs freely has the climate of its days and no more.
    """

    name: str
    file: str
    field: str
    units: str = ""
    synchronous: bool = True
    pole: tuple[float, float] | None = None
    variable: str = ""
    select: Mapping[str, float] = dataclasses.field(default_factory=dict)


def open_source(root: str | Path, source: GridSource) -> xr.DataArray:
    """The field of a source. Raises as `open_grid` does."""
    return open_grid(
        Path(root) / source.file,
        source.field,
        name=source.variable,
        units=source.units,
        select=source.select,
        pole=source.pole,
    )


def open_paired(root: str | Path, predictors: Sequence[GridSource], reference: GridSource) -> Alignment:
    """Predictors and reference on their common dates, each on its own grid, the reference last.

    Raises:
        DatasetError: A source whose days are not those of the reference.
        InputError: As `open_grid` and `align` do.
    """
    for source in (*predictors, reference):
        if not source.synchronous:
            raise DatasetError(
                f"{source.name}: a model that runs freely, whose days are not those of {reference.name}; it "
                "cannot be paired day by day. Correct its distribution (LinearScaling, "
                "EmpiricalQuantileMapping, QuantileDeltaMapping), or train on a reanalysis and "
                "apply the model to it"
            )
    return align({source.name: open_source(root, source) for source in (*predictors, reference)})
