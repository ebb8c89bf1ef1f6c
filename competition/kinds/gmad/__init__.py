"""gMAD (CVPR 2016): quality models; within what one finds equally good, another picks its best and its worst.

Attacker, defender: the two entrants of a duel. Level: a set of images that the defender finds equally good.
Calibration: the monotone map of each entrant's scores to one scale of 0 to 100. Preference: what people said of a pair,
-100 … 100, above zero where they agree with the attacker.
"""

from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from accounts.option_fields import TITLES
from competition.kinds.base import Evidence, Kind, Measure, Options
from competition.models import Competition, Exhibit, ExhibitRole, Round
from competition.planning import Plan, Problem
from labeling.models import TrialKind, VerdictOutcome
from labeling.protocols import PROTOCOLS
from labeling.services import TrialSpec
from models_zoo.models import Scores, Task

if TYPE_CHECKING:
    from jobs.context import JobContext

FULL_SCALE = 100.0  # of a preference


class GmadOptions(Options):
    """Settings of a gMAD competition alone."""

    levels: int = Field(6, ge=1, le=50, title="Levels", description="Of each defender (K); 6 is usual")
    level_kind: Literal["equal_width", "equal_count"] = Field(
        "equal_width",
        title="Kind of levels",
        description="Equal width: scores closer to a centre than the half width; equal count: quantiles of the corpus",
    )
    half_width: float = Field(
        9.0,
        gt=0,
        le=100,
        title="Half width",
        description="Of equal-width levels, on the scale of 0 to 100; 9 was the mean deviation of ratings in the study",
    )
    calibration: Literal["auto", "logistic", "quantile"] = Field(
        "auto",
        title="Calibration",
        description="Logistic: fitted to the corpus's opinion scores; quantile: by place in the corpus; auto: the "
        "first that is possible",
    )
    top: int = Field(1, ge=1, le=50, title="Pairs per cell", description="Disjoint pairs per attacker and level")
    image_cap: int | None = Field(
        None, ge=1, title="Cap per image", description="Different pairs that may show one image; empty: no cap"
    )
    same_source: bool = Field(
        True, title="Keep sources apart", description="Never pair two versions of one source picture"
    )
    protocol: Literal["compare", "forced", "ccr"] = Field(
        "compare",
        title="Protocol",
        description="How people compare the two images",
        json_schema_extra={TITLES: {name: PROTOCOLS[name].title for name in ("compare", "forced", "ccr")}},
    )
    solver: Literal["exact", "published"] = Field(
        "exact",
        title="Global ranking",
        description="Exact: Thurstone's model by its likelihood; published: the approximation that the study used",
    )


class Gmad(Kind):
    name = "gmad"
    title = "gMAD: quality models"
    task = Task.QUALITY
    Options = GmadOptions
    protocols = ("compare", "forced", "ccr")
    measures = (
        Measure("aggressiveness", "Aggressiveness", "how well it falsifies others, on Thurstone's scale; sums to 0"),
        Measure("resistance", "Resistance", "how well it withstands others, on Thurstone's scale; sums to 0"),
    )
    is_directed = True

    def n_exhibits(self, plan: Plan) -> int:
        options = GmadOptions(**plan.options)
        return plan.n_duels * options.levels * options.top

    def n_control(self, plan: Plan) -> int:
        return 0 if plan.newcomers else plan.control_size

    def cheaper(self, plan: Plan, share: float) -> list[str]:
        affordable = int(share * GmadOptions(**plan.options).levels)
        return [f"choose {affordable} levels"] if affordable else []

    def problems(self, plan: Plan) -> list[Problem]:
        options = GmadOptions(**plan.options)
        found = []
        if plan.corpus and options.calibration == "logistic" and not plan.corpus.n_rated:
            found.append(
                Problem(
                    "calibration",
                    f'Corpus "{plan.corpus}" has no opinion scores to fit a logistic to: attach some on its page, or '
                    "choose the quantile calibration.",
                )
            )
        return found

    def warnings(self, plan: Plan, scored: dict[int, Scores]) -> list[str]:
        options = GmadOptions(**plan.options)
        found = []
        if plan.corpus and not plan.corpus.n_rated and options.calibration == "auto":
            found.append(
                f'Corpus "{plan.corpus}" has no opinion scores: entrants are calibrated by their quantiles on it.'
            )
        if plan.corpus and 0 < plan.corpus.n_rows < 100 * options.levels:
            found.append(
                f"The corpus has only {plan.corpus.n_rows:,} images for {options.levels} levels: expect small or empty "
                "levels; more images find stronger counterexamples."
            )
        missing = [f"{version} ({scored[version.pk].n_missing:,})" for version in plan.versions
                   if version.pk in scored and scored[version.pk].n_missing]  # fmt: skip
        if missing:
            found.append(f"Images without a score are never selected: {', '.join(missing)}.")
        return found

    def select(self, *, round: Round, context: "JobContext") -> None:
        from competition.kinds.gmad.selecting import round_select

        round_select(round=round, context=context)

    def campaign_settings(self, competition: Competition) -> dict[str, Any]:
        return {"protocol": self.options(competition).protocol, "taxonomy": None, "repeat_share": 0.1}

    def trial_spec(self, exhibit: Exhibit) -> TrialSpec:
        kind = TrialKind.CONTROL if exhibit.role == ExhibitRole.CONTROL else TrialKind.ORDINARY
        return TrialSpec(item=exhibit.item, second=exhibit.second_item, kind=kind)

    def asking_order(self, exhibit: Exhibit, competition: Competition) -> tuple[Any, ...]:
        """All duels at first, each with another level; further pairs of a cell later."""
        options = self.options(competition)
        if exhibit.duel is None:
            step = options.top * options.levels / max(1, competition.control_size)
            return (ceil(exhibit.rank * step), 0, exhibit.item.row, 0)
        attacker, defender = exhibit.duel.first.number, exhibit.duel.second.number
        turn = ((exhibit.level or 0) + attacker + defender) % options.levels
        return ((exhibit.rank - 1) * options.levels + turn, 1, attacker, defender)

    def verdict_facts(self, exhibit: Exhibit) -> dict[str, Any]:
        verdict = getattr(exhibit.trial, "verdict", None)
        if verdict is None or exhibit.trial is None:
            return {"preference": None, "dropped": False}
        if verdict.outcome != VerdictOutcome.SETTLED:
            return {"preference": None, "dropped": True}
        protocol = self.options(exhibit.round.competition).protocol
        return {
            "preference": preference_of(exhibit, exhibit.trial.item_id, verdict.value["mean"], protocol),
            "dropped": False,
        }

    def evidence(self, *, round: Round, everyone: bool) -> Evidence:
        from competition.kinds.gmad.standings import evidence_gather

        return evidence_gather(round=round, everyone=everyone)


def preference_of(exhibit: Exhibit, first_item: int, number: float, protocol: str) -> float:
    """An answer in trial order (``first_item`` is its first picture) as a preference for what the attacker prefers."""
    high = PROTOCOLS[protocol].high  # type: ignore[attr-defined]
    sign = 1 if exhibit.item_id == first_item else -1
    return float(sign * number * FULL_SCALE / high)


GMAD = Gmad()
