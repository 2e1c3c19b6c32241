"""Exceptions of geovision. Each message contains the place and the remedy.

GeovisionError
├── UnknownNameError            (also LookupError)
│   ├── UnknownModelError
│   ├── UnknownTaskError
│   └── UnknownDatasetError
├── OptionError                 (also ValueError) an unknown option or value of an option
├── InputError                  (also ValueError) data that a model or adapter does not accept
│   └── UnreadableFileError     a file that no reader can decode
├── DatasetError                (also ValueError) a folder with another layout than expected
├── WeightsError
│   ├── WeightsNotAvailableError     (also LookupError) weights that do not exist, or not without network
│   └── WeightsCorruptError          (also ValueError) a file that differs from its digest
├── DownloadError               (also OSError) a file that cannot be fetched, or differs from its record
├── ExportError                 a model that cannot be converted to another format
├── StorageError                (also OSError) a failed write; existing files are unchanged
└── MissingExtraError           (also ImportError) an optional library; contains the install command
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
    """Base class of all exceptions that geovision raises on purpose. It can be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Restored from the message: other arguments of a constructor are not kept.
        return _rebuild_exception, (type(self), self.args, self.__dict__)


def _rebuild_exception(
    kind: type[GeovisionError], args: tuple[Any, ...], state: dict[str, Any]
) -> GeovisionError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class UnknownNameError(GeovisionError, LookupError):
    """Unknown name of a model, task or dataset.

    Args:
        name: Name that was requested.
        known: Known names.
        hint: Further sentence of the message.

    Attributes:
        nearest: Most similar known names, best first.
    """

    kind = "name"

    def __init__(self, name: str, known: Iterable[str], hint: str = "") -> None:
        self.name = name
        self.nearest = nearest(name, known)
        message = f"{name!r} is not a geovision {self.kind}."
        if self.nearest:
            message += f" Did you mean {' or '.join(repr(near) for near in self.nearest)}?"
        super().__init__(f"{message} {hint}".rstrip())


class UnknownModelError(UnknownNameError):
    """Unknown name of a model: no registry entry and no backbone."""

    kind = "model"


class UnknownTaskError(UnknownNameError):
    """Unknown name of a task."""

    kind = "task"


class UnknownDatasetError(UnknownNameError):
    """Unknown name of a dataset."""

    kind = "dataset"


class OptionError(GeovisionError, ValueError):
    """Unknown option, or unsupported value of an option."""


class InputError(GeovisionError, ValueError):
    """Data that a model or adapter does not accept: wrong unit, range, shape or kind."""


class UnreadableFileError(InputError):
    """File that cannot be decoded: truncated, empty, too large, or of another format."""


class DatasetError(GeovisionError, ValueError):
    """Folder that is missing or empty, or has another layout than its adapter expects."""


class WeightsError(GeovisionError):
    """Trained weights that cannot be loaded."""


class WeightsNotAvailableError(WeightsError, LookupError):
    """Weights that do not exist, or are not on this machine and cannot be fetched."""


class WeightsCorruptError(WeightsError, ValueError):
    """Weights file that differs from its digest or from its configuration."""


class DownloadError(GeovisionError, OSError):
    """File that could not be fetched, or differs from its record."""


class ExportError(GeovisionError):
    """Model that cannot be converted, or predicts differently after the conversion."""


class StorageError(GeovisionError, OSError):
    """Failed write; existing files are unchanged."""


class MissingExtraError(GeovisionError, ImportError):
    """Optional library that is not installed.

    Args:
        library: Name of the library.
        extra: Extra of geovision that installs it.
    """

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
    """Return the most similar names, best first.

    Args:
        name: Name that was requested.
        known: Known names.
        max_names: Maximum number of names. Default: 3.

    Returns:
        Similar names; empty if there are none.

    >>> nearest("aurora-resnet5", ["aurora-resnet50", "cloud-vit"])
    ['aurora-resnet50']
    """
    return difflib.get_close_matches(name, list(known), n=max_names, cutoff=0.75)
