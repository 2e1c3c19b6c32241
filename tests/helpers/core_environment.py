"""Virtual environment with the core libraries of a package and without its extras."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["CoreEnvironment", "requirements"]


def requirements(name: str, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """Yield the requirements of a distribution on this platform, with the given extras."""
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield requirement


def closure(name: str) -> set[str]:
    """Return all direct and indirect requirements of a distribution, without its extras."""
    done: set[tuple[str, frozenset[str]]] = set()
    ahead = [(name, frozenset[str]())]
    while ahead:
        entry = ahead.pop()
        if entry in done:
            continue
        done.add(entry)
        ahead += [
            (canonicalize_name(r.name), frozenset(r.extras))
            for r in requirements(*entry)
            if _installed(r.name)
        ]
    return {distribution for distribution, _ in done} - {name}


def _installed(name: str) -> bool:
    # A dependency is missing if another installer evaluated its marker differently.
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@dataclass(frozen=True)
class CoreEnvironment:
    """Virtual environment whose site-packages are links to the core libraries of this one."""

    folder: Path

    @classmethod
    def build(cls, folder: Path) -> CoreEnvironment:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        environment = cls(folder)
        for name in closure("geovision"):
            environment._link(metadata.distribution(name))
        return environment

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        paths = {"base": str(self.folder), "platbase": str(self.folder)}
        return Path(sysconfig.get_path("purelib", "venv", paths))

    def _link(self, distribution: metadata.Distribution) -> None:
        source = Path(str(distribution.locate_file("")))
        # Files outside site-packages are commands, which no test runs.
        tops = {path.parts[0] for path in distribution.files or () if path.parts[0] != ".."}
        for top in tops - {"__pycache__"}:
            link = self.site_packages / top
            if not link.exists():
                link.symlink_to(source / top)

    def install(self, wheel: Path) -> None:
        """Install a wheel without its requirements."""
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            self.python,
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--disable-pip-version-check",
            wheel,
        ]
        subprocess.run(command, check=True)

    def run(self, program: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program, isolated from the paths and variables of this environment."""
        return subprocess.run(
            [self.python, "-I", "-c", program], cwd=cwd, capture_output=True, text=True, check=False
        )
