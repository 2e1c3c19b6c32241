"""Out-of-distribution scores: detection of unusual inputs, and saving of the score."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

import geovision
from geovision.errors import InputError
from geovision.evaluation.ood import auroc, fit_ood_score, ood_auroc
from geovision.heads.ood import FeatureDistance


def near_a_plane(n: int, *, seed: int, dimensions: int = 5, features: int = 96) -> torch.Tensor:
    """Return nearly positive vectors near a low-dimensional plane, with a little noise."""
    plane = torch.randn(dimensions, features, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    inside = torch.randn(n, dimensions, generator=generator) @ plane + 3
    return inside + 0.05 * torch.randn(n, features, generator=generator)


def elsewhere(n: int, *, seed: int = 5, features: int = 96) -> torch.Tensor:
    return 3 + 2 * torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


# --- area under the curve -----------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(-3, 40), min_size=1, max_size=30),
    st.lists(st.integers(-3, 40), min_size=1, max_size=30),
)
def test_the_area_agrees_with_scikit_learn(inside: list[int], outside: list[int]) -> None:
    """Scores with ties, negative scores, and scores far above 1."""
    found = auroc(torch.tensor(inside).float(), torch.tensor(outside).float())
    assert found == pytest.approx(roc_auc_score([0] * len(inside) + [1] * len(outside), inside + outside))


def test_the_area_by_hand() -> None:
    # In six pairs the outlier is higher in four and equal in one: 4.5 / 6.
    assert auroc(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 1e6])) == pytest.approx(4.5 / 6)
    with pytest.raises(InputError, match="0 in-distribution and 2 out-of-distribution"):
        auroc(torch.tensor([]), torch.tensor([1.0, 2.0]))


# --- the score ----------------------------------------------------------------------------------


def test_the_score_is_the_residual_of_a_principal_component_analysis() -> None:
    training, new = near_a_plane(300, seed=0), elsewhere(20)
    distance = FeatureDistance(96, components=8)
    distance.fit(training)
    analysis = PCA(n_components=8).fit(normalize(training.numpy()))
    rows = normalize(new.numpy())
    left = rows - analysis.inverse_transform(analysis.transform(rows))
    expected = torch.tensor(left).norm(dim=1)
    torch.testing.assert_close(
        distance(new) * distance.threshold, expected, atol=2e-3, rtol=1e-2, check_dtype=False
    )


def test_unusual_features_are_flagged_and_ordinary_ones_pass() -> None:
    distance = FeatureDistance(96, components=8)
    distance.fit(near_a_plane(300, seed=0), held_out=near_a_plane(200, seed=1), quantile=0.95)
    assert (distance(elsewhere(50)) > 1).all()
    flagged = float((distance(near_a_plane(2000, seed=2)) > 1).float().mean())
    assert flagged == pytest.approx(0.05, abs=0.03)


def test_few_samples_do_not_flag_new_ones() -> None:
    """With half as many components as samples, the plane passes near each fitted sample."""
    torch.manual_seed(0)
    mixing = torch.randn(16, 64)

    def ordinary(count: int) -> torch.Tensor:
        return torch.randn(count, 16) @ mixing + 0.5 * torch.randn(count, 64)

    score = FeatureDistance(64)
    score.fit(ordinary(160))
    new = ordinary(2000)
    assert float((score(new) > 1).double().mean()) < 0.06
    assert float((score(torch.randn(500, 64)) > 1).double().mean()) > 0.9


def test_the_scale_of_features_does_not_matter() -> None:
    distance = FeatureDistance(96)
    distance.fit(near_a_plane(300, seed=0))
    new = near_a_plane(10, seed=3)
    torch.testing.assert_close(distance(new), distance(7 * new))


@pytest.mark.parametrize(("features", "samples"), [(11, 40), (96, 12), (1280, 40), (4096, 3)])
def test_every_feature_length_keeps_a_residual_and_a_small_size(features: int, samples: int) -> None:
    training = torch.rand(samples, features, generator=torch.Generator().manual_seed(0))
    distance = FeatureDistance(features)
    distance.fit(training)
    assert distance.fitted
    assert torch.isfinite(distance(training)).all()
    assert (distance(training) > 0).any()
    assert 2 * distance.basis.numel() <= 300_000


def test_features_of_wrong_shape_are_an_error() -> None:
    with pytest.raises(
        InputError, match=r"features have shape \(1, 96\); the outlier score expects \(samples, 96\)"
    ):
        FeatureDistance(96).fit(torch.rand(1, 96))
    with pytest.raises(InputError, match=r"features have shape \(5, 95\)"):
        FeatureDistance(96).fit(torch.rand(5, 95))


# --- in a model ---------------------------------------------------------------------------------


def test_a_model_flags_outliers_with_the_flag_of_its_task(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = geovision.create("cloud-tiny", size=(32, 32))
    generator = torch.Generator().manual_seed(0)
    slope = torch.linspace(0, 1, 32).expand(200, 3, 32, 32)
    ordinary = 0.3 + 0.4 * torch.rand(200, 1, 1, 1, generator=generator) * slope
    ordinary = (ordinary + 0.05 * torch.randn(ordinary.shape, generator=generator)).clamp(0, 1)
    stripes = (torch.arange(32) % 4 < 2).float().expand(3, 3, 32, 32).clone()
    stripes[:, 1:] = 0
    with torch.no_grad():
        features, strange = model.features(ordinary), model.features(stripes)
    assert model.predict(stripes)[0].outlier_score is None
    with pytest.raises(InputError, match="cloud-tiny is not fitted"):
        ood_auroc(model, features, {"stripes": strange})
    flagged = fit_ood_score(model, features[:150], held_out=features[150:], quantile=0.9)
    assert flagged == pytest.approx(0.1)
    assert ood_auroc(model, features[150:], {"stripes": strange}) == pytest.approx(
        {"stripes": 1.0, "all": 1.0}
    )
    back = geovision.load(model.save(tmp_path / "model", fp16=True))
    torch.testing.assert_close(back.head.outlier(strange), model.head.outlier(strange))
    plain = int(model.head.outlier(features).argmin())
    predictions = back.predict(torch.stack([ordinary[plain], stripes[0]]))
    assert predictions[0].flags == ()
    assert predictions[1].flags == ("not_a_sky",)


def test_a_model_with_user_classes_keeps_the_flag() -> None:
    model = geovision.create("cloud-tiny", classes=["Ci", "Cu"])
    assert model.target.outlier_flag == "not_a_sky"
    assert geovision.create("cloud-tiny", classes=["x", "y"]).target.outlier_flag == "not_a_sky"
