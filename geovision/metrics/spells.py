"""Biases of dry and wet spells, which depend on the order of days."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from geovision.metrics import NotApplicable
from geovision.metrics.field_metrics import FullFieldBias
from geovision.metrics.functional.extremes import WET_DAY, cdd, cwd, spell_bias
from geovision.spec import FieldTarget, Target

__all__ = ["SpellBias", "cdd_bias", "cwd_bias"]


class SpellBias(FullFieldBias):
    """Mean difference of the longest spells.

    Args:
        index: Function that computes the longest spell, such as
            `geovision.metrics.functional.extremes.cdd`.
    """

    group: list[Tensor]
    begins: list[Tensor]

    def __init__(self, index: Callable[..., Tensor]) -> None:
        super().__init__(partial(spell_bias, index))
        self.add_state("group", [], dist_reduce_fx="cat")
        self.add_state("begins", [], dist_reduce_fx="cat")

    def update(  # type: ignore[override]  # needs the order of days
        self, preds: Tensor, target: Tensor, group: Tensor, begins: Tensor
    ) -> None:
        """Add days in order of time.

        Args:
            preds: Predictions, shape (day, 1, y, x).
            target: Targets, same shape.
            group: Number of the group of each day, shape (day,).
            begins: Days that do not follow the day before, bool, shape (day,).
        """
        super().update(preds, target)
        self.group.append(group)
        self.begins.append(begins)

    def compute(self) -> Tensor:
        """Return the mean difference of the longest spells, in days."""
        prediction, truth, group, begins = (
            dim_zero_cat(state) for state in (self.prediction, self.truth, self.group, self.begins)
        )
        return self.score(prediction, truth, groups=group.tolist(), begins=begins)


def _spells(target: Target, name: str, index: Callable[..., Tensor]) -> SpellBias:
    if not isinstance(target, FieldTarget):
        raise NotApplicable(f"metric {name!r} scores fields, not a {target.kind}")
    return SpellBias(index)


def cdd_bias(target: Target, threshold: float = WET_DAY) -> SpellBias:
    """Compute the mean bias of the longest dry spell (CDD), in days.

    Mean over groups and cells; 0 is best. See `geovision.metrics.functional.extremes.spell_bias`.

    Args:
        target: Target with a field.
        threshold: Least value of a wet day, in the unit of the field.
    """
    return _spells(target, "cdd_bias", partial(cdd, threshold=threshold))


def cwd_bias(target: Target, threshold: float = WET_DAY) -> SpellBias:
    """Compute the mean bias of the longest wet spell (CWD), in days.

    Mean over groups and cells; 0 is best. See `geovision.metrics.functional.extremes.spell_bias`.

    Args:
        target: Target with a field.
        threshold: Least value of a wet day, in the unit of the field.
    """
    return _spells(target, "cwd_bias", partial(cwd, threshold=threshold))
