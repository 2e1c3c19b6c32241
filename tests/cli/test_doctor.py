"""`geovision doctor`: each fault is named in one line together with its remedy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from geovision.cli import doctor

COMMAND = [sys.executable, "-P", "-c", "from geovision.cli import main; main(['doctor'])"]

# Warning of the default torchvision on import next to a CPU build of torch.
BROKEN_PAIR = 'raise RuntimeError("operator torchvision::nms does not exist")\n'


def findings(output: str) -> dict[str, tuple[str, str]]:
    """Return subject -> (status, text) of each line."""
    rows = [re.split(r"  +", line, maxsplit=2) for line in output.splitlines()]
    return {subject: (status, text) for status, subject, text in rows}


def module_that(folder: Path, name: str, source: str) -> dict[str, str]:
    """Return an environment in which `name` is this module, before any installed one."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text(source, encoding="utf-8")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def test_this_installation_has_no_findings():
    result = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    seen = findings(result.stdout)
    assert result.returncode == 0, result.stdout
    assert {status for status, _ in seen.values()} <= {"ok", "warn"}
    for subject in (
        "python",
        "torch",
        "torchvision",
        "timm",
        "extra [train]",
        "threads",
        "processor",
        "cache",
    ):
        assert subject in seen


def test_an_incompatible_torchvision_is_explained(tmp_path: Path):
    environment = module_that(tmp_path, "torchvision", BROKEN_PAIR)
    result = subprocess.run(COMMAND, capture_output=True, text=True, check=False, env=environment)
    seen = findings(result.stdout)
    assert result.returncode == 1
    status, text = seen["torchvision"]
    assert status == "fail"
    assert "operator torchvision::nms does not exist" in text
    assert "are incompatible builds" in text
    assert "pip install --force-reinstall torch torchvision" in text
    assert seen["timm"] == ("fail", seen["timm"][1])
    assert "as torchvision above" in seen["timm"][1]
    assert seen["torch"][0] == "ok"


def test_a_library_that_crashes_the_interpreter_is_named_and_the_rest_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    environment = module_that(tmp_path, "deadly", "import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    errors = {
        each.module: each.error for each in doctor.import_modules(["json", "deadly", "csv", "no_such_module"])
    }
    assert list(errors) == ["json", "deadly", "csv", "no_such_module"]
    assert errors["json"] == errors["csv"] == ""
    assert "the import crashed the interpreter" in errors["deadly"]
    assert errors["no_such_module"] == "ModuleNotFoundError: No module named 'no_such_module'"


def test_missing_or_outdated_libraries_are_reported_with_the_install_command():
    core = [
        doctor.RequirementSpec("no-such-library", ">=2"),
        doctor.RequirementSpec("packaging", ">=9999"),
        doctor.RequirementSpec("packaging", ">=1"),
    ]
    missing, old, fine = doctor.check_core(core, [doctor.ImportResult("packaging", "")])
    assert missing.status == "fail"
    assert 'missing: pip install "no-such-library>=2"' in missing.message
    assert old.status == "fail"
    assert 'requires >=9999: pip install -U "packaging>=9999"' in old.message
    assert fine.status == "ok"


def test_a_missing_extra_is_a_warning_with_its_command():
    groups = [
        doctor.RequirementSpec("packaging", ">=1", "whole"),
        doctor.RequirementSpec("packaging", ">=1", "half"),
        doctor.RequirementSpec("nothing", "", "half"),
        doctor.RequirementSpec("packaging", ">=9999", "old"),
    ]
    whole, half, old = doctor.check_extras(groups)
    assert (whole.status, whole.subject) == ("ok", "extra [whole]")
    assert half.status == "warn"
    assert 'missing nothing; if needed: pip install -U "geovision[half]"' in half.message
    assert old.status == "warn"
    assert 'requires >=9999): pip install -U "geovision[old]"' in old.message


def test_shipped_weights_that_changed_are_named(tmp_path: Path):
    import geovision

    folder = geovision.create("cloud-tiny").save(tmp_path / "weights")
    assert doctor.check_weights("cloud-tiny.x", folder).status == "ok"
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    changed = doctor.check_weights("cloud-tiny.x", folder)
    assert changed.status == "fail"
    assert "differs from the shipped file" in changed.message
    weights.unlink()
    assert "cannot be read" in doctor.check_weights("cloud-tiny.x", folder).message


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(blocked))
    assert doctor.check_cache().status == "warn"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "fresh"))
    assert doctor.check_cache() == doctor.CheckResult("ok", "cache", str(tmp_path / "fresh" / "hub"))
    assert not (tmp_path / "fresh").exists()


def test_fewer_threads_than_cores_are_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS=1" in doctor.check_threads(1, 8, openmp=True).message
    assert doctor.check_threads(8, 8, openmp=True).status == "ok"
    assert doctor.check_threads(8, 8, openmp=False).status == "warn"


def test_offline_mode_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE set: downloads are disabled" in doctor.check_network().message
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "used only by commands that download" in doctor.check_network().message
