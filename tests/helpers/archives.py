"""Small archives of all-sky frames for tests of archive predictions."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

import geovision
from geovision.allsky import FrameConfig
from geovision.models.geomodel import GeoModel
from geovision.readers.allsky import Frame, Stretch, write_pgm

START = datetime.datetime(2014, 3, 10, 6, tzinfo=datetime.UTC)
SITES = {"gill": (56.38, -94.64), "fsmi": (60.03, -111.93)}
CAMERAS = {"gill": "themis19", "fsmi": "themis10"}

GREY = FrameConfig(channels="grey", stretches={"": Stretch(2000, 12000)})
"""Frame options for files of `minutes`."""

PICTURES = FrameConfig(pattern="{station}_%Y%m%d_%H%M%S.jpg")
"""Frame options for files of `pictures`."""


def small_model() -> GeoModel:
    """Return an untrained model that predicts several classes."""
    torch.manual_seed(3)
    model = geovision.create("aurora-tiny", size=(32, 32))
    skies = [colored(sky(number, 32)) for number in range(32)]
    pictures = torch.from_numpy(np.stack(skies)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        features = model.features({"image": pictures})
        features = features - features.mean(0)
        # Use the directions of largest variance, whatever the features of the network are.
        directions = torch.linalg.svd(features, full_matrices=False).Vh[:3]
        weight = torch.randn(len(model.target.classes), 3) @ directions
        weight = 3 * weight / (features @ weight.T).std()
        model.head.linear.weight.copy_(weight)
        model.head.linear.bias.copy_(-(weight @ model.features({"image": pictures}).mean(0)))
    return model


def sky(number: int, side: int = 40) -> np.ndarray:
    """Return 16-bit counts of a dark frame with a bright band at a random position."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side] / side
    angle, place = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8)
    distance = np.cos(angle) * x + np.sin(angle) * y - place
    counts = 2500 + 8000 * np.exp(-((distance / rng.uniform(0.05, 0.3)) ** 2)) + rng.normal(0, 200, x.shape)
    return counts.clip(0, 65535).astype(np.uint16)


def colored(counts: np.ndarray) -> np.ndarray:
    """Return counts as a greenish color image, uint8 ``(y, x, 3)``."""
    gray = (counts >> 6).clip(0, 255).astype(np.uint8)
    return np.stack([gray // 2, gray, gray // 3], axis=2)


def frames_of(station: str, begin: datetime.datetime, number: int, *, first: int = 0) -> Iterator[Frame]:
    """Yield frames three seconds apart."""
    for index in range(number):
        yield Frame(
            sky(first + index),
            begin + datetime.timedelta(seconds=3 * index),
            station,
            CAMERAS[station],
            0.999,
            "",
            index,
        )


def minute_name(station: str, begin: datetime.datetime) -> str:
    return f"{begin:%Y%m%d_%H%M}_{station}_{CAMERAS[station]}_full.pgm.gz"


def minutes(folder: Path, number: int, frames: int = 5, *, stations: tuple[str, ...] = ("gill",)) -> Path:
    """Write THEMIS streams, one per minute: ``folder/gill/20140310_0600_gill_themis19_full.pgm.gz``."""
    for place, station in enumerate(stations):
        own = folder / station
        own.mkdir(parents=True, exist_ok=True)
        for minute in range(number):
            begin = START + datetime.timedelta(minutes=minute)
            first = 10_000 * place + frames * minute
            write_pgm(own / minute_name(station, begin), frames_of(station, begin, frames, first=first))
    return folder


def pictures(folder: Path, number: int, station: str = "kiruna") -> Path:
    """Write color images ten minutes apart, one per file."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        time = START + datetime.timedelta(minutes=10 * index)
        Image.fromarray(colored(sky(index))).save(folder / f"{station}_{time:%Y%m%d_%H%M%S}.jpg", quality=95)
    return folder


def break_off(path: Path) -> None:
    """Truncate a gzip file in its middle, like an interrupted copy."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alike(table: pa.Table, other: pa.Table) -> bool:
    """Return whether two tables have the same rows.

    Predicted numbers may differ by 1e-5, because they depend slightly on the frames of a batch.
    """
    numbers = [name for name in table.column_names if name.startswith("p_") or name == "confidence"]
    return table.drop_columns(numbers).equals(other.drop_columns(numbers)) and all(
        np.allclose(table[name].to_numpy(), other[name].to_numpy(), atol=1e-5, equal_nan=True)
        for name in numbers
    )
