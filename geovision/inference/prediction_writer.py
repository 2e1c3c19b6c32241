"""Files of predicted masks and fields: NetCDF and PNG.

The NetCDF files have coordinates and can be opened in a GIS.
"""

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
from geovision.plots.fields import grid_extent
from geovision.plots.prediction import plot_prediction_map
from geovision.readers.grids import write_grids
from geovision.spec import ClassTarget

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["PredictionWriter"]


class PredictionWriter:
    """Writer of the masks or fields that one model predicts.

    ``NAME.nc`` has the dimensions (time, lat, lon) if time and grid are available, otherwise (y, x). For a
    mask, it contains ``probability_of_MASK``, NaN in cells without a prediction, and ``MASK``: 1 yes, 0 no,
    -1 not known. For a field, it contains the values in their unit and the further outputs of the head.
    ``NAME.png`` shows the first of these variables.

    Args:
        folder: Folder of the files. It is created with the first prediction.
        model: Model of masks or fields.

    Raises:
        OptionError: If the model predicts classes.
    """

    def __init__(self, folder: str | Path, model: GeoModel) -> None:
        if isinstance(model.target, ClassTarget):
            raise OptionError(
                f"{model.spec.name} predicts classes, which are rows of a table; "
                "this writer needs a model of masks or fields"
            )
        self.folder = Path(folder)
        self.attributes = {
            "title": f"{model.target.name.replace('_', ' ')}, predicted by {model.spec.name}",
            "history": f"geovision {__version__}, {model.spec.name}, weights {weights_digest(model)}",
        }

    def save(self, prediction: DensePrediction, name: str) -> tuple[Path, Path]:
        """Write ``NAME.nc`` and ``NAME.png``.

        Args:
            prediction: Predicted mask or field.
            name: File name without suffix.

        Returns:
            Paths of the NetCDF file and of the image.

        Raises:
            StorageError: If a file cannot be written; existing files are kept unchanged.
            MissingExtraError: If xarray, its NetCDF library or matplotlib is not installed.
        """
        figure = _plot_prediction(prediction)
        about = self.attributes | {"source": Path(prediction.source).name}
        fields = [
            _to_data_array(values, each, prediction, attributes | about)
            for each, (values, attributes) in _variables(prediction).items()
        ]
        written, image = write_grids(fields, self.folder / f"{name}.nc"), f"{name}.png"
        write_files(self.folder, {image: lambda path: figure.savefig(path, format="png", dpi=120)})
        return written, self.folder / image


def _variables(prediction: DensePrediction) -> dict[str, tuple[NDArray[Any], dict[str, Any]]]:
    """Return values (y, x) and attributes by name.

    The first variable is the one in the image.
    """
    match prediction:
        case MaskPrediction():
            mask = np.where(prediction.valid, prediction.mask, -1).astype(np.int8)
            flags = {
                "flag_values": np.array([-1, 0, 1], np.int8),
                "flag_meanings": f"not_known no_{prediction.name} {prediction.name}",
                "long_name": f"{prediction.name.replace('_', ' ')}: "
                f"probability of {prediction.threshold:g} or more",
            }
            return {
                f"probability_of_{prediction.name}": (prediction.probability, {"units": "1"}),
                prediction.name: (mask, {"units": "1", **flags}),
            }
        case FieldPrediction():
            fields = {prediction.name: prediction.values, **prediction.layers}
            return {
                name: (values, {"units": auxiliary_unit(name, prediction.unit)})
                for name, values in fields.items()
            }
    raise TypeError(f"expected a mask or field prediction, not {type(prediction).__name__}")


def _plot_prediction(prediction: DensePrediction) -> Figure:
    name, (values, attributes) = next(iter(_variables(prediction).items()))
    when = (
        ""
        if prediction.time is None
        else f", {str(prediction.time.astype('datetime64[m]')).replace('T', ' ')} UTC"
    )
    threshold = prediction.threshold if isinstance(prediction, MaskPrediction) else None
    unit = f", yes from {threshold:g}" if threshold is not None else f", {attributes['units']}"
    return plot_prediction_map(
        values,
        name.replace("_", " ") + unit,
        threshold=threshold,
        extent=grid_extent(prediction.grid) if prediction.grid else None,
        suptitle=f"{Path(prediction.source).name}{when}",
    )


def _to_data_array(
    values: NDArray[Any], name: str, prediction: DensePrediction, attributes: dict[str, Any]
) -> xr.DataArray:
    try:
        import xarray as xr
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    axes, coordinates = ["y", "x"], {}
    if prediction.grid is not None:
        axes, coordinates = (
            ["lat", "lon"],
            {"lat": list(prediction.grid.lat), "lon": list(prediction.grid.lon)},
        )
    field = xr.DataArray(values, coordinates, axes, name, attributes)
    if prediction.time is None:
        return field
    return field.expand_dims(time=[prediction.time.astype("datetime64[ns]")])
