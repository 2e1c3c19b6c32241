"""Statistical baselines for downscaling and bias correction of fields.

They are registry entries like networks. Each uses the first channel, precipitation; the ridge regression uses
all channels. Their parameters are fitted to the training data alone and stored like weights.
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
"""Largest size of the fields of a period for the computation of ranks, in bytes.

If the fields of a period are larger, equidistant days are used.
"""


class Interpolation(nn.Module):
    """Interpolation of the first channel to the target grid.

    Args:
        given: Specification of the input, whose first channel is used.
        factor: Number of target cells per input cell along each side. It is used without `grids`. Default: 1.
        grids: Input grid and target grid. Default: the model is not bound to a grid.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``. Default: ``"bilinear"``.

    Shape:
        ``(batch, channel, y, x)`` -> ``(batch, 1, y, x)`` on the target grid, in the unit of the target.
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
        """Interpolate the first channel and its mask to the target grid.

        Args:
            inputs: Inputs by name, each of shape (batch, channel, y, x).
            valid: Valid values by input name, bool. None: all values.

        Returns:
            Field and mask of valid cells, shape (batch, 1, y, x) each.
        """
        field = inputs[self.given.name][:, :1]
        present = (valid or {}).get(self.given.name)
        mask = torch.ones_like(field, dtype=torch.bool) if present is None else present[:, :1]
        return self.onto(field, mask)

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Return the cells with a valid prediction.

        Args:
            inputs: Inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. None: all values.
            shape: Shape of the output.

        Returns:
            Valid cells, bool, broadcastable to `shape`.
        """
        return self.on_target(inputs, valid)[1]

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        """Compute the predicted field of a batch.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.
            context: Location and time of the samples; not used. Default: None.

        Returns:
            Field, shape (batch, 1, y, x), in the unit of the target.
        """
        return self.on_target(inputs, valid)[0]


class _FittedBaseline(Interpolation):
    """Base class of baselines that are fitted to pairs of fields.

    A pair consists of the interpolated field and the target.
    """

    def fit(self, data: Dataset[Sample]) -> None:
        """Fit the baseline to a training set.

        Args:
            data: Training samples.
        """
        self.fit_fields(*_collect_pairs(self, data))

    def fit_fields(self, modeled: Tensor, target: Tensor) -> None:
        """Fit the baseline to pairs of fields.

        Args:
            modeled: Interpolated fields, shape (time, y, x), NaN where missing.
            target: Targets, in the same shape, NaN where missing.
        """
        raise NotImplementedError


def _collect_pairs(network: Interpolation, data: Dataset[Sample]) -> tuple[Tensor, Tensor]:
    """Return the interpolated inputs and the targets of a dataset.

    Each has the shape (time, y, x), with NaN where values are missing.
    """
    modeled, targets = [], []
    for sample in _iter_samples(data):
        inputs = {network.given.name: sample["inputs"][network.given.name].unsqueeze(0)}
        valid = {name: mask.unsqueeze(0) for name, mask in sample["valid"].items() if name in inputs}
        field, present = network.on_target(inputs, valid)
        modeled.append(field.where(present, torch.nan)[0, 0])
        targets.append(_target_or_nan(sample)[0])
    if modeled[0].shape != targets[0].shape:
        raise InputError(
            f"the interpolated input has {tuple(modeled[0].shape)} cells, the target has "
            f"{tuple(targets[0].shape)}; create the model with the factor or the grids of the data"
        )
    return torch.stack(modeled), torch.stack(targets)


def _iter_samples(data: Any) -> Iterator[Sample]:
    return (data[index] for index in range(len(data)))


def _target_or_nan(sample: Sample) -> Tensor:
    present = sample["valid"].get("target")
    return sample["target"] if present is None else sample["target"].where(present, torch.nan)


class Climatology(_FittedBaseline):
    """Mean target of the training data in each cell.

    It does not depend on the input.

    Args:
        input_spec: Specification of the input.
        **options: Options of `Interpolation`.
    """

    usual: Tensor

    def __init__(self, input_spec: InputSpec, **options: Any) -> None:
        super().__init__(input_spec, **options)
        self.register_buffer("usual", torch.full((1, 1), torch.nan))

    def fit_fields(self, modeled: Tensor, target: Tensor) -> None:
        """Compute the mean of the targets in each cell.

        Args:
            modeled: Interpolated fields, shape (time, y, x), NaN where missing.
            target: Targets, in the same shape, NaN where missing.
        """
        self.usual = target.nanmean(0)

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Return the cells with a valid prediction.

        Args:
            inputs: Inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. None: all values.
            shape: Shape of the output.

        Returns:
            Valid cells, bool, broadcastable to `shape`.
        """
        return torch.isfinite(self.usual)[None, None]

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        """Compute the predicted field of a batch.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.
            context: Location and time of the samples; not used. Default: None.

        Returns:
            Field, shape (batch, 1, y, x), in the unit of the target.
        """
        return self.usual.nan_to_num(0.0).expand(len(inputs[self.given.name]), 1, -1, -1)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        _resize_buffers(self, ("usual",), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class BiasCorrection(_FittedBaseline):
    """Interpolated field with a bias correction in each cell.

    The corrections are described in `geovision.models.quantile_mapping`.

    Args:
        given: Specification of the input, whose first channel is used.
        by: Correction, ``"linear-scaling"``, ``"quantile-mapping"`` or ``"quantile-delta"``.
        **options: Options of `Interpolation`.

    Raises:
        OptionError: The correction is unknown.
    """

    CORRECTIONS: Mapping[str, type[nn.Module]] = {
        "linear-scaling": LinearScaling,
        "quantile-mapping": EmpiricalQuantileMapping,
        "quantile-delta": QuantileDeltaMapping,
    }

    def __init__(self, given: InputSpec, *, by: str, **options: Any) -> None:
        super().__init__(given, **options)
        if by not in self.CORRECTIONS:
            raise OptionError(f"by={by!r} is unknown; choose one of {', '.join(self.CORRECTIONS)}")
        self.correction = self.CORRECTIONS[by]()
        self._period: Tensor | None = None

    def fit_fields(self, modeled: Tensor, target: Tensor) -> None:
        """Fit the correction.

        Args:
            modeled: Interpolated fields, shape (time, y, x), NaN where missing.
            target: Targets, in the same shape, NaN where missing.
        """
        self.correction.fit(modeled, target)  # type: ignore[operator]

    def valid_mask(
        self, inputs: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None, shape: Sequence[int]
    ) -> Tensor | None:
        """Return the cells with a valid prediction.

        Args:
            inputs: Inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. None: all values.
            shape: Shape of the output.

        Returns:
            Valid cells, bool, broadcastable to `shape`.
        """
        known = next(each for name, each in self.correction.named_buffers() if name != "levels")
        return self.on_target(inputs, valid)[1] & torch.isfinite(known.reshape(-1, *known.shape[-2:])[:1])

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        """Compute the predicted field of a batch.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.
            context: Location and time of the samples; not used. Default: None.

        Returns:
            Field, shape (batch, 1, y, x), in the unit of the target.
        """
        field, present = self.on_target(inputs, valid)
        field = field.where(present, torch.nan)[:, 0]
        if isinstance(self.correction, QuantileDeltaMapping):
            # Ranks refer to the current period, or to the training period if no period is set.
            period = self.correction.modelled if self._period is None else self._period
            corrected = self.correction(field, period)
        else:
            corrected = self.correction(field)
        return corrected.nan_to_num(0.0)[:, None]

    @contextmanager
    def period(
        self,
        read_days: Callable[[Sequence[int]], Iterator[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]],
        days: int,
    ) -> Iterator[None]:
        """Return a context in which ranks refer to a period of days.

        If the period is long, the ranks refer to equidistant days of it.

        Args:
            read_days: Function of day numbers that yields the inputs and masks of each day, shape (1, …).
            days: Number of days in the period.
        """
        if isinstance(self.correction, QuantileDeltaMapping):
            most = max(2, _MAX_BYTES // (4 * self.correction.observed[0].numel()))  # type: ignore[union-attr, operator, index]
            chosen = torch.linspace(0, days - 1, min(days, most)).round().long().tolist()
            fields = []
            for inputs, valid in read_days(chosen):
                field, present = self.on_target(inputs, valid)
                fields.append(field.where(present, torch.nan)[0, 0])
            self._period = self.correction.compute_quantiles(torch.stack(fields))
        try:
            yield
        finally:
            self._period = None


class RidgeRegression(nn.Module):
    """Ridge regression of each target cell on principal components of the input.

    The principal components are those of all channels and cells of the input. Missing values are replaced by
    their mean.

    Args:
        given: Specification of the input, all of whose channels are used.
        factor: Number of target cells per input cell along each side; not used by the regression.
            Default: 1.
        grids: Ignored, because the grids are those of the training data. Default: None.
        components: Number of principal components; fewer if the data have fewer. Default: 60.
        penalty: Weight of the squared coefficients. Default: 1.

    Shape:
        ``(batch, channel, y, x)`` -> ``(batch, 1, y, x)`` on the target grid, in the unit of the target.
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
        """Fit the regression to a training set.

        Args:
            data: Training samples, all on the same grid.

        Raises:
            MissingExtraError: Scikit-learn is not installed.
        """
        try:
            from sklearn.decomposition import PCA
            from sklearn.linear_model import Ridge as Regression
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "train") from error
        columns, targets = [], []
        for sample in _iter_samples(data):
            present = sample["valid"].get(self.given.name)
            fields = sample["inputs"][self.given.name]
            columns.append(fields if present is None else fields.where(present, torch.nan))
            targets.append(_target_or_nan(sample)[0])
        x, target = torch.stack(columns).flatten(1), torch.stack(targets)
        self.centre = x.nanmean(0).nan_to_num(0.0)
        spread = (x - self.centre).nan_to_num(0.0).square().mean(0).sqrt()
        self.spread = torch.where(spread > 1e-9, spread, torch.inf)  # constant inputs are ignored
        scaled = ((x - self.centre) / self.spread).nan_to_num(0.0)
        usual = target.nanmean(0)
        filled = torch.where(torch.isfinite(target), target, usual).nan_to_num(0.0)
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
        """Return the cells with a valid prediction.

        Args:
            inputs: Inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. None: all values.
            shape: Shape of the output.

        Returns:
            Valid cells, bool, broadcastable to `shape`.
        """
        known = torch.isfinite(self.offset)[None, None]
        present = (valid or {}).get(self.given.name)
        return known if present is None else known & present.flatten(1).any(1).view(-1, 1, 1, 1)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        """Compute the predicted field of a batch.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.
            context: Location and time of the samples; not used. Default: None.

        Returns:
            Field, shape (batch, 1, y, x), in the unit of the target.
        """
        fields = inputs[self.given.name].flatten(1)
        if fields.shape[1] != len(self.centre):
            raise InputError(
                f"a sample has {fields.shape[1]} values; this regression was fitted to {len(self.centre)}. "
                "Use the grid and the predictors of its training data."
            )
        scaled = (fields - self.centre) / self.spread
        present = (valid or {}).get(self.given.name)
        if present is not None:
            scaled = torch.where(present.flatten(1), scaled, 0.0)
        scores = scaled @ self.axes.T
        return (self.offset.nan_to_num(0.0) + torch.tensordot(scores, self.slope, dims=1))[:, None]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        _resize_buffers(self, self.NAMES, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _resize_buffers(module: nn.Module, names: Sequence[str], state_dict: Any, prefix: str) -> None:
    """Resize buffers to the arrays of a state dict.

    Their sizes depend on the training data.
    """
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
    """Build a baseline.

    Args:
        model_args: ``kind``, one of interpolated, climatology, corrected and ridge, and the options of its
            class.
        inputs: Input specifications. The first one is used.
        size: Size of the input; ignored, because every size is supported.
        grids: Input grid and target grid. Default: the model is not bound to a grid.

    Raises:
        OptionError: The kind or an option is unknown.
    """
    options = dict(model_args)
    kind = options.pop("kind")
    if kind not in _BASELINES:
        raise OptionError(f"kind={kind!r} is unknown; choose one of {', '.join(_BASELINES)}")
    try:
        return _BASELINES[kind](inputs[0], grids=grids, **options)
    except TypeError as error:
        raise OptionError(f"{kind}: {error}") from error
