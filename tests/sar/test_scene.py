"""Prediction over a full radar scene: outputs, georeferencing and errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from helpers.commands import ran
from helpers.scenes import CHANNELS, UTM, disc, save
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

import geovision
from geovision.datasets.synthetic import sar_scene
from geovision.errors import InputError, OptionError, UnreadableFileError
from geovision.inference import ExecutorConfig
from geovision.models.geomodel import GeoModel
from geovision.physics.backscatter import DEFAULT_DB_RANGES, DecibelRange
from geovision.readers.sar import MapGrid, model_grid, open_scene, write_counts
from geovision.sar import SceneConfig, predict_scene
from geovision.sar.quicklook import graticule

FLAT = {"cross_pol": DecibelRange(-40, -5), "co_pol": DecibelRange(-30, 0)}
DB = SceneConfig("db", db_range=FLAT)
PLACE = Affine(800, 0, 300_000, 0, -800, 8_200_000)  # the tiny model has pixels of 2 km and windows of 256 km


class Bright(nn.Module):
    """Mean co-polarized brightness of the window center, so that the expected prediction is known."""

    num_features = 1

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, inputs: Mapping[str, Tensor], *, valid=None, context=None) -> Tensor:
        image = inputs[self.name]
        height, width = image.shape[-2:]
        middle = image[:, 1, height // 4 : -height // 4, width // 4 : -width // 4]
        return middle.mean((1, 2))[:, None]


@pytest.fixture(scope="module")
def bright() -> GeoModel:
    """Model with a high probability if at least an eighth of the window center is bright."""
    model = geovision.create("polarlow-tiny")
    model.network = Bright(model.inputs[0].name)
    model.head = type(model.head)(1, model.target).eval()
    with torch.no_grad():
        # The sea has (-25 + 30) / 30 of the counts, the disc (-8 + 30) / 30.
        model.head.linear.weight.copy_(torch.tensor([[0.0], [100.0]]))
        model.head.linear.bias.copy_(torch.tensor([0.0, -100 * (5 / 30 + 17 / 30 / 8)]))
    return model


@pytest.fixture(scope="module")
def tiny() -> GeoModel:
    torch.manual_seed(0)
    return geovision.create("polarlow-tiny")


def planted(folder: Path, row: float = 650, column: float = 850) -> Path:
    """800 x 1000 km of sea with a bright disc of 45 km radius."""
    values = disc((1000, 1250), row, column, 56)
    return save(folder / "s_20200110T050607.tif", values, place=PLACE, blockxsize=256, blockysize=256)


# --- outputs --------------------------------------------------------------------------------------


def test_a_planted_disc_is_detected_at_its_position(bright: GeoModel, tmp_path: Path):
    path = planted(tmp_path)
    found = predict_scene(bright, path, tmp_path / "out" / "a", DB, overlap=0.75)
    (one,) = found.detections
    grid = open_scene(path, CHANNELS, quantity="db").grid
    x, y = MapGrid("EPSG:4326", (1, 0, 0, 0, 1, 0), (1, 1)).points(
        np.array([one.latitude]), np.array([one.longitude]), UTM
    )
    row, column = grid.rowcol(x, y)
    assert np.hypot(row - 650, column - 850)[0] * 800 < 32 * 2000 / 2  # half the distance between windows
    assert one.probability > 0.7
    assert one.valid == 1.0
    text = json.loads(found.files["detections"].read_text(encoding="utf-8"))
    (feature,) = text["features"]
    assert feature["geometry"]["type"] == "Point"
    assert feature["geometry"]["coordinates"] == pytest.approx([one.longitude, one.latitude], abs=1e-4)
    assert feature["properties"]["time"] == "2020-01-10T05:06:07Z"
    assert feature["properties"]["label"] == "pos"
    assert text["geovision"]["db_range"] == {"cross_pol": [-40, -5], "co_pol": [-30, 0]}
    with Image.open(found.files["picture"]) as picture:
        assert picture.size[0] > 500


def test_distances_are_in_km(bright: GeoModel, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch):
    values = np.maximum(disc((1000, 1250), 500, 350, 56), disc((1000, 1250), 500, 850, 56))  # 400 km apart
    path = save(tmp_path / "two.tif", values, place=PLACE)
    found = {
        separation: predict_scene(
            bright, path, tmp_path / f"{separation}", DB, overlap=0.75, separation=separation
        )
        for separation in (200.0, 600.0)
    }
    assert {separation: len(each.detections) for separation, each in found.items()} == {200.0: 2, 600.0: 1}
    for scene in found.values():
        features = json.loads(scene.files["detections"].read_text(encoding="utf-8"))["features"]
        for one, feature in zip(scene.detections, features, strict=True):
            assert 30 < one.radius < 400
            assert feature["properties"]["radius_km"] == pytest.approx(one.radius, abs=0.051)

    monkeypatch.setattr("geovision.cli.scene.open_model", lambda model, weights: bright)
    ranges = ",".join(f"{name}={each.low:g}:{each.high:g}" for name, each in FLAT.items())
    code, out, err = command(
        "bright",
        path,
        "--out",
        tmp_path / "cli",
        "--quantity",
        "db",
        "--db-range",
        ranges,
        "--overlap",
        "0.75",
        "--separation",
        "200",
        "--format",
        "jsonl",
    )
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["radius_km"] for row in rows] == [round(one.radius, 1) for one in found[200.0].detections]


def test_maps_are_cogs_on_the_pixels_of_the_model(bright: GeoModel, tmp_path: Path):
    found = predict_scene(bright, planted(tmp_path), tmp_path / "a", DB)
    for kind, dtype in (("probability", "float32"), ("count", "uint16")):
        with rasterio.open(found.files[kind]) as dataset:
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert dataset.dtypes == (dtype,)
            assert dataset.crs == rasterio.CRS.from_user_input("EPSG:3995")
            assert dataset.res == (2000, 2000)
            assert dataset.tags()["geovision_model"] == "polarlow-tiny"
    with rasterio.open(found.files["probability"]) as dataset:
        probability, names = dataset.read(1), dataset.descriptions
    with rasterio.open(found.files["count"]) as dataset:
        count = dataset.read(1)
    assert names == ("pos",)
    assert np.array_equal(np.isnan(probability), count == 0)
    assert np.nanmin(probability) >= 0
    assert np.nanmax(probability) <= 1
    assert count.min() == 0
    assert count.max() >= 4
    # There is no prediction outside the scene, which is rotated on this map.
    scene_cells = 800e3 * 1000e3 / 2000**2
    assert (count > 0).sum() == pytest.approx(scene_cells, rel=0.05)


def test_a_window_and_an_equal_image_give_the_same_prediction(tiny: GeoModel, tmp_path: Path):
    scene_path = tmp_path / "a.tif"
    sar_scene.write(scene_path, ("polar-low",), seed=5, pixel_size=2000.0, quantity="counts")
    with rasterio.open(scene_path) as dataset:
        cut = dataset.read(window=rasterio.windows.Window(20, 30, 128, 128))
    window = save(tmp_path / "window.tif", cut, place=Affine(2000, 0, 340_000, 0, -2000, 8_240_000), nodata=0)
    found = predict_scene(
        tiny, window, tmp_path / "w", SceneConfig("counts", crs="scene"), precision="float32"
    )
    (prediction,) = tiny.predict(cut, precision="float32")
    with rasterio.open(found.files["probability"]) as dataset:
        values = dataset.read(1)
    assert found.windows == 1
    np.testing.assert_allclose(values[cut[0] > 0], prediction.probabilities["pos"], rtol=1e-5)


def test_decibels_power_and_counts_give_the_same_predictions(tiny: GeoModel, tmp_path: Path):
    maps = []
    for quantity in ("db", "power", "counts"):
        path = tmp_path / f"{quantity}.tif"
        sar_scene.write(path, ("front",), seed=4, pixel_size=2000.0, quantity=quantity)
        limits = {} if quantity == "counts" else dict(DEFAULT_DB_RANGES)
        found = predict_scene(
            tiny, path, tmp_path / quantity, SceneConfig(quantity, db_range=limits, crs="scene")
        )
        with rasterio.open(found.files["probability"]) as dataset:
            maps.append(dataset.read(1))
    for other in maps[1:]:
        np.testing.assert_allclose(maps[0], other, atol=1e-6)


def test_a_low_in_a_400_km_scene_at_40_m_keeps_its_position(bright: GeoModel, tmp_path: Path):
    (low,) = sar_scene.write(tmp_path / "a.tif", ("polar-low",), seed=3)
    scene_40 = open_scene(tmp_path / "a.tif", CHANNELS, quantity="db")
    assert scene_40.grid.shape == (10_000, 10_000)
    grid = model_grid(scene_40.grid, 2000.0)
    counts, valid = write_counts(scene_40, grid, DEFAULT_DB_RANGES, tmp_path / "c.tif").read(0, 0, grid.shape)
    x, y = MapGrid("EPSG:4326", (1, 0, 0, 0, 1, 0), (1, 1)).points(
        np.array([low.latitude]), np.array([low.longitude]), grid.crs
    )
    rows, columns = np.indices(grid.shape) + 0.5
    row, column = grid.rowcol(x, y)
    away = np.hypot(rows - row, columns - column) * 2000
    eye = counts[1][valid & (away < 0.6 * low.radius)].mean()
    ring = counts[1][valid & (away > 1.5 * low.radius) & (away < 3 * low.radius)].mean()
    assert ring - eye > 30  # a dark eye at its position, with strong wind around it


def test_results_do_not_depend_on_batches_and_workers(tiny: GeoModel, tmp_path: Path):
    sar_scene.write(tmp_path / "a.tif", ("rain", "polar-low"), seed=2, pixel_size=2000.0)
    declared = SceneConfig("db", db_range=dict(DEFAULT_DB_RANGES))
    maps = []
    for number, (batch_size, workers) in enumerate(((16, None), (1, None), (16, ExecutorConfig(1)))):
        found = predict_scene(
            tiny,
            tmp_path / "a.tif",
            tmp_path / f"{number}",
            declared,
            batch_size=batch_size,
            precision="float32",
            executor_config=workers,
        )
        maps.append([rasterio.open(found.files[kind]).read(1) for kind in ("probability", "count")])
    for probability, count in maps[1:]:
        np.testing.assert_allclose(probability, maps[0][0], atol=1e-6)
        assert np.array_equal(count, maps[0][1])
    assert not list(tmp_path.glob(".geovision-scene-*"))


def test_detections_contain_mask_fractions(bright: GeoModel, tmp_path: Path):
    path = planted(tmp_path)
    # Land is west of the disc center, on another grid; the ice mask does not cover the disc.
    columns = np.arange(1250)
    land = np.broadcast_to((columns < 850).astype(np.uint8), (1, 1000, 1250))
    save(
        tmp_path / "land.tif", land.copy(), place=Affine(800, 0, 300_000, 0, -800, 8_200_000), names=("land",)
    )
    save(
        tmp_path / "ice.tif",
        np.ones((1, 20, 20), np.uint8),
        place=Affine(500, 0, 0, 0, -500, 7e6),
        names=("i",),
    )
    found = predict_scene(
        bright,
        path,
        tmp_path / "a",
        DB,
        overlap=0.75,
        masks={"land": tmp_path / "land.tif", "ice": tmp_path / "ice.tif"},
    )
    (one,) = found.detections
    assert one.mask_fractions["land"] == pytest.approx(0.5, abs=0.2)
    assert one.mask_fractions["ice"] is None
    (feature,) = json.loads(found.files["detections"].read_text(encoding="utf-8"))["features"]
    assert feature["properties"]["ice_fraction"] is None


def test_longitudes_across_the_antimeridian_are_between_minus_180_and_180(bright: GeoModel, tmp_path: Path):
    longitudes = []
    for number, column in enumerate((450, 800)):
        values = disc((1000, 1250), 500, column, 56)
        # The scene is aligned with the antimeridian, which crosses its center.
        path = save(
            tmp_path / f"{number}.tif", values, crs="EPSG:32601", place=Affine(800, 0, 0, 0, -800, 8_200_000)
        )
        (one,) = predict_scene(bright, path, tmp_path / f"out{number}", DB, overlap=0.75).detections
        longitudes.append(one.longitude)
    assert 160 < longitudes[0] < 180
    assert -180 < longitudes[1] < -160


def test_windows_with_little_data_are_skipped(bright: GeoModel, tmp_path: Path):
    values = disc((1000, 1250), 650, 850, 56)
    values[:, :, :625] = np.nan
    path = save(tmp_path / "a.tif", values, place=PLACE)
    declared = SceneConfig("db", db_range=FLAT, crs="scene")
    found = predict_scene(bright, path, tmp_path / "a", declared, min_valid=0.6)
    assert 0 < found.skipped < found.windows
    with rasterio.open(found.files["count"]) as dataset:
        count = dataset.read(1)
    assert (count[:, :250] == 0).all()
    assert (count[:, 400:] > 0).all()


# --- limits ---------------------------------------------------------------------------------------


def test_limits_are_stored_with_a_model(tmp_path: Path):
    limits = {name: (each.low, each.high) for name, each in FLAT.items()}
    model = geovision.load(geovision.create("polarlow-tiny", db_range=limits).save(tmp_path / "model"))
    path = save(tmp_path / "a.tif", disc((350, 350), 175, 175, 50), place=PLACE)
    found = predict_scene(model, path, tmp_path / "a", SceneConfig("db"))
    text = json.loads(found.files["detections"].read_text(encoding="utf-8"))
    assert text["geovision"]["db_range"] == {"cross_pol": [-40, -5], "co_pol": [-30, 0]}
    with pytest.raises(
        OptionError, match=r"expects its stored decibel range cross_pol=-40:-5,co_pol=-30:0; leave out"
    ):
        predict_scene(model, path, tmp_path / "b", SceneConfig("db", db_range=dict(DEFAULT_DB_RANGES)))


def test_a_model_of_the_published_images_needs_a_decibel_range(tiny: GeoModel, tmp_path: Path):
    path = save(tmp_path / "a.tif", disc((350, 350), 175, 175, 50), place=PLACE)
    with pytest.raises(
        OptionError, match=r"whose decibels are not declared .* --db-range cross_pol=LOW:HIGH"
    ):
        predict_scene(tiny, path, tmp_path / "a", SceneConfig("db"))


@pytest.mark.parametrize(
    ("name", "limits", "line"),
    [
        (
            "polarlow-tiny",
            {"co_pol": (-30, 0)},
            "for co_pol; counts of input 'image' encode a quantity in cross_pol, co_pol",
        ),
        (
            "polarlow-tiny",
            {"co_pol": (0, -30), "cross_pol": (-40, -5)},
            "the range of co_pol from 0 to -30 dB is empty",
        ),
        ("cloud-tiny", {"red": (-30, 0)}, "encode a quantity in no channel"),
    ],
)
def test_invalid_decibel_ranges_are_refused(name: str, limits, line: str):
    with pytest.raises(OptionError, match=line):
        geovision.create(name, db_range=limits)


# --- errors --------------------------------------------------------------------------------------


def test_a_scene_smaller_than_a_window_is_padded_or_refused(bright: GeoModel, tmp_path: Path):
    path = save(tmp_path / "a.tif", disc((250, 250), 125, 125, 56), place=PLACE)
    found = predict_scene(bright, path, tmp_path / "a", DB)  # 200 of 256 km
    assert found.windows == 1
    path = save(tmp_path / "b.tif", disc((50, 50), 25, 25, 10), place=PLACE)
    with pytest.raises(
        InputError, match=r"no window has data in 25% of its 256 x 256 km; the scene is 39.9 x 39.8 km"
    ):
        predict_scene(bright, path, tmp_path / "b", DB)
    assert not list(tmp_path.glob("b_*"))
    assert not list(tmp_path.glob(".geovision-scene-*"))


def test_models_of_other_inputs_are_refused(tmp_path: Path):
    with pytest.raises(
        OptionError, match="cloud-tiny expects red, green, blue; a scene needs a model of cross_pol"
    ):
        predict_scene(geovision.create("cloud-tiny"), tmp_path / "a.tif", tmp_path / "a", DB)


def test_a_bad_mask_is_reported_before_prediction(bright: GeoModel, tmp_path: Path):
    path = planted(tmp_path)
    (tmp_path / "land.tif").write_text("hello")
    with pytest.raises(UnreadableFileError, match=r"land\.tif: not readable as a mask raster"):
        predict_scene(bright, path, tmp_path / "a", DB, masks={"land": tmp_path / "land.tif"})


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
import torch
from matplotlib.figure import Figure
import geovision
from geovision import _atomic_io
from geovision.errors import StorageError
from geovision.sar import SceneConfig, predict_scene
from geovision.inference.cog import RasterWriter
from geovision.physics.backscatter import DEFAULT_DB_RANGES
from geovision.readers.sar import MapGrid

GRID = MapGrid("EPSG:3995", (500.0, 0.0, 0.0, 0.0, -500.0, 0.0), (600, 600))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
torch.manual_seed(0)
model = geovision.create("polarlow-tiny")
for limit in sys.argv[2:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    try:
        config = SceneConfig("db", db_range=dict(DEFAULT_DB_RANGES))
        predict_scene(model, folder / "a.tif", folder / "out" / "a", config)
    except StorageError as error:
        print(error)
# The map is written, but its COG copy does not fit.
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
raster = RasterWriter(folder / "raw.tif", GRID, ["a"], dtype="float32", nodata=-1.0, tags={})
raster.write(0, 0, np.random.default_rng(0).random((1, 600, 600), np.float32))
raster.close()
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
try:
    write = lambda path: raster.write_cog(path, overviews="average")
    _atomic_io.write_files(folder / "out", {"copy.tif": write})
except StorageError as error:
    print(error)
"""


def test_a_full_disk_keeps_existing_files(tiny: GeoModel, tmp_path: Path):
    sar_scene.write(tmp_path / "a.tif", ("rain", "polar-low"), seed=2, pixel_size=2000.0)
    found = predict_scene(
        tiny, tmp_path / "a.tif", tmp_path / "out" / "a", SceneConfig("db", db_range=dict(DEFAULT_DB_RANGES))
    )
    before = {path: path.read_bytes() for path in found.files.values()}
    # The counts exceed the first limit, and the merged map exceeds the second.
    limits = ("20000", "600000")
    process = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path, *limits], capture_output=True, text=True, check=True
    )
    lines = process.stdout.strip().splitlines()
    assert len(lines) == len(limits) + 1
    assert all("could not be written" in line for line in lines)
    assert {path: path.read_bytes() for path in found.files.values()} == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in before)


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]):
    """Run `geovision scene` in this process and return the exit code and both streams."""

    return partial(ran, capsys, "scene")


def test_the_command_line(command, tmp_path: Path):
    limits = {name: (each.low, each.high) for name, each in DEFAULT_DB_RANGES.items()}
    torch.manual_seed(0)
    model = geovision.create("polarlow-tiny", db_range=limits).save(tmp_path / "model")
    sar_scene.write(tmp_path / "a.tif", ("polar-low",), seed=3, pixel_size=2000.0)
    code, out, err = command(
        model,
        tmp_path / "a.tif",
        "--out",
        tmp_path / "maps" / "a",
        "--quantity",
        "db",
        "--threshold",
        "0.01",
        "--overlap",
        "0.75",
        "--bands",
        "co_pol=2,cross_pol=1",
        "--time",
        "2020-01-02T03:04:05",
        "--format",
        "jsonl",
        "--explain",
        "gradcam",
        "--precision",
        "float32",
    )
    assert code == 0, err
    row = json.loads(out.splitlines()[0])
    assert list(row) == ["longitude", "latitude", "radius_km", "probability", "valid"]
    assert "detections in" in err
    text = json.loads((tmp_path / "maps" / "a.geojson").read_text(encoding="utf-8"))
    assert text["features"][0]["properties"]["time"] == "2020-01-02T03:04:05Z"
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "a.geojson",
        "a.png",
        "a_count.tif",
        "a_probability.tif",
        *sorted(f"a_why_{number}.png" for number in range(1, len(out.splitlines()) + 1)),
    ]


def test_explain_fn_receives_the_window_around_each_detection(bright: GeoModel, tmp_path: Path):
    windows = []

    def why(window: np.ndarray) -> Figure:
        windows.append(window)
        return Figure(figsize=(2, 2))

    found = predict_scene(bright, planted(tmp_path), tmp_path / "out" / "a", DB, overlap=0.75, explain_fn=why)
    assert len(windows) == len(found.detections) == 1
    assert found.files["why_1"].name == "a_why_1.png"
    (window,) = windows
    rows, columns = window.shape[1:]
    middle = window[:, rows // 2 - 5 : rows // 2 + 5, columns // 2 - 5 : columns // 2 + 5]
    assert (middle.mean((1, 2)) > window.mean((1, 2)) + 20).all()  # location of the disc
    explanation = geovision.explain(bright, window, method="occlusion", window=8, stride=8)
    assert np.isfinite(explanation.heatmap).any()


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (
            ("--quantity", "db", "--db-range", "co_pol=-2:-28,cross_pol=-36:-14"),
            2,
            "low=-2.0 dB is not below high=-28.0 dB",
        ),
        (("--quantity", "db", "--db-range", "co_pol"), 2, "--db-range 'co_pol' is invalid; expected"),
        (("--quantity", "power", "--db-range", "cross_pol=-36:-14,co_pol=-28:-2"), 1, "its median is -"),
        (("--quantity", "db", "--bands", "co_pol=x"), 2, "--bands 'co_pol=x' is invalid; expected CHAN"),
        (("--quantity", "db"), 2, "--db-range cross_pol=LOW:HIGH,co_pol=LOW:HIGH"),
        ((), 2, "--quantity"),
    ],
)
def test_the_command_line_reports_errors_in_one_line(command, tmp_path: Path, options, code: int, line: str):
    model = geovision.create("polarlow-tiny").save(tmp_path / "model")
    sar_scene.write(tmp_path / "a.tif", ("open-sea",), seed=3, pixel_size=2000.0)
    found, out, err = command(model, tmp_path / "a.tif", "--out", tmp_path / "a", *options)
    assert found == code, err
    assert out == ""
    assert line in err


# --- quicklook ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crs", "corner", "labels"),
    [
        ("EPSG:3995", (0.0, -1_500_000.0), {"70°N", "10°E"}),
        ("EPSG:3995", (-800_000.0, 800_000.0), {"86°N", "180°", "90°W", "0°", "90°E"}),
        ("EPSG:32601", (100_000.0, 8_000_000.0), {"180°", "70°N", "170°W"}),
        ("EPSG:3031", (-800_000.0, 2_400_000.0), {"70°S", "0°"}),
    ],
)
def test_graticule_lines_match_their_labels(crs: str, corner: tuple[float, float], labels):
    grid = MapGrid(crs, (2000.0, 0.0, corner[0], 0.0, -2000.0, corner[1]), (800, 800))
    lines = graticule(grid)
    assert labels <= {text for text, _, _ in lines}
    for text, columns, rows in lines:
        inside = np.isfinite(columns)
        longitude, latitude = grid.points(rows[inside], columns[inside], "EPSG:4326")
        degrees = float(text.rstrip("NSEW").rstrip("°")) * (-1 if text[-1] in "SW" else 1)
        found = latitude if text[-1] in "NS" else (longitude - degrees + 180) % 360 - 180 + degrees
        np.testing.assert_allclose(found, degrees, atol=1e-6)
