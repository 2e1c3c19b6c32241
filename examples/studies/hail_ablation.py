"""Ablation of the modules and of the sources of HINet, as in the paper.

    python examples/studies/hail_ablation.py

The data are generated storms, as described in `examples/studies/hail_study.py`. Networks contain the modules
up to ST-LSTM, TMC, TMC and MDFFM, or all. Sources are radar, then FY4B, ERA5 and DEM are added in turn. Each
network is trained with three seeds. The table also has the ceiling and the floor, both interpretations of
UCUNet's connection modules, and both attentions. The script writes ``ablation.csv`` and reuses finished rows.
"""

from __future__ import annotations

from hail_study import HINET, WHOLE, Config, Study, arguments, summary, write_table

MODULES = ("stlstm", "tmc", "tmc-mdffm")
SOURCES = ("radar", "fy4b", "era5")

CONFIGS = {
    "modules": tuple(Config(f"modules {name}", "hail-hinet", HINET | {"modules": name}) for name in MODULES),
    "sources": tuple(
        Config(f"sources {'+'.join(SOURCES[:count])}", "hail-hinet", HINET | {"sources": SOURCES[:count]})
        for count in (1, 2, 3)
    ),
}
VARIANTS = (
    Config("hinet ucm valid", "hail-hinet", HINET | {"ucm": "valid"}),
    Config("hinet attention opa", "hail-hinet", HINET | {"attention": "opa"}),
)


def main() -> None:
    """Run the study."""
    parser = arguments(__doc__, "runs/hail_study")
    parser.add_argument("--only", choices=tuple(CONFIGS), help="one ablation, without the other variants")
    options = parser.parse_args()
    configs = [*(each for name in CONFIGS if options.only in (None, name) for each in CONFIGS[name]), WHOLE]
    study = Study(options)
    rows = study.bounds()
    for seed in range(options.seeds):
        for config in configs:
            rows.append(study.row(config, seed))
        write_table(summary(study, rows), options.out / "ablation.csv")
    if options.only is None:
        rows += [study.row(config, 0) for config in VARIANTS]
        write_table(summary(study, rows), options.out / "ablation.csv")


if __name__ == "__main__":
    main()
