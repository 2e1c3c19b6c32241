"""Images without sky, for the evaluation of out-of-distribution scores.

The images are photos in scikit-image and scikit-learn, and renderings of radar volumes, SAR chips, terrain
and precipitation fields in common color maps. Images that contain some kind of sky are returned separately,
by `doubtful`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
import skimage.data
import skimage.io
import sklearn.datasets

__all__ = ["KINDS", "Picture", "doubtful", "pictures"]

Picture = tuple[str, np.ndarray]
"""Name, and values as uint8, shape (y, x, 3)."""

# A rocket, a photographer and a temple in front of a sky; a field of galaxies; the moon.
_WITH_SKY = ("rocket.jpg", "camera.png", "china.jpg", "hubble_deep_field.jpg", "moon.png")
_COPIES = ("chessboard_GRAY.png", "motorcycle_right.png", "multipage.tif", "multipage_rgb.tif")


def _rgb(values: np.ndarray) -> np.ndarray:
    if values.ndim == 2:
        values = np.stack([values] * 3, axis=-1)
    return np.ascontiguousarray(values[..., :3]).astype(np.uint8)


def _bundled() -> Iterator[Picture]:
    """Yield the images in the wheels of scikit-image and scikit-learn, without downloads."""
    for path in sorted(Path(skimage.data.__file__).parent.iterdir()):
        if path.suffix in (".png", ".jpg") and path.name not in _COPIES:
            yield path.name, _rgb(skimage.io.imread(path))
    names = sklearn.datasets.load_sample_images()
    for path, values in zip(names.filenames, names.images, strict=True):
        yield Path(path).name, _rgb(values)


def photos(root: Path) -> Iterator[Picture]:
    """Yield bundled photos and drawings without a sky, and some of the bundled faces."""
    yield from ((name, values) for name, values in _bundled() if name not in _WITH_SKY)
    for number, face in enumerate(skimage.data.lfw_subset()[:100:10]):
        yield f"face {number}", _rgb(255 * face)


def doubtful(root: Path) -> Iterator[Picture]:
    """Yield bundled photos that show some kind of sky."""
    yield from ((name, values) for name, values in _bundled() if name in _WITH_SKY)


def colored(values: np.ndarray, colors: str, low: float, high: float) -> np.ndarray:
    """Return a field in a color map, with missing values in white."""
    scaled = np.ma.masked_invalid((values - low) / (high - low))
    image = matplotlib.colormaps[colors].with_extremes(bad="white")(scaled)
    return _rgb(255 * image)


def radar(root: Path) -> Iterator[Picture]:
    """Yield sweeps as plan position indicators on a grid of 400 x 400, 150 km in each direction."""
    import xradar

    openers = {"h5": xradar.io.open_odim_datatree, "V06": xradar.io.open_nexradlevel2_datatree}
    colors = {
        "DBZH": ("turbo", -10, 70),
        "VRADH": ("RdBu_r", -30, 30),
        "RHOHV": ("viridis", 0.4, 1),
        "ZDR": ("nipy_spectral", -2, 6),
    }
    for path in sorted((root / "radar").iterdir()):
        suffix = path.name.rpartition("_")[2] if path.suffix == "" else path.suffix.lstrip(".")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = openers[suffix](path)
        for number in (0, 2, 4):
            sweep = tree[f"sweep_{number}"].to_dataset()
            for moment in [name for name in colors if name in sweep]:
                yield f"{path.name[:14]} {number} {moment}", colored(_plan(sweep, moment), *colors[moment])


def _plan(sweep, moment: str) -> np.ndarray:
    east, north = np.meshgrid(np.linspace(-150e3, 150e3, 400), np.linspace(150e3, -150e3, 400))
    azimuths = sweep["azimuth"].values
    order = np.argsort(azimuths)
    azimuth = np.degrees(np.arctan2(east, north)) % 360
    rays = order[np.searchsorted(azimuths[order], azimuth).clip(0, len(order) - 1)]
    ranges = sweep["range"].values
    gates = np.searchsorted(ranges, np.hypot(east, north))
    values = sweep[moment].values[rays, gates.clip(0, len(ranges) - 1)]
    return np.where(gates < len(ranges), values, np.nan)


def sar(root: Path) -> Iterator[Picture]:
    """Yield Sentinel-1 chips: VV and VH in gray, and both in false colors."""
    import rasterio

    for path in sorted((root / "sentinel1" / "S1RTC").glob("*.tif")):
        with rasterio.open(path) as file:
            vv, vh = file.read()[:2].astype(float)
        yield f"{path.stem} VV", colored(vv, "gray", -25, 0)
        yield f"{path.stem} VH", colored(vh, "gray", -32, -5)
        false = [np.clip((band - low) / 25, 0, 1) for band, low in ((vv, -25), (vh, -32), (vv - vh, -5))]
        yield f"{path.stem} false", _rgb(255 * np.nan_to_num(np.stack(false, axis=-1)))


def terrain(root: Path) -> Iterator[Picture]:
    """Yield heights of the Azores by color, and hillshades with light from the northwest."""
    import zipfile

    from matplotlib.colors import LightSource

    for path in sorted((root / "dem").glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            raw = archive.read(archive.namelist()[0])
        tile = np.frombuffer(raw, ">i2").astype(float)
        side = int(len(tile) ** 0.5)
        tile = tile.reshape(side, side)
        land = np.argwhere(tile > 50)
        for number, (row, column) in enumerate(land[:: max(1, len(land) // 4)][:4] if len(land) else []):
            window = tile[max(0, row - 150) :, max(0, column - 150) :][:300, :300]
            yield f"{path.name[:7]} {number} heights", colored(window, "terrain", -200, 1200)
            yield f"{path.name[:7]} {number} lit", _rgb(255 * LightSource().hillshade(window, dx=90, dy=90))


def rain(root: Path) -> Iterator[Picture]:
    """Yield precipitation rates and daily sums in common color maps."""
    import xarray

    colors = ("Blues", "turbo", "YlGnBu", "viridis", "gray", "jet")
    with xarray.open_dataset(root / "mrms" / "precip_rate_0p04deg_west.nc") as file:
        fields = next(iter(file.data_vars.values())).values
    for number, (field, color) in enumerate(zip(fields, colors, strict=False)):
        yield f"mrms {number}", colored(_wettest(field, number), color, 0, 10)
    with xarray.open_dataset(root / "iberia" / "EOBS_Iberia_pr.nc") as file:
        daily = file["pr" if "pr" in file else next(iter(file.data_vars))].values
    wet = np.argsort(-np.nanmean(daily, axis=(1, 2)))
    for number, color in enumerate(colors):
        field = np.kron(daily[wet[10 * number]][::-1], np.ones((12, 12)))
        yield f"eobs {number}", colored(field, color, 0, 40)
    with xarray.open_dataset(root / "bhima" / "pr_MSWEP28_010deg.nc") as file:
        daily = next(iter(file.data_vars.values())).values * 86400
    wet = np.argsort(-np.nanmean(daily, axis=(1, 2)))
    for number, color in enumerate(colors):
        field = np.kron(daily[wet[number]], np.ones((12, 12)))
        yield f"mswep {number}", colored(field, color, 0, 60)


def _wettest(field: np.ndarray, rank: int, side: int = 200) -> np.ndarray:
    """Return the block with the `rank`-th largest precipitation."""
    rows, columns = (length // side for length in field.shape)
    blocks = field[: rows * side, : columns * side].reshape(rows, side, columns, side).swapaxes(1, 2)
    blocks = blocks.reshape(-1, side, side)
    return blocks[np.argsort(-np.nansum(blocks, axis=(1, 2)))[rank]]


KINDS: dict[str, Callable[[Path], Iterator[Picture]]] = {
    "photos and drawings": photos,
    "radar": radar,
    "SAR": sar,
    "terrain": terrain,
    "rain maps": rain,
}


def pictures(root: Path) -> dict[str, list[Picture]]:
    """Return the images of every kind.

    Args:
        root: Folder of all data sets.
    """
    return {kind: list(make(root)) for kind, make in KINDS.items()}
