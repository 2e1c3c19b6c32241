"""Any model over a map of any size: answers of its windows, merged to one map on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geovision import __version__, _atomic_io
from geovision.errors import InputError, OptionError
from geovision.inference import executor
from geovision.inference.cog import limited_gdal_cache
from geovision.inference.mosaic import merge
from geovision.inference.sliding_window import PatchSource, WindowTask, sliding_window_predict
from geovision.inference.tiling import WindowGrid
from geovision.inference.window_predictor import make_predict_fn, output_names, temporary_sibling_dir
from geovision.models.geomodel import GeoModel
from geovision.models.serialization import weights_digest
from geovision.readers.sar import MapGrid

__all__ = ["RasterSummary", "predict_raster"]


@dataclass(frozen=True)
class RasterSummary:
    """What a run over a map left.

    Attributes:
        files: By what they are: ``"answer"``, ``"count"``.
        layers: Names of the bands of the answer.
        grid: Of both; as fine as the model answers.
        windows, skipped: How many there are, and how many have too little data.
    """

    files: Mapping[str, Path]
    layers: tuple[str, ...]
    grid: MapGrid
    windows: int
    skipped: int


@limited_gdal_cache()
def predict_raster(
    model: GeoModel,
    source: PatchSource,
    out: str | Path,
    *,
    size: tuple[int, int] | None = None,
    overlap: float = 0.5,
    min_valid: float = 0.25,
    batch_size: int = 16,
    precision: str = "auto",
    workers: executor.ExecutorConfig | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> RasterSummary:
    """Ask a model about every window of a map, and write what it says of each place.

    ``OUT_answer.tif`` and ``OUT_count.tif``, both cloud-optimised GeoTIFF: the mean of all windows over a
    cell, weighted by how near to their middle it lies, and how many they are. A band is the probability of
    a class or of a mask, or a field in its unit; NaN where nothing is said. Memory does not grow with the
    map; the answers of masks and fields lie on the disk of `out` until they are merged.

    Args:
        model: Of classes, masks or fields; of several inputs too, and of sequences.
        source: Of its inputs, all on one grid: `geovision.inference.ArraySource`, or any reader of parts.
        out: Folder and first part of the names of the results.
        size: (height, width) of a window, cells; None: as the model's first input says.
        overlap: Fraction of a window's side that its neighbour covers too, at least.
        min_valid: Minimum fraction of a window with a valid input; other windows are skipped.
        batch_size: Windows a forward pass.
        precision: As for `GeoModel.predict`.
        workers: Who asks the model, local processes or a Dask cluster; None: this process.
        progress: Is told what is under way (``"asking"``, ``"merging"``), how much is done and there is.

    Raises:
        OptionError: A model that is bound to one grid, or a window without a size.
        InputError: No window has enough data.
        StorageError: The results could not be written; what stood there is untouched.
    """
    windows = WindowGrid(source.grid.shape, _window_size(model, size), overlap)
    told = progress or (lambda what, done, whole: None)
    out, layers = Path(out).absolute(), output_names(model.target)
    with temporary_sibling_dir(out.parent) as scratch:
        job = WindowTask(
            source, windows, make_predict_fn(model, precision, workers, scratch), batch_size, min_valid
        )
        answers = sliding_window_predict(
            job,
            scratch,
            workers or executor.ExecutorConfig(),
            lambda done, whole: told("asking", done, whole),
        )
        if not answers.selected.any():
            raise InputError(
                f"no window of {windows.size[0]} x {windows.size[1]} cells has data in {min_valid:.0%} of "
                f"it, on a map of {source.grid.shape[0]} x {source.grid.shape[1]}"
            )
        maps = merge(
            answers,
            source,
            layers,
            _provenance(model, windows, min_valid),
            scratch,
            lambda done, whole: told("merging", done, whole),
        )
        files = {kind: out.with_name(f"{out.name}_{kind}.tif") for kind in ("answer", "count")}
        _atomic_io.write_files(
            out.parent,
            {
                files["answer"].name: lambda path: maps.probability.write_cog(path, overviews="average"),
                files["count"].name: lambda path: maps.count.write_cog(path, overviews="nearest"),
            },
        )
    return RasterSummary(files, layers, maps.grid, answers.selected.size, int((~answers.selected).sum()))


def _window_size(model: GeoModel, size: tuple[int, int] | None) -> tuple[int, int]:
    if "grid_bound" in model.spec.capabilities or model.config.grids:
        raise OptionError(f"{model.spec.name} answers on the grid that it was fitted for, and has no windows")
    own = model.inputs[0].size
    if size and own and size != own and "any_size" not in model.spec.capabilities:
        raise OptionError(
            f"{model.spec.name} takes windows of {own[0]} x {own[1]} cells alone; leave out size="
        )
    found = size or own
    if found is None:
        raise OptionError(f"{model.spec.name} takes fields of any size; say that of a window with size=")
    return found


def _provenance(model: GeoModel, windows: WindowGrid, min_valid: float) -> dict[str, Any]:
    """What made the result, so that it can be made again."""
    return {
        "model": model.spec.name,
        "weights": weights_digest(model),
        "version": __version__,
        "window": list(windows.size),
        "stride": [round(step, 2) for step in windows.stride],
        "min_valid": min_valid,
    }
