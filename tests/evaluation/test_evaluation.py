"""Evaluation: predictions of a dataset, their scores, reports and files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score

import geovision
from geovision.datasets.base import collate
from geovision.datasets.ccsn import CCSN
from geovision.errors import DatasetError, InputError, StorageError
from geovision.evaluation import Predictions, collect_predictions, evaluate, score_classes
from geovision.evaluation.classification import to_image
from geovision.models.geomodel import GeoModel
from geovision.models.serialization import weights_digest
from geovision.provenance import data_digest, git_commit
from geovision.spec import ClassMapping, ClassTarget

CLASSES = ("Ac", "Cb", "Ci", "Cu", "St")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write six different images of each of five genera in CCSN's layout, one color per class."""
    folder = tmp_path_factory.mktemp("ccsn")
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for index in range(6):
            coarse = random.uniform(0, 255, (5, 5, 3))
            coarse[..., number % 3] *= 0.3 + 0.1 * number
            picture = Image.fromarray(coarse.astype(np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)
            picture.save(folder / name / f"{name}-N{index + 1:03d}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def data(root: Path) -> CCSN:
    return CCSN(root, size=(32, 32))


@pytest.fixture(scope="module")
def model(data: CCSN) -> GeoModel:
    """Return a network with a last layer that is a least-squares fit to some images.

    It is right about those images, and sometimes about the others.
    """
    torch.manual_seed(0)
    model = geovision.create("cloud-tiny", size=(32, 32))
    seen = data.subset(range(0, 30, 3))
    batch = collate([seen[index] for index in range(len(seen))])
    with torch.no_grad():
        features = model.features(batch["inputs"])
        truth = torch.nn.functional.one_hot(batch["target"], 11).float()
        model.head.linear.weight.copy_(3 * torch.linalg.lstsq(features, truth, driver="gelsd").solution.T)
        model.head.temperature.fill_(2.0)
    return model


@pytest.fixture(scope="module")
def predictions(model: GeoModel, data: CCSN) -> Predictions:
    return collect_predictions(model, data, batch_size=7, features=True)


# --- collecting ---------------------------------------------------------------------------------


def test_every_sample_is_predicted_once_in_order(
    model: GeoModel, data: CCSN, predictions: Predictions
) -> None:
    assert len(predictions) == len(data) == 30
    assert predictions.labels.tolist() == data.labels.tolist()
    assert list(predictions.groups) == data.groups
    assert list(predictions.sources) == [str(path) for path in data.paths]
    assert predictions.positions.tolist() == list(range(30))
    image = torch.stack([data[index]["inputs"]["image"] for index in (0, 11, 29)])
    with torch.no_grad():
        logits = model(image)
    rows = [0, 11, 29]
    torch.testing.assert_close(predictions.logits[rows], logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predictions.probabilities[rows], (logits / 2).softmax(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.head(predictions.features[rows]).detach(), logits, atol=1e-4, rtol=1e-4)


def test_prediction_leaves_the_model_unchanged(model: GeoModel, data: CCSN) -> None:
    before = weights_digest(model)
    model.train()
    try:
        collect_predictions(model, data.subset([0, 1]))
        assert model.training
        assert weights_digest(model) == before  # running statistics are unchanged
    finally:
        model.eval()


def test_the_size_is_that_of_the_model(model: GeoModel, root: Path, predictions: Predictions) -> None:
    other = collect_predictions(model, CCSN(root, size=(64, 64)))
    torch.testing.assert_close(other.logits, predictions.logits)


class _Some(CCSN):
    """The same files with a subset of the classes in another order."""

    def build_target(self, records) -> ClassTarget:
        return ClassTarget(("St", "Cu", "Ci", "Cb", "Ac"))


class _Merged(CCSN):
    """The same files with coarser classes."""

    class_mapping: ClassVar = ClassMapping(
        {"heap": ("Cu", "Cb"), "veil": ("Ci", "Cs")}, {"other": "mixed skies"}
    )
    _COARSE: ClassVar = {"Cu": "heap", "Cb": "heap", "Ci": "veil"}

    def build_target(self, records) -> ClassTarget:
        return ClassTarget(("heap", "veil", "other"))

    def _label_indices(self) -> np.ndarray:
        names = [self._COARSE.get(record.label, "other") for record in self._records]
        return np.array([self.target.classes.index(name) for name in names])


def test_a_subset_of_the_classes_is_matched_by_name(
    model: GeoModel, root: Path, predictions: Predictions
) -> None:
    some = collect_predictions(model, _Some(root, size=(32, 32)))
    assert some.classes == model.target.classes
    assert some.labels.tolist() == predictions.labels.tolist()
    torch.testing.assert_close(some.probabilities, predictions.probabilities)


def test_coarser_classes_are_scored_by_summed_probabilities(
    model: GeoModel, root: Path, predictions: Predictions
) -> None:
    data = _Merged(root, size=(32, 32))
    report = evaluate(model, data, n_bootstrap=0)
    found = report.predictions
    assert found.classes == ("heap", "veil")
    assert len(found) == 18  # Ac and St have no counterpart
    column = {name: index for index, name in enumerate(model.target.classes)}
    chosen = predictions.probabilities[found.positions]
    heap, veil = (
        chosen[:, [column["Cu"], column["Cb"]]].sum(1),
        chosen[:, [column["Ci"], column["Cs"]]].sum(1),
    )
    torch.testing.assert_close(found.probabilities[:, 0], heap / (heap + veil))
    assert "Not scored: other (mixed skies)" in report.notes
    assert any("Ac, As, Cc, Ct, Ns, Sc, St" in note for note in report.notes)
    assert "level_accuracy" not in report.metrics
    assert {Path(source).parent.name for source in found.sources} == {"Cb", "Ci", "Cu"}


def test_classes_that_do_not_match_are_an_error(root: Path, data: CCSN) -> None:
    other = geovision.create("cloud-tiny", classes=["cat", "dog"], size=(32, 32))
    with pytest.raises(DatasetError, match=r"ccsn: its classes \(Ac, .*\) are not the model's \(cat, dog\)"):
        collect_predictions(other, data)


def test_an_empty_dataset_is_an_error(model: GeoModel, data: CCSN) -> None:
    with pytest.raises(DatasetError, match="ccsn contains no samples"):
        collect_predictions(model, data.subset([]))


# --- the record ---------------------------------------------------------------------------------


def test_saved_predictions_are_restored(predictions: Predictions, tmp_path: Path) -> None:
    back = Predictions.load(predictions.save(tmp_path / "all.npz"))
    for name in ("probabilities", "labels", "logits", "features", "positions"):
        assert torch.equal(getattr(back, name), getattr(predictions, name))
    assert back.folds is None
    assert (back.classes, back.groups, back.sources) == (
        predictions.classes,
        predictions.groups,
        predictions.sources,
    )
    table = Predictions.load(predictions.save(tmp_path / "table.csv"))
    torch.testing.assert_close(table.probabilities, predictions.probabilities, atol=1e-6, rtol=1e-6)
    assert torch.equal(table.labels, predictions.labels)
    assert (table.groups, table.sources) == (predictions.groups, predictions.sources)
    assert table.logits is None


def test_predictions_are_selected_and_concatenated(predictions: Predictions) -> None:
    parts = [predictions.take(predictions.correct), predictions.take(~predictions.correct)]
    joined = Predictions.join(parts)
    order = torch.cat([part.positions for part in parts])
    assert sorted(order.tolist()) == list(range(30))
    assert torch.equal(joined.logits, predictions.logits[order])
    assert joined.sources == tuple(predictions.sources[index] for index in order.tolist())


def test_a_temperature_changes_probabilities_but_no_label(predictions: Predictions) -> None:
    torch.testing.assert_close(predictions.at_temperature(2.0).probabilities, predictions.probabilities)
    hot = predictions.at_temperature(torch.linspace(3, 9, 30))
    assert torch.equal(hot.predicted, predictions.predicted)
    assert (hot.confidence < predictions.confidence).all()


def test_an_inconsistent_record_is_an_error(predictions: Predictions, tmp_path: Path) -> None:
    fields = {"classes": ("a", "b"), "groups": ("u",), "sources": ("s",)}
    with pytest.raises(InputError, match=r"probabilities of s sum to 1\.2, not to 1"):
        Predictions(probabilities=torch.tensor([[0.6, 0.6]]), labels=torch.tensor([0]), **fields)
    with pytest.raises(InputError, match="labels from 2 to 2; 2 classes are numbered from 0"):
        Predictions(probabilities=torch.tensor([[0.6, 0.4]]), labels=torch.tensor([2]), **fields)
    with pytest.raises(InputError, match="2 labels for 1 rows"):
        Predictions(probabilities=torch.tensor([[0.6, 0.4]]), labels=torch.tensor([0, 1]), **fields)
    (tmp_path / "bad.npz").write_text("not at all")
    with pytest.raises(InputError, match=r"bad\.npz: not a file of predictions"):
        Predictions.load(tmp_path / "bad.npz")
    with pytest.raises(InputError, match=r"stored as \.npz or \.csv"):
        predictions.save(tmp_path / "table.xlsx")


# --- the report ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(model: GeoModel, data: CCSN):
    return evaluate(model, data, n_bootstrap=50, seed=4)


def test_the_report_holds_the_metrics_of_the_task(report, predictions: Predictions) -> None:
    task = geovision.registry.find_task("cloud")
    assert list(report.metrics) == [*task.metrics, "brier", "nll"]
    assert report.headline == "macro_f1"
    labels, predicted = predictions.labels.numpy(), predictions.predicted.numpy()
    assert report.metrics["macro_f1"].value == pytest.approx(f1_score(labels, predicted, average="macro"))
    expected = confusion_matrix(labels, predicted, labels=range(11))
    assert (report.confusion == expected).all()
    for figure in report.metrics.values():
        assert figure.low <= figure.high
    assert report.per_class["Ci"]["recall"].value == pytest.approx(expected[4, 4] / 6)
    assert math.isnan(report.per_class["Ns"]["recall"].value)


def test_the_text_is_a_table(report) -> None:
    lines = report.text().splitlines()
    figure = report.metrics["macro_f1"]
    assert lines[0].split() == [
        "macro_f1",
        f"{figure.value:.3f}",
        f"[{figure.low:.3f},",
        f"{figure.high:.3f}]",
    ]
    assert any(line.startswith("Ns           0") and "–" in line for line in lines)
    assert lines[-1] == "30 samples in 30 groups; 95 % intervals over groups"


def test_the_report_is_saved_completely(report, tmp_path: Path) -> None:
    folder = report.save(tmp_path / "report")
    drawn = {f"{name}.png" for name in ("confusion", "reliability", "mistakes")}
    tables = {"metrics.json", "metrics.csv", "predictions.csv", "report.md"}
    assert {path.name for path in folder.iterdir()} == tables | drawn
    kept = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert kept["metrics"]["accuracy"]["value"] == report.metrics["accuracy"].value
    assert kept["per_class"]["Ns"]["recall"]["value"] is None
    assert kept["confusion"]["counts"] == report.confusion.tolist()
    with (folder / "metrics.csv").open() as stream:
        rows = {(row["metric"], row["class"]): row for row in csv.DictReader(stream)}
    assert float(rows["macro_f1", ""]["low"]) == pytest.approx(report.metrics["macro_f1"].low, rel=1e-5)
    assert rows["recall", "Ns"]["value"] == ""
    assert len((folder / "predictions.csv").read_text().splitlines()) == 31
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "# cloud-tiny on ccsn" in page
    for name in ("confusion", "reliability", "mistakes"):
        assert f"![{name}]({name}.png)" in page
        with Image.open(folder / f"{name}.png") as picture:
            picture.load()
            assert min(picture.size) > 300
            assert np.asarray(picture.convert("L")).std() > 5  # the figure is not empty


def test_a_report_that_cannot_be_written_leaves_existing_files(report, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("mine")
    with pytest.raises(StorageError, match="could not be written"):
        report.save(blocker / "report")
    assert blocker.read_text() == "mine"


def test_the_result_names_what_reproduces_it(report, model: GeoModel, data: CCSN) -> None:
    facts = report.provenance
    assert facts["model"] == "cloud-tiny"
    assert facts["weights"] == weights_digest(model)
    assert (facts["data"], facts["seed"], facts["bootstrap"]) == ("ccsn", 4, 50)
    assert facts["geovision"] == geovision.__version__
    assert facts["command"]
    again = evaluate(model, data, n_bootstrap=50, seed=4)
    assert again.as_dict() == report.as_dict()
    assert evaluate(model, data, n_bootstrap=50, seed=5).metrics["accuracy"] != report.metrics["accuracy"]


def test_without_errors_there_is_no_sheet_of_errors(report, data: CCSN) -> None:
    assert "mistakes" in report.figures()
    right = report.predictions.take(report.predictions.correct)
    assert 0 < len(right) < 30
    assert (
        "mistakes"
        not in score_classes(right, data, provenance={"model": "cloud-tiny"}, n_bootstrap=0).figures()
    )


def test_the_sheet_shows_the_most_confident_errors_first(report, data: CCSN) -> None:
    wrong = report._most_confident_errors()
    assert wrong.confidence.tolist() == sorted(wrong.confidence.tolist(), reverse=True)
    assert not wrong.correct.any()
    everything = report.predictions
    assert float(wrong.confidence[0]) == float(everything.confidence[~everything.correct].max())
    shown = report.get_image(int(wrong.positions[0]))
    assert shown.shape == (32, 32, 3)
    with Image.open(wrong.sources[0]) as file:
        reduced = np.asarray(file.resize((32, 32), Image.Resampling.BILINEAR)) / 255
    assert np.abs(shown - reduced).mean() < 0.05


def test_a_field_is_shown_by_its_first_channel() -> None:
    field = torch.tensor([[[-5.0, math.nan], [0.0, 5.0]], [[9.0, 9.0], [9.0, 9.0]]])
    picture = to_image({"inputs": {"rain": field}})
    assert picture.shape == (2, 2, 3)
    assert picture[..., 0].tolist() == [[0.0, 0.0], [0.5, 1.0]]


# --- provenance ---------------------------------------------------------------------------------


def test_the_digest_of_data_depends_on_names_and_sizes_not_on_the_folder(tmp_path: Path) -> None:
    def files(folder: str, content: str) -> list[str]:
        paths = [tmp_path / folder / name for name in ("a/x.jpg", "b/y.jpg")]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return [str(path) for path in paths]

    first = data_digest(files("here", "one"))
    assert data_digest(files("there", "two")) == first
    assert data_digest(files("longer", "three")) != first
    assert data_digest(files("here", "one")[::-1]) != first


def test_the_digest_of_weights_depends_on_every_value(model: GeoModel) -> None:
    before = weights_digest(model)
    model.head.linear.bias.data[0] += 1
    changed = weights_digest(model)
    model.head.linear.bias.data[0] -= 1
    assert changed != before


def test_the_commit_is_that_of_the_source() -> None:
    found = git_commit()
    assert found is None or len(found.removesuffix("-dirty")) == 40
