"""Command line: results on standard output, messages on standard error, exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from helpers.commands import Ran, ran

from geovision import registry
from geovision.cli import app, main
from geovision.cli._output import TableFormat, align_columns, write_rows

GEOVISION = [sys.executable, "-c", "from geovision.cli import main; main()"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Return a function that runs one command in this process."""

    return partial(ran, capsys)


def assert_one_line(ran: Ran, code: int, pattern: str) -> None:
    """Check that the command failed with this code, one line of message and no result."""
    assert ran.code == code, ran.err
    assert ran.out == ""
    assert re.fullmatch(rf"geovision: .*{pattern}.*\n", ran.err), ran.err


# --- list and info ------------------------------------------------------------------------------


def test_list_shows_every_curated_model(run):
    ran = run("list")
    assert ran.code == 0
    assert ran.err == ""
    header, *rows = ran.out.splitlines()
    assert header.split() == ["model", "parameters", "weights", "note"]
    assert [row.split()[0] for row in rows] == list(registry.models())


def test_list_writes_csv_and_json_lines(run):
    rows = list(csv.DictReader(io.StringIO(run("list", "cloud-vit*", "--format", "csv").out)))
    lines = [json.loads(line) for line in run("list", "cloud-vit*", "--format", "jsonl").out.splitlines()]
    assert (
        [row["model"] for row in rows]
        == [line["model"] for line in lines]
        == registry.list_models("cloud-vit*")
    )
    assert [int(row["parameters"]) for row in rows] == [line["parameters"] for line in lines]


def test_list_can_be_filtered(run):
    names = run("list", "cloud-convnext_*", "--backbones", "--format", "csv").out.splitlines()[1:]
    assert any(name.startswith("cloud-convnext_atto") for name in names)
    kept = run("list", "--not-pretrained", "--task", "cloud", "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["model"] for line in kept] == registry.list_models(
        task="cloud", pretrained=False
    )


def test_list_reports_invalid_options(run):
    assert_one_line(
        run("list", "--task", "clouds"), 2, "'clouds' is not a geovision task. Did you mean 'cloud'"
    )
    assert_one_line(run("list", "fog-*"), 1, r"no model matches 'fog-\*'")


def test_neither_list_nor_info_imports_torch():
    for command in (["list", "--backbones"], ["info", "cloud-vit"], ["--help"]):
        program = f"""
import sys
from geovision.cli import main
try:
    main({command!r})
except SystemExit as ended:
    assert not ended.code, ended.code
print({{"torch", "numpy", "timm", "lightning"}} & set(sys.modules), file=sys.stderr)
"""
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert result.stderr == "set()\n"


@pytest.mark.parametrize("name", [*registry.models(), "cloud-convnext_atto"])
def test_info_shows_inputs_and_outputs_of_a_model(run, name: str):
    page, document = run("info", name).out, json.loads(run("info", name, "--format", "json").out)
    task = registry.find_task(registry.find_model(name).task)
    assert document["model"] == name
    assert document["question"] == task.question
    assert task.question in page
    for given in document["inputs"]:
        assert all(channel["name"] in page and channel["unit"] for channel in given["channels"])
    for reference in document["published"]:
        assert (
            f"{reference['metric']} {reference['value']:g} ({reference['evidence']}: {reference['source']}"
            in page
        )
    if document["fit"] == "gradient":
        recipes = task.available_recipes(registry.find_model(name)).values()
        assert all(
            f"rate {stage.lr:g}" in page and f"batch size {stage.batch_size}" in page
            for recipe in recipes
            for stage in recipe.stages
        )
        assert document["recipe"]["stages"]
    else:
        assert document["recipe"] is None
        assert "epochs" not in page


def test_info_suggests_the_nearest_name(run):
    assert_one_line(run("info", "cloud-resnet5"), 2, "'cloud-resnet5' is not a geovision model. Did you mean")


# --- rows ---------------------------------------------------------------------------------------


def test_columns_are_as_wide_as_chinese_characters_are():
    lines = align_columns([["高积云", "a"], ["Ac", "b"]])
    assert lines == ["高积云  a", "Ac      b"]


def test_rows_are_written_as_they_are_produced(capsys: pytest.CaptureFixture[str]):
    seen = []

    def rows():
        for number in (1, 2):
            yield {"n": number, "words": ["a", "b"]}
            seen.append(capsys.readouterr().out)

    write_rows(rows(), ["n", "words"], TableFormat.csv)
    assert seen == ["n,words\n1,a b\n", "2,a b\n"]


# --- signals, exit codes and help texts ----------------------------------------------------------


def test_every_command_has_a_help_text_with_examples(run):
    for command in app.registered_commands:
        ran = run(command.name, "--help")
        assert ran.code == 0
        text = re.sub(r"\s+", " ", ran.out)
        assert f"geovision {command.name}" in text.partition("Examples:")[2], command.name


def test_wrong_usage_is_exit_code_2(run):
    for arguments in (
        ["train", "cloud-tiny"],
        ["lst"],
        ["list", "--format", "xml"],
        ["predict", "cloud-tiny"],
    ):
        ran = run(*arguments)
        assert ran.code == 2
        assert ran.out == ""
        assert ran.err


def test_the_version_is_printed(run):
    import geovision

    assert run("--version").out == f"{geovision.__version__}\n"


def test_debug_shows_the_traceback():
    result = subprocess.run(
        [*GEOVISION, "--debug", "info", "cloud-resnet5"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "UnknownModelError" in result.stderr


def test_a_closed_output_pipe_is_no_error():
    process = subprocess.Popen(
        [*GEOVISION, "list", "--backbones", "--format", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


def test_an_interrupt_exits_with_130(photos: Path):
    process = subprocess.Popen(
        [*GEOVISION, "audit", "ccsn", str(photos)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "reading" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err


# --- commands on files --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate sky images in the layout of CCSN."""
    from geovision.datasets.ccsn import CCSN

    return CCSN.synthetic(tmp_path_factory.mktemp("skies"), 55, seed=3)


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train briefly from the command line and return the folder."""
    out = tmp_path_factory.mktemp("runs") / "one"
    arguments = [
        "train",
        "cloud-tiny",
        "--dataset",
        "ccsn",
        "--data",
        photos,
        "--epochs",
        "1",
        "--size",
        32,
        "--validation",
        0,
        "--out",
        out,
        "--scalar",
        "air_temperature",
    ]
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert not ended.value.code
    return out


def test_train_prints_the_path_of_the_model_and_evaluate_scores_it(
    run, photos: Path, trained: Path, tmp_path: Path
):
    out = tmp_path / "report"
    ran = run(
        "evaluate",
        trained,
        "--dataset",
        "ccsn",
        "--data",
        photos,
        "--n-bootstrap",
        "20",
        "--out",
        out,
        "--format",
        "json",
    )
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert document["samples"] == 55
    assert 0 <= document["metrics"]["macro_f1"]["value"] <= 1
    assert str(out) in ran.err
    assert json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"] == document["metrics"]


def test_training_twice_into_one_folder_is_refused(run, photos: Path, trained: Path):
    ran = run(
        "train",
        "cloud-tiny",
        "--dataset",
        "ccsn",
        "--data",
        photos,
        "--out",
        trained,
        "--size",
        "32",
        "--epochs",
        "1",
        "--validation",
        "0",
    )
    assert ran.code == 2
    assert ran.out == ""
    assert "choose another folder" in ran.err.splitlines()[-1]


def test_user_photos_train_with_their_own_classes(run, photos: Path, tmp_path: Path):
    own = tmp_path / "own"
    for name, code in (("fair", "Cu"), ("grey", "St")):
        (own / name).mkdir(parents=True)
        for path in (photos / code).iterdir():
            (own / name / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "run"
    ran = run(
        "train",
        "cloud-tiny",
        "--data",
        own,
        "--epochs",
        "1",
        "--size",
        "32",
        "--validation",
        "0",
        "--out",
        out,
    )
    assert ran.code == 0, ran.err
    assert ran.out == f"{out / 'model'}\n"
    predictions = run("predict", out, own / "fair", "--format", "jsonl", "--top", "2").out.splitlines()
    for line in map(json.loads, predictions):
        assert {line["label"], line["label_2"]} == {"fair", "grey"}
        assert line["probability"] + line["probability_2"] == pytest.approx(1, abs=1e-5)


def test_predict_continues_after_a_damaged_file_and_names_it(
    run, photos: Path, trained: Path, tmp_path: Path
):
    bad = tmp_path / "letter.jpg"
    bad.write_text("Dear sky,", encoding="utf-8")
    good = sorted((photos / "Ac").iterdir())
    ran = run("predict", trained, bad, photos / "Ac", photos / "none-*.png", "--format", "csv")
    assert ran.code == 1
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [row["source"] for row in rows] == [str(path) for path in good]
    assert rows[0]["name"]
    assert float(rows[0]["probability"]) >= float(rows[0]["probability_2"]) >= float(rows[0]["probability_3"])
    named = [line for line in ran.err.splitlines() if line.startswith("geovision: ")]
    assert [str(bad) in named[0], "none-*.png" in named[1], named[2]] == [
        True,
        True,
        "geovision: unreadable files: 2",
    ]


def test_predict_shows_the_description_of_the_class(run, photos: Path, trained: Path):
    photo = sorted((photos / "Cu").iterdir())[0]
    page = run("predict", trained, photo, "--card", "--lang", "zh").out
    line = json.loads(run("predict", trained, photo, "--card", "--lang", "zh", "--format", "jsonl").out)
    assert line["name"] in page
    assert line["word"] in page
    assert "单张照片无法判断云的高度" in page
    assert line["card"]["注意"] in page
    assert "云底高度" in page
    assert "caution" not in page


def test_predict_and_evaluate_need_weights(run, photos: Path, tmp_path: Path):
    train = "geovision train cloud-resnet18 --dataset ccsn"
    assert_one_line(
        run("predict", "cloud-resnet18", photos), 1, f"no trained weights of cloud-resnet18 exist.*{train}"
    )
    assert_one_line(
        run("predict", tmp_path / "nowhere", photos),
        1,
        "no such folder; expected a folder with a trained model",
    )
    assert_one_line(run("predict", tmp_path, photos), 1, "not a saved model")
    assert_one_line(run("evaluate", "cloud-resnet18", "--data", photos), 1, "no trained weights")


def test_train_reports_invalid_arguments(run, photos: Path, tmp_path: Path):
    assert_one_line(run("train", "cloud-tiny", "--data", tmp_path / "none"), 1, "no such folder")
    assert_one_line(
        run("train", "cloud-tiny", "--data", photos, "--dataset", "ccns"), 2, "Did you mean 'ccsn'"
    )
    assert_one_line(
        run("train", "cloud-tiny", "--data", photos, "--recipe", "magic"),
        2,
        "no recipe 'magic'; known: default, scratch",
    )


def test_audit_writes_its_findings(run, photos: Path, tmp_path: Path):
    ran = run("audit", "ccsn", photos, "--out", tmp_path / "audit", "--format", "json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["photos"] == 55
    assert {"audit.txt", "groups.csv"} <= {path.name for path in (tmp_path / "audit").iterdir()}
    assert_one_line(run("audit", "ccns", photos), 2, "'ccns' is not a geovision dataset. Did you mean 'ccsn'")


def test_download_suggests_the_nearest_dataset(run, tmp_path: Path):
    assert_one_line(
        run("download", "ccns", tmp_path), 2, "'ccns' is not a geovision dataset. Did you mean 'ccsn'"
    )


# --- recipes ------------------------------------------------------------------------------------


def test_the_recipe_depends_on_pretrained_weights():
    from geovision.training import select_recipe

    spec = registry.find_model("cloud-resnet18")
    task = registry.find_task("cloud")

    def chosen(*, name=None, epochs=None, seed=None, from_scratch=True):
        return select_recipe(spec, name, epochs=epochs, seed=seed, from_scratch=from_scratch)

    assert chosen() == task.recipes["scratch"]
    assert chosen(from_scratch=False) == task.recipe
    assert chosen(name="default") == task.recipe
    assert chosen(epochs=3, from_scratch=False).epochs == 3
    assert chosen(seed=7).seed == 7
