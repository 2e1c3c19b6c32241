"""Near-duplicate detection with perceptual hashes.

Two images are near-duplicates when both of two independent hashes agree within a limit:

- pHash (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"): gray, 32x32, the
  8x8 lowest coefficients of the cosine transform, each above or below their median;
- dHash (Krawetz 2013, "Kind of like that"): gray, 9x8, each cell brighter or darker than its right neighbor.

One hash alone confuses images of the sky: a smooth gradient above a dark horizon has few low frequencies.
Copies with exactly the same pixels agree in every bit, so they need no rule of their own. Groups are
connected components: a near-duplicate of a member belongs to the group.
"""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from geovision.errors import DatasetError, InputError
from geovision.readers.images import read_rgb
from geovision.spec import InputSpec

__all__ = [
    "DHASH_LIMIT",
    "PHASH_LIMIT",
    "Fingerprints",
    "conflicting_groups",
    "connected_components",
    "exact_duplicates",
    "fingerprint",
    "fingerprints",
    "group_members",
    "hamming_distance",
    "near_duplicate_groups",
    "near_duplicate_pairs",
    "raise_unreadable",
]

PHASH_LIMIT = 8
"""Largest number of differing pHash bits of near-duplicates, of 64."""
DHASH_LIMIT = 10
"""Largest number of differing dHash bits of near-duplicates, of 64."""

_GRAY_SIZE = 256  # pixels; a photo is decoded near this size and shrunk from there
_THREADS = 4
_BLOCK = 1024  # rows of the distance matrix at a time, to limit memory


@dataclass(frozen=True)
class Fingerprints:
    """Perceptual hashes of images, 64 bits each.

    Attributes:
        phash: pHash of each image, bool, shape ``(image, 64)``.
        dhash: dHash of each image, bool, shape ``(image, 64)``.
        unreadable: Reason by position of each file that could not be read; its bits are meaningless.
    """

    phash: np.ndarray
    dhash: np.ndarray
    unreadable: Mapping[int, str]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.phash)

    def take(self, positions: Sequence[int] | np.ndarray) -> Fingerprints:
        """Return the hashes of some images, all of which must be readable.

        Args:
            positions: Positions of the images.
        """
        return Fingerprints(self.phash[positions], self.dhash[positions], {})


def fingerprint(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pHash and the dHash of one image.

    Args:
        rgb: Image, uint8, shape ``(3, y, x)``.

    Returns:
        pHash and dHash, bool, shape ``(64,)`` each.
    """
    gray = Image.fromarray(rgb.transpose(1, 2, 0)).convert("L")
    small = np.asarray(gray.resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
    transform = _dct_matrix(8, 32)
    frequencies = transform @ small @ transform.T
    steps = np.asarray(gray.resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    phash = frequencies > np.median(frequencies)
    return phash.ravel(), (steps[:, 1:] > steps[:, :-1]).ravel()


@functools.cache
def _dct_matrix(rows: int, n: int) -> np.ndarray:
    """Return the first rows of the type-II cosine transform of length `n`, unscaled."""
    return np.cos(np.pi / n * np.outer(np.arange(rows), np.arange(n) + 0.5))


def fingerprints(paths: Sequence[Path], spec: InputSpec) -> Fingerprints:
    """Compute the hashes of image files.

    A file that cannot be read does not raise; the reason is in the result.

    Args:
        paths: Image files.
        spec: Image input that the files are decoded for.
    """

    def one(path: Path) -> tuple[np.ndarray, np.ndarray] | str:
        try:
            return fingerprint(read_rgb(path, spec, (_GRAY_SIZE, _GRAY_SIZE)))
        except InputError as error:
            return str(error)

    phash, dhash = np.zeros((len(paths), 64), bool), np.zeros((len(paths), 64), bool)
    unreadable: dict[int, str] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for position, found in enumerate(pool.map(one, paths)):
            if isinstance(found, str):
                unreadable[position] = found
            else:
                phash[position], dhash[position] = found
    return Fingerprints(phash, dhash, unreadable)


def near_duplicate_pairs(
    hashes: Fingerprints, *, phash_limit: int = PHASH_LIMIT, dhash_limit: int = DHASH_LIMIT
) -> Iterator[tuple[int, int]]:
    """Yield the positions (i, j), i < j, of all pairs of near-duplicates.

    Args:
        hashes: Hashes of the images.
        phash_limit: Largest number of differing pHash bits. Default: 8.
        dhash_limit: Largest number of differing dHash bits. Default: 10.
    """
    for start in range(0, len(hashes), _BLOCK):
        rows, rest = slice(start, start + _BLOCK), slice(start, None)
        near = (hamming_distance(hashes.phash[rows], hashes.phash[rest]) <= phash_limit) & (
            hamming_distance(hashes.dhash[rows], hashes.dhash[rest]) <= dhash_limit
        )
        for i, j in np.argwhere(np.triu(near, 1)).tolist():
            yield start + i, start + j


def hamming_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Hamming distances between two sets of hashes.

    Args:
        first: Hashes, bool, shape ``(n, bit)``.
        second: Hashes, bool, shape ``(m, bit)``.

    Returns:
        Number of differing bits, float32, shape ``(n, m)``.
    """
    # With bits as +1 and -1, the product of two hashes is (bits) - 2 * (differing bits).
    signs, other_signs = (np.where(bits, np.float32(1), np.float32(-1)) for bits in (first, second))
    return (first.shape[1] - signs @ other_signs.T) / 2


def connected_components(n: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return the smallest position in the connected component of each node.

    Args:
        n: Number of nodes.
        pairs: Connected positions.

    Returns:
        Smallest connected positions, int64, shape ``(n,)``.

    >>> connected_components(4, [(1, 3)]).tolist()
    [0, 1, 2, 1]
    """
    parent = list(range(n))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    for i, j in pairs:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    return np.array([root(position) for position in range(n)], dtype=np.int64)


def near_duplicate_groups(
    hashes: Fingerprints,
    names: Sequence[str],
    *,
    phash_limit: int = PHASH_LIMIT,
    dhash_limit: int = DHASH_LIMIT,
) -> list[str]:
    """Return the near-duplicate group of each image.

    A group has the name of its first member in alphabetical order.

    Args:
        hashes: Hashes of the images.
        names: Name of each image.
        phash_limit: Largest number of differing pHash bits. Default: 8.
        dhash_limit: Largest number of differing dHash bits. Default: 10.

    Raises:
        DatasetError: Images could not be read; the message lists all of them.
    """
    raise_unreadable(hashes.unreadable.values(), len(hashes))
    component = connected_components(
        len(hashes), near_duplicate_pairs(hashes, phash_limit=phash_limit, dhash_limit=dhash_limit)
    )
    group_of: dict[int, str] = {}
    for position in sorted(range(len(names)), key=lambda position: names[position]):
        group_of.setdefault(int(component[position]), names[position])
    return [group_of[int(part)] for part in component]


def raise_unreadable(reasons: Collection[str], total: int) -> None:
    """Raise an error that lists all unreadable files, if there are any.

    Args:
        reasons: Reason for each unreadable file.
        total: Number of all files.

    Raises:
        DatasetError: There is at least one reason.
    """
    if reasons:
        raise DatasetError(
            f"{len(reasons)} of {total} files cannot be read: {'; '.join(reasons)}. Remove or replace them"
        )


def group_members(groups: Sequence[str], *, min_size: int = 2) -> dict[str, list[int]]:
    """Return the positions in each group of a minimum size, by group name.

    Args:
        groups: Group of each sample.
        min_size: Smallest size of a group. Default: 2.
    """
    gathered: dict[str, list[int]] = defaultdict(list)
    for position, group in enumerate(groups):
        gathered[group].append(position)
    return {name: gathered[name] for name in sorted(gathered) if len(gathered[name]) >= min_size}


def conflicting_groups(groups: Sequence[str], labels: np.ndarray) -> dict[str, list[int]]:
    """Return the positions in each group whose members have different labels.

    Args:
        groups: Group of each sample.
        labels: Class index of each sample, shape (sample,).
    """
    return {
        name: positions
        for name, positions in group_members(groups).items()
        if len({int(labels[position]) for position in positions}) > 1
    }


def exact_duplicates(paths: Sequence[Path], hashes: Fingerprints, spec: InputSpec) -> list[list[int]]:
    """Return groups of positions of files with exactly the same pixels.

    Only files whose hashes agree in every bit are decoded again.

    Args:
        paths: Image files.
        hashes: Hashes of the files.
        spec: Image input that the files are decoded for.
    """
    alike: dict[bytes, list[int]] = defaultdict(list)
    for position in range(len(hashes)):
        if position not in hashes.unreadable:
            alike[hashes.phash[position].tobytes() + hashes.dhash[position].tobytes()].append(position)
    same: dict[bytes, list[int]] = defaultdict(list)
    for positions in alike.values():
        if len(positions) > 1:
            for position in positions:
                same[_pixel_digest(paths[position], spec)].append(position)
    return [positions for positions in same.values() if len(positions) > 1]


def _pixel_digest(path: Path, spec: InputSpec) -> bytes:
    pixels = read_rgb(path, spec)
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()
