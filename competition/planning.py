"""What a competition would take: how many exhibits, judgements and how much scoring, and what stands in its way.

Plan: the settings of a competition that exists or is being thought about. Preview: what the plan amounts to.
Problem: why it cannot be launched, with the field at fault and the remedy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, comb
from typing import Any, Self

from competition.models import Competition
from corpora.models import Corpus, CorpusState, Taxonomy
from models_zoo.models import Scores, ScoresState, Version, VersionKind, VersionState

MAX_ENTRANTS = 200  # 19,900 duels; with k = 30 that is already 3 million judgements
CLASSES_PER_TRIAL = 2
SETTING_NAMES = ("k", "reserve", "threshold", "per_class_cap", "control_size", "overlap", "judgement_budget")


@dataclass(frozen=True)
class Plan:
    """Settings as in ``Competition``. ``newcomers``: the last of ``versions`` that were added after the launch;
    with any, only their duels are planned."""

    corpus: Corpus | None
    taxonomy: Taxonomy | None
    versions: Sequence[Version]
    k: int = 30
    reserve: int = 30
    threshold: float = 0.8
    per_class_cap: int = 3
    control_size: int = 30
    overlap: int = 5
    judgement_budget: int | None = None
    campaign_options: dict[str, Any] = field(default_factory=dict)
    newcomers: int = 0

    @classmethod
    def of(cls, competition: Competition, *, newcomers: Sequence[Version] = ()) -> Self:
        """The plan of a competition with its entrants, or of adding ``newcomers`` to it."""
        entered = [entrant.version for entrant in competition.entrants.with_versions()]
        return cls(
            corpus=competition.corpus,
            taxonomy=competition.taxonomy,
            versions=[*entered, *newcomers],
            newcomers=len(newcomers),
            **{name: getattr(competition, name) for name in (*SETTING_NAMES, "campaign_options")},
        )

    @property
    def n_duels(self) -> int:
        everyone, earlier = len(self.versions), len(self.versions) - self.newcomers
        return comb(everyone, 2) - (comb(earlier, 2) if self.newcomers else 0)


@dataclass(frozen=True)
class Problem:
    """``field``: a field of the plan; ``message``: names the thing, the value and the remedy."""

    field: str
    message: str


@dataclass(frozen=True)
class Preview:
    """What a plan amounts to. Exhibits and judgements are upper bounds: shared exhibits are asked once, and pairs may
    have fewer disagreements than k. ``scoring_seconds``: CPU time of one thread for what is not scored yet; None where
    a version was never measured."""

    n_entrants: int
    n_duels: int
    n_exhibits: int
    n_control: int
    n_judgements: int
    n_rows: int
    unscored: tuple[Version, ...]
    scoring_seconds: float | None
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]

    @property
    def can_launch(self) -> bool:
        return not self.problems


def preview(plan: Plan) -> Preview:
    """Count, estimate and check a plan; five queries at most, nothing that depends on the corpus's size."""
    n_exhibits, n_control, n_judgements = _counts(plan)
    scored = _scored(plan)
    unscored = tuple(version for version in plan.versions if version.pk not in scored)
    n_rows = plan.corpus.n_rows if plan.corpus else 0
    return Preview(
        n_entrants=len(plan.versions),
        n_duels=plan.n_duels,
        n_exhibits=n_exhibits,
        n_control=n_control,
        n_judgements=n_judgements,
        n_rows=n_rows,
        unscored=unscored,
        scoring_seconds=_scoring_seconds(unscored, n_rows),
        problems=tuple(_problems(plan, n_judgements)),
        warnings=tuple(_warnings(plan, scored)),
    )


def _counts(plan: Plan) -> tuple[int, int, int]:
    """Exhibits, control trials, judgements: upper bounds."""
    asking = plan.newcomers or len(plan.versions)
    n_exhibits = plan.n_duels * plan.k
    distinct = min(asking, plan.taxonomy.n_classes) if plan.taxonomy else asking
    n_control = plan.control_size * ceil(distinct / CLASSES_PER_TRIAL)
    if plan.corpus:
        n_control = min(n_control, plan.corpus.n_rows * ceil(distinct / CLASSES_PER_TRIAL))
        n_exhibits = min(n_exhibits, plan.n_duels * plan.corpus.n_rows)
    extra = sum(float(plan.campaign_options.get(name, 0)) for name in ("gold_share", "repeat_share"))
    return n_exhibits, n_control, round((n_exhibits + n_control) * plan.overlap * (1 + extra))


def _scored(plan: Plan) -> dict[int, Scores]:
    """Complete scores on the plan's corpus, by version."""
    if plan.corpus is None:
        return {}
    found = Scores.objects.filter(corpus=plan.corpus, version__in=plan.versions, state=ScoresState.COMPLETE)
    return {scores.version_id: scores for scores in found}


def _scoring_seconds(unscored: Sequence[Version], n_rows: int) -> float | None:
    measured = [0.0 if version.kind == VersionKind.PREDICTIONS else version.milliseconds for version in unscored]
    if any(milliseconds is None for milliseconds in measured):
        return None
    return sum(milliseconds for milliseconds in measured if milliseconds) * n_rows / 1000


def setting_problems(plan: Plan) -> list[Problem]:
    """What is wrong with the numbers alone."""
    bounds: list[tuple[str, float, float, float, str]] = [
        (
            "k",
            plan.k,
            1,
            10_000,
            "choose at least 1 image per pair of models (30 is usual, the ranking is stable from 15)",
        ),
        ("reserve", plan.reserve, 0, 10_000, "choose 0 for no spare images, or as many as k"),
        ("threshold", plan.threshold, 0, 1, "a confidence lies between 0 and 1 (0.8 is usual, 0 turns the filter off)"),
        (
            "per_class_cap",
            plan.per_class_cap,
            1,
            10_000,
            "at least 1 image of a predicted class must be allowed (3 is usual)",
        ),
        ("control_size", plan.control_size, 0, 100_000, "choose 0 for no control arm, or about 30"),
        ("overlap", plan.overlap, 1, 100, "at least 1 person must judge each exhibit (5 is usual)"),
    ]
    return [
        Problem(name, f"{name.replace('_', ' ').capitalize()} is {value:g}: {remedy}.")
        for name, value, low, high, remedy in bounds
        if not low <= value <= high
    ]


def label_space_problems(plan: Plan) -> list[Problem]:
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


def _problems(plan: Plan, n_judgements: int) -> list[Problem]:
    found = [*_entrant_problems(plan), *_corpus_problems(plan), *setting_problems(plan)]
    if plan.judgement_budget is not None and n_judgements > plan.judgement_budget:
        found.append(Problem("judgement_budget", _budget_message(plan, n_judgements)))
    return found


def _entrant_problems(plan: Plan) -> list[Problem]:
    found: list[Problem] = []
    if not plan.versions:
        found.append(Problem("versions", "There are no entrants: choose at least two model versions."))
    elif len(plan.versions) == 1:
        found.append(
            Problem(
                "versions", f'"{plan.versions[0]}" is the only entrant: add at least one version to compare it with.'
            )
        )
    elif len(plan.versions) > MAX_ENTRANTS:
        found.append(
            Problem(
                "versions", f"{len(plan.versions)} entrants make {plan.n_duels:,} duels: choose at most {MAX_ENTRANTS}."
            )
        )
    for version in plan.versions:
        found.extend(Problem("versions", message) for message in _version_messages(version, plan.corpus))
    return found + label_space_problems(plan)


def _version_messages(version: Version, corpus: Corpus | None) -> list[str]:
    if version.state == VersionState.CHECKING:
        return [f'"{version}" is still being checked: wait until it is verified, or leave it out.']
    if version.state == VersionState.REFUSED:
        reason = f" ({version.refusal.rstrip('.')})" if version.refusal else ""
        return [f'"{version}" was refused{reason}: leave it out or add a corrected version.']
    if version.kind == VersionKind.PREDICTIONS and corpus and version.corpus_id != corpus.pk:
        return [
            f'"{version}" is a predictions file for the corpus "{version.corpus}" and cannot say anything about '
            f'"{corpus}": leave it out or add its predictions for this corpus.'
        ]
    return []


def _corpus_problems(plan: Plan) -> list[Problem]:
    corpus = plan.corpus
    if corpus is None:
        return [Problem("corpus", "There is no corpus: choose the images to compete over.")]
    messages = {
        CorpusState.IMPORTING: f'Corpus "{corpus}" is still being imported: launch when it is ready.',
        CorpusState.FAILED: f'The import of corpus "{corpus}" failed: look at its page and import it again.',
    }
    if corpus.state in messages:
        return [Problem("corpus", messages[CorpusState(corpus.state)])]
    if corpus.n_rows == 0:
        return [Problem("corpus", f'Corpus "{corpus}" holds no images: import some or choose another one.')]
    return []


def _budget_message(plan: Plan, n_judgements: int) -> str:
    budget = plan.judgement_budget or 0
    control = n_judgements - round(n_judgements * _share_of_duels(plan))
    affordable = max(0, int((budget - control) / max(1, n_judgements - control) * plan.k))
    ways = [f"lower k to {affordable}"] if affordable else []
    ways.append("ask fewer people per exhibit" if plan.overlap > 1 else "enter fewer models")
    return (
        f"Up to {n_judgements:,} judgements may be needed, the budget is {budget:,}: "
        f"{', '.join(ways)}, or raise the budget."
    )


def _share_of_duels(plan: Plan) -> float:
    n_exhibits, n_control, _ = _counts(plan)
    return n_exhibits / max(1, n_exhibits + n_control)


def _warnings(plan: Plan, scored: dict[int, Scores]) -> list[str]:
    found = []
    silent = [
        str(version) for version in plan.versions if version.pk in scored and not scored[version.pk].has_confidence
    ]
    if silent and plan.threshold > 0:
        found.append(
            f"No confidences are known of {', '.join(silent)}: their answers count as sure, the filter is off for them."
        )
    if plan.overlap % 2 == 0:
        found.append(
            f"{plan.overlap} people per exhibit can tie; ties cost one more judgement each. An odd number avoids them."
        )
    if plan.reserve == 0:
        found.append("Without a reserve, an image that people cannot label is not replaced.")
    if plan.taxonomy and not plan.taxonomy.edges and plan.taxonomy.kind == "flat":
        found.append(f'"{plan.taxonomy}" has no hierarchy: every two classes are equally far apart (0-1 distance).')
    if plan.corpus and plan.corpus.n_rows and plan.k > plan.corpus.n_rows:
        found.append(f"k is {plan.k}, but the corpus has only {plan.corpus.n_rows:,} images.")
    return found
