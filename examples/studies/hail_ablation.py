"""Which module, and which source, does HINet owe its skill to? The paper's two ablations, one command.

    python examples/studies/hail_ablation.py

On generated storms (`examples/studies/hail_study.py` says how): up to which module (ST-LSTM, TMC, TMC and
MDFFM, all), and with which sources (radar, then FY4B, ERA5 and DEM in turn), three seeds each, beside the
ceiling and the floor. Both readings of UCUNet's connection modules and both attentions are compared too.
Writes ``ablation.csv``; what is finished is read back.
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
READINGS = (
    Config("hinet ucm valid", "hail-hinet", HINET | {"ucm": "valid"}),
    Config("hinet attention opa", "hail-hinet", HINET | {"attention": "opa"}),
)


def main() -> None:
    parser = arguments(__doc__, "runs/hail_study")
    parser.add_argument("--only", choices=tuple(CONFIGS), help="one of the two, without the readings")
    options = parser.parse_args()
    configs = [*(each for name in CONFIGS if options.only in (None, name) for each in CONFIGS[name]), WHOLE]
    study = Study(options)
    rows = study.bounds()
    for seed in range(options.seeds):
        for config in configs:
            rows.append(study.row(config, seed))
        write_table(summary(study, rows), options.out / "ablation.csv")
    if options.only is None:
        rows += [study.row(config, 0) for config in READINGS]
        write_table(summary(study, rows), options.out / "ablation.csv")


if __name__ == "__main__":
    main()
