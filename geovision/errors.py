"""One tree of exceptions. Every message says what is wrong, where, and what to do about it.

GeovisionError
├── UnknownNameError            (also LookupError)
│   ├── UnknownModelError
│   ├── UnknownTaskError
│   └── UnknownDatasetError
├── OptionError                 (also ValueError) an option that no entry accepts
├── InputError                  (also ValueError) data that a model or adapter cannot take
│   └── UnreadableFileError     a file that no reader can decode
├── DatasetError                (also ValueError) a folder that does not hold the layout it should
├── WeightsError
│   ├── WeightsNotAvailableError     (also LookupError) no weights exist, or none without network
│   └── WeightsCorruptError          (also ValueError) a file whose content is not what its digest says
├── DownloadError               (also OSError) a file that cannot be fetched, or is not as promised
├── ExportError                 a model that cannot be carried into another format
├── StorageError                (also OSError) nothing could be written; what stood there is untouched
└── MissingExtraError           (also ImportError) an optional library; names the command to install it
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "DatasetError",
    "DownloadError",
    "ExportError",
    "GeovisionError",
    "InputError",
    "MissingExtraError",
    "OptionError",
    "StorageError",
    "UnknownDatasetError",
    "UnknownModelError",
    "UnknownNameError",
    "UnknownTaskError",
    "UnreadableFileError",
    "WeightsCorruptError",
    "WeightsError",
    "WeightsNotAvailableError",
    "nearest",
]


class GeovisionError(Exception):
    """The root of everything that geovision raises on purpose. It travels between processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By its message: what else some constructors take is not kept.
        return _rebuild_exception, (type(self), self.args, self.__dict__)


def _rebuild_exception(
    kind: type[GeovisionError], args: tuple[Any, ...], state: dict[str, Any]
) -> GeovisionError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class UnknownNameError(GeovisionError, LookupError):
    """A name that stands in no table. `nearest` holds the likeliest meant ones."""

    kind = "name"

    def __init__(self, name: str, known: Iterable[str], hint: str = "") -> None:
        self.name = name
        self.nearest = nearest(name, known)
        message = f"{name!r} is not a geovision {self.kind}."
        if self.nearest:
            message += f" Did you mean {' or '.join(repr(near) for near in self.nearest)}?"
        super().__init__(f"{message} {hint}".rstrip())


class UnknownModelError(UnknownNameError):
    """No curated model and no backbone has this name."""

    kind = "model"


class UnknownTaskError(UnknownNameError):
    """No task has this name."""

    kind = "task"


class UnknownDatasetError(UnknownNameError):
    """No data-set adapter has this name."""

    kind = "data set"


class OptionError(GeovisionError, ValueError):
    """An option, or a value of one, that is not known here."""


class InputError(GeovisionError, ValueError):
    """Data that a model or adapter cannot take: wrong unit, range, shape or kind."""


class UnreadableFileError(InputError):
    """A file that cannot be decoded: truncated, empty, of another format, too large."""


class DatasetError(GeovisionError, ValueError):
    """A folder that is missing, empty, or does not hold the layout that its adapter reads."""


class WeightsError(GeovisionError):
    """Trained parameters that cannot be had."""


class WeightsNotAvailableError(WeightsError, LookupError):
    """No such weights exist, or they are not on this machine and there is no network."""


class WeightsCorruptError(WeightsError, ValueError):
    """A weights file whose content is not what its digest or its configuration says."""


class DownloadError(GeovisionError, OSError):
    """A file that could not be fetched, or whose content is not what its record promises."""


class ExportError(GeovisionError):
    """A model that cannot be carried into another format, or does not answer there as it does here."""


class StorageError(GeovisionError, OSError):
    """Nothing could be written here. What stood there before is untouched."""


class MissingExtraError(GeovisionError, ImportError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        self.library, self.extra = library, extra
        super().__init__(
            f"{library} is not installed; it comes with the extra [{extra}]: "
            f'pip install "geovision[{extra}]"',
            name=library,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return MissingExtraError, (self.library, self.extra)


def nearest(name: str, known: Iterable[str], *, max_names: int = 3) -> list[str]:
    """The likeliest meant names, best first; empty where nothing is near.

    >>> nearest("aurora-resnet5", ["aurora-resnet50", "cloud-vit"])
    ['aurora-resnet50']
    """
    return difflib.get_close_matches(name, list(known), n=max_names, cutoff=0.75)
