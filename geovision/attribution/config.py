"""Options of an explanation, validated before anything is computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from geovision.errors import OptionError, nearest

__all__ = ["COMPLETE_METHODS", "LAYER_METHODS", "METHODS", "AttributionConfig", "Method"]

Method = Literal["gradcam", "layercam", "integrated-gradients", "deeplift", "occlusion"]
METHODS: tuple[str, ...] = get_args(Method)

LAYER_METHODS = ("gradcam", "layercam")
"""Methods that weight the maps of one layer; all others return contributions to the score."""

COMPLETE_METHODS = ("integrated-gradients", "deeplift")
"""Methods whose contributions should add up to the explained difference."""

_METHODS_OF_OPTION = {
    "layer": (*LAYER_METHODS, "deeplift"),
    "steps": ("integrated-gradients",),
    "window": ("occlusion",),
    "stride": ("occlusion",),
}


@dataclass(frozen=True)
class AttributionConfig:
    """Options of an explanation.

    Args:
        method: One of `METHODS`. Default: ``"gradcam"``.
        layer: Name of the layer in `GeoModel.network`; only for gradcam, layercam and deeplift. Default: for
            deeplift the layer whose channels the network names; otherwise, or without such a layer, the one
            that the network prefers, or else its last layer with maps.
        steps: Number of steps of the trapezoidal rule; only for integrated-gradients. Default: 200, doubled
            up to 800 while the sum is not within 1 %.
        window: Side of the occluded patch, in cells; only for occlusion. Default: an eighth of the shorter
            side of the input.
        stride: Distance between patches, in cells; only for occlusion. Default: half of `window`.
        batch_size: Number of changed inputs per forward pass. Default: 8.
        orientations: Number of orientations of the sample that are averaged. 1: the sample as it is. 2: also
            its left-right mirror image. 8: also both of them rotated by quarter turns. Only for classes that
            do not depend on direction; chance effects are averaged out. Default: 1.

    Raises:
        OptionError: The method is unknown, an option belongs to another method, or a number is below 1.
    """

    method: str = "gradcam"
    layer: str | None = None
    steps: int | None = None
    window: int | None = None
    stride: int | None = None
    batch_size: int = 8
    orientations: int = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            near = nearest(self.method, METHODS)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise OptionError(f"method {self.method!r} is unknown.{meant} Available: {', '.join(METHODS)}")
        for option, methods in _METHODS_OF_OPTION.items():
            if getattr(self, option) is not None and self.method not in methods:
                raise OptionError(f"{option} applies to {_format_list(methods)}, not to {self.method}")
        if self.method == "deeplift" and self.orientations != 1:
            raise OptionError("deeplift explains a sample in one orientation only; omit orientations")
        if self.orientations not in (1, 2, 8):
            raise OptionError(f"orientations must be 1, 2 or 8, not {self.orientations}")
        for option in ("steps", "window", "stride", "batch_size"):
            number = getattr(self, option)
            if number is not None and number < 1:
                raise OptionError(f"{option} must be 1 or more, not {number}")

    @property
    def samples_per_pass(self) -> int:
        """Number of samples per batch, each in all its orientations."""
        return max(1, self.batch_size // self.orientations)

    def as_dict(self) -> dict[str, Any]:
        """Return the options that were chosen or used."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def _format_list(names: tuple[str, ...]) -> str:
    """Return the names as ``"a, b and c"``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
