"""Reading and writing of grids: units, axes, calendars, masks and error messages."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import settings

from geovision.datasets.iberia import SOURCES
from geovision.errors import DatasetError, InputError, OptionError, StorageError, UnreadableFileError
from geovision.readers.grids import (
    GridSource,
    align,
    check_finer,
    open_grid,
    open_paired,
    open_source,
    reader,
    regrid,
    split_groups,
    write_grid,
)
from geovision.readers.grids.units import unit_conversion

_few = settings(max_examples=15, deadline=None)


def rain(steps: int = 40, lat=(40.0, 41.0, 42.0), lon=(0.0, 1.0, 2.0, 3.0), seed: int = 0) -> xr.DataArray:
    """Daily rain as stored in a file, in mm/day; half of the values are dry."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.5, 8.0, (steps, len(lat), len(lon))) * (
        rng.random((steps, len(lat), len(lon))) < 0.5
    )
    times = np.datetime64("2001-01-01", "ns") + np.arange(steps) * np.timedelta64(1, "D")
    return xr.DataArray(
        values.astype(np.float32),
        dims=("time", "lat", "lon"),
        name="pr",
        attrs={"units": "mm/day"},
        coords={"time": times, "lat": list(lat), "lon": list(lon)},
    )


def written(field: xr.DataArray, path: Path, **changed) -> Path:
    field.to_netcdf(path, engine="h5netcdf", **changed)
    return path


def without_leap_days(start: str, steps: int) -> xr.CFTimeIndex:
    return xr.date_range(start, periods=steps, calendar="noleap", use_cftime=True)


# --- units --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "to", "factor", "offset"),
    [
        ("kg m-2 s-1", "mm day-1", 86400, 0),
        ("[kg m-2 s-1]", "mm day-1", 86400, 0),
        ("kg m**-2 s**-1", "mm day-1", 86400, 0),
        ("kg/m2/s", "mm day-1", 86400, 0),
        ("mm/day", "mm day-1", 1, 0),
        ("mm h-1", "mm day-1", 24, 0),
        ("mm/hr", "mm day-1", 24, 0),
        ("m s-1", "mm day-1", 86_400_000, 0),
        ("inches/day", "mm day-1", 25.4, 0),
        ("degC", "K", 1, 273.15),
        ("Celsius", "K", 1, 273.15),
        ("degrees_celsius", "K", 1, 273.15),
        ("K", "K", 1, 0),
        ("hPa", "Pa", 100, 0),
        ("mb", "Pa", 100, 0),
        ("millibar", "Pa", 100, 0),
        ("kg kg**-1", "1", 1, 0),
        ("g/kg", "1", 1e-3, 0),
        ("%", "1", 0.01, 0),
    ],
)
def test_units_of_files(unit: str, to: str, factor: float, offset: float) -> None:
    assert unit_conversion(unit, to) == pytest.approx((factor, offset))


def test_an_amount_is_accumulated_over_one_time_step() -> None:
    assert unit_conversion("mm", "mm day-1", step_days=1.0) == (1.0, 0.0)
    assert unit_conversion("m", "mm day-1", step_days=1 / 24) == pytest.approx((24_000, 0))
    assert unit_conversion("kg m-2", "mm day-1", step_days=1.0) == (1.0, 0.0)
    with pytest.raises(InputError, match="'mm' is an amount"):
        unit_conversion("mm", "mm day-1")


@pytest.mark.parametrize(
    ("unit", "message"), [("xyzzy", "is unknown"), ("K", "cannot be converted"), ("", "cannot be")]
)
def test_a_unit_of_another_quantity_is_refused(unit: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        unit_conversion(unit, "mm day-1")


def test_the_unit_of_the_file_is_used(tmp_path: Path) -> None:
    field = rain()
    flux = (field.astype(float) / 86400).assign_attrs(units="[kg m-2 s-1]")
    found = open_grid(written(flux, tmp_path / "flux.nc"), "precipitation")
    np.testing.assert_allclose(found, field, rtol=1e-6)
    assert found.attrs["units"] == "mm day-1"
    assert found.dtype == np.float32


def test_a_file_without_units_needs_them_declared(tmp_path: Path) -> None:
    field = rain()
    del field.attrs["units"]
    path = written(field, tmp_path / "bare.nc")
    with pytest.raises(
        InputError, match=r"bare\.nc: 'pr' has no units; declare them with units=, .* for instance 'mm day-1'"
    ):
        open_grid(path, "precipitation")
    np.testing.assert_array_equal(open_grid(path, "precipitation", units="mm/day"), field)


def test_a_declared_unit_does_not_overrule_the_file(tmp_path: Path) -> None:
    path = written(rain(), tmp_path / "a.nc")
    open_grid(path, "precipitation", units="mm d-1")
    with pytest.raises(InputError, match="has units 'mm/day' but was declared 'kg m-2 s-1'"):
        open_grid(path, "precipitation", units="kg m-2 s-1")


def test_a_flux_read_as_millimeters_is_detected_by_its_quantile(tmp_path: Path) -> None:
    """Every single value is inside the valid range."""
    path = written((rain() / 86400).assign_attrs(units="mm/day"), tmp_path / "slip.nc")
    with pytest.raises(InputError, match=r"99.9% quantile .* would be plausible in 'kg m-2 s-1'"):
        open_grid(path, "precipitation")


def test_other_units_are_detected_by_their_values(tmp_path: Path) -> None:
    celsius = (rain() * 0 + 12).assign_attrs(units="K").rename("tas")
    celsius[0] += 5
    with pytest.raises(InputError, match=r"from 12 to 17 K, expected 150 to 350 .*plausible in 'degC'"):
        open_grid(written(celsius, tmp_path / "t.nc"), "air_temperature")


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "unit", "taken"),
    [
        (-1e-10, "kg m-2 s-1", True),
        (-1e-7, "kg m-2 s-1", False),
        (-5e-7, "mm/day", True),
        (-1e-5, "mm/day", False),
    ],
)
def test_negative_rain_is_rounding_or_an_error(tmp_path: Path, low: float, unit: str, taken: bool) -> None:
    field = (rain() / (86400 if "kg" in unit else 1)).assign_attrs(units=unit)
    field[3, 1, 1] = low
    path = written(field, tmp_path / "n.nc")
    if taken:
        found = open_grid(path, "precipitation")
        assert float(found.min()) == 0
        assert float(found[3, 1, 1]) == 0
    else:
        with pytest.raises(InputError, match="negative precipitation"):
            open_grid(path, "precipitation")


def test_a_code_of_missing_cells_is_named(tmp_path: Path) -> None:
    field = rain()
    field[:, 0, 0] = -9999.0
    with pytest.raises(InputError, match=r"-9999 may be a code of missing cells; declare it as _FillValue"):
        open_grid(written(field, tmp_path / "m.nc"), "precipitation")
    coded = written(field, tmp_path / "c.nc", encoding={"pr": {"_FillValue": -9999.0}})
    assert bool(open_grid(coded, "precipitation")[:, 0, 0].isnull().all())


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_field_that_never_changes_is_refused(tmp_path: Path, value: float) -> None:
    path = written((rain() * 0 + value).assign_attrs(units="mm/day"), tmp_path / "c.nc")
    with pytest.raises(InputError, match="in every cell of all 40 steps"):
        open_grid(path, "precipitation")


def test_a_dry_week_is_no_error(tmp_path: Path) -> None:
    dry = (rain(7) * 0).assign_attrs(units="mm/day")
    assert float(open_grid(written(dry, tmp_path / "dry.nc"), "precipitation").max()) == 0


def test_a_field_that_is_missing_everywhere_is_refused(tmp_path: Path) -> None:
    path = written((rain() * np.nan).assign_attrs(units="mm/day"), tmp_path / "nan.nc")
    with pytest.raises(InputError, match="missing everywhere"):
        open_grid(path, "precipitation")


def test_infinite_values_are_refused(tmp_path: Path) -> None:
    field = rain()
    field[2, 0, 0] = np.inf
    with pytest.raises(InputError, match="infinite"):
        open_grid(written(field, tmp_path / "i.nc"), "precipitation")


# --- axes and times -----------------------------------------------------------------------------


def test_either_order_of_latitude_gives_the_same_field(tmp_path: Path) -> None:
    field = rain()
    turned = open_grid(written(field[:, ::-1], tmp_path / "n.nc"), "precipitation")
    straight = open_grid(written(field, tmp_path / "s.nc"), "precipitation")
    xr.testing.assert_equal(turned, straight)


@pytest.mark.parametrize(
    "turned",
    [
        lambda lon: lon % 360,
        lambda lon: np.roll(lon, 3),
        lambda lon: np.roll(lon % 360, -2),
        lambda lon: lon[::-1],
    ],
)
def test_a_region_over_greenwich_is_one_piece(turned, tmp_path: Path) -> None:
    field = rain().assign_coords(lon=np.arange(-2.25, rain().sizes["lon"] - 2.5))
    names = dict(zip(field["lon"].values % 360, field["lon"].values, strict=True))
    own = np.array([names[each % 360] for each in turned(field["lon"].values)])
    moved = field.sel(lon=own).assign_coords(lon=turned(field["lon"].values))
    for part in (moved, moved.sortby("lon")):
        found = open_grid(written(part, tmp_path / "turned.nc"), "precipitation")
        np.testing.assert_allclose(np.mod(found["lon"] - field["lon"].values, 360), 0)
        assert (np.diff(found["lon"]) == 1).all()
        np.testing.assert_allclose(found, open_grid(written(field, tmp_path / "plain.nc"), "precipitation"))


def test_a_global_field_begins_at_its_file_start_or_the_prime_meridian(tmp_path: Path) -> None:
    globe = rain().interp(lon=np.arange(12.0)).assign_coords(lon=np.arange(12) * 30.0).fillna(0)
    eastward = globe.assign_coords(lon=globe["lon"].values - 180)
    for field, begin in ((globe, 0), (eastward, -180), (eastward.roll(lon=5, roll_coords=True), 0)):
        found = open_grid(written(field, tmp_path / "globe.nc"), "precipitation")
        assert found["lon"].values[0] == begin
        assert (np.diff(found["lon"]) == 30).all()
        np.testing.assert_allclose(found.sel(lon=30), field.sel(lon=30), rtol=1e-6)


def test_other_names_and_further_axes(tmp_path: Path) -> None:
    field = rain().rename(lat="latitude", lon="longitude").rename("whatever")
    field.attrs["standard_name"] = "lwe_precipitation_rate"
    field = field.expand_dims(height=[2.0], axis=1).expand_dims(number=[0, 1], axis=3)
    found = open_grid(written(field, tmp_path / "o.nc"), "precipitation")
    assert found.dims == ("time", "member", "lat", "lon")
    assert found.shape == (40, 2, 3, 4)


def test_levels_are_chosen(tmp_path: Path) -> None:
    base = (rain() * 0 + 280).rename("ta").assign_attrs(units="K")
    base[0] += 1
    levels = xr.concat([base, base - 30], dim="plev").assign_coords(plev=[85000.0, 50000.0])
    path = written(levels.transpose("time", "plev", "lat", "lon"), tmp_path / "ta.nc")
    with pytest.raises(InputError, match=r"plev.*Select one value of any other axis with select="):
        open_grid(path, "air_temperature")
    assert float(open_grid(path, "air_temperature", select={"plev": 50000}).min()) == 250


def test_several_files_are_joined_in_time(tmp_path: Path) -> None:
    field = rain(40)
    written(field[20:], tmp_path / "a_later.nc")
    written(field[:20], tmp_path / "b_earlier.nc")
    xr.testing.assert_equal(
        open_grid(tmp_path, "precipitation"),
        open_grid(written(field, tmp_path.parent / "all.nc"), "precipitation"),
    )
    written(field[15:25], tmp_path / "c_both.nc")
    with pytest.raises(InputError, match="10 duplicated times, first 2001-01-16"):
        open_grid(tmp_path, "precipitation")


def test_times_out_of_order_are_refused(tmp_path: Path) -> None:
    field = rain().isel(time=[0, 1, 5, 3, 4])
    with pytest.raises(InputError, match="out of order, 2001-01-04 00:00:00 after 2001-01-06"):
        open_grid(written(field, tmp_path / "t.nc"), "precipitation")


def test_a_time_without_units_is_refused(tmp_path: Path) -> None:
    field = rain().assign_coords(time=np.arange(40))
    with pytest.raises(InputError, match="no CF units, so no dates; add units such as 'days since"):
        open_grid(written(field, tmp_path / "t.nc"), "precipitation")


def test_a_large_field_is_read_in_chunks_along_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_grid(written(rain(200), tmp_path / "a.nc"), "precipitation")
    assert whole.chunks is None
    monkeypatch.setattr(reader, "_CHUNK_THRESHOLD", 2000)
    pieces = open_grid(tmp_path / "a.nc", "precipitation")
    assert pieces.chunks is not None
    assert len(pieces.chunks[0]) > 5
    xr.testing.assert_equal(pieces, whole)
    onto = regrid(pieces, xr.Dataset(coords={"lat": [40.5, 41.5], "lon": [0.5, 1.5]}))
    assert onto.chunks is not None
    corners = [whole.values[:, y : y + 2, x : x + 2] for y in (0, 1) for x in (0, 1)]
    np.testing.assert_allclose(onto, sum(corners) / 4, rtol=1e-5)


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"none\.nc: no NetCDF file or Zarr store; check the path"):
        open_grid(tmp_path / "none.nc", "precipitation")
    (tmp_path / "text.nc").write_text("not a grid")
    with pytest.raises(UnreadableFileError, match="not NetCDF or Zarr"):
        open_grid(tmp_path / "text.nc", "precipitation")
    whole = written(rain(), tmp_path / "a.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFileError, match=r"cut\.nc: not readable"):
        open_grid(tmp_path / "cut.nc", "precipitation")
    with pytest.raises(InputError, match=r"it has pr; none is identified as air_temperature. .*name="):
        open_grid(tmp_path / "a.nc", "air_temperature")
    with pytest.raises(OptionError, match="Did you mean 'precipitation'"):
        open_grid(tmp_path / "a.nc", "precipitatoin")


# --- pairs --------------------------------------------------------------------------------------


def test_fields_are_aligned_by_date_for_any_hour_and_calendar() -> None:
    field = rain(400)
    leap = field.assign_coords(
        time=np.datetime64("2000-01-01T12", "ns") + np.arange(400) * np.timedelta64(1, "D")
    )
    noleap = rain(380).assign_coords(time=without_leap_days("2000-01-01", 380))
    aligned = align({"model": noleap, "observed": leap})
    assert aligned.dropped["observed"][0] == "2000-02-29"
    assert len(aligned.dropped["observed"]) == 20
    assert aligned.dropped["model"] == ()
    assert str(aligned).startswith("380 dates in common; observed lost 20 (2000-02-29, ")
    model, observed = aligned.fields.values()
    assert (model.time == observed.time).all()
    np.testing.assert_array_equal(observed[58:61], field[[58, 60, 61]])


def test_a_day_without_values_is_dropped_and_a_day_without_one_cell_is_kept() -> None:
    a, b = rain(10), rain(10, seed=1)
    a[3] = np.nan
    a[5, 0, 0] = np.nan
    aligned = align({"a": a, "b": b})
    assert aligned.dropped == {"a": ("2001-01-04",), "b": ("2001-01-04",)}
    assert aligned.fields["a"].sizes["time"] == 9


def test_a_winter_is_one_group_across_new_year() -> None:
    field = rain(400)
    assert split_groups(field)[364:366] == ["2001", "2002"]
    winters = split_groups(field, "winter")
    assert winters[0] == winters[180] == "winter 2001"
    assert winters[181] == winters[399] == "winter 2002"


def test_fields_without_a_common_date_are_refused() -> None:
    later = rain().assign_coords(time=rain().time + np.timedelta64(400, "D"))
    with pytest.raises(InputError, match="no date in common: a 2001-01-01 to 2001-02-09; b 2002"):
        align({"a": rain(), "b": later})


def test_a_coarse_grid_finer_than_the_fine_grid_is_refused() -> None:
    fine = rain(lat=(40.0, 40.5, 41.0))
    check_finer(rain(), fine)
    with pytest.raises(InputError, match=r"coarse grid has cells of 0\.5 degrees .* the fine one of 1"):
        check_finer(fine, rain())


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nc", "a.zarr"])
@pytest.mark.parametrize("units", ["", "kg m-2 s-1"])
def test_written_fields_are_read_unchanged(tmp_path: Path, name: str, units: str) -> None:
    field = rain().expand_dims(realization=[3, 7], axis=1).copy(deep=True)
    field = field.assign_attrs(institution="somewhere")
    field[:, :, 0, 0] = np.nan
    found = open_grid(written(field, tmp_path / "in.nc"), "precipitation")
    path = write_grid(found, tmp_path / name, units=units, title="rain", north_first=True)
    again = open_grid(path, "precipitation")
    np.testing.assert_allclose(again, found, rtol=2e-7)
    assert again["member"].values.tolist() == [3, 7]
    assert again.attrs["institution"] == "somewhere"
    raw = xr.open_dataset(path, engine="zarr" if name == "a.zarr" else "h5netcdf")
    assert raw.attrs == {"Conventions": "CF-1.11", "title": "rain", "institution": "somewhere"}
    assert raw.precipitation.attrs["units"] == (units or "mm day-1")
    assert raw.precipitation.attrs["standard_name"] == (
        "precipitation_flux" if units else "lwe_precipitation_rate"
    )
    assert raw.lat.values[0] > raw.lat.values[-1]
    assert raw.lat.attrs["units"] == "degrees_north"
    raw.close()


@pytest.mark.parametrize("name", ["a.nc", "a.zarr"])
def test_chunks_of_any_size_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    field = rain(70)
    for number, part in enumerate((field[:30], field[30:45], field[45:])):
        written(part, tmp_path / f"{number}.nc")
    monkeypatch.setattr(reader, "_CHUNK_THRESHOLD", 2000)
    found = open_grid(tmp_path, "precipitation")
    assert len(set(found.chunks[0])) > 1
    np.testing.assert_allclose(open_grid(write_grid(found, tmp_path / "out" / name), "precipitation"), field)


def test_another_calendar_is_written_and_read(tmp_path: Path) -> None:
    days = without_leap_days("2000-02-28", 40)
    found = open_grid(written(rain().assign_coords(time=days), tmp_path / "in.nc"), "precipitation")
    again = open_grid(write_grid(found, tmp_path / "out.nc"), "precipitation")
    assert again.indexes["time"].equals(days)


def test_an_unwritable_path_keeps_the_existing_file(tmp_path: Path) -> None:
    found = open_grid(written(rain(), tmp_path / "in.nc"), "precipitation")
    (tmp_path / "file").write_text("a file where a folder should be")
    for name in ("out.nc", "out.zarr"):
        with pytest.raises(StorageError, match="could not be written"):
            write_grid(found, tmp_path / "file" / name)
    with pytest.raises(OptionError, match=r"written as \.nc or \.zarr"):
        write_grid(found, tmp_path / "out.csv")


# --- real files ---------------------------------------------------------------------------------


def test_a_free_running_source_is_not_paired_by_day(tmp_path: Path) -> None:
    written(rain(), tmp_path / "a.nc")
    written(rain(seed=1)[3:], tmp_path / "b.nc")
    seen = GridSource("seen", "a.nc", "precipitation")
    reanalysis = GridSource("reanalysis", "b.nc", "precipitation")
    paired = open_paired(tmp_path, [reanalysis], seen)
    assert str(paired).startswith("37 dates in common; seen lost 3 (2001-01-01, ")
    assert list(paired.fields) == ["reanalysis", "seen"]
    free = dataclasses.replace(reanalysis, name="gcm", synchronous=False)
    with pytest.raises(DatasetError, match=r"gcm: a free-running model, .* QuantileDeltaMapping"):
        open_paired(tmp_path, [free], seen)
    with pytest.raises(UnreadableFileError, match=r"c\.nc: no NetCDF"):
        open_paired(tmp_path, [dataclasses.replace(reanalysis, file="c.nc")], seen)


@pytest.mark.real_data
def test_real_files_correlate_by_day_or_not(shared_data: Path) -> None:
    """NCEP correlates with the observed days and a free-running climate model does not."""
    folder = shared_data / "iberia"
    observed = open_source(folder, SOURCES["eobs.pr"])
    assert float(observed.isnull().mean()) == pytest.approx(0.4057, abs=1e-4)
    found = {
        origin: open_source(folder, SOURCES[f"{origin.lower()}.pr"]) for origin in ("NCEP", "CMIP5", "CORDEX")
    }
    daily, maps = {}, {}
    for name, field in found.items():
        assert float(field.min()) == 0
        pair = align({name: field, "observed": observed})
        assert str(pair) == "1444 dates in common; no dates dropped"
        onto = regrid(pair.fields[name], observed).where(observed.notnull())
        daily[name] = float(xr.corr(onto.mean(["lat", "lon"]), observed.mean(["lat", "lon"])))
        maps[name] = float(xr.corr(onto.mean("time"), observed.mean("time")))
    assert daily["NCEP"] > 0.85
    assert max(abs(daily["CMIP5"]), abs(daily["CORDEX"])) < 0.1
    # Its mean rain matches the observed pattern, so the rotated pole is correct.
    assert maps["CORDEX"] > 0.5


@pytest.mark.real_data
def test_every_declared_file_of_iberia_is_as_declared(shared_data: Path) -> None:
    for source in SOURCES.values():
        field = open_source(shared_data / "iberia", source)
        assert field.sizes["time"] == 1444, source.name
        with pytest.raises(InputError, match="has no units; declare them"):
            open_grid(shared_data / "iberia" / source.file, source.field)


@pytest.mark.real_data
def test_real_files_with_units(shared_data: Path) -> None:
    basin = open_grid(shared_data / "bhima" / "pr_MSWEP28_010deg.nc", "precipitation")
    assert basin.shape == (243, 40, 40)
    assert float(basin.max()) == pytest.approx(301.04, abs=0.01)
    rates = open_grid(shared_data / "mrms" / "precip_rate_0p04deg_west.nc", "precipitation")
    assert float(rates.max()) == pytest.approx(80.2 * 24, rel=1e-6)
    assert float(rates.isnull().mean()) == pytest.approx(0.2849, abs=1e-4)
    with pytest.raises(InputError, match="would be plausible in 'kg m-2 s-1'"):
        open_grid(shared_data / "iberia" / "NCEP_Iberia_pr.nc", "precipitation", units="mm/day")
