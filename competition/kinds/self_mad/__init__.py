"""self-MAD: one classifier against random ensembles of its own pruned variants.

The images on which the target and an ensemble disagree most confidently and by the largest distance are selected as in
MAD (arXiv 2002.10648); people say who is right, and the target learns the classes. Variants, ensembles and the loop
are those of self-gMAD (arXiv 2105.06747); their use for classifiers is this project's own.
"""

from math import ceil
from typing import TYPE_CHECKING, Any

from competition.kinds.base import Evidence, Measure
from competition.kinds.mad import MAD
from competition.kinds.mad.selecting import CLASSES_PER_TRIAL
from competition.kinds.troubleshooting import SelfKind, SelfOptions
from competition.models import Competition, Exhibit, Round
from competition.planning import Plan, Problem, out_of_bounds
from labeling.services import TrialSpec
from models_zoo.models import Task

if TYPE_CHECKING:
    from jobs.context import JobContext


class SelfMadOptions(SelfOptions):
    """Settings of a self-MAD competition alone."""


class SelfMad(SelfKind):
    name = "self_mad"
    title = "self-MAD: troubleshoot a classifier"
    task = Task.CLASSIFICATION
    settings = ("k", "reserve", "threshold", "per_class_cap")
    Options = SelfMadOptions
    protocols = ("verify",)
    measures = (Measure("failures", "Failures", "share of exhibits on which the target is wrong"),)

    def n_exhibits(self, plan: Plan) -> int:
        rows = plan.corpus.n_rows if plan.corpus else plan.k
        return min(plan.n_duels * min(plan.k, rows), SelfMadOptions(**plan.options).budget)

    def n_control(self, plan: Plan) -> int:
        images = min(plan.control_size, plan.corpus.n_rows) if plan.corpus else plan.control_size
        return images * ceil((1 + SelfMadOptions(**plan.options).ensembles) / CLASSES_PER_TRIAL)

    def cheaper(self, plan: Plan, share: float) -> list[str]:
        affordable = int(share * plan.k)
        return [f"lower k to {affordable}"] if affordable else []

    def problems(self, plan: Plan) -> list[Problem]:
        bounds = [
            ("k", plan.k, 1, 10_000, "choose at least 1 image per ensemble"),
            ("reserve", plan.reserve, 0, 10_000, "choose 0 for no spare images"),
            ("threshold", plan.threshold, 0, 1, "a confidence lies between 0 and 1; pruned ensembles are rarely sure"),
            ("per_class_cap", plan.per_class_cap, 1, 10_000, "at least 1 image of a predicted class must be allowed"),
        ]
        return [*super().problems(plan), *out_of_bounds(bounds)]

    def select(self, *, round: Round, context: "JobContext") -> None:
        from competition.kinds.self_mad.selecting import round_select

        round_select(round=round, context=context)

    def campaign_settings(self, competition: Competition) -> dict[str, Any]:
        return {"protocol": "verify", "taxonomy": competition.taxonomy}

    def trial_spec(self, exhibit: Exhibit) -> TrialSpec:
        return MAD.trial_spec(exhibit)

    def asking_order(self, exhibit: Exhibit, competition: Competition) -> tuple[Any, ...]:
        return MAD.asking_order(exhibit, competition)

    def verdict_facts(self, exhibit: Exhibit) -> dict[str, Any]:
        return MAD.verdict_facts(exhibit)

    def evidence(self, *, round: Round, everyone: bool) -> Evidence:
        from competition.kinds.self_mad.standings import evidence_gather

        return evidence_gather(round=round, everyone=everyone)


SELF_MAD = SelfMad()
