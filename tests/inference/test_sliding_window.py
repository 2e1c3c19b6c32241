"""Sliding windows over a map: positions, weights and independence of the execution."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import geovision
from geovision import registry
from geovision.errors import GeovisionError, InputError, OptionError
from geovision.heads.field import FieldHead
from geovision.heads.mask import IdentityMaskHead
from geovision.inference import ArraySource, ExecutorConfig, executor, predict_raster
from geovision.inference.sliding_window import (
    Patch,
    WindowPredictions,
    WindowTask,
    blend,
    predict_run,
    sliding_window_predict,
)
from geovision.inference.tiling import WindowGrid, window_starts, window_weight
from geovision.models.geomodel import GeoModel, ModelConfig
from geovision.readers.sar import MapGrid
from geovision.spec import Channel, FieldTarget, InputSpec, MaskTarget, ModelSpec

MAP = MapGrid("EPSG:3995", (500.0, 0.0, 0.0, 0.0, -500.0, 0.0), (70, 95))


@dataclass(frozen=True)
class Field:
    """Map of computed values with a missing rectangle."""

    grid: MapGrid = MAP
    hole: tuple[int, int, int, int] = (0, 0, 0, 0)

    def read(self, row: int, column: int, shape: tuple[int, int]) -> Patch:
        assert row >= 0
        assert column >= 0
        assert row + shape[0] <= self.grid.shape[0]
        assert column + shape[1] <= self.grid.shape[1]
        rows, columns = np.mgrid[row : row + shape[0], column : column + shape[1]]
        values = np.sin(rows / 7) * np.cos(columns / 11) + 2
        top, bottom, left, right = self.hole
        valid = ~((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))
        return Patch({"a": np.where(valid, values, 0)[None].astype(np.float32)}, {"a": valid})

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        part = self.read(0, 0, self.grid.shape)
        return part.inputs["a"][0], part.any_valid


Given = Mapping[str, Tensor]


def mean_of_window(inputs: Given, valid: Given) -> Tensor:
    return inputs["a"].double().mean((1, 2, 3))[:, None].float()


def identity(inputs: Given, valid: Given) -> Tensor:
    return torch.where(valid["a"], inputs["a"], torch.nan)


def fails(inputs: Given, valid: Given) -> Tensor:
    raise RuntimeError("no such kernel")


class Convolutions(nn.Module):
    """Small mask network, whose values near an edge differ between windows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))

    @torch.inference_mode()
    def forward(self, inputs: Given, valid: Given) -> Tensor:
        return self.layers(inputs["a"]).sigmoid()


def job(
    predict_fn, *, overlap: float = 0.5, size: tuple[int, int] = (24, 32), source: Field | None = None, **more
) -> WindowTask:
    source = source or Field()
    return WindowTask(source, WindowGrid(source.grid.shape, size, overlap), predict_fn, **more)


def run(
    work: WindowTask, scratch: Path, workers: ExecutorConfig | None = None
) -> tuple[np.ndarray, np.ndarray]:
    predictions = sliding_window_predict(work, scratch, workers or ExecutorConfig(), lambda done, whole: None)
    return blend(predictions, 0, 0, work.source.grid.shape)


# --- windows --------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 600), st.floats(0, 0.95))
def test_windows_cover_an_axis_with_sufficient_overlap(extent: int, size: int, overlap: float):
    places = window_starts(extent, size, overlap)
    if extent <= size:
        (only,) = places
        assert abs((size - extent) - 2 * -only) <= 1
        return
    assert places[0] == 0
    assert places[-1] == extent - size
    steps = np.diff(places)
    assert steps.min() >= 1
    assert steps.max() <= max(round(size * (1 - overlap)), 1)


def test_weights_decrease_to_the_edge_and_sum_to_one():
    own = window_weight(64)
    assert (np.diff(own[:32]) > 0).all()
    np.testing.assert_allclose(own, own[::-1])
    assert own.min() > 0
    np.testing.assert_allclose(own[:32] + own[32:], 1)


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 2.0])
def test_an_overlap_is_a_fraction(overlap: float):
    with pytest.raises(OptionError, match="expected a fraction of the window, at least 0 and below 1"):
        WindowGrid((10, 10), (4, 4), overlap)


def test_runs_contain_every_window_once():
    windows = WindowGrid((70, 95), (24, 32), 0.5)
    found = [(run.row, column) for run in windows.runs(2) for column in range(run.first, run.last)]
    assert found == list(itertools.product(range(len(windows.row_starts)), range(len(windows.column_starts))))


# --- merging --------------------------------------------------------------------------------------


def test_one_value_per_window_is_spread_by_its_weight(tmp_path: Path):
    work = job(mean_of_window, overlap=0.6)
    found, count = run(work, tmp_path)
    expected, weights, windows = np.zeros(MAP.shape), np.zeros(MAP.shape), np.zeros(MAP.shape, int)
    values = work.source.whole()[0].astype(np.float64)
    kernel = np.outer(window_weight(24), window_weight(32))
    for top, left in itertools.product(work.windows.row_starts, work.windows.column_starts):
        part = (slice(top, top + 24), slice(left, left + 32))
        expected[part] += kernel * np.float32(values[part].mean())
        weights[part] += kernel
        windows[part] += 1
    np.testing.assert_allclose(found[0], expected / weights, rtol=1e-6)
    assert np.array_equal(count, windows)


def test_a_map_per_window_is_placed_at_its_position(tmp_path: Path):
    hole = (10, 30, 40, 60)
    found, count = run(job(identity, source=Field(hole=hole), min_valid=0.0), tmp_path)
    values, valid = Field(hole=hole).whole()
    np.testing.assert_allclose(found[0][valid], values[valid], rtol=1e-6)
    assert np.isnan(found[0][~valid]).all()
    assert (count[~valid] == 0).all()
    assert (count[valid] > 0).all()


def test_results_do_not_depend_on_blocks(tmp_path: Path):
    torch.manual_seed(0)
    work = job(Convolutions())
    predictions = sliding_window_predict(work, tmp_path, ExecutorConfig(), lambda done, whole: None)
    whole, count = blend(predictions, 0, 0, MAP.shape)
    assert whole.shape == (2, *MAP.shape)
    for row, column in itertools.product(range(0, 70, 13), range(0, 95, 17)):
        shape = (min(13, 70 - row), min(17, 95 - column))
        part, windows = blend(predictions, row, column, shape)
        assert np.array_equal(part, whole[:, row : row + shape[0], column : column + shape[1]])
        assert np.array_equal(windows, count[row : row + shape[0], column : column + shape[1]])


def test_windows_without_enough_data_are_skipped_and_not_counted(tmp_path: Path):
    hole = (0, 70, 0, 40)
    work = job(mean_of_window, source=Field(hole=hole), min_valid=0.5)
    predictions = sliding_window_predict(work, tmp_path, ExecutorConfig(), lambda done, whole: None)
    valid = Field(hole=hole).whole()[1]
    shares = [
        [valid[t : t + 24, c : c + 32].mean() for c in work.windows.column_starts]
        for t in work.windows.row_starts
    ]
    assert np.array_equal(predictions.selected, np.array(shares) >= 0.5)
    assert 0 < predictions.selected.sum() < predictions.selected.size
    found, count = blend(predictions, 0, 0, MAP.shape)
    assert np.array_equal(np.isnan(found[0]), count == 0)
    assert (count[:, 0] == 0).all()
    assert (count[:, -1] > 0).all()


def test_a_map_smaller_than_a_window_is_one_padded_window(tmp_path: Path):
    small = Field(MapGrid(MAP.crs, MAP.transform, (10, 12)))
    found, count = run(job(mean_of_window, source=small, min_valid=0.1), tmp_path)
    assert (count == 1).all()
    np.testing.assert_allclose(found, small.whole()[0].sum() / (24 * 32), rtol=1e-6)


# --- independence of the execution ------------------------------------------------------------------


@pytest.mark.parametrize("predict_fn", [mean_of_window, Convolutions()], ids=["values", "maps"])
def test_results_do_not_depend_on_batches_or_order(
    tmp_path: Path, predict_fn, monkeypatch: pytest.MonkeyPatch
):
    results = []
    for number, batch_size in enumerate((1, 3, 64)):
        (scratch := tmp_path / str(number)).mkdir()
        results.append(run(job(predict_fn, batch_size=batch_size), scratch))
    shuffled = WindowPredictions(job(predict_fn).windows, tmp_path)
    pieces = list(job(predict_fn).windows.runs(2))
    random.Random(0).shuffle(pieces)
    for piece in pieces:
        shuffled.add(predict_run(job(predict_fn, batch_size=2), piece))
    results.append(blend(shuffled, 0, 0, MAP.shape))
    (mean, count), *others = results
    for other_mean, other_count in others:
        assert np.array_equal(count, other_count)
        # Convolutions round the last bit differently for other batch sizes; sums do not.
        np.testing.assert_allclose(mean, other_mean, rtol=2e-6 if isinstance(predict_fn, nn.Module) else 0)


def test_results_do_not_depend_on_workers(tmp_path: Path):
    there = run(job(mean_of_window), tmp_path, ExecutorConfig(1))
    here = run(job(mean_of_window), tmp_path)
    for one, other in zip(here, there, strict=True):
        assert np.array_equal(one, other)


def test_a_failed_window_is_an_error(tmp_path: Path):
    with pytest.raises(
        GeovisionError, match=r"prediction of windows 0 to 4 of row 0 failed: .*no such kernel"
    ):
        sliding_window_predict(job(fails), tmp_path, executor.ExecutorConfig(), lambda done, whole: None)


# --- models of masks and fields -------------------------------------------------------------------


class Twofold(nn.Module):
    """Local sums of terrain and of radar at several times, on a finer grid by `factor`."""

    num_features = 1

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.radar, self.terrain = nn.Conv2d(2, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, inputs: Given, *, valid=None, context=None) -> Tensor:
        moments = torch.stack([self.radar(moment) for moment in inputs["radar"].unbind(1)]).mean(0)
        coarse = moments + self.terrain(inputs["terrain"])
        return coarse.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)

    def valid_mask(self, inputs: Given, valid: Given | None, shape: torch.Size) -> Tensor | None:
        if valid is None or "radar" not in valid:
            return None
        there = valid["radar"].flatten(1, 2).any(1, keepdim=True)
        return there.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)


RADAR = InputSpec(
    "radar",
    tuple(Channel(f"level_{n}", "dBZ", (-33.0, 80.0), std=30.0) for n in (1, 2)),
    layout="time channel y x",
)
TERRAIN = InputSpec("terrain", (Channel("elevation", "m", (-500.0, 9000.0), std=1000.0),))


def model_of(target: MaskTarget | FieldTarget, head: nn.Module, factor: int) -> GeoModel:
    torch.manual_seed(0)
    spec = ModelSpec("polarlow-of-a-test", "polarlow", "tests:none", capabilities=frozenset({"any_size"}))
    task = registry.find_task("polarlow")
    return GeoModel(spec, task, ModelConfig(), (RADAR, TERRAIN), target, Twofold(factor), head).eval()


@pytest.mark.parametrize("kind", ["mask", "field"])
@pytest.mark.parametrize("factor", [1, 2])
def test_a_dense_model_predicts_a_map_of_any_size(tmp_path: Path, kind: str, factor: int):
    if kind == "mask":
        head: nn.Module = IdentityMaskHead(1, MaskTarget("hail"))
    else:
        head = FieldHead(1, FieldTarget(Channel("rain", "mm day-1", (0.0, 2000.0))))
    model = model_of(head.target, head, factor)
    rng = np.random.default_rng(3)
    radar = rng.uniform(-33, 60, (3, 2, *MAP.shape)).astype(np.float32)
    radar[..., :30, 50:] = np.nan
    radar[0, :, 40:] = np.nan  # at one time only
    terrain = rng.uniform(0, 3000, (1, *MAP.shape)).astype(np.float32)
    there = {"radar": np.isfinite(radar), "terrain": np.isfinite(radar).any((0, 1))[None]}
    source = ArraySource(MAP, {"radar": np.nan_to_num(radar), "terrain": terrain}, there)
    stages: list[str] = []
    found = predict_raster(
        model,
        source,
        tmp_path / "a",
        size=(24, 32),
        overlap=0.5,
        batch_size=3,
        progress=lambda what, done, whole: stages.append(what),
    )
    assert (set(stages), found.layers) == ({"predicting", "merging"}, (head.target.name,))
    with rasterio.open(found.files["answer"]) as dataset:
        predicted = dataset.read(1)
        assert dataset.descriptions == found.layers
        assert dataset.crs.to_epsg() == 3995
        assert dataset.transform == MAP.affine @ Affine.scale(1 / factor)
        assert dataset.tags()["geovision_model"] == "polarlow-of-a-test"
    assert predicted.shape == (70 * factor, 95 * factor)
    known = there["terrain"][0].repeat(factor, 0).repeat(factor, 1)
    assert np.array_equal(np.isfinite(predicted), known)
    with torch.no_grad():
        inputs = {name: torch.from_numpy(each)[None] for name, each in source.inputs.items()}
        valid = {name: torch.from_numpy(each)[None] for name, each in there.items()}
        whole = head.estimate(model(inputs, valid=valid).values)[0, 0].numpy()
    # Cells at the edge of a window lack context, and have a small weight.
    assert np.abs(predicted - whole)[known].max() < 0.02 * np.nanmax(np.abs(whole[known]))
    with rasterio.open(found.files["count"]) as dataset:
        assert np.array_equal(dataset.read(1) > 0, known)


def test_workers_and_this_process_predict_the_same_map(tmp_path: Path):
    torch.manual_seed(0)
    model = geovision.create("polarlow-tiny", size=(32, 32))
    counts = np.random.default_rng(0).integers(1, 255, (2, *MAP.shape), np.uint8)
    counts[:, :, 70:] = 0
    source = ArraySource(MAP, {"image": counts}, {"image": counts[0] != 0})
    results = []
    for workers in (None, ExecutorConfig(1)):
        found = predict_raster(model, source, tmp_path / "a", executor_config=workers, min_valid=0.5)
        assert found.skipped > 0
        results.append([rasterio.open(found.files[kind]).read() for kind in ("answer", "count")])
    for here, there in zip(*results, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-6)


def test_invalid_windows_are_refused(tmp_path: Path):
    head = IdentityMaskHead(1, MaskTarget("hail"))
    model = model_of(head.target, head, 1)
    nothing = {"radar": np.full((3, 2, 70, 95), np.nan), "terrain": np.full((1, 70, 95), np.nan)}
    with pytest.raises(OptionError, match="accepts any size; set the size of a window with size="):
        predict_raster(model, ArraySource(MAP, nothing), tmp_path / "a")
    with pytest.raises(InputError, match="no window of 24 x 32 cells has data in 25% of its cells, on a map"):
        predict_raster(model, ArraySource(MAP, nothing), tmp_path / "a", size=(24, 32))
    assert list(tmp_path.iterdir()) == []
