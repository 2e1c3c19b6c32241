"""Figures of fields: maps, distributions, spectra, and the diagram of Taylor 2001."""

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
    """What went in, what came out, the truth, and the difference of the last two.

    Args:
        coarse: ``(y, x)`` on its own grid; the others on one grid. South first, NaN is grey.
        prediction: None: what went in and the truth alone.
        extent, coarse_extent: (west, east, south, north) edges in degrees; None: cells are counted.
        levels: Where colours change; below the first it is white.
    """
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm

    figure = new_figure(11, 7.4 if prediction is not None else 4)
    axes = figure.subplots(2 if prediction is not None else 1, 2, squeeze=False)
    colours = colormaps["YlGnBu"].resampled(len(levels) + 1).with_extremes(under="white", bad="0.8")
    norm = BoundaryNorm(levels, colours.N, extend="both")
    panels = [("input", coarse, coarse_extent or extent), ("truth", target, extent)]
    if prediction is not None:
        panels.insert(1, ("prediction", prediction, extent))
    for panel, (title, field, where) in zip(axes.flat, panels, strict=False):
        drawn = panel.imshow(
            field, origin="lower", extent=where, cmap=colours, norm=norm, interpolation="nearest"
        )
        panel.set_title(title)
        if extent:  # one ground for all, whatever their grids
            panel.set_xlim(extent[:2])
            panel.set_ylim(extent[2:])
    figure.colorbar(drawn, ax=axes[:, 0], label=unit, location="left", ticks=levels)
    if suptitle:
        figure.suptitle(suptitle)
    if prediction is None:
        return figure
    difference = prediction - target
    reach = float(np.nanmax(np.abs(difference))) if np.isfinite(difference).any() else 1.0
    apart = axes[1, 1].imshow(
        difference,
        origin="lower",
        extent=extent,
        interpolation="nearest",
        vmin=-reach,
        vmax=reach,
        cmap=colormaps["RdBu"].with_extremes(bad="0.8"),
    )
    axes[1, 1].set_title("prediction - truth")
    figure.colorbar(apart, ax=axes[:, 1], label=unit)
    return figure


def grid_extent(grid: Grid) -> tuple[float, float, float, float] | None:
    """(west, east, south, north) edges of a grid, degrees; None of a grid one cell wide."""
    if min(grid.size) < 2:
        return None
    west, east, south, north = (
        1.5 * end - 0.5 * beside
        for axis in (grid.lon, grid.lat)
        for end, beside in ((axis[0], axis[1]), (axis[-1], axis[-2]))
    )
    return west, east, south, north


def plot_errors(
    bias: _Field,
    rmse: _Field,
    *,
    extent: tuple[float, float, float, float] | None = None,
    unit: str,
) -> Figure:
    """Maps of the bias and of the error of every cell ``(y, x)``, over all times."""
    from matplotlib import colormaps

    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    reach = float(np.nanmax(np.abs(bias))) if np.isfinite(bias).any() else 1.0
    for axes, field, title, colours, limits in (
        (left, bias, "bias", "RdBu", (-reach, reach)),
        (right, rmse, "root of the mean squared error", "viridis", (None, None)),
    ):
        drawn = axes.imshow(
            field,
            origin="lower",
            extent=extent,
            interpolation="nearest",
            vmin=limits[0],
            vmax=limits[1],
            cmap=colormaps[colours].with_extremes(bad="0.8"),
        )
        axes.set_title(title)
        figure.colorbar(drawn, ax=axes, label=unit, shrink=0.85)
    return figure


def plot_quantile_quantile(pairs: Mapping[str, tuple[_Field, _Field]], *, unit: str) -> Figure:
    """Quantiles of each prediction over those of the truth; on the line the distributions are one.

    Args:
        pairs: Name to (quantiles of the prediction, of the truth), ``(quantile,)`` each.
    """
    figure = new_figure(5.2, 5)
    axes = figure.subplots()
    most = max(float(np.nanmax(values)) for pair in pairs.values() for values in pair) * 1.05
    axes.plot([0, most], [0, most], color="0.6", linewidth=1)
    for name, (predicted, true) in pairs.items():
        axes.plot(true, predicted, marker=".", markersize=4, linewidth=1, label=name)
    axes.set(
        xlim=(0, most),
        ylim=(0, most),
        xlabel=f"quantile of the truth, {unit}",
        ylabel=f"quantile of the prediction, {unit}",
        aspect="equal",
    )
    return _add_legend(figure, axes)


def plot_spectra(
    powers: Mapping[str, tuple[_Field, _Field]], *, truth: str = "truth", unit: str = "cell"
) -> Figure:
    """Power over wavelength on logarithmic axes, the truth in black.

    Args:
        powers: Name to (frequency, power), as `geovision.metrics.functional.spectra.spectrum` returns them;
            the ring of the mean is left out.
        truth: Name of the truth among them.
        unit: Of the wavelength, whose inverse the frequencies are in.
    """
    figure = new_figure(6, 4.4)
    axes = figure.subplots()
    for name, (frequency, power) in powers.items():
        style = {"color": "black", "linewidth": 2} if name == truth else {"linewidth": 1.2}
        axes.loglog(1 / np.asarray(frequency)[1:], np.asarray(power)[1:], label=name, **style)
    axes.invert_xaxis()  # large scales to the left, as wavenumbers have them
    axes.set(xlabel=f"wavelength, {unit}", ylabel="power")
    return _add_legend(figure, axes)


def plot_taylor_diagram(statistics: Mapping[str, tuple[float, float]], *, truth: str = "truth") -> Figure:
    """The diagram of Taylor 2001 (doi:10.1029/2000JD900719): distance from the origin is the standard
    deviation over that of the truth, angle the correlation, distance from the truth the error without
    bias.

    Args:
        statistics: Name to (ratio of standard deviations, correlation); below 0 the axis goes on to the
            left.
        truth: How the point of the truth is called.
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
    axes.set_thetamin(0)
    axes.set_thetamax(np.degrees(widest))
    axes.set_ylim(0, most)
    marks = np.array([0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
    marks = np.unique(np.concatenate([-marks, marks])) if negative else marks
    axes.set_xticks(np.arccos(marks), [f"{mark:g}" for mark in marks])
    angle, radius = np.meshgrid(np.linspace(0, widest, 181), np.linspace(0, most, 181))
    # Law of cosines: the distance of each point from that of the truth.
    error = np.sqrt(1 + radius**2 - 2 * radius * np.cos(angle))
    lines = axes.contour(angle, radius, error, levels=np.arange(0.25, 3, 0.25), colors="0.7", linewidths=0.7)
    axes.clabel(lines, fmt="%.2f", fontsize=7)
    axes.plot(np.linspace(0, widest, 181), np.ones(181), color="0.4", linestyle="--", linewidth=0.8)
    middle = (0.0, 0.0 if negative else most / 2)
    axes.annotate(
        "standard deviation / that of the truth",
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
