"""Prediction of fields for every time step of gridded files.

The files are NetCDF or Zarr. A few time steps are read, predicted and written at a time, so memory does not
grow with the file. Coordinates, calendar, attributes and ensemble members of the input are kept.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geovision.errors import InputError, OptionError
from geovision.heads.prediction import auxiliary_unit
from geovision.models.ensembles import predict_ensemble
from geovision.models.geomodel import GeoModel
from geovision.models.layers.regrid import refine_grid
from geovision.models.protocols import HasFactor, HasReferencePeriod
from geovision.readers.grids import (
    GridSource,
    align,
    expand_paths,
    open_source,
    regrid_auto,
    write_grids,
)
from geovision.readers.grids.variables import GLOBAL_ATTRIBUTES, VARIABLES
from geovision.spec import FieldTarget, Grid

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["GridSummary", "predict_grid"]

_CHUNK_BYTES = 16 * 2**20
"""Total size of the inputs and predictions of all chunks that are processed at the same time, in bytes."""

_MAX_BATCH_CELLS = 2**18
"""Maximum number of cells in a forward pass of a network: one global field of half a degree."""

_MAX_PARALLEL_CHUNKS = 4
"""Maximum number of chunks that are processed in parallel; more would make each chunk too small."""


@dataclass(frozen=True)
class GridSummary:
    """Result of `predict_grid`.

    Attributes:
        out: Path of the written file.
        fields: Number of predicted fields: time steps multiplied by the ensemble members of the input.
        variables: Names of the written variables.
        alignment: Time steps that were dropped when several channels were aligned by date, and the fraction
            of the model's grid that the first file covers. Empty if nothing was dropped and the grid is
            covered.
    """

    out: Path
    fields: int
    variables: tuple[str, ...]
    alignment: str = ""


def predict_grid(
    model: GeoModel,
    files: Mapping[str, str | Path],
    out: str | Path,
    *,
    units: Mapping[str, str] | None = None,
    select: Mapping[str, Mapping[str, float]] | None = None,
    variables: Mapping[str, str] | None = None,
    poles: Mapping[str, tuple[float, float]] | None = None,
    out_units: str = "",
    members: int = 0,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GridSummary:
    """Predict every time step of a file and write the result.

    The file contains the predicted quantity. Heads with more outputs, such as quantiles or probabilities, add
    one variable for each output.

    If the model is bound to a grid, all inputs are regridded to it: by area means if a file is finer,
    otherwise bilinearly. If not, all channels are regridded to the grid of the first channel.

    Args:
        model: Model of fields.
        files: File, store, folder or pattern of each channel. Keys are channel names of the model, such as
            ``"precipitation"``, or common names in files, such as ``"pr"``. A static channel, such as
            ``"orog"``, needs no time axis.
        out: Path of the result, ending in ``.nc`` or ``.zarr``. An existing file is replaced after the new
            one is complete.
        units: Units by channel, for files without units. Default: the units in the files.
        select: Coordinate values by dimension, such as a level, for each channel. Default: no selection.
        variables: Variable name in the file, by channel, for files with several candidates.
        poles: (latitude, longitude) of the rotated north pole in degrees, by channel, for rotated grids
            without this metadata.
        out_units: Units of the predictions. Default: the unit of the target.
        members: Number of ensemble members along a new dimension ``member``. They are samples of the head's
            distribution, or predictions with dropout enabled. Default: 0, one prediction without this
            dimension.
        seed: Random seed of the members. Default: 0.
        batch_size: Number of fields in a forward pass. Default: at most 32 for networks, fewer for large
            fields; 128 for closed-form models.
        progress: Function that is called after each chunk with the number of predicted fields and the number
            of all fields.

    Returns:
        Path of the file, number of fields and names of the variables.

    Raises:
        OptionError: If the model does not predict fields, or if `out` is one of the input files. Also if
            `members` is used and the file already has members, or the model cannot generate them.
        InputError: If a channel is missing or unknown, or if the model does not accept the grid.
        UnreadableFileError: If a file is missing or contains no grid.
        StorageError: If the result cannot be written; an existing file is kept unchanged.
    """
    if not isinstance(model.target, FieldTarget):
        raise OptionError(
            f"{model.spec.name} predicts a {model.target.kind}, not a field; use a model of fields"
        )
    was_training = model.training
    model.eval()
    try:
        sources = _open_sources(model, files, units or {}, select or {}, variables or {}, poles or {})
        _check_output_path(sources, Path(out))
        given, alignment = _stack_channels(model, sources)
        if members and "member" in given.dims:
            raise OptionError("the file already has ensemble members; leave out members=")
        predictor = _GridPredictor(model, given, members, seed, batch_size, progress)
        with predictor.reference_period(), _limit_parallel_chunks(predictor.max_parallel_chunks()):
            written = predictor.predict()
            write_grids(written, out, units=out_units, title=f"{model.target.name} by {model.spec.name}")
    finally:
        model.train(was_training)
    return GridSummary(Path(out), predictor.num_fields, tuple(str(each.name) for each in written), alignment)


@contextlib.contextmanager
def _limit_parallel_chunks(count: int) -> Iterator[None]:
    """Limit the number of parallel chunks and share torch's threads among them."""
    try:
        import dask
    except ImportError:
        yield
        return
    threads = torch.get_num_threads()
    how: Any = {"scheduler": "synchronous"} if count == 1 else {"scheduler": "threads", "num_workers": count}
    torch.set_num_threads(max(1, threads // count))
    try:
        with dask.config.set(how):
            yield
    finally:
        torch.set_num_threads(threads)


# --- inputs ---------------------------------------------------------------------------------------


def _open_sources(
    model: GeoModel,
    files: Mapping[str, str | Path],
    units: Mapping[str, str],
    select: Mapping[str, Mapping[str, float]],
    variables: Mapping[str, str],
    poles: Mapping[str, tuple[float, float]],
) -> dict[str, GridSource]:
    """Return the source of each channel, in the model's order."""
    names = [channel.name for channel in model.inputs[0].channels]
    files, units, select, variables, poles = (
        _resolve_channel_names(each, names, model) for each in (files, units, select, variables, poles)
    )
    if missing := [name for name in names if name not in files]:
        raise InputError(f"{model.spec.name} needs {', '.join(missing)}; give each as NAME=FILE")
    return {
        name: GridSource(
            # The name of a channel may end in a level; the name of its quantity does not.
            name,
            str(files[name]),
            name if name in VARIABLES else name.rpartition("_")[0],
            units=units.get(name, ""),
            select=select.get(name, {}),
            variable=variables.get(name, ""),
            pole=poles.get(name),
        )
        for name in names
    }


def _check_output_path(sources: Mapping[str, GridSource], out: Path) -> None:
    for source in sources.values():
        if out.resolve() in (each.resolve() for each in expand_paths(source.file)):
            raise OptionError(f"{out}: is an input file and would be overwritten; choose another output path")


def _stack_channels(model: GeoModel, sources: Mapping[str, GridSource]) -> tuple[xr.DataArray, str]:
    """Return all channels in one array, and a note on their alignment.

    The dimensions are (time, [member,] channel, lat, lon).
    """
    import xarray as xr

    fields = {name: open_source("", source) for name, source in sources.items()}
    notes = []
    if len(fields) > 1:
        aligned = align(fields)
        fields = dict(aligned.fields)
        notes.append(str(aligned))
    first = next(iter(fields.values()))
    file = next(iter(sources.values())).file
    grid = _grid_dataset(model.config.grids.given) if model.config.grids else first
    if grid["lat"].ndim != 1:
        raise InputError(
            f"{file}: has a rotated grid, but {model.spec.name} has no grid to regrid it to; "
            "regrid the file, or train the model with grids"
        )
    # A static channel in chunks is repeated chunk by chunk and not for all time steps at once.
    parts = [field.chunk() if first.chunks and not field.chunks else field for field in fields.values()]
    moved = [regrid_auto(field, grid) for field in parts]
    if model.config.grids and (covered := _coverage(first, grid)) < 1:
        notes.append(
            f"{file} covers {covered:.0%} of the grid of {model.spec.name}; inputs of other cells are missing"
        )
    stacked = xr.concat(xr.broadcast(*moved), dim="channel", coords="minimal", compat="override")
    leading = [axis for axis in ("time", "member") if axis in stacked.dims]
    return stacked.transpose(*leading, "channel", "lat", "lon").assign_attrs(first.attrs), "; ".join(notes)


def _coverage(field: xr.DataArray, grid: Any) -> float:
    """Return the fraction of the cells of `grid` that `field` covers.

    Missing values of the field count as covered.
    """
    day = field.isel(dict.fromkeys(field.dims[:-2], 0), drop=True)
    return float(regrid_auto(day.copy(data=np.ones(day.shape, np.float32)), grid).notnull().mean())


def _resolve_channel_names(
    values_by_name: Mapping[str, Any], names: Sequence[str], model: GeoModel
) -> dict[str, Any]:
    """Return the same values with the model's channel names as keys."""
    found = {}
    for key, value in values_by_name.items():
        name = next((v.name for v in VARIABLES.values() if key in v.names), key)
        if name not in names:
            raise InputError(f"{model.spec.name} has no channel {key!r}; its channels are {', '.join(names)}")
        found[name] = value
    return found


def _grid_dataset(grid: Grid) -> Any:
    import xarray as xr

    return xr.Dataset(coords={"lat": np.array(grid.lat), "lon": np.array(grid.lon)})


# --- predictions ----------------------------------------------------------------------------------


class _GridPredictor:
    """Predictions of one model for one stack of fields."""

    def __init__(
        self,
        model: GeoModel,
        fields: xr.DataArray,
        members: int,
        seed: int,
        batch_size: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.model, self.members, self.seed = model, members, seed
        self.progress = progress
        self.fields = fields
        self._progress_lock = threading.Lock()
        self.num_fields = int(np.prod(fields.shape[:-3]))
        self.num_done = 0
        own = Grid(tuple(fields["lat"].values.tolist()), tuple(fields["lon"].values.tolist()))
        grids = model.config.grids
        factor = model.network.factor if isinstance(model.network, HasFactor) else 1
        self.grid = grids.target if grids else refine_grid(own, factor)
        self.batch_size = batch_size or self._default_batch_size()
        self.output_names = self._predict_batch(np.asarray(fields[:1].values, np.float32), 0).keys()
        self.num_done = 0

    def _default_batch_size(self) -> int:
        """Return the number of fields in a forward pass.

        Larger batches of a network do not fit into the processor caches and run at half the speed.
        """
        if self.model.spec.fit != "gradient":
            return 128
        cells = int(max(np.prod(self.fields.shape[-2:]), np.prod(self.grid.size)))
        return max(1, min(32, _MAX_BATCH_CELLS // cells))

    def predict(self) -> list[xr.DataArray]:
        """Return every output variable, as lazy arrays if there are many fields."""
        stacked = self._predict_stacked()
        return [
            self._with_attributes(stacked.isel(layer=n), name) for n, name in enumerate(self.output_names)
        ]

    def _predict_stacked(self) -> xr.DataArray:
        """Return all outputs as one array (layer, time, [member,] lat, lon)."""
        import xarray as xr

        leading = [str(axis) for axis in self.fields.dims[:-3]]
        if self.members:
            leading.append("member")
        coords = {axis: self.fields[axis] for axis in leading if axis in self.fields.coords}
        if self.members:
            coords["member"] = xr.DataArray(np.arange(self.members), dims="member")
        grid = _grid_dataset(self.grid)
        data = self._predict_lazily() if self._needs_chunking() else self._predict_chunk(self.fields.values)
        return xr.DataArray(
            data,
            dims=("layer", *leading, "lat", "lon"),
            coords={**coords, "lat": grid["lat"], "lon": grid["lon"]},
        )

    def max_parallel_chunks(self) -> int:
        """Return the number of chunks that may be processed in parallel.

        Closed-form models are so fast that they would wait for reading and writing. A network uses all cores
        by itself, and ensemble members need one consistent dropout state.
        """
        if self.model.spec.fit == "gradient" or self.members:
            return 1
        return min(torch.get_num_threads(), _MAX_PARALLEL_CHUNKS)

    def _bytes_per_time_step(self) -> int:
        out = int(np.prod(self.grid.size)) * len(self.output_names) * max(self.members, 1)
        per_member = int(np.prod(self.fields.shape[-3:])) + out
        return 4 * per_member * (self.fields.sizes.get("member", 1))

    def _needs_chunking(self) -> bool:
        return self.fields.sizes["time"] * self._bytes_per_time_step() > _CHUNK_BYTES

    def _predict_lazily(self) -> Any:
        try:
            import dask
            import dask.array as da
        except ImportError:
            return self._predict_chunk(self.fields.values)
        days = max(1, _CHUNK_BYTES // (self._bytes_per_time_step() * self.max_parallel_chunks()))
        source = self.fields.chunk(dict.fromkeys(self.fields.dims, -1) | {"time": days}).data
        inner = (*self.fields.shape[1:-3], *([self.members] if self.members else []), *self.grid.size)
        pieces, begin = [], 0
        for number, length in enumerate(source.chunks[0]):
            piece = dask.delayed(self._predict_chunk)(source.blocks[number], begin)
            pieces.append(da.from_delayed(piece, (len(self.output_names), length, *inner), np.float32))
            begin += length * int(np.prod(self.fields.shape[1:-3]))
        return da.concatenate(pieces, axis=1)

    def _predict_chunk(self, values: NDArray[np.floating], begin: int = 0) -> NDArray[np.float32]:
        """Predict a chunk (time, [member,] channel, y, x).

        The result has the dimensions (layer, time, [member,] y, x).
        """
        lead, flat = values.shape[:-3], values.reshape(-1, *values.shape[-3:])
        parts = [
            self._predict_batch(np.asarray(flat[n : n + self.batch_size], np.float32), begin + n)
            for n in range(0, len(flat), self.batch_size)
        ]
        joined = np.stack([np.concatenate([part[name] for part in parts]) for name in self.output_names])
        if self.progress:
            self.progress(self.num_done, self.num_fields)
        return joined.reshape(len(self.output_names), *lead, *joined.shape[2:])

    @torch.no_grad()
    def _predict_batch(self, values: NDArray[np.float32], begin: int) -> dict[str, NDArray[np.float32]]:
        """Return the outputs (field, [member,] y, x) by name.

        Cells without a prediction are NaN.
        """
        model = self.model
        name = model.inputs[0].name
        device = next((each.device for each in model.parameters()), torch.device("cpu"))
        fields = torch.from_numpy(np.ascontiguousarray(values)).to(device)
        fields = fields.reshape(-1, *fields.shape[-3:])
        inputs, valid = {name: fields.nan_to_num(0.0)}, {name: torch.isfinite(fields)}
        output = model(inputs, valid=valid)
        head: Any = model.head
        if self.members:
            drawn = predict_ensemble(
                model, inputs, valid, output.values, count=self.members, seed=self.seed, begin=begin
            )
            assert drawn is not None
            found = {model.target.name: drawn.fields}  # type: ignore[union-attr]
        else:
            found = {model.target.name: head.estimate(output.values)}  # type: ignore[union-attr]
            found |= head.auxiliary_fields(output.values)
        with self._progress_lock:
            self.num_done += len(fields)
        return {key: _to_numpy(each, output.valid, members=bool(self.members)) for key, each in found.items()}

    def _with_attributes(self, field: xr.DataArray, name: str) -> xr.DataArray:
        """Return a field with its name, unit and the input's attributes."""
        target = self.model.target
        assert isinstance(target, FieldTarget)
        keep = (*GLOBAL_ATTRIBUTES, "cell_methods")
        attributes = {key: value for key, value in self.fields.attrs.items() if key in keep}
        attributes |= {"units": auxiliary_unit(name, target.channel.unit)}
        if name != target.name:
            attributes["long_name"] = f"{name.replace('_', ' ')} of {target.name}"
        return field.rename(name).assign_attrs(attributes)

    @contextlib.contextmanager
    def reference_period(self) -> Iterator[None]:
        """Fit a period-dependent model to the period of the file."""
        network = self.model.network
        if not isinstance(network, HasReferencePeriod) or "whole_period" not in self.model.spec.capabilities:
            yield
            return
        name = self.model.inputs[0].name

        def normalized_fields(days: Sequence[int]) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
            chosen = self.fields.isel(time=list(days)).values.astype(np.float32)
            fields = torch.from_numpy(chosen.reshape(-1, *chosen.shape[-3:]))
            for field in fields.split(1):
                valid = {name: torch.isfinite(field)}
                yield self.model.normalize({name: field.nan_to_num(0.0)}, valid), valid

        with network.period(normalized_fields, self.fields.sizes["time"]):
            yield


def _to_numpy(values: Tensor, valid: Tensor | None, *, members: bool) -> NDArray[np.float32]:
    if valid is not None:
        values = values.where(valid.expand_as(values), torch.nan)
    plain = values.float().cpu().numpy()
    return plain if members else plain[:, 0]
