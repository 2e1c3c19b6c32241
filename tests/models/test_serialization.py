"""Saved models: complete or unchanged, validated, checked by digest, and without executable content."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import geovision
from geovision import _atomic_io
from geovision.errors import StorageError, WeightsCorruptError, WeightsNotAvailableError
from geovision.models.geomodel import GeoModel
from geovision.models.serialization import weights_digest

SIZE = (32, 32)


@pytest.fixture
def model() -> GeoModel:
    torch.manual_seed(0)
    return geovision.create("cloud-tiny", size=SIZE, scalars=["cloud_base_height"], drop_rate=0.1)


@pytest.fixture
def saved(model: GeoModel, tmp_path: Path) -> Path:
    return model.save(tmp_path / "model")


def edit(folder: Path, **changes: object) -> None:
    """Change the configuration of a saved model."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def photos(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))


# --- saving and loading -------------------------------------------------------------------------


def test_a_loaded_model_equals_the_saved_one(model: GeoModel, saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = geovision.load(saved)
    assert loaded.config.scalars == ("cloud_base_height",)
    assert loaded.inputs == model.inputs
    assert loaded.target == model.target
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]) or value.isnan().all(), name
    assert torch.equal(model(photos()), loaded(photos()))


def test_user_classes_and_the_training_record_are_saved(tmp_path: Path) -> None:
    model = geovision.create("cloud-tiny", size=SIZE, classes=["sunny", "grey"])
    model.training_record = {"data": "mine", "macro_f1": 0.5}
    loaded = geovision.load(model.save(tmp_path / "m"))
    assert loaded.target.classes == ("sunny", "grey")
    assert loaded.training_record == {"data": "mine", "macro_f1": 0.5}
    assert "macro_f1: 0.5" in (tmp_path / "m" / "README.md").read_text()


def test_half_precision_halves_the_size_and_predicts_nearly_the_same(model: GeoModel, tmp_path: Path) -> None:
    whole, half = model.save(tmp_path / "whole"), model.save(tmp_path / "half", fp16=True)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = geovision.load(half)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(photos()), model(photos()), rtol=1e-2, atol=1e-3)


def test_a_model_can_be_moved_and_replaced(model: GeoModel, saved: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(saved, tmp_path / "elsewhere"))
    with torch.no_grad():
        model.head.linear.bias.add_(1)
    model.save(moved)
    assert torch.equal(geovision.load(moved).head.linear.bias, model.head.linear.bias)
    assert not list(moved.glob(".*"))


def test_partial_files_of_a_killed_save_are_ignored(model: GeoModel, saved: Path) -> None:
    (saved / ".model.safetensors.1.part").write_bytes(b"half a file")
    model.save(saved)
    geovision.load(saved)


# --- invalid files are refused ------------------------------------------------------------------


def test_a_missing_model_is_reported(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(
        WeightsNotAvailableError, match=r"nowhere is not a saved model: it has no config\.json"
    ):
        geovision.load(tmp_path / "nowhere")
    (saved / "model.safetensors").unlink()
    with pytest.raises(
        WeightsNotAvailableError, match=r"has no model\.safetensors; copy the complete folder"
    ):
        geovision.load(saved)


def test_a_single_changed_byte_is_detected(saved: Path) -> None:
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        WeightsCorruptError,
        match=r"model\.safetensors does not match config\.json: its sha256 differs\. Copy",
    ):
        geovision.load(saved)


@pytest.mark.parametrize(
    "content", [b"", b"not safetensors at all", b"\xff" * 64], ids=["empty", "text", "huge"]
)
def test_an_unreadable_weights_file_is_refused(saved: Path, content: bytes) -> None:
    (saved / "model.safetensors").write_bytes(content)
    edit(saved, sha256=_atomic_io.sha256(saved / "model.safetensors"))
    with pytest.raises(WeightsCorruptError, match=r"model\.safetensors is not a readable safetensors file"):
        geovision.load(saved)


def test_a_pickle_is_not_loaded(saved: Path, tmp_path: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (saved / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    edit(saved, sha256=_atomic_io.sha256(saved / "model.safetensors"))
    with pytest.raises(WeightsCorruptError):
        geovision.load(saved)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("change", ["missing", "added", "shape"])
def test_arrays_must_match_the_network(saved: Path, change: str) -> None:
    path = saved / "model.safetensors"
    state = load_file(path)
    if change == "missing":
        del state["head.linear.bias"]
    elif change == "added":
        state["head.backdoor"] = torch.ones(3)
    else:
        state["head.linear.bias"] = torch.ones(3)
    save_file(state, path)
    edit(saved, sha256=_atomic_io.sha256(path))
    with pytest.raises(
        WeightsCorruptError, match=r"does not match cloud-tiny: .*head\.(linear\.bias|backdoor)"
    ):
        geovision.load(saved)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '"x"',
        '{"format_version": 1}',
        '{"format_version": 1, "model": "cloud-tiny", "sha256": "0", "config": 3}',
    ],
)
def test_a_damaged_configuration_is_refused(saved: Path, content: str) -> None:
    (saved / "config.json").write_text(content)
    with pytest.raises(WeightsCorruptError, match=r"config\.json is not a geovision configuration"):
        geovision.load(saved)


def test_a_model_of_format_version_1_is_upgraded(saved: Path) -> None:
    expected = geovision.load(saved)
    config = json.loads((saved / "config.json").read_text())
    old = {
        "model_args": "arch",
        "head_args": "head_options",
        "drop_rate": "dropout",
        "db_range": "limits",
        "expected_quantiles": "plausible",
        "unit_hints": "slips",
    }

    def downgraded(value):
        if isinstance(value, list):
            return [downgraded(each) for each in value]
        if isinstance(value, dict):
            return {old.get(key, key): downgraded(each) for key, each in value.items()}
        return value

    first = {key: value for key, value in config.items() if key != "config"}
    first = downgraded(first | {"options": config["config"], "format_version": 1})
    (saved / "config.json").write_text(json.dumps(first))
    loaded = geovision.load(saved)
    assert loaded.config == expected.config
    assert weights_digest(loaded) == weights_digest(expected)


@pytest.mark.parametrize(
    ("old", "transforms"),
    [
        ({"rain": ["sqrt"]}, {"precipitation": ["sqrt"], "": ["zscore"]}),
        ({"others": ["minmax"]}, {"precipitation": ["log1p", "zscore"], "": ["minmax"]}),
    ],
)
def test_transforms_of_format_version_1_are_upgraded(tmp_path: Path, old: dict, transforms: dict) -> None:
    args = {"widths": [4, 6, 8], "transforms": transforms}
    expected = geovision.create("downscale-tiny", model_args=args)
    expected.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    options = config.pop("config")
    arch = {key: value for key, value in options.pop("model_args").items() if key != "transforms"}
    first = config | {"options": options | {"arch": arch | old}, "format_version": 1}
    (tmp_path / "config.json").write_text(json.dumps(first))
    loaded = geovision.load(tmp_path)
    assert loaded.config.model_args["transforms"] == transforms
    assert [str(each) for each in loaded.network.transforms] == [
        str(each) for each in expected.network.transforms
    ]
    assert weights_digest(loaded) == weights_digest(expected)


def test_a_newer_format_is_reported(saved: Path) -> None:
    edit(saved, format_version=3)
    with pytest.raises(
        WeightsCorruptError, match=r"format version 3; this version of geovision reads 2\. Use the version of"
    ):
        geovision.load(saved)


@pytest.mark.parametrize(
    "arch",
    [
        {"backbone": "test_resnet", "checkpoint_path": "/tmp/evil.pth"},
        {"backbone": "test_resnet", "pretrained": True},
        {"backbone": "test_resnet", "pretrained_cfg": {"url": "https://example.org/evil.pth"}},
        {"backbone": "hf-hub:stranger/network"},
        {"backbone": "local-dir:/tmp"},
    ],
)
def test_a_configuration_cannot_name_files_or_addresses(saved: Path, arch: dict) -> None:
    config = json.loads((saved / "config.json").read_text())
    edit(saved, config=config["config"] | {"model_args": arch})
    line = r"options that cloud-tiny does not support: (a timm backbone has no option|timm has no network)"
    with pytest.raises(WeightsCorruptError, match=line):
        geovision.load(saved)


def test_an_unknown_option_of_a_configuration_is_refused(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    edit(saved, config=config["config"] | {"run": "rm"})
    with pytest.raises(WeightsCorruptError, match=r"options that cloud-tiny does not support: .*'run'"):
        geovision.load(saved)


# --- a full disk --------------------------------------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    return {path.name: _atomic_io.sha256(path) for path in folder.iterdir()}


def test_a_full_disk_leaves_the_old_model(model: GeoModel, small_disk: Path) -> None:
    folder = model.save(small_disk / "model")
    before = digests(folder)
    with torch.no_grad():
        model.head.linear.bias.add_(1)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(4 * 2**20 - 2_000_000))
    with pytest.raises(StorageError, match=r"could not be written .*No space left on device.*Free some"):
        model.save(folder)
    assert digests(folder) == before
    filler.unlink()
    assert torch.equal(geovision.load(model.save(folder)).head.linear.bias, model.head.linear.bias)


@pytest.mark.skipif(sys.platform == "win32", reason="the limit is of POSIX")
def test_a_file_size_limit_leaves_the_old_model(saved: Path) -> None:
    before = digests(saved)
    code = f"""
import resource, signal, geovision, torch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model = geovision.load({str(saved)!r})
with torch.no_grad():
    model.head.linear.bias.add_(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
model.save({str(saved)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "StorageError" in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "could not be written (" in last
    assert last.count("could not be written") == 1
    assert "existing files are unchanged" in last
    assert digests(saved) == before


def test_several_files_are_written_all_or_none(tmp_path: Path) -> None:
    _atomic_io.write_files(tmp_path, {"a": lambda path: path.write_text("1") and None, "b": Path.touch})

    def fails(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"No space left on device"):
        _atomic_io.write_files(tmp_path, {"a": lambda path: path.write_text("2") and None, "b": fails})
    assert (tmp_path / "a").read_text() == "1"
    assert (tmp_path / "b").read_text() == ""
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_an_invalid_folder_is_reported(tmp_path: Path, model: GeoModel) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file/model: could not be written \(Not a directory\)"):
        model.save(tmp_path / "file" / "model")


def test_text_is_written_completely(tmp_path: Path) -> None:
    path = _atomic_io.write_text(tmp_path / "new" / "a.txt", "云\n")
    assert path.read_text(encoding="utf-8") == "云\n"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_atomic_io._umask()
