"""Comparison of HINet with its sequence baselines over plains and over ridges, as in the paper.

    python examples/studies/hail_comparison.py

The data are generated storms, as described in `examples/studies/hail_study.py`. Every network gets all
sources and their masks, and is trained with three seeds. The table also has the ceiling and the floor, and
the gain by each source for the U-Net. N-BEATS and SimVP are built for the number of windows of the storms.
The script writes ``comparison.csv`` and reuses finished rows.
"""

from __future__ import annotations

from typing import Any

from hail_study import SMALL, WHOLE, Config, Study, arguments, summary, write_table

SOURCES = ("radar", "fy4b", "era5")


def configs(windows: int) -> tuple[Config, ...]:
    """Return the networks to compare, for samples of a number of windows."""
    stack = SMALL | {"layers": 2}
    unet = {"network": "unet", "encoder": "resnet18"}
    stacked = {"frames": "stacked", "windows": windows}
    simvp: dict[str, Any] = {"windows": windows, "options": {"width": 16, "hidden": 64, "blocks": 2}}
    nbeats: dict[str, Any] = {"windows": windows, "options": {"width": 64, "blocks": 3, "features": 16}}
    return (
        WHOLE,
        Config("unet, last window", "hail-unet-resnet18", unet),
        Config("convlstm", "hail-convlstm", stack),
        Config("stlstm", "hail-stlstm", stack),
        Config("causal-lstm", "hail-causal-lstm", stack),
        Config("simvp", "hail-simvp", simvp),
        Config("nbeats", "hail-nbeats", nbeats),
        Config("unet, stacked windows", "hail-unet-resnet18", unet | stacked),
        *(
            Config(f"unet {'+'.join(names)}", "hail-unet-resnet18", unet | {"sources": names})
            for names in (SOURCES[:1], SOURCES[:2], SOURCES)
        ),
    )


def main() -> None:
    """Run the study."""
    options = arguments(__doc__, "runs/hail_study").parse_args()
    study = Study(options)
    rows = study.bounds()
    for seed in range(options.seeds):
        for config in configs(options.windows):
            rows.append(study.row(config, seed))
        write_table(summary(study, rows), options.out / "comparison.csv")


if __name__ == "__main__":
    main()
