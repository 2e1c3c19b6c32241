"""Training of closed-form models, such as nearest neighbors or quantile mapping.

Either the network has a method ``fit(data)``, or the head has a method ``fit(features, labels)``. A network
receives the normalized training samples, as in its forward pass, and its head the statistics of the targets
(`data_statistics`). A head receives the features of the network. Both fill buffers, which `GeoModel.save`
stores like other weights. Buffers whose size depends on the data are resized when they are loaded
(`_load_from_state_dict`).
"""

from __future__ import annotations

from torch.utils.data import Dataset

from geovision.datasets.base import GeoDataset, Sample
from geovision.errors import OptionError
from geovision.heads.protocols import HasFeatureFit
from geovision.models.geomodel import GeoModel
from geovision.models.protocols import HasFit
from geovision.training.data_statistics import fit_statistics, needs_statistics
from geovision.training.feature_extraction import extract_features

__all__ = ["NormalizedDataset", "fit"]


class NormalizedDataset(Dataset[Sample]):
    """Data set with inputs normalized by a model.

    Args:
        data: Samples to normalize.
        model: Model whose normalization is applied.

    Attributes:
        target: Target of the model.
    """

    def __init__(self, data: GeoDataset, model: GeoModel) -> None:
        self.data, self.target = data, model.target
        self._model = model

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        sample = self.data[index]
        inputs = {name: values.unsqueeze(0) for name, values in sample["inputs"].items()}
        valid = {name: mask.unsqueeze(0) for name, mask in sample["valid"].items()}
        self._model.validate_inputs(inputs, valid=valid)
        normalized = self._model.normalize(inputs, valid)
        return sample | {"inputs": {name: values.squeeze(0) for name, values in normalized.items()}}  # type: ignore[return-value]


def fit(model: GeoModel, data: GeoDataset, *, progress: bool = True) -> None:
    """Fit the network of a model or its head, in place.

    Args:
        model: Closed-form model.
        data: Training samples.
        progress: Whether to show a progress bar on stderr. Default: True.

    Raises:
        OptionError: Both network and head lack a method ``fit``.
        InputError: A sample does not match the inputs of the model.
    """
    if isinstance(model.network, HasFit):
        model.network.fit(NormalizedDataset(data, model))
        if needs_statistics(model):
            fit_statistics(model, data)
    elif isinstance(model.head, HasFeatureFit):
        model.head.fit(*extract_features(model, data, progress=progress))
    else:
        raise OptionError(
            f"{model.spec.name} is registered with fit='closed_form', but its network and its head have no "
            "method fit; add one"
        )
