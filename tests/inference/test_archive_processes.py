"""Archive processes that are killed or run out of memory or disk: no row is lost or duplicated."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from distributed import Client
from helpers.archives import GREY, START, break_off, minute_name, minutes, small_model
from helpers.paths import TESTS
from pyarrow.dataset import field

import geovision
from geovision import errors
from geovision.errors import GeovisionError, MissingExtraError, OptionError, StorageError, UnknownModelError
from geovision.inference import ExecutorConfig, executor
from geovision.inference.archive import ArchiveSummary
from geovision.readers.allsky import Frame, write_pgm

DECLARED = ["--channels", "grey", "--stretch", "2000:12000"]
MINUTES, FRAMES = 60, 3


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model().save(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty files, one of them damaged; tests must not write to them."""
    folder = minutes(tmp_path_factory.mktemp("streams"), MINUTES, FRAMES)
    break_off(broken(folder))
    return folder


def broken(folder: Path) -> Path:
    return folder / "gill" / minute_name("gill", START)


@pytest.fixture(scope="module")
def serial(model_folder: Path, streams: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Table of an uninterrupted run in one process."""
    return run(model_folder, streams, tmp_path_factory.mktemp("serial"), ExecutorConfig(0))[1]


def run(
    model_folder: Path, source: Path, out: Path, workers: ExecutorConfig, **options
) -> tuple[ArchiveSummary, pa.Table]:
    summary = geovision.predict_archive(
        geovision.load(model_folder),
        source,
        out,
        frame_config=GREY,
        executor_config=workers,
        shard_size=1,
        **options,
    )
    return summary, geovision.read_table(out)


def begun(model_folder: Path, streams: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    """Start the command in a separate process with one file per shard."""
    program = [sys.executable, "-c", "from geovision.cli import main; main()"]
    command = ["archive", str(model_folder), str(streams), "--out", str(out), *DECLARED]
    return subprocess.Popen(
        [*program, *command, "--workers", str(workers), "--shard-size", "1", "--format", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finished(out: Path) -> int:
    return len(list((out / "_shards").glob("*.json")))


def until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for a condition; fail if the process has exited."""
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"ended with {process.returncode}: {process.stderr and process.stderr.read()}")
        time.sleep(0.005)


def workers_of(driver: int) -> list[psutil.Process]:
    children = psutil.Process(driver).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_killed_driver_or_worker_loses_and_duplicates_no_row(
    model_folder: Path, streams: Path, serial: pa.Table, tmp_path: Path
):
    first = begun(model_folder, streams, tmp_path, 1)
    until(lambda: finished(tmp_path) >= 5, first)
    orphans = workers_of(first.pid)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = finished(tmp_path)
    assert 5 <= before < MINUTES, "killed in the middle"
    assert len(orphans) == 1
    assert psutil.wait_procs(orphans, timeout=20)[1] == [], "workers end with their driver"

    second = begun(model_folder, streams, tmp_path, 2)
    until(lambda: finished(tmp_path) >= before + 5, second)
    victim = workers_of(second.pid)[0]
    victim.send_signal(signal.SIGKILL)
    assert finished(tmp_path) < MINUTES, "killed in the middle"
    _, messages = second.communicate(timeout=200)

    assert second.returncode == 1, "for the broken file"
    assert f"{broken(streams)}: " in messages
    assert "Traceback" not in messages
    table = geovision.read_table(tmp_path)
    assert table.equals(serial)
    bad = table.filter(field("unreadable"))
    assert set(bad["path"].to_pylist()) == {str(broken(streams))}


def test_a_file_that_exhausts_the_memory_is_skipped_and_the_others_are_processed(
    model_folder: Path, tmp_path: Path
):
    folder = minutes(tmp_path / "in", 6, FRAMES)
    side = 7900  # a frame of 125 megabytes, of which the reader needs several copies
    vast = Frame(np.full((side, side), 3000, np.uint16), START, "gill", "themis19", 1.0, "", 0)
    bad = write_pgm(tmp_path / "vast.pgm.gz", [vast])
    script = tmp_path / "script.py"
    script.write_text(f"""
import json, psutil
import geovision
from helpers.archives import GREY
from geovision.inference import ExecutorConfig

if __name__ == "__main__":
    model = geovision.load({str(model_folder)!r})
    folder, vast = {str(folder)!r}, {str(bad)!r}
    alone = ExecutorConfig(0)
    geovision.predict_archive(
        model, folder, {str(tmp_path / "serial")!r}, frame_config=GREY, executor_config=alone
    )
    memory = str(int(1.3 * psutil.Process().memory_info().rss))
    summary = geovision.predict_archive(
        model, [folder, vast], {str(tmp_path / "out")!r}, frame_config=GREY,
        executor_config=ExecutorConfig(1, memory_limit=memory), shard_size=6,
    )
    print(json.dumps(summary.failed_shards))
""")
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (reason,) = json.loads(done.stdout).values()
    assert reason.startswith(f"{bad}: the worker crashed {executor.MAX_WORKER_DEATHS} times, out of memory")
    assert geovision.read_table(tmp_path / "out").equals(geovision.read_table(tmp_path / "serial"))


def test_a_full_disk_keeps_finished_shards(
    model_folder: Path, streams: Path, serial: pa.Table, small_disk: Path
):
    out, filler = small_disk / "table", small_disk / "filler"

    def fill(progress) -> None:
        if progress.files >= 10 and not filler.exists():
            with filler.open("wb", buffering=0) as stream:
                try:
                    while True:
                        stream.write(bytes(4096))
                except OSError:
                    return

    with pytest.raises(StorageError, match=r"could not be written .*No space left on device.*Free some"):
        run(model_folder, streams, out, ExecutorConfig(1), progress=fill)
    kept = geovision.read_table(out)
    paths = set(kept["path"].to_pylist())
    assert 10 <= len(paths) < MINUTES
    assert kept.equals(serial.filter(field("path").isin(paths)))
    filler.unlink()
    assert run(model_folder, streams, out, ExecutorConfig(0))[1].equals(serial)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Address and process of a Dask scheduler with one worker that runs two tasks in parallel."""
    scheduler_file = tmp_path / "scheduler.json"
    dask, quiet = [sys.executable, "-m", "dask"], {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options = ["--scheduler-file", str(scheduler_file), "--host", "127.0.0.1", "--dashboard-address", ":0"]
    first = subprocess.Popen([*dask, "scheduler", *options, "--port", "0"], **quiet)
    second = subprocess.Popen([*dask, "worker", *options, "--nworkers", "1", "--nthreads", "2"], **quiet)
    try:
        until(scheduler_file.exists, first)
        address = json.loads(scheduler_file.read_text())["address"]
        with Client(address, timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
        yield address, first
    finally:
        for process in (second, first):
            process.terminate()
            process.wait(30)


def test_a_running_scheduler_is_used_until_it_stops(
    model_folder: Path,
    streams: Path,
    serial: pa.Table,
    tmp_path: Path,
    scheduler: tuple[str, subprocess.Popen[bytes]],
):
    address, process = scheduler
    summary, table = run(model_folder, streams, tmp_path / "whole", ExecutorConfig(scheduler=address))
    assert summary.failed_shards == {}
    assert list(summary.unreadable_files) == [str(broken(streams))]
    assert table.equals(serial)

    def kill(progress) -> None:
        if progress.files >= 10:
            process.kill()

    with pytest.raises(OptionError, match=r"the connection to the Dask scheduler was lost .*to continue"):
        run(model_folder, streams, tmp_path / "out", ExecutorConfig(scheduler=address), progress=kill)
    assert 10 <= finished(tmp_path / "out") < MINUTES
    assert run(model_folder, streams, tmp_path / "out", ExecutorConfig(0))[1].equals(serial)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense"])
def test_a_missing_scheduler_is_reported(
    model_folder: Path, streams: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(executor, "CONNECT_TIMEOUT", 1)
    with pytest.raises(OptionError, match=f"no response from a Dask scheduler at {address}.*--scheduler"):
        run(model_folder, streams, tmp_path, ExecutorConfig(scheduler=address))


def test_too_little_memory_for_any_worker_is_refused(model_folder: Path, streams: Path, tmp_path: Path):
    with pytest.raises(OptionError, match="memory 100 MB is too small: an idle worker uses"):
        run(model_folder, streams, tmp_path, ExecutorConfig(1, memory_limit="100 MB"))
    with pytest.raises(OptionError, match="memory 'much' is not a size"):
        run(model_folder, streams, tmp_path, ExecutorConfig(1, memory_limit="much"))


# --- the engine alone ---------------------------------------------------------------------------


def inverse(number: int) -> float:
    return 1 / number


def test_a_failed_item_is_reported_and_the_others_are_processed():
    done = {each.item: each for each in executor.run(inverse, iter([1, 0, 2]), ExecutorConfig(0))}
    assert (done[1].result, done[2].result) == (1.0, 0.5)
    assert done[0].error == "ZeroDivisionError: division by zero"


def test_items_are_read_only_when_needed():
    taken = []

    def pieces() -> Iterator[int]:
        for number in range(1, 1000):
            taken.append(number)
            yield number

    running = executor.run(inverse, pieces(), ExecutorConfig(0))
    assert [next(running).result for _ in range(3)] == [1, 1 / 2, 1 / 3]
    assert len(taken) == 3


def examples_of_errors() -> Iterator[GeovisionError]:
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, GeovisionError):
            if issubclass(kind, errors.UnknownNameError):
                yield kind("aurora-resnet5", ["aurora-resnet50"], "See geovision list.")
            else:
                yield kind("dask", "scale") if kind is MissingExtraError else kind("what, where, what to do")


@pytest.mark.parametrize("error", list(examples_of_errors()), ids=lambda error: type(error).__name__)
def test_every_error_passes_between_processes(error: GeovisionError):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    if isinstance(error, UnknownModelError):
        assert again.nearest == ["aurora-resnet50"]
    if isinstance(error, MissingExtraError):
        assert again.name == "dask"
