"""Folds that never cut a near-duplicate group, and the versioned file that keeps them.

A fold file holds facts about each photo of a published set (its name, a digest, two perceptual
hashes, its class), the group that it belongs to, and its fold under each seed. So every user gets
the same folds without decoding a photo, and a photo that the file does not know, or knows at another
size or compression, still joins the group of its near-duplicate.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geovision._atomic_io import sha256, write_text
from geovision.datasets.duplicates import (
    DHASH_LIMIT,
    PHASH_LIMIT,
    Fingerprints,
    connected_components,
    fingerprints,
    hamming_distance,
    near_duplicate_groups,
    near_duplicate_pairs,
    raise_unreadable,
)
from geovision.errors import DatasetError, MissingExtraError
from geovision.spec import InputSpec

if TYPE_CHECKING:
    from geovision.datasets.image_classification import ImageDataset

__all__ = [
    "FoldAssignment",
    "FoldFile",
    "TrainTestSplit",
    "folds_to_splits",
    "grouped_folds",
    "make_fold_file",
    "random_folds",
]

TrainTestSplit = tuple[np.ndarray, np.ndarray]
"""(training, test) positions, int64."""

_VERSION = 1
_DIGEST_LENGTH = 16  # hexadecimal digits of a file's sha256: 64 bits, ample for a data set
_FIXED_COLUMNS = ("path", "digest", "phash", "dhash", "label", "group")

_log = logging.getLogger(__name__)


def grouped_folds(labels: np.ndarray, groups: Sequence[str], *, k: int = 5, seed: int = 0) -> np.ndarray:
    """The fold of each sample, 0 to k-1: classes spread evenly, no group in two folds.

    Raises:
        DatasetError: There are fewer groups than folds, or a single class.
        MissingExtraError: scikit-learn is not installed.
    """
    if len(set(groups)) < k:
        raise DatasetError(f"{len(set(groups))} groups are too few for {k} folds; take fewer folds")
    return _stratified("StratifiedGroupKFold", labels, groups, k, seed)


def random_folds(labels: np.ndarray, *, k: int = 5, seed: int = 0) -> np.ndarray:
    """The fold of each sample when groups are ignored, as most published splits do. Near-duplicates
    then stand on both sides: for measuring how much that flatters, for nothing else."""
    return _stratified("StratifiedKFold", labels, None, k, seed)


def _stratified(
    splitter: str, labels: np.ndarray, groups: Sequence[str] | None, k: int, seed: int
) -> np.ndarray:
    try:
        from sklearn import model_selection
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    _, sizes = np.unique(labels, return_counts=True)
    if len(sizes) < 2 or sizes.max() < k:
        raise DatasetError(
            f"{len(sizes)} classes of at most {sizes.max()} photos cannot be spread over {k} folds"
        )
    if sizes.min() < k:
        _log.info("the smallest class has %d photos; some of the %d folds go without it", sizes.min(), k)
    fold = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        # Said above, in words that name the numbers.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        folder = getattr(model_selection, splitter)(n_splits=k, shuffle=True, random_state=seed)
        for number, (_, test) in enumerate(folder.split(labels, labels, groups)):
            fold[test] = number
    return fold


def folds_to_splits(fold: np.ndarray, k: int) -> list[TrainTestSplit]:
    """(training, test) positions for each fold in turn.

    >>> [test.tolist() for _, test in as_splits(np.array([0, 1, 0]), 2)]
    [[0, 2], [1]]
    """
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(k)]


@dataclass(frozen=True)
class FoldAssignment:
    """Where each photo of a data set belongs by a fold file.

    Attributes:
        groups: Near-duplicate group of each photo.
        folds: int64 ``(n, seed)``.
        matched: bool ``(n,)``: the file holds this very photo or a near-duplicate of it.
    """

    groups: list[str]
    folds: np.ndarray
    matched: np.ndarray


@dataclass(frozen=True)
class FoldFile:
    """Groups and folds of the photos of a published set.

    Attributes:
        name: The data set.
        k: Number of folds.
        seeds: One column of folds each.
        paths, digests, labels, groups: Of each photo; the digest is of the file.
        hashes: Perceptual hashes.
        folds: int64 ``(n, seed)``.
        phash_limit, dhash_limit: Bits that near-duplicates may differ by.
    """

    name: str
    k: int
    seeds: tuple[int, ...]
    paths: tuple[str, ...]
    digests: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    hashes: Fingerprints
    folds: np.ndarray
    phash_limit: int = PHASH_LIMIT
    dhash_limit: int = DHASH_LIMIT

    def to_csv(self) -> str:
        """The file's content: one comment line with the parameters, then CSV."""
        stream = io.StringIO()
        stream.write(
            f"# geovision folds version={_VERSION} dataset={self.name} k={self.k} "
            f"phash_limit={self.phash_limit} dhash_limit={self.dhash_limit}\n"
        )
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*_FIXED_COLUMNS, *(f"fold_seed{seed}" for seed in self.seeds)])
        phash, dhash = _to_hex(self.hashes.phash), _to_hex(self.hashes.dhash)
        columns = (self.paths, self.digests, phash, dhash, self.labels, self.groups, *self.folds.T.tolist())
        writer.writerows(zip(*columns, strict=True))
        return stream.getvalue()

    def write(self, path: Path) -> Path:
        """Write it, whole or not at all."""
        return write_text(path, self.to_csv())

    @classmethod
    def read(cls, path: Path) -> FoldFile:
        """A file that `write` wrote.

        Raises:
            DatasetError: It is missing, damaged, or of another version.
        """
        try:
            header, *lines = path.read_text(encoding="utf-8").splitlines()
            options = dict(word.split("=", 1) for word in header.split() if "=" in word)
            if options.get("version") != str(_VERSION):
                raise DatasetError(
                    f"{path}: fold file of version {options.get('version')}; this geovision reads {_VERSION}"
                )
            names, *rows = csv.reader(lines)
            column = dict(zip(names, zip(*rows, strict=True), strict=True))
            seeds = tuple(int(name.removeprefix("fold_seed")) for name in names[len(_FIXED_COLUMNS) :])
            return cls(
                name=options["dataset"],
                k=int(options["k"]),
                seeds=seeds,
                paths=column["path"],
                digests=column["digest"],
                labels=column["label"],
                groups=column["group"],
                hashes=Fingerprints(_from_hex(column["phash"]), _from_hex(column["dhash"]), {}),
                folds=np.array([column[f"fold_seed{seed}"] for seed in seeds], dtype=np.int64).T,
                phash_limit=int(options["phash_limit"]),
                dhash_limit=int(options["dhash_limit"]),
            )
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{path}: not a geovision fold file ({error})") from error

    def assign(self, paths: Sequence[Path], names: Sequence[str], spec: InputSpec) -> FoldAssignment:
        """The group and folds of photos, some of which the file may not know.

        A file with a known digest is looked up. Any other photo is decoded: with a near-duplicate in
        the file it joins the group of the nearest one; without, it forms groups with other newcomers,
        whose fold is drawn by the group's name, so that it does not depend on what else is there.

        Raises:
            DatasetError: Newcomers that cannot be read, all of them named.
        """
        row_of = {digest: row for row, digest in enumerate(self.digests)}
        rows = np.array([row_of.get(file_digest(path), -1) for path in paths], dtype=np.int64)
        groups = [self.groups[row] if row >= 0 else "" for row in rows]
        new = np.flatnonzero(rows < 0).tolist()
        if new:
            _log.info("%s: %d of %d photos are not in the fold file", self.name, len(new), len(paths))
            prints = fingerprints([paths[position] for position in new], spec)
            raise_unreadable(prints.unreadable.values(), len(prints))
            joined = self._assign_groups(prints, [names[position] for position in new])
            for position, group in zip(new, joined, strict=True):
                groups[position] = group
        fold_of = dict(zip(self.groups, self.folds, strict=True))
        folds = [
            fold_of[g] if g in fold_of else [_hashed_fold(g, s, self.k) for s in self.seeds] for g in groups
        ]
        known = np.array([group in fold_of for group in groups], dtype=bool)
        return FoldAssignment(groups, np.array(folds, dtype=np.int64).reshape(len(paths), -1), known)

    def _assign_groups(self, prints: Fingerprints, names: Sequence[str]) -> list[str]:
        """Groups of newcomers: that of the nearest known photo, or one among themselves."""
        limits = {"phash_limit": self.phash_limit, "dhash_limit": self.dhash_limit}
        home = self._nearest_groups(prints)
        together = connected_components(len(prints), near_duplicate_pairs(prints, **limits))
        taken = set(self.groups)
        called: dict[int, str] = {}
        # Newcomers with a known near-duplicate come first: the others of their kind follow them.
        for position in sorted(range(len(names)), key=lambda p: (home[p] == "", names[p])):
            name = names[position]
            free = f"{name} (another)" if name in taken else name
            called.setdefault(int(together[position]), home[position] or free)
        return [called[int(part)] for part in together]

    def _nearest_groups(self, prints: Fingerprints) -> list[str]:
        """The group of the known photo that each newcomer is nearest to, within the limits, or ""."""
        p = hamming_distance(prints.phash, self.hashes.phash)
        d = hamming_distance(prints.dhash, self.hashes.dhash)
        distance = np.where((p <= self.phash_limit) & (d <= self.dhash_limit), p + d, np.inf)
        best = distance.argmin(axis=1)
        return [
            self.groups[row] if np.isfinite(distance[position, row]) else ""
            for position, row in enumerate(best.tolist())
        ]


def make_fold_file(dataset: ImageDataset, *, k: int = 5, seeds: Sequence[int] = (0, 1, 2)) -> FoldFile:
    """Hash, group and fold a data set.

    Raises:
        DatasetError: Files that cannot be read, all of them named; or too few groups.
    """
    prints = fingerprints(dataset.paths, dataset.input_spec)
    groups = near_duplicate_groups(prints, dataset.names)
    folds = [grouped_folds(dataset.labels, groups, k=k, seed=seed) for seed in seeds]
    return FoldFile(
        name=dataset.card.name,
        k=k,
        seeds=tuple(seeds),
        paths=tuple(dataset.names),
        digests=tuple(file_digest(path) for path in dataset.paths),
        labels=tuple(dataset.target.classes[label] for label in dataset.labels),
        groups=tuple(groups),
        hashes=prints,
        folds=np.stack(folds, axis=1),
    )


def file_digest(path: Path) -> str:
    """What a fold file knows a photo by: the first digits of the sha256 of its file.

    Raises:
        DatasetError: The file cannot be read.
    """
    try:
        return sha256(path)[:_DIGEST_LENGTH]
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error


def _hashed_fold(group: str, seed: int, k: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {group}".encode()).digest()[:8], "big") % k


def _to_hex(bits: np.ndarray) -> list[str]:
    return [row.tobytes().hex() for row in np.packbits(bits, axis=1)]


def _from_hex(words: Sequence[str]) -> np.ndarray:
    octets = np.frombuffer(bytes.fromhex("".join(words)), dtype=np.uint8)
    return np.unpackbits(octets.reshape(len(words), -1), axis=1).astype(bool)
