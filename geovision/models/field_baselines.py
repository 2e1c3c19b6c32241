"""What statistics say of a field on a finer grid, or of a biased one: entries of the registry like networks.

Each takes the first channel, precipitation, but for the ridge regression, which takes all. What is fitted is
fitted on the training data alone and stored like weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from geovision.errors import InputError, MissingExtraError, OptionError
from geovision.models.layers.regrid import Method, Regrid
from geovision.models.quantile_mapping import EmpiricalQuantileMapping, LinearScaling, QuantileDeltaMapping
from geovision.spec import GridPair, InputSpec, SampleContext

if TYPE_CHECKING:
    from geovision.datasets.base import Sample

__all__ = ["BiasCorrection", "Climatology", "Interpolation", "RidgeRegression", "build"]

_MAX_BYTES = 256 * 2**20
"""Of fields of a period, evenly spaced days, that ranks are taken in."""


class Interpolation(nn.Module):
    """The field on the grid of the answer, by nearest, bilinear or bicubic interpolation.

    Args:
        given: The input; its first channel is taken.
        factor: How many times finer the answer is, where there are no grids.
        grids: Of the input and of the answer; None: bound to none.

    Shape:
        ``(batch, channel, y, x)`` -> ``(batch, 1, y, x)`` on the grid of the answer, in its unit.
    """

    num_features = 1

    def __init__(
        self, given: InputSpec, *, factor: int = 1, grids: GridPair | None = None, method: Method = "bilinear"
    ) -> None:
        super().__init__()
        self.given, self.factor = given, factor
        self.onto = Regrid(grids, factor, method)

    def on_target(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """The interpolated field ``(batch, 1, y, x)``, and where it is there."""
        field = inputs[self.given.name][:, :1]
        there = (valid or {}).get(self.given.name)
        mask = torch.ones_like(field, dtype=torch.bool) if there is None else there[:, :1]
        return self.onto(field, mask)

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        return self.on_target(inputs, valid)[1]

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        return self.on_target(inputs, valid)[0]


class _FittedBaseline(Interpolation):
    """The base of what is fitted to pairs of the interpolated field and the truth."""

    def fit(self, data: Dataset[Sample]) -> None:
        """From a training set."""
        given, truth = _collect_pairs(self, data)
        self.fit_fields(given, truth)

    def fit_fields(self, given: Tensor, truth: Tensor) -> None:
        """From fields ``(time, y, x)``, NaN where missing."""
        raise NotImplementedError


def _collect_pairs(network: Interpolation, data: Dataset[Sample]) -> tuple[Tensor, Tensor]:
    """The interpolated input and the truth of all samples ``(time, y, x)``, NaN where missing."""
    given, truth = [], []
    for sample in _iter_samples(data):
        inputs = {network.given.name: sample["inputs"][network.given.name].unsqueeze(0)}
        valid = {name: mask.unsqueeze(0) for name, mask in sample["valid"].items() if name in inputs}
        field, there = network.on_target(inputs, valid)
        given.append(field.where(there, torch.nan)[0, 0])
        truth.append(_target_or_nan(sample)[0])
    if given[0].shape != truth[0].shape:
        raise InputError(
            f"the input comes to a grid of {tuple(given[0].shape)} cells, and the truth is on one of "
            f"{tuple(truth[0].shape)}; create the model with the factor or the grids of the data"
        )
    return torch.stack(given), torch.stack(truth)


def _iter_samples(data: Any) -> Iterator[Sample]:
    return (data[index] for index in range(len(data)))


def _target_or_nan(sample: Sample) -> Tensor:
    there = sample["valid"].get("target")
    return sample["target"] if there is None else sample["target"].where(there, torch.nan)


class Climatology(_FittedBaseline):
    """The mean of the truth of the training data, in each cell, whatever goes in."""

    usual: Tensor

    def __init__(self, input_spec: InputSpec, **options: Any) -> None:
        super().__init__(input_spec, **options)
        self.register_buffer("usual", torch.full((1, 1), torch.nan))

    def fit_fields(self, modeled: Tensor, truth: Tensor) -> None:
        self.usual = truth.nanmean(0)

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        return torch.isfinite(self.usual)[None, None]

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        return self.usual.nan_to_num(0.0).expand(len(inputs[self.given.name]), 1, -1, -1)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        _resize_buffers(self, ("usual",), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class BiasCorrection(_FittedBaseline):
    """The interpolated field, corrected cell by cell: see `geovision.models.quantile_mapping`.

    Args:
        by: ``"linear-scaling"``, ``"quantile-mapping"`` or ``"quantile-delta"``.
    """

    CORRECTIONS: Mapping[str, type[nn.Module]] = {
        "linear-scaling": LinearScaling,
        "quantile-mapping": EmpiricalQuantileMapping,
        "quantile-delta": QuantileDeltaMapping,
    }

    def __init__(self, given: InputSpec, *, by: str, **options: Any) -> None:
        super().__init__(given, **options)
        if by not in self.CORRECTIONS:
            raise OptionError(f"by={by!r}; known: {', '.join(self.CORRECTIONS)}")
        self.correction = self.CORRECTIONS[by]()
        self._period: Tensor | None = None

    def fit_fields(self, modeled: Tensor, truth: Tensor) -> None:
        self.correction.fit(modeled, truth)  # type: ignore[operator]

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        known = next(each for name, each in self.correction.named_buffers() if name != "levels")
        return self.on_target(inputs, valid)[1] & torch.isfinite(known.reshape(-1, *known.shape[-2:])[:1])

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        field, there = self.on_target(inputs, valid)
        field = field.where(there, torch.nan)[:, 0]
        if isinstance(self.correction, QuantileDeltaMapping):
            # Ranks are those in the period at hand; where nobody told it, in the one that was fitted.
            period = self.correction.modelled if self._period is None else self._period
            corrected = self.correction(field, period)
        else:
            corrected = self.correction(field)
        return corrected.nan_to_num(0.0)[:, None]

    @contextmanager
    def period(
        self,
        ask: Callable[[Sequence[int]], Iterator[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]],
        days: int,
    ) -> Iterator[None]:
        """Within this, ranks are those in a period of so many days, or of evenly spaced ones of them.

        Args:
            ask: Gives inputs and masks of days by their numbers, one by one, each ``(1, …)``.
        """
        if isinstance(self.correction, QuantileDeltaMapping):
            most = max(2, _MAX_BYTES // (4 * self.correction.observed[0].numel()))  # type: ignore[union-attr, operator, index]
            chosen = torch.linspace(0, days - 1, min(days, most)).round().long().tolist()
            fields = []
            for inputs, valid in ask(chosen):
                field, there = self.on_target(inputs, valid)
                fields.append(field.where(there, torch.nan)[0, 0])
            self._period = self.correction.compute_quantiles(torch.stack(fields))
        try:
            yield
        finally:
            self._period = None


class RidgeRegression(nn.Module):
    """Ridge regression of each cell of the answer on principal components of all channels and cells of the
    input. Missing values are those of a mean day.

    Args:
        given: The input, all of whose channels are taken.
        components: Principal components, fewer where the data have fewer.
        penalty: Of the squared coefficients.

    Shape:
        ``(batch, channel, y, x)`` -> ``(batch, 1, y, x)`` on the grid of the truth, in its unit.
    """

    num_features = 1
    NAMES = ("centre", "spread", "axes", "slope", "offset")

    def __init__(
        self,
        given: InputSpec,
        *,
        factor: int = 1,
        grids: GridPair | None = None,
        components: int = 60,
        penalty: float = 1.0,
    ) -> None:
        super().__init__()
        self.given, self.factor, self.components, self.penalty = given, factor, components, penalty
        for name in self.NAMES:
            self.register_buffer(name, torch.full((1,), torch.nan))

    def fit(self, data: Dataset[Sample]) -> None:
        """From a training set, all of whose samples are on one grid."""
        try:
            from sklearn.decomposition import PCA
            from sklearn.linear_model import Ridge as Regression
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "train") from error
        columns, truths = [], []
        for sample in _iter_samples(data):
            there = sample["valid"].get(self.given.name)
            fields = sample["inputs"][self.given.name]
            columns.append(fields if there is None else fields.where(there, torch.nan))
            truths.append(_target_or_nan(sample)[0])
        x, truth = torch.stack(columns).flatten(1), torch.stack(truths)
        self.centre = x.nanmean(0).nan_to_num(0.0)
        spread = (x - self.centre).nan_to_num(0.0).square().mean(0).sqrt()
        self.spread = torch.where(spread > 1e-9, spread, torch.inf)  # what does not vary says nothing
        scaled = ((x - self.centre) / self.spread).nan_to_num(0.0)
        usual = truth.nanmean(0)
        filled = torch.where(torch.isfinite(truth), truth, usual).nan_to_num(0.0)
        count = min(self.components, len(scaled) - 1, scaled.shape[1])
        components: Any = PCA(count, random_state=0).fit(scaled.numpy())
        regression = Regression(self.penalty).fit(
            components.transform(scaled.numpy()), filled.flatten(1).numpy()
        )
        self.axes = torch.as_tensor(components.components_, dtype=torch.float32).contiguous()
        shape = filled.shape[-2:]
        self.slope = (
            torch.as_tensor(regression.coef_, dtype=torch.float32).T.reshape(count, *shape).contiguous()
        )
        offset = torch.as_tensor(regression.intercept_, dtype=torch.float32)
        offset = offset - torch.as_tensor(
            regression.coef_ @ (components.components_ @ components.mean_), dtype=torch.float32
        )
        self.offset = offset.reshape(shape).where(torch.isfinite(usual), torch.nan)

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        known = torch.isfinite(self.offset)[None, None]
        there = (valid or {}).get(self.given.name)
        return known if there is None else known & there.flatten(1).any(1).view(-1, 1, 1, 1)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        fields = inputs[self.given.name].flatten(1)
        if fields.shape[1] != len(self.centre):
            raise InputError(
                f"this regression was fitted on {len(self.centre)} numbers a sample, got {fields.shape[1]}; "
                "the grid and the predictors are those of its training data"
            )
        scaled = (fields - self.centre) / self.spread
        there = (valid or {}).get(self.given.name)
        if there is not None:
            scaled = torch.where(there.flatten(1), scaled, 0.0)
        scores = scaled @ self.axes.T
        return (self.offset.nan_to_num(0.0) + torch.tensordot(scores, self.slope, dims=1))[:, None]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        _resize_buffers(self, self.NAMES, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _resize_buffers(module: nn.Module, names: Sequence[str], state_dict: Any, prefix: str) -> None:
    """Room for arrays that are as large as the data were."""
    for name in names:
        if prefix + name in state_dict:
            setattr(module, name, torch.empty_like(state_dict[prefix + name]))


_BASELINES: Mapping[str, type[nn.Module]] = {
    "interpolated": Interpolation,
    "climatology": Climatology,
    "corrected": BiasCorrection,
    "ridge": RidgeRegression,
}


def build(
    model_args: Mapping[str, Any],
    *,
    inputs: Sequence[InputSpec],
    size: tuple[int, int] | None = None,
    grids: GridPair | None = None,
) -> nn.Module:
    """A baseline.

    Args:
        model_args: ``kind``, one of interpolated, climatology, corrected and ridge, and its options.
        size: Any will do.
    """
    options = dict(model_args)
    kind = options.pop("kind")
    if kind not in _BASELINES:
        raise OptionError(f"kind={kind!r}; known: {', '.join(_BASELINES)}")
    try:
        return _BASELINES[kind](inputs[0], grids=grids, **options)
    except TypeError as error:
        raise OptionError(f"{kind}: {error}") from error
