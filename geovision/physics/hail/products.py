"""Hail products and labels as xarray datasets, with units."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geovision.errors import InputError, MissingExtraError
from geovision.physics.hail import columns
from geovision.physics.hail.checks import check_heights, check_volume
from geovision.physics.hail.columns import Calibration
from geovision.physics.hail.labels import (
    HAIL,
    NO_HAIL,
    NOT_COVERED,
    ColumnFields,
    PoshRule,
    TwoStageRule,
    posh_label,
    track_cells,
)

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["check_same_grid", "hail_labels", "hail_products", "join_volumes"]

_ATTRIBUTES: dict[str, dict[str, str]] = {
    "maximum_reflectivity": {
        "long_name": "largest reflectivity of the column",
        "units": "dBZ",
        "comment": "-inf: no echo; NaN: not covered",
    },
    "height_of_maximum_reflectivity": {
        "long_name": "height of the largest reflectivity above mean sea level",
        "units": "m",
    },
    "severe_hail_index": {"long_name": "severe hail index", "units": "J m-1 s-1"},
    "probability_of_severe_hail": {"long_name": "probability of severe hail", "units": "%"},
    "maximum_expected_size_of_hail": {"long_name": "maximum expected size of hail", "units": "mm"},
    "vertically_integrated_liquid": {"long_name": "vertically integrated liquid", "units": "kg m-2"},
    "echo_top": {"long_name": "echo top above mean sea level", "units": "m"},
    "lowest_covered_level": {
        "long_name": "lowest level that the radar covers, above mean sea level",
        "units": "m",
    },
    "covered_share": {
        "long_name": "share of the depth above the freezing level that the radar covers",
        "units": "1",
    },
}


def hail_products(
    reflectivity: DataArray,
    *,
    freezing_level: DataArray | float,
    minus20_level: DataArray | float,
    radar_altitude: float | None = None,
    calibration: Calibration | str = Calibration.witt,
    cap_dbz: float | None = 56.0,
    echo_top_dbz: float = 18.0,
) -> Dataset:
    """Compute the hail products of one volume.

    The formulas are those of `geovision.physics.hail.columns`.

    Args:
        reflectivity: Reflectivity with the dimension ``level`` and two more, such as y and x, in dBZ;
            ``-inf`` without echo, NaN where not covered. The coordinate ``level`` is in m above mean sea
            level; spacing may be uneven.
        freezing_level: Height of 0 degrees Celsius, in m above mean sea level, a number or a field on the
            same grid. Dependent products are NaN where it is NaN.
        minus20_level: Height of -20 degrees Celsius, in m above mean sea level, likewise.
        radar_altitude: Altitude of the radar, in m above mean sea level, for the warning threshold. Default:
            the coordinate ``radar_altitude``, or 0 without it, as in a mosaic.
        calibration: Calibration of the hail size: ``witt``, ``mesh75`` or ``mesh95``. Default: ``witt``.
        cap_dbz: Upper limit of the reflectivity for the vertically integrated liquid, in dBZ. None: no limit.
            Default: 56.
        echo_top_dbz: Threshold of the echo top, in dBZ. Default: 18.

    Returns:
        Fields of shape (y, x), float32, with ``units`` and ``long_name``: ``maximum_reflectivity``,
        ``height_of_maximum_reflectivity``, ``severe_hail_index``, ``probability_of_severe_hail``,
        ``maximum_expected_size_of_hail``, ``vertically_integrated_liquid``, ``echo_top``,
        ``lowest_covered_level``, ``covered_share``. Without echo, heights are NaN and the others 0 (the
        maximum ``-inf``). NaN where nothing is covered.

    Raises:
        InputError: Levels do not ascend, values cannot be dBZ, or temperature levels are missing or swapped.
        MissingExtraError: xarray is not installed.
    """
    where = _name_of(reflectivity)
    volume, levels = _as_volume(reflectivity, where)
    check_heights(_values(freezing_level), _values(minus20_level), where)
    freezing, cold = (
        _broadcast_height(height, reflectivity, where) for height in (freezing_level, minus20_level)
    )
    index = columns.severe_hail_index(volume, levels, freezing_level=freezing, minus20_level=cold)
    threshold = columns.warning_threshold(freezing, radar_altitude=_altitude(reflectivity, radar_altitude))
    fields = {
        "maximum_reflectivity": columns.maximum_reflectivity(volume),
        "height_of_maximum_reflectivity": columns.height_of_maximum(volume, levels),
        "severe_hail_index": index,
        "probability_of_severe_hail": columns.probability_of_severe_hail(index, threshold),
        "maximum_expected_size_of_hail": columns.maximum_expected_size(index, Calibration(calibration)),
        "vertically_integrated_liquid": columns.vertically_integrated_liquid(volume, levels, cap_dbz=cap_dbz),
        "echo_top": columns.echo_top(volume, levels, threshold_dbz=echo_top_dbz),
        "lowest_covered_level": columns.lowest_covered(volume, levels),
        "covered_share": columns.covered_fraction(volume, levels, freezing_level=freezing),
    }
    products = _dataset(reflectivity, fields)
    products["maximum_expected_size_of_hail"].attrs["calibration"] = str(Calibration(calibration))
    products["vertically_integrated_liquid"].attrs["cap_dbz"] = "none" if cap_dbz is None else cap_dbz
    products["echo_top"].attrs["threshold_dbz"] = echo_top_dbz
    return products


def join_volumes(products: Sequence[Dataset]) -> Dataset:
    """Concatenate the products of several volumes along ``time``, in chronological order.

    Args:
        products: Products of `hail_products`, in any order.

    Raises:
        InputError: There are no volumes, a volume has no time, two have the same time, or grids or
            projections differ.
    """
    xarray = _xarray()
    if not products:
        raise InputError("no volumes; pass at least one")
    if any("time" not in each.coords for each in products):
        raise InputError("a volume has no time; assign the coordinate 'time' to each")
    ordered = sorted(products, key=lambda each: each["time"].values)
    first = ordered[0]
    for before, each in itertools.pairwise(ordered):
        when = str(each["time"].values)[:19]
        if before["time"].values == each["time"].values:
            raise InputError(f"two volumes have the time {when}; pass each once")
        check_same_grid(first, each, f"the volume of {when}")
    return xarray.concat(ordered, dim="time", coords="minimal", compat="override", join="override")


def hail_labels(products: Dataset, rule: TwoStageRule | PoshRule | None = None) -> Dataset:
    """Add hail labels to products.

    Args:
        products: Products of `join_volumes`, shape (time, y, x).
        rule: Rule of the labels. Default: the two-stage rule with the published thresholds.

    Returns:
        The products with ``hail``, int8: 1, 0, or -1 where not covered. The two-stage rule adds ``cell``, the
        number that a cell keeps from volume to volume, 0 outside, and ``armed``, 0 or 1.

    Raises:
        InputError: The times do not ascend.
        MissingExtraError: scipy is not installed.
    """
    rule = rule or TwoStageRule()
    posh = products["probability_of_severe_hail"]
    if isinstance(rule, PoshRule):
        labeled = products.assign(hail=(posh.dims, posh_label(posh.values, rule)))
    else:
        volumes = [
            ColumnFields(**{field: products[name].values[k] for field, name in _RULE_FIELDS.items()})
            for k in range(products.sizes["time"])
        ]
        history = track_cells(products["time"].values, volumes, rule)
        labeled = products.assign(
            hail=(posh.dims, history.label),
            cell=(posh.dims, history.cell),
            armed=(posh.dims, history.armed.astype(np.int8)),
        )
        labeled["cell"].attrs = {"long_name": "number of the storm cell, 0 outside"}
        labeled["armed"].attrs = {
            "long_name": "cell that met the criteria aloft",
            "flag_values": np.array([0, 1], np.int8),
            "flag_meanings": "not_armed armed",
        }
    labeled["hail"].attrs = {
        "long_name": f"hail by {rule!r}",
        "flag_values": np.array([NOT_COVERED, NO_HAIL, HAIL], np.int8),
        "flag_meanings": "not_covered no_hail hail",
    }
    for name in ("hail", "cell", "armed"):
        if name in labeled and "grid_mapping" in posh.attrs:
            labeled[name].attrs["grid_mapping"] = posh.attrs["grid_mapping"]
    return labeled


_RULE_FIELDS = {
    "maximum_reflectivity": "maximum_reflectivity",
    "height_of_maximum": "height_of_maximum_reflectivity",
    "probability_of_severe_hail": "probability_of_severe_hail",
    "vertically_integrated_liquid": "vertically_integrated_liquid",
    "lowest_covered": "lowest_covered_level",
}


# --- conversion from and to xarray --------------------------------------------------------------


def _xarray() -> Any:
    try:
        import xarray
    except ImportError as error:
        raise MissingExtraError("xarray", "geo") from error
    return xarray


def _name_of(reflectivity: DataArray) -> str:
    time = reflectivity.coords.get("time")
    when = "" if time is None or time.ndim else f" of {str(time.values)[:19]}"
    return f"{reflectivity.name or 'reflectivity'}{when}"


def _as_volume(reflectivity: DataArray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the checked volume, shape (level, y, x), and its heights."""
    if reflectivity.ndim != 3 or "level" not in reflectivity.coords:
        raise InputError(
            f"{where}: dimensions {', '.join(map(str, reflectivity.dims))}; expected level, y, x with a "
            "coordinate 'level', one volume at a time"
        )
    unit = str(reflectivity.attrs.get("units", "dBZ"))
    if unit.lower() != "dbz":
        raise InputError(f"{where}: units are {unit!r}; expected dBZ, which is 10 * log10 of Z in mm6 m-3")
    if (height := str(reflectivity["level"].attrs.get("units", "m"))) not in (
        "m",
        "metre",
        "meter",
        "meters",
    ):
        raise InputError(f"{where}: levels are in {height!r}; expected m")
    volume = reflectivity.transpose("level", ...).values
    levels = np.asarray(reflectivity["level"].values, np.float64)
    check_volume(volume, levels, where)
    return volume, levels


def _values(height: DataArray | float | None) -> np.ndarray | float | None:
    return height if height is None or isinstance(height, float | int) else height.values


def _broadcast_height(height: DataArray | float, reflectivity: DataArray, where: str) -> np.ndarray:
    """Return a temperature level as a number or a field of shape (y, x)."""
    field, grid = _xarray().DataArray(height), reflectivity.isel(level=0, drop=True)
    if set(field.dims) not in (set(), set(grid.dims)):
        raise InputError(
            f"{where}: a temperature level has the dimensions {', '.join(map(str, field.dims))}; expected a "
            f"number, or a field along {', '.join(map(str, grid.dims))}"
        )
    for dim in field.dims:
        indexed = dim in field.indexes and dim in grid.indexes
        same = (
            field.indexes[dim].equals(grid.indexes[dim]) if indexed else field.sizes[dim] == grid.sizes[dim]
        )
        if not same:
            raise InputError(
                f"{where}: a temperature level has other values of {dim!r} than the reflectivity; regrid it, "
                "for example with xarray's interp_like"
            )
    return np.asarray(field.transpose(*grid.dims).values if field.dims else field.values, np.float64)


def _altitude(reflectivity: DataArray, given: float | None) -> float:
    if given is not None:
        return given
    return float(reflectivity.coords.get("radar_altitude", 0.0))


def _dataset(reflectivity: DataArray, fields: dict[str, np.ndarray]) -> Dataset:
    """Return the fields as a dataset with the coordinates of the reflectivity."""
    horizontal = [dim for dim in reflectivity.dims if dim != "level"]
    coords = {name: each for name, each in reflectivity.coords.items() if "level" not in each.dims}
    mapping = {key: reflectivity.attrs[key] for key in ("grid_mapping",) if key in reflectivity.attrs}
    variables = {
        name: (horizontal, values.astype(np.float32), _ATTRIBUTES[name] | mapping)
        for name, values in fields.items()
    }
    return _xarray().Dataset(variables, coords=coords, attrs={"Conventions": "CF-1.11"})


def check_same_grid(first: Dataset, other: Dataset, where: str) -> None:
    """Check that the products of two volumes can be joined.

    Args:
        first: Products of the first volume.
        other: Products of the other volume.
        where: Name of the other volume in messages.

    Raises:
        InputError: Grids or projections differ.
    """
    if _projection(first) != _projection(other):
        raise InputError(
            f"{where} is in another projection than the first; volumes of several radars cannot be joined. "
            "Label each radar separately."
        )
    for name in first.indexes:
        if not (name in other.indexes and first.indexes[name].equals(other.indexes[name])):
            raise InputError(f"{where} has other values of {name!r} than the first; use one grid")


def _projection(products: Dataset) -> str:
    return str(products.coords["crs"].attrs.get("crs_wkt", "")) if "crs" in products.coords else ""
