"""Time, station and camera in the name of a file."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field

from geovision.errors import InputError, OptionError

__all__ = ["CALGARY", "FilenameInfo", "NamePattern"]

_DIRECTIVES = {
    "Y": r"\d{4}",
    "y": r"\d{2}",
    "m": r"\d{2}",
    "b": r"[A-Za-z]{3}",
    "d": r"\d{2}",
    "j": r"\d{3}",
    "H": r"\d{2}",
    "M": r"\d{2}",
    "S": r"\d{2}",
    "f": r"\d{1,6}",
}
_FIELDS = ("station", "device")
_TOKEN = re.compile(r"%(.)|\{(\w*)\}|(\*)|(.)", re.DOTALL)
# Directives that make a complete time; strptime sets missing parts to January and midnight.
_COMPLETE_TIMES = (("Y", "m", "d", "H"), ("Y", "b", "d", "H"), ("Y", "j", "H"))


@dataclass(frozen=True)
class FilenameInfo:
    """Time, station and camera of a file name.

    Attributes:
        time: Time, with the time zone UTC; None if the name has none.
        station: Code of the station; None if the name has none.
        device: Code of the camera; None if the name has none.
    """

    time: datetime.datetime | None = None
    station: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class NamePattern:
    """Pattern of file names with UTC time, station and camera.

    Station and camera are optional. ``%Y %y %m %b %d %j %H %M %S %f`` have the meaning of
    `datetime.strptime`, with all their digits. ``{station}`` and ``{device}`` match the codes, and ``*``
    matches anything. A pattern with ``/`` is compared with the same number of folders of the path.

    >>> NamePattern("{station}_%Y%m%d_%H%M%S*.jpg").parse("sky/kiruna_20140310_060203.4.jpg").station
    'kiruna'

    Args:
        text: Pattern.

    Raises:
        OptionError: A directive or field is unknown, or the pattern lacks a date with its hour.
    """

    text: str
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_regex", re.compile(_expression(self.text), re.DOTALL))
        directives = {"Y" if key == "y" else key for key in self._regex.groupindex}
        if not any(directives.issuperset(full) for full in _COMPLETE_TIMES):
            raise OptionError(
                f"pattern {self.text!r} has no complete time; it needs year, day and hour, as in "
                '"{station}_%Y%m%d_%H%M%S.jpg"'
            )

    def parse(self, path: str) -> FilenameInfo:
        """Parse the name of a file.

        Args:
            path: Path of the file.

        Returns:
            Time, station and camera.

        Raises:
            InputError: The name does not match, or its date or time does not exist.
        """
        parts = path.replace("\\", "/").split("/")
        name = "/".join(parts[-1 - self.text.count("/") :])
        match = self._regex.fullmatch(name)
        if not match:
            raise InputError(f"{path}: the name does not match the pattern {self.text!r}; change the pattern")
        found = match.groupdict()
        keys = [key for key in found if key not in _FIELDS]
        try:
            time = datetime.datetime.strptime(
                " ".join(found[key] for key in keys), " ".join(f"%{key}" for key in keys)
            )
        except ValueError as error:
            raise InputError(f"{path}: invalid time for the pattern {self.text!r} ({error})") from error
        return FilenameInfo(time.replace(tzinfo=datetime.UTC), found.get("station"), found.get("device"))


def _expression(text: str) -> str:
    seen: set[str] = set()
    parts = []
    for directive, name, star, other in _TOKEN.findall(text):
        if directive == "%":
            parts.append("%")
        elif directive or name or not (star or other):
            parts.append(_group(text, directive, name, seen))
        else:
            parts.append(".*?" if star else re.escape(other))
    return "".join(parts)


def _group(text: str, directive: str, name: str, seen: set[str]) -> str:
    if directive and directive not in _DIRECTIVES:
        raise OptionError(f"pattern {text!r}: unknown %{directive}; known are %{' %'.join(_DIRECTIVES)}")
    if not directive and name not in _FIELDS:
        raise OptionError(f"pattern {text!r}: unknown {{{name}}}; known are {{station}} and {{device}}")
    key = directive or name
    if key in seen:  # for example the same year in the folder and in the name
        return f"(?P={key})"
    seen.add(key)
    return f"(?P<{key}>{_DIRECTIVES.get(directive, '[^/]+?')})"


CALGARY = NamePattern("%Y%m%d_%H%M_{station}_{device}_*")
"""One-minute files of THEMIS and TREx."""
