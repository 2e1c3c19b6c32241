"""Figure rain.png: a day of the NCEP reanalysis, its correction by quantile mapping, and E-OBS.

python examples/figures/rain.py ../shared/data
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from geovision.datasets.iberia import SOURCES
from geovision.models.quantile_mapping import EmpiricalQuantileMapping
from geovision.plots.fields import plot_fields
from geovision.readers.grids import open_paired, regrid, split_groups
from geovision.readers.grids.regridding import cell_edges
from geovision.registry import find_task

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def extent(field) -> tuple[float, ...]:
    """Return the outer cell edges of a grid: west, east, south and north."""
    return (*cell_edges(field.lon.values)[[0, -1]], *cell_edges(field.lat.values)[[0, -1]])


data = Path(sys.argv[1]) / "iberia"
paired = open_paired(data, [SOURCES["ncep.pr"]], SOURCES["eobs.pr"])
coarse, observed = paired.fields.values()
early = torch.tensor([group <= "winter 1994" for group in split_groups(observed, "winter")])
modeled = torch.tensor(regrid(coarse, observed).values)
TARGET = find_task("downscale").target
mapping = EmpiricalQuantileMapping()
mapping.fit(modeled[early], torch.tensor(observed.values)[early])
day = int(np.nanmean(observed.values, (1, 2)).argmax())
figure = plot_fields(
    coarse.values[day],
    mapping(modeled)[day].numpy(),
    observed.values[day],
    extent=extent(observed),
    coarse_extent=extent(coarse),
    unit=TARGET.channel.unit,
    levels=TARGET.contour_levels,
    suptitle=f"{str(observed.time.values[day])[:10]}: NCEP reanalysis, corrected by quantile mapping, E-OBS",
)
figure.savefig(IMAGES / "rain.png", dpi=80)
