"""The archive engine works with any row producer, not only with sky frames."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from helpers.archives import small_model

from geovision.errors import InputError, OptionError
from geovision.inference import ExecutorConfig, RowProducer, read_table, run_archive
from geovision.inference.table import ArchiveTable
from geovision.models.geomodel import GeoModel

TIME = datetime.datetime(2020, 1, 2, 3)


@dataclass(frozen=True)
class ArrayRows:
    """Rows of NumPy files with images ``(image, 3, y, x)``, 0 to 1."""

    scale: float = 1.0
    columns: ClassVar[dict[str, str]] = {"mean": "float32"}
    flags: ClassVar[tuple[str, ...]] = ("black",)

    def describe(self) -> Mapping[str, Any]:
        return {"scale": self.scale}

    def check_files(self, paths: Sequence[str]) -> None:
        if not any(path.endswith(".npy") for path in paths):
            raise InputError(f"none of {len(paths)} files is an array")

    def rows(
        self, model: GeoModel, paths: Iterable[str], *, batch_size: int, precision: str
    ) -> list[dict[str, Any]]:
        rows = []
        for path in paths:
            row = {"path": path, "station": "s", "time": TIME, "frame": 0, "error": None}
            try:
                images = np.load(path) * np.float32(self.scale)
            except ValueError as error:
                rows.append(row | {"error": str(error)})
                continue
            predictions = model.predict(list(images), batch_size=batch_size, precision=precision)
            for frame, (image, prediction) in enumerate(zip(images, predictions, strict=True)):
                rows.append(
                    row
                    | {
                        "frame": frame,
                        "label": prediction.label,
                        "confidence": prediction.confidence,
                        "mean": float(image.mean()),
                        "black": not image.any(),
                    }
                )
        return rows


@pytest.fixture(scope="module")
def model() -> GeoModel:
    return small_model()


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        images = rng.random((2, 3, 32, 32), dtype=np.float32)
        np.save(folder / f"{number}.npy", images * np.float32(number != 1))
    return folder


def run(model: GeoModel, source: Path, out: Path, rows: RowProducer, **options) -> pa.Table:
    run_archive(model, source, out, rows, executor_config=ExecutorConfig(0), **options)
    return read_table(out)


def test_columns_and_flags_are_those_of_the_producer(model: GeoModel, arrays: Path, tmp_path: Path):
    table = run(model, arrays, tmp_path / "out", ArrayRows(), shard_size=2)
    assert table.column_names == [
        "time",
        "mean",
        "path",
        "frame",
        "label",
        "confidence",
        *(f"p_{name}" for name in model.target.classes),
        "outlier_score",
        "black",
        "error",
        "station",
        "date",
    ]
    assert table["black"].to_pylist() == [False, False, True, True, False, False]
    images = np.load(arrays / "2.npy")
    np.testing.assert_allclose(table["mean"].to_numpy()[4:], images.mean(axis=(1, 2, 3)), rtol=1e-6)
    labels = [prediction.label for prediction in model.predict(list(images))]
    assert table["label"].to_pylist()[4:] == labels


def test_a_row_with_an_error_marks_its_file_as_bad(model: GeoModel, arrays: Path, tmp_path: Path):
    (arrays / "3.npy").write_bytes(b"no array")
    summary = run_archive(model, arrays, tmp_path / "out", ArrayRows(), executor_config=ExecutorConfig(0))
    assert list(summary.unreadable_files) == [str(arrays / "3.npy")]
    assert summary.frames == 7


def test_a_failed_trial_stops_the_run_before_writing(model: GeoModel, tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("1")
    with pytest.raises(InputError, match="none of 1 files is an array"):
        run(model, tmp_path / "in", tmp_path / "out", ArrayRows())
    assert not ArchiveTable(tmp_path / "out").exists()


def test_a_producer_with_another_description_is_refused(model: GeoModel, arrays: Path, tmp_path: Path):
    run(model, arrays, tmp_path / "out", ArrayRows())
    with pytest.raises(OptionError, match=r"was started with scale 1\.0 instead of 0\.5"):
        run(model, arrays, tmp_path / "out", ArrayRows(0.5))


@pytest.mark.parametrize("options", [{"shard_size": 0}, {"batch_size": 0}])
def test_sizes_below_one_are_refused(model: GeoModel, arrays: Path, tmp_path: Path, options: dict[str, int]):
    with pytest.raises(OptionError, match="both must be at least 1"):
        run(model, arrays, tmp_path / "out", ArrayRows(), **options)


def test_a_manifest_without_columns_is_refused(model: GeoModel, arrays: Path, tmp_path: Path):
    run(model, arrays, tmp_path / "out", ArrayRows())
    manifest = json.loads((tmp_path / "out" / "archive.json").read_text())
    del manifest["columns"], manifest["flags"]
    (tmp_path / "out" / "archive.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"archive\.json: has no columns, flags; run"):
        read_table(tmp_path / "out")
