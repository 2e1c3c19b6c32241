"""Sentinel-1 SAFE folders: calibration by satpy, georeferencing and errors.

The folders are generated. Real ones have more XML elements; those that the reader uses are equal.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.safe import NAME, Swath, calibration, noise, write_safe
from helpers.scenes import CHANNELS, places, quiet, sphere
from rasterio.warp import transform

import geovision
from geovision.cli import main
from geovision.errors import InputError, MissingExtraError, OptionError, UnreadableFileError
from geovision.physics.backscatter import DEFAULT_DB_RANGES
from geovision.readers.sar import is_safe, open_scene, safe, write_map
from geovision.sar import SceneConfig, predict_scene

needs_satpy = pytest.mark.skipif(
    not all(find_spec(name) for name in ("satpy", "rioxarray", "geotiepoints", "defusedxml")),
    reason='pip install "geovision[satellite]"',
)

CELL = 400.0
SWATH = Swath(10.0, 72.0, -20.0, 40.0, (501, 401))


def numbers(swath: Swath, power: np.ndarray) -> np.ndarray:
    """Digital numbers of a power: ``DN^2 = power * sigmaNought^2 + noise``, dithered."""
    rows, columns = np.ogrid[: swath.shape[0], : swath.shape[1]]
    exact = np.sqrt(power * calibration(columns) ** 2 + noise(rows, columns))
    return np.floor(exact + np.random.default_rng(0).random(swath.shape)).astype(np.uint16)


def both(swath: Swath, power: np.ndarray) -> dict[str, np.ndarray]:
    return {"hh": numbers(swath, power), "hv": numbers(swath, power / 4)}


def flat(folder: Path, swath: Swath = SWATH) -> Path:
    return write_safe(folder, swath, both(swath, np.full(swath.shape, 0.08)))


def warped(source: Path, folder: Path, **options) -> tuple[np.ndarray, rasterio.DatasetReader]:
    path = folder / "map.tif"
    write_map(source, path, CHANNELS, CELL, **options)
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset


# --- reading --------------------------------------------------------------------------------------


@needs_satpy
def test_power_is_calibrated_and_noise_is_subtracted(tmp_path: Path):
    # Both vary along the lines, and the noise from line to line; the power does not.
    values, _ = warped(flat(tmp_path), tmp_path)
    for band, power in zip(values, (0.02, 0.08), strict=True):
        found = band[np.isfinite(band)]
        np.testing.assert_allclose(found, power, rtol=0.01)
        assert found.mean() == pytest.approx(power, rel=1e-3)


@needs_satpy
def test_a_mean_is_that_of_the_pixels_by_hand(tmp_path: Path):
    power = 0.08 * np.random.default_rng(1).gamma(10, 0.1, SWATH.shape)
    digital = both(SWATH, power)
    values, dataset = warped(write_safe(tmp_path, SWATH, digital), tmp_path)
    rows, columns = np.mgrid[: SWATH.shape[0], : SWATH.shape[1]]
    x, y = transform("EPSG:4326", dataset.crs, *(each.ravel() for each in SWATH.place(rows, columns)))
    down, across = rasterio.transform.rowcol(dataset.transform, x, y)
    cell = np.array(down).astype(int) * dataset.width + np.array(across).astype(int)
    count = np.bincount(cell, minlength=dataset.width * dataset.height)
    for name, band in zip(("hv", "hh"), values, strict=True):
        by_hand = (digital[name].astype(float) ** 2 - noise(rows, columns)) / calibration(columns) ** 2
        mean = np.bincount(cell, np.maximum(by_hand, 0).ravel(), count.size) / np.maximum(count, 1)
        seen = np.isfinite(band.ravel())
        # The reader assigns blocks of 3 x 3 pixels to cells; the exact result differs by a few pixels.
        assert np.abs(band.ravel()[seen] / mean[seen] - 1).max() < 0.1
        assert band[np.isfinite(band)].mean() == pytest.approx(mean[seen].mean(), rel=2e-3)


@needs_satpy
def test_an_eighth_of_pure_noise_remains(tmp_path: Path):
    rows, columns = np.ogrid[: SWATH.shape[0], : SWATH.shape[1]]
    looks = np.random.default_rng(0).gamma(10.7, 1 / 10.7, SWATH.shape)
    digital = np.sqrt(noise(rows, columns) * looks).round().astype(np.uint16)
    values, _ = warped(write_safe(tmp_path, SWATH, {"hh": digital, "hv": digital}), tmp_path)
    equivalent = (noise(rows, columns) / calibration(columns) ** 2).mean()
    assert 0.1 < np.nanmean(values[0]) / equivalent < 0.15


@needs_satpy
def test_bands_time_and_missing_data(tmp_path: Path):
    digital = both(SWATH, np.full(SWATH.shape, 0.08))
    digital["hv"][:, :100] = 0
    values, _ = warped(write_safe(tmp_path, SWATH, digital) / "manifest.safe", tmp_path)
    with rasterio.open(tmp_path / "map.tif") as opened:
        assert opened.descriptions == ("HV", "HH")
    covered = np.isfinite(values).sum(axis=(1, 2)) * CELL**2 / (501 * 301 * 40**2)
    np.testing.assert_allclose(covered, 1, atol=0.04)
    given = open_scene(tmp_path / "map.tif", CHANNELS, quantity="power")
    given.check_values()
    assert given.time == datetime.datetime(2020, 1, 10, 5, 6, 7, 123456, datetime.UTC)


# --- georeferencing ---------------------------------------------------------------------------------


@needs_satpy
@pytest.mark.parametrize(
    ("longitude", "latitude", "crs"),
    [(10, 72, 3995), (179.8, 75, 3995), (-60, 89.95, 3995), (-179.9, -70, 3031), (12, 45, 32633)],
    ids=["north", "antimeridian", "pole", "south", "utm"],
)
def test_a_field_on_the_globe_keeps_its_position(tmp_path: Path, longitude: float, latitude: float, crs: int):
    swath = Swath(longitude, latitude, -20.0, 40.0, SWATH.shape)
    rows, columns = np.mgrid[: swath.shape[0], : swath.shape[1]]
    power = sphere(*swath.place(rows, columns))
    values, dataset = warped(write_safe(tmp_path, swath, both(swath, power)), tmp_path)
    assert dataset.crs.to_epsg() == crs
    expected = sphere(*places(f"EPSG:{crs}", dataset.transform, dataset.shape))
    seen = np.isfinite(values[1])
    # There is no gap inside and no loss at the edges.
    assert seen.sum() * CELL**2 / (501 * 401 * 40**2) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(values[1][seen], expected[seen], rtol=0.02)
    assert np.corrcoef(values[1][seen], expected[seen])[0, 1] > 0.95


@needs_satpy
@pytest.mark.parametrize("crs", [None, "EPSG:3413"])
def test_a_bright_block_is_within_a_pixel_of_its_position(tmp_path: Path, crs: str | None):
    power = np.full(SWATH.shape, 0.02)
    power[200:280, 120:240] = 0.9
    values, dataset = warped(write_safe(tmp_path, SWATH, both(SWATH, power)), tmp_path, crs=crs)
    excess = np.where(values[1] > 0.05, values[1] - 0.02, 0)
    rows, columns = np.indices(excess.shape)
    column, row = ((excess * place).sum() / excess.sum() + 0.5 for place in (columns, rows))
    found = dataset.transform.c + CELL * column, dataset.transform.f - CELL * row
    truth = transform(
        "EPSG:4326", dataset.crs, *([float(each)] for each in SWATH.place(np.array(239.5), np.array(179.5)))
    )
    assert np.hypot(found[0] - truth[0][0], found[1] - truth[1][0]) < 40
    assert excess.sum() * CELL**2 == pytest.approx(0.88 * 80 * 120 * 40**2, rel=0.02)


@needs_satpy
def test_results_do_not_depend_on_strips_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = flat(tmp_path)
    whole, _ = warped(source, tmp_path)
    monkeypatch.setattr(safe, "_STRIP", "32KiB")
    progress_calls: list[tuple[int, int]] = []
    parts, _ = warped(
        source, tmp_path, threads=2, progress=lambda done, of: progress_calls.append((done, of))
    )
    assert len(progress_calls) > 5
    assert progress_calls[-1][0] == progress_calls[-1][1]
    # Blocks end at strip boundaries, so some blocks fall into other cells.
    np.testing.assert_allclose(np.nanmean(parts, axis=(1, 2)), np.nanmean(whole, axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(parts, whole, rtol=0.02)


# --- errors -----------------------------------------------------------------------------------------


def test_without_satpy_the_install_command_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "satpy", None)
    with pytest.raises(MissingExtraError, match=r'satpy is not installed.*geovision\[satellite\]"'):
        write_map(tmp_path / NAME, tmp_path / "map.tif", CHANNELS, CELL)


def one(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_tie_points(folder: Path) -> None:
    with quiet(), rasterio.open(one(folder, "measurement/*-hv-*"), "r+") as dataset:
        dataset.gcps = ([], dataset.gcps[1])


def single(folder: Path) -> None:
    for path in [*folder.rglob("*-hv-*")]:
        path.unlink()


def as_slc(folder: Path) -> None:
    for path in folder.glob("measurement/*"):
        path.rename(path.with_name(path.name.replace("-grd-", "-slc-")))


def as_cog(folder: Path) -> None:
    for path in folder.glob("measurement/*"):
        path.rename(path.with_stem(f"{path.stem}-cog"))


def no_time(folder: Path) -> None:
    path = folder / "manifest.safe"
    path.write_text(path.read_text().replace("startTime", "beginTime"))


BROKEN: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "one polarisation": (single, InputError, r"cross_pol \(VH or HV\), found HH; choose a pass"),
    "not detected": (as_slc, InputError, "SLC instead of GRD"),
    "of COGs": (as_cog, InputError, "a SAFE folder of COGs, which satpy does not read; use the same"),
    "no manifest": (
        lambda f: (f / "manifest.safe").unlink(),
        UnreadableFileError,
        "not a SAFE folder with a m",
    ),
    "no time": (no_time, UnreadableFileError, "manifest.safe: no startTime; copy"),
    "half a manifest": (lambda f: cut(f / "manifest.safe"), UnreadableFileError, "manifest.safe: cannot be"),
    "no noise": (
        lambda f: one(f, "annotation/calibration/noise-*-hv-*").unlink(),
        UnreadableFileError,
        r"no annotation/calibration/noise-s1a-ew-grd-hv-\S+\.xml; copy the folder again",
    ),
    "half a calibration": (
        lambda f: cut(one(f, "annotation/calibration/cal*-hh-*")),
        UnreadableFileError,
        "cannot be read as Sentinel-1 GRD .* copy it again",
    ),
    "half an image": (
        lambda f: cut(one(f, "measurement/*-hh-*")),
        UnreadableFileError,
        "cannot be read as Sentinel-1 GRD .* copy it again",
    ),
    "no image": (
        lambda f: [path.unlink() for path in f.glob("measurement/*")],
        UnreadableFileError,
        r"no measurement/\*\.tiff",
    ),
    "no tie points": (without_tie_points, UnreadableFileError, "0 tie points; expected a lattice"),
}


@needs_satpy
@pytest.mark.parametrize("name", BROKEN)
def test_an_incomplete_folder_is_reported(tmp_path: Path, name: str):
    change, kind, line = BROKEN[name]
    source = flat(tmp_path)
    change(source)
    with pytest.raises(kind, match=line) as caught:
        write_map(source, tmp_path / "map.tif", CHANNELS, CELL)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "map.tif").exists()


@needs_satpy
def test_other_folder_names_and_too_coarse_pixels_are_refused(tmp_path: Path):
    source = flat(tmp_path)
    with pytest.raises(InputError, match=r"pixels of 4\d(\.\d+)? m are too coarse for cells of 60 m"):
        write_map(source, tmp_path / "map.tif", CHANNELS, 60.0)
    with pytest.raises(OptionError, match="has no projection of its own; choose one"):
        write_map(source, tmp_path / "map.tif", CHANNELS, CELL, crs="scene")
    renamed = source.rename(tmp_path / "pass")
    assert is_safe(renamed)
    with pytest.raises(UnreadableFileError, match="cannot be read as Sentinel-1 GRD"):
        write_map(renamed, tmp_path / "map.tif", CHANNELS, CELL)


# --- as a scene -------------------------------------------------------------------------------------


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """280 km of sea, for the windows of 256 km of the tiny model."""
    return flat(tmp_path, Swath(10.0, 72.0, -20.0, 700.0, (400, 400)))


@needs_satpy
def test_a_folder_is_read_as_a_scene(wide: Path, tmp_path: Path):
    model = geovision.create("polarlow-tiny")
    progress_calls: list[str] = []
    found = predict_scene(
        model,
        wide,
        tmp_path / "maps" / "a",
        SceneConfig(db_range=DEFAULT_DB_RANGES),
        min_valid=0.1,
        progress=lambda what, done, whole: progress_calls.append(what),
    )
    assert progress_calls[0] == "warping"
    about = json.loads(found.files["detections"].read_text())["geovision"]
    assert (about["scene"], about["quantity"]) == (NAME, "power")
    assert about["bands"] == {"cross_pol": 1, "co_pol": 2}
    assert about["time"] == "2020-01-10T05:06:07.123456+00:00"
    with rasterio.open(found.files["count"]) as dataset:
        assert dataset.crs.to_epsg() == 3995
        assert (dataset.read(1) > 0).sum() * 4 == pytest.approx(280 * 280, rel=0.05)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--quantity", "db"), "leave out --quantity, --bands and --nodata"),
        (("--bands", "cross_pol=1,co_pol=2"), "leave out --quantity, --bands and --nodata"),
        ((), "--db-range cross_pol=LOW:HIGH,co_pol=LOW:HIGH"),
    ],
)
def test_options_incompatible_with_a_folder_are_reported_first(
    tmp_path: Path, options: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
):
    source = flat(tmp_path)
    model = geovision.create("polarlow-tiny").save(tmp_path / "model")
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in ("scene", model, source, "--out", tmp_path / "maps" / "a", *options)])
    messages = capsys.readouterr().err
    assert ended.value.code == 2
    assert line in messages.replace("\n", " ")
    assert NAME in messages.replace("\n", "")
    assert not (tmp_path / "maps").exists()
