"""Answers that are maps, as files: NetCDF with coordinates, which a GIS opens, and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geovision import __version__
from geovision._atomic_io import write_files
from geovision.errors import MissingExtraError, OptionError
from geovision.heads.prediction import DensePrediction, FieldPrediction, MaskPrediction, auxiliary_unit
from geovision.models.geomodel import GeoModel
from geovision.models.serialization import weights_digest
from geovision.plots.fields import extent_of
from geovision.plots.prediction import answer_map
from geovision.readers.grids import write_grids
from geovision.spec import ClassTarget

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["PredictionWriter"]


class PredictionWriter:
    """A folder of answers of one model.

    ``NAME.nc`` holds, on ``(time, lat, lon)`` where time and grid are known and on ``(y, x)`` where not: of
    a mask ``probability_of_MASK``, NaN where it means nothing, and ``MASK``, 1 yes, 0 no, -1 not known; of a
    field its values in their unit, and what else its head tells. ``NAME.png`` shows the first of these.

    Args:
        folder: Made with the first answer.
        model: Of masks or fields.

    Raises:
        OptionError: The model answers with classes.
    """

    def __init__(self, folder: str | Path, model: GeoModel) -> None:
        if isinstance(model.target, ClassTarget):
            raise OptionError(f"{model.spec.name} answers with classes, which are rows and no maps")
        self.folder = Path(folder)
        self.about = {
            "title": f"{model.target.name.replace('_', ' ')}, as {model.spec.name} answers",
            "history": f"geovision {__version__}, {model.spec.name}, weights {weights_digest(model)}",
        }

    def save(self, answer: DensePrediction, name: str) -> tuple[Path, Path]:
        """Write ``NAME.nc`` and ``NAME.png``.

        Raises:
            StorageError: They could not be written; what stood there is untouched.
            MissingExtraError: xarray, what it writes with, or matplotlib is not installed.
        """
        figure = _figure(answer)
        about = self.about | {"source": Path(answer.source).name}
        fields = [
            _on_grid(values, each, answer, attributes | about)
            for each, (values, attributes) in _variables(answer).items()
        ]
        written, picture = write_grids(fields, self.folder / f"{name}.nc"), f"{name}.png"
        write_files(self.folder, {picture: lambda path: figure.savefig(path, format="png", dpi=120)})
        return written, self.folder / picture


def _variables(answer: DensePrediction) -> dict[str, tuple[NDArray[Any], dict[str, Any]]]:
    """Values ``(y, x)`` and attributes by name, the one that a picture shows first."""
    match answer:
        case MaskPrediction():
            said = np.where(answer.valid, answer.mask, -1).astype(np.int8)
            flags = {
                "flag_values": np.array([-1, 0, 1], np.int8),
                "flag_meanings": f"not_known no_{answer.name} {answer.name}",
                "long_name": f"{answer.name.replace('_', ' ')}: probability of {answer.threshold:g} or more",
            }
            return {
                f"probability_of_{answer.name}": (answer.probability, {"units": "1"}),
                answer.name: (said, {"units": "1", **flags}),
            }
        case FieldPrediction():
            fields = {answer.name: answer.values, **answer.layers}
            return {
                name: (values, {"units": auxiliary_unit(name, answer.unit)})
                for name, values in fields.items()
            }
    raise TypeError(f"{type(answer).__name__} is no map")


def _figure(answer: DensePrediction) -> Figure:
    name, (values, attributes) = next(iter(_variables(answer).items()))
    when = (
        "" if answer.time is None else f", {str(answer.time.astype('datetime64[m]')).replace('T', ' ')} UTC"
    )
    threshold = answer.threshold if isinstance(answer, MaskPrediction) else None
    unit = f", yes from {threshold:g}" if threshold is not None else f", {attributes['units']}"
    return answer_map(
        values,
        name.replace("_", " ") + unit,
        threshold=threshold,
        extent=extent_of(answer.grid) if answer.grid else None,
        heading=f"{Path(answer.source).name}{when}",
    )


def _on_grid(
    values: NDArray[Any], name: str, answer: DensePrediction, attributes: dict[str, Any]
) -> xr.DataArray:
    try:
        import xarray as xr
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    axes, coordinates = ["y", "x"], {}
    if answer.grid is not None:
        axes, coordinates = ["lat", "lon"], {"lat": list(answer.grid.lat), "lon": list(answer.grid.lon)}
    field = xr.DataArray(values, coordinates, axes, name, attributes)
    if answer.time is None:
        return field
    return field.expand_dims(time=[answer.time.astype("datetime64[ns]")])
