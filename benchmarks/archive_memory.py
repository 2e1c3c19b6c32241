"""Peak memory of `geovision.predict_archive`, for the driver and one worker, by size of the archive.

    python benchmarks/archive_memory.py                      # 1,000 and 20,000 frames

The script appends rows to ``archive_memory.csv`` in its folder.
"""

from __future__ import annotations

import datetime
import threading
import time
from pathlib import Path

import psutil
from archive_speed import archives, arguments, run
from rows import append

from geovision.inference import ExecutorConfig
from geovision.models.geomodel import GeoModel
from geovision.provenance import git_commit


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__ or "", frames=(1000, 20000), turns=1)
    for model, source, root in archives(options):
        append(options.out / "archive_memory.csv", memory(model, source, root), show=True)


def memory(model: GeoModel, source: Path, root: Path) -> dict[str, object]:
    """Return the largest resident memory of the driver and of one worker during an archive."""
    watch = Watch()
    watch.start()
    begun = time.perf_counter()
    run(model, source, root, ExecutorConfig(1), read=False)
    seconds = time.perf_counter() - begun
    watch.stop()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git_commit() or "",
        "model": model.spec.name,
        "frames": sum(1 for _ in source.iterdir()),
        "driver_mb": round(watch.driver / 1e6),
        "worker_mb": round(watch.workers / 1e6),
        "seconds": round(seconds),
    }


class Watch(threading.Thread):
    """Peak memory of this process and of its children together, sampled ten times per second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.driver = self.workers = 0
        self._ended = threading.Event()

    def run(self) -> None:
        """Sample the memory until `stop` is called."""
        this = psutil.Process()
        while not self._ended.wait(0.1):
            self.driver = max(self.driver, this.memory_info().rss)
            children = 0
            for child in this.children(recursive=True):
                try:
                    children += child.memory_info().rss
                except psutil.Error:  # the process has ended
                    continue
            self.workers = max(self.workers, children)

    def stop(self) -> None:
        """End the sampling."""
        self._ended.set()
        self.join()


if __name__ == "__main__":
    main()
