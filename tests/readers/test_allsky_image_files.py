"""Images and FITS become frames with correct counts and times; errors are one clear line."""

from __future__ import annotations

import datetime
import gzip
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from helpers.allsky import COLOUR, GREY, KEYS, Pipe, frame, message, save, save_fits
from PIL import Image

from geovision.errors import InputError, MissingExtraError, OptionError
from geovision.readers.allsky import (
    NamePattern,
    count_frames,
    frames,
    write_pgm,
)

# --- images -------------------------------------------------------------------------------------

PATTERN = "{station}_%Y%m%d_%H%M%S*.*"


@pytest.mark.parametrize("counts", [COLOUR, COLOUR[..., 0], COLOUR[..., 0].astype(np.uint16) * 201])
def test_images_keep_their_counts(tmp_path: Path, counts: np.ndarray) -> None:
    path = save(tmp_path / "kiruna_20140310_060203.png", counts)
    (only,) = frames(path, pattern=PATTERN)
    np.testing.assert_array_equal(only.pixels, counts)
    assert only.pixels.dtype == counts.dtype
    assert only.time == datetime.datetime(2014, 3, 10, 6, 2, 3, tzinfo=datetime.UTC)
    assert (only.station, only.device, only.exposure) == ("kiruna", None, None)
    assert only.notes == ("no device; the pattern has none",)
    assert count_frames(path) == 1


def test_a_jpeg_states_its_exposure(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x829A] = 15.0
    path = save(tmp_path / "kiruna_20140310_060203_full.jpg", COLOUR, exif=exif)
    (only,) = frames(path, pattern=PATTERN)
    assert only.exposure == 15.0
    assert only.pixels.shape == (20, 30, 3)


def test_an_image_is_read_from_any_stream(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", COLOUR)
    packed = gzip.compress(path.read_bytes())
    for stream in (Pipe(path.read_bytes()), Pipe(packed), io.BytesIO(packed), path.open("rb")):
        with stream:
            (only,) = frames(stream)  # type: ignore[arg-type]
            np.testing.assert_array_equal(only.pixels, COLOUR)


def test_without_a_pattern_the_time_is_unknown(tmp_path: Path) -> None:
    (only,) = frames(save(tmp_path / "a.png", COLOUR))
    assert only.time is None
    assert only.notes[0] == "no time; give the pattern of the file names"


def test_a_damaged_image_is_reported_in_one_line(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", COLOUR)
    path.write_bytes(path.read_bytes()[:900])
    assert message(frames(path))[1].startswith(f"{path}: damaged (")


# --- patterns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "station", "time"),
    [
        ("{station}_%Y%m%d_%H%M%S.jpg", "sky/ski_20140310_060203.jpg", "ski", (2014, 3, 10, 6, 2, 3)),
        ("{station}_%Y%m%d_%H%M.jpg", "rank_inlet_20140310_0602.jpg", "rank_inlet", (2014, 3, 10, 6, 2)),
        (
            "%Y%m%d_%H%M%S_%f_{station}_*.png",
            "20211030_060500_149606_gill_rgb-04_320ms.png",
            "gill",
            (2021, 10, 30, 6, 5, 0, 149606),
        ),
        ("%Y/%j/{station}_%H%M.jpg", "a/b/2014/069/ski_0602.jpg", "ski", (2014, 3, 10, 6, 2)),
        ("%Y/*_%Y%m%d%H.jpg", "2014/x_2014031006.jpg", None, (2014, 3, 10, 6)),
        ("%d%b%y_%H (100%%).jpg", "10Mar14_06 (100%).jpg", None, (2014, 3, 10, 6)),
    ],
)
def test_patterns_find_station_and_time(pattern: str, name: str, station: str | None, time: tuple[int, ...]):
    found = NamePattern(pattern).parse(name)
    assert found.station == station
    assert found.time == datetime.datetime(*time, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "ski-20140310.jpg",
            r"does not match the pattern '\{station\}_%Y%m%d_%H%M%S.jpg'; change the pattern",
        ),
        ("ski_20140230_060203.jpg", r"invalid time for the pattern .* \(day is out of range for month\)"),
        ("ski_20140310_0602031.jpg", "does not match"),
    ],
)
def test_a_name_that_does_not_match_is_named(tmp_path: Path, name: str, reason: str) -> None:
    path = save(tmp_path / name, COLOUR)
    with pytest.raises(InputError, match=reason) as caught:
        next(frames(path, pattern="{station}_%Y%m%d_%H%M%S.jpg"))
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("{station}.jpg", "has no complete time; it needs year, day and hour"),
        ("%Y%m%d.jpg", "has no complete time"),
        ("%Y%m%d_%H%Q.jpg", "unknown %Q; known are %Y"),
        ("{camera}_%Y%m%d_%H.jpg", r"unknown \{camera\}; known are \{station\} and \{device\}"),
    ],
)
def test_a_wrong_pattern_is_reported_immediately(pattern: str, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        frames("never opened.jpg", pattern=pattern)


# --- FITS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz"])
def test_a_fits_image_has_its_keys(tmp_path: Path, name: str) -> None:
    (only,) = frames(save_fits(tmp_path / name, GREY, SITELAT=69.75, SITELONG=27.0))
    np.testing.assert_array_equal(only.pixels, GREY)
    assert only.pixels.dtype == np.uint16
    assert only.pixels.dtype.isnative
    assert only.time == datetime.datetime(2014, 3, 10, 6, 2, 0, 48000, tzinfo=datetime.UTC)
    assert (only.station, only.device, only.exposure) == ("kevo", "emccd-2", 1.5)
    assert (only.latitude, only.longitude) == (69.75, 27.0)
    assert only.notes == ()
    assert only.header["SITE"] == "kevo"


@pytest.mark.parametrize("axis", [0, 2])
def test_a_fits_axis_of_length_three_is_color(tmp_path: Path, axis: int) -> None:
    cube = np.stack([GREY, GREY // 2, GREY // 4], axis)
    path = save_fits(tmp_path / "a.fits", cube)
    (only,) = frames(path)
    np.testing.assert_array_equal(only.pixels, np.stack([GREY, GREY // 2, GREY // 4], 2))
    assert only.notes == ("an axis of length 3 is interpreted as color",)
    assert count_frames(path) == 1


def test_a_fits_cube_is_frames(tmp_path: Path) -> None:
    cube = np.stack([GREY + index for index in range(5)])
    path = save_fits(tmp_path / "a.fits", cube)
    read = list(frames(path))
    np.testing.assert_array_equal(np.stack([one.pixels for one in read]), cube)
    assert count_frames(path) == 5
    assert read[0].time == datetime.datetime(2014, 3, 10, 6, 2, 0, 48000, tzinfo=datetime.UTC)
    assert read[1].time is None
    assert read[1].notes == ("the header has the time of the first frame only; none in the file name",)


@pytest.mark.parametrize("number", [1, 3])
def test_a_fits_time_axis_gives_each_frame_its_time(tmp_path: Path, number: int) -> None:
    path = save_fits(tmp_path / "a.fits", np.stack([GREY] * number), CTYPE3="TIME", CDELT3=2.5)
    read = list(frames(path))
    assert [one.pixels.shape for one in read] == [GREY.shape] * number
    first = read[0].time
    assert first is not None
    assert [one.time for one in read] == [
        first + index * datetime.timedelta(seconds=2.5) for index in range(number)
    ]


@pytest.mark.parametrize(
    ("keys", "note"),
    [
        ({"DATE-OBS": ""}, "no DATE-OBS in the header; the time of the file name is used"),
        (
            {"DATE-OBS": "2014-03-10"},
            "DATE-OBS '2014-03-10' in the header is not a complete time; the time of the file name is used",
        ),
        ({"TIMESYS": "TAI"}, "TIMESYS TAI in the header is not UTC; the time of the file name is used"),
    ],
)
def test_a_fits_file_without_a_time_takes_the_name(tmp_path: Path, keys: dict[str, str], note: str) -> None:
    path = save_fits(tmp_path / "2014031007.fits", GREY, **keys)
    (only,) = frames(path, pattern="%Y%m%d%H.fits")
    assert only.time == datetime.datetime(2014, 3, 10, 7, tzinfo=datetime.UTC)
    assert only.notes == (note,)


def test_the_first_image_extension_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    parts = [fits.PrimaryHDU(header=fits.Header(KEYS)), fits.CompImageHDU(GREY), fits.ImageHDU(GREY // 2)]
    fits.HDUList(parts).writeto(path)
    (only,) = frames(path)
    np.testing.assert_array_equal(only.pixels, GREY)
    assert (only.station, only.exposure) == ("kevo", 1.5)


def test_a_stream_is_read_from_its_current_position(tmp_path: Path) -> None:
    contents = [
        save_fits(tmp_path / "a.fits", GREY).read_bytes(),
        save(tmp_path / "a.png", COLOUR).read_bytes(),
    ]
    contents.append(write_pgm(tmp_path / "a.pgm", [frame(0)]).read_bytes())
    for content in (*contents, *map(gzip.compress, contents)):
        stream = io.BytesIO(b"a label" + content)
        stream.seek(7)
        assert len(list(frames(stream))) == 1
        assert not stream.closed


def test_a_fits_stream_that_cannot_seek(tmp_path: Path) -> None:
    path = save_fits(tmp_path / "a.fits", np.stack([GREY] * 4))
    assert len(list(frames(Pipe(path.read_bytes())))) == 4


def test_frames_before_the_damage_of_a_fits_cube_are_read(tmp_path: Path) -> None:
    path = save_fits(tmp_path / "a.fits", np.stack([GREY] * 40))
    os.truncate(path, path.stat().st_size - 30 * GREY.nbytes)
    number, text = message(frames(path))
    assert 8 <= number <= 17  # FITS pads to blocks of 2880 bytes
    assert text.startswith(f"{path}: frame {number}: damaged FITS (")


def test_a_wrong_fits_header_allocates_nothing(tmp_path: Path) -> None:
    path = save_fits(tmp_path / "a.fits", GREY)
    content = path.read_bytes()
    for axis, length in ((1, 16), (2, 12)):
        true, false = (f"NAXIS{axis}  = {number:>20}".encode() for number in (length, 10**6))
        assert true in content
        content = content.replace(true, false)
    path.write_bytes(content)
    assert message(frames(path))[1] == (
        f"{path}: the header declares a FITS image of shape (1000000, 1000000); "
        "a frame has at most 64 million pixels"
    )


def test_a_fits_file_without_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU().writeto(path)
    assert message(frames(path))[1] == f"{path}: a FITS file without an image; choose one with an image"


def test_without_astropy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_fits(tmp_path / "a.fits", GREY)
    monkeypatch.setitem(sys.modules, "astropy.io", None)
    with pytest.raises(MissingExtraError, match=r"geovision\[sky\]"):
        next(frames(path))
