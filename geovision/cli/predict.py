"""Command `geovision predict`: predict files."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geovision.cli._model_argument import open_model
from geovision.cli._output import (
    FileNames,
    TableFormat,
    align_columns,
    examples_epilog,
    print_status,
    write_rows,
)

if TYPE_CHECKING:
    from geovision.heads.prediction import Prediction
    from geovision.models.geomodel import GeoModel

__all__ = ["Language", "register"]


class Language(enum.StrEnum):
    """Languages of the class cards."""

    en = "en"
    zh = "zh"


_CAUTION = {Language.en: "caution", Language.zh: "注意"}


class InferencePrecision(enum.StrEnum):
    """Arithmetic of the forward pass."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


PrecisionOption = Annotated[
    InferencePrecision,
    typer.Option(
        help="Numeric precision. auto: bfloat16 if it is faster and accurate enough, else float32. "
        "int8: convolutions in 8-bit integers."
    ),
]


def register(app: typer.Typer) -> None:
    """Add `predict` to the application."""
    app.command(
        "predict",
        epilog=examples_epilog(
            "geovision predict cloud-mobilenetv2 sky.jpg",
            "geovision predict cloud-mobilenetv2 holiday/ 'more/*.png' --format csv > predictions.csv",
            "geovision predict runs/mine sky.jpg --card --lang zh",
            "geovision predict runs/hail samples/ --out masks",
        ),
    )(predict)


def predict(
    model: Annotated[str, typer.Argument(help="Name, hf:owner/repo, or folder of a trained model.")],
    inputs: Annotated[list[str], typer.Argument(help="Files, folders or glob patterns.", metavar="INPUT...")],
    weights: Annotated[
        str | None,
        typer.Option(help="Tag or folder of the weights. Default: the default weights of the model."),
    ] = None,
    output_format: Annotated[
        TableFormat, typer.Option("--format", help="Format of the output.")
    ] = TableFormat.table,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of inputs per forward pass.")] = 32,
    precision: PrecisionOption = InferencePrecision.auto,
    top_k: Annotated[int, typer.Option(min=1, help="Number of most probable classes in the output.")] = 3,
    lang: Annotated[Language, typer.Option(help="Language of class names, words and cards.")] = Language.en,
    card: Annotated[
        bool, typer.Option("--card", help="Add the facts about the most probable class.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Output folder of a NetCDF file and a figure of each mask or field.")
    ] = None,
) -> None:
    """Predict classes, masks or fields of photos or other files.

    Classes: the most probable classes with calibrated probabilities, and flags of doubtful
    inputs. Masks: the number of positive cells, the number of valid cells and the highest
    probability. With --out, the mask itself is written, with the grid and time of its input.

    Unreadable files are listed on standard error, the others are predicted, and the exit code is
    1.
    """
    from geovision.models._predict import iter_predict

    opened = open_model(model, weights)
    maps = None if out is None else _DensePredictionFiles(out, opened)
    predictions = iter_predict(
        opened, inputs, batch_size=batch_size, precision=precision.value, skip_errors=True
    )
    unreadable: list[Prediction] = []
    cards: dict[str, dict[str, str]] = {}

    def rows() -> Iterator[dict[str, Any]]:
        for prediction in predictions:
            if "unreadable" in prediction.flags:
                unreadable.append(prediction)
                print_status(prediction.error or prediction.source)
                continue
            row = _row(prediction, top_k, lang)
            if maps is not None:
                row["map"] = maps.save(prediction)
            if card:
                row["card"] = _facts(prediction, lang)
                cards.setdefault(f"{row['label']} {row['name']}", row["card"])
            yield row

    columns = [
        *_columns(opened, top_k, card=card and output_format is TableFormat.csv),
        *(["map"] if maps is not None else []),
    ]
    write_rows(rows(), columns, output_format)
    if output_format is TableFormat.table:
        print("\n".join(_format_cards(cards)), end="")
    if unreadable:
        print_status(f"unreadable files: {len(unreadable)}")
        raise typer.Exit(1)


class _DensePredictionFiles:
    """Writer of mask and field predictions."""

    def __init__(self, folder: Path, model: GeoModel) -> None:
        from geovision.inference import PredictionWriter

        self.files = PredictionWriter(folder, model)
        self.names = FileNames()

    def save(self, prediction: Prediction) -> str:
        """Write one prediction and return the path of its file."""
        name = self.names.unique_name(prediction.source)
        return str(self.files.save(prediction, name)[0])  # type: ignore[arg-type]


_MASK_COLUMNS = ("name", "cells", "valid_cells", "highest")


def _columns(model: GeoModel, top: int, *, card: bool) -> list[str]:
    """Return the column names of a table or CSV."""
    from geovision.spec import MaskTarget

    if isinstance(model.target, MaskTarget):
        return ["source", *_MASK_COLUMNS, "flags"]
    first = ["label", "name", "probability", "word"]
    others = [name for rank in range(2, top + 1) for name in (f"label_{rank}", f"probability_{rank}")]
    return ["source", *first, *others, "flags", *(["card"] if card else [])]


def _row(prediction: Prediction, top: int, lang: Language) -> dict[str, Any]:
    """Return a prediction as plain data, with texts in `lang`."""
    from geovision.heads.prediction import ClassPrediction, MaskPrediction, confidence_word

    row: dict[str, Any] = {"source": prediction.source, "flags": list(prediction.flags)}
    if isinstance(prediction, ClassPrediction):
        row |= {
            "label": prediction.label,
            "name": getattr(prediction.card.name, lang) if prediction.card else "",
            "probability": prediction.confidence,
            "word": confidence_word(prediction.confidence, lang.value),
            "outlier_score": prediction.outlier_score,
        }
        for rank, (label, probability) in enumerate(prediction.top(top)[1:], 2):
            row |= {f"label_{rank}": label, f"probability_{rank}": probability}
    if isinstance(prediction, MaskPrediction):
        found = prediction.as_dict()
        row |= {name: found[name] for name in _MASK_COLUMNS}
    return row


def _facts(prediction: Prediction, lang: Language) -> dict[str, str]:
    """Return the facts about the most probable class, by heading; empty without a card."""
    card = getattr(prediction, "card", None)
    if card is None:
        return {}
    facts = {getattr(fact.heading, lang): getattr(fact.text, lang) for fact in card.facts}
    return facts | ({_CAUTION[lang]: getattr(card.caution, lang)} if card.caution else {})


def _format_cards(cards: dict[str, dict[str, str]]) -> Iterator[str]:
    """Format the cards as lines below a table."""
    for title, facts in cards.items():
        yield f"\n{title}"
        yield from (f"  {line}" for line in align_columns(list(facts.items())))
    if cards:
        yield ""
