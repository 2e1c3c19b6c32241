"""Archive tables with one row per frame: damaged files, repeated runs and errors."""

from __future__ import annotations

import datetime
import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.archives import (
    CAMERAS,
    GREY,
    PICTURES,
    SITES,
    START,
    alike,
    break_off,
    frames_of,
    minute_name,
    minutes,
    pictures,
    sky,
    small_model,
)
from pyarrow.dataset import field

import geovision
from geovision._atomic_io import file_lock
from geovision.allsky import FrameConfig
from geovision.errors import InputError, OptionError, StorageError
from geovision.inference import ExecutorConfig
from geovision.models.geomodel import GeoModel
from geovision.physics.sun_moon import sun_elevation
from geovision.readers.allsky import Stretch, write_pgm

HERE = ExecutorConfig(0)


@pytest.fixture(scope="module")
def model() -> GeoModel:
    return small_model()


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stations with four minutes of five frames each; tests must not write to them."""
    return minutes(tmp_path_factory.mktemp("streams"), 4, stations=("gill", "fsmi"))


@pytest.fixture
def own(streams: Path, tmp_path: Path) -> Path:
    """Copy of `streams` that a test may change."""
    return Path(shutil.copytree(streams, tmp_path / "themis"))


def run(model: GeoModel, source, out: Path, reading: FrameConfig = GREY, **options) -> pa.Table:
    geovision.predict_archive(model, source, out, frame_config=reading, executor_config=HERE, **options)
    return geovision.read_table(out)


def identities(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["path"].to_pylist(), table["frame"].to_pylist(), strict=True))


def probabilities(table: pa.Table) -> np.ndarray:
    return np.stack([table[name].to_numpy() for name in table.column_names if name.startswith("p_")], 1)


# --- content of rows ----------------------------------------------------------------------------


def test_a_row_contains_time_station_and_camera(model: GeoModel, streams: Path, tmp_path: Path):
    table = run(model, streams, tmp_path / "out", replace(GREY, sites=SITES))
    assert table.num_rows == 2 * 4 * 5
    assert set(table["station"].to_pylist()) == {"gill", "fsmi"}
    assert set(table["date"].to_pylist()) == {"2014-03-10"}
    gill = table.filter(field("station") == "gill")
    assert gill["time"].to_pylist() == [
        START + datetime.timedelta(minutes=minute, seconds=3 * index)
        for minute in range(4)
        for index in range(5)
    ]
    assert gill["frame"].to_pylist() == 4 * list(range(5))
    assert set(gill["device"].to_pylist()) == {CAMERAS["gill"]}
    times = np.array([time.replace(tzinfo=None) for time in gill["time"].to_pylist()], "M8[us]")
    np.testing.assert_allclose(gill["sun_elevation"], sun_elevation(times, *SITES["gill"]), atol=1e-4)
    assert set(gill["twilight"].to_pylist()) == {False}
    assert sorted(path.name for path in (tmp_path / "out").glob("station=*")) == [
        "station=fsmi",
        "station=gill",
    ]


def test_classes_equal_those_of_predict(model: GeoModel, tmp_path: Path):
    folder = pictures(tmp_path / "in", 30)
    table = run(model, folder, tmp_path / "out", PICTURES)
    predictions = {prediction.source: prediction for prediction in model.predict(folder)}
    for row in table.to_pylist():
        prediction = predictions[row["path"]]
        assert row["label"] == prediction.label
        assert row["confidence"] == pytest.approx(prediction.confidence, abs=1e-5)
        for label, probability in prediction.top(7):
            assert row[f"p_{label}"] == pytest.approx(probability, abs=1e-5)
    assert len(set(table["label"].to_pylist())) > 2
    assert set(table["outside_domain"].to_pylist()) == {None}, "no out-of-distribution detector was fitted"


def test_gray_frames_are_outside_the_domain_of_a_color_model(model: GeoModel, streams: Path, tmp_path: Path):
    table = run(model, streams, tmp_path / "out")
    assert set(table["outside_domain"].to_pylist()) == {True}
    assert set(table["p_colored"].to_pylist()) == {0.0}
    np.testing.assert_allclose(probabilities(table).sum(axis=1), 1, atol=1e-5)
    best = probabilities(table).argmax(axis=1)
    assert table["label"].to_pylist() == [model.target.classes[place] for place in best]


def test_rows_do_not_depend_on_the_batch_or_the_shard(model: GeoModel, streams: Path, tmp_path: Path):
    tables = [
        run(model, streams, tmp_path / f"{batch}-{files}", batch_size=batch, shard_size=files)
        for batch, files in ((1, 1), (3, 2), (64, 100))
    ]
    for table in tables[1:]:
        assert identities(table) == identities(tables[0])
        np.testing.assert_allclose(probabilities(table), probabilities(tables[0]), atol=1e-5)


def test_dark_and_saturated_frames_are_flagged(model: GeoModel, tmp_path: Path):
    (black, white, good) = (frame for frame in frames_of("gill", START, 3))
    burnt = white.pixels.copy()
    burnt[:4] = 65535
    night = [replace(black, pixels=np.full_like(black.pixels, 1000)), replace(white, pixels=burnt), good]
    write_pgm(tmp_path / "in.pgm", night)
    table = run(model, tmp_path / "in.pgm", tmp_path / "out")
    assert table["dark"].to_pylist() == [True, False, False]
    assert table["saturated"].to_pylist() == [False, True, False]


def test_without_a_site_the_sun_is_not_known(model: GeoModel, streams: Path, tmp_path: Path):
    table = run(model, streams, tmp_path / "out")
    assert {*table["twilight"].to_pylist(), *table["sun_elevation"].to_pylist()} == {None}


# --- bad input ----------------------------------------------------------------------------------


def test_a_truncated_gzip_keeps_its_complete_frames(model: GeoModel, own: Path, tmp_path: Path):
    bad = own / "gill" / minute_name("gill", START)
    break_off(bad)
    summary = geovision.predict_archive(model, own, tmp_path / "out", frame_config=GREY, executor_config=HERE)
    rows = geovision.read_table(tmp_path / "out", where=field("path") == str(bad)).to_pylist()
    assert list(summary.unreadable_files) == [str(bad)]
    assert "truncated" in summary.unreadable_files[str(bad)]
    assert [row["unreadable"] for row in rows] == [False] * (len(rows) - 1) + [True]
    assert 1 <= len(rows) <= 5
    assert all(row["damaged_file"] for row in rows)
    assert [row["label"] is None for row in rows] == [row["unreadable"] for row in rows]
    assert summary.frames == 7 * 5 + len(rows)


def test_a_wrong_header_is_a_row_with_the_error(model: GeoModel, own: Path, tmp_path: Path):
    bad = own / "gill" / minute_name("gill", START)
    content = gzip.decompress(bad.read_bytes()).replace(b"\n40 40\n", b"\n40 41\n")
    bad.write_bytes(gzip.compress(content))
    table = run(model, own, tmp_path / "out")
    (row,) = table.filter(field("path") == str(bad)).to_pylist()
    assert row["unreadable"]
    assert "the header declares 40 columns, 41 rows" in row["error"]
    assert row["date"] == "unknown"
    assert table.num_rows == 7 * 5 + 1


def test_a_clock_that_jumps_back_is_flagged_where_it_jumps(model: GeoModel, tmp_path: Path):
    night = list(frames_of("gill", START, 6))
    jumped = [replace(frame, time=frame.time - datetime.timedelta(hours=1)) for frame in night[3:]]
    write_pgm(tmp_path / "in.pgm", [*night[:3], *jumped])
    table = run(model, tmp_path / "in.pgm", tmp_path / "out").sort_by("frame")
    assert table["clock_jump"].to_pylist() == [False, False, False, True, False, False]


def test_two_cameras_in_one_folder_have_their_own_stretch(model: GeoModel, tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    for station in SITES:
        write_pgm(folder / minute_name(station, START), frames_of(station, START, 3))
    apart = replace(GREY, stretches={"gill/themis19": Stretch(2000, 12000), "fsmi": Stretch(2000, 60000)})
    table = run(model, folder, tmp_path / "out", apart)
    gill, fsmi = (table.filter(field("station") == name) for name in ("gill", "fsmi"))
    assert gill.num_rows == fsmi.num_rows == 3
    assert not np.allclose(probabilities(gill), probabilities(fsmi)), "the same frames, stretched otherwise"
    assert set(table["clock_jump"].to_pylist()) == {False}


def test_predictions_do_not_depend_on_frames_of_other_sizes(model: GeoModel, tmp_path: Path):
    night = [
        replace(frame, pixels=sky(number, side))
        for number, (frame, side) in enumerate(
            zip(frames_of("gill", START, 6), (40, 40, 64, 40, 52, 64), strict=True)
        )
    ]
    for number, frame in enumerate(night):
        write_pgm(tmp_path / f"{number}.pgm", [frame])
    together = run(model, write_pgm(tmp_path / "in.pgm", night), tmp_path / "out")
    alone = run(model, str(tmp_path / "?.pgm"), tmp_path / "alone")
    np.testing.assert_allclose(probabilities(together), probabilities(alone), atol=1e-5)


def test_a_frame_that_is_too_small_is_an_unreadable_row(model: GeoModel, tmp_path: Path):
    good, small = frames_of("gill", START, 2)
    write_pgm(tmp_path / "in.pgm", [replace(small, pixels=small.pixels[:4, :4]), good])
    first, second = run(model, tmp_path / "in.pgm", tmp_path / "out").sort_by("frame").to_pylist()
    assert first["unreadable"] is False or "4x4 pixels" in (first["error"] or "")
    rows = sorted([first, second], key=lambda row: row["unreadable"])
    assert [row["unreadable"] for row in rows] == [False, True]
    assert rows[0]["label"] is not None


def test_an_incomplete_file_is_processed_again_when_complete(model: GeoModel, own: Path, tmp_path: Path):
    growing = own / "gill" / minute_name("gill", START)
    whole = growing.read_bytes()
    expected = run(model, own, tmp_path / "whole")
    break_off(growing)
    part = run(model, own, tmp_path / "out")
    assert part.num_rows < expected.num_rows + 1
    assert any(part["damaged_file"].to_pylist())
    growing.write_bytes(whole)
    assert alike(run(model, own, tmp_path / "out"), expected)


def test_undeclared_gray_frames_are_refused_before_writing(model: GeoModel, streams: Path, tmp_path: Path):
    with pytest.raises(InputError, match="gray, but the model expects color; declare"):
        run(model, streams, tmp_path / "out", FrameConfig())
    with pytest.raises(InputError, match="no full scale; declare a Stretch"):
        run(model, streams, tmp_path / "out", FrameConfig(channels="grey"))
    assert run(model, streams, tmp_path / "out").num_rows == 40


def test_an_archive_without_readable_files_is_refused(model: GeoModel, tmp_path: Path):
    folder = pictures(tmp_path / "in", 3)
    with pytest.raises(InputError, match=r"none of 3 sample files.*the first: .*does not match the pattern"):
        run(model, folder, tmp_path / "out", FrameConfig(pattern="other_%Y%m%d_%H.jpg"))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere", "no such file or folder"),
        ("empty", "contains no file"),
        ("empty/*.pgm", "no file matches"),
        ("nothing.txt", "contains no path"),
        ("nonsense://x/y", "not a supported address"),
    ],
)
def test_a_source_without_files_is_reported(model: GeoModel, tmp_path: Path, source: str, reason: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.txt").write_text("# only a remark\n\n")
    with pytest.raises(InputError, match=reason):
        run(model, source if "://" in source else tmp_path / source, tmp_path / "out")


def test_models_that_do_not_classify_one_color_image_are_refused(streams: Path, tmp_path: Path):
    with pytest.raises(OptionError, match="frames are single color images"):
        run(geovision.create("polarlow-xception"), streams, tmp_path / "out")


# --- sources ------------------------------------------------------------------------------------


def test_all_kinds_of_archive_paths_give_the_same_files(
    model: GeoModel, streams: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = run(model, streams, tmp_path / "folder")
    files = sorted(map(str, streams.rglob("*.gz")))
    listing = tmp_path / "list.txt"
    listing.write_text("# in no order, and one twice\n" + "\n".join([files[-1], *files]) + "\n")
    monkeypatch.chdir(streams / "gill")
    sources = {
        "pattern": str(streams / "**" / "*.pgm.gz"),
        "list": listing,
        "paths": files[::-1],
        "relative": [".", "../fsmi", "../gill/../fsmi"],
    }
    for name, source in sources.items():
        assert run(model, source, tmp_path / name).equals(expected), name


def test_remote_files_are_read_like_local_ones(model: GeoModel, streams: Path, tmp_path: Path):
    memory = fsspec.filesystem("memory")
    for path in streams.rglob("*.gz"):
        memory.pipe(f"/themis/{path.parent.name}/{path.name}", path.read_bytes())
    memory.pipe("/themis/gill/broken.pgm.gz", b"\x1f\x8b, not gzip")
    try:
        table = run(model, "memory://themis", tmp_path / "out")
    finally:
        memory.rm("/themis", recursive=True)
    local = run(model, streams, tmp_path / "local")
    bad = table.filter(field("unreadable"))
    good = table.filter(~field("unreadable"))
    assert bad["path"].to_pylist() == ["memory:///themis/gill/broken.pgm.gz"]
    assert alike(good.drop_columns("path"), local.drop_columns("path"))
    assert all(path.startswith("memory:///themis/") for path in good["path"].to_pylist())


def test_hidden_files_and_the_table_itself_are_skipped(model: GeoModel, own: Path):
    (own / "gill" / ".20140310.part").write_bytes(b"half")
    (own / "_notes").mkdir()
    (own / "_notes" / "readme").write_text("not a frame")
    assert run(model, own, own / "table").num_rows == 40
    assert run(model, own, own / "table").num_rows == 40


# --- repeated runs -------------------------------------------------------------------------------


def test_a_second_run_processes_only_new_files(model: GeoModel, own: Path, tmp_path: Path):
    late = own / "fsmi"
    late.rename(tmp_path / "later")
    first = geovision.predict_archive(
        model, own, tmp_path / "out", frame_config=GREY, executor_config=HERE, shard_size=3
    )
    again = geovision.predict_archive(
        model, own, tmp_path / "out", frame_config=GREY, executor_config=HERE, shard_size=3
    )
    (tmp_path / "later").rename(late)
    last = geovision.predict_archive(
        model, own, tmp_path / "out", frame_config=GREY, executor_config=HERE, shard_size=3
    )
    assert [(each.new_frames, each.frames) for each in (first, again, last)] == [(20, 20), (0, 20), (20, 40)]
    assert alike(geovision.read_table(tmp_path / "out"), run(model, own, tmp_path / "at once"))


def test_a_narrower_source_or_another_shard_size_keeps_all_rows(
    model: GeoModel, streams: Path, tmp_path: Path
):
    expected = run(model, streams, tmp_path / "out", shard_size=3)
    for source, files in ((streams / "gill", 1), (str(streams / "fsmi" / "*0601*"), 2), (streams, 100)):
        assert run(model, source, tmp_path / "out", shard_size=files).equals(expected)


def test_leftovers_of_a_killed_run_are_removed(model: GeoModel, streams: Path, tmp_path: Path):
    out = tmp_path / "out"
    expected = run(model, streams, out, shard_size=2)
    (mark, *_) = sorted((out / "_shards").glob("*.json"))
    mark.unlink()  # its rows were written, but it has no completion mark
    (part,) = out.glob(f"station=*/date=*/{mark.stem}.parquet")
    shutil.copy(part, part.with_name(f"{'0' * 16}.parquet"))  # of a run with other shards
    (part.parent / f".{mark.stem}.parquet.123.part").write_bytes(b"half a file")
    assert alike(run(model, streams, out, shard_size=100), expected)
    assert not list(out.rglob("*.part"))


def test_a_removed_part_is_written_again(model: GeoModel, streams: Path, tmp_path: Path):
    expected = run(model, streams, tmp_path / "out", shard_size=2)
    shutil.rmtree(tmp_path / "out" / "station=gill")
    assert geovision.read_table(tmp_path / "out").num_rows == 20
    assert alike(run(model, streams, tmp_path / "out"), expected)


# --- one table, one model -----------------------------------------------------------------------


def test_another_model_or_frame_config_is_refused_by_name(model: GeoModel, streams: Path, tmp_path: Path):
    expected = run(model, streams, tmp_path / "out")
    other = small_model()
    other.head.linear.bias.data += 1
    with pytest.raises(OptionError, match=r"was started with weights \w+… .* instead of \w+.*another folder"):
        run(other, streams, tmp_path / "out")
    with pytest.raises(
        OptionError, match=r'started with stretches .*"high": 12000.* instead of .*"high": 9000'
    ):
        run(model, streams, tmp_path / "out", replace(GREY, stretches={"": Stretch(2000, 9000)}))
    assert geovision.read_table(tmp_path / "out").equals(expected)


def test_an_existing_model_file_is_not_used_for_a_new_table(model: GeoModel, streams: Path, tmp_path: Path):
    other = small_model()
    other.head.linear.weight.data *= -1
    run(other, streams, tmp_path / "out")
    kept = shutil.move(tmp_path / "out" / "model", tmp_path / "model")
    shutil.rmtree(tmp_path / "out")
    shutil.move(kept, tmp_path / "out" / "model")
    expected = run(model, streams, tmp_path / "elsewhere")
    assert run(model, streams, tmp_path / "out").equals(expected)


def test_a_table_at_an_address_is_refused(model: GeoModel, streams: Path):
    with pytest.raises(OptionError, match="s3://bucket/table: is a remote address; expected a folder"):
        run(model, streams, "s3://bucket/table")


def test_shards_of_another_table_are_refused(model: GeoModel, streams: Path, tmp_path: Path):
    run(model, streams / "gill", tmp_path / "one")
    run(model, streams / "fsmi", tmp_path / "two", replace(GREY, stretches={"": Stretch(2000, 9000)}))
    shutil.copytree(
        tmp_path / "two", tmp_path / "one", dirs_exist_ok=True, ignore=lambda *_: ["archive.json", "model"]
    )
    with pytest.raises(OptionError, match="the model or preprocessing of this shard differs"):
        run(model, streams, tmp_path / "one")


def test_parts_without_their_manifest_are_refused(model: GeoModel, streams: Path, tmp_path: Path):
    run(model, streams, tmp_path / "out")
    (tmp_path / "out" / "archive.json").unlink()
    with pytest.raises(OptionError, match=r"contains parts but no archive\.json"):
        run(model, streams, tmp_path / "out")


def test_a_locked_table_is_refused(model: GeoModel, streams: Path, tmp_path: Path):
    with (
        file_lock(tmp_path / "out" / "_lock"),
        pytest.raises(StorageError, match="another `geovision archive` writes to this folder"),
    ):
        run(model, streams, tmp_path / "out")


def test_marks_contain_their_settings_and_parts(model: GeoModel, streams: Path, tmp_path: Path):
    run(model, streams, tmp_path / "out", shard_size=4)
    manifest = json.loads((tmp_path / "out" / "archive.json").read_text())
    assert manifest["reading"]["stretches"][""] == {"low": 2000, "high": 12000, "gamma": 1.0}
    marks = [json.loads(path.read_text()) for path in (tmp_path / "out" / "_shards").glob("*.json")]
    assert len({mark["made_with"] for mark in marks}) == 1
    assert sum(mark["rows"] for mark in marks) == 40
    for mark in marks:
        for part in mark["parts"]:
            assert pq.read_metadata(tmp_path / "out" / part / f"{mark['key']}.parquet").num_rows


# --- reading it back ----------------------------------------------------------------------------


def test_a_part_of_the_table_is_read(model: GeoModel, streams: Path, tmp_path: Path):
    run(model, streams, tmp_path / "out")
    chosen = geovision.read_table(
        tmp_path / "out", columns=["label", "station"], where=field("station") == "fsmi"
    )
    assert chosen.column_names == ["label", "station"]
    assert set(chosen["station"].to_pylist()) == {"fsmi"}
    with pytest.raises(InputError, match="no column 'lable'; the columns are time, device"):
        geovision.read_table(tmp_path / "out", columns=["lable"])
    with pytest.raises(InputError, match=r"no archive\.json; expected a folder"):
        geovision.read_table(streams)
