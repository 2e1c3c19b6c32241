"""From files of frames to rows of a table: what a model says, and what speaks against it."""

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
"""Columns that are true where a row should not be relied on; empty where it cannot be known."""

COLUMNS: Mapping[str, str] = {
    "device": "string",
    "exposure": "float32",
    "sun_elevation": "float32",
    "moon_elevation": "float32",
}
"""Columns of a table of frames beside those of every archive, and their Arrow types."""

MAX_BATCH_PIXELS = 2**18
"""Of the frames of a forward pass together: on one thread, more fall out of the processor's cache, and with
fewer the calls themselves take time."""

TWILIGHT_ELEVATION = -12.0
"""Degrees: above this elevation the sun lights a clear sky enough to be seen by these cameras."""

MAX_SATURATED_FRACTION = 0.02
"""Share of the lit pixels at full scale from which a frame counts as saturated."""

DARK, LIGHT = 3, 0.01
"""A frame of which less than this share of the lit pixels reaches 3 of 255 shows nothing."""


@dataclass(frozen=True)
class FrameConfig:
    """How the frames of an archive are read; the same for all of them.

    Args:
        pattern: Where file names hold time and station; see `geovision.readers.allsky.NamePattern`.
        channels: ``"grey"`` declares that grey frames are given to a model of colour pictures.
        stretches: Counts to brightness, by camera (``"gill/themis19"`` or ``"themis19"``), by station
            (``"gill"``), or ``""`` for all.
        circles: The lit disk, likewise; outside of it a frame is black.
        sites: Latitude and longitude by station, or ``""``, where the files do not say.
    """

    pattern: str | None = None
    channels: str | None = None
    stretches: Mapping[str, Stretch] = field(default_factory=dict)
    circles: Mapping[str, Circle] = field(default_factory=dict)
    sites: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> FrameConfig:
        """From what `dataclasses.asdict` gave, after a way through JSON."""
        return cls(
            stored["pattern"],
            stored["channels"],
            {key: Stretch(**value) for key, value in stored["stretches"].items()},
            {key: Circle(**value) for key, value in stored["circles"].items()},
            {key: (float(value[0]), float(value[1])) for key, value in stored["sites"].items()},
        )

    @staticmethod
    def camera_key(frame: Frame) -> str:
        """The name under which a table holds what is of one camera alone: ``"gill/themis19"``."""
        return "/".join(name for name in (frame.station, frame.device) if name)

    def lookup(self, table: Mapping[str, Any], frame: Frame) -> Any:
        """The entry that holds for a frame: its camera's, its station's, or that of all."""
        for name in (self.camera_key(frame), frame.device, frame.station, ""):
            if name is not None and name in table:
                return table[name]
        return None

    def image(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """A frame as it is shown to a model, and which of its pixels are of the sky.

        Returns:
            uint8 ``(y, x, 3)``, black outside the circle, and bool ``(y, x)``.

        Raises:
            InputError: Counts without a stretch, a grey frame that is not declared, a colour one that
                is, or a circle that lies beside the frame.
        """
        picture = to_rgb(frame, self.lookup(self.stretches, frame), self.channels).transpose(1, 2, 0)  # type: ignore[arg-type]
        circle = self.lookup(self.circles, frame)
        lit = _sky_mask(picture.shape[:2], circle)
        if circle is None:
            return picture, lit
        if not lit.any():
            raise InputError(f"{frame.path}: the circle lies outside the frame of {lit.shape} pixels")
        for colour in range(3):
            picture[..., colour] *= lit
        return picture, lit


@lru_cache(maxsize=16)
def _sky_mask(shape: tuple[int, int], circle: Circle | None) -> np.ndarray:
    """The same for every frame of a camera, and not to be written to."""
    lit = np.ones(shape, bool) if circle is None else circle_mask(shape, circle)
    lit.setflags(write=False)
    return lit


def batch_size_for(model: GeoModel) -> int:
    """How many frames of a model's size are best answered together by one thread: 16 of 128 x 128 pixels.

    Measured with ResNet-18 and MobileNetV2 at 128 and 224: from 8 frames on the first does not care; the
    second, whose maps are large, takes a fifth longer for 16 frames of 224 x 224 than for 8.
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
    """A row for each frame of some files, in their order, and one more where a file breaks off.

    Frames are answered in batches across files, since a file may hold one only.

    Args:
        model: Of one class out of several.
        paths: Local, or addresses that fsspec knows.
        batch_size: Frames a forward pass; None: `batch_size_for` the model.
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
        """Names and Arrow types of the columns that only frames have."""
        return COLUMNS

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the boolean columns."""
        return FLAGS

    def describe(self) -> dict[str, Any]:
        """Return the configuration for the manifest, see `FrameConfig.from_dict`."""
        return asdict(self.frame_config)

    def check_files(self, paths: Sequence[str]) -> None:
        """Read the first frame of the first file that can be read.

        Raises:
            InputError: No file can be read, or a frame does not fit the configuration.
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
            f"none of {len(paths)} files, spread over the archive, can be read; the first: {problem}"
        )

    def rows(self, model: GeoModel, paths: Iterable[str], *, batch_size: int, precision: str) -> list[Row]:
        """Return a row for each frame of some files, see `predict_rows`."""
        return predict_rows(model, paths, self.frame_config, batch_size=batch_size, precision=precision)


def _predict_file_rows(path: str, frame_config: FrameConfig, batch: _Batch) -> list[Row]:
    rows: list[Row] = []
    try:
        for frame in read_frames(path, frame_config.pattern):
            row = _metadata_row(frame, batch.target)
            rows.append(row)
            try:
                picture = _prepare_image(frame, frame_config, row)
                batch.add(row, picture, is_gray=frame.pixels.ndim == 2)
            except InputError as error:
                row["error"], row["unreadable"] = str(error), True
    except InputError as broken:
        rows.append(_empty_row(path, len(rows), batch.target, str(broken)))
        for row in rows:
            row["damaged_file"] = True
    _flag_clock_jumps(rows)
    return rows


def read_frames(path: str, pattern: str | None) -> Iterator[Frame]:
    """The frames of a file, local or at an address that fsspec knows.

    Raises:
        InputError: As `geovision.readers.allsky.frames`; or the address cannot be read.
        MissingExtraError: A FITS file without astropy.
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
    except Exception as error:  # systems behind a network raise anything
        raise InputError(f"{path}: could not be read ({error})") from error


# --- what the model says ------------------------------------------------------------------------


class _Batch:
    """Pictures that wait for a forward pass, and the rows that their answers belong to."""

    def __init__(self, optimized: OptimizedModel, target: ClassTarget, size: int) -> None:
        self.target = target
        self._optimized, self._size = optimized, size
        self._pending: list[tuple[Row, np.ndarray, bool]] = []

    def add(self, row: Row, image: np.ndarray, *, is_gray: bool) -> None:
        """Take a picture ``(y, x, 3)``, at the size of its file; its row is filled in later."""
        spec = self._optimized.specs[0]
        counts = rgb_counts(Image.fromarray(image), spec, spec.size, where=row["path"])
        if self._pending and self._pending[0][1].shape != counts.shape:
            self.predict()
        self._pending.append((row, counts, is_gray))
        if len(self._pending) == self._size:
            self.predict()

    def predict(self) -> None:
        """Fill in the rows that wait."""
        if not self._pending:
            return
        pictures = torch.from_numpy(np.stack([counts for _, counts, _ in self._pending]))
        head = self._optimized.head
        values, features = self._optimized({self._optimized.specs[0].name: pictures}, {})
        probabilities = head.probabilities(values)
        scores = head.outlier(features).tolist() if head.outlier.fitted else [None] * len(features)
        for (row, _, grey), own, score in zip(self._pending, probabilities, scores, strict=True):
            _fill_prediction(row, self.target, own, grey)
            row["outlier_score"] = score
            row["outside_domain"] = True if grey else None if score is None else score > 1
        self._pending.clear()


def _fill_prediction(row: Row, target: ClassTarget, probabilities: torch.Tensor, is_gray: bool) -> None:
    """Label and probabilities; a grey frame is never of a class that is told by its colour."""
    if is_gray and target.color_dependent:
        colours = [target.classes.index(name) for name in target.color_dependent]
        probabilities = probabilities.clone()
        probabilities[colours] = 0
        probabilities = probabilities / probabilities.sum()
    values = probabilities.tolist()
    best = max(range(len(values)), key=values.__getitem__)
    row["label"], row["confidence"] = target.classes[best], values[best]
    row |= {f"p_{name}": value for name, value in zip(target.classes, values, strict=True)}


def _prepare_image(frame: Frame, frame_config: FrameConfig, row: Row) -> np.ndarray:
    """What the model is shown, ``(y, x, 3)``; what this says of the exposure goes into the row."""
    picture, lit = frame_config.image(frame)
    row["dark"] = _fraction(picture >= DARK, lit) < LIGHT
    full = np.iinfo(frame.pixels.dtype).max if frame.pixels.dtype.kind == "u" else np.inf
    row["saturated"] = _fraction(frame.pixels >= full, lit) >= MAX_SATURATED_FRACTION
    return picture


def _fraction(condition: np.ndarray, sky_mask: np.ndarray) -> float:
    """Of the lit pixels, those where some colour of ``(y, x)`` or ``(y, x, colour)`` is true."""
    if condition.ndim == 3:
        # One by one: along an axis of three NumPy takes several times as long.
        condition = np.logical_or.reduce([condition[..., colour] for colour in range(condition.shape[2])])
    return np.count_nonzero(condition & sky_mask) / np.count_nonzero(sky_mask)


# --- what is known about a frame ----------------------------------------------------------------


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
    """Where the clock of a camera jumped back, within one file."""
    cameras: dict[Any, list[Row]] = {}
    for row in rows:
        if row["time"] is not None:
            cameras.setdefault((row["station"], row["device"]), []).append(row)
    for own in cameras.values():
        for row, jump in zip(own, clock_jumps([row["time"] for row in own]), strict=True):
            row["clock_jump"] = bool(jump)


def _add_sun_and_moon(rows: list[Row], frame_config: FrameConfig) -> None:
    """Where sun and moon stand, where the place is known."""
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
