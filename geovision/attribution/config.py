"""What an explanation is made by, checked before anything is computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from geovision.errors import OptionError, nearest

__all__ = ["COMPLETE_METHODS", "LAYER_METHODS", "METHODS", "AttributionConfig", "Method"]

Method = Literal["gradcam", "layercam", "integrated-gradients", "deeplift", "occlusion"]
METHODS: tuple[str, ...] = get_args(Method)

LAYER_METHODS = ("gradcam", "layercam")
"""Those that weight the maps of one layer; all others give contributions to the answer."""

COMPLETE_METHODS = ("integrated-gradients", "deeplift")
"""Those whose contributions are to add up to what is explained."""

_METHODS_OF_OPTION = {
    "layer": (*LAYER_METHODS, "deeplift"),
    "steps": ("integrated-gradients",),
    "window": ("occlusion",),
    "stride": ("occlusion",),
}


@dataclass(frozen=True)
class AttributionConfig:
    """How one answer is explained; None leaves a choice to the method.

    Args:
        method: One of `METHODS`.
        layer: Whose maps are read, by its name in `GeoModel.network`; of gradcam, layercam and
            deeplift.
        steps: Of the trapezoidal rule; of integrated gradients. None: 200, and up to 800 while
            the sum is not within 1 %.
        window: Cells a side of the patch that is taken away; of occlusion. None: an eighth of the
            shorter side of the input.
        stride: Cells from one patch to the next; None: half of `window`.
        orientations: 1: the sample as it is. 2: it and its mirror image, left-right, averaged. 8: also
            both turned by quarters. For classes that know no direction; what is by chance is averaged out.
        batch_size: Changed inputs a forward pass.

    Raises:
        OptionError: No such method, an option that is another method's, or a number below 1.
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
            raise OptionError(f"method {self.method!r} is not known.{meant} There are {', '.join(METHODS)}")
        for option, methods in _METHODS_OF_OPTION.items():
            if getattr(self, option) is not None and self.method not in methods:
                raise OptionError(f"{option} is for {_format_list(methods)}, not for {self.method}")
        if self.method == "deeplift" and self.orientations != 1:
            raise OptionError("deeplift follows one sample at a time, as it is; leave out orientations")
        if self.orientations not in (1, 2, 8):
            raise OptionError(f"orientations must be 1, 2 or 8, not {self.orientations}")
        for option in ("steps", "window", "stride", "batch_size"):
            number = getattr(self, option)
            if number is not None and number < 1:
                raise OptionError(f"{option} must be 1 or more, not {number}")

    @property
    def samples_per_pass(self) -> int:
        """How many samples in all their orientations make a batch."""
        return max(1, self.batch_size // self.orientations)

    def as_dict(self) -> dict[str, Any]:
        """What was chosen or used, without what does not apply."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def _format_list(names: tuple[str, ...]) -> str:
    """``"a, b and c"``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
