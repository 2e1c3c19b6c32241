"""Upload to and download from the Hub: the real client against a small local server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
import torch
from helpers.hub_server import Hub
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import geovision
from geovision._atomic_io import sha256
from geovision.cli import main
from geovision.errors import (
    DownloadError,
    GeovisionError,
    OptionError,
    WeightsCorruptError,
    WeightsNotAvailableError,
)
from geovision.hub.golden import GOLDEN_NAME
from geovision.hub.pull import pull
from geovision.hub.push import LeaderboardEntry, push
from geovision.hub.repo_card import CardInfo, build_card_info
from geovision.hub.repo_id import RepoId
from geovision.models.geomodel import GeoModel
from geovision.models.serialization import CARD, CONFIG, WEIGHTS

# Deprecated call of the client to its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

REPO = "sky/clouds"
STATEMENT = CardInfo(
    license="CC-BY-4.0",
    data="90 photos of the sky over Graz",
    data_license="CC0-1.0",
    split="by day, so that no day is on both sides",
    metrics={"macro_f1": (0.61234, 0.58, 0.65), "accuracy": (0.7, 0.66, 0.74)},
    limitations="It has seen no night.",
    citation="Us 2026, doi:10.0/0",
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Serve a local Hub to the client, with an empty cache and a login token."""
    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_TOKEN", server.token)
    yield server
    server.close()


@pytest.fixture(scope="module")
def model() -> GeoModel:
    torch.manual_seed(0)
    return geovision.create("cloud-tiny", size=(32, 32))


@pytest.fixture
def published(hub: Hub, model: GeoModel) -> RepoId:
    return push(model, REPO, STATEMENT)


def files(hub: Hub, address: RepoId) -> dict[str, bytes]:
    return hub.repositories[address.repo].commits[address.revision]


def same(one: GeoModel, other: GeoModel) -> bool:
    photos = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(one(photos), other(photos))


# --- upload and download ------------------------------------------------------------------------


def test_a_pulled_model_equals_the_pushed_one(hub: Hub, model: GeoModel, published: RepoId):
    assert published.is_pinned
    assert set(files(hub, published)) == {WEIGHTS, CONFIG, CARD, GOLDEN_NAME}
    for address in (str(published), f"hf:{REPO}", f"hf:{REPO}@main"):
        again = geovision.create(address)
        assert same(again, model)
        assert again.spec == model.spec
    paths = {path for _, path in hub.requests}
    # Large files are uploaded by LFS (batch, PUT, verify); the others are part of the commit.
    assert f"/{REPO}.git/info/lfs/objects/batch" in paths
    assert any(method == "PUT" for method, _ in hub.requests)
    assert f"/api/models/{REPO}/commit/main" in paths


def test_a_model_in_half_precision_has_its_own_golden_prediction(hub: Hub, model: GeoModel):
    address = push(model, REPO, STATEMENT, fp16=True)
    assert len(files(hub, address)[WEIGHTS]) < 0.6 * 4 * model.num_parameters()
    assert not same(geovision.create(str(address)), model)


def test_a_pinned_revision_is_used_without_a_request(hub: Hub, model: GeoModel, published: RepoId):
    folder = pull(published)
    hub.requests.clear()
    assert pull(published) == folder
    assert same(geovision.create(str(published)), model)
    assert hub.requests == []


def test_offline_a_branch_resolves_to_the_last_known_revision(
    hub: Hub, model: GeoModel, published: RepoId, monkeypatch: pytest.MonkeyPatch
):
    folder = pull(f"hf:{REPO}")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull(f"hf:{REPO}") == folder
    assert same(geovision.create(f"hf:{REPO}"), model)
    assert hub.requests == []
    with pytest.raises(WeightsNotAvailableError, match=r"config.json is not in the cache.*HF_HUB_OFFLINE"):
        pull("hf:sky/elsewhere")


def test_files_of_one_pull_belong_to_one_commit(hub: Hub, model: GeoModel, published: RepoId):
    torch.manual_seed(5)
    other = geovision.create("cloud-tiny", size=(32, 32))
    newer = push(other, REPO, STATEMENT)
    assert newer != published
    assert same(geovision.create(str(published)), model)
    assert same(geovision.create(f"hf:{REPO}"), other)


# --- errors of the connection -------------------------------------------------------------------


def test_an_interrupted_connection_is_resumed(
    hub: Hub, model: GeoModel, published: RepoId, monkeypatch: pytest.MonkeyPatch
):
    # The client keeps whole chunks, and the model is smaller than its default chunk.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    hub.cut = 2
    assert same(geovision.create(str(published)), model)
    assert hub.cut == 0
    assert hub.ranges
    assert not hub.ranges[0].startswith("bytes=0-")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf:sky/nothing", "the repository does not exist or is private; check the name, or log in"),
        (f"hf:{REPO}@v9", "the repository has no such revision"),
        (f"hf:{REPO}@{'0' * 40}", "the repository has no such revision"),
    ],
)
def test_missing_repositories_and_revisions_are_reported(
    hub: Hub, published: RepoId, address: str, message: str
):
    with pytest.raises(WeightsNotAvailableError, match=message):
        pull(address)


def test_private_and_gated_repositories_name_the_remedy(
    hub: Hub, published: RepoId, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("HF_TOKEN")
    repository = hub.repositories[REPO]
    repository.private = True
    with pytest.raises(
        WeightsNotAvailableError, match=r"does not exist or is private.*`hf auth login` or set HF_TOKEN"
    ):
        pull(published)
    repository.private, repository.gated = False, True
    with pytest.raises(WeightsNotAvailableError, match=f"request access at .*huggingface.co/{REPO}"):
        pull(published)
    assert pull(published, token=hub.token).is_dir()


def test_without_a_login_nothing_is_pushed(hub: Hub, model: GeoModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(GeovisionError, match=f"hf:{REPO}@main: "):
        push(model, REPO, STATEMENT)
    assert not hub.repositories


def test_a_server_error_is_reported(hub: Hub, published: RepoId, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    hub.close()
    with pytest.raises(GeovisionError, match="not in the cache, and the Hub is not reachable"):
        pull(published)


def test_a_repository_without_a_model_is_refused(hub: Hub, published: RepoId):
    del hub.repositories[REPO].commits[published.revision][CONFIG]
    with pytest.raises(WeightsNotAvailableError, match=r"contains no config.json; expected a model"):
        pull(published)


# --- modified files -----------------------------------------------------------------------------


def tampered(content: bytes, folder: Path) -> bytes:
    """Return weights of the same shape with other values."""
    path = folder / "weights.safetensors"
    path.write_bytes(content)
    state = load_file(path)
    save_file({n: v + 0.5 if v.is_floating_point() else v for n, v in state.items()}, path, {"format": "pt"})
    return path.read_bytes()


def test_weights_of_another_digest_are_refused_and_removed(
    hub: Hub, model: GeoModel, published: RepoId, tmp_path: Path
):
    held = files(hub, published)
    good = held[WEIGHTS]
    held[WEIGHTS] = tampered(good, tmp_path)
    with pytest.raises(WeightsCorruptError, match="its sha256 differs"):
        pull(published)
    held[WEIGHTS] = good
    assert same(geovision.create(str(published)), model)


def test_a_file_that_differs_from_its_lfs_digest_is_refused(hub: Hub, published: RepoId):
    good = files(hub, published)[WEIGHTS]
    oid = next(oid for oid, blob in hub.blobs.items() if blob == good)
    hub.blobs[oid] = good[:-8] + bytes(8)
    files(hub, published)[WEIGHTS] = hub.blobs[oid]
    with pytest.raises(WeightsCorruptError, match="its sha256 differs"):
        pull(published)


def test_changed_weights_with_matching_digest_fail_the_golden_prediction(
    hub: Hub, published: RepoId, tmp_path: Path
):
    held = files(hub, published)
    held[WEIGHTS] = tampered(held[WEIGHTS], tmp_path)
    config = json.loads(held[CONFIG])
    config["sha256"] = sha256(tmp_path / "weights.safetensors")
    held[CONFIG] = json.dumps(config).encode()
    with pytest.raises(WeightsCorruptError, match=r"differs by .* from its published golden prediction"):
        pull(published)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x80\x04\x95 a pickle"])
def test_an_invalid_golden_file_is_refused(hub: Hub, published: RepoId, content: bytes):
    files(hub, published)[GOLDEN_NAME] = content
    with pytest.raises(WeightsCorruptError, match="not a golden prediction"):
        pull(published)


def test_only_the_four_expected_files_are_downloaded_and_no_code_runs(
    hub: Hub, model: GeoModel, published: RepoId, tmp_path: Path
):
    evil = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()"
    files(hub, published).update(
        {
            "modeling.py": evil.encode(),
            "__init__.py": evil.encode(),
            "pytorch_model.bin": b"\x80\x04evil",
            "../../outside": b"x",
            "/etc/outside": b"x",
        }
    )
    folder = pull(published)
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CONFIG, CARD, GOLDEN_NAME}
    assert not (tmp_path / "ran").exists()
    downloaded = {path.rpartition("/")[2] for method, path in hub.requests if "/resolve/" in path}
    assert downloaded == {WEIGHTS, CONFIG, CARD, GOLDEN_NAME}
    outside = [path for path in tmp_path.rglob("*") if path.name == "outside"]
    assert outside == []


def test_a_configuration_cannot_load_code_from_elsewhere(hub: Hub, published: RepoId):
    held = files(hub, published)
    config = json.loads(held[CONFIG])
    config["config"]["model_args"] = {"backbone": "hf-hub:evil/net"}
    held[CONFIG] = json.dumps(config).encode()
    with pytest.raises(WeightsCorruptError, match="timm has no network named"):
        pull(published)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("config", "size"),
            [1_000_000, 1_000_000],
            r"not a golden prediction .*size that the model does not accept",
        ),
        (("config", "size"), [-1, 32], "expected a height and a width of 1 or more"),
        (("config", "size"), "big", "size has an invalid value, 'big'"),
        (("config", "model_args"), [1], r"model_args has an invalid value, \[1\]"),
        (("config", "db_range"), None, "db_range has an invalid value, None"),
        (("config", "mean"), "x", "mean has an invalid value, 'x'"),
        (("config", "drop_rate"), 5, "cloud-tiny does not support: dropout probability has to be"),
        (("config",), [], r"not a geovision configuration .*config is \[\]"),
        (("model",), {}, "not a geovision configuration .*model is {}"),
        (("training",), 5, "not a geovision configuration .*training is not a mapping"),
    ],
)
def test_an_invalid_configuration_is_one_line_of_error(
    hub: Hub, published: RepoId, path: tuple[str, ...], value: object, message: str
):
    held = files(hub, published)
    config = json.loads(held[CONFIG])
    inner = config
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    held[CONFIG] = json.dumps(config).encode()
    with pytest.raises(WeightsCorruptError, match=message) as caught:
        pull(published)
    assert "\n" not in str(caught.value)


def test_a_deeply_nested_configuration_is_refused(hub: Hub, published: RepoId):
    files(hub, published)[CONFIG] = b"[" * 200_000
    with pytest.raises(WeightsCorruptError, match="not a geovision configuration"):
        pull(published)


# --- the card -----------------------------------------------------------------------------------


def test_the_card_contains_all_sections(hub: Hub, published: RepoId):
    text = files(hub, published)[CARD].decode()
    card = ModelCard(text)
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "geovision"
    assert card.data.pipeline_tag == "image-classification"
    results = {each.metric_type: each for each in card.data.eval_results}
    assert results["macro_f1"].metric_value == 0.6123
    assert "0.580 to 0.650" in results["macro_f1"].metric_name
    for line in (
        "| code (geovision) | Apache-2.0 |",
        "| these weights | CC-BY-4.0 |",
        "| training data | CC0-1.0 |",
        "90 photos of the sky over Graz",
        "by day, so that no day is on both sides",
        "| macro_f1 | 0.612 | 0.580 to 0.650 |",
        "It has seen no night.",
        "Us 2026, doi:10.0/0",
        f'geovision.create("hf:{REPO}@',
    ):
        assert line in text
    assert text.count("\n---\n") == 1


def test_a_leaderboard_score_is_written_in_the_format_of_the_hub(hub: Hub, model: GeoModel):
    from huggingface_hub import parse_eval_result_entries
    from huggingface_hub.repocard import yaml

    board = LeaderboardEntry("sky/genera", "default", "macro_f1")
    address = push(model, REPO, STATEMENT, benchmark=board)
    content = yaml.safe_load(files(hub, address)[".eval_results/genera.yaml"])
    (entry,) = parse_eval_result_entries(content)
    assert (entry.dataset_id, entry.task_id, entry.value) == ("sky/genera", "default", 0.61234)
    assert "0.58 to 0.65" in entry.notes
    with pytest.raises(OptionError, match="unknown metric 'mood'; known: macro_f1, accuracy"):
        push(model, REPO, STATEMENT, benchmark=LeaderboardEntry("sky/genera", "default", "mood"))


def test_the_shipped_model_fills_its_card():
    shipped = geovision.create("cloud-mobilenetv2", pretrained=True)
    statement = build_card_info(shipped)
    assert statement.license == "Apache-2.0"
    assert statement.data_license == "see its Dataverse record; the authors of the photos are not named"
    assert statement.metrics["macro_f1"] == (0.5534, 0.5304, 0.5727)
    assert statement.split.startswith("by near-duplicate group")
    assert statement.limitations == "A single photo gives no height."


def test_missing_fields_of_a_card_are_required(model: GeoModel, tmp_path: Path):
    with pytest.raises(OptionError, match="cloud-tiny requires license; pass --license TEXT"):
        build_card_info(model)
    (tmp_path / "metrics.json").write_text(
        json.dumps(
            {
                "metrics": {
                    "accuracy": {"value": 0.5, "low": 0.4, "high": 0.6},
                    "accuracy(top_k=2)": {"value": 0.5, "low": None, "high": None},
                }
            }
        )
    )
    statement = build_card_info(model, license="MIT", data_license="CC0-1.0", split="none", report=tmp_path)
    assert statement.metrics == {"accuracy": (0.5, 0.4, 0.6)}
    with pytest.raises(GeovisionError, match="not a report with intervals"):
        build_card_info(model, license="MIT", data_license="CC0-1.0", split="none", report=tmp_path / "no")


# --- names and commands -------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["hf:clouds", "hf:sky/../clouds", "hf:/sky/clouds", "hf:sky/clouds@", "hf:"])
def test_an_invalid_repository_id_is_refused(text: str):
    with pytest.raises(OptionError, match="is not a model on the Hub; expected hf:owner/repo@revision"):
        RepoId.parse(text)
    with pytest.raises(OptionError, match="is not a model on the Hub"):
        geovision.create(text)


def test_a_pulled_model_has_fixed_options(hub: Hub, published: RepoId):
    with pytest.raises(OptionError, match="is a trained model with fixed options"):
        geovision.create(str(published), num_classes=3)
    assert geovision.create("cloud-tiny", pretrained=str(published)).spec.name == "cloud-tiny"
    with pytest.raises(OptionError, match="the weights belong to cloud-tiny, not to cloud-vit"):
        geovision.create("cloud-vit", pretrained=str(published))


def test_the_command_line_pushes_and_pulls(
    hub: Hub, model: GeoModel, tmp_path: Path, skies: Path, capsys: pytest.CaptureFixture[str]
):
    saved = model.save(tmp_path / "saved")
    run("push", saved, REPO, "--license", "MIT", "--data-license", "CC0-1.0", "--split", "none", "--private")
    address = capsys.readouterr().out.strip()
    assert RepoId.parse(address).is_pinned
    assert hub.repositories[REPO].private
    run("pull", address, "--out", tmp_path / "mine")
    assert capsys.readouterr().out.strip() == str(tmp_path / "mine")
    assert same(geovision.load(tmp_path / "mine"), model)
    run("predict", address, next(skies.rglob("*.jpg")), "--format", "jsonl")
    assert json.loads(capsys.readouterr().out)["label"] in model.target.classes


def test_lengths_of_open_axes_are_options_of_the_command(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = geovision.create("biascorrect-tiny")
    untrained = model.save(tmp_path / "untrained")
    rain = torch.rand(20, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    model.network.fit_statistics({"fields": 20 * rain}, {})
    saved = model.save(tmp_path / "saved")
    about = ("--license", "MIT", "--data-license", "CC0-1.0", "--split", "none")
    with pytest.raises(SystemExit) as left:
        main(["push", str(saved), REPO, *about])
    assert left.value.code == 2
    assert "the golden prediction requires the lengths of all input axes" in capsys.readouterr().err
    lengths = ("--axis", "y=16", "--axis", "x=24")
    with pytest.raises(SystemExit):
        main(["push", str(untrained), REPO, *about, *lengths])
    assert "train it before publishing" in capsys.readouterr().err
    run("push", saved, REPO, *about, *lengths)
    folder = pull(capsys.readouterr().out.strip())  # compares the golden prediction
    (values,) = (v for name, v in load_file(folder / GOLDEN_NAME).items() if name.startswith("input."))
    assert values.shape[-2:] == (16, 24)
    assert torch.isfinite(load_file(folder / GOLDEN_NAME)["output"]).all()


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(each) for each in arguments])
    assert left.value.code == 0


def test_an_invalid_benchmark_is_reported(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(["push", "cloud-tiny", REPO, "--benchmark", "sky/genera"])
    assert left.value.code == 2
    assert "expected OWNER/DATASET:TASK:METRIC" in capsys.readouterr().err


def test_download_errors_are_one_line(hub: Hub, published: RepoId, tmp_path: Path):
    files(hub, published)[WEIGHTS] = b"small"  # no LFS server provides this large file
    with pytest.raises((DownloadError, WeightsCorruptError)) as caught:
        pull(published)
    assert "\n" not in str(caught.value)
