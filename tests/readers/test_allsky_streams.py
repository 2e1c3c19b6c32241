"""PGM streams become frames with correct counts and times; errors are one clear line."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import io
import itertools
import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from helpers.allsky import COLOUR, GREY, SIZE, START, Pipe, frame, header, message, same, save, save_fits

from geovision.errors import InputError, StorageError, UnreadableFileError
from geovision.readers.allsky import (
    Frame,
    clock_jumps,
    count_frames,
    frames,
    write_pgm,
)

# --- PGM streams --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.pgm", "a.pgm.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_written_frames_are_read_unchanged(tmp_path: Path, name: str, dtype: type) -> None:
    written = [frame(index, dtype=dtype, latitude=56.3539, longitude=-94.6557) for index in range(5)]
    path = write_pgm(tmp_path / name, written, header={"Project unique ID": "THEMIS"})
    read = list(frames(path))
    assert all(map(same, read, written))
    assert len(read) == count_frames(path) == 5
    assert [one.index for one in read] == [0, 1, 2, 3, 4]
    assert {one.path for one in read} == {str(path)}
    assert read[0].notes == ()
    assert read[0].header["Project unique ID"] == "THEMIS"
    assert "Site unique ID" not in read[1].header  # carried forward by the reader, not repeated in the file
    assert read[0].pixels.flags.writeable


def test_the_same_frames_give_the_same_bytes(tmp_path: Path, night: list[Frame]) -> None:
    one, two = (write_pgm(tmp_path / name, night) for name in ("a.pgm.gz", "b.pgm.gz"))
    assert one.read_bytes() == two.read_bytes()


def test_16_bit_counts_are_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(header(size="2 1") + bytes([1, 2, 3, 4]))
    (only,) = frames(path)
    assert only.pixels.tolist() == [[0x0102, 0x0304]]
    assert only.pixels.dtype == np.uint16


TREX_NIR = (
    '#"Project unique ID" trex\n#"Site unique ID" gill\n#"Imager unique ID" nir-216\n'
    '#"Geographic latitude" 56.376723\n#"Geographic longitude" -94.643664\n'
    '#"Camera Model" Andor DZ936N-#FI-9972\n#"Filter Serial Number" \n#"Requested Exposure" 5\n'
    '#"Exposure Options" WIDTH=256 HEIGHT=256 XBIN=8 YBIN=8 MSEC=5000.00 \n'
    '#"Image request start" 2022-03-07 06:05:00.000000 UTC \n'
    '#"Exposure plus readout" 5001.0000 ms \n#\n#\n'
)


def test_a_header_of_trex_is_read(tmp_path: Path) -> None:
    path = tmp_path / "20220307_0605_gill_nir-216_8446.pgm"
    path.write_bytes((header(TREX_NIR) + bytes(24)) * 2)
    for one in frames(path):
        assert one.time == datetime.datetime(2022, 3, 7, 6, 5, tzinfo=datetime.UTC)
        assert (one.station, one.device, one.exposure) == ("gill", "nir-216", 5.0)
        assert (one.latitude, one.longitude) == (56.376723, -94.643664)
        assert one.notes == ()


@pytest.mark.parametrize(
    ("comments", "exposure"),
    [
        ('#"Effective image exposure" 320.000 ms\n#"Exposure options" MSEC=400\n', 0.32),
        ('#"Exposure plus initial readout" 985.08 ms\n', None),  # includes the readout
        ('#"Exposure options" MSEC=0\n', None),
        ('#"Exposure options" MSEC=..\n', None),
        ("", None),
    ],
)
def test_the_exposure_is_stated_or_unknown(tmp_path: Path, comments: str, exposure: float | None) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(header(comments) + bytes(24))
    assert next(frames(path)).exposure == exposure


@pytest.mark.parametrize(
    ("comment", "time"),
    [
        ('#"Image request start" 2014-03-10 06:02:00.5 UTC\n', (2014, 3, 10, 6, 2, 0, 500000)),
        ('#"Exposure start time" 2014-03-10 06:02:00 UTC\n', (2014, 3, 10, 6, 2)),
        ('#"Image request start" 2014-03-10T06:02Z\n', (2014, 3, 10, 6, 2)),
        ("# time 2014-03-10 06:02:00\n", (2014, 3, 10, 6, 2)),
        ("# Image request start: 2014-03-10T07:02:00+01:00\n", (2014, 3, 10, 6, 2)),
    ],
)
def test_times_are_utc_in_any_notation(tmp_path: Path, comment: str, time: tuple[int, ...]) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(header(comment) + bytes(24))
    assert next(frames(path)).time == datetime.datetime(*time, tzinfo=datetime.UTC)


def test_a_bare_header_uses_the_file_name_and_adds_notes(tmp_path: Path) -> None:
    path = tmp_path / "20140310_0600_gill_themis19_full.pgm"
    path.write_bytes(header() + bytes(24))
    (only,) = frames(path)
    assert only.time == datetime.datetime(2014, 3, 10, 6, tzinfo=datetime.UTC)
    assert (only.station, only.device) == ("gill", "themis19")
    assert only.notes == (
        "no time in the header; the time of the file name is used",
        "no station in the header; that of the file name",
        "no device in the header; that of the file name",
    )


def test_without_header_and_name_the_time_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(header('#"Image request start" on a cold night\n') + bytes(24))
    (only,) = frames(path)
    assert (only.time, only.station, only.device) == (None, None, None)
    assert only.notes[0] == "time 'on a cold night' in the header not understood; none in the file name"


def test_a_date_alone_is_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(header('#"Image request start" 2014-03-10 UTC\n') + bytes(24))
    assert next(frames(path)).time is None


def test_a_pattern_applies_to_streams(tmp_path: Path) -> None:
    path = tmp_path / "140310-060203 ski.pgm"
    path.write_bytes(header() + bytes(24))
    (only,) = frames(path, pattern="%y%m%d-%H%M%S {station}.pgm")
    assert (only.station, only.time) == ("ski", datetime.datetime(2014, 3, 10, 6, 2, 3, tzinfo=datetime.UTC))


def test_two_cameras_in_one_file_are_separated(tmp_path: Path, night: list[Frame]) -> None:
    other = [replace(one, station="fsmi", device="themis20") for one in night[3:]]
    read = list(frames(write_pgm(tmp_path / "a.pgm", night[:3] + other)))
    assert [one.station for one in read] == ["gill"] * 3 + ["fsmi"] * 3
    assert [one.device for one in read] == ["themis19"] * 3 + ["themis20"] * 3


def test_another_camera_does_not_inherit_a_station(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    first, second = '#"Site unique ID" gill\n#"Imager unique ID" t19\n', '#"Imager unique ID" t20\n'
    path.write_bytes(header(first) + bytes(24) + header(second) + bytes(24))
    assert [(one.station, one.device) for one in frames(path)] == [("gill", "t19"), (None, "t20")]


def test_frames_of_changing_size_keep_their_sizes(tmp_path: Path) -> None:
    written = [frame(0), frame(1, (40, 8)), frame(2, (5, 5), np.uint8), frame(3)]
    path = write_pgm(tmp_path / "a.pgm.gz", written)
    assert [one.pixels.shape for one in frames(path)] == [(24, 32), (40, 8), (5, 5), (24, 32)]
    assert count_frames(path) == 4


def test_a_clock_that_jumps_back_is_detected(tmp_path: Path, night: list[Frame]) -> None:
    hour = datetime.timedelta(hours=1)
    written = night[:3] + [replace(one, time=one.time - hour) for one in night[3:]]
    times = [one.time for one in frames(write_pgm(tmp_path / "a.pgm", written))]
    assert times == [one.time for one in written]
    assert clock_jumps(times).tolist() == [False, False, False, True, False, False]


def test_unknown_and_equal_times_are_no_jumps() -> None:
    earlier = START - datetime.timedelta(seconds=1)
    assert clock_jumps([None, START, None, START, earlier]).tolist() == [False] * 4 + [True]
    assert clock_jumps([]).shape == (0,)


# --- sources of frames --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.pgm", "a.pgm.gz"])
def test_streams_and_paths_give_equal_frames(tmp_path: Path, night: list[Frame], name: str) -> None:
    path = write_pgm(tmp_path / name, night)
    remote = fsspec.filesystem("memory")
    remote.pipe(f"/sky/{name}", path.read_bytes())
    with remote.open(f"/sky/{name}", "rb") as stream:
        assert all(map(same, frames(stream, name="/sky/a"), night))
        assert not stream.closed
        stream.seek(0)
        assert count_frames(stream) == 6
    with fsspec.open(f"file://{path}", "rb") as stream:
        read = list(frames(stream))
    assert len(read) == 6
    assert read[0].path == str(path)
    assert all(map(same, frames(Pipe(path.read_bytes())), night))
    assert count_frames(Pipe(path.read_bytes())) == 6


def test_a_broken_connection_is_reported_in_one_line(tmp_path: Path, night: list[Frame]) -> None:
    content = write_pgm(tmp_path / "a.pgm", night).read_bytes()[: -SIZE // 2]
    number, text = message(frames(Pipe(content, then=OSError("connection reset")), name="https://x/a.pgm"))
    assert number == 5
    assert text.startswith("https://x/a.pgm: frame 5: could not be read (connection reset) (after 5 complete")


def test_text_streams_are_refused() -> None:
    with pytest.raises(InputError, match=r"^stream: a stream of text; open it in binary mode$"):
        next(frames(io.StringIO("P5")))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.pgm", "a.pgm.gz"])
def test_a_long_stream_is_read_and_counted_in_little_memory(tmp_path: Path, name: str) -> None:
    path = write_pgm(tmp_path / name, (frame(index, (128, 128)) for index in range(300)))
    for use in (lambda: sum(1 for _ in frames(path)), lambda: count_frames(path)):
        use()
        tracemalloc.start()
        assert use() == 300
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000  # the frames have 9.8 million bytes


# --- broken files -------------------------------------------------------------------------------


def test_complete_frames_of_a_truncated_gzip_are_read(tmp_path: Path, night: list[Frame]) -> None:
    path = write_pgm(tmp_path / "a.pgm.gz", night)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    number, text = message(frames(path))
    assert number == 3
    assert text == (
        f"{path}: frame 3: the gzip stream breaks off: truncated, or still being written "
        "(after 3 complete frames); copy it again from its source"
    )
    with pytest.raises(UnreadableFileError, match="frame 3: the gzip stream breaks off"):
        count_frames(path)


def test_a_wrong_checksum_is_reported_after_the_frames(tmp_path: Path, night: list[Frame]) -> None:
    path = write_pgm(tmp_path / "a.pgm.gz", night)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    number, text = message(frames(path))
    assert number == 6
    assert text == (
        f"{path}: the gzip checksum does not match: some of its frames are wrong "
        "(after 6 complete frames); copy it again from its source"
    )


def test_garbage_in_gzip_is_reported_in_one_line(tmp_path: Path, night: list[Frame]) -> None:
    path = write_pgm(tmp_path / "a.pgm.gz", night)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    number, text = message(frames(path))
    assert number <= 6
    assert text.startswith(f"{path}: ")
    assert text.endswith("copy it again from its source")


def test_a_gzip_without_content_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm.gz"
    path.write_bytes(gzip.compress(b"")[:12])
    assert "breaks off" in message(frames(path))[1]
    path.write_bytes(b"")
    assert message(frames(path)) == (0, f"{path}: an empty file (0 bytes); copy it again from its source")


@pytest.mark.parametrize(
    ("size", "maxval", "declaration"),
    [
        ("0 3", "65535", "0 columns and 3 rows, but a frame has 1 to 64 million pixels"),
        ("1000000 1000000", "65535", "1000000 columns and 1000000 rows, but a frame has 1 to 64 million"),
        ("4 3", "0", "counts up to 0, but PGM allows 1 to 65535"),
        ("4 3", "70000", "counts up to 70000, but PGM allows 1 to 65535"),
        ("4 3", "4095", "counts up to 4095, but the largest count is 65535"),
        ("4 3", "255", "4 columns, 3 rows and counts up to 255, but no frame begins after these 12 bytes"),
        ("4 2", "65535", "4 columns, 2 rows and counts up to 65535, but no frame begins after these 16"),
    ],
)
def test_wrong_sizes_in_headers_are_refused(tmp_path: Path, size: str, maxval: str, declaration: str) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(header() + bytes(24) + header(size=size, maxval=maxval) + b"\xff" * 24)
    tracemalloc.start()
    number, text = message(frames(path))
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    assert number == 1
    assert text.startswith(f"{path}: frame 1: the header declares {declaration}")
    assert text.endswith("(after 1 complete frame); copy it again from its source")


def test_garbage_after_complete_frames_loses_no_frame(tmp_path: Path, night: list[Frame]) -> None:
    path = write_pgm(tmp_path / "a.pgm", night)
    path.write_bytes(path.read_bytes() + bytes(500))
    number, text = message(frames(path))
    assert number == 6
    assert "frame 6: no header of a binary PGM (P5)" in text


def test_a_header_with_a_size_beyond_the_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(header() + bytes(24) + header(size="400 300") + bytes(24))
    assert message(frames(path)) == (
        1,
        f"{path}: frame 1: the file ends inside it, 24 of 240000 bytes: truncated, still being written, "
        "or with a wrong header (after 1 complete frame); copy it again from its source",
    )
    with pytest.raises(UnreadableFileError, match="frame 1: the file ends inside it"):
        count_frames(path)


@pytest.mark.parametrize("size", ["4", "4.5 3", "-4 3", "wide high", "9" * 30 + " 3"])
def test_a_header_without_a_size_is_refused(tmp_path: Path, size: str) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(header(size=size) + b"\xff" * 100_000)
    assert "frame 0: no header of a binary PGM (P5)" in message(frames(path))[1]


def test_a_long_comment_is_parsed_quickly(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(header("# a" + " " * 60_000 + "\n") + bytes(24))
    begin = time.process_time()
    assert len(list(frames(path))) == 1
    assert time.process_time() - begin < 1  # seconds; quadratic matching would take many


def test_very_long_comments_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5\n" + b"# a comment\n" * 100_000)
    assert "frame 0: no header of a binary PGM (P5)" in message(frames(path))[1]


def test_a_truncated_header_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(header() + bytes(24) + header()[:-2])
    number, text = message(frames(path))
    assert number == 1
    assert "frame 1: the file ends inside its header: truncated, still being written" in text


def test_a_growing_file_is_read_to_its_end(tmp_path: Path, night: list[Frame]) -> None:
    path = write_pgm(tmp_path / "a.pgm", night[:2])
    more = write_pgm(tmp_path / "b.pgm", night).read_bytes()[path.stat().st_size :]
    growing = frames(path)
    read = [next(growing), next(growing)]
    with path.open("ab") as stream:
        stream.write(more[: -SIZE // 2])
    for one in itertools.islice(growing, 3):
        read.append(one)  # noqa: PERF402 - the last one raises; the frames before it are needed
    assert all(map(same, read, night[:5]))
    number, text = message(growing)
    assert number == 0
    assert "frame 5: the file ends inside it" in text
    assert "still being written" in text


def test_a_file_truncated_during_reading_is_reported(tmp_path: Path) -> None:
    path = write_pgm(tmp_path / "a.pgm", [frame(index, (200, 200)) for index in range(4)])
    shrinking = frames(path)
    next(shrinking)
    os.truncate(path, 200_000)
    assert "the file ends inside it" in message(shrinking)[1]


@pytest.mark.parametrize("name", ["a.pgm", "a.pgm.gz", "a.fits", "a.png"])
def test_all_kinds_of_damage_raise_the_same_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if ".pgm" in name:
        write_pgm(path, [frame(index, (9, 7)) for index in range(4)])
    elif name == "a.fits":
        save_fits(path, np.stack([GREY] * 4))
    else:
        save(path, COLOUR)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 600), 3):
            broken[at] = rng.integers(256)
        stream = io.BytesIO(broken[: rng.integers(1, len(whole))])
        with contextlib.suppress(InputError):
            for one in frames(stream):
                assert one.pixels.ndim in (2, 3)
        stream.seek(0)
        with contextlib.suppress(InputError):
            assert count_frames(stream) > 0


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert message(frames(tmp_path / "a.pgm"))[1] == f"{tmp_path}/a.pgm: no such file; check the path"
    assert message(frames(tmp_path))[1] == f"{tmp_path}: a folder, not a file; give a file in it"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"P2\n2 2\n255\n1 2 3 4\n", "a PGM in decimal text (P2); convert it to binary PGM (P5)"),
        (
            b"\x89HDF\r\n\x1a\n" + bytes(9),
            "HDF5, which is not supported; for TREx use the PGM or PNG",
        ),
        (
            b"a diary of the night",
            "not PGM, FITS or an image in a format of Pillow",
        ),
    ],
)
def test_other_formats_are_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(content)
    assert message(frames(path))[1].startswith(f"{path}: {reason}")


# --- writing ------------------------------------------------------------------------------------


def test_frames_that_pgm_cannot_store_are_refused(tmp_path: Path, night: list[Frame]) -> None:
    path = write_pgm(tmp_path / "a.pgm", night)
    before = path.read_bytes()
    for bad, comments, reason in (
        (frame(1, (4, 4, 3)), {}, r"frame 1: uint16 \(4, 4, 3\); expected gray counts"),
        (replace(night[0], pixels=np.zeros((4, 4))), {}, "frame 0: float64"),
        (night[0], {"Imager comment": "two\nlines"}, "is not a valid PGM comment"),
        (replace(night[1], station=None, device=None), {}, "no station and no camera"),
    ):
        with pytest.raises(InputError, match=reason):
            write_pgm(path, [night[0], bad], header=comments)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_a_storage_error(tmp_path: Path, night: list[Frame]) -> None:
    with pytest.raises(StorageError, match=r"b/a.pgm: could not be written \(No such file"):
        write_pgm(tmp_path / "b" / "a.pgm", night)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_a_storage_error(tmp_path: Path, night: list[Frame]) -> None:
    Path(tmp_path / f".a.pgm.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"a.pgm: could not be written \(No space left"):
        write_pgm(tmp_path / "a.pgm", night)


# --- real frames --------------------------------------------------------------------------------


@pytest.mark.real_data
def test_frames_of_themis_have_times_and_station(gillam: list[Path]) -> None:
    read = [one for path in gillam for one in frames(path)]
    assert len(read) == 60
    assert {(one.station, one.device, one.exposure) for one in read} == {("gill", "themis19", 0.999)}
    assert {(one.latitude, one.longitude) for one in read} == {(56.3539, -94.6557)}
    assert read[0].time == START
    steps = np.diff([one.time.timestamp() for one in read if one.time])
    assert np.all(np.abs(steps - 3) < 0.1)
    assert not clock_jumps(one.time for one in read).any()
    assert not any(one.notes for one in read)
    assert count_frames(gillam[0]) == 20


@pytest.mark.real_data
def test_the_counts_of_themis_equal_an_independent_decoder(gillam: list[Path]) -> None:
    content = gzip.decompress(gillam[0].read_bytes())
    begin = content.index(b"\n65535\n") + 7
    values = np.frombuffer(content, ">u2", 65536, begin).reshape(256, 256)
    np.testing.assert_array_equal(next(frames(gillam[0])).pixels, values)


@pytest.mark.real_data
def test_real_frames_are_written_without_loss(gillam: list[Path], tmp_path: Path) -> None:
    read = list(frames(gillam[0]))
    path = write_pgm(tmp_path / "a.pgm.gz", read)
    assert all(map(same, frames(path), read))
