"""Models that are fitted in one go: neighbours, support vectors, class means, quantile mapping.

Either the network has ``fit(data)`` and is given the training samples as its own `forward` sees them,
normalised, and the head what it takes from their targets (`statistics`); or the head has
``fit(features, labels)`` and is given what the network makes of them. Both fill their buffers;
`GeoModel.save` then stores them like any weights. Arrays that grow with the data are resized when they
are loaded (`_load_from_state_dict`).
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
    """A data set whose inputs went through a model's normalisation.

    Attributes:
        target: That of the model: classes, mask or field.
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
        normalised = self._model.normalize(inputs, valid)
        return sample | {"inputs": {name: values.squeeze(0) for name, values in normalised.items()}}  # type: ignore[return-value]


def fit(model: GeoModel, data: GeoDataset, *, progress: bool = True) -> None:
    """Fit the network of a model, or its head, in place.

    Raises:
        OptionError: Neither has a ``fit``.
        InputError: Samples that the model does not take.
    """
    if isinstance(model.network, HasFit):
        model.network.fit(NormalizedDataset(data, model))
        if needs_statistics(model):
            fit_statistics(model, data)
    elif isinstance(model.head, HasFeatureFit):
        model.head.fit(*extract_features(model, data, progress=progress))
    else:
        raise OptionError(
            f"{model.spec.name} is entered as closed_form, but neither its network nor its head has a fit"
        )
