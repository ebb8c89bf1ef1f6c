"""What self-gMAD and self-MAD share: one version, the target, against random ensembles of its own pruned variants.

The loop is that of arXiv 2105.06747; its figures (how many variants, how they are drawn, what counts as a failure) are
this project's own. Target and ensembles are entrants of one round; the next round has new ones.
"""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from accounts.errors import DomainError
from accounts.permissions import require_view
from competition.kinds.base import Kind, Options
from competition.models import Competition, Entrant, Round, RoundState
from competition.planning import Plan, Problem
from models_zoo.models import Purpose, Scores, Version, VersionKind
from training.models import Edition

if TYPE_CHECKING:
    from accounts.models import User
    from jobs.context import JobContext


class SelfOptions(Options):
    """Settings of a competition that troubleshoots one version."""

    edition: int = Field(
        0, ge=0, title="Labelled set", description="What the target was trained on; old labels that are not forgotten"
    )
    variants: int = Field(8, ge=2, le=32, title="Variants", description="Pruned copies of the target (V)")
    ensembles: int = Field(
        5,
        ge=1,
        le=50,
        title="Ensembles",
        description="Random mixtures of variants, the competitors (E); no extra passes",
    )
    budget: int = Field(200, ge=4, le=10_000, title="Images per round", description="Shown to people at most")
    prune_preset: str = Field("small", title="Pruning preset", description="Of the method “prune”")
    finetune_preset: str = Field(
        "small", title="Fine-tuning preset", description="Of the method “finetune”: small for a CPU, large for a GPU"
    )
    finetune_steps: int | None = Field(
        None, ge=1, title="Fine-tuning steps", description="Instead of the preset's; empty: as the preset says"
    )


class SelfKind(Kind):
    """A kind that is about one target."""

    troubleshoots = True
    first_state = RoundState.PREPARING

    def n_duels(self, n_entrants: int, newcomers: int, options: dict[str, Any]) -> int:
        """The target meets every ensemble."""
        return (1 + self.is_directed) * self.Options(**options).ensembles  # type: ignore[attr-defined]

    def entrants(self, round: Round) -> list[Entrant]:
        found: list[Entrant] = list(round.competition.entrants.with_versions().filter(round=round))
        return found

    def passes(self, plan: Plan) -> list[Version]:
        return [*plan.versions] * self.Options(**plan.options).variants  # type: ignore[attr-defined]

    def problems(self, plan: Plan) -> list[Problem]:
        options: SelfOptions = self.Options(**plan.options)  # type: ignore[assignment]
        found = [Problem(name, message) for name, message in _target_problems(plan)]
        edition = edition_of(options)
        if edition is None:
            message = "There is no labelled set: choose the edition that the target was trained on, or make one."
            return [*found, Problem("edition", message)]
        if edition.labelled_set.task != self.task:
            message = f'"{edition}" holds labels for another task ({edition.labelled_set.get_task_display().lower()}).'
            found.append(Problem("edition", message))
        if plan.taxonomy and edition.labelled_set.taxonomy_id != plan.taxonomy.pk:
            message = f'The labels of "{edition}" are of another label space than "{plan.taxonomy}".'
            found.append(Problem("edition", message))
        return found

    def warnings(self, plan: Plan, scored: dict[int, Scores]) -> list[str]:
        if plan.overlap < 2:
            return ["One answer per image has no interval: no failure can be told from noise. 5 people are usual."]
        return []

    def require_view(self, *, options: dict[str, Any], by: "User") -> None:
        edition = edition_of(self.Options(**options))  # type: ignore[arg-type]
        if edition is not None:
            require_view(by, edition.labelled_set)

    def prepare(self, *, round: Round, context: "JobContext") -> None:
        from competition.kinds.troubleshooting.preparing import round_prepare

        round_prepare(round=round, context=context)


def _target_problems(plan: Plan) -> list[tuple[str, str]]:
    return [
        ("versions", f'"{version}" is {VersionKind(version.kind).label.lower()}: only a registered architecture with '
         "weights can be pruned and trained.")
        for version in plan.versions
        if version.kind != VersionKind.TORCH
    ]  # fmt: skip


def edition_of(options: SelfOptions) -> Edition | None:
    return Edition.objects.select_related("labelled_set__taxonomy").filter(pk=options.edition).first()


def edition_require(options: SelfOptions) -> Edition:
    """Raises DomainError where it is gone."""
    edition = edition_of(options)
    if edition is None:
        raise DomainError("The labelled set of this competition is gone: make a new competition.", field="edition")
    return edition


def targets(competition: Competition) -> list[Entrant]:
    """The target of each round, first to last; before the launch the version that was entered."""
    entered = competition.entrants.with_versions().filter(version__purpose=Purpose.USE)
    return list(entered)


def target_of(round_: Round) -> Entrant:
    """The target of a round."""
    found: Entrant = round_.competition.entrants.with_versions().filter(
        round=round_, version__purpose=Purpose.USE
    ).get()  # fmt: skip
    return found


def targets_here(round_: Round) -> list[Entrant]:
    """The round's target, then the one of the round before: the two that its images can compare."""
    known = {entrant.round_id: entrant for entrant in targets(round_.competition)}
    before = round_before(round_)
    found = [known[round_.pk]]
    return [*found, known[before.pk]] if before is not None and before.pk in known else found


def round_before(round_: Round) -> Round | None:
    found: Round | None = (
        Round.objects.select_related("learn_run", "prepare_run", "edition")
        .filter(competition=round_.competition_id, number=round_.number - 1)
        .first()
    )
    return found
