"""Published baselines of aurora, from frames on disk to predictions equal to those of scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import geovision
from geovision.datasets.kvammen import KvammenAurora

SIZE = (32, 32)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return KvammenAurora.synthetic(tmp_path_factory.mktemp("aurora") / "frames", 112, seed=3)


def arrays(model, data) -> tuple[np.ndarray, np.ndarray]:
    samples = [data[index] for index in range(len(data))]
    images = torch.stack([sample["inputs"]["image"] for sample in samples]).float()
    with torch.no_grad():
        return model.features(images).double().numpy(), np.array([int(s["target"]) for s in samples])


ORACLES = {
    "aurora-knn": KNeighborsClassifier(5),
    "aurora-svm": make_pipeline(StandardScaler(), SVC(C=10.0, gamma="scale", break_ties=True)),
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_baseline_predicts_as_scikit_learn(name: str, frames: Path, tmp_path: Path):
    train, test = (geovision.load_dataset("kvammen", frames, split=s, size=SIZE) for s in ("train", "test"))
    model = geovision.create(name, size=SIZE)
    geovision.train(model, train, out=tmp_path / "run", progress=False)
    loaded = geovision.load(tmp_path / "run" / "model")
    oracle = ORACLES[name].fit(*arrays(model, train))
    expected = oracle.predict(arrays(model, test)[0])
    predictions = loaded.predict([test.paths[index] for index in range(len(test))])
    assert [prediction.label for prediction in predictions] == [
        model.target.classes[index] for index in expected
    ]
    assert all(sum(prediction.probabilities.values()) == pytest.approx(1) for prediction in predictions)
    assert (tmp_path / "run" / "model" / "model.safetensors").stat().st_size > 100_000
    assert loaded.training_record["samples"] == len(train)


def test_features_of_a_frozen_network_can_replace_pixels(frames: Path, tmp_path: Path):
    """Use a small network with the head and the fit of `aurora-knn-resnet50`."""
    from geovision.models.geomodel import ModelConfig, build_model
    from geovision.registry import find_model, find_task

    spec = find_model("aurora-knn-resnet50")
    torch.manual_seed(0)
    model = build_model(spec, find_task("aurora"), ModelConfig(model_args=spec.tiny_args, size=SIZE))
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    train = geovision.load_dataset("kvammen", frames, split="train", size=SIZE)
    geovision.train(model, train, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert model.head.samples.shape == (len(train), model.network.num_features)
    with torch.no_grad():
        nearest = model(torch.stack([train[i]["inputs"]["image"].float() for i in range(20)]))
    assert torch.isfinite(nearest).all()


def test_a_baseline_takes_user_classes():
    model = geovision.create("aurora-knn", classes=["quiet", "active"], size=SIZE)
    features = torch.cat([torch.zeros(10, 3072), torch.ones(10, 3072)])
    model.head.fit(features, torch.tensor([0] * 10 + [1] * 10))
    assert model.predict(np.ones((3, 32, 32), np.float32))[0].label == "active"
