"""A scene as a model takes it: what is declared of it, and what is checked before the work."""

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
    """What a file does not say, or says otherwise. Nothing of it is guessed.

    Args:
        quantity: ``"db"``, ``"power"``, ``"amplitude"`` or ``"counts"``; None for a SAFE folder, which
            says it itself.
        bands: Channel to number of its band, from 1; None: by the descriptions in the file.
        db_range: Decibels of the counts 1 and 255 by channel. Default: those stored with the model.
        nodata: A value that stands for no data, beside what the file declares.
        time: When the scene was taken, UTC; None: as the file says.
        crs: Projection of the result, in metres; ``"scene"``: the scene's own; None: see
            `geovision.readers.sar.map_grid.model_grid`.
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
    """A scene, and what is known of it. A SAFE folder is warped to a GeoTIFF, which is gone in the end."""
    if not is_safe(path):
        yield path, scene_config
        return
    folder = Path(path).absolute()
    folder = folder.parent if folder.name == "manifest.safe" else folder
    if scene_config.quantity not in (None, "power") or scene_config.bands or scene_config.nodata is not None:
        raise OptionError(
            f"{folder}: a SAFE folder is calibrated to power and says itself what its bands and no data are; "
            "leave out --quantity, --bands and --nodata"
        )
    channels = [channel.name for channel in source.channels]
    check_db_range(str(folder), channels, "power", db_range)
    assert source.pixel_size is not None
    with tempfile.TemporaryDirectory(prefix="geovision-safe-") as beside:
        warped = Path(beside) / folder.name  # messages, titles and the GeoJSON name what was given
        with storage_errors(Path(beside)):
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
    """A scene whose numbers are what they are declared to be, the model's cells over it, the windows."""
    if scene_config.quantity is None:
        raise OptionError(
            f"{path}: does not say what its numbers are; declare it with --quantity db, power, amplitude or "
            "counts"
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
    """The input that windows fill, and names of the layers of the result."""
    first = model.inputs[0]
    radar = all(channel.name in POLARIZATIONS for channel in first.channels)
    if len(model.inputs) != 1 or first.layout != "channel y x" or first.pixel_size is None or not radar:
        takes = ", ".join(channel.name for channel in first.channels)
        raise OptionError(
            f"{model.spec.name} takes {takes} and no radar on a map; a scene is cross_pol and co_pol"
        )
    if first.size is None:
        raise OptionError(f"{model.spec.name} has no size of windows; create it with size=")
    if not isinstance(model.target, ClassTarget):
        raise OptionError(f"{model.spec.name} answers no class; a scene is asked for one")
    return first, output_names(model.target)


def resolve_db_range(model: GeoModel, scene_config: SceneConfig) -> Mapping[str, DecibelRange] | None:
    """Declared, or stored with the model; None for counts."""
    stored = {name: DecibelRange(*pair) for name, pair in model.config.db_range.items()}
    if stored and scene_config.db_range and dict(scene_config.db_range) != stored:
        told = ",".join(f"{name}={each.low:g}:{each.high:g}" for name, each in stored.items())
        raise OptionError(f"{model.spec.name} was made for the limits {told}; leave out others")
    known = {channel.name for channel in model.inputs[0].channels}
    if strange := [name for name in scene_config.db_range if name not in known]:
        raise OptionError(f"no channel {strange[0]!r} has limits; the model takes {', '.join(sorted(known))}")
    if scene_config.quantity == "counts":
        return dict(scene_config.db_range) or None
    return dict(scene_config.db_range) or stored or None
