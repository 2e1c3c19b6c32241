"""Errors for unknown names of metrics contain the remedy."""

import pytest

from geovision import metrics
from geovision.errors import OptionError
from geovision.registry import find_task


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("csi_10", r"as in 'csi\(threshold=10.0\)'"),
        ("fss_10_5", r"as in 'fss\(threshold=10.0, scale=5.0\)'"),
        ("rsme", "Did you mean 'rmse'"),
        ("p99_bias", "Metrics: accuracy"),
    ],
)
def test_unknown_metric(name: str, remedy: str) -> None:
    with pytest.raises(OptionError, match=remedy):
        metrics.create(name, find_task("downscale").target)
