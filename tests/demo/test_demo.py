"""Demonstration: every task of the registry is shown on one self-contained page."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

import pytest
import torch
from PIL import Image

import geovision
from geovision import demo, registry
from geovision.datasets.synthetic import sky
from geovision.demo import page
from geovision.demo.photos import PhotoPredictions, predict_photos
from geovision.errors import GeovisionError, InputError, StorageError, UnknownTaskError
from geovision.spec import Stage, Task


def _reduced(task: Task) -> Task:
    """Return the task with a demonstration of few samples and one epoch."""
    stages = tuple(dataclasses.replace(stage, epochs=1) for stage in task.demo.recipe.stages[:1])
    recipe = dataclasses.replace(task.demo.recipe, stages=stages or (Stage(epochs=1),))
    return dataclasses.replace(
        task,
        demo=dataclasses.replace(task.demo, samples=min(max(task.demo.samples // 6, 8), 64), recipe=recipe),
    )


def _registered(patch: pytest.MonkeyPatch, tasks: Mapping[str, Task]) -> None:
    patch.setattr(registry, "tasks", lambda: MappingProxyType(dict(tasks)))


@pytest.fixture(scope="module")
def folder_of_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two images, one in a subfolder, a damaged one and a text file."""
    folder = tmp_path_factory.mktemp("photos")
    sky.write(folder, 2, seed=5, size=(90, 120))
    (folder / "damaged & broken.jpg").write_bytes(b"\xff\xd8 cut off")
    (folder / "notes.txt").write_text("my position")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, folder_of_photos: Path) -> Iterator[Path]:
    """Write the page of all tasks, with photos."""
    tasks = {name: _reduced(task) for name, task in registry.tasks().items()}
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        _registered(patch, tasks)
        yield demo.run_demo(tmp_path_factory.mktemp("out") / "demo", photos=folder_of_photos, progress=False)
    assert torch.get_num_threads() == threads


class _References(HTMLParser):
    """All references that a browser would load or link to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "poster", "data", "action"):
                self.loaded.append(value or "")
            if name == "id":
                self.ids.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _check_self_contained(index: Path) -> list[str]:
    """Check that references are local files or anchors, and return the files."""
    text = index.read_text(encoding="utf-8")
    found = _References(text)
    assert not found.open
    assert not re.search(r"@import|url\(|<script|<iframe", text)
    files = [each for each in found.loaded if not each.startswith(("#", "data:,"))]
    assert {each[1:] for each in found.loaded if each.startswith("#")} <= found.ids
    for each in files:
        assert (index.parent / unquote(each)).is_file()
    return files


def test_the_page_is_self_contained(written: Path) -> None:
    files = _check_self_contained(written)
    for name in registry.list_tasks():
        assert sum(each.startswith(f"{name}/answers/") for each in files) >= 4
        assert any(each.startswith(f"{name}/report/") for each in files)
    for each in files:
        with Image.open(written.parent / unquote(each)) as image:
            assert min(image.size) > 50


def test_the_table_holds_the_measured_scores(written: Path) -> None:
    text = html.unescape(written.read_text(encoding="utf-8"))
    for task in registry.tasks().values():
        section = text.split(f'<section id="{task.name}">')[1].split("</section>")[0]
        measured = json.loads((written.parent / task.name / "report" / "metrics.json").read_text())
        assert task.metrics[0] == measured["headline"]
        for name, figure in measured["metrics"].items():
            row = section.split(f'<th scope="row">{name.replace("_", " ")}<')[1].split("</tr>")[0]
            # Without a polar low among so few samples, some scores are undefined.
            shown = "–" if figure["value"] is None else f"{figure['value']:.3f}"
            assert f'<td class="number">{shown}</td>' in row
            if figure["low"] is not None:
                assert f"{figure['low']:.3f} to {figure['high']:.3f}" in row
        assert f"<b>{measured['samples']}</b><span>validation samples" in section


def test_the_page_marks_generated_data(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    for task in registry.tasks().values():
        section = text.split(f'<section id="{task.name}">')[1].split("</section>")[0]
        assert html.escape(task.question, quote=False).replace("'", "&#39;") in section
        assert "The inputs here are generated" in section


def test_the_model_next_to_the_page_can_be_loaded(written: Path) -> None:
    for name in registry.list_tasks():
        assert geovision.load(written.parent / name / "model").task.name == name


def test_photos_are_predicted_or_the_page_gives_the_reason(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    photos = text.split('<section id="photos">')[1].split("</section>")[0]
    for task in registry.tasks().values():
        if not task.demo.photos:
            continue
        if registry.list_models(task=task.name, pretrained=True):
            assert photos.count('<article class="photo">') == 2
            assert "damaged &amp; broken.jpg" in photos
        else:
            assert f"no trained weights for the task {task.name}" in " ".join(photos.split())


def test_predictions_of_photos_are_on_the_page(tmp_path: Path, folder_of_photos: Path) -> None:
    torch.manual_seed(0)
    model = geovision.create("cloud-tiny", size=(64, 64))
    predicted = predict_photos(model, folder_of_photos, tmp_path / "photos" / "cloud")
    assert [photo.name for photo in predicted.photos] == ["Ac/Ac-N001.jpg", "As/As-N001.jpg"]
    assert [name for name, _ in predicted.unreadable] == ["damaged & broken.jpg"]
    assert list(predicted.skipped) == ["notes.txt"]
    files = _check_self_contained(page.write_page(tmp_path, [], [predicted]))
    assert files == ["photos/cloud/0001.jpg", "photos/cloud/0002.jpg"]
    with Image.open(tmp_path / files[0]) as thumbnail:
        assert thumbnail.size == (120, 90)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    for photo in predicted.photos:
        article = text.split(f'alt="Your photo {photo.name}"')[1].split("</article>")[0]
        prediction = photo.prediction
        assert prediction.card is not None
        assert prediction.card.name.en in article
        assert prediction.card.name.zh in article
        assert f">{prediction.word}<" in article
        for code, probability in prediction.top(3):
            assert re.search(rf"<b>{code}</b>.*{100 * probability:.0f} %", article)
        for fact in prediction.card.facts:
            assert html.escape(fact.text.en) in article
    assert "damaged &amp; broken.jpg" in text
    assert "notes.txt" in text


def test_a_flag_is_explained(tmp_path: Path, folder_of_photos: Path) -> None:
    model = geovision.create("cloud-tiny", size=(64, 64))
    predicted = predict_photos(model, folder_of_photos / "Ac", tmp_path)
    flagged = [
        dataclasses.replace(photo, prediction=dataclasses.replace(photo.prediction, flags=("outlier",)))
        for photo in predicted.photos
    ]
    page.write_page(tmp_path, [], [dataclasses.replace(predicted, photos=flagged)])
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.FLAGS["outlier"] in text
    assert 'class="word flagged"' in text


def test_missing_weights_are_stated_on_the_page(tmp_path: Path) -> None:
    task = registry.find_task("cloud")
    text = page.write_page(tmp_path, [], [PhotoPredictions(task)]).read_text(encoding="utf-8")
    assert "no trained weights for the task cloud" in text


def test_a_task_that_fails_is_named_and_the_page_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = registry.find_task("cloud")
    alone = dataclasses.replace(cloud, demo=dataclasses.replace(cloud.demo, samples=1))
    _registered(monkeypatch, {"cloud": alone})
    with pytest.raises(GeovisionError, match=r"cloud \(ccsn: 1 group.*index\.html"):
        demo.run_demo(tmp_path, progress=False)
    assert "This task failed: ccsn: 1 group" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_missing_folder_of_photos_stops_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder of photos"):
        demo.run_demo(tmp_path / "demo", photos=tmp_path / "nowhere", progress=False)
    assert not (tmp_path / "demo").exists()


def test_an_unwritable_page_is_reported_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"file: cannot create a folder \(File exists\); choose"):
        demo.run_demo(tmp_path / "file", progress=False)


def test_an_unknown_task_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownTaskError, match="cloud"):
        demo.run_demo(tmp_path, tasks=["clouds"], progress=False)
