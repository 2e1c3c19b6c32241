"""Models that are fitted in one go: neighbours, class means, quantile mapping.

Such a network has ``fit(data)``. It is given the training samples as its own `forward` sees them,
normalised, and fills its buffers from them; `GeoModel.save` then stores them like any weights. A
network whose arrays grow with the data resizes them when it is loaded (`_load_from_state_dict`).
"""

from __future__ import annotations

from torch.utils.data import Dataset

from geovision.datasets.base import GeoDataset, Sample
from geovision.errors import OptionError
from geovision.models.geomodel import GeoModel

__all__ = ["Normalised", "fit"]


class Normalised(Dataset[Sample]):
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
        self._model.check(inputs, valid=valid)
        normalised = self._model.normalise(inputs, valid)
        return sample | {"inputs": {name: values.squeeze(0) for name, values in normalised.items()}}  # type: ignore[return-value]


def fit(model: GeoModel, data: GeoDataset) -> None:
    """Fit the network of a model in place.

    Raises:
        OptionError: The network has no ``fit``.
        InputError: Samples that the model does not take.
    """
    own = getattr(model.network, "fit", None)
    if own is None:
        raise OptionError(f"{model.spec.name} is entered as closed_form, but its network has no fit(data)")
    own(Normalised(data, model))
