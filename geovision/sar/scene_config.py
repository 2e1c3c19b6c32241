"""Declared properties of a scene, and validation of a scene before prediction."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from geovision.errors import OptionError
from geovision.inference import executor
from geovision.inference.cog import storage_errors
from geovision.inference.tiling import WindowGrid
from geovision.inference.window_predictor import output_names
from geovision.models.geomodel import GeoModel
from geovision.physics.backscatter import DecibelRange
from geovision.readers.sar import (
    MapGrid,
    RadarScene,
    check_db_range,
    check_pixels,
    is_safe,
    model_grid,
    open_scene,
    write_map,
)
from geovision.readers.sar.geotiff import POLARIZATIONS
from geovision.spec import ClassTarget, InputSpec

__all__ = ["SceneConfig", "open_scene_windows", "resolve_db_range", "scene_input", "warped_scene"]


@dataclass(frozen=True)
class SceneConfig:
    """Declared properties of a scene, which complete or override its file.

    None of these values is guessed.

    Args:
        quantity: Quantity of the pixel values: ``"db"``, ``"power"``, ``"amplitude"`` or ``"counts"``.
            Required unless the scene is a SAFE folder, which contains this metadata. Default: None.
        bands: Band number by channel, from 1. Default: from the band descriptions in the file.
        db_range: Range of decibels by channel that is mapped to the counts 1 to 255. Default: the range
            stored with the model.
        nodata: Additional value of missing pixels, next to the one that the file declares. Default: none.
        time: Acquisition time, UTC. Default: the time in the file.
        crs: Projection of the result, in meters; ``"scene"`` selects the projection of the scene. Default:
            chosen by latitude, see `geovision.readers.sar.map_grid.model_grid`.
    """

    quantity: str | None = None
    bands: Mapping[str, int] | None = None
    db_range: Mapping[str, DecibelRange] = field(default_factory=dict)
    nodata: float | None = None
    time: datetime.datetime | None = None
    crs: str | None = None


@contextmanager
def warped_scene(
    path: str | Path,
    source: InputSpec,
    scene_config: SceneConfig,
    db_range: Mapping[str, DecibelRange] | None,
    progress: Callable[[str, int, int], None],
) -> Iterator[tuple[Path | str, SceneConfig]]:
    """Warp a SAFE folder to a temporary GeoTIFF; yield other scenes unchanged.

    Args:
        path: Path of the scene.
        source: Input specification of the model.
        scene_config: Declared properties of the scene.
        db_range: Decibel range by channel.
        progress: Function that is called with the stage and its progress.

    Yields:
        Path and properties of the scene to open. The temporary file is deleted on exit.

    Raises:
        OptionError: If properties are declared that a SAFE folder contains, or if the decibel range is not
            suitable.
        StorageError: If the temporary file cannot be written.
    """
    if not is_safe(path):
        yield path, scene_config
        return
    folder = Path(path).absolute()
    folder = folder.parent if folder.name == "manifest.safe" else folder
    if scene_config.quantity not in (None, "power") or scene_config.bands or scene_config.nodata is not None:
        raise OptionError(
            f"{folder}: a SAFE folder is calibrated to power, and its bands and missing values are known; "
            "leave out --quantity, --bands and --nodata"
        )
    channels = [channel.name for channel in source.channels]
    check_db_range(str(folder), channels, "power", db_range)
    assert source.pixel_size is not None
    with tempfile.TemporaryDirectory(prefix="geovision-safe-") as temporary:
        warped = Path(temporary) / folder.name  # messages, titles and the GeoJSON contain the original name
        with storage_errors(Path(temporary)):
            write_map(
                folder,
                warped,
                channels,
                source.pixel_size,
                crs=scene_config.crs,
                threads=executor.num_cpus(),
                progress=lambda done, whole: progress("warping", done, whole),
            )
        yield warped, replace(scene_config, quantity="power", crs="scene")


def open_scene_windows(
    path: str | Path, source: InputSpec, scene_config: SceneConfig, overlap: float
) -> tuple[RadarScene, MapGrid, WindowGrid]:
    """Open and validate a scene, and define the model's grid and windows.

    Args:
        path: Path of the scene.
        source: Input specification of the model.
        scene_config: Declared properties of the scene.
        overlap: Minimum overlap of two neighboring windows, as a fraction of the side of a window.

    Returns:
        The scene, the grid with the model's pixel size, and the windows.

    Raises:
        OptionError: If the quantity is not declared.
        InputError: If the values or pixels of the scene do not fit the declaration or the model.
    """
    if scene_config.quantity is None:
        raise OptionError(
            f"{path}: the quantity of the pixel values is not declared; "
            "set --quantity to db, power, amplitude or counts"
        )
    given = open_scene(
        path,
        [channel.name for channel in source.channels],
        quantity=scene_config.quantity,
        bands=scene_config.bands,
        nodata=scene_config.nodata,
        time=scene_config.time,
    )
    assert source.pixel_size is not None
    assert source.size is not None
    check_pixels(given, source.pixel_size)
    grid = model_grid(given.grid, source.pixel_size, scene_config.crs, where=str(path))
    windows = WindowGrid(grid.shape, source.size, overlap)
    given.check_values()
    return given, grid, windows


def scene_input(model: GeoModel) -> tuple[InputSpec, tuple[str, ...]]:
    """Return the radar input and the output layers of a model.

    Args:
        model: Classifier of radar counts.

    Raises:
        OptionError: If the model has other inputs, no window size or no classes.
    """
    first = model.inputs[0]
    radar = all(channel.name in POLARIZATIONS for channel in first.channels)
    if len(model.inputs) != 1 or first.layout != "channel y x" or first.pixel_size is None or not radar:
        names = ", ".join(channel.name for channel in first.channels)
        raise OptionError(
            f"{model.spec.name} expects {names}; a scene needs a model of cross_pol and co_pol "
            "with a pixel size on the ground"
        )
    if first.size is None:
        raise OptionError(f"{model.spec.name} has no window size; create the model with size=")
    if not isinstance(model.target, ClassTarget):
        raise OptionError(f"{model.spec.name} predicts a {model.target.kind}; a scene needs a classifier")
    return first, output_names(model.target)


def resolve_db_range(model: GeoModel, scene_config: SceneConfig) -> Mapping[str, DecibelRange] | None:
    """Return the declared decibel range, or the one stored with the model.

    Args:
        model: Model of radar counts.
        scene_config: Declared properties of the scene.

    Returns:
        Range by channel; None if there is none. For counts, only a declared range is returned.

    Raises:
        OptionError: If the declared range differs from that of the model, or has an unknown channel.
    """
    stored = {name: DecibelRange(*pair) for name, pair in model.config.db_range.items()}
    if stored and scene_config.db_range and dict(scene_config.db_range) != stored:
        ranges = ",".join(f"{name}={each.low:g}:{each.high:g}" for name, each in stored.items())
        raise OptionError(
            f"{model.spec.name} expects its stored decibel range {ranges}; leave out --db-range"
        )
    known = {channel.name for channel in model.inputs[0].channels}
    if strange := [name for name in scene_config.db_range if name not in known]:
        raise OptionError(
            f"unknown channel {strange[0]!r} in the decibel range; choose from {', '.join(sorted(known))}"
        )
    if scene_config.quantity == "counts":
        return dict(scene_config.db_range) or None
    return dict(scene_config.db_range) or stored or None
