"""Figures of fields: maps, distributions, spectra, and the Taylor diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geovision.plots import new_figure
from geovision.spec import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "grid_extent",
    "plot_errors",
    "plot_fields",
    "plot_quantile_quantile",
    "plot_spectra",
    "plot_taylor_diagram",
]

_Field = NDArray[np.floating]


def plot_fields(
    coarse: _Field,
    prediction: _Field | None,
    target: _Field,
    *,
    extent: tuple[float, float, float, float] | None = None,
    coarse_extent: tuple[float, float, float, float] | None = None,
    unit: str,
    levels: Sequence[float],
    suptitle: str = "",
) -> Figure:
    """Plot the input, the prediction, the target, and the error of the prediction.

    Args:
        coarse: Input, shape (y, x), on its own grid. All fields are south first, and missing cells (NaN) are
            gray.
        prediction: Prediction, shape (y, x). None: input and target only.
        target: Target, on the grid of the prediction.
        extent: Edges (west, east, south, north), in degrees. Default: None, axes in cells.
        coarse_extent: Edges of the input, likewise. Default: `extent`.
        unit: Unit of the fields.
        levels: Values at which colors change; below the first value the map is white.
        suptitle: Title of the figure. Default: none.
    """
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm

    figure = new_figure(11, 7.4 if prediction is not None else 4)
    axes = figure.subplots(2 if prediction is not None else 1, 2, squeeze=False)
    colors = colormaps["YlGnBu"].resampled(len(levels) + 1).with_extremes(under="white", bad="0.8")
    norm = BoundaryNorm(levels, colors.N, extend="both")
    panels = [("input", coarse, coarse_extent or extent), ("target", target, extent)]
    if prediction is not None:
        panels.insert(1, ("prediction", prediction, extent))
    for panel, (title, field, where) in zip(axes.flat, panels, strict=False):
        image = panel.imshow(
            field, origin="lower", extent=where, cmap=colors, norm=norm, interpolation="nearest"
        )
        panel.set_title(title)
        if extent:  # the same area for all grids
            panel.set_xlim(extent[:2])
            panel.set_ylim(extent[2:])
    figure.colorbar(image, ax=axes[:, 0], label=unit, location="left", ticks=levels)
    if suptitle:
        figure.suptitle(suptitle)
    if prediction is None:
        return figure
    difference = prediction - target
    limit = float(np.nanmax(np.abs(difference))) if np.isfinite(difference).any() else 1.0
    difference_image = axes[1, 1].imshow(
        difference,
        origin="lower",
        extent=extent,
        interpolation="nearest",
        vmin=-limit,
        vmax=limit,
        cmap=colormaps["RdBu"].with_extremes(bad="0.8"),
    )
    axes[1, 1].set_title("prediction - target")
    figure.colorbar(difference_image, ax=axes[:, 1], label=unit)
    return figure


def grid_extent(grid: Grid) -> tuple[float, float, float, float] | None:
    """Return the edges (west, east, south, north) of a grid, in degrees.

    Args:
        grid: Grid with the centers of its cells.

    Returns:
        Edges, or None for a grid with a single row or column.
    """
    if min(grid.size) < 2:
        return None
    west, east, south, north = (
        1.5 * end - 0.5 * neighbor
        for axis in (grid.lon, grid.lat)
        for end, neighbor in ((axis[0], axis[1]), (axis[-1], axis[-2]))
    )
    return west, east, south, north


def plot_errors(
    bias: _Field,
    rmse: _Field,
    *,
    extent: tuple[float, float, float, float] | None = None,
    unit: str,
) -> Figure:
    """Plot maps of bias and root mean squared error over all times.

    Args:
        bias: Bias, shape (y, x).
        rmse: Root mean squared error, shape (y, x).
        extent: Edges (west, east, south, north), in degrees. Default: None, axes in cells.
        unit: Unit of the field.
    """
    from matplotlib import colormaps

    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    limit = float(np.nanmax(np.abs(bias))) if np.isfinite(bias).any() else 1.0
    for axes, field, title, colors, limits in (
        (left, bias, "bias", "RdBu", (-limit, limit)),
        (right, rmse, "root mean squared error", "viridis", (None, None)),
    ):
        image = axes.imshow(
            field,
            origin="lower",
            extent=extent,
            interpolation="nearest",
            vmin=limits[0],
            vmax=limits[1],
            cmap=colormaps[colors].with_extremes(bad="0.8"),
        )
        axes.set_title(title)
        figure.colorbar(image, ax=axes, label=unit, shrink=0.85)
    return figure


def plot_quantile_quantile(pairs: Mapping[str, tuple[_Field, _Field]], *, unit: str) -> Figure:
    """Plot the quantiles of each prediction over those of the target.

    On the diagonal the distributions are equal.

    Args:
        pairs: Quantiles of the prediction and of the target, shape (quantile,) each, by name of the
            prediction.
        unit: Unit of the field.
    """
    figure = new_figure(5.2, 5)
    axes = figure.subplots()
    most = max(float(np.nanmax(values)) for pair in pairs.values() for values in pair) * 1.05
    axes.plot([0, most], [0, most], color="0.6", linewidth=1)
    for name, (predicted, observed) in pairs.items():
        axes.plot(observed, predicted, marker=".", markersize=4, linewidth=1, label=name)
    axes.set(
        xlim=(0, most),
        ylim=(0, most),
        xlabel=f"quantile of the target, {unit}",
        ylabel=f"quantile of the prediction, {unit}",
        aspect="equal",
    )
    return _add_legend(figure, axes)


def plot_spectra(
    powers: Mapping[str, tuple[_Field, _Field]], *, truth: str = "target", unit: str = "cell"
) -> Figure:
    """Plot power over wavelength on logarithmic axes, with the target in black.

    Args:
        powers: Frequency and power by name, from `geovision.metrics.functional.spectra.spectrum`. The ring of
            the mean is omitted.
        truth: Name of the target in `powers`. Default: ``"target"``.
        unit: Unit of the wavelength; frequencies are in its inverse. Default: ``"cell"``.
    """
    figure = new_figure(6, 4.4)
    axes = figure.subplots()
    for name, (frequency, power) in powers.items():
        style = {"color": "black", "linewidth": 2} if name == truth else {"linewidth": 1.2}
        axes.loglog(1 / np.asarray(frequency)[1:], np.asarray(power)[1:], label=name, **style)
    axes.invert_xaxis()  # large scales on the left, as with wavenumbers
    axes.set(xlabel=f"wavelength, {unit}", ylabel="power")
    return _add_legend(figure, axes)


def plot_taylor_diagram(statistics: Mapping[str, tuple[float, float]], *, truth: str = "target") -> Figure:
    """Plot the Taylor diagram (Taylor 2001, doi:10.1029/2000JD900719).

    The distance from the origin is the standard deviation relative to that of the target, the angle is the
    correlation, and the distance from the target is the error without bias.

    Args:
        statistics: Ratio of standard deviations and correlation by name. With negative correlations the
            diagram extends to the left.
        truth: Label of the target. Default: ``"target"``.
    """
    from matplotlib.projections.polar import PolarAxes

    figure = new_figure(6.4, 5.4)
    axes: Any = figure.subplots(subplot_kw={"projection": "polar"})
    assert isinstance(axes, PolarAxes)
    negative = any(r < 0 for _, r in statistics.values())
    widest = np.pi if negative else np.pi / 2
    most = max(1.5, 1.15 * max(ratio for ratio, _ in statistics.values()))
    _taylor_grid(axes, most, widest, negative)
    axes.plot(
        0, 1, marker="*", markersize=13, color="black", linestyle="", label=truth, clip_on=False, zorder=5
    )
    for name, (ratio, correlation) in statistics.items():
        axes.plot(
            np.arccos(np.clip(correlation, -1, 1)), ratio, marker="o", linestyle="", label=name, zorder=5
        )
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _taylor_grid(axes: Any, most: float, widest: float, negative: bool) -> None:
    """Draw the axes, error contours and labels of a Taylor diagram."""
    axes.set_thetamin(0)
    axes.set_thetamax(np.degrees(widest))
    axes.set_ylim(0, most)
    marks = np.array([0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
    marks = np.unique(np.concatenate([-marks, marks])) if negative else marks
    axes.set_xticks(np.arccos(marks), [f"{mark:g}" for mark in marks])
    angle, radius = np.meshgrid(np.linspace(0, widest, 181), np.linspace(0, most, 181))
    # Law of cosines: distance of each point from the target.
    error = np.sqrt(1 + radius**2 - 2 * radius * np.cos(angle))
    lines = axes.contour(angle, radius, error, levels=np.arange(0.25, 3, 0.25), colors="0.7", linewidths=0.7)
    axes.clabel(lines, fmt="%.2f", fontsize=7)
    axes.plot(np.linspace(0, widest, 181), np.ones(181), color="0.4", linestyle="--", linewidth=0.8)
    middle = (0.0, 0.0 if negative else most / 2)
    axes.annotate(
        "standard deviation / that of the target",
        middle,
        (0, -32),
        textcoords="offset points",
        ha="center",
        va="center",
    )
    axes.text(
        widest / 2, most * 1.16, "correlation", ha="center", va="center", rotation=0 if negative else -45
    )


def _add_legend(figure: Figure, axes: Any) -> Figure:
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
