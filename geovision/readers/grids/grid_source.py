"""Declarations of grids of a dataset, and pairing by date."""

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
    """Declaration of one field of a dataset.

    Args:
        name: Name among the fields of the dataset, such as ``"ncep.psl"``.
        file: Path relative to the root of the dataset: a file, store, folder or pattern.
        field: Name of a variable in `geovision.readers.grids.VARIABLES`.
        units: Unit of a file without units; see `open_grid`. Default: ``""``.
        synchronous: Whether the days are those of the reference, as in a reanalysis. A free-running
            climate model reproduces only the climate of its days. Default: True.
        pole: Latitude and longitude of the north pole of a rotated grid, in degrees; see `open_grid`.
            Default: None.
        variable: Name of the variable in the file; see `open_grid`. Default: ``""``.
        select: Values of further axes; see `open_grid`. Default: ``{}``.
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
    """Open the field of a source.

    Args:
        root: Root folder of the dataset.
        source: Declaration of the field.

    Returns:
        Field as returned by `open_grid`.

    Raises:
        UnreadableFileError: A file is missing or damaged; see `open_grid`.
        InputError: The field is not as declared; see `open_grid`.
    """
    return open_grid(
        Path(root) / source.file,
        source.field,
        name=source.variable,
        units=source.units,
        select=source.select,
        pole=source.pole,
    )


def open_paired(root: str | Path, predictors: Sequence[GridSource], reference: GridSource) -> Alignment:
    """Open predictors and reference on their common dates.

    Each field keeps its own grid. The reference is the last field.

    Args:
        root: Root folder of the dataset.
        predictors: Declarations of the predictors.
        reference: Declaration of the reference.

    Returns:
        Aligned fields and dropped dates.

    Raises:
        DatasetError: The days of a source are not those of the reference.
        InputError: A field cannot be opened or aligned; see `open_grid` and `align`.
    """
    for source in (*predictors, reference):
        if not source.synchronous:
            raise DatasetError(
                f"{source.name}: a free-running model, whose days are not those of {reference.name}, so it "
                "cannot be paired day by day. Correct its distribution (LinearScaling, "
                "EmpiricalQuantileMapping, QuantileDeltaMapping), or train on a reanalysis and "
                "apply the model to it"
            )
    return align({source.name: open_source(root, source) for source in (*predictors, reference)})
