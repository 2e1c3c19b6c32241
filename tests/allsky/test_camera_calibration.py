"""Calibration on an archive finds the stretch and the circle of each camera."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.archives import GREY, START, break_off, frames_of, minute_name, minutes

from geovision.allsky import FrameConfig
from geovision.allsky.camera_calibration import calibrate_cameras
from geovision.errors import InputError
from geovision.readers.allsky import Frame, write_pgm


def test_calibration_finds_a_stretch_for_each_camera(tmp_path: Path):
    folder = minutes(tmp_path / "in", 8, stations=("gill", "fsmi"))
    for path in (folder / "fsmi").glob("*.gz"):  # half as sensitive
        (station, *_), begin = ("fsmi",), datetime.datetime.strptime(path.name[:13], "%Y%m%d_%H%M")
        night = frames_of(station, begin.replace(tzinfo=datetime.UTC), 5, first=5 * begin.minute)
        write_pgm(path, (replace(frame, pixels=frame.pixels // 2) for frame in night))
    break_off(folder / "gill" / minute_name("gill", START))
    found = calibrate_cameras(folder, FrameConfig(), stretch=True)
    assert set(found.stretches) == {"gill/themis19", "fsmi/themis10"}
    gill, fsmi = found.stretches["gill/themis19"], found.stretches["fsmi/themis10"]
    assert fsmi.high == pytest.approx(gill.high / 2, rel=0.03)
    assert 2000 < gill.low < 2600
    assert 9500 < gill.high < 11500
    assert found == calibrate_cameras(folder, FrameConfig(), stretch=True)
    assert set(found.merge_into(GREY).stretches) == {"", "gill/themis19", "fsmi/themis10"}


def test_calibration_frames_are_spread_over_the_archive(tmp_path: Path):
    folder = minutes(tmp_path / "in", 40, 2)
    late = datetime.datetime(2014, 3, 11, tzinfo=datetime.UTC)
    bright = [replace(frame, pixels=frame.pixels * 2) for frame in frames_of("gill", late, 2)]
    for minute in range(20):  # a third of the files, all at the end
        begin = late + datetime.timedelta(minutes=minute)
        write_pgm(folder / "gill" / minute_name("gill", begin), bright)
    found = calibrate_cameras(folder, FrameConfig(), stretch=True, num_frames=30)
    assert found.num_frames == {"gill/themis19": 30}
    assert found.stretches["gill/themis19"].high > 14000


def test_calibration_finds_circles(tmp_path: Path):
    y, x = np.mgrid[:80, :80]
    disk = (x - 41) ** 2 + (y - 38) ** 2 <= 30**2
    night = (
        Frame((500 + 4000 * disk).astype(np.uint16), START, "gill", "themis19", 1.0, "", index)
        for index in range(12)
    )
    write_pgm(tmp_path / "in.pgm", night)
    circle = calibrate_cameras(tmp_path / "in.pgm", FrameConfig(), circle=True).circles["gill/themis19"]
    assert (circle.x, circle.y, circle.radius) == pytest.approx((41, 38, 30), abs=0.7)


def test_calibration_names_a_camera_with_too_few_frames(tmp_path: Path):
    folder = minutes(tmp_path / "in", 4)
    write_pgm(folder / "other.pgm", frames_of("fsmi", START, 2))
    with pytest.raises(InputError, match="camera fsmi/themis10: 2 different frames"):
        calibrate_cameras(folder, FrameConfig(), stretch=True)
