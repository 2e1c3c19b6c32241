"""Command `geovision doctor`: check the installation and print one line per check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata, resources, util
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from geovision import _atomic_io, registry
from geovision.cli._output import examples_epilog, print_status

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = [
    "CheckResult",
    "ImportResult",
    "RequirementSpec",
    "check_cache",
    "check_core",
    "check_extras",
    "check_network",
    "check_threads",
    "check_weights",
    "import_modules",
    "register",
]

Status = Literal["ok", "warn", "fail"]

# Modules of distributions with a different name.
_MODULES = {"pillow": "PIL", "scikit-learn": "sklearn", "python-multipart": "python_multipart"}
_GROUPS_FOR_DEVELOPERS = {"all", "dev", "docs", "test"}

_IMPORTER = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        error = ""
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}".splitlines()[0]
    print(json.dumps([name, error]), flush=True)
"""

_TORCH_PROBE = """
import json, os, torch
from geovision.accelerate._cpu_features import has_fast_bfloat16, has_vnni
print(json.dumps({
    "threads": torch.get_num_threads(),
    "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    "openmp": torch.backends.openmp.is_available(),
    "instructions": torch.backends.cpu.get_cpu_capability(),
    "amx": torch.cpu._is_amx_tile_supported(),
    "bf16": has_fast_bfloat16(),
    "int8": has_vnni(),
    "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
}))
"""


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Attributes:
        status: ``"ok"``, ``"warn"`` or ``"fail"``.
        subject: Object of the check.
        message: Observation, and the remedy if there is a problem.
    """

    status: Status
    subject: str
    message: str


@dataclass(frozen=True)
class ImportResult:
    """Result of importing one module in a separate process.

    Attributes:
        module: Name of the module.
        error: Error message; empty if the import succeeded.
    """

    module: str
    error: str


@dataclass(frozen=True)
class RequirementSpec:
    """Requirement of the package.

    Attributes:
        distribution: Name of the distribution.
        min_version: Version specifier, such as ``">=2.4"``.
        extra: Name of the extra; empty for a core requirement.
    """

    distribution: str
    min_version: str
    extra: str = ""

    def __str__(self) -> str:
        return f'"{self.distribution}{self.min_version}"'

    @property
    def module(self) -> str:
        """Name of the importable module."""
        return _MODULES.get(self.distribution, self.distribution.replace("-", "_"))

    @property
    def installed(self) -> str | None:
        """Installed version, or None."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None


def register(app: typer.Typer) -> None:
    """Add `doctor` to the application."""
    app.command("doctor", epilog=examples_epilog("geovision doctor", "geovision doctor || echo broken"))(
        doctor
    )


def doctor() -> None:
    """Check the installation and print one line per check, with remedies.

    The exit code is 1 if a check fails.
    """
    broken = False
    for result in _run_checks():
        broken |= result.status == "fail"
        print(f"{result.status:4}  {result.subject:27}  {result.message}", flush=True)
    if broken:
        raise typer.Exit(1)


def _run_checks() -> Iterator[CheckResult]:
    needed = list(_read_requirements())
    # Torch first: packages that import it fail with the same error, and only the first failure is explained.
    core = sorted(
        (each for each in needed if not each.extra), key=lambda each: "torch" not in each.distribution[:5]
    )
    yield _check_python()
    print_status("importing the core packages; this takes some seconds")
    imported = import_modules([each.module for each in core])
    yield from check_core(core, imported)
    yield from check_extras([each for each in needed if each.extra])
    if any(each.module == "torch" and not each.error for each in imported):
        yield from _check_processor()
    yield from _check_shipped_weights()
    yield check_cache()
    yield check_network()


# --- what is installed --------------------------------------------------------------------------


def _check_python() -> CheckResult:
    from packaging.specifiers import SpecifierSet

    version = ".".join(map(str, sys.version_info[:3]))
    bound = metadata.metadata("geovision")["Requires-Python"]
    if not SpecifierSet(bound).contains(version):
        return CheckResult(
            "fail", "python", f"{version}; geovision requires {bound}: create a new environment"
        )
    return CheckResult("ok", "python", f"{version} at {sys.executable}")


def _read_requirements() -> Iterator[RequirementSpec]:
    from packaging.requirements import Requirement

    for line in metadata.requires("geovision") or ():
        requirement = Requirement(line)
        if requirement.name == "geovision":
            continue
        for extra in _extras_of(requirement):
            if extra not in _GROUPS_FOR_DEVELOPERS:
                yield RequirementSpec(requirement.name, str(requirement.specifier), extra)


def _extras_of(requirement: Requirement) -> list[str]:
    """Return the extras that include a requirement; one empty name for core requirements."""
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        return [""]
    known = metadata.metadata("geovision").get_all("Provides-Extra") or []
    return [extra for extra in known if requirement.marker.evaluate({"extra": extra})]


def import_modules(modules: Iterable[str]) -> list[ImportResult]:
    """Import modules one after the other in a separate process.

    If an import crashes the process, the result names that module, and the remaining modules are imported
    in a new process.

    Args:
        modules: Names of the modules.

    Returns:
        One result per module, in order.
    """
    remaining, found = list(modules), []
    while remaining:
        process = _python_process(_IMPORTER, *remaining)
        reported = [json.loads(line) for line in process.stdout.splitlines() if line.startswith('["')]
        found += [ImportResult(module, error) for module, error in reported]
        remaining = remaining[len(reported) :]
        if remaining:
            crash = f"the import crashed the interpreter (exit code {process.returncode})"
            found.append(ImportResult(remaining.pop(0), crash))
    return found


def _python_process(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in this environment, without the current folder on its path."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check_core(core: Iterable[RequirementSpec], imported: Iterable[ImportResult]) -> Iterator[CheckResult]:
    """Check that each core package is installed, recent enough and importable.

    Args:
        core: Core requirements.
        imported: Results of importing their modules.

    Yields:
        One result per package.
    """
    errors = {each.module: each.error for each in imported}
    first: dict[str, str] = {}
    for each in core:
        name, version, error = each.distribution, each.installed, errors.get(each.module, "")
        if version is None:
            yield CheckResult("fail", name, f"missing: pip install {each}")
        elif error:
            same = first.setdefault(error, name)
            reason = (
                _format_import_error(each, error) if same == name else f"cannot be imported, as {same} above"
            )
            yield CheckResult("fail", name, f"{version}; {reason}")
        elif _is_older(version, each.min_version):
            yield CheckResult("fail", name, f"{version}; requires {each.min_version}: pip install -U {each}")
        else:
            yield CheckResult("ok", name, version)


def _is_older(version: str, bound: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return not SpecifierSet(bound).contains(version, prereleases=True)


def _format_import_error(needed: RequirementSpec, error: str) -> str:
    if "torchvision::nms does not exist" not in error:
        return f"cannot be imported ({error}): pip install --force-reinstall {needed}"
    torch, torchvision = (RequirementSpec(name, "").installed for name in ("torch", "torchvision"))
    return (
        f"cannot be imported ({error}): torch {torch} and torchvision {torchvision} are incompatible builds, "
        "such as a CPU build of torch with the default build of torchvision. Install both from one index: "
        f"pip install --force-reinstall torch torchvision --index-url {_wheel_index(torch or '')}"
    )


def _wheel_index(torch: str) -> str:
    """Return the URL of a wheel index with matching builds.

    A local folder of wheels may contain mixed builds, so the index is always named.
    """
    return "https://download.pytorch.org/whl/cpu" if torch.endswith("+cpu") else "https://pypi.org/simple"


def check_extras(needed: Iterable[RequirementSpec]) -> Iterator[CheckResult]:
    """Check that the libraries of each extra are installed and recent enough.

    Libraries are not imported: some are slow to import, and some cannot be imported in one process.

    Args:
        needed: Requirements of extras.

    Yields:
        One result per extra, with the missing or outdated libraries and the install command.
    """
    groups: dict[str, list[RequirementSpec]] = {}
    for each in needed:
        groups.setdefault(each.extra, []).append(each)
    for extra, members in groups.items():
        lacking = [each for each in members if each.installed is None or not util.find_spec(each.module)]
        old = [
            each
            for each in members
            if each not in lacking and _is_older(each.installed or "", each.min_version)
        ]
        names = ", ".join(f"{each.distribution} {each.installed}" for each in members if each not in lacking)
        command = f'pip install -U "geovision[{extra}]"'
        if lacking:
            missing = ", ".join(each.distribution for each in lacking)
            yield CheckResult("warn", f"extra [{extra}]", f"missing {missing}; if needed: {command}")
        elif old:
            outdated = ", ".join(
                f"{each.distribution} {each.installed} (requires {each.min_version})" for each in old
            )
            yield CheckResult("warn", f"extra [{extra}]", f"too old: {outdated}: {command}")
        else:
            yield CheckResult("ok", f"extra [{extra}]", names)


# --- the machine --------------------------------------------------------------------------------


def _check_processor() -> Iterator[CheckResult]:
    process = _python_process(_TORCH_PROBE)
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
        yield CheckResult("fail", "processor", f"torch can be imported but fails ({reason}); reinstall torch")
        return
    probe = json.loads(process.stdout)
    yield check_threads(probe["threads"], probe["cores"], openmp=probe["openmp"])
    bfloat16 = "with AMX" if probe["amx"] else "yes" if probe["bf16"] else "no, float32 is used"
    int8 = "with VNNI" if probe["int8"] else "no"
    precisions = f"fast bfloat16: {bfloat16}; fast int8: {int8}"
    yield CheckResult("ok", "processor", f"{probe['instructions']}; {precisions}")
    yield CheckResult("ok", "graphics processor", ", ".join(probe["cuda"]) or "none; the CPU is used")


def check_threads(threads: int, cores: int, *, openmp: bool) -> CheckResult:
    """Check that torch may use all cores.

    Args:
        threads: Number of threads of torch.
        cores: Number of available CPU cores.
        openmp: Whether torch was built with OpenMP.

    Returns:
        A warning without OpenMP, or if ``OMP_NUM_THREADS`` limits the threads.
    """
    text = f"torch uses {threads} of {cores} cores"
    if not openmp:
        return CheckResult(
            "warn", "threads", f"{text}, without OpenMP; the default wheel of torch includes it"
        )
    limit = os.environ.get("OMP_NUM_THREADS")
    if threads < cores and limit:
        return CheckResult(
            "warn", "threads", f"{text}, because OMP_NUM_THREADS={limit}; unset it to use all cores"
        )
    return CheckResult("ok", "threads", text)


# --- files and network --------------------------------------------------------------------------


def _check_shipped_weights() -> Iterator[CheckResult]:
    """Check the digests of the weights inside the package."""
    root = Path(str(resources.files("geovision"))) / "weights"
    for spec in registry.models().values():
        for weight in spec.weights:
            kind, _, place = weight.location.partition(":")
            if kind == "package":
                yield check_weights(f"{spec.name}.{weight.tag}", root / place)


def check_weights(name: str, folder: Path) -> CheckResult:
    """Check that a saved model has the digest of its configuration.

    Args:
        name: Name of the weights, for the result.
        folder: Folder of the saved model.

    Returns:
        A failure if a file is unreadable or the SHA-256 digest differs.
    """
    again = "pip install --force-reinstall --no-deps geovision"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        digest = _atomic_io.sha256(folder / "model.safetensors")
    except (OSError, ValueError) as error:
        return CheckResult("fail", f"weights {name}", f"{folder} cannot be read ({error}): {again}")
    if digest != config.get("sha256"):
        return CheckResult(
            "fail", f"weights {name}", f"{folder}: differs from the shipped file (sha256): {again}"
        )
    return CheckResult("ok", f"weights {name}", f"verified, in {folder}")


def check_cache() -> CheckResult:
    """Check that the cache of downloaded weights is writable.

    Returns:
        A warning if the cache folder cannot be written.
    """
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    folder = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return CheckResult(
            "warn",
            "cache",
            f"{folder} is not writable, so weights cannot be downloaded; set HF_HOME to a writable folder",
        )
    return CheckResult("ok", "cache", f"{folder}")


def check_network() -> CheckResult:
    """Report whether environment variables disable downloads.

    Returns:
        The variables that disable downloads, if any.
    """
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
    if offline:
        return CheckResult(
            "ok", "network", f"{' and '.join(offline)} set: downloads are disabled, the cache is used"
        )
    return CheckResult("ok", "network", "used only by commands that download")
