"""Conversion of frame files to table rows with predictions and quality flags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from geovision.accelerate.optimized import OptimizedModel, optimize_model
from geovision.errors import GeovisionError, InputError, MissingExtraError
from geovision.models.geomodel import GeoModel
from geovision.physics.sun_moon import moon_elevation, sun_elevation
from geovision.readers.allsky import Circle, Frame, Stretch, circle_mask, clock_jumps, frames, to_rgb
from geovision.readers.images import rgb_counts
from geovision.spec import ClassTarget

__all__ = [
    "COLUMNS",
    "FLAGS",
    "FrameConfig",
    "FrameRowProducer",
    "Row",
    "batch_size_for",
    "predict_rows",
    "read_frames",
]

Row = dict[str, Any]

FLAGS = (
    "unreadable",
    "damaged_file",
    "outside_domain",
    "dark",
    "saturated",
    "twilight",
    "moon_up",
    "clock_jump",
)
"""Boolean columns that are true if a row is not reliable; null if this cannot be determined."""

COLUMNS: Mapping[str, str] = {
    "device": "string",
    "exposure": "float32",
    "sun_elevation": "float32",
    "moon_elevation": "float32",
}
"""Columns of a table of frames in addition to those of every archive, with their Arrow types."""

MAX_BATCH_PIXELS = 2**18
"""Number of pixels of all frames in a forward pass. On one thread, larger batches do not fit into the
processor's cache, and smaller ones are dominated by call overhead."""

TWILIGHT_ELEVATION = -12.0
"""Solar elevation in degrees above which the cameras detect sunlight in a clear sky."""

MAX_SATURATED_FRACTION = 0.02
"""Fraction of sky pixels at full scale from which a frame counts as saturated."""

DARK, LIGHT = 3, 0.01
"""A frame is dark if less than this fraction (1 %) of its sky pixels reaches 3 of 255."""


@dataclass(frozen=True)
class FrameConfig:
    """Configuration of how the frames of an archive are read.

    Args:
        pattern: Positions of time and station in file names; see `geovision.readers.allsky.NamePattern`.
            Default: None, the metadata of the files are used.
        channels: ``"grey"`` declares that gray frames are passed to a model of color images. Default: None.
        stretches: Conversions of counts to brightness, by camera (``"gill/themis19"`` or ``"themis19"``),
            station (``"gill"``), or ``""`` for all. Default: none.
        circles: Sky circles with the same keys; pixels outside are black. Default: none.
        sites: (latitude, longitude) in degrees by station, or ``""`` for all, for files without this
            metadata. Default: none.
    """

    pattern: str | None = None
    channels: str | None = None
    stretches: Mapping[str, Stretch] = field(default_factory=dict)
    circles: Mapping[str, Circle] = field(default_factory=dict)
    sites: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> FrameConfig:
        """Create a configuration from a dictionary.

        The dictionary is the result of `dataclasses.asdict`, possibly converted to JSON and back.

        Args:
            stored: Fields by name.
        """
        return cls(
            stored["pattern"],
            stored["channels"],
            {key: Stretch(**value) for key, value in stored["stretches"].items()},
            {key: Circle(**value) for key, value in stored["circles"].items()},
            {key: (float(value[0]), float(value[1])) for key, value in stored["sites"].items()},
        )

    @staticmethod
    def camera_key(frame: Frame) -> str:
        """Return the key of a frame's camera, such as ``"gill/themis19"``.

        Args:
            frame: Frame with its metadata.
        """
        return "/".join(name for name in (frame.station, frame.device) if name)

    def lookup(self, table: Mapping[str, Any], frame: Frame) -> Any:
        """Return the most specific entry of a table for a frame.

        The order is camera, device, station and all frames.

        Args:
            table: Entries by camera, device, station or ``""``.
            frame: Frame with its metadata.

        Returns:
            The entry, or None if there is none.
        """
        for name in (self.camera_key(frame), frame.device, frame.station, ""):
            if name is not None and name in table:
                return table[name]
        return None

    def image(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """Return a frame as a color image with its sky mask.

        Args:
            frame: Frame to convert.

        Returns:
            Image, uint8, shape (y, x, 3), black outside the circle; and mask, bool, shape (y, x).

        Raises:
            InputError: If counts have no stretch, or if the circle is outside the frame. Also if a gray frame
                is not declared as gray, or a color frame is.
        """
        image = to_rgb(frame, self.lookup(self.stretches, frame), self.channels).transpose(1, 2, 0)  # type: ignore[arg-type]
        circle = self.lookup(self.circles, frame)
        sky = _sky_mask(image.shape[:2], circle)
        if circle is None:
            return image, sky
        if not sky.any():
            raise InputError(
                f"{frame.path}: the circle is outside the frame of {sky.shape[0]} x {sky.shape[1]} pixels; "
                "correct the circle of this camera"
            )
        for channel in range(3):
            image[..., channel] *= sky
        return image, sky


@lru_cache(maxsize=16)
def _sky_mask(shape: tuple[int, int], circle: Circle | None) -> np.ndarray:
    """Return the read-only mask of sky pixels.

    All frames of a camera share this array.
    """
    sky = np.ones(shape, bool) if circle is None else circle_mask(shape, circle)
    sky.setflags(write=False)
    return sky


def batch_size_for(model: GeoModel) -> int:
    """Return the fastest batch size of a model on one thread.

    It is 16 for frames of 128 x 128 pixels. Measured with ResNet-18 and MobileNetV2 at 128 and 224 pixels:
    the speed of ResNet-18 is constant from 8 frames on. MobileNetV2 has larger feature maps and takes a fifth
    longer for 16 frames of 224 x 224 pixels than for 8.

    Args:
        model: Model of one image.

    Returns:
        Number of frames, 8 to 64.
    """
    height, width = model.inputs[0].size or (256, 256)
    return min(max(MAX_BATCH_PIXELS // (height * width), 8), 64)


def predict_rows(
    model: GeoModel,
    paths: Iterable[str],
    frame_config: FrameConfig,
    *,
    batch_size: int | None = None,
    precision: str = "auto",
) -> list[Row]:
    """Return a row for each frame of some files, in their order.

    A file that ends prematurely has one more row, with the error. Batches span several files, since a file
    may contain a single frame.

    Args:
        model: Classifier.
        paths: Local paths, or addresses that fsspec supports.
        frame_config: Configuration of how frames are read.
        batch_size: Number of frames in a forward pass. Default: `batch_size_for` the model.
        precision: Precision, as for `GeoModel.predict`. Default: ``"auto"``.
    """
    assert isinstance(model.target, ClassTarget)
    batch = _Batch(optimize_model(model, precision), model.target, batch_size or batch_size_for(model))
    rows: list[Row] = []
    for path in paths:
        rows += _predict_file_rows(path, frame_config, batch)
    batch.predict()
    _add_sun_and_moon(rows, frame_config)
    return rows


@dataclass(frozen=True)
class FrameRowProducer:
    """Produce the rows of all-sky frames for `geovision.inference.run_archive`.

    Args:
        frame_config: Configuration of how frames are read.
    """

    frame_config: FrameConfig

    @property
    def columns(self) -> Mapping[str, str]:
        """Names and Arrow types of the columns that are specific to frames."""
        return COLUMNS

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the boolean columns."""
        return FLAGS

    def describe(self) -> dict[str, Any]:
        """Return the configuration for the manifest, see `FrameConfig.from_dict`."""
        return asdict(self.frame_config)

    def check_files(self, paths: Sequence[str]) -> None:
        """Read the first frame of the first readable file.

        Args:
            paths: Files spread evenly over the archive.

        Raises:
            InputError: If no file can be read, or if the frame does not fit the configuration.
        """
        problem = ""
        for path in paths:
            try:
                frame = next(read_frames(path, self.frame_config.pattern), None)
            except InputError as error:
                problem = problem or str(error)
            else:
                if frame is not None:
                    self.frame_config.image(frame)
                    return
        raise InputError(
            f"none of {len(paths)} sample files of the archive can be read. Error of the first: {problem}"
        )

    def rows(self, model: GeoModel, paths: Iterable[str], *, batch_size: int, precision: str) -> list[Row]:
        """Return a row for each frame of some files, see `predict_rows`.

        Args:
            model: Classifier.
            paths: Local paths, or addresses that fsspec supports.
            batch_size: Number of frames in a forward pass.
            precision: Precision, as for `GeoModel.predict`.
        """
        return predict_rows(model, paths, self.frame_config, batch_size=batch_size, precision=precision)


def _predict_file_rows(path: str, frame_config: FrameConfig, batch: _Batch) -> list[Row]:
    rows: list[Row] = []
    try:
        for frame in read_frames(path, frame_config.pattern):
            row = _metadata_row(frame, batch.target)
            rows.append(row)
            try:
                image = _prepare_image(frame, frame_config, row)
                batch.add(row, image, is_gray=frame.pixels.ndim == 2)
            except InputError as error:
                row["error"], row["unreadable"] = str(error), True
    except InputError as broken:
        rows.append(_empty_row(path, len(rows), batch.target, str(broken)))
        for row in rows:
            row["damaged_file"] = True
    _flag_clock_jumps(rows)
    return rows


def read_frames(path: str, pattern: str | None) -> Iterator[Frame]:
    """Yield the frames of a local or remote file.

    Args:
        path: Local path, or address that fsspec supports.
        pattern: Pattern of file names; None if the metadata of the file are used.

    Yields:
        Frames in the order of the file.

    Raises:
        InputError: If the file or the address cannot be read; see `geovision.readers.allsky.frames`.
        MissingExtraError: If astropy is not installed and the file is a FITS file.
    """
    if "://" not in path:
        yield from frames(path, pattern=pattern)
        return
    import fsspec

    try:
        with fsspec.open(path, "rb") as stream:
            yield from frames(stream, pattern=pattern, name=path)
    except GeovisionError:
        raise
    except Exception as error:  # remote file systems raise exceptions of any type
        raise InputError(f"{path}: could not be read ({error})") from error


# --- predictions --------------------------------------------------------------------------------


class _Batch:
    """Images that wait for a forward pass, with their rows."""

    def __init__(self, optimized: OptimizedModel, target: ClassTarget, size: int) -> None:
        self.target = target
        self._optimized, self._size = optimized, size
        self._pending: list[tuple[Row, np.ndarray, bool]] = []

    def add(self, row: Row, image: np.ndarray, *, is_gray: bool) -> None:
        """Add an image (y, x, 3) at its original size.

        The row is filled by `predict`.
        """
        spec = self._optimized.specs[0]
        counts = rgb_counts(Image.fromarray(image), spec, spec.size, where=row["path"])
        if self._pending and self._pending[0][1].shape != counts.shape:
            self.predict()
        self._pending.append((row, counts, is_gray))
        if len(self._pending) == self._size:
            self.predict()

    def predict(self) -> None:
        """Predict the pending images and fill their rows."""
        if not self._pending:
            return
        images = torch.from_numpy(np.stack([counts for _, counts, _ in self._pending]))
        head = self._optimized.head
        values, features = self._optimized({self._optimized.specs[0].name: images}, {})
        probabilities = head.probabilities(values)
        scores = head.outlier(features).tolist() if head.outlier.fitted else [None] * len(features)
        for (row, _, is_gray), own, score in zip(self._pending, probabilities, scores, strict=True):
            _fill_prediction(row, self.target, own, is_gray)
            row["outlier_score"] = score
            row["outside_domain"] = True if is_gray else None if score is None else score > 1
        self._pending.clear()


def _fill_prediction(row: Row, target: ClassTarget, probabilities: torch.Tensor, is_gray: bool) -> None:
    """Set label and probabilities of a row.

    Color-dependent classes of a gray frame get the probability 0.
    """
    if is_gray and target.color_dependent:
        excluded = [target.classes.index(name) for name in target.color_dependent]
        probabilities = probabilities.clone()
        probabilities[excluded] = 0
        probabilities = probabilities / probabilities.sum()
    values = probabilities.tolist()
    best = max(range(len(values)), key=values.__getitem__)
    row["label"], row["confidence"] = target.classes[best], values[best]
    row |= {f"p_{name}": value for name, value in zip(target.classes, values, strict=True)}


def _prepare_image(frame: Frame, frame_config: FrameConfig, row: Row) -> np.ndarray:
    """Return the model's image (y, x, 3) and set exposure flags."""
    image, sky = frame_config.image(frame)
    row["dark"] = _fraction(image >= DARK, sky) < LIGHT
    full = np.iinfo(frame.pixels.dtype).max if frame.pixels.dtype.kind == "u" else np.inf
    row["saturated"] = _fraction(frame.pixels >= full, sky) >= MAX_SATURATED_FRACTION
    return image


def _fraction(condition: np.ndarray, sky_mask: np.ndarray) -> float:
    """Return the fraction of sky pixels where a condition is true.

    The condition has the shape (y, x) or (y, x, color). In the second case it has to be true in any color.
    """
    if condition.ndim == 3:
        # NumPy is several times slower when it reduces along an axis of length three.
        condition = np.logical_or.reduce([condition[..., channel] for channel in range(condition.shape[2])])
    return np.count_nonzero(condition & sky_mask) / np.count_nonzero(sky_mask)


# --- metadata -----------------------------------------------------------------------------------


def _empty_row(path: str, frame: int, target: ClassTarget, error: str = "") -> Row:
    row: Row = {
        "time": None,
        "station": None,
        "device": None,
        "path": path,
        "frame": frame,
        "exposure": None,
        "label": None,
        "confidence": None,
    }
    row |= {f"p_{name}": None for name in target.classes}
    row |= {"outlier_score": None, "sun_elevation": None, "moon_elevation": None}
    row |= dict.fromkeys(FLAGS)
    return row | {"unreadable": bool(error), "damaged_file": False, "error": error or None, "place": None}


def _metadata_row(frame: Frame, target: ClassTarget) -> Row:
    row = _empty_row(frame.path, frame.index, target)
    time = frame.time.replace(tzinfo=None) if frame.time else None
    place = None if frame.latitude is None or frame.longitude is None else (frame.latitude, frame.longitude)
    return row | {
        "time": time,
        "station": frame.station,
        "device": frame.device,
        "exposure": frame.exposure,
        "place": place,
    }


def _flag_clock_jumps(rows: list[Row]) -> None:
    """Set the clock flag of frames after a backward jump.

    Jumps are detected within one file, separately for each camera.
    """
    cameras: dict[Any, list[Row]] = {}
    for row in rows:
        if row["time"] is not None:
            cameras.setdefault((row["station"], row["device"]), []).append(row)
    for own in cameras.values():
        for row, jump in zip(own, clock_jumps([row["time"] for row in own]), strict=True):
            row["clock_jump"] = bool(jump)


def _add_sun_and_moon(rows: list[Row], frame_config: FrameConfig) -> None:
    """Set solar and lunar elevations of rows with a known place."""
    places: dict[tuple[float, float], list[Row]] = {}
    for row in rows:
        place = row["place"] or frame_config.sites.get(row["station"] or "", frame_config.sites.get(""))
        if place is not None and row["time"] is not None:
            places.setdefault(place, []).append(row)
    for (latitude, longitude), own in places.items():
        times = np.array([row["time"] for row in own], dtype="datetime64[us]")
        try:
            sun, moon = (f(times, latitude, longitude) for f in (sun_elevation, moon_elevation))
        except MissingExtraError:
            return
        for row, high, moon_high in zip(own, sun, moon, strict=True):
            row |= {
                "sun_elevation": float(high),
                "twilight": bool(high > TWILIGHT_ELEVATION),
                "moon_elevation": float(moon_high),
                "moon_up": bool(moon_high > 0),
            }
