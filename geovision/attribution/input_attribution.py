"""Contribution of each input value: integrated gradients and occlusion by captum."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geovision.attribution.result import Completeness
from geovision.attribution.target import AttributionTarget
from geovision.errors import MissingExtraError, OptionError
from geovision.spec import InputSpec

__all__ = [
    "DEFAULT_STEPS",
    "MAX_STEPS",
    "TOLERANCE",
    "completeness",
    "integrated_gradients",
    "occlusion",
    "patch_and_stride",
]

DEFAULT_STEPS = 200
"""Initial number of steps of integrated gradients, as published for polar lows."""

MAX_STEPS = 800

TOLERANCE = 0.01
"""Largest relative error of the sum of contributions against the difference from the baseline."""


def integrated_gradients(
    target: AttributionTarget, *, steps: int | None, batch_size: int
) -> tuple[list[Tensor], int]:
    """Compute the contribution of each input value by integrated gradients.

    The method is that of Sundararajan et al. (2017, arXiv:1703.01365).

    With x the input, b its baseline and S the logit, the contribution is ``(x - b)`` times the mean of
    ``dS/dx`` along the straight line from b to x, by the trapezoidal rule. All contributions add up to
    ``S(x) - S(b)``, except for the error of the rule and for jumps of S, which have no derivative.

    Args:
        target: Sample and score to explain.
        steps: Number of equal parts of the line. None: `DEFAULT_STEPS`, doubled up to `MAX_STEPS` while the
            sum misses the difference by more than `TOLERANCE`.
        batch_size: Number of points of the line per forward pass.

    Returns:
        One tensor of signed contributions per input, in the order of `AttributionTarget.specs` and in the
        shape of the sample; and the number of steps that were used.

    Raises:
        MissingExtraError: captum is not installed.
    """
    count = steps or DEFAULT_STEPS
    # captum weights each point by 1 / points; the trapezoidal rule has 1 / steps.
    whole = (count + 1) / count
    parts = [whole * part for part in _integrate_path(target, "riemann_trapezoid", count + 1, batch_size)]
    while steps is None and count < MAX_STEPS and _is_incomplete(target, parts):
        # At half the step width, the new points are the midpoints of the old steps.
        middles = _integrate_path(target, "riemann_middle", count, batch_size)
        parts = [(old + new) / 2 for old, new in zip(parts, middles, strict=True)]
        count *= 2
    return parts, count


def _integrate_path(target: AttributionTarget, rule: str, points: int, batch_size: int) -> list[Tensor]:
    found = (
        _import_captum()
        .IntegratedGradients(target.score)
        .attribute(
            target.tensors,
            baselines=target.baselines,
            n_steps=points,
            method=rule,
            internal_batch_size=batch_size,
        )
    )
    return [part.detach()[0] for part in found]


def _is_incomplete(target: AttributionTarget, parts: list[Tensor]) -> bool:
    return completeness(target, parts).relative_error > TOLERANCE


def completeness(target: AttributionTarget, parts: list[Tensor]) -> Completeness:
    """Compare the sum of contributions with the difference from the baseline.

    Args:
        target: Sample and score that were explained.
        parts: Contributions, one tensor per input or layer.

    Returns:
        The sum and the difference.
    """
    return Completeness(sum(float(part.double().sum()) for part in parts), target.score_difference)


def occlusion(
    target: AttributionTarget, *, window: int | None, stride: int | None, batch_size: int
) -> list[Tensor]:
    """Compute the drop of the score without each patch.

    The method is that of Zeiler and Fergus (2014, arXiv:1311.2901). A patch covers all channels and is set to
    the baseline. The value of a cell is the mean over the patches that cover it. Scalar measurements are
    removed one by one.

    Args:
        target: Sample and score to explain.
        window: Side of a patch, in cells. None: an eighth of the shorter side of the input.
        stride: Distance between patches, in cells. None: half of `window`.
        batch_size: Number of patches per forward pass.

    Returns:
        One signed tensor per input, in the order of `AttributionTarget.specs` and in the shape of the sample;
        the same in all channels.

    Raises:
        OptionError: The patch is larger than the input, or the stride is larger than the patch.
        MissingExtraError: captum is not installed.
    """
    captum = _import_captum()
    results = []
    for index, (spec, tensor) in enumerate(zip(target.specs, target.tensors, strict=True)):
        sides, strides = patch_and_stride(spec, tensor, window, stride)

        def score(changed: Tensor, index: int = index) -> Tensor:
            count = len(changed)
            given = [each.expand(count, *each.shape[1:]) for each in target.tensors]
            return target.score(*given[:index], changed, *given[index + 1 :])

        # One input at a time: captum numbers the patches of three or more wrongly.
        found: Any = captum.Occlusion(score).attribute(
            tensor,
            sliding_window_shapes=sides,
            strides=strides,
            baselines=target.baselines[index],
            perturbations_per_eval=batch_size,
        )
        results.append(found.detach()[0])
    return results


def patch_and_stride(
    spec: InputSpec, tensor: Tensor, window: int | None, stride: int | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return sides and strides of a patch along each axis.

    A patch covers all channels and one time step.

    Args:
        spec: Specification of the input.
        tensor: Batch of the input, shape (batch, *layout).
        window: Side of a patch, in cells. None: an eighth of the shorter side.
        stride: Distance between patches, in cells. None: half of `window`.

    Returns:
        Sides of the patch and strides, in cells, one per axis of the layout.

    Raises:
        OptionError: The patch is larger than the input, or the stride is larger than the patch.
    """
    axes = dict(zip(spec.layout.split(), tensor.shape[1:], strict=True))
    if spec.layout == "channel":
        return (1,), (1,)
    short = min(axes["y"], axes["x"])
    window = window or max(short // 8, 1)
    stride = stride or max(window // 2, 1)
    if window > short:
        raise OptionError(f"window={window} is larger than input {spec.name!r} ({axes['y']} x {axes['x']})")
    if stride > window:
        raise OptionError(f"stride={stride} is larger than window={window}; cells between would be skipped")
    sides = {"y": window, "x": window, "channel": axes.get("channel", 1)}
    steps = {"y": stride, "x": stride, "channel": axes.get("channel", 1)}
    return tuple(sides.get(axis, 1) for axis in axes), tuple(steps.get(axis, 1) for axis in axes)


def _import_captum() -> Any:
    try:
        import captum.attr
    except ImportError as error:
        raise MissingExtraError("captum", "explain") from error
    return captum.attr
