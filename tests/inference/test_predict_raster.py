"""Hail and rain models on maps larger than a window: results do not depend on the execution."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from helpers import entries

import geovision
from geovision import registry
from geovision.errors import OptionError
from geovision.inference import ArraySource, ExecutorConfig, predict_raster
from geovision.inference.sliding_window import (
    MAX_RUN_LENGTH,
    WindowPredictions,
    WindowTask,
    blend,
    predict_run,
    sliding_window_predict,
)
from geovision.inference.tiling import WindowGrid
from geovision.inference.window_predictor import make_predict_fn, temporary_sibling_dir
from geovision.models.geomodel import GeoModel
from geovision.readers.sar import MapGrid
from geovision.spec import Grid as LatLon
from geovision.spec import GridPair

WINDOW = (16, 24)
SHAPE = (44, 60)
MAP = MapGrid("EPSG:4326", (0.01, 0.0, 105.0, 0.0, -0.01, 35.0), SHAPE)
FINER = {"hail-hinet": 1, "hail-unet-resnet18": 1, "downscale-maunet": 4, "biascorrect-unet": 1}


@pytest.fixture(scope="module")
def models() -> dict[str, GeoModel]:
    return {name: entries.tiny(registry.find_model(name)) for name in FINER}


def source(model: GeoModel, shape: tuple[int, int] = SHAPE) -> ArraySource:
    """Plausible inputs: the first input misses a corner, and one source is missing entirely."""
    generator = torch.Generator().manual_seed(4)
    inputs = {}
    for spec in model.inputs:
        lengths = [3] * (len(spec.layout.split()) - 3)
        channels = [entries.plausible(c, (*lengths, *shape), generator) for c in spec.channels]
        inputs[spec.name] = torch.stack(channels, spec.channel_axis).numpy()
    inputs[model.inputs[0].name][..., : shape[0] // 3, shape[1] // 2 :] = np.nan
    if "fy4b" in inputs:
        inputs["fy4b"][:] = np.nan
    return ArraySource(MapGrid(MAP.crs, MAP.transform, shape), inputs)


def bands(files) -> list[np.ndarray]:
    found = []
    for kind in ("answer", "count"):
        with rasterio.open(files[kind]) as dataset:
            found.append(dataset.read(1))
    return found


@pytest.mark.parametrize("name", FINER)
def test_one_window_equals_the_prediction_of_the_model(
    name: str, models: dict[str, GeoModel], tmp_path: Path
):
    model, size = models[name], (32, 32)
    given = source(model, size)
    found = predict_raster(model, given, tmp_path / "a", size=size, precision="float32")
    predicted, count = bands(found.files)
    inputs = {key: torch.from_numpy(np.nan_to_num(values))[None] for key, values in given.inputs.items()}
    valid = {key: torch.from_numpy(np.isfinite(values))[None] for key, values in given.inputs.items()}
    with torch.no_grad():
        output = model(inputs, valid=valid)
    expected = model.head.estimate(output.values)[0, 0].numpy()
    assert predicted.shape == expected.shape == tuple(FINER[name] * side for side in size)
    there = np.isfinite(predicted)
    assert there.mean() > 0.8
    assert np.array_equal(count > 0, there)
    np.testing.assert_allclose(predicted[there], expected[there], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FINER)
def test_results_do_not_depend_on_batches_or_window_order(
    name: str, models: dict[str, GeoModel], tmp_path: Path
):
    model = models[name]
    size = (32, 32) if "unet-" in name else WINDOW
    maps = []
    for batch_size in (1, 4):
        found = predict_raster(model, source(model), tmp_path / "a", size=size, batch_size=batch_size)
        assert found.windows > 2 * (found.grid.shape[0] // (size[0] * FINER[name]))
        maps.append(bands(found.files)[0])
    with temporary_sibling_dir(tmp_path) as scratch:
        windows = WindowGrid(SHAPE, size, 0.5)
        job = WindowTask(source(model), windows, make_predict_fn(model, "auto", None, scratch), batch_size=3)
        ordered = sliding_window_predict(job, scratch, ExecutorConfig(), lambda done, whole: None)
        shape = tuple(FINER[name] * side for side in SHAPE)
        expected, _ = blend(ordered, 0, 0, shape)
    with temporary_sibling_dir(tmp_path) as scratch:
        shuffled, pieces = WindowPredictions(windows, scratch), list(windows.runs(2))
        assert len(pieces) > len(list(windows.runs(MAX_RUN_LENGTH)))
        random.Random(1).shuffle(pieces)
        for piece in pieces:
            shuffled.add(predict_run(job, piece))
        reordered, _ = blend(shuffled, 0, 0, shape)
    np.testing.assert_allclose(reordered, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-4, atol=1e-6)
    there = np.isfinite(maps[0])
    np.testing.assert_allclose(maps[0][there], expected[0][there], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize("name", FINER)
def test_a_dask_cluster_gives_the_results_of_this_process(
    name: str, models: dict[str, GeoModel], tmp_path: Path, scheduler: str
):
    model = models[name]
    size = (32, 32) if "unet-" in name else WINDOW
    results = []
    for workers in (None, ExecutorConfig(scheduler=scheduler)):
        found = predict_raster(model, source(model), tmp_path / "a", size=size, executor_config=workers)
        results.append(bands(found.files))
    (here, counted), (there, recounted) = results
    assert np.array_equal(counted, recounted)
    assert np.isfinite(here).any()
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-7)


def test_a_network_trained_between_two_grids_is_refused(tmp_path: Path):
    coarse = LatLon((10.0, 11.0, 12.0, 13.0), (0.0, 1.0, 2.0, 3.0))
    fine = LatLon(tuple(np.arange(9.5, 13.5, 0.5)), tuple(np.arange(-0.5, 3.5, 0.5)))
    arch = {"widths": [4, 6, 8], "factor": 2}
    model = geovision.create("downscale-maunet", model_args=arch, grids=GridPair(coarse, fine))
    with pytest.raises(OptionError, match="predicts only on the grid that it was fitted for, not on windows"):
        predict_raster(model, source(model), tmp_path / "a", size=WINDOW)
