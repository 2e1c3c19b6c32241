"""Radar scenes: reading, averaging, georeferencing and errors."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from helpers.scenes import CHANNELS, CORNER, UTM, places, quiet, save, save_sphere, sphere
from rasterio.control import GroundControlPoint

from geovision.errors import InputError, OptionError, UnreadableFileError
from geovision.physics.backscatter import DEFAULT_DB_RANGES, DecibelRange
from geovision.readers.sar import (
    MapGrid,
    average_to_grid,
    check_pixels,
    model_grid,
    open_scene,
    warp,
    write_counts,
)
from geovision.readers.sar.geotiff import acquisition_time

SIDE = 100  # pixels of 40 m


def sea(seed: int = 0, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Linear power ``(2, y, x)`` with speckle."""
    speckle = np.random.default_rng(seed).gamma(4, 0.25, (2, *shape))
    return (np.array([0.003, 0.05])[:, None, None] * speckle).astype(np.float32)


def own_grid(scene, pixel_size: float) -> MapGrid:
    return model_grid(scene.grid, pixel_size, "scene")


def means(scene, grid: MapGrid) -> tuple[np.ndarray, np.ndarray]:
    with scene.open_reader() as reader:
        return average_to_grid(reader, grid, 0, 0, grid.shape)


# --- averaging ------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", ["power", "db", "amplitude"])
def test_averages_are_of_linear_power_for_any_quantity(tmp_path: Path, quantity: str):
    power = sea()
    stored = {"power": power, "db": 10 * np.log10(power), "amplitude": np.sqrt(power)}[quantity]
    scene = open_scene(save(tmp_path / "a.tif", stored), CHANNELS, quantity=quantity)
    scene.check_values()
    mean, fraction = means(scene, own_grid(scene, 400.0))
    expected = power.reshape(2, 10, 10, 10, 10).mean((2, 4))
    np.testing.assert_allclose(mean, expected, rtol=2e-5)
    assert (fraction == 1).all()


def test_a_scene_on_the_pixels_of_the_model_is_unchanged(tmp_path: Path):
    power = sea()
    scene = open_scene(save(tmp_path / "a.tif", power), CHANNELS, quantity="power")
    mean, fraction = means(scene, own_grid(scene, 40.0))
    assert np.array_equal(mean, power)
    assert (fraction == 1).all()


def test_pixels_are_weighted_by_their_overlap_with_the_cell(tmp_path: Path):
    power = sea()
    scene = open_scene(save(tmp_path / "a.tif", power), CHANNELS, quantity="power")
    mean, fraction = means(scene, own_grid(scene, 100.0))  # two and a half pixels
    first = power[:, :3, :3] * np.outer([1, 1, 0.5], [1, 1, 0.5])
    np.testing.assert_allclose(mean[:, 0, 0], first.sum((1, 2)) / 6.25, rtol=1e-4)
    assert fraction[0, 0] == pytest.approx(1)


def test_results_do_not_depend_on_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scene = open_scene(save(tmp_path / "a.tif", sea(shape=(300, 200))), CHANNELS, quantity="power")
    grid = model_grid(scene.grid, 130.0, "EPSG:3995")
    whole = write_counts(scene, grid, DEFAULT_DB_RANGES, tmp_path / "whole.tif").read(0, 0, grid.shape)[0]
    monkeypatch.setattr(warp, "MAX_BLOCK_PIXELS", 3000)
    assert len(list(warp.iter_tiles(scene, grid))) > 4
    parts = write_counts(scene, grid, DEFAULT_DB_RANGES, tmp_path / "parts.tif", threads=2).read(
        0, 0, grid.shape
    )[0]
    assert (whole > 0).any()
    # The warper places cells to an eighth of a pixel, and its nodes differ between tiles.
    assert np.abs(whole.astype(int) - parts)[(whole > 0) & (parts > 0)].max() <= 3
    assert ((whole > 0) != (parts > 0)).mean() < 0.002


def test_counts_use_the_decibel_range_and_need_one(tmp_path: Path):
    flat = np.stack([np.full((SIDE, SIDE), -25.0), np.full((SIDE, SIDE), -15.0)]).astype(np.float32)
    scene = open_scene(save(tmp_path / "a.tif", flat), CHANNELS, quantity="db")
    grid = own_grid(scene, 400.0)
    limits = {"cross_pol": DecibelRange(-35, -15), "co_pol": DecibelRange(-15, 0)}
    found, valid = write_counts(scene, grid, limits, tmp_path / "c.tif").read(0, 0, grid.shape)
    assert valid.all()
    assert (found[0] == 128).all()
    assert (found[1] == 1).all()
    with pytest.raises(
        OptionError, match=r"a\.tif: in db, but the model expects counts .* --db-range cross_pol=LOW"
    ):
        write_counts(scene, grid, None, tmp_path / "c.tif")


# --- missing data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["declared", "NaN", "-inf", "zero", "mask", "option", "half NaN"])
def test_all_kinds_of_missing_data(tmp_path: Path, how: str):
    power = sea()
    decibels = 10 * np.log10(power)
    hole = np.zeros((SIDE, SIDE), bool)
    hole[:20, :30] = True
    value = {"declared": -9999.0, "NaN": np.nan, "-inf": -np.inf, "zero": 0.0, "option": -9999.0}.get(
        how, np.nan
    )
    if how == "half NaN":
        decibels[0, hole] = value  # one polarization is sufficient
    elif how != "mask":
        decibels[:, hole] = value
    path = save(tmp_path / "a.tif", decibels, nodata=-9999.0 if how == "declared" else None)
    if how == "mask":
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(~hole)
    scene = open_scene(path, CHANNELS, quantity="db", nodata=-9999.0 if how == "option" else None)
    scene.check_values()
    mean, fraction = means(scene, own_grid(scene, 400.0))
    expected = np.ones((10, 10))
    expected[:2, :3] = 0
    np.testing.assert_array_equal(fraction, expected)
    np.testing.assert_allclose(
        mean[:, 2:, :], power.reshape(2, 10, 10, 10, 10).mean((2, 4))[:, 2:], rtol=2e-5
    )


def test_missing_pixels_do_not_darken_their_neighbors(tmp_path: Path):
    power = sea()
    power[:, :, 5::10] = np.nan
    scene = open_scene(save(tmp_path / "a.tif", power), CHANNELS, quantity="power")
    mean, fraction = means(scene, own_grid(scene, 400.0))
    np.testing.assert_allclose(mean, np.nanmean(power.reshape(2, 10, 10, 10, 10), (2, 4)), rtol=1e-5)
    np.testing.assert_allclose(fraction, 0.9, rtol=1e-6)


def test_an_undeclared_fill_value_is_reported(tmp_path: Path):
    decibels = 10 * np.log10(sea())
    decibels[:, 3, 4] = -9999.0
    path = save(tmp_path / "a.tif", decibels)
    with pytest.raises(InputError, match=r"a value of -9999 is out of range for db; .* --nodata -9999"):
        means(open_scene(path, CHANNELS, quantity="db"), MapGrid(UTM, tuple(CORNER)[:6], (SIDE, SIDE)))


def test_scale_and_offset_that_the_file_declares_are_applied(tmp_path: Path):
    decibels = np.rint(1000 * np.log10(sea())).astype(np.int16)
    path = save(tmp_path / "a.tif", decibels)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (0.01, 0.01)
    scene = open_scene(path, CHANNELS, quantity="db")
    scene.check_values()
    mean, _ = means(scene, own_grid(scene, 40.0))
    np.testing.assert_allclose(10 * np.log10(mean), decibels / 100, atol=1e-3)


# --- georeferencing --------------------------------------------------------------------------------

PLACES = {
    "UTM": (UTM, Affine(500, 0, 300000, 0, -500, 8100000), (350, 400), "EPSG:3995"),
    "south-up": (UTM, Affine(500, 0, 300000, 0, 500, 7900000), (350, 400), "EPSG:3995"),
    "rotated": ("EPSG:3413", Affine(433, 250, 0, 250, -433, 0), (350, 300), None),
    "over the pole": ("EPSG:3413", Affine(1000, 0, -200000, 0, -1000, 150000), (350, 400), None),
    "175 to 187 degrees east": ("EPSG:4326", Affine(0.02, 0, 175, 0, -0.008, 72), (300, 600), "EPSG:3995"),
    "beyond the antimeridian": ("EPSG:4326", Affine(0.02, 0, 183, 0, -0.008, 72), (300, 300), "EPSG:3995"),
    "below the antimeridian": ("EPSG:4326", Affine(0.02, 0, -186, 0, -0.008, 72), (300, 600), "EPSG:3995"),
    "in UTM beyond 180": ("EPSG:32601", Affine(500, 0, 200000, 0, -500, 7900000), (300, 300), "EPSG:3995"),
    "southern": ("EPSG:32733", Affine(500, 0, 300000, 0, -500, 2500000), (350, 400), "EPSG:3031"),
    "Mercator": ("EPSG:3857", Affine(800, 0, 0, 0, -800, 7600000), (250, 250), "EPSG:32631"),
    "temperate": (UTM, Affine(500, 0, 300000, 0, -500, 5500000), (252, 252), None),
}


@pytest.mark.parametrize("name", PLACES)
def test_every_cell_is_at_its_position(tmp_path: Path, name: str):
    crs, place, shape, expected = PLACES[name]
    scene = open_scene(save_sphere(tmp_path / "a.tif", crs, place, shape), CHANNELS, quantity="power")
    grid = model_grid(scene.grid, 2000.0)
    assert grid.crs == (expected or scene.grid.crs)
    mean, fraction = means(scene, grid)
    longitude, latitude = places(grid.crs, Affine(*grid.transform), grid.shape)
    full = fraction > 0.999
    assert full.mean() > 0.45
    np.testing.assert_allclose(mean[1][full], sphere(longitude, latitude)[full], atol=3e-5)
    # All cells inside the scene are valid, and none outside.
    x, y = MapGrid("EPSG:4326", (1, 0, 0, 0, 1, 0), (1, 1)).points(latitude, longitude, scene.grid.crs)
    if crs == "EPSG:4326":
        middle = place.c + place.a * shape[1] / 2
        x = (x - middle + 180) % 360 - 180 + middle
    rows, columns = scene.grid.rowcol(x, y)
    inside = (columns > 0) & (columns < shape[1]) & (rows > 0) & (rows < shape[0])
    assert (inside != (fraction >= 0.5)).mean() < 5e-4


def test_grids_of_neighboring_scenes_share_their_cells(tmp_path: Path):
    one = model_grid(MapGrid(UTM, (40, 0, 300000, 0, -40, 8100000), (900, 900)), 500.0)
    other = model_grid(MapGrid(UTM, (40, 0, 313337, 0, -40, 8090001), (900, 900)), 500.0)
    assert (one.transform[2] - other.transform[2]) % 500 == 0
    assert (one.transform[5] - other.transform[5]) % 500 == 0


def test_parts_beyond_the_scene_have_no_data(tmp_path: Path):
    power = sea()
    scene = open_scene(save(tmp_path / "a.tif", power), CHANNELS, quantity="power")
    with scene.open_reader() as reader:
        values, valid = reader.read(-5, SIDE - 3, (10, 10))
        nothing = reader.read(SIDE + 5, 0, (4, 4))[1]
    assert np.array_equal(values[:, 5:, :3], power[:, :5, -3:])
    assert valid[5:, :3].all()
    assert valid.sum() == 15
    assert not nothing.any()


def test_the_time_is_read_from_the_tag_or_the_name_or_is_missing():
    tags = {"datetime": "2021-07-21T08:40:10.000000000"}
    assert acquisition_time(tags, "x.tif") == datetime.datetime(2021, 7, 21, 8, 40, 10, tzinfo=datetime.UTC)
    name = "S1A_EW_GRDM_1SDH_20191012T084028_20191012T084212_029437_0359D9_4B5C.tif"
    assert acquisition_time({}, f"/a/{name}") == datetime.datetime(
        2019, 10, 12, 8, 40, 28, tzinfo=datetime.UTC
    )
    # The processing time is not the acquisition time.
    assert acquisition_time({"TIFFTAG_DATETIME": "2021:07:21 08:40:10"}, "scene_20191399T084028.tif") is None


@pytest.mark.real_data
def test_real_backscatter_of_sentinel_1(shared_data: Path):
    for path in sorted((shared_data / "sentinel1" / "S1RTC").glob("*.tif")):
        scene = open_scene(path, CHANNELS, quantity="db", bands={"co_pol": 1, "cross_pol": 2})
        cross, co = scene.check_values()
        assert -26 < cross.median < co.median < -8
        assert scene.time is not None
        assert scene.grid.ground_cell_size() == pytest.approx((10, 10), rel=0.01)
        mean, fraction = means(scene, own_grid(scene, 100.0))
        with rasterio.open(path) as dataset:
            power = 10 ** (dataset.read()[::-1, :220, :220] / 10)
        np.testing.assert_allclose(
            mean[:, :22, :22], power.reshape(2, 22, 10, 22, 10).mean((2, 4)), rtol=1e-5
        )
        assert fraction[22, 22] == pytest.approx(0.16)  # four of ten pixels, down and across
        for wrong in ("power", "amplitude"):
            with pytest.raises(InputError, match=r"declared as .* its median is -.* may be decibels"):
                open_scene(path, CHANNELS, quantity=wrong, bands={"co_pol": 1, "cross_pol": 2}).check_values()


# --- errors ---------------------------------------------------------------------------------------


def gcps(folder: Path) -> Path:
    points = [GroundControlPoint(r, c, 15 + c / 50, 72 - r / 100) for r in (0, SIDE) for c in (0, SIDE)]
    path = folder / "a.tif"
    profile = {"dtype": "float32", "count": 2, "height": SIDE, "width": SIDE}
    with quiet(), rasterio.open(path, "w", driver="GTiff", **profile) as dataset:
        dataset.gcps = (points, rasterio.CRS.from_epsg(4326))
        dataset.write(sea())
    return path


def cut(folder: Path) -> Path:
    """Scene with damaged compressed bytes of a strip in the middle."""
    path = save(folder / "a.tif", sea(), tiled=False, blockysize=10, compress="deflate")
    with rasterio.open(path) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_0_5", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + 200] = bytes(200)
    path.write_bytes(content)
    return path


def short(folder: Path) -> Path:
    path = save(folder / "a.tif", sea())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def text(folder: Path) -> Path:
    (folder / "a.tif").write_text("hello")
    return folder / "a.tif"


def saved(values: np.ndarray, **settings):
    return lambda folder: save(folder / "a.tif", values, **settings)


DB = 10 * np.log10(sea())
GLOBE = {"crs": "EPSG:4326", "place": Affine(3.6, 0, -180, 0, -0.3, 85)}
BAD = {
    "no map": (saved(sea(), crs=None, place=Affine.identity()), "power", r"a\.tif: not georeferenced; warp"),
    "no transform": (saved(sea(), place=Affine.identity()), "power", r"a\.tif: not georeferenced; warp"),
    "control points": (gcps, "power", r"not georeferenced but with ground control points, .* gdalwarp -tps"),
    "missing": (lambda folder: folder / "a.tif", "db", r"a\.tif: no such file; check the path"),
    "text": (text, "db", r"a\.tif: not a raster that rasterio can read"),
    "one band": (saved(DB[:1], names=("VV",)), "db", r"1 band \(1: VV\), but the model needs cross_pol"),
    "not named": (saved(DB, names=("a", "b")), "db", r"no band matches cross_pol .* --bands cross"),
    "two alike": (saved(DB[[0, 1, 1]], names=("VH", "VV", "HH")), "db", r"several bands match co_pol"),
    "complex": (saved(sea().astype(np.complex64)), "power", r"complex numbers; expected sigma0"),
    "dB as power": (saved(DB), "power", r"band 1 is declared as power, but its median is -.* --quantity db"),
    "dB as amplitude": (saved(DB), "amplitude", r"declared as amplitude, but its median .* --quantity db"),
    "power as dB": (saved(sea()), "db", r"declared as db, but its median is 0\.00.* --quantity power or"),
    "counts as dB": (saved(100 + 0 * sea()), "db", r"may be counts or uncalibrated digital numbers"),
    "digital numbers": (saved(1e4 * sea()), "power", r"may be counts or uncalibrated digital numbers"),
    "floats as counts": (saved(sea()), "counts", r"counts of type float32; expected 8-bit integers"),
    "nothing but NaN": (saved(np.nan * DB), "db", r"no data in .* pixels sampled over the scene"),
    "a damaged strip": (cut, "power", r"a\.tif: damaged in rows \d+ to \d+ \(.*\); copy it again"),
    "cut off": (short, "power", r"a\.tif: (damaged in rows|not a raster that rasterio can read)"),
    "around the globe": (saved(sea(), **GLOBE), "power", r"extends around the whole globe, .* gdalwarp"),
    "coarse": (
        saved(sea(), place=Affine.scale(900, -900)),
        "power",
        r"pixels of 9\d\d\.\d m; the model expects at most 500 m",
    ),
}


def regrid_to_500_m(path: Path, quantity: str) -> None:
    scene = open_scene(path, CHANNELS, quantity=quantity)
    scene.check_values()
    check_pixels(scene, 500.0)
    means(scene, model_grid(scene.grid, 500.0, where=scene.path))


@pytest.mark.parametrize("name", BAD)
def test_unusable_scenes_are_reported_in_one_line(tmp_path: Path, name: str):
    make, quantity, line = BAD[name]
    path = make(tmp_path)
    with pytest.raises(InputError, match=line) as caught:
        regrid_to_500_m(path, quantity)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    if name in ("missing", "text", "a damaged strip", "cut off"):
        assert isinstance(caught.value, UnreadableFileError)


OPTIONS = {
    "quantity": (
        {"quantity": "dB"},
        "quantity 'dB' is unknown; declare one of db, power, amplitude, counts",
    ),
    "no such band": ({"bands": {"co_pol": 1, "cross_pol": 3}}, "no band 3 for cross_pol; the file has 2"),
    "one band twice": (
        {"bands": {"co_pol": 1, "cross_pol": 1}},
        "one band is given for co_pol and cross_pol",
    ),
    "half": ({"bands": {"co_pol": 1}}, "bands are given for co_pol; the model needs cross_pol, co_pol"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_invalid_scene_options_are_refused(tmp_path: Path, name: str):
    options, line = OPTIONS[name]
    with pytest.raises(OptionError, match=line):
        open_scene(save(tmp_path / "a.tif", DB), CHANNELS, **({"quantity": "db"} | options))


@pytest.mark.parametrize(
    ("crs", "line"),
    [
        ("EPSG:99999", "is not a coordinate reference system"),
        ("EPSG:4326", "is not in meters"),
        ("EPSG:2225", "is not in meters"),
        ("nonsense", "is not a coordinate reference system"),
    ],
)
def test_invalid_projections_are_refused(crs: str, line: str):
    with pytest.raises(OptionError, match=line):
        model_grid(MapGrid(UTM, tuple(CORNER)[:6], (SIDE, SIDE)), 500.0, crs)


def test_a_scene_in_degrees_has_no_projection_of_its_own():
    with pytest.raises(OptionError, match="its projection is not in meters"):
        model_grid(MapGrid("EPSG:4326", (0.01, 0, 10, 0, -0.01, 70), (9, 9)), 500.0, "scene")
