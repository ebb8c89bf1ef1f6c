"""MAD (arXiv 2002.10648): classifiers; the images on which two of them disagree most, and who is right there."""

from math import ceil
from typing import TYPE_CHECKING, Any

from competition.kinds.base import Evidence, Kind, Measure
from competition.kinds.mad.selecting import CLASSES_PER_TRIAL
from competition.models import Competition, Exhibit, ExhibitRole, Round
from competition.planning import Plan, Problem, out_of_bounds
from labeling.models import TrialKind, VerdictOutcome
from labeling.services import TrialSpec
from models_zoo.models import Scores, Task

if TYPE_CHECKING:
    from jobs.context import JobContext

UNUSABLE = (VerdictOutcome.DROPPED, VerdictOutcome.UNDECIDED)


class Mad(Kind):
    name = "mad"
    title = "MAD: classifiers"
    task = Task.CLASSIFICATION
    settings = ("k", "reserve", "threshold", "per_class_cap")
    protocols = ("verify",)
    measures = (Measure("mad", "Score", "entry of the Perron vector; the entries of all entrants sum to 1"),)

    def n_exhibits(self, plan: Plan) -> int:
        return plan.n_duels * (min(plan.k, plan.corpus.n_rows) if plan.corpus else plan.k)

    def n_control(self, plan: Plan) -> int:
        asking = plan.newcomers or len(plan.versions)
        distinct = min(asking, plan.taxonomy.n_classes) if plan.taxonomy else asking
        images = min(plan.control_size, plan.corpus.n_rows) if plan.corpus else plan.control_size
        return images * ceil(distinct / CLASSES_PER_TRIAL)

    def cheaper(self, plan: Plan, share: float) -> list[str]:
        affordable = int(share * plan.k)
        return [f"lower k to {affordable}"] if affordable else []

    def problems(self, plan: Plan) -> list[Problem]:
        per_pair = "choose at least 1 image per pair of models (30 is usual, the ranking is stable from 15)"
        spare = "choose 0 for no spare images, or as many as k"
        sure = "a confidence lies between 0 and 1 (0.8 is usual, 0 turns the filter off)"
        cap = "at least 1 image of a predicted class must be allowed (3 is usual)"
        found = out_of_bounds(
            [
                ("k", plan.k, 1, 10_000, per_pair),
                ("reserve", plan.reserve, 0, 10_000, spare),
                ("threshold", plan.threshold, 0, 1, sure),
                ("per_class_cap", plan.per_class_cap, 1, 10_000, cap),
            ]
        )
        return found + _label_space_problems(plan)

    def warnings(self, plan: Plan, scored: dict[int, Scores]) -> list[str]:
        found = []
        silent = [
            str(version) for version in plan.versions if version.pk in scored and not scored[version.pk].has_confidence
        ]
        if silent and plan.threshold > 0:
            found.append(
                f"No confidences are known of {', '.join(silent)}: their answers count as sure, the filter is off for "
                "them."
            )
        if plan.overlap % 2 == 0:
            found.append(
                f"{plan.overlap} people per exhibit can tie; ties cost one more judgement each. An odd number avoids "
                "them."
            )
        if plan.reserve == 0:
            found.append("Without a reserve, an image that people cannot label is not replaced.")
        if plan.taxonomy and not plan.taxonomy.edges and plan.taxonomy.kind == "flat":
            found.append(f'"{plan.taxonomy}" has no hierarchy: every two classes are equally far apart (0-1 distance).')
        if plan.corpus and plan.corpus.n_rows and plan.k > plan.corpus.n_rows:
            found.append(f"k is {plan.k}, but the corpus has only {plan.corpus.n_rows:,} images.")
        return found

    def select(self, *, round: Round, context: "JobContext") -> None:
        from competition.kinds.mad.selecting import answers_read, control_select, duels_select

        answers = answers_read(round.competition)
        duels_select(round=round, answers=answers, context=context)
        control_select(round=round, answers=answers)

    def campaign_settings(self, competition: Competition) -> dict[str, Any]:
        return {"protocol": "verify", "taxonomy": competition.taxonomy}

    def trial_spec(self, exhibit: Exhibit) -> TrialSpec:
        classes = sorted(label for label in (exhibit.class_first, exhibit.class_second) if label is not None)
        kind = TrialKind.CONTROL if exhibit.role == ExhibitRole.CONTROL else TrialKind.ORDINARY
        return TrialSpec(item=exhibit.item, classes=classes, kind=kind)

    def asking_order(self, exhibit: Exhibit, competition: Competition) -> tuple[Any, ...]:
        if exhibit.duel is None:
            step = competition.k / max(1, competition.control_size)
            return (exhibit.rank * step, 0, exhibit.item.row, exhibit.class_first or 0)
        return (exhibit.rank, 1, exhibit.duel.first.number, exhibit.duel.second.number)

    def verdict_facts(self, exhibit: Exhibit) -> dict[str, Any]:
        verdict = getattr(exhibit.trial, "verdict", None)
        if verdict is None:
            return {"right_first": None, "right_second": None, "dropped": False}
        if verdict.outcome in UNUSABLE and exhibit.role == ExhibitRole.SELECTED:
            return {"right_first": None, "right_second": None, "dropped": True}
        first, second = (
            None if label is None else verdict.value.get(str(label))
            for label in (exhibit.class_first, exhibit.class_second)
        )
        dropped = verdict.outcome == VerdictOutcome.DROPPED
        return {"right_first": first, "right_second": second, "dropped": dropped}

    def evidence(self, *, round: Round, everyone: bool) -> Evidence:
        from competition.kinds.mad.standings import evidence_gather

        return evidence_gather(round=round, everyone=everyone)


def _label_space_problems(plan: Plan) -> list[Problem]:
    """Entrants that predict in another label space than the competition's."""
    if plan.taxonomy is None:
        return []
    return [
        Problem(
            "versions",
            f'"{version}" predicts in the label space "{version.model.taxonomy}", but this competition asks in '
            f'"{plan.taxonomy}": entrants must share one label space, so leave it out or start another competition.',
        )
        for version in plan.versions
        if version.model.taxonomy_id != plan.taxonomy.pk
    ]


MAD = Mad()
