"""Options of the commands for all-sky frames: file names, calibration and selection."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from geovision.cli._output import print_status
from geovision.errors import OptionError

if TYPE_CHECKING:
    from geovision.allsky import FrameConfig
    from geovision.allsky._keogram import FrameSelection
    from geovision.readers.allsky import Circle, Stretch

__all__ = [
    "PREFIX_HELP",
    "BeginOption",
    "ChannelsOption",
    "CircleOption",
    "EndOption",
    "PatternOption",
    "SiteOption",
    "StationOption",
    "StretchOption",
    "parse_frame_config",
    "parse_frame_selection",
    "parse_sites",
    "resolve_frame_config",
]

Value = TypeVar("Value")

ESTIMATE, FIND = "estimate", "find"


class Channels(enum.StrEnum):
    """Declared color channels of the frames."""

    grey = "grey"


PatternOption = Annotated[
    str | None,
    typer.Option(
        help="Pattern of the file names, with station and time, such as '{station}_%Y%m%d_%H%M%S.jpg'."
    ),
]
ChannelsOption = Annotated[
    Channels | None,
    typer.Option(help="Declaration that frames are gray, for a model of color images."),
]
StretchOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LOW:HIGH",
        help="Counts of black and white. CAMERA=LOW:HIGH or STATION=LOW:HIGH for one camera or station; "
        "'estimate': derived from the frames. May be repeated.",
    ),
]
CircleOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X,Y,R",
        help="Center and radius of the sky disk, in pixels. CAMERA=X,Y,R or STATION=X,Y,R for one camera or "
        "station; 'find': derived from the frames. May be repeated.",
    ),
]
SiteOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LAT,LON",
        help="Site in degrees north and east, for files that do not contain it. STATION=LAT,LON for one "
        "station. May be repeated.",
    ),
]

StationOption = Annotated[str | None, typer.Option(help="Code of the station. Default: all stations.")]
BeginOption = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="Begin in UTC, such as 2014-03-10T06:00.")
]
EndOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="End in UTC, exclusive.")]

PREFIX_HELP = "Path of PREFIX.png and PREFIX.csv, without extension."
"""Help text of the option for result files."""


def parse_frame_config(
    pattern: str | None,
    channels: Channels | None,
    stretch: Sequence[str] | None,
    circle: Sequence[str] | None,
    site: Sequence[str] | None,
) -> FrameConfig:
    """Return the frame configuration that the options declare.

    The values ``estimate`` and ``find`` are skipped here; see `resolve_frame_config`.

    Args:
        pattern: Pattern of the file names.
        channels: Declared channels of the frames.
        stretch: Values of ``--stretch``.
        circle: Values of ``--circle``.
        site: Values of ``--site``.

    Returns:
        Configuration without calibration from the frames.

    Raises:
        OptionError: If a value is invalid.
    """
    from geovision.allsky import FrameConfig
    from geovision.readers.allsky import NamePattern

    if pattern is not None:
        NamePattern(pattern)
    return FrameConfig(
        pattern,
        channels.value if channels else None,
        _parse_by_camera(
            "--stretch", "LOW:HIGH", [text for text in stretch or () if text != ESTIMATE], _parse_stretch
        ),
        _parse_by_camera("--circle", "X,Y,R", [text for text in circle or () if text != FIND], _parse_circle),
        parse_sites(site),
    )


def resolve_frame_config(
    frame_config: FrameConfig,
    source: Sequence[str],
    out: Path,
    stretch: Sequence[str] | None,
    circle: Sequence[str] | None,
) -> FrameConfig:
    """Complete a frame configuration with stretches and circles derived from the frames.

    An existing table provides the values with which it was created. Otherwise the frames are read, and
    the result is printed to standard error.

    Args:
        frame_config: Configuration declared by the options.
        source: Files, folders or patterns of the frames.
        out: Folder of the table.
        stretch: Values of ``--stretch``; ``estimate`` requests a stretch for each camera.
        circle: Values of ``--circle``; ``find`` requests a circle for each camera.

    Returns:
        Complete configuration.
    """
    wanted = {ESTIMATE: ESTIMATE in (stretch or ()), FIND: FIND in (circle or ())}
    if not any(wanted.values()):
        return frame_config
    from geovision.allsky.camera_calibration import calibrate_cameras
    from geovision.allsky.frames import FrameConfig as Stored
    from geovision.inference.table import ArchiveTable

    table = ArchiveTable(out)
    if table.exists():
        known = Stored.from_dict(table.read_manifest()["reading"])
        print_status(f"using the options stored in the table {out}: {_format_options(known)}")
        return dataclasses.replace(
            frame_config,
            stretches=known.stretches if wanted[ESTIMATE] else frame_config.stretches,
            circles=known.circles if wanted[FIND] else frame_config.circles,
        )
    found = calibrate_cameras(source, frame_config, stretch=wanted[ESTIMATE], circle=wanted[FIND])
    for camera, number in found.num_frames.items():
        print_status(f"calibrated {camera or 'a camera without a name'} from {number} frames")
    complete = found.merge_into(frame_config)
    print_status(_format_options(complete))
    return complete


def parse_sites(site: Sequence[str] | None) -> dict[str, tuple[float, float]]:
    """Return latitude and longitude by station.

    Args:
        site: Values of ``--site``: ``LAT,LON`` or ``STATION=LAT,LON``, in degrees.

    Returns:
        Latitude and longitude by station code. The key ``""`` applies to all stations.

    Raises:
        OptionError: If a value is invalid.
    """
    return _parse_by_camera("--site", "LAT,LON", site or (), _parse_site)


def parse_frame_selection(
    station: str | None, device: str | None, date: str | None, begin: str | None, end: str | None
) -> FrameSelection:
    """Return the selection of frames that the options declare.

    Args:
        station: Code of the station. None: all stations.
        device: Code of the camera. None: all cameras.
        date: Day in UTC, instead of `begin` and `end`.
        begin: Begin in UTC.
        end: End in UTC, exclusive.

    Returns:
        Selection of frames by station, camera and time.

    Raises:
        OptionError: If a time is invalid, or times exclude each other.
    """
    from geovision.allsky._keogram import FrameSelection

    if date and (begin or end):
        raise OptionError("--date is a whole day and excludes --from and --to; pass one or the other")
    if date:
        day = _parse_time("--date", date)
        return FrameSelection(station, device, day, day + datetime.timedelta(days=1))
    first, last = (
        _parse_time(option, text) if text else None for option, text in (("--from", begin), ("--to", end))
    )
    if first and last and first >= last:
        raise OptionError(f"--from {begin} is not before --to {end}; pass an earlier begin")
    return FrameSelection(station, device, first, last)


def _parse_time(option: str, text: str) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise OptionError(
            f"{option} {text!r} is not a time; expected a form such as 2014-03-10 or 2014-03-10T06:00"
        ) from error
    return time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time.astimezone(datetime.UTC)


def _parse_by_camera(
    option: str, metavar: str, texts: Sequence[str], parse: Callable[[str], Value]
) -> dict[str, Value]:
    table = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            table[name] = parse(value)
        except OptionError as error:
            raise OptionError(f"{option} {text}: {error}") from error
        except (ValueError, TypeError) as error:
            raise OptionError(
                f"{option} {text!r} is invalid; expected {metavar} or NAME={metavar}"
            ) from error
    return table


def _parse_stretch(text: str) -> Stretch:
    from geovision.readers.allsky import Stretch

    return Stretch(*_parse_numbers(text, ":", (2, 3)))


def _parse_circle(text: str) -> Circle:
    from geovision.readers.allsky import Circle

    return Circle(*_parse_numbers(text, ",", (3,)))


def _parse_site(text: str) -> tuple[float, float]:
    latitude, longitude = _parse_numbers(text, ",", (2,))
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 360):
        raise OptionError("expected a latitude of -90 to 90 and a longitude of -180 to 360")
    return latitude, longitude if longitude <= 180 else longitude - 360


def _parse_numbers(text: str, separator: str, count: tuple[int, ...]) -> list[float]:
    values = [float(part) for part in text.split(separator)]
    if len(values) not in count:
        raise ValueError(text)
    return values


def _format_options(frame_config: FrameConfig) -> str:
    """Format stretches and circles as command-line options."""
    parts = [
        f"--stretch {f'{camera}=' if camera else ''}{each.low:g}:{each.high:g}"
        + ("" if each.gamma == 1 else f":{each.gamma:g}")
        for camera, each in frame_config.stretches.items()
    ]
    parts += [
        f"--circle {f'{camera}=' if camera else ''}{each.x:.1f},{each.y:.1f},{each.radius:.1f}"
        for camera, each in frame_config.circles.items()
    ]
    return " ".join(parts) or "no stretch and no circle"
