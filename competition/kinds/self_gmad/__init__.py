"""self-gMAD (CVPR 2021, arXiv 2105.06747): one quality model against random ensembles of its own pruned variants.

The target attacks every ensemble and defends against it, as in gMAD. The images of a pair are rated one by one, each
image once, whatever the number of pairs that show it; their mean opinion scores say who is right, and train the target.
"""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from accounts.option_fields import TITLES
from competition.kinds.base import Evidence, Measure
from competition.kinds.troubleshooting import SelfKind, SelfOptions
from competition.models import Competition, Exhibit, ExhibitRole, Round
from competition.planning import Plan
from labeling.models import TrialKind, VerdictOutcome
from labeling.protocols import PROTOCOLS
from labeling.services import TrialSpec
from models_zoo.models import Task

if TYPE_CHECKING:
    from competition.ranking.failures import Rated
    from jobs.context import JobContext

FULL_SCALE = 100.0


class SelfGmadOptions(SelfOptions):
    """Settings of a self-gMAD competition alone."""

    levels: int = Field(6, ge=1, le=50, title="Levels", description="Of each defender (K)")
    top: int = Field(5, ge=1, le=50, title="Pairs per cell", description="Disjoint pairs per attacker and level (T)")
    half_width: float = Field(
        9.0, gt=0, le=100, title="Half width", description="Of a level, on the scale of 0 to 100 of the labelled set"
    )
    image_cap: int = Field(2, ge=1, title="Cap per image", description="Different pairs that may show one image")
    protocol: Literal["continuous", "acr"] = Field(
        "continuous",
        title="Protocol",
        description="How people rate one image",
        json_schema_extra={TITLES: {name: PROTOCOLS[name].title for name in ("continuous", "acr")}},
    )


class SelfGmad(SelfKind):
    name = "self_gmad"
    title = "self-gMAD: troubleshoot a quality model"
    task = Task.QUALITY
    Options = SelfGmadOptions
    protocols = ("continuous", "acr")
    measures = (Measure("failures", "Failures", "share of pairs on which people contradict the target clearly"),)
    is_directed = True

    def n_exhibits(self, plan: Plan) -> int:
        """Images, at most: each is asked about once."""
        options = SelfGmadOptions(**plan.options)
        images = 2 * plan.n_duels * options.levels * options.top
        return min(images, options.budget, plan.corpus.n_rows if plan.corpus else images)

    def n_control(self, plan: Plan) -> int:
        return min(plan.control_size, plan.corpus.n_rows) if plan.corpus else plan.control_size

    def cheaper(self, plan: Plan, share: float) -> list[str]:
        affordable = int(share * self.n_exhibits(plan))
        return [f"show {affordable} images per round"] if affordable >= 4 else []

    def select(self, *, round: Round, context: "JobContext") -> None:
        from competition.kinds.self_gmad.selecting import round_select

        round_select(round=round, context=context)

    def campaign_settings(self, competition: Competition) -> dict[str, Any]:
        return {"protocol": self.options(competition).protocol, "taxonomy": None, "repeat_share": 0.05}

    def trial_spec(self, exhibit: Exhibit) -> TrialSpec:
        return TrialSpec(item=exhibit.item, kind=_kind(exhibit))

    def questions(self, exhibit: Exhibit) -> list[TrialSpec]:
        items = [item for item in (exhibit.item, exhibit.second_item) if item is not None]
        return [TrialSpec(item=item, kind=_kind(exhibit)) for item in items]

    def asking_order(self, exhibit: Exhibit, competition: Competition) -> tuple[Any, ...]:
        """All cells at first, then their further pairs; control images spread among them."""
        options: SelfGmadOptions = self.options(competition)
        if exhibit.duel is None:
            return (exhibit.rank * options.top / max(1, competition.control_size), 0, exhibit.item.row, 0, 0)
        first, second = exhibit.duel.first.number, exhibit.duel.second.number
        return (exhibit.rank, 1, exhibit.level, first, second)

    def verdict_facts(self, exhibit: Exhibit) -> dict[str, Any]:
        from competition.ranking.failures import difference

        verdicts = [getattr(trial, "verdict", None) for trial in (exhibit.trial, exhibit.second_trial)]
        asked = [exhibit.trial_id, exhibit.second_trial_id][: 2 if exhibit.second_item_id else 1]
        known = [verdict for verdict in verdicts[: len(asked)] if verdict is not None]
        dropped = any(verdict.outcome != VerdictOutcome.SETTLED for verdict in known)
        nothing = {"preference": None, "preference_low": None, "preference_high": None, "dropped": dropped}
        if dropped or len(known) < len(asked) or len(asked) < 2:
            return nothing
        protocol = self.options(exhibit.round.competition).protocol
        found = difference(*(rated_of(verdict.value, protocol) for verdict in known))
        return {"preference": found.value, "preference_low": found.low, "preference_high": found.high, "dropped": False}

    def evidence(self, *, round: Round, everyone: bool) -> Evidence:
        from competition.kinds.self_gmad.standings import evidence_gather

        return evidence_gather(round=round, everyone=everyone)


def _kind(exhibit: Exhibit) -> str:
    return TrialKind.CONTROL if exhibit.role == ExhibitRole.CONTROL else TrialKind.ORDINARY


def rated_of(value: dict[str, Any], protocol: str) -> "Rated":
    """A verdict of a rating protocol on 0 … 100."""
    from competition.ranking.failures import Rated

    scale = PROTOCOLS[protocol]
    low, high = scale.low, scale.high  # type: ignore[attr-defined]
    stretch = FULL_SCALE / (high - low)
    std = None if value["std"] is None else stretch * value["std"]
    return Rated(mean=stretch * (value["mean"] - low), std=std, n=value["n"])


SELF_GMAD = SelfGmad()
