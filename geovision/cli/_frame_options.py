"""How frames are read, as it is said on the command line."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from geovision.cli._output import say
from geovision.errors import OptionError

if TYPE_CHECKING:
    from geovision.allsky import FrameConfig
    from geovision.readers.allsky import Circle, Stretch

__all__ = [
    "ChannelsOption", "CircleOption", "PatternOption", "SiteOption", "StretchOption",
    "declared", "parse_sites", "surveyed",
]  # fmt: skip

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


def declared(
    pattern: str | None, channels: Channels | None, stretch: Sequence[str] | None,
    circle: Sequence[str] | None, site: Sequence[str] | None,
) -> FrameConfig:  # fmt: skip
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
        _table("--stretch", "LOW:HIGH", [text for text in stretch or () if text != ESTIMATE], _stretch),
        _table("--circle", "X,Y,R", [text for text in circle or () if text != FIND], _circle),
        parse_sites(site),
    )


def surveyed(
    reading: FrameConfig, source: Sequence[str], out: Path, stretch: Sequence[str] | None,
    circle: Sequence[str] | None,
) -> FrameConfig:  # fmt: skip
    """The same with what the options leave to a survey: as the table has it, or found now and told."""
    wanted = {ESTIMATE: ESTIMATE in (stretch or ()), FIND: FIND in (circle or ())}
    if not any(wanted.values()):
        return reading
    from geovision.allsky.camera_calibration import survey
    from geovision.allsky.frames import FrameConfig as Stored
    from geovision.inference.table import Table

    table = Table(out)
    if table.begun():
        known = Stored.restored(table.manifest()["reading"])
        say(f"as the table in {out} was begun: {_told(known)}")
        return dataclasses.replace(
            reading,
            stretches=known.stretches if wanted[ESTIMATE] else reading.stretches,
            circles=known.circles if wanted[FIND] else reading.circles,
        )
    found = survey(source, reading, stretch=wanted[ESTIMATE], circle=wanted[FIND])
    for camera, number in found.frames.items():
        say(f"surveyed {number} frames of {camera or 'a camera without a name'}")
    complete = found.added_to(reading)
    say(_told(complete))
    return complete


def parse_sites(site: Sequence[str] | None) -> dict[str, tuple[float, float]]:
    """Latitude and longitude by station, ``""`` for all.

    Raises:
        OptionError: One that cannot be understood.
    """
    return _table("--site", "LAT,LON", site or (), _site)


def _table(option: str, form: str, texts: Sequence[str], parse: Callable[[str], Value]) -> dict[str, Value]:
    table = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            table[name] = parse(value)
        except OptionError as error:
            raise OptionError(f"{option} {text}: {error}") from error
        except (ValueError, TypeError) as error:
            raise OptionError(f"{option} {text!r} is not understood; give {form} or NAME={form}") from error
    return table


def _stretch(text: str) -> Stretch:
    from geovision.readers.allsky import Stretch

    return Stretch(*_numbers(text, ":", (2, 3)))


def _circle(text: str) -> Circle:
    from geovision.readers.allsky import Circle

    return Circle(*_numbers(text, ",", (3,)))


def _site(text: str) -> tuple[float, float]:
    latitude, longitude = _numbers(text, ",", (2,))
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 360):
        raise OptionError("latitudes are -90 to 90, longitudes -180 to 360")
    return latitude, longitude if longitude <= 180 else longitude - 360


def _numbers(text: str, between: str, number: tuple[int, ...]) -> list[float]:
    values = [float(part) for part in text.split(between)]
    if len(values) not in number:
        raise ValueError(text)
    return values


def _told(reading: FrameConfig) -> str:
    """Stretches and circles as they would be declared."""
    parts = [
        f"--stretch {f'{camera}=' if camera else ''}{each.low:g}:{each.high:g}"
        + ("" if each.gamma == 1 else f":{each.gamma:g}")
        for camera, each in reading.stretches.items()
    ]
    parts += [
        f"--circle {f'{camera}=' if camera else ''}{each.x:.1f},{each.y:.1f},{each.radius:.1f}"
        for camera, each in reading.circles.items()
    ]
    return " ".join(parts) or "nothing declared"
