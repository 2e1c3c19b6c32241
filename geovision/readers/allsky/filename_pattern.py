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
# What together makes a time that is not made up: strptime takes midnight and January for the rest.
_COMPLETE_TIMES = (("Y", "m", "d", "H"), ("Y", "b", "d", "H"), ("Y", "j", "H"))


@dataclass(frozen=True)
class FilenameInfo:
    """What a file name says."""

    time: datetime.datetime | None = None
    station: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class NamePattern:
    """Where the names of a camera's files hold the time, as UTC, and perhaps station and camera.

    ``%Y %y %m %b %d %j %H %M %S %f`` as in `datetime.strptime`, with all their digits; ``{station}``
    and ``{device}`` for the codes; ``*`` for anything. A pattern with ``/`` is held against as many
    folders of the path.

    >>> NamePattern("{station}_%Y%m%d_%H%M%S*.jpg").parse("sky/kiruna_20140310_060203.4.jpg").station
    'kiruna'

    Raises:
        OptionError: An unknown directive or field, or no date with its hour.
    """

    text: str
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_regex", re.compile(_expression(self.text), re.DOTALL))
        held = {"Y" if key == "y" else key for key in self._regex.groupindex}
        if not any(held.issuperset(full) for full in _COMPLETE_TIMES):
            raise OptionError(
                f"pattern {self.text!r} holds no full time; it needs year, day and hour, as in "
                '"{station}_%Y%m%d_%H%M%S.jpg"'
            )

    def parse(self, path: str) -> FilenameInfo:
        """What the name of this file says.

        Raises:
            InputError: It does not fit, or names a day or hour that does not exist.
        """
        parts = path.replace("\\", "/").split("/")
        name = "/".join(parts[-1 - self.text.count("/") :])
        match = self._regex.fullmatch(name)
        if not match:
            raise InputError(f"{path}: the name does not fit the pattern {self.text!r}; change the pattern")
        found = match.groupdict()
        keys = [key for key in found if key not in _FIELDS]
        try:
            time = datetime.datetime.strptime(
                " ".join(found[key] for key in keys), " ".join(f"%{key}" for key in keys)
            )
        except ValueError as error:
            raise InputError(f"{path}: no such time by the pattern {self.text!r} ({error})") from error
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
        raise OptionError(f"pattern {text!r}: %{directive} is not known; known are %{' %'.join(_DIRECTIVES)}")
    if not directive and name not in _FIELDS:
        raise OptionError(f"pattern {text!r}: {{{name}}} is not known; known are {{station}} and {{device}}")
    key = directive or name
    if key in seen:  # the same year in the folder and in the name
        return f"(?P={key})"
    seen.add(key)
    return f"(?P<{key}>{_DIRECTIVES.get(directive, '[^/]+?')})"


CALGARY = NamePattern("%Y%m%d_%H%M_{station}_{device}_*")
"""One-minute files of THEMIS and TREx."""
