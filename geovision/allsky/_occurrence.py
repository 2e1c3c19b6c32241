"""Occurrence rates of classes in a table of predictions.

Frames are grouped by hour, magnetic local time, month or station. The frames of one night are strongly
correlated, so a thousand of them carry little more information than a few. Intervals are therefore computed
by resampling whole nights with replacement (cluster bootstrap, Davison & Hinkley 1997, section 3.8).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from geovision import _atomic_io
from geovision.allsky.frames import FLAGS, TWILIGHT_ELEVATION, FrameConfig
from geovision.allsky.plot import plot_occurrence
from geovision.errors import InputError, OptionError
from geovision.inference.table import UNKNOWN, ArchiveTable, open_table
from geovision.physics.magnetic import magnetic_local_time
from geovision.physics.sun_moon import sun_elevation

__all__ = ["DEFAULT_EXCLUDED", "GroupBy", "Occurrence", "occurrence"]

GroupBy = Literal["hour", "mlt", "month", "station"]

DEFAULT_EXCLUDED = ("unreadable", "dark", "twilight")
"""Flags whose frames are excluded by default."""

_MAX_RESAMPLES_PER_CHUNK = 4_000_000


@dataclass(frozen=True)
class Occurrence:
    """Shares of the classes in groups of frames.

    Attributes:
        group_by: Variable that the frames are grouped by.
        classes: Class names in the order of the table.
        groups: Values of the group variable in order.
        rows: One row for each group and class. The group has the name in `group_by` as key. The class is
            ``label``; its ``share`` (0-1) has the interval limits ``low`` and ``high``, which are None with
            fewer than two nights. ``frames`` counts the frames of the class, ``of`` those of the group, and
            ``nights`` the nights of the group.
        frames: Number of counted frames.
        excluded_frames: Number of excluded frames by reason.
        unknown_flags: Number of counted frames whose flag is not known, by flag.
        confidence_level: Coverage of the intervals, 0 to 1.
    """

    group_by: GroupBy
    classes: tuple[str, ...]
    groups: tuple[Any, ...]
    rows: list[dict[str, Any]]
    frames: int
    excluded_frames: dict[str, int]
    unknown_flags: dict[str, int]
    confidence_level: float

    def save(self, prefix: str | Path) -> tuple[Path, Path]:
        """Write ``PREFIX.png`` and ``PREFIX.csv``, both or neither.

        Args:
            prefix: Path without extension.

        Returns:
            Paths of the figure and of the CSV file.

        Raises:
            StorageError: If the files cannot be written.
            MissingExtraError: If matplotlib is not installed.
        """
        prefix = Path(prefix)
        png, table = (prefix.with_name(f"{prefix.name}.{suffix}") for suffix in ("png", "csv"))
        save = partial(plot_occurrence(self).savefig, format="png", dpi=130)
        _atomic_io.write_files(png.parent, {png.name: save, table.name: self._write_csv})
        return png, table

    def _write_csv(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self.rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def occurrence(
    folder: str | Path,
    group_by: GroupBy = "hour",
    *,
    sites: Mapping[str, tuple[float, float]] | None = None,
    exclude: Sequence[str] = DEFAULT_EXCLUDED,
    where: Any = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    confidence_level: float = 0.95,
) -> Occurrence:
    """Compute the share of each class among the frames of a table.

    Memory does not grow with the table. A night lasts from noon to noon in the mean solar time of the
    station, or in UTC if its site is not known. Nights of different stations with the same date are one
    night, because the stations may observe the same sky; their frames are resampled together.

    Args:
        folder: Folder of a table that `predict_archive` wrote.
        group_by: ``"hour"`` (UTC), ``"mlt"`` (hour of magnetic local time of a centered dipole, approximate),
            ``"month"`` of the year, or ``"station"``. Default: ``"hour"``.
        sites: (latitude, longitude) in degrees by station, ``""`` for all stations; added to the sites of the
            table. Default: none.
        exclude: Flags whose frames are excluded. Default: ``"unreadable"``, ``"dark"`` and ``"twilight"``.
        where: Filter of the frames, an expression of `pyarrow.dataset`. Default: all frames.
        n_bootstrap: Number of bootstrap samples of nights; 0 disables the intervals. Default: 1000.
        seed: Seed of the bootstrap. Default: 0.
        confidence_level: Coverage of the intervals, 0 to 1. Default: 0.95.

    Returns:
        Shares and intervals by group and class.

    Raises:
        InputError: If there is no table, or if all its frames are excluded.
        OptionError: If a flag or a group does not exist, or if magnetic local time is used without a site.
    """
    if group_by not in get_args(GroupBy):
        raise OptionError(f"unknown group_by {group_by!r}; choose one of {', '.join(get_args(GroupBy))}")
    if strange := [name for name in exclude if name not in FLAGS]:
        raise OptionError(f"unknown flag {strange[0]!r}; choose from {', '.join(FLAGS)}")
    if not 0 < confidence_level < 1:
        raise OptionError(f"confidence level {confidence_level}; expected a value between 0 and 1")
    manifest = ArchiveTable(Path(folder)).read_manifest()
    sites = {**FrameConfig.from_dict(manifest["reading"]).sites, **(sites or {})}
    if group_by == "mlt" and not sites:
        raise OptionError("magnetic local time requires the site of each station; pass the sites")
    counted = _OccurrenceCounter(group_by, tuple(manifest["classes"]), sites, tuple(exclude))
    columns = ["time", "station", "label", *exclude]
    for batch in open_table(folder).to_batches(columns=columns, filter=where):
        counted.add(batch)
    if not counted.counts:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in counted.excluded_frames.items())
        raise InputError(
            f"{folder}: no frame is left to count (excluded: {reasons or 'none, the table is empty'}); "
            "change the excluded flags or the filter"
        )
    return counted.build(n_bootstrap, seed, confidence_level)


class _OccurrenceCounter:
    """Counter of the frames of each class by group and night."""

    def __init__(
        self,
        group_by: GroupBy,
        classes: tuple[str, ...],
        sites: Mapping[str, tuple[float, float]],
        exclude: tuple[str, ...],
    ) -> None:
        self._group_by: GroupBy = group_by
        self._classes, self._sites, self._exclude = classes, sites, exclude
        self.counts: dict[Any, dict[int, np.ndarray]] = {}
        self.excluded_frames: Counter[str] = Counter()
        self.unknown_flags: Counter[str] = Counter()

    def add(self, batch: Any) -> None:
        """Count a record batch, station by station."""
        stations = np.array([name or UNKNOWN for name in batch["station"].to_pylist()], object)
        times = np.asarray(batch["time"].cast("int64").fill_null(np.iinfo(np.int64).min)).view("M8[us]")
        place = {name: number for number, name in enumerate(self._classes)}
        labels = np.array([place.get(label, -1) for label in batch["label"].to_pylist()])
        flags = {name: _encode_nullable_bool(batch[name]) for name in self._exclude}
        for station in dict.fromkeys(stations):
            own = stations == station
            self._count(station, times[own], labels[own], {name: each[own] for name, each in flags.items()})

    def _count(
        self, station: str, times: np.ndarray, labels: np.ndarray, flags: dict[str, np.ndarray]
    ) -> None:
        site = self._sites.get(station, self._sites.get(""))
        if "twilight" in flags and site is not None:
            flags["twilight"] = _fill_twilight(flags["twilight"], times, site)
        counts = np.ones(len(times), bool)
        for name, values in flags.items():
            self._exclude_frames(name, counts, values == 1)
        self._exclude_frames("without a class", counts, labels < 0)
        if self._group_by != "station":
            self._exclude_frames("without a time", counts, np.isnat(times))
        if self._group_by == "mlt" and site is None:
            self._exclude_frames("without a site", counts, np.ones(len(times), bool))
        for name, values in flags.items():
            if number := int((counts & (values < 0)).sum()):
                self.unknown_flags[name] += number
        times, labels = times[counts], labels[counts]
        for group, night, label, number in _unique_counts(
            _group_keys(self._group_by, times, site), _night_numbers(times, site), labels
        ):
            key = station if self._group_by == "station" else group
            nights = self.counts.setdefault(key, {})
            nights.setdefault(night, np.zeros(len(self._classes), np.int64))[label] += number

    def _exclude_frames(self, reason: str, counts: np.ndarray, out: np.ndarray) -> None:
        if number := int((counts & out).sum()):
            self.excluded_frames[reason] += number
        counts &= ~out

    def build(self, n_bootstrap: int, seed: int, confidence_level: float) -> Occurrence:
        rows: list[dict[str, Any]] = []
        groups = tuple(sorted(self.counts))
        for number, group in enumerate(groups):
            counts = np.stack(list(self.counts[group].values()))
            total = counts.sum(axis=0)
            low, high = _bootstrap_interval(counts, n_bootstrap, (seed, number), confidence_level)
            rows += [
                {
                    self._group_by: group,
                    "label": label,
                    "share": float(total[place] / total.sum()),
                    "low": low[place],
                    "high": high[place],
                    "frames": int(total[place]),
                    "of": int(total.sum()),
                    "nights": len(counts),
                }
                for place, label in enumerate(self._classes)
            ]
        frames = sum(row["frames"] for row in rows)
        return Occurrence(
            self._group_by,
            self._classes,
            groups,
            rows,
            frames,
            dict(self.excluded_frames),
            dict(self.unknown_flags),
            confidence_level,
        )


def _encode_nullable_bool(column: Any) -> np.ndarray:
    """Return 1 for true, 0 for false and -1 for missing values."""
    return np.asarray(column.cast("int8").fill_null(-1))


def _fill_twilight(twilight: np.ndarray, times: np.ndarray, site: tuple[float, float]) -> np.ndarray:
    """Fill missing twilight flags, given the site."""
    missing = (twilight < 0) & ~np.isnat(times)
    if missing.any():
        twilight = twilight.copy()
        twilight[missing] = sun_elevation(times[missing], *site) > TWILIGHT_ELEVATION
    return twilight


def _group_keys(group_by: GroupBy, times: np.ndarray, site: tuple[float, float] | None) -> np.ndarray:
    match group_by:
        case "hour":
            return times.astype("M8[h]").astype(int) % 24
        case "month":
            return times.astype("M8[M]").astype(int) % 12 + 1
        case "mlt" if site is not None:
            return magnetic_local_time(times, *site).astype(int) % 24
        case _:
            return np.zeros(len(times), int)


def _night_numbers(times: np.ndarray, site: tuple[float, float] | None) -> np.ndarray:
    """Return the night of each frame in days since 1970.

    A night has the date of its evening; frames without a time get -1.
    """
    east = np.timedelta64(round((site[1] if site else 0.0) * 240), "s")  # 4 minutes per degree
    days = (times + east - np.timedelta64(12, "h")).astype("M8[D]").astype(np.int64)
    return np.where(np.isnat(times), -1, days)


def _unique_counts(*columns: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Yield each combination of values and its number of occurrences."""
    if len(columns[0]):
        values, numbers = np.unique(np.stack(columns), axis=1, return_counts=True)
        for value, number in zip(values.T.tolist(), numbers.tolist(), strict=True):
            yield (*value, number)


def _bootstrap_interval(
    counts: np.ndarray, n_bootstrap: int, seed: tuple[int, int], confidence_level: float
) -> tuple[list[float | None], list[float | None]]:
    """Return percentiles of the shares in bootstrap samples of nights.

    Args:
        counts: Number of frames, shape (night, class).
        n_bootstrap: Number of bootstrap samples.
        seed: Seed of the generator.
        confidence_level: Coverage of the intervals, 0 to 1.
    """
    nights, classes = counts.shape
    if nights < 2 or not n_bootstrap:
        return [None] * classes, [None] * classes
    generator = np.random.default_rng(seed)
    shares: list[np.ndarray] = []
    at_once = max(1, _MAX_RESAMPLES_PER_CHUNK // nights)
    for first in range(0, n_bootstrap, at_once):
        size = min(at_once, n_bootstrap - first)
        drawn = generator.multinomial(nights, np.full(nights, 1 / nights), size=size) @ counts
        shares.append(drawn / drawn.sum(axis=1, keepdims=True))
    tail = 100 * (1 - confidence_level) / 2
    low, high = np.percentile(np.concatenate(shares), [tail, 100 - tail], axis=0)
    return low.tolist(), high.tolist()
