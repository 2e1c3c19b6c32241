"""A model of fields over whole files: coarse NetCDF or Zarr in, fine NetCDF or Zarr out, piece by piece.

What is read, computed and written at a time is one piece of days, so that memory does not grow with the file.
Coordinates, calendar, attributes and members stay.
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
"""Bytes of the input and of the answer, together, of the pieces of days that are worked on at a time."""

_MAX_BATCH_CELLS = 2**18
"""Of the fields of a forward pass of a network: one global field of half a degree."""

_MAX_PARALLEL_CHUNKS = 4
"""Pieces at a time: more would be too small to be worth it."""


@dataclass(frozen=True)
class GridSummary:
    """What was done.

    Attributes:
        out: The file.
        fields: That were answered: days, times members of the file.
        variables: That were written.
        alignment: What fell out where several channels were brought together by date, and how much of the
            model's grid the first file covers; empty where there is nothing to say.
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
    """Answer for every day of a file, and write the answers as one file.

    Args:
        model: Of fields.
        files: By channel of the model, such as ``"precipitation"``, or by its usual name in files, such as
            ``"pr"``: a file, store, folder or pattern. A model that is bound to a grid has all brought to it,
            as means over areas where a file is finer, else bilinearly; elsewhere the others are brought to
            that of the first channel. What is the same on all days, such as ``"orog"``, needs no times.
        out: ``.nc`` or ``.zarr``; what stands there is replaced once the new file is whole.
        units: By channel, where a file does not say its units.
        select: By channel, values of further axes, such as a level.
        variables: By channel, its name in a file that has several that it may be.
        poles: By channel, (latitude, longitude) of the north pole of a rotated grid that does not say so.
        out_units: Of the answer; the target's own where empty.
        members: Above 0: so many answers along a new axis ``member``: draws of a head with a distribution, or
            answers with the model's dropout left on.
        seed: Of the members.
        batch_size: Fields a forward pass; None: for a network up to 32, fewer of large fields; more for
            statistics, which cost little.
        progress: Is told (fields done, in all) after each piece.

    Returns:
        What was written: the quantity itself, and for heads that tell more, quantiles or probabilities as
        variables of their own.

    Raises:
        OptionError: A model of something else; an answer in the place of a file that is read; members of a
            file that has members, or of a model that has none.
        InputError: A channel that is missing or not known, or a grid that the model does not take.
        UnreadableFileError: A file that is missing or no grid.
        StorageError: The answer could not be written; what stood there is untouched.
    """
    if not isinstance(model.target, FieldTarget):
        raise OptionError(f"{model.spec.name} answers with a {model.target.kind}, not with a field")
    was_training = model.training
    model.eval()
    try:
        sources = _open_sources(model, files, units or {}, select or {}, variables or {}, poles or {})
        _check_output_path(sources, Path(out))
        given, alignment = _stack_channels(model, sources)
        if members and "member" in given.dims:
            raise OptionError("the file has members already; members= would make members of members")
        asking = _GridPredictor(model, given, members, seed, batch_size, progress)
        with asking.reference_period(), _limit_parallel_chunks(asking.max_parallel_chunks()):
            written = asking.predict()
            write_grids(written, out, units=out_units, title=f"{model.target.name} by {model.spec.name}")
    finally:
        model.train(was_training)
    return GridSummary(Path(out), asking.num_fields, tuple(str(each.name) for each in written), alignment)


@contextlib.contextmanager
def _limit_parallel_chunks(count: int) -> Iterator[None]:
    """So many pieces at a time, each with its share of the threads that torch has."""
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


# --- what goes in ---------------------------------------------------------------------------------


def _open_sources(
    model: GeoModel,
    files: Mapping[str, str | Path],
    units: Mapping[str, str],
    select: Mapping[str, Mapping[str, float]],
    variables: Mapping[str, str],
    poles: Mapping[str, tuple[float, float]],
) -> dict[str, GridSource]:
    """By channel, in the model's order."""
    names = [channel.name for channel in model.inputs[0].channels]
    files, units, select, variables, poles = (
        _resolve_channel_names(each, names, model) for each in (files, units, select, variables, poles)
    )
    if missing := [name for name in names if name not in files]:
        raise InputError(f"{model.spec.name} needs {', '.join(missing)}; give each as NAME=FILE")
    return {
        name: GridSource(
            # A level is part of a channel's name, and not of the quantity's.
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
            raise OptionError(f"{out}: this file is read, and would be lost; name another for the answer")


def _stack_channels(model: GeoModel, sources: Mapping[str, GridSource]) -> tuple[xr.DataArray, str]:
    """All channels ``(time, [member,] channel, lat, lon)``, and what there is to say of how they fit."""
    import xarray as xr

    fields = {name: open_source("", source) for name, source in sources.items()}
    told = []
    if len(fields) > 1:
        aligned = align(fields)
        fields = dict(aligned.fields)
        told.append(str(aligned))
    first = next(iter(fields.values()))
    file = next(iter(sources.values())).file
    grid = _grid_dataset(model.config.grids.given) if model.config.grids else first
    if grid["lat"].ndim != 1:
        raise InputError(
            f"{file}: a rotated grid, and {model.spec.name} is bound to no other; "
            "regrid the file, or train the model with grids"
        )
    # In pieces like the others, so that a static one is repeated day by day and not all at once.
    parts = [field.chunk() if first.chunks and not field.chunks else field for field in fields.values()]
    moved = [regrid_auto(field, grid) for field in parts]
    if model.config.grids and (covered := _coverage(first, grid)) < 1:
        told.append(f"{file} covers {covered:.0%} of the grid of {model.spec.name}; beyond, nothing is known")
    stacked = xr.concat(xr.broadcast(*moved), dim="channel", coords="minimal", compat="override")
    leading = [axis for axis in ("time", "member") if axis in stacked.dims]
    return stacked.transpose(*leading, "channel", "lat", "lon").assign_attrs(first.attrs), "; ".join(told)


def _coverage(field: xr.DataArray, grid: Any) -> float:
    """The part of the cells of a grid that lie on another, whatever is missing there."""
    day = field.isel(dict.fromkeys(field.dims[:-2], 0), drop=True)
    return float(regrid_auto(day.copy(data=np.ones(day.shape, np.float32)), grid).notnull().mean())


def _resolve_channel_names(
    values_by_name: Mapping[str, Any], names: Sequence[str], model: GeoModel
) -> dict[str, Any]:
    """The same by the model's own names of its channels."""
    found = {}
    for key, value in values_by_name.items():
        name = next((v.name for v in VARIABLES.values() if key in v.names), key)
        if name not in names:
            raise InputError(f"{model.spec.name} takes no {key!r}; it takes {', '.join(names)}")
        found[name] = value
    return found


def _grid_dataset(grid: Grid) -> Any:
    import xarray as xr

    return xr.Dataset(coords={"lat": np.array(grid.lat), "lon": np.array(grid.lon)})


# --- what comes out -------------------------------------------------------------------------------


class _GridPredictor:
    """One model and one stack of fields."""

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
        """Fields a forward pass; maps of more cells than this fall out of the caches, at half the speed."""
        if self.model.spec.fit != "gradient":
            return 128
        cells = int(max(np.prod(self.fields.shape[-2:]), np.prod(self.grid.size)))
        return max(1, min(32, _MAX_BATCH_CELLS // cells))

    def predict(self) -> list[xr.DataArray]:
        """Every variable, lazily where the fields are many."""
        stacked = self._predict_stacked()
        return [
            self._with_attributes(stacked.isel(layer=n), name) for n, name in enumerate(self.output_names)
        ]

    def _predict_stacked(self) -> xr.DataArray:
        """``(layer, time, [member,] lat, lon)``."""
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
        """Pieces at a time. Statistics cost so little that reading and writing would keep a core waiting; a
        network has use for all cores, and one whose dropout is left on is in one state at a time."""
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
        """``(layer, time, [member,] y, x)`` of a piece ``(time, [member,] channel, y, x)``."""
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
        """By name, ``(field, [member,] y, x)``, NaN where nothing is known."""
        model = self.model
        name = model.inputs[0].name
        device = next((each.device for each in model.parameters()), torch.device("cpu"))
        fields = torch.from_numpy(np.ascontiguousarray(values)).to(device)
        fields = fields.reshape(-1, *fields.shape[-3:])
        there = torch.isfinite(fields)
        inputs, valid = {name: fields.nan_to_num(0.0)}, {name: there}
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
        """With the attributes of the file, and its own name and unit."""
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
        """Let a model whose answers depend on the whole period know that it is that of the file."""
        network = self.model.network
        if not isinstance(network, HasReferencePeriod) or "whole_period" not in self.model.spec.capabilities:
            yield
            return
        name = self.model.inputs[0].name

        def ask(days: Sequence[int]) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
            chosen = self.fields.isel(time=list(days)).values.astype(np.float32)
            fields = torch.from_numpy(chosen.reshape(-1, *chosen.shape[-3:]))
            for field in fields.split(1):
                there = {name: torch.isfinite(field)}
                yield self.model.normalize({name: field.nan_to_num(0.0)}, there), there

        with network.period(ask, self.fields.sizes["time"]):
            yield


def _to_numpy(values: Tensor, valid: Tensor | None, *, members: bool) -> NDArray[np.float32]:
    if valid is not None:
        values = values.where(valid.expand_as(values), torch.nan)
    plain = values.float().cpu().numpy()
    return plain if members else plain[:, 0]
