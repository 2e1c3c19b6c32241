"""Ground heights from all supported formats."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from geovision.errors import InputError, UnreadableFileError
from geovision.readers.elevation import elevation_on_grid, read_elevation

rasterio = pytest.importorskip("rasterio")

LATITUDE, LONGITUDE = np.arange(38.205, 38.8, 0.01), np.arange(-28.695, -28.2, 0.01)


def _hill(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    return 2000 * np.exp(-((latitude - 38.5) ** 2 + (longitude + 28.4) ** 2) / 0.02)


def _hgt(folder: Path) -> Path:
    """SRTM tile of three arc seconds: big-endian int16, from the northwestern corner."""
    axis = np.arange(1201) / 1200
    heights = _hill((39 - axis)[:, None], (-29 + axis)[None, :]).round().astype(">i2")
    heights[600:605, 600:605] = -32768
    path = folder / "N38W029.hgt"
    path.write_bytes(heights.tobytes())
    return path


def _tiff(path: Path, heights: np.ndarray, crs: str | None, transform: tuple[float, ...]) -> Path:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=heights.shape[0],
        width=heights.shape[1],
        count=1,
        dtype=heights.dtype,
        crs=crs,
        transform=rasterio.Affine(*transform),
    ) as file:
        file.write(heights, 1)
    return path


def test_tiles_plain_and_zipped_give_the_same_heights(tmp_path: Path) -> None:
    plain = _hgt(tmp_path)
    packed = tmp_path / "N38W029.SRTMGL3.hgt.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(plain, plain.name)
    one, other = read_elevation(plain), read_elevation(packed)
    np.testing.assert_array_equal(one, other)
    assert one["latitude"].values[0] == pytest.approx(38, abs=1e-9)
    assert (np.diff(one["latitude"]) > 0).all()
    assert np.isnan(one.values).sum() == 25
    assert float(one.sel(latitude=38.5, longitude=-28.4, method="nearest")) == pytest.approx(2000, abs=2)


@pytest.mark.parametrize("method", ["average", "nearest"])
def test_heights_are_at_the_positions_of_the_grid(tmp_path: Path, method: str) -> None:
    found = elevation_on_grid(_hgt(tmp_path), LATITUDE, LONGITUDE, method=method)  # type: ignore[arg-type]
    expected = _hill(LATITUDE[:, None], LONGITUDE[None, :])
    np.testing.assert_allclose(found, expected, atol=12 if method == "average" else 25)


def test_projected_grids_are_regridded_to_degrees(tmp_path: Path) -> None:
    from rasterio.warp import transform

    x, y = np.meshgrid(350_000 + 200 * np.arange(400), 4_310_000 - 200 * np.arange(500))
    east, north = transform("EPSG:32626", "EPSG:4326", x.ravel(), y.ravel())
    heights = _hill(np.array(north), np.array(east)).reshape(x.shape).astype("float32")
    path = _tiff(tmp_path / "utm.tif", heights, "EPSG:32626", (200, 0, 349_900, 0, -200, 4_310_100))
    latitude, longitude = np.arange(38.35, 38.65, 0.01), np.arange(-28.55, -28.25, 0.01)
    found = elevation_on_grid(path, latitude, longitude)
    np.testing.assert_allclose(found, _hill(latitude[:, None], longitude[None, :]), atol=8)
    with pytest.raises(InputError, match="not in degrees"):
        read_elevation(path)


def test_several_files_fill_gaps_of_each_other(tmp_path: Path) -> None:
    west = _tiff(
        tmp_path / "w.tif", np.full((100, 50), 100, "float32"), "EPSG:4326", (0.01, 0, 10, 0, -0.01, 51)
    )
    east = _tiff(
        tmp_path / "e.tif", np.full((100, 50), 200, "float32"), "EPSG:4326", (0.01, 0, 10.5, 0, -0.01, 51)
    )
    latitude, longitude = 50.005 + 0.01 * np.arange(100), 10.005 + 0.01 * np.arange(100)
    both = elevation_on_grid([west, east], latitude, longitude)
    np.testing.assert_array_equal(both[:, :50], 100)
    np.testing.assert_array_equal(both[:, 50:], 200)
    assert np.isnan(elevation_on_grid(west, latitude, longitude)).mean() == pytest.approx(0.5)


def test_invalid_heights_are_refused(tmp_path: Path) -> None:
    degrees = (0.01, 0.0, 10.0, 0.0, -0.01, 51.0)
    where = np.arange(50.2, 50.5, 0.01), np.arange(10.2, 10.5, 0.01)
    centimeters = _tiff(tmp_path / "cm.tif", np.full((100, 100), 52_000, "float32"), "EPSG:4326", degrees)
    with pytest.raises(InputError, match="expected m above mean sea level"):
        elevation_on_grid(centimeters, *where)
    nowhere = _tiff(tmp_path / "no.tif", np.full((100, 100), 52, "float32"), None, degrees)
    with pytest.raises(InputError, match="no coordinate reference system; assign one"):
        elevation_on_grid(nowhere, *where)
    far = _tiff(tmp_path / "far.tif", np.full((100, 100), 52, "float32"), "EPSG:4326", degrees)
    with pytest.raises(InputError, match="no height within"):
        elevation_on_grid(far, where[0] + 20, where[1])
    (tmp_path / "bad.tif").write_bytes(b"II*\0 not a tiff")
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        read_elevation(tmp_path / "bad.tif")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("readme.txt", "no tile")
    with pytest.raises(UnreadableFileError, match="contains 0 tiles"):
        read_elevation(tmp_path / "two.zip")
    with pytest.raises(UnreadableFileError, match="no such file"):
        read_elevation(tmp_path / "missing.hgt")
