"""Shared fixtures: no network but loopback, limited threads, and the folder of real data."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from helpers.paths import DATA
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from helpers.served import Server
    from playwright.sync_api import Browser

    from geovision.readers.allsky import Frame

# Processes times threads is at most the number of cores. Child processes inherit the variable.
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
THREADS = max(1, min(2, (os.cpu_count() or 1) // _PROCESSES))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

# The duration of an example depends on the load of the machine.
settings.register_profile("geovision", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("geovision")


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make tests fail that connect to another machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise RuntimeError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Enable interrupts, which shells disable for background jobs and their children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _limit_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(THREADS, before))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def scores() -> ModuleType:
    """Import the reference library for metrics of fields, without its import warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("scores")


@pytest.fixture(scope="session")
def pysteps() -> ModuleType:
    """Import pysteps, which has no wheels; `pip install '.[oracles]'` builds it with a C compiler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("pysteps")


@pytest.fixture(scope="module")
def servers(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Serve the model that a module exports, with predictions by the server or by the page."""
    from helpers.served import serving

    with (
        serving(exported, tmp_path_factory.mktemp("server"), mode="server") as server,
        serving(exported, tmp_path_factory.mktemp("device"), mode="device") as device,
    ):
        yield {"server": server, "device": device}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from helpers.pages import chromium

    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data, or skip the test where it is missing."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set GEOVISION_DATA")
    return DATA


@pytest.fixture(scope="session")
def shipped_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the shipped cloud model once for all workers. Tests do not write to the file."""
    import geovision
    from geovision._atomic_io import file_lock
    from geovision.export import export_onnx

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shipped"
    folder.mkdir(exist_ok=True)
    with file_lock(folder / "lock", wait=True):
        path = folder / "cloud.onnx"
        return (
            path
            if path.exists()
            else export_onnx(geovision.create("cloud-mobilenetv2", pretrained=True), path)
        )


@pytest.fixture(scope="session")
def skies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 66 generated skies in CCSN's layout and 20 near-copies, some of another genus.

    Tests do not write to the folder.
    """
    from geovision.datasets.synthetic import sky

    return sky.write(tmp_path_factory.mktemp("skies"), 66, seed=7, size=(96, 96), duplicates=0.3)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of four megabytes, where the process may do so."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("no file system can be mounted here; the limit on file sizes is tested instead")
    yield place
    subprocess.run(["umount", str(place)], check=True, capture_output=True)


@pytest.fixture
def night() -> list[Frame]:
    """Return six frames of an all-sky camera, three seconds apart."""
    from helpers.allsky import frame

    return [frame(index) for index in range(6)]


@pytest.fixture(scope="session")
def gillam(shared_data: Path) -> list[Path]:
    """Return three minutes of a THEMIS camera."""
    paths = sorted((shared_data / "themis").glob("*.pgm.gz"))
    if not paths:
        pytest.skip(f"no THEMIS frames in {shared_data}/themis")
    return paths
