"""Cross-validation folds that keep near-duplicates together, and a versioned file for them.

A fold file describes each photo of a published dataset: its name, a digest, two perceptual hashes and its
class. It also contains the group of the photo and its fold under each seed. All users therefore get the same
folds without decoding a photo. A photo that is not in the file, or is in it at another size or compression,
joins the group of its near-duplicate.
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
"""Positions for training and test, int64."""

_VERSION = 1
_DIGEST_LENGTH = 16  # hexadecimal digits of a file's sha256: 64 bits, enough to avoid collisions
_FIXED_COLUMNS = ("path", "digest", "phash", "dhash", "label", "group")

_log = logging.getLogger(__name__)


def grouped_folds(labels: np.ndarray, groups: Sequence[str], *, k: int = 5, seed: int = 0) -> np.ndarray:
    """Assign each sample to a fold, stratified by class, with whole groups.

    Args:
        labels: Class index of each sample, shape (sample,).
        groups: Group of each sample; no group is in two folds.
        k: Number of folds. Default: 5.
        seed: Seed of the shuffling. Default: 0.

    Returns:
        Fold of each sample, int64, 0 to k-1.

    Raises:
        DatasetError: There are fewer groups than folds, or only one class.
        MissingExtraError: scikit-learn is not installed.
    """
    if len(set(groups)) < k:
        raise DatasetError(f"{len(set(groups))} groups are too few for {k} folds; reduce k")
    return _stratified("StratifiedGroupKFold", labels, groups, k, seed)


def random_folds(labels: np.ndarray, *, k: int = 5, seed: int = 0) -> np.ndarray:
    """Assign each sample to a fold, stratified by class, ignoring groups.

    Most published splits are of this kind. Near-duplicates are then in both training and test data. Use it
    only to measure how much this inflates scores.

    Args:
        labels: Class index of each sample, shape (sample,).
        k: Number of folds. Default: 5.
        seed: Seed of the shuffling. Default: 0.

    Returns:
        Fold of each sample, int64, 0 to k-1.

    Raises:
        DatasetError: There is only one class, or no class has `k` samples.
        MissingExtraError: scikit-learn is not installed.
    """
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
            f"{len(sizes)} classes with at most {sizes.max()} photos cannot be split into {k} folds; "
            "at least two classes and k photos are needed"
        )
    if sizes.min() < k:
        _log.info("the smallest class has %d photos and is missing from some of the %d folds", sizes.min(), k)
    fold = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        # The log message above already reports this, with the numbers.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        folder = getattr(model_selection, splitter)(n_splits=k, shuffle=True, random_state=seed)
        for number, (_, test) in enumerate(folder.split(labels, labels, groups)):
            fold[test] = number
    return fold


def folds_to_splits(fold: np.ndarray, k: int) -> list[TrainTestSplit]:
    """Return the (training, test) positions of each fold.

    Args:
        fold: Fold of each sample, shape (sample,).
        k: Number of folds.

    >>> [test.tolist() for _, test in folds_to_splits(np.array([0, 1, 0]), 2)]
    [[0, 2], [1]]
    """
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(k)]


@dataclass(frozen=True)
class FoldAssignment:
    """Groups and folds of the photos of a dataset, from a fold file.

    Attributes:
        groups: Near-duplicate group of each photo.
        folds: Fold of each photo under each seed, int64, shape (photo, seed).
        matched: Whether the file contains the photo or a near-duplicate of it, bool, shape (photo,).
    """

    groups: list[str]
    folds: np.ndarray
    matched: np.ndarray


@dataclass(frozen=True)
class FoldFile:
    """Groups and folds of the photos of a published dataset.

    Attributes:
        name: Name of the dataset.
        k: Number of folds.
        seeds: Seeds, one for each column of folds.
        paths: Relative path of each photo.
        digests: Digest of the file of each photo.
        labels: Class code of each photo.
        groups: Near-duplicate group of each photo.
        hashes: Perceptual hashes of the photos.
        folds: Fold of each photo under each seed, int64, shape (photo, seed).
        phash_limit: Largest number of bits by which the DCT hashes of near-duplicates differ.
        dhash_limit: Largest number of bits by which the difference hashes of near-duplicates differ.
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
        """Return the content of the file: one comment line with the parameters, then CSV."""
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
        """Write the file atomically and return its path.

        Args:
            path: File to write.
        """
        return write_text(path, self.to_csv())

    @classmethod
    def read(cls, path: Path) -> FoldFile:
        """Read a fold file that `write` has written.

        Args:
            path: File to read.

        Raises:
            DatasetError: The file is missing, damaged or of another version.
        """
        try:
            header, *lines = path.read_text(encoding="utf-8").splitlines()
            options = dict(word.split("=", 1) for word in header.split() if "=" in word)
            if options.get("version") != str(_VERSION):
                raise DatasetError(
                    f"{path} is a fold file of version {options.get('version')}; "
                    f"this version of geovision reads version {_VERSION}"
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
            raise DatasetError(
                f"{path} is not a geovision fold file ({error}); write it with FoldFile.write"
            ) from error

    def assign(self, paths: Sequence[Path], names: Sequence[str], spec: InputSpec) -> FoldAssignment:
        """Return the groups and folds of photos, which need not be in the file.

        A photo with the digest of a listed file gets its group and folds. Any other photo is decoded. If it
        has near-duplicates in the file, it joins the group of the nearest one. Otherwise it forms groups with
        other unlisted photos. The fold of such a group depends only on its name, not on the other photos.

        Args:
            paths: Files of the photos.
            names: Relative paths of the photos, from which new groups are named.
            spec: Image input that unlisted photos are decoded for.

        Raises:
            DatasetError: Unlisted photos cannot be read; the message lists all of them.
        """
        row_of = {digest: row for row, digest in enumerate(self.digests)}
        rows = np.array([row_of.get(file_digest(path), -1) for path in paths], dtype=np.int64)
        groups = [self.groups[row] if row >= 0 else "" for row in rows]
        new = np.flatnonzero(rows < 0).tolist()
        if new:
            _log.info("%s: %d of %d photos are not in the fold file", self.name, len(new), len(paths))
            prints = fingerprints([paths[position] for position in new], spec)
            raise_unreadable(prints.unreadable.values(), len(prints))
            new_groups = self._assign_groups(prints, [names[position] for position in new])
            for position, group in zip(new, new_groups, strict=True):
                groups[position] = group
        fold_of = dict(zip(self.groups, self.folds, strict=True))
        folds = [
            fold_of[g] if g in fold_of else [_hashed_fold(g, s, self.k) for s in self.seeds] for g in groups
        ]
        matched = np.array([group in fold_of for group in groups], dtype=bool)
        return FoldAssignment(groups, np.array(folds, dtype=np.int64).reshape(len(paths), -1), matched)

    def _assign_groups(self, prints: Fingerprints, names: Sequence[str]) -> list[str]:
        """Return the groups of unlisted photos: those of listed near-duplicates, or new ones."""
        limits = {"phash_limit": self.phash_limit, "dhash_limit": self.dhash_limit}
        nearest = self._nearest_groups(prints)
        component = connected_components(len(prints), near_duplicate_pairs(prints, **limits))
        taken = set(self.groups)
        group_of: dict[int, str] = {}
        # Photos with a listed near-duplicate come first, because they determine the group of their component.
        for position in sorted(range(len(names)), key=lambda p: (nearest[p] == "", names[p])):
            name = names[position]
            free = f"{name} (another)" if name in taken else name
            group_of.setdefault(int(component[position]), nearest[position] or free)
        return [group_of[int(part)] for part in component]

    def _nearest_groups(self, prints: Fingerprints) -> list[str]:
        """Return the group of the listed photo nearest to each photo within the limits, or ""."""
        p = hamming_distance(prints.phash, self.hashes.phash)
        d = hamming_distance(prints.dhash, self.hashes.dhash)
        distance = np.where((p <= self.phash_limit) & (d <= self.dhash_limit), p + d, np.inf)
        best = distance.argmin(axis=1)
        return [
            self.groups[row] if np.isfinite(distance[position, row]) else ""
            for position, row in enumerate(best.tolist())
        ]


def make_fold_file(dataset: ImageDataset, *, k: int = 5, seeds: Sequence[int] = (0, 1, 2)) -> FoldFile:
    """Compute hashes, groups and folds of a dataset.

    Args:
        dataset: Dataset of images.
        k: Number of folds. Default: 5.
        seeds: Seeds, one for each column of folds. Default: 0, 1 and 2.

    Raises:
        DatasetError: Files cannot be read (the message lists all of them), or there are too few groups.
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
    """Return the first digits of the SHA-256 of a file.

    Fold files identify photos by this digest.

    Args:
        path: File of the photo.

    Raises:
        DatasetError: The file cannot be read.
    """
    try:
        return sha256(path)[:_DIGEST_LENGTH]
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror})") from error


def _hashed_fold(group: str, seed: int, k: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {group}".encode()).digest()[:8], "big") % k


def _to_hex(bits: np.ndarray) -> list[str]:
    return [row.tobytes().hex() for row in np.packbits(bits, axis=1)]


def _from_hex(words: Sequence[str]) -> np.ndarray:
    octets = np.frombuffer(bytes.fromhex("".join(words)), dtype=np.uint8)
    return np.unpackbits(octets.reshape(len(words), -1), axis=1).astype(bool)
