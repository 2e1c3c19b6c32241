"""`geovision doctor`: is this installation whole, and if not, what mends it. One line a finding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata, resources, util
from pathlib import Path
from typing import Literal

import typer

from geovision import _atomic_io, registry
from geovision.cli._output import examples_epilog, print_status

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

# Distributions whose module has another name.
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
    """One line: how it stands, what was looked at, what was seen and what to do."""

    status: Status
    subject: str
    message: str


@dataclass(frozen=True)
class ImportResult:
    """Whether a module could be imported in a process of its own; `error` is empty if so."""

    module: str
    error: str


@dataclass(frozen=True)
class RequirementSpec:
    """One line of the package's own requirements."""

    distribution: str
    min_version: str
    extra: str = ""

    def __str__(self) -> str:
        return f'"{self.distribution}{self.min_version}"'

    @property
    def module(self) -> str:
        return _MODULES.get(self.distribution, self.distribution.replace("-", "_"))

    @property
    def installed(self) -> str | None:
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
    """Check this installation: one line a finding, with what to do. Exit code 1 if something is broken."""
    broken = False
    for finding in _run_checks():
        broken |= finding.status == "fail"
        print(f"{finding.status:4}  {finding.subject:27}  {finding.message}", flush=True)
    if broken:
        raise typer.Exit(1)


def _run_checks() -> Iterator[CheckResult]:
    needed = list(_read_requirements())
    # Torch first: what builds upon it fails as it does, and the first to fail is explained.
    core = sorted(
        (each for each in needed if not each.extra), key=lambda each: "torch" not in each.distribution[:5]
    )
    yield _check_python()
    print_status("importing the core packages, each once; this takes some seconds")
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
        return CheckResult("fail", "python", f"{version}; geovision needs {bound}: make the environment anew")
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


def _extras_of(requirement) -> list[str]:
    """The extras that bring a requirement; one empty name for those that always come."""
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        return [""]
    known = metadata.metadata("geovision").get_all("Provides-Extra") or []
    return [extra for extra in known if requirement.marker.evaluate({"extra": extra})]


def import_modules(modules: Iterable[str]) -> list[ImportResult]:
    """Import modules one after the other in another process, which may die of one of them.

    What brought the process down is named, and the rest is tried in the next one.
    """
    remaining, found = list(modules), []
    while remaining:
        process = _python_process(_IMPORTER, *remaining)
        told = [json.loads(line) for line in process.stdout.splitlines() if line.startswith('["')]
        found += [ImportResult(module, error) for module, error in told]
        remaining = remaining[len(told) :]
        if remaining:
            died = f"the interpreter died importing it (exit code {process.returncode})"
            found.append(ImportResult(remaining.pop(0), died))
    return found


def _python_process(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in this very environment, without the current folder on its path."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check_core(core: Iterable[RequirementSpec], imported: Iterable[ImportResult]) -> Iterator[CheckResult]:
    """One finding for each core package: present, new enough, and importable."""
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
            yield CheckResult("fail", name, f"{version}; needs {each.min_version}: pip install -U {each}")
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
        f"cannot be imported ({error}): torch {torch} and torchvision {torchvision} are builds that do "
        "not belong together, such as a CPU torch beside the ordinary torchvision. Take both from one "
        f"place: pip install --force-reinstall torch torchvision --index-url {_wheel_index(torch or '')}"
    )


def _wheel_index(torch: str) -> str:
    """Where both wheels are built the same way; a local folder of wheels may be what mixed them."""
    return "https://download.pytorch.org/whl/cpu" if torch.endswith("+cpu") else "https://pypi.org/simple"


def check_extras(needed: Iterable[RequirementSpec]) -> Iterator[CheckResult]:
    """One finding for each extra: whole, or which libraries it lacks and how to get them.

    Presence and version only: some of these libraries take long to import, and not all of them
    can live in one process.
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
        mend = f'pip install -U "geovision[{extra}]"'
        if lacking:
            missing = ", ".join(each.distribution for each in lacking)
            yield CheckResult("warn", f"extra [{extra}]", f"lacks {missing}; only where wanted: {mend}")
        elif old:
            behind = ", ".join(
                f"{each.distribution} {each.installed} (needs {each.min_version})" for each in old
            )
            yield CheckResult("warn", f"extra [{extra}]", f"too old: {behind}: {mend}")
        else:
            yield CheckResult("ok", f"extra [{extra}]", names)


# --- the machine --------------------------------------------------------------------------------


def _check_processor() -> Iterator[CheckResult]:
    process = _python_process(_TORCH_PROBE)
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
        yield CheckResult(
            "fail", "processor", f"torch imports but does not answer ({reason}); reinstall torch"
        )
        return
    seen = json.loads(process.stdout)
    yield check_threads(seen["threads"], seen["cores"], openmp=seen["openmp"])
    bfloat16 = "with AMX" if seen["amx"] else "yes" if seen["bf16"] else "no, so float32 is used"
    int8 = "with VNNI" if seen["int8"] else "no"
    arithmetic = f"bfloat16 saves time: {bfloat16}; --precision int8: {int8}"
    yield CheckResult("ok", "processor", f"{seen['instructions']}; {arithmetic}")
    yield CheckResult(
        "ok", "graphics processor", ", ".join(seen["cuda"]) or "none; the processor does it all"
    )


def check_threads(threads: int, cores: int, *, openmp: bool) -> CheckResult:
    """Whether torch may use all cores."""
    text = f"torch uses {threads} of {cores} cores"
    if not openmp:
        return CheckResult("warn", "threads", f"{text}, without OpenMP; the ordinary wheel of torch has it")
    limit = os.environ.get("OMP_NUM_THREADS")
    if threads < cores and limit:
        return CheckResult("warn", "threads", f"{text}, as OMP_NUM_THREADS={limit} says; unset it to use all")
    return CheckResult("ok", "threads", text)


# --- files and network --------------------------------------------------------------------------


def _check_shipped_weights() -> Iterator[CheckResult]:
    """Whether the weights inside the package are those that their configuration describes."""
    root = Path(str(resources.files("geovision"))) / "weights"
    for spec in registry.models().values():
        for weight in spec.weights:
            kind, _, place = weight.location.partition(":")
            if kind == "package":
                yield check_weights(f"{spec.name}.{weight.tag}", root / place)


def check_weights(name: str, folder: Path) -> CheckResult:
    """Whether a saved model is the one that its configuration describes."""
    again = "pip install --force-reinstall --no-deps geovision"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        digest = _atomic_io.sha256(folder / "model.safetensors")
    except (OSError, ValueError) as error:
        return CheckResult("fail", f"weights {name}", f"{folder} cannot be read ({error}): {again}")
    if digest != config.get("sha256"):
        return CheckResult(
            "fail", f"weights {name}", f"{folder}: not the file that was shipped (sha256): {again}"
        )
    return CheckResult("ok", f"weights {name}", f"whole, in {folder}")


def check_cache() -> CheckResult:
    """Whether downloaded weights can be kept."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    folder = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return CheckResult(
            "warn",
            "cache",
            f"{folder} cannot be written; set HF_HOME to a folder that can, or weights are never downloaded",
        )
    return CheckResult("ok", "cache", f"{folder}")


def check_network() -> CheckResult:
    """Whether downloads are switched off."""
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
    if offline:
        return CheckResult(
            "ok", "network", f"{' and '.join(offline)} set: nothing is fetched, the cache serves"
        )
    return CheckResult("ok", "network", "used only where a command asks for a download")
