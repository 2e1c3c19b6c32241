"""The wheel: its contents, its use with the core dependencies alone, and plugins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from helpers.core_environment import CoreEnvironment, closure
from helpers.paths import REPOSITORY

import geovision
from geovision import registry


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, REPOSITORY]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> CoreEnvironment:
    environment = CoreEnvironment.build(tmp_path_factory.mktemp("core"))
    environment.install(wheel)
    return environment


def test_the_wheel_contains_only_the_package(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"geovision", f"geovision-{geovision.__version__}.dist-info"}
    assert not [name for name in names if "test" in name.rpartition("/")[2] or "__pycache__" in name]


def test_the_wheel_contains_every_file_of_the_package(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(
        ["git", "ls-files", "geovision"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the package is not known")
    tracked = {name for name in listed.stdout.splitlines() if (REPOSITORY / name).exists()}
    assert "geovision/py.typed" in tracked
    assert tracked <= names
    for spec in registry.models().values():
        for weight in spec.weights:
            kind, _, place = weight.location.partition(":")
            if kind == "package":
                assert f"geovision/weights/{place}/model.safetensors" in names


def test_the_wheel_declares_its_license_and_its_requirements(wheel: Path):
    archive = zipfile.ZipFile(wheel)
    info = f"geovision-{geovision.__version__}.dist-info"
    metadata = archive.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert b"Apache License" in archive.read(f"{info}/licenses/LICENSE")


WITH_THE_CORE_ALONE = """
import json, pathlib, torch, geovision
from importlib.util import find_spec
from geovision.datasets.image_folder import ImageFolderDataset

model = geovision.create("cloud-tiny", size=(32, 32))
photos = torch.rand(2, 3, 32, 32)
with torch.no_grad():
    logits = model(photos)
    again = geovision.load(model.save("saved"))(photos)
(prediction,) = model.predict(photos[0])
report = {
    "package": geovision.__file__,
    "shape": list(logits.shape),
    "comes back equal": torch.equal(logits, again),
    "probabilities": sum(prediction.probabilities.values()),
    "extras": [name for name in ("lightning", "torchmetrics", "sklearn", "matplotlib") if find_spec(name)],
}
data = geovision.load_dataset("folder", ImageFolderDataset.synthetic(pathlib.Path("photos"), 11))
for work in (geovision.train, geovision.evaluate):
    try:
        work(model, data)
    except geovision.GeovisionError as error:
        report[work.__name__] = f"{type(error).__name__}: {error}"
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def core_output(core: CoreEnvironment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the output of a process that has only the wheel and the core dependencies."""
    result = core.run(WITH_THE_CORE_ALONE, cwd=tmp_path_factory.mktemp("work"))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_core_environment_hides_the_extras(core_output: dict[str, Any], core: CoreEnvironment):
    assert {"torch", "timm", "typer"} <= closure("geovision")
    assert core_output["package"].startswith(str(core.folder))
    assert core_output["extras"] == []


def test_a_model_is_created_run_and_saved_with_the_core_alone(core_output: dict[str, Any]):
    assert core_output["shape"] == [2, 11]
    assert core_output["comes back equal"]
    assert core_output["probabilities"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("work", "library"), [("train", "lightning"), ("evaluate", "torchmetrics")])
def test_functions_of_an_extra_name_the_install_command(core_output: dict[str, Any], work: str, library: str):
    assert core_output[work] == (
        f"MissingExtraError: {library} is not installed; it comes with the extra [train]: "
        'pip install "geovision[train]"'
    )


def test_the_command_line_works_with_the_core_alone(core: CoreEnvironment, tmp_path: Path):
    command = [core.folder / "bin" / "geovision", "list", "cloud-vit*", "--format", "csv"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1].startswith("cloud-vit,")


PLUGIN = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "geovision-patchwork"
version = "1.0"
dependencies = ["geovision"]

[project.entry-points."geovision.models"]
patchwork = "geovision_patchwork:ENTRIES"
""",
    "geovision_patchwork/__init__.py": '''
"""Third-party model: the mean of each color over patches of the image, one layer deep."""

from geovision.spec import ModelSpec

ENTRIES = (
    ModelSpec(
        "cloud-patchwork", "cloud", "geovision_patchwork.network:build", {"patches": 4}, num_parameters=539
    ),
)
''',
    "geovision_patchwork/network.py": """
from torch import nn


class Patchwork(nn.Module):
    mean = std = ()

    def __init__(self, patches):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(patches)
        self.num_features = 3 * patches**2

    def forward(self, inputs, *, valid=None, context=None):
        return self.pool(inputs["image"]).flatten(1)


def build(arch, *, inputs, size):
    return Patchwork(arch["patches"])
""",
}


@pytest.fixture(scope="module")
def with_plugin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return environment variables of a process that has the plugin installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name, text in PLUGIN.items():
        path = source / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, *offline, "--target", target, source], check=True)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])}


def run_with(environment: dict[str, str], program: str, cwd: Path) -> str:
    """Return the output of a program in a separate process."""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_plugin_is_listed_like_built_in_models(with_plugin: dict[str, str], tmp_path: Path):
    program = """
import geovision
print(geovision.list_models("cloud-patch*"), geovision.info("cloud-patchwork").num_parameters)
try:
    geovision.create("cloud-patchwrk")
except geovision.GeovisionError as error:
    print("Did you mean 'cloud-patchwork'" in str(error))
"""
    assert run_with(with_plugin, program, tmp_path) == "['cloud-patchwork'] 539\nTrue\n"
    assert "cloud-patchwork" not in registry.models()


def test_the_model_of_a_plugin_is_trained_and_saved_like_built_in_ones(
    with_plugin: dict[str, str], tmp_path: Path
):
    program = """
import dataclasses, pathlib, torch, geovision
from geovision.datasets.ccsn import CCSN
data = geovision.load_dataset("ccsn", CCSN.synthetic(pathlib.Path("skies"), 44), size=(32, 32))
model = geovision.create("cloud-patchwork", size=(32, 32))
before = model.head.linear.weight.detach().clone()
recipe = dataclasses.replace(model.recipe.with_epochs(1), precision="32-true")
geovision.train(model, data, recipe=recipe, out="run", progress=False)
photos = torch.rand(2, 3, 32, 32)
with torch.no_grad():
    same = torch.equal(geovision.load("run/model")(photos), model(photos))
print(model.num_parameters(), torch.equal(before, model.head.linear.weight), same)
"""
    assert run_with(with_plugin, program, tmp_path) == "539 False True\n"


@pytest.mark.slow
def test_a_clean_install_with_all_extras_works(wheel: Path, tmp_path: Path):
    """Download all dependencies, which takes some minutes and gigabytes."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "clean"], check=True)
    python = tmp_path / "clean" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[all]"], check=True)
    subprocess.run([python.with_name("geovision"), "doctor"], cwd=tmp_path, check=True)
    subprocess.run([python.with_name("geovision"), "demo", "--out", "demo"], cwd=tmp_path, check=True)
    assert (tmp_path / "demo" / "index.html").stat().st_size > 0
