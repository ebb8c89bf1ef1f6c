"""Trials about rows of a corpus: the rows become items, the items trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accounts.errors import DomainError
from accounts.models import User
from accounts.permissions import require_edit
from corpora.models import Corpus, Item
from corpora.services import item_ensure
from labeling.models import Campaign, Trial
from labeling.services.campaigns import TrialSpec, trials_add


@dataclass(frozen=True)
class RowSpec:
    """``TrialSpec`` with rows of one corpus in place of items."""

    row: int
    second: int | None = None
    reference: int | None = None
    classes: Sequence[int] = ()
    kind: str = "ordinary"
    expected: Mapping[Any, Any] | None = None
    explanation: str = ""

    @property
    def rows(self) -> list[int]:
        return [row for row in (self.row, self.second, self.reference) if row is not None]


def rows_ask(*, campaign: Campaign, corpus: Corpus, asked: Sequence[RowSpec], by: User) -> list[Trial]:
    """Ask about rows of a corpus; the same question about the same pictures is asked once.

    Returns:
        The trial of each spec, in their order.

    Raises:
        DomainError: an unknown corpus or row, or as ``trials_add``.
    """
    require_edit(by, campaign, action="add trials to")
    if not Corpus.objects.visible_to(by).filter(pk=corpus.pk).exists():
        raise DomainError(f"There is no corpus {corpus.pk}.", field="corpus")
    wanted = sorted({row for spec in asked for row in spec.rows})
    items = item_ensure(corpus=corpus, rows=wanted)
    return trials_add(campaign=campaign, by=by, trials=[_trial_spec(spec, items) for spec in asked])


def _trial_spec(spec: RowSpec, items: Mapping[int, Item]) -> TrialSpec:
    return TrialSpec(
        item=items[spec.row],
        classes=spec.classes,
        kind=spec.kind,
        expected=spec.expected,
        explanation=spec.explanation,
        second=None if spec.second is None else items[spec.second],
        reference=None if spec.reference is None else items[spec.reference],
    )
