"""Options of the commands for all-sky frames: how frames are read, and which are selected."""

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
    """What the channels of a grey frame are declared to be."""

    grey = "grey"


PatternOption = Annotated[
    str | None,
    typer.Option(help="Where file names hold the time, such as '{station}_%Y%m%d_%H%M%S.jpg'."),
]
ChannelsOption = Annotated[
    Channels | None, typer.Option(help="Declares that grey frames are given to a model of colour pictures.")
]
StretchOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LOW:HIGH",
        help="Counts that are black and white; CAMERA=LOW:HIGH or STATION=LOW:HIGH for one of them, "
        "'estimate' to survey the archive. May be repeated.",
    ),
]
CircleOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X,Y,R",
        help="The lit disk, pixels; CAMERA=X,Y,R for one, 'find' to survey the archive. May be repeated.",
    ),
]
SiteOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LAT,LON",
        help="Degrees north and east, where the files do not say; STATION=LAT,LON for one. May be repeated.",
    ),
]

StationOption = Annotated[str | None, typer.Option(help="Code of the station. Default: all.")]
BeginOption = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="First time in UTC, such as 2014-03-10T06:00.")
]
EndOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="End in UTC, not included.")]

PREFIX_HELP = "Path without extension: PREFIX.png and PREFIX.csv are written."
"""Help text of the option for result files."""


def parse_frame_config(
    pattern: str | None,
    channels: Channels | None,
    stretch: Sequence[str] | None,
    circle: Sequence[str] | None,
    site: Sequence[str] | None,
) -> FrameConfig:
    """What the options declare, without what is to be found in a survey.

    Raises:
        OptionError: One that cannot be understood.
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
    """The same with what the options leave to a survey: as the table has it, or found now and told."""
    wanted = {ESTIMATE: ESTIMATE in (stretch or ()), FIND: FIND in (circle or ())}
    if not any(wanted.values()):
        return frame_config
    from geovision.allsky.camera_calibration import calibrate_cameras
    from geovision.allsky.frames import FrameConfig as Stored
    from geovision.inference.table import ArchiveTable

    table = ArchiveTable(out)
    if table.exists():
        known = Stored.from_dict(table.read_manifest()["reading"])
        print_status(f"as the table in {out} was begun: {_format_options(known)}")
        return dataclasses.replace(
            frame_config,
            stretches=known.stretches if wanted[ESTIMATE] else frame_config.stretches,
            circles=known.circles if wanted[FIND] else frame_config.circles,
        )
    found = calibrate_cameras(source, frame_config, stretch=wanted[ESTIMATE], circle=wanted[FIND])
    for camera, number in found.num_frames.items():
        print_status(f"surveyed {number} frames of {camera or 'a camera without a name'}")
    complete = found.merge_into(frame_config)
    print_status(_format_options(complete))
    return complete


def parse_sites(site: Sequence[str] | None) -> dict[str, tuple[float, float]]:
    """Latitude and longitude by station, ``""`` for all.

    Raises:
        OptionError: One that cannot be understood.
    """
    return _parse_by_camera("--site", "LAT,LON", site or (), _parse_site)


def parse_frame_selection(
    station: str | None, device: str | None, date: str | None, begin: str | None, end: str | None
) -> FrameSelection:
    """Return the selection of frames that the options declare.

    Args:
        station: Code of the station. None: all.
        device: Code of the camera. None: all.
        date: Day in UTC, instead of `begin` and `end`.
        begin: First time in UTC.
        end: End in UTC, not included.

    Raises:
        OptionError: A time that cannot be read, or times that exclude each other.
    """
    from geovision.allsky._keogram import FrameSelection

    if date and (begin or end):
        raise OptionError("--date is a whole day; leave it out, or --from and --to")
    if date:
        day = _parse_time("--date", date)
        return FrameSelection(station, device, day, day + datetime.timedelta(days=1))
    first, last = (
        _parse_time(option, text) if text else None for option, text in (("--from", begin), ("--to", end))
    )
    if first and last and first >= last:
        raise OptionError(f"--from {begin} is not before --to {end}")
    return FrameSelection(station, device, first, last)


def _parse_time(option: str, text: str) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise OptionError(
            f"{option} {text!r} is no time; give it as 2014-03-10 or 2014-03-10T06:00"
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
                f"{option} {text!r} is not understood; give {metavar} or NAME={metavar}"
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
        raise OptionError("latitudes are -90 to 90, longitudes -180 to 360")
    return latitude, longitude if longitude <= 180 else longitude - 360


def _parse_numbers(text: str, separator: str, count: tuple[int, ...]) -> list[float]:
    values = [float(part) for part in text.split(separator)]
    if len(values) not in count:
        raise ValueError(text)
    return values


def _format_options(frame_config: FrameConfig) -> str:
    """Stretches and circles as they would be declared."""
    parts = [
        f"--stretch {f'{camera}=' if camera else ''}{each.low:g}:{each.high:g}"
        + ("" if each.gamma == 1 else f":{each.gamma:g}")
        for camera, each in frame_config.stretches.items()
    ]
    parts += [
        f"--circle {f'{camera}=' if camera else ''}{each.x:.1f},{each.y:.1f},{each.radius:.1f}"
        for camera, each in frame_config.circles.items()
    ]
    return " ".join(parts) or "nothing declared"
