"""Tracks of polar lows collocated with radar scenes: images in the published layout, lows centered."""

from __future__ import annotations

import csv
import datetime
from pathlib import Path

import numpy as np
import pytest

from geovision.cli import main
from geovision.datasets.polar_low_collocation import (
    TrackPoint,
    collocate,
    extract_patch,
    read_tracks,
    write_samples,
)
from geovision.datasets.polar_lows import PolarLows
from geovision.errors import DatasetError, InputError, OptionError
from geovision.physics.backscatter import DEFAULT_DB_RANGES
from geovision.readers.sar import MapGrid, RadarScene, open_scene
from geovision.readers.sar_png import read_counts
from geovision.tasks.polarlow import SAR

rasterio = pytest.importorskip("rasterio")

WHEN = datetime.datetime(2019, 10, 12, 8, 40, 28)
PIXEL = 2000.0
GRID = MapGrid("EPSG:32633", (PIXEL, 0.0, 300_000.0, 0.0, -PIXEL, 8_300_000.0), (250, 200))
BLOCK = (120, 90)  # its first cell; ten cells wide and high


def radar(folder: Path, name: str = "S1A_20191012T084028.tif") -> RadarScene:
    """Dark sea with one bright block."""
    decibels = np.full((2, *GRID.shape), -25.0, np.float32)
    row, column = BLOCK
    decibels[:, row : row + 10, column : column + 10] = -8.0
    folder.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        folder / name,
        "w",
        driver="GTiff",
        dtype="float32",
        count=2,
        height=GRID.shape[0],
        width=GRID.shape[1],
        crs=GRID.crs,
        transform=GRID.affine,
    ) as dataset:
        dataset.descriptions = ("VH", "VV")
        dataset.write(decibels)
    return open_scene(folder / name, ("cross_pol", "co_pol"), quantity="db")


def middle_of_the_block(**also: str) -> TrackPoint:
    longitude, latitude = GRID.lonlat(BLOCK[0] + 5, BLOCK[1] + 5)
    return TrackPoint(WHEN, latitude, longitude, **also)


def tracks(folder: Path, *lines: str, header: str = "time,latitude,longitude,track,label") -> Path:
    path = folder / "tracks.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def met(scene: RadarScene, *points: TrackPoint, minutes: float = 60):
    return list(collocate([scene], points, max_time_offset=datetime.timedelta(minutes=minutes)))


def test_the_low_is_in_the_middle_of_its_image(tmp_path: Path):
    found = met(radar(tmp_path), middle_of_the_block(label="pos"))
    (line,) = write_samples(found, tmp_path / "mine", DEFAULT_DB_RANGES, pixel_size=PIXEL)
    path = tmp_path / "mine" / "train" / "pos" / line["picture"]
    counts = read_counts(path, SAR.with_pixel_size(PIXEL))
    assert counts.shape == (2, 200, 200)
    rows, columns = np.nonzero(counts[1] > 180)
    assert abs(rows.mean() - 99.5) < 1
    assert abs(columns.mean() - 99.5) < 1
    # The size is unchanged: 20 km per side.
    assert 0.85 < len(rows) / 100 < 1.15
    small = extract_patch(found[0].scene, found[0].position, DEFAULT_DB_RANGES, pixel_size=PIXEL, extent=100)
    assert small.shape == (2, 50, 50), "100 km"
    assert np.abs(small.astype(int) - counts[:, 75:125, 75:125]).mean() < 1


def test_the_data_set_is_read_by_its_adapter(tmp_path: Path):
    scene = radar(tmp_path)
    points = middle_of_the_block(label="pos"), TrackPoint(WHEN, 73.2, 14.5, label="neg")
    write_samples(met(scene, *points), tmp_path / "mine", DEFAULT_DB_RANGES, pixel_size=PIXEL)
    data = PolarLows(tmp_path / "mine", pixel_size=PIXEL)
    assert sorted(data.labels) == [0, 1]
    assert {begin for begin, _ in data.times()} == {WHEN}


def test_unlabeled_images_are_written_to_unsorted(tmp_path: Path):
    out = tmp_path / "mine"
    write_samples(met(radar(tmp_path), middle_of_the_block()), out, DEFAULT_DB_RANGES, pixel_size=PIXEL)
    assert len(list((out / "unsorted").glob("*.png"))) == 1
    assert not (out / "train").exists()


def test_between_two_points_the_low_moves_along_the_great_circle(tmp_path: Path):
    quarter = datetime.timedelta(minutes=45)
    before = TrackPoint(WHEN - quarter / 3, 80.0, 170.0, "a", "pos")
    after = TrackPoint(WHEN + quarter * 2 / 3, 80.0, -130.0, "a", "neg")
    (meeting,) = met(radar(tmp_path), after, before)
    assert meeting.time_offset == quarter / 3
    assert meeting.position.label == "pos"
    # The track crosses the date line near the pole. The position is a third of the way along an arc of
    # 60 degrees of longitude at 80 N. The great circle is tan(lat) cos(lon - 200) = tan(80) / cos(30); its
    # vertex is at longitude 200.
    place = meeting.position
    vertex = np.degrees(np.arctan(np.tan(np.radians(80)) / np.cos(np.radians(30))))
    on_circle = np.tan(np.radians(vertex)) * np.cos(np.radians(place.longitude - 200))
    assert np.tan(np.radians(place.latitude)) == pytest.approx(on_circle, rel=1e-9)
    assert 180 < place.longitude % 360 < 200


def test_a_track_far_in_time_is_not_collocated(tmp_path: Path):
    late = TrackPoint(WHEN + datetime.timedelta(hours=3), 74.0, 15.0)
    assert met(radar(tmp_path), late) == []


def test_images_with_too_little_data_are_not_written(tmp_path: Path):
    corner = GRID.lonlat(0, 0)
    found = met(radar(tmp_path), TrackPoint(WHEN, corner[1], corner[0], label="neg"))
    assert write_samples(found, tmp_path / "mine", DEFAULT_DB_RANGES, pixel_size=PIXEL, min_valid=0.5) == []


def test_the_record_of_an_earlier_run_stays(tmp_path: Path):
    first, second = radar(tmp_path), radar(tmp_path, "S1A_20191013T084028.tif")
    point, out = middle_of_the_block(label="pos"), tmp_path / "mine"
    later = TrackPoint(WHEN + datetime.timedelta(days=1), point.latitude, point.longitude, label="pos")
    write_samples(met(first, point), out, DEFAULT_DB_RANGES, pixel_size=PIXEL)
    write_samples(met(second, later), out, DEFAULT_DB_RANGES, pixel_size=PIXEL)
    write_samples(met(second, later), out, DEFAULT_DB_RANGES, pixel_size=PIXEL)
    with (out / "samples.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["scene"] for line in lines] == [Path(scene.path).name for scene in (first, second)]
    assert lines[0]["db_range"] == "cross_pol=-36:-14 co_pol=-28:-2"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("yesterday,70,10,,", r"line 2: Invalid isoformat string: 'yesterday'"),
        ("2019-10-12T08:00,north,10,,", r"line 2: could not convert string to float: 'north'"),
        ("2019-10-12T08:00,150,70,,", r"line 2: 150.0 N, 70.0 E is not a valid position; .* swapped"),
        ("2019-10-12T08:00,70,10,,maybe", r"line 2: label 'maybe'; expected neg or pos, or an empty cell"),
    ],
)
def test_a_bad_line_of_a_track_is_named(tmp_path: Path, line: str, message: str):
    with pytest.raises(DatasetError, match=message):
        read_tracks(tracks(tmp_path, line))


def test_a_list_without_a_column_is_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match="no column 'longitude'; expected time, latitude, longitude"):
        read_tracks(tracks(tmp_path, "2019-10-12,70", header="time,latitude"))
    with pytest.raises(DatasetError, match="cannot be read"):
        read_tracks(tmp_path / "none.csv")


def test_times_are_converted_to_utc(tmp_path: Path):
    (point,) = read_tracks(tracks(tmp_path, "2019-10-12T10:40:28+02:00,70,350,,"))
    assert point.time == WHEN
    assert point.longitude == -10


def test_a_scene_without_a_time_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"pass\.tif has no time; .* tag DATETIME"):
        met(radar(tmp_path, "pass.tif"), middle_of_the_block())


def test_the_decibel_range_of_counts_is_required(tmp_path: Path):
    found = met(radar(tmp_path), middle_of_the_block(label="pos"))
    with pytest.raises(OptionError, match="decibels are not declared"):
        write_samples(found, tmp_path / "mine", None, pixel_size=PIXEL)
    with pytest.raises(InputError, match="the model expects at most 500 m"):
        write_samples(found, tmp_path / "mine", DEFAULT_DB_RANGES)
    with pytest.raises(OptionError, match="choose train or test"):
        write_samples(found, tmp_path / "mine", DEFAULT_DB_RANGES, split="validation")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture):
    radar(tmp_path / "scenes")
    point = middle_of_the_block()
    path = tracks(tmp_path, f"{WHEN.isoformat()},{point.latitude},{point.longitude},a,pos")
    with pytest.raises(SystemExit) as left:
        main(
            [
                "polarlow-samples",
                str(path),
                str(tmp_path / "scenes" / "*.tif"),
                "--out",
                str(tmp_path / "mine"),
                "--quantity",
                "db",
                "--db-range",
                "cross_pol=-36:-14,co_pol=-28:-2",
                "--pixel-size",
                "2000",
                "--extent",
                "300",
                "--max-time-offset",
                "90",
                "--min-valid",
                "0.2",
                "--format",
                "csv",
            ]
        )
    assert left.value.code == 0
    printed = capsys.readouterr()
    (line,) = csv.DictReader(printed.out.splitlines())
    counts = read_counts(tmp_path / "mine" / line["folder"] / line["picture"], SAR.with_pixel_size(PIXEL))
    assert counts.shape == (2, 150, 150), "300 km"
    assert "1 matches within 90 minutes" in printed.err
