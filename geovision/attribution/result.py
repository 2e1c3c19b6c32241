"""What comes out: the class that is explained, a map an input, and how far the sum adds up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geovision._atomic_io import write_files
from geovision.attribution.config import COMPLETE_METHODS, LAYER_METHODS, AttributionConfig
from geovision.attribution.geometry import InputWindow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Completeness", "Explanation", "InputMap"]


@dataclass(frozen=True)
class Completeness:
    """Whether contributions add up to what they explain.

    Attributes:
        total: Sum of the contributions of all values of all inputs.
        difference: Logit of the sample less that of the baseline.
    """

    total: float
    difference: float

    @property
    def relative_error(self) -> float:
        """By how much of the difference the sum misses it; infinite where there is no difference."""
        miss = abs(self.total - self.difference)
        return miss / abs(self.difference) if self.difference else float("inf" if miss else 0)


@dataclass(frozen=True)
class InputMap:
    """What of one input speaks for the class.

    Attributes:
        values: Signed contributions of each value on the network's grid, axes as in `axes`; of the
            layer methods the layer's own cells. In units of the logit; of gradcam and layercam 0 or
            above, without a unit.
        axes: In einops spelling, e.g. ``"channel y x"``.
        window: The part of the picture that the network saw. The cells of `values` share it out evenly.
        image: What was given, upright, axes as in the input's layout.
        channels: Names along the channel axis of `values`, where it has one.
    """

    values: NDArray[np.floating]
    axes: str
    window: InputWindow
    image: NDArray[Any] = field(repr=False)
    channels: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the picture, pixels."""
        height, width = self.image.shape[-2:]
        return height, width

    @property
    def cells(self) -> NDArray[np.floating]:
        """`values` summed over channels: ``(cell_y, cell_x)``, or ``(time, cell_y, cell_x)``."""
        axes = self.axes.split()
        return self.values.sum(axes.index("channel")) if "channel" in axes else self.values

    @property
    def channel_sums(self) -> dict[str, float]:
        """Sum of `values` over all but the channels; empty where they have none."""
        axes = self.axes.split()
        if "channel" not in axes:
            return {}
        totals = np.moveaxis(self.values, axes.index("channel"), 0).reshape(len(self.channels), -1).sum(1)
        return dict(zip(self.channels, totals.tolist(), strict=True))

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """`cells` on the pixels of the picture, ``(y, x)`` or ``(time, y, x)``; NaN where the network saw
        nothing."""
        return self.window.resample(self.cells, self.shape)

    def peak(self, *, sigma: float = 1.0) -> tuple[float, float] | None:
        """Where the map is largest, row and column of the middle of the pixel; over all times. None where
        nothing speaks for the class.

        Args:
            sigma: Standard deviation, cells of `values`, of a Gaussian that the positive part is
                smoothed with before, for single cells vary; 0: none.
        """
        cells = _gaussian_smooth(np.maximum(self.cells, 0), sigma) if sigma else self.cells
        if not cells.max() > 0:
            return None
        spread = self.window.resample(cells, self.shape)
        *_, row, column = np.unravel_index(int(np.nanargmax(spread)), spread.shape)
        return float(row) + 0.5, float(column) + 0.5


@dataclass(frozen=True)
class Explanation:
    """Why a model answers as it does, for one sample.

    Attributes:
        source: What was asked about, as in a prediction.
        model: Name of the registry entry.
        label: The class that is explained.
        logit: Its value before the softmax.
        probability: Calibrated; None where the answer is no class.
        config: Method and what it was used with.
        inputs: By name, a map each. A layer's map is that of the first input with a picture.
        scalars: By name, contributions of the measurements beside it; none of the layer methods.
        completeness: Of integrated gradients and deeplift.
        ablation: By input, by how much the answer falls where that input is missing, whatever the method;
            of answers that are maps and are made of several inputs. Inputs that say the same hide each other.
    """

    source: str
    model: str
    label: str
    logit: float
    probability: float | None
    config: AttributionConfig
    inputs: Mapping[str, InputMap]
    scalars: Mapping[str, float] = field(default_factory=dict)
    completeness: Completeness | None = None
    ablation: Mapping[str, float] = field(default_factory=dict)

    @property
    def first_input(self) -> InputMap:
        """The map of the first input."""
        return next(iter(self.inputs.values()))

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """Of the first input, on the pixels of its picture; NaN where the network saw nothing."""
        return self.first_input.heatmap

    @property
    def window(self) -> InputWindow:
        """The part of the first input's picture that the network saw."""
        return self.first_input.window

    @property
    def contributions(self) -> dict[str, dict[str, float]]:
        """By input and channel, what all its values add to the answer; of deeplift by channel of the layer,
        under the name of the input whose map it is. What is missing adds nothing. Empty for methods whose
        values do not add up."""
        if self.config.method not in COMPLETE_METHODS:
            return {}
        return {name: each.channel_sums for name, each in self.inputs.items() if each.channel_sums}

    @property
    def unit(self) -> str:
        """Of the maps' values."""
        return "1" if self.config.method in LAYER_METHODS else "logit"

    def as_dict(self) -> dict[str, Any]:
        """All but the arrays, as plain data."""
        return {
            "source": self.source,
            "model": self.model,
            "label": self.label,
            "probability": self.probability,
            "logit": self.logit,
            "config": self.config.as_dict(),
            "completeness": self.completeness
            and {
                "total": self.completeness.total,
                "difference": self.completeness.difference,
                "relative_error": self.completeness.relative_error,
            },
            "scalars": dict(self.scalars),
            "contributions": self.contributions,
            "ablation": dict(self.ablation),
            "unit": self.unit,
            "inputs": {
                name: {
                    "axes": each.axes,
                    "picture": list(each.shape),
                    "window": [each.window.top, each.window.left, each.window.bottom, each.window.right],
                    "peak": each.peak(),
                }
                for name, each in self.inputs.items()
            },
        }

    def plot(self) -> Figure:
        """The pictures in grey or colour, each with its map over the window that the network saw.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from geovision.attribution.plot import plot_explanation

        return plot_explanation(self)

    def save(self, folder: str | Path, name: str) -> tuple[Path, Path]:
        """Write ``NAME.png`` and ``NAME.npz``, both or neither.

        The archive holds ``INPUT`` (`InputMap.values`) and ``INPUT_map`` (`InputMap.heatmap`) of each input,
        and ``about``, the JSON text of `as_dict`.

        Raises:
            StorageError: They could not be written; what stood there is untouched.
            MissingExtraError: matplotlib is not installed.
        """
        figure, folder = self.plot(), Path(folder)
        arrays: dict[str, Any] = {"about": np.array(json.dumps(self.as_dict(), ensure_ascii=False))}
        for key, each in self.inputs.items():
            arrays |= {key: each.values, f"{key}_map": each.heatmap}

        def write_archive(path: Path) -> None:
            with path.open("wb") as stream:
                np.savez_compressed(stream, **arrays)

        write_files(
            folder,
            {
                f"{name}.png": lambda path: figure.savefig(path, format="png", dpi=120),
                f"{name}.npz": write_archive,
            },
        )
        return folder / f"{name}.png", folder / f"{name}.npz"


def _gaussian_smooth(cells: NDArray[np.floating], sigma: float) -> NDArray[np.floating]:
    """Cells under a Gaussian, what lies beyond the edge counting as 0."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()

    def along(axis: int, values: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.apply_along_axis(lambda line: np.convolve(line, kernel)[reach:-reach], axis, values)

    return along(-1, along(-2, cells))
