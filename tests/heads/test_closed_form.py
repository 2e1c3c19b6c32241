"""Heads in closed form: torch gives the predictions of the scikit-learn estimator, from arrays alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from geovision.errors import InputError
from geovision.heads.knn import NearestNeighbors
from geovision.heads.svm import SupportVectors
from geovision.spec import ClassTarget

HEADS = {"nearest neighbors": NearestNeighbors, "support vectors": SupportVectors}


def clouds(classes: int, samples: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return overlapping points around one center per class."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, 9, generator=torch.Generator().manual_seed(7))
    labels = torch.randint(classes, (samples,), generator=generator)
    return centers[labels] + 1.2 * torch.randn(samples, 9, generator=generator), labels


def target(classes: int) -> ClassTarget:
    return ClassTarget(tuple(f"class {number}" for number in range(classes)))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_nearest_neighbors_predict_as_scikit_learn(classes: int):
    features, labels = clouds(classes, 300)
    new, _ = clouds(classes, 500, seed=1)
    head = NearestNeighbors(9, target(classes), n_neighbors=4)  # an even number allows ties
    head.fit(features, labels)
    fitted = KNeighborsClassifier(4).fit(features.numpy(), labels.numpy())
    predicted = head.probabilities(head(new)).argsort(dim=1, descending=True, stable=True)[:, 0]
    assert np.array_equal(predicted.numpy(), fitted.predict(new.numpy()))
    share = torch.from_numpy(fitted.predict_proba(new.numpy())).float()
    assert torch.allclose(head(new).exp().clamp_min(0.01), share.clamp_min(0.01), atol=0.01)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_support_vectors_predict_as_scikit_learn(classes: int):
    features, labels = clouds(classes, 300)
    new, _ = clouds(classes, 500, seed=1)
    head = SupportVectors(9, target(classes), penalty=3.0)
    head.fit(features, labels)
    scaler = StandardScaler().fit(features.double().numpy())
    fitted = SVC(C=3.0, gamma="scale", break_ties=classes > 2)
    fitted.fit(scaler.transform(features.double().numpy()), labels.numpy())
    scaled = scaler.transform(new.double().numpy())
    assert np.array_equal(head(new).argmax(1).numpy(), fitted.predict(scaled))
    if classes > 2:
        assert np.allclose(head(new).numpy(), fitted.decision_function(scaled), atol=1e-5)


def test_a_class_without_samples_is_never_predicted():
    features, labels = clouds(3, 100)
    labels[labels == 1] = 2
    for kind in HEADS.values():
        head = kind(9, target(3))
        head.fit(features, labels)
        assert not (head(features).argmax(1) == 1).any()
        assert (head(features).argmax(1) == labels).double().mean() > 0.6


@pytest.mark.parametrize("kind", HEADS.values(), ids=HEADS)
def test_arrays_of_any_length_are_loaded(kind):
    features, labels = clouds(3, 80)
    head, empty = kind(9, target(3)), kind(9, target(3))
    head.fit(features, labels)
    empty.load_state_dict(head.state_dict())
    assert torch.equal(empty(features), head(features))
    assert torch.equal(head(features[:1]), head(features)[:1])


@pytest.mark.parametrize("kind", HEADS.values(), ids=HEADS)
def test_an_unfitted_head_is_an_error(kind):
    with pytest.raises(InputError, match="train the model first"):
        kind(9, target(3))(torch.zeros(1, 9))


def test_too_few_samples_are_refused():
    with pytest.raises(InputError, match="2 samples are too few for 5 neighbors"):
        NearestNeighbors(9, target(3)).fit(torch.zeros(2, 9), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="two classes or more"):
        SupportVectors(9, target(3)).fit(torch.zeros(2, 9), torch.tensor([1, 1]))
