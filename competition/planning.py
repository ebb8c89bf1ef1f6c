"""What a competition would take: how many exhibits, judgements and how much scoring, and what stands in its way.

Plan: the settings of a competition that exists or is being thought about. Preview: what the plan amounts to.
Problem: why it cannot be launched, with the field at fault and the remedy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from competition.models import Competition
from corpora.models import Corpus, CorpusState, Taxonomy
from models_zoo.models import Purpose, Scores, ScoresState, Version, VersionKind, VersionState
from models_zoo.reading import passes_of

if TYPE_CHECKING:
    from competition.kinds import Kind

MAX_ENTRANTS = 200  # 19,900 duels; with k = 30 that is already 3 million judgements
SETTING_NAMES = ("k", "reserve", "threshold", "per_class_cap", "control_size", "overlap", "judgement_budget")


@dataclass(frozen=True)
class Plan:
    """Settings as in ``Competition``. ``options``: those of the kind alone.

    ``newcomers``: the last of ``versions`` that were added after the launch; with any, only their duels are planned.
    """

    corpus: Corpus | None
    taxonomy: Taxonomy | None
    versions: Sequence[Version]
    kind: str = "mad"
    options: dict[str, Any] = field(default_factory=dict)
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
        if _kind(competition.kind).troubleshoots:  # the newest target; its competitors are made by its rounds
            entered = [version for version in entered if version.purpose == Purpose.USE][-1:]
        return cls(
            corpus=competition.corpus,
            taxonomy=competition.taxonomy,
            versions=[*entered, *newcomers],
            newcomers=len(newcomers),
            **{name: getattr(competition, name) for name in (*SETTING_NAMES, "kind", "options", "campaign_options")},
        )

    @property
    def n_duels(self) -> int:
        return kind_of(self).n_duels(len(self.versions), self.newcomers, self.options)


def kind_of(plan: Plan) -> "Kind":
    """The kind of a plan."""
    return _kind(plan.kind)


def _kind(name: str) -> "Kind":
    from competition.kinds import KINDS

    return KINDS[name]


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
        scoring_seconds=_scoring_seconds([*unscored, *kind_of(plan).passes(plan)], n_rows),
        problems=tuple(_problems(plan, n_judgements)),
        warnings=tuple(_warnings(plan, scored)),
    )


def _counts(plan: Plan) -> tuple[int, int, int]:
    """Exhibits, control trials, judgements: upper bounds."""
    kind = kind_of(plan)
    n_exhibits, n_control = kind.n_exhibits(plan), kind.n_control(plan)
    extra = sum(float(plan.campaign_options.get(name, 0)) for name in ("gold_share", "repeat_share"))
    return n_exhibits, n_control, round((n_exhibits + n_control) * plan.overlap * (1 + extra))


def _scored(plan: Plan) -> dict[int, Scores]:
    """Complete scores on the plan's corpus, by version."""
    if plan.corpus is None:
        return {}
    found = Scores.objects.filter(corpus=plan.corpus, version__in=plan.versions, state=ScoresState.COMPLETE)
    return {scores.version_id: scores for scores in found}


def _scoring_seconds(unscored: Sequence[Version], n_rows: int) -> float | None:
    measured = [
        0.0 if version.kind == VersionKind.PREDICTIONS else version.milliseconds for version in passes_of(unscored)
    ]
    if any(milliseconds is None for milliseconds in measured):
        return None
    return sum(milliseconds for milliseconds in measured if milliseconds) * n_rows / 1000


def setting_problems(plan: Plan) -> list[Problem]:
    """What is wrong with the settings, and with entrants that do not fit them."""
    common: list[Bound] = [
        ("control_size", plan.control_size, 0, 100_000, "choose 0 for no control arm, or about 30"),
        ("overlap", plan.overlap, 1, 100, "at least 1 person must judge each exhibit (5 is usual)"),
    ]
    found = out_of_bounds(common)
    others = [version for version in plan.versions if version.model.task != kind_of(plan).task]
    found.extend(
        Problem(
            "versions",
            f'"{version}" is made for the task {version.model.get_task_display().lower()}: it cannot compete here.',
        )
        for version in others
    )
    return found if others else found + kind_of(plan).problems(plan)


Bound = tuple[str, float, float, float, str]
"""Field, value, lowest, highest, remedy."""


def out_of_bounds(bounds: Sequence[Bound]) -> list[Problem]:
    """A problem for each value beyond its bounds."""
    return [
        Problem(name, f"{name.replace('_', ' ').capitalize()} is {value:g}: {remedy}.")
        for name, value, low, high, remedy in bounds
        if not low <= value <= high
    ]


def _problems(plan: Plan, n_judgements: int) -> list[Problem]:
    found = [*_entrant_problems(plan), *_corpus_problems(plan), *setting_problems(plan)]
    if plan.judgement_budget is not None and n_judgements > plan.judgement_budget:
        found.append(Problem("judgement_budget", _budget_message(plan, n_judgements)))
    return found


def _entrant_problems(plan: Plan) -> list[Problem]:
    found: list[Problem] = []
    if kind_of(plan).troubleshoots:
        if len(plan.versions) != 1:
            found.append(
                Problem("versions", f"{len(plan.versions)} versions are chosen: choose the one to troubleshoot.")
            )
    elif not plan.versions:
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
    return found


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
    share = max(0.0, (budget - control) / max(1, n_judgements - control))
    ways = kind_of(plan).cheaper(plan, share)
    ways.append("ask fewer people per exhibit" if plan.overlap > 1 else "enter fewer models")
    return (
        f"Up to {n_judgements:,} judgements may be needed, the budget is {budget:,}: "
        f"{', '.join(ways)}, or raise the budget."
    )


def _share_of_duels(plan: Plan) -> float:
    n_exhibits, n_control, _ = _counts(plan)
    return n_exhibits / max(1, n_exhibits + n_control)


def _warnings(plan: Plan, scored: dict[int, Scores]) -> list[str]:
    return kind_of(plan).warnings(plan, scored)
