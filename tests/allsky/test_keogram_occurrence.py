"""Keograms of existing frames, and occurrence statistics of archive tables."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.archives import GREY, PICTURES, SITES, START, minute_name, minutes, pictures, sky, small_model
from helpers.commands import ran
from PIL import Image

import geovision
from geovision.allsky import FrameConfig
from geovision.allsky._keogram import FrameSelection, Keogram, Meridian, keogram
from geovision.allsky._occurrence import Occurrence, occurrence
from geovision.allsky.frames import COLUMNS, FLAGS
from geovision.allsky.plot import plot_keogram, plot_occurrence
from geovision.errors import InputError, OptionError
from geovision.inference import ExecutorConfig
from geovision.inference.shards import Shard
from geovision.inference.table import ArchiveTable
from geovision.physics.magnetic import dipole_bearing, dipole_pole, magnetic_local_time
from geovision.readers.allsky import Frame, Stretch, frames, to_rgb, write_pgm

CLASSES = ("arc", "patch", "clear")


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return minutes(tmp_path_factory.mktemp("streams"), 4, stations=("gill", "fsmi"))


@pytest.fixture(scope="module")
def table(streams: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tables") / "table"
    geovision.predict_archive(
        small_model(), streams, out, frame_config=GREY, executor_config=ExecutorConfig(0)
    )
    return out


# --- keograms -----------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> Frame:
    """Frame with an odd size, so that one pixel is its exact center, and its file ``odd.pgm``."""
    frame = Frame(sky(5, 41), START, "gill", "themis19", 1.0, str(tmp_path / "odd.pgm"), 0)
    write_pgm(frame.path, [frame])
    return frame


@pytest.mark.parametrize(
    ("north", "line"),
    [
        (None, np.s_[:, 20]),
        (0.0, np.s_[:, 20]),
        (180.0, np.s_[::-1, 20]),
        (90.0, np.s_[20, ::-1]),
        (-90.0, np.s_[20, :]),
    ],
)
def test_a_slice_is_the_line_through_the_middle(odd: Frame, north: float | None, line):
    reading = dataclasses.replace(GREY, channels=None)
    made = keogram(odd.path, frame_config=reading, meridian=Meridian(north), num_samples=41)
    picture = to_rgb(odd, Stretch(2000, 12000), "grey").transpose(1, 2, 0)
    assert np.array_equal(made.slices[0], picture[line])
    assert made.end_labels == (("top", "bottom") if north is None else ("N", "S"))


def test_a_slice_is_limited_to_the_circle(odd: Frame):
    from geovision.readers.allsky import Circle

    reading = dataclasses.replace(GREY, circles={"": Circle(22, 18, 9)})
    made = keogram(odd.path, frame_config=reading, num_samples=19)
    picture = to_rgb(odd, Stretch(2000, 12000), "grey").transpose(1, 2, 0)
    assert np.array_equal(made.slices[0], picture[9:28, 22])


@pytest.mark.parametrize("place", [SITES["gill"], (67.84, 20.41), (-77.85, 166.67)])
def test_the_bearing_points_to_the_pole(place: tuple[float, float]):
    phi, lam = np.radians(place)
    bearing = np.radians(dipole_bearing(*place, 2015))
    pole_phi, pole_lam = np.radians(dipole_pole(2015))
    cosine = np.sin(phi) * np.sin(pole_phi) + np.cos(phi) * np.cos(pole_phi) * np.cos(lam - pole_lam)
    distance = np.arccos(cosine)
    # Latitude and longitude of the point at this distance and bearing:
    latitude = np.arcsin(np.sin(phi) * np.cos(distance) + np.cos(phi) * np.sin(distance) * np.cos(bearing))
    longitude = lam + np.arctan2(
        np.sin(bearing) * np.sin(distance) * np.cos(phi),
        np.cos(distance) - np.sin(phi) * np.sin(latitude),
    )
    assert latitude == pytest.approx(pole_phi, abs=1e-9)
    assert np.cos(longitude - pole_lam) == pytest.approx(1, abs=1e-9)


def test_a_magnetic_meridian_turns_towards_the_pole():
    bearing = dipole_bearing(*SITES["gill"], 2014)
    assert bearing > 5, "the pole lies east of north of Gillam"
    assert Meridian(10, "magnetic", "right").angle(SITES["gill"], 2014) == pytest.approx(10 + bearing)
    assert Meridian(10, "magnetic", "left").angle(SITES["gill"], 2014) == pytest.approx(10 - bearing)
    with pytest.raises(OptionError, match="requires the site"):
        Meridian(10, "magnetic").angle(None, 2014)


def test_a_keogram_of_a_table_has_its_classes(table: Path, streams: Path):
    made = keogram(table, selection=FrameSelection(station="gill"))
    rows = geovision.read_table(table).to_pylist()
    gill = [row for row in rows if row["station"] == "gill"]
    assert [(row["path"], row["frame"], row["label"]) for row in made.rows] == [
        (row["path"], row["frame"], row["label"]) for row in gill
    ]
    assert made.classes == small_model().target.classes
    plain = keogram(streams / "gill", frame_config=GREY)
    assert np.array_equal(plain.slices, made.slices)
    assert np.array_equal(plain.times, made.times)
    assert plain.classes == ()


def test_only_the_chosen_times_are_drawn(table: Path, streams: Path):
    minute = datetime.timedelta(minutes=1)
    chosen = FrameSelection("gill", begin=START + minute, end=START + 2 * minute)
    for made in (keogram(table, selection=chosen), keogram(streams, selection=chosen, frame_config=GREY)):
        assert len(made.times) == 5
        assert made.times[0] == np.datetime64("2014-03-10T06:01:00")


def test_frames_of_two_cameras_are_not_mixed(table: Path, streams: Path):
    with pytest.raises(
        OptionError, match=r"several cameras \(fsmi themis10, gill themis19\).* Select the station"
    ):
        keogram(table)
    with pytest.raises(OptionError, match="a keogram shows one"):
        keogram(streams, frame_config=GREY)


def test_deleted_files_are_reported_and_the_others_are_drawn(tmp_path: Path):
    own = minutes(tmp_path / "in", 3)
    geovision.predict_archive(
        small_model(), own, tmp_path / "out", frame_config=GREY, executor_config=ExecutorConfig(0)
    )
    gone = own / "gill" / minute_name("gill", START)
    gone.unlink()
    made = keogram(tmp_path / "out")
    assert len(made.times) == 10
    assert list(made.missing) == [str(gone)]
    shutil.rmtree(own)
    with pytest.raises(InputError, match=r"nothing to draw: .*no such file"):
        keogram(tmp_path / "out")


def test_an_empty_selection_is_refused(table: Path, streams: Path):
    with pytest.raises(InputError, match="no readable frame matches the selection"):
        keogram(table, selection=FrameSelection("kiruna"))
    with pytest.raises(InputError, match="nothing to draw: no frame with a time matches the selection"):
        keogram(streams, selection=FrameSelection("kiruna"), frame_config=GREY)


def test_a_night_that_is_too_long_is_refused(streams: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("geovision.allsky._keogram.MAX_FRAMES", 12)
    with pytest.raises(OptionError, match=r"at least 13 frames; a keogram has at most 12\. Select a date"):
        keogram(streams / "gill", frame_config=GREY)


def made_keogram(seconds: Sequence[float], labels: Sequence[str | None]) -> Keogram:
    times = np.datetime64("2014-03-10T06:00:00", "us") + (1e6 * np.array(seconds)).astype("m8[us]")
    rows = [
        {"path": "a", "frame": number, "label": label, "twilight": number == 0}
        for number, label in enumerate(labels)
    ]
    slices = np.full((len(times), 4, 3), 100, np.uint8)
    return Keogram(times, slices, rows, CLASSES, "gill themis19", ("N", "S"))


def test_gaps_are_blank_and_jitter_causes_no_gap():
    jittered = [0, 3.02, 5.98, 9.01, 60, 63]
    figure = plot_keogram(made_keogram(jittered, ["arc", "arc", "patch", None, "clear", "clear"]))
    slices, strip, flags = (axes.images[0].get_array() for axes in figure.axes[:3])
    there = slices[0, :, 3] == 1
    assert there[:4].all()
    assert there[-2:].all()
    assert not there[5:-2].any()
    colored = strip[0, :, 3] == 1
    assert colored[:3].all()
    assert not colored[3], "a frame without a class"
    assert not np.array_equal(strip[0, 0], strip[0, 2])
    assert np.array_equal(strip[0, 0], strip[0, 1])
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == ["twilight"]
    assert flags[0, :, 3].tolist() == [1] + [0] * (len(there) - 1)


def test_a_long_night_is_averaged_into_columns():
    number = 5000
    made = made_keogram([3.0 * index for index in range(number)], ["arc"] * number)
    made.slices[:] = np.arange(number)[:, None, None] % 2 * 200  # every second frame is bright
    image = plot_keogram(made).axes[0].images[0].get_array()
    assert 1500 < image.shape[1] <= 1601
    assert (image[..., 3] == 1).all()
    inner = image[0, :-1, 0]
    assert 0.2 < inner.min() < inner.max() < 0.6, "between dark and bright"


def test_figure_and_numbers_are_written_together(table: Path, tmp_path: Path):
    made = keogram(table, selection=FrameSelection("fsmi"), num_samples=30)
    png, numbers = made.save(tmp_path / "new" / "fsmi.v1")
    assert (png.name, numbers.name) == ("fsmi.v1.png", "fsmi.v1.csv")
    with Image.open(png) as image:
        assert image.size[0] > 1000
    with numbers.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 20
    assert rows[0]["time"] == "2014-03-10T06:00:00.000000Z"
    assert rows[3]["label"] == made.rows[3]["label"]
    assert rows[0]["flags"] == "outside_domain"
    assert [float(rows[7][f"s{index:03}"]) for index in range(30)] == pytest.approx(
        made.slices[7].mean(axis=1), abs=0.51
    )


# --- occurrence ---------------------------------------------------------------------------------


def written(folder: Path, rows: list[dict], sites: dict | None = None) -> Path:
    """Archive table of these rows, as written for predictions of a model."""
    own = ArchiveTable(folder)
    own.write_manifest(
        {
            "classes": CLASSES,
            "columns": COLUMNS,
            "flags": FLAGS,
            "reading": dataclasses.asdict(FrameConfig(sites=sites or {})),
        }
    )
    known = {"path": "a.jpg", "unreadable": False, "dark": False, "twilight": False}
    whole = [known | {"frame": number} | row for number, row in enumerate(rows)]
    own.write_shard(Shard("k", ()), whole)
    return folder


def nights(rng: np.random.Generator, number: int = 12) -> Iterator[dict]:
    """Frames of two stations, with different class frequencies each night."""
    for night in range(number):
        for station in ("gill", "fsmi"):
            weights = rng.dirichlet([0.7] * 3)
            for _ in range(int(rng.integers(5, 60))):
                offset = datetime.timedelta(days=25 * night, hours=float(rng.uniform(-4, 5)))
                time = datetime.datetime(2014, 1, 5, 6) + offset
                yield {"time": time, "station": station, "label": CLASSES[rng.choice(3, p=weights)]}


def counted(found: Occurrence) -> dict[tuple, tuple[int, int]]:
    return {(row[found.group_by], row["label"]): (row["frames"], row["of"]) for row in found.rows}


@pytest.mark.parametrize("by", ["hour", "mlt", "month", "station"])
def test_shares_equal_a_manual_count(tmp_path: Path, by: str):
    rows = list(nights(np.random.default_rng(1)))
    found = occurrence(written(tmp_path, rows, SITES), by, n_bootstrap=0)

    times = np.array([row["time"] for row in rows], "M8[us]")
    hours = {name: magnetic_local_time(times, *place) for name, place in SITES.items()}
    magnetic = {id(row): int(hours[row["station"]][number]) for number, row in enumerate(rows)}

    def group(row: dict):
        match by:
            case "mlt":
                return magnetic[id(row)]
            case "station":
                return row["station"]
            case _:
                return getattr(row["time"], by)

    frames_of = Counter((group(row), row["label"]) for row in rows)
    of = Counter(group(row) for row in rows)
    assert counted(found) == {
        (each, label): (frames_of[each, label], of[each]) for each in of for label in CLASSES
    }
    assert all(row["share"] == row["frames"] / row["of"] for row in found.rows)
    assert found.frames == len(rows)
    assert list(found.groups) == sorted(of)


def test_intervals_equal_those_of_resampled_nights(tmp_path: Path):
    rows = list(nights(np.random.default_rng(2)))
    found = occurrence(written(tmp_path, rows, SITES), "station", n_bootstrap=4000)
    assert {row["nights"] for row in found.rows} == {12}
    rng = np.random.default_rng(99)
    for row in found.rows:
        by_night: dict[datetime.date, list[bool]] = {}
        for each in rows:
            if each["station"] == row["station"]:
                by_night.setdefault(each["time"].date(), []).append(each["label"] == row["label"])
        own = list(by_night.values())
        shares = [
            np.concatenate([own[place] for place in rng.integers(len(own), size=len(own))]).mean()
            for _ in range(2000)
        ]
        assert [row["low"], row["high"]] == pytest.approx(np.percentile(shares, [2.5, 97.5]), abs=0.04)
        assert row["low"] <= row["share"] <= row["high"]


def test_frames_of_one_night_are_resampled_together(tmp_path: Path):
    """Many frames of one night count as one night, so there is no interval."""
    evening = datetime.datetime(2014, 1, 5, 22)
    one = [
        {"time": evening + datetime.timedelta(minutes=minute), "station": "x", "label": CLASSES[minute % 2]}
        for minute in range(240)
    ]
    found = occurrence(written(tmp_path / "one", one), "station")
    assert {(row["nights"], row["low"], row["high"]) for row in found.rows} == {(1, None, None)}
    # A resample of two opposite nights contains one, the other, or both.
    two = [
        {"time": row["time"] + datetime.timedelta(days=day), "station": "x", "label": CLASSES[day]}
        for day in (0, 1)
        for row in one
    ]
    arc, patch, clear = occurrence(written(tmp_path / "two", two), "station").rows
    assert (arc["share"], arc["low"], arc["high"], arc["nights"]) == (0.5, 0, 1, 2)
    assert (clear["low"], clear["high"]) == (0, 0)
    assert patch["share"] == 0.5


def test_a_night_is_local_to_the_station(tmp_path: Path):
    """Night in Alaska is around 10 UTC, so splitting days at 12 UTC would divide it."""
    times = [datetime.datetime(2014, 1, 5, hour) for hour in (5, 10, 13, 15)]
    rows = [{"time": time, "station": "fykn", "label": "arc"} for time in times]
    here = written(tmp_path / "here", rows, {"fykn": (66.6, -145.2)})
    assert {row["nights"] for row in occurrence(here, "station").rows} == {1}
    assert {row["nights"] for row in occurrence(written(tmp_path / "nowhere", rows), "station").rows} == {2}


def test_excluded_frames_are_reported(tmp_path: Path):
    time = datetime.datetime(2014, 1, 5, 6)
    row = {"time": time, "station": "gill", "label": "arc"}
    flagged = [{"unreadable": True, "label": None}, {"dark": True}, {"twilight": True}, {"twilight": None}]
    folder = written(tmp_path, [row, *(row | each for each in flagged), row | {"time": None}])
    found = occurrence(folder, "hour")
    assert found.frames == 2
    assert found.excluded_frames == {"unreadable": 1, "dark": 1, "twilight": 1, "without a time": 1}
    assert found.unknown_flags == {"twilight": 1}
    assert occurrence(folder, "hour", exclude=("dark",)).excluded_frames == {
        "dark": 1,
        "without a class": 1,
        "without a time": 1,
    }
    # With a site on the other side of the Earth it is noon, and the unknown flag becomes known.
    day = occurrence(folder, "hour", sites={"": (60.0, 90.0)})
    assert (day.frames, day.unknown_flags) == (1, {})
    assert day.excluded_frames["twilight"] == 2


def test_an_occurrence_without_frames_reports_the_reason(tmp_path: Path):
    row = {"time": datetime.datetime(2014, 1, 5), "station": "gill", "label": None, "unreadable": True}
    with pytest.raises(InputError, match=r"no frame is left to count \(excluded: 2 unreadable\)"):
        occurrence(written(tmp_path / "a", [row, row]))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"group_by": "moon"}, "unknown group_by 'moon'; choose one of hour, mlt, month, station"),
        ({"exclude": ["cloudy"]}, "unknown flag 'cloudy'; choose from unreadable"),
        ({"group_by": "mlt"}, "requires the site of each station"),
        ({"confidence_level": 95}, "between 0 and 1"),
    ],
)
def test_invalid_options_are_refused(tmp_path: Path, options: dict, reason: str):
    row = {"time": datetime.datetime(2014, 1, 5), "station": "gill", "label": "arc"}
    with pytest.raises(OptionError, match=reason):
        occurrence(written(tmp_path, [row]), **options)


def test_the_figure_has_a_panel_per_class_and_the_nights(tmp_path: Path):
    found = occurrence(written(tmp_path, list(nights(np.random.default_rng(3))), SITES), "mlt")
    axes = plot_occurrence(found).axes
    assert [panel.get_title() for panel in axes] == [*CLASSES, "nights"]
    bars = axes[0].patches
    own = [row for row in found.rows if row["label"] == "arc"]
    assert [bar.get_height() for bar in bars] == [row["share"] for row in own]
    assert [bar.get_center()[0] % 24 for bar in bars] == [row["mlt"] + 0.5 for row in own]


# --- the commands -------------------------------------------------------------------------------


def test_archive_keogram_and_occurrence_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, out = pictures(tmp_path / "in", 20), tmp_path / "out"
    model = small_model().save(tmp_path / "model")
    (folder / "kiruna_20140310_999999.jpg").write_bytes(b"no picture")
    archive = ["archive", model, folder, "--out", out, "--pattern", PICTURES.pattern, "--workers", "0"]
    code, summary, messages = ran(capsys, *archive, "--site", "67.84,20.41", "--format", "csv")
    assert code == 1, "for the file whose name is not a time"
    assert "kiruna_20140310_999999.jpg" in messages
    header, row = csv.reader(summary.splitlines())
    assert dict(zip(header, row, strict=True)).items() >= {"frames": "21", "bad_files": "1"}.items()

    code, drawn, _ = ran(capsys, "keogram", out, "--date", "2014-03-10", "--out", tmp_path / "kiruna")
    assert code == 0
    assert drawn.splitlines() == [str(tmp_path / f"kiruna.{suffix}") for suffix in ("png", "csv")]
    assert len((tmp_path / "kiruna.csv").read_text().splitlines()) == 21

    code, rows, messages = ran(
        capsys,
        "occurrence",
        out,
        "--group-by",
        "mlt",
        "--exclude",
        "unreadable",
        "--format",
        "csv",
        "--out",
        tmp_path / "mlt",
    )
    assert code == 0
    assert (tmp_path / "mlt.png").exists()
    assert "1 frames excluded: unreadable" in messages
    stated = {row["mlt"] for row in csv.DictReader((tmp_path / "mlt.csv").read_text().splitlines())}
    assert {row["mlt"] for row in csv.DictReader(rows.splitlines())} == stated


def test_a_continued_archive_uses_the_estimated_stretch(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, model = minutes(tmp_path / "in", 4), small_model().save(tmp_path / "model")
    archive = [
        "archive",
        model,
        folder,
        "--out",
        tmp_path / "out",
        "--workers",
        "0",
        "--channels",
        "grey",
        "--stretch",
        "estimate",
    ]
    code, _, messages = ran(capsys, *archive)
    assert code == 0
    assert "calibrated gill/themis19 from 20 frames" in messages
    option_line = next(line for line in messages.splitlines() if "--stretch gill/themis19=" in line)
    minutes(tmp_path / "in", 8)
    code, summary, messages = ran(capsys, *archive, "--format", "csv")
    assert code == 0
    assert option_line.removeprefix("geovision: ") in messages
    assert ",40,20," in summary


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (
            ["archive", "aurora-tiny", "x", "--out", "o", "--stretch", "5:1"],
            2,
            "--stretch 5:1: .*high must be above",
        ),
        (
            ["archive", "aurora-tiny", "x", "--out", "o", "--stretch", "gill=5"],
            2,
            "expected LOW:HIGH or NAME=LOW:HIGH",
        ),
        (
            ["archive", "aurora-tiny", "x", "--out", "o", "--circle", "1,2"],
            2,
            "--circle '1,2' is invalid",
        ),
        (
            ["archive", "aurora-tiny", "x", "--out", "o", "--site", "100,0"],
            2,
            "expected a latitude of -90 to 90",
        ),
        (["archive", "aurora-tiny", "x", "--out", "o", "--pattern", "a.jpg"], 2, "has no complete time"),
        (
            ["archive", "aurora-tiny", "x", "--out", "o", "--scheduler", "tcp://a", "--workers", "2"],
            2,
            "uses its own workers",
        ),
        (["archive", "aurora-tinny", "x", "--out", "o"], 2, "Did you mean 'aurora-tiny'"),
        (["keogram", "x", "--out", "o", "--date", "yesterday"], 2, "--date 'yesterday' is not a time"),
        (["keogram", "x", "--out", "o", "--from", "2014-03-02", "--to", "2014-03-01"], 2, "is not before"),
        (["keogram", "x", "--out", "o", "--date", "2014-03-02", "--to", "2014-03-01"], 2, "a whole day"),
        (["keogram", "nowhere", "--out", "o"], 1, "nowhere: no such file or folder"),
        (["occurrence", "nowhere"], 1, "expected a folder written by `geovision archive`"),
    ],
)
def test_command_line_errors_are_reported_in_one_line(
    arguments: list[str],
    code: int,
    reason: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    import re

    monkeypatch.chdir(tmp_path)
    ended, out, messages = ran(capsys, *arguments)
    assert (ended, out) == (code, "")
    assert re.fullmatch(rf"geovision: .*{reason}.*\n", messages), messages


def test_a_table_stores_its_frame_options(table: Path, capsys: pytest.CaptureFixture[str]):
    code, _, messages = ran(capsys, "keogram", table, "--out", "x", "--stretch", "1:2")
    assert code == 2
    assert "is a table with stored frame options" in messages


# --- real frames --------------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_keogram_of_gillam_equals_the_middle_columns(shared_data: Path):
    files = sorted((shared_data / "themis").glob("*.pgm.gz"))
    reading = FrameConfig(stretches={"gill": Stretch(3000, 12000)})
    made = keogram(files, frame_config=reading, num_samples=256)
    assert made.camera == "gill themis19"
    assert made.slices.shape == (60, 256, 3)
    first = next(frames(files[0]))
    columns = to_rgb(first, Stretch(3000, 12000), "grey")[0, :, 127:129].astype(float)
    np.testing.assert_allclose(made.slices[0, :, 0], columns.mean(axis=1), atol=0.51)
