"""Result of an explanation: explained class, one map per input, and completeness."""

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
    """Sum of contributions, and the difference that it should equal.

    Attributes:
        total: Sum of the contributions of all values of all inputs.
        difference: Logit of the sample minus logit of the baseline.
    """

    total: float
    difference: float

    @property
    def relative_error(self) -> float:
        """Error of the sum as a fraction of the difference.

        It is infinite if the difference is 0 and the sum is not.
        """
        miss = abs(self.total - self.difference)
        return miss / abs(self.difference) if self.difference else float("inf" if miss else 0)


@dataclass(frozen=True)
class InputMap:
    """Attribution map of one input.

    Attributes:
        values: Signed contribution of each value on the grid of the network, axes as in `axes`, in units of
            the logit. For gradcam and layercam: relative importance on the cells of the layer, at least 0,
            without unit.
        axes: Axes of `values` in einops notation, such as ``"channel y x"``.
        window: Part of the image that the network received. The cells of `values` divide it evenly.
        image: Original, upright image, with the axes of the input's layout.
        channels: Names along the channel axis of `values`; empty if it has none.
    """

    values: NDArray[np.floating]
    axes: str
    window: InputWindow
    image: NDArray[Any] = field(repr=False)
    channels: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        height, width = self.image.shape[-2:]
        return height, width

    @property
    def cells(self) -> NDArray[np.floating]:
        """`values` summed over channels, shape (cell_y, cell_x) or (time, cell_y, cell_x)."""
        axes = self.axes.split()
        return self.values.sum(axes.index("channel")) if "channel" in axes else self.values

    @property
    def channel_sums(self) -> dict[str, float]:
        """Sum of `values` by channel; empty without a channel axis."""
        axes = self.axes.split()
        if "channel" not in axes:
            return {}
        totals = np.moveaxis(self.values, axes.index("channel"), 0).reshape(len(self.channels), -1).sum(1)
        return dict(zip(self.channels, totals.tolist(), strict=True))

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """`cells` on the pixels of the image.

        The shape is (y, x) or (time, y, x). Pixels outside the network's window are NaN.
        """
        return self.window.resample(self.cells, self.shape)

    def peak(self, *, sigma: float = 1.0) -> tuple[float, float] | None:
        """Return the location of the largest value over all time steps.

        Args:
            sigma: Standard deviation of a Gaussian, in cells of `values`. It smooths the positive part first,
                because single cells are noisy. 0 turns smoothing off. Default: 1.

        Returns:
            Row and column of the center of the pixel; None if no value is positive.
        """
        cells = _gaussian_smooth(np.maximum(self.cells, 0), sigma) if sigma else self.cells
        if not cells.max() > 0:
            return None
        spread = self.window.resample(cells, self.shape)
        *_, row, column = np.unravel_index(int(np.nanargmax(spread)), spread.shape)
        return float(row) + 0.5, float(column) + 0.5


@dataclass(frozen=True)
class Explanation:
    """Explanation of one prediction.

    Attributes:
        source: Name of the sample, as in a prediction.
        model: Name of the registry entry.
        label: Class that is explained, or name of the predicted map.
        logit: Value of the class before the softmax; for a map, the mean that is explained.
        probability: Calibrated probability of the class; None if the prediction is not a class.
        config: Method and the options that were used.
        inputs: One map per input, by name. Methods of one layer have a single map, on the first spatial
            input.
        scalars: Contributions of the scalar measurements, by name; empty for methods of one layer.
        completeness: Completeness of integrated gradients or deeplift; None for other methods.
        ablation: Drop of the score when an input is missing, by input and independent of the method. Only for
            predicted maps from several inputs. Inputs with redundant information hide each other.
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
        """Map of the first input."""
        return next(iter(self.inputs.values()))

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """Map of the first input on the pixels of its image.

        Pixels outside the network's window are NaN.
        """
        return self.first_input.heatmap

    @property
    def window(self) -> InputWindow:
        """Part of the first input's image that the network received."""
        return self.first_input.window

    @property
    def contributions(self) -> dict[str, dict[str, float]]:
        """Sum of the contributions, by input and channel.

        For deeplift the channels are those of the layer, under the name of the input that its map is placed
        on. Missing values contribute 0. Empty for methods whose values do not add up.
        """
        if self.config.method not in COMPLETE_METHODS:
            return {}
        return {name: each.channel_sums for name, each in self.inputs.items() if each.channel_sums}

    @property
    def unit(self) -> str:
        """Unit of the values of the maps."""
        return "1" if self.config.method in LAYER_METHODS else "logit"

    def as_dict(self) -> dict[str, Any]:
        """Return everything except the arrays as plain data."""
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
        """Draw each image with the map of its input.

        Returns:
            The figure.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from geovision.attribution.plot import plot_explanation

        return plot_explanation(self)

    def save(self, folder: str | Path, name: str) -> tuple[Path, Path]:
        """Write ``NAME.png`` and ``NAME.npz``, both or neither.

        The archive contains ``INPUT`` (`InputMap.values`) and ``INPUT_map`` (`InputMap.heatmap`) of each
        input, and ``about``, the JSON text of `as_dict`.

        Args:
            folder: Folder of the two files.
            name: Name of the files without extension.

        Returns:
            Paths of the figure and of the archive.

        Raises:
            StorageError: The files could not be written; existing files are unchanged.
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
    """Smooth cells with a Gaussian; cells beyond the edge count as 0."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()

    def along(axis: int, values: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.apply_along_axis(lambda line: np.convolve(line, kernel)[reach:-reach], axis, values)

    return along(-1, along(-2, cells))
