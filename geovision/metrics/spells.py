"""How long it stays dry and how long wet: scores of fields that need to know which day follows which."""

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
    """The difference of the longest spells, which needs to know which day follows which."""

    group: list[Tensor]
    begins: list[Tensor]

    def __init__(self, index: Callable[..., Tensor]) -> None:
        super().__init__(partial(spell_bias, index))
        self.add_state("group", [], dist_reduce_fx="cat")
        self.add_state("begins", [], dist_reduce_fx="cat")

    def update(  # type: ignore[override]  # the order of days is part of what is scored
        self, preds: Tensor, target: Tensor, group: Tensor, begins: Tensor
    ) -> None:
        """Add days in order of time.

        Args:
            preds, target: ``(day, 1, y, x)``.
            group: ``(day,)``, number of the group of each day.
            begins: ``(day,)`` of bool, days that do not follow the one before.
        """
        super().update(preds, target)
        self.group.append(group)
        self.begins.append(begins)

    def compute(self) -> Tensor:
        prediction, truth, group, begins = (
            dim_zero_cat(state) for state in (self.prediction, self.truth, self.group, self.begins)
        )
        return self.score(prediction, truth, groups=group.tolist(), begins=begins)


def _spells(target: Target, name: str, index: Callable[..., Tensor]) -> SpellBias:
    if not isinstance(target, FieldTarget):
        raise NotApplicable(f"metric {name!r} scores fields, not a {target.kind}")
    return SpellBias(index)


def cdd_bias(target: Target, threshold: float = WET_DAY) -> SpellBias:
    """Mean over groups and cells of the difference of the longest dry spells (CDD), in days."""
    return _spells(target, "cdd_bias", partial(cdd, threshold=threshold))


def cwd_bias(target: Target, threshold: float = WET_DAY) -> SpellBias:
    """Mean over groups and cells of the difference of the longest wet spells (CWD), in days."""
    return _spells(target, "cwd_bias", partial(cwd, threshold=threshold))
