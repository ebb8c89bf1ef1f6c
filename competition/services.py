"""Every change of a competition: made, edited, launched, extended, stopped, started again.

The work of a round (scoring, selecting, asking, settling) is in ``rounds``; it runs inside jobs.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone
from pydantic import ValidationError

from accounts.errors import Conflict, DomainError
from accounts.permissions import require_edit, require_researcher, require_view
from competition import planning
from competition.kinds import KINDS
from competition.models import Competition, Entrant, Round, RoundState
from corpora.models import Corpus, Taxonomy
from jobs.models import Job
from jobs.services import job_cancel, job_enqueue
from labeling import services as labeling
from labeling.models import CampaignState
from models_zoo.models import Purpose, Task, Version

if TYPE_CHECKING:
    from accounts.models import User

logger = logging.getLogger(__name__)

ROUND_JOB = "competition.round"
ENDED = (RoundState.COMPLETE, RoundState.CANCELLED, RoundState.FAILED)
EXTENDABLE = (RoundState.LABELLING, RoundState.SETTLING, RoundState.COMPLETE)


def competition_create(
    *,
    name: str,
    corpus: Corpus,
    by: "User",
    versions: Sequence[Version] = (),
    kind: str = "mad",
    taxonomy: Taxonomy | None = None,
    **settings: Any,
) -> Competition:
    """Make a competition with its entrants, in the order given; nothing runs until it is launched.

    Args:
        taxonomy: by default that of the first version's model, for kinds that have one.
        settings: other fields of ``Competition``; ``options``: settings of its kind alone.

    Raises:
        DomainError: on a taken name, a bad setting, or entrants of another label space.
        Denied: when the person may not see the corpus or an entrant's model.
    """
    require_researcher(by, action="make a competition")
    require_view(by, corpus)
    for version in versions:
        require_view(by, version.model)
    if kind not in KINDS:
        raise DomainError(f'There is no kind of competition "{kind}": choose from {", ".join(KINDS)}.', field="kind")
    if not versions:
        one = KINDS[kind].troubleshoots
        raise DomainError(
            f"There are no entrants: choose {'the version to troubleshoot' if one else 'at least two model versions'}.",
            field="versions",
        )
    if KINDS[kind].task == Task.CLASSIFICATION:
        taxonomy = taxonomy or versions[0].model.taxonomy
    settings["options"] = options_clean(kind, settings.get("options") or {})
    KINDS[kind].require_view(options=settings["options"], by=by)
    _require_name(name)
    if (again := [str(version) for at, version in enumerate(versions) if version in versions[:at]]) != []:
        raise DomainError(f'"{again[0]}" is entered twice: a version competes once.', field="versions")
    competition = Competition(name=name.strip(), kind=kind, corpus=corpus, taxonomy=taxonomy, created_by=by, **settings)
    plan = _plan_with(competition, versions)
    _raise_first(planning.setting_problems(plan))
    with transaction.atomic():
        competition.save()
        Entrant.objects.bulk_create(
            Entrant(competition=competition, version=version, number=number)
            for number, version in enumerate(versions, start=1)
        )
    logger.info("competition %s created by %s with %d entrants", competition.pk, by, len(versions))
    return competition


def options_clean(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """The settings of a kind alone, whole and as they are kept.

    Raises:
        DomainError: an unknown setting or a bad value; ``field`` names it.
    """
    try:
        return KINDS[kind].Options(**options).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "options"
        raise DomainError(f"{name}: {first['msg']} (given: {first['input']!r}).", field=name) from None


def competition_update(*, competition: Competition, by: "User", **settings: Any) -> Competition:
    """Change settings. Once a round has begun only the description and who may look can change.

    Raises:
        Conflict: when a fixed setting would change.
    """
    require_edit(by, competition, action="change")
    if "options" in settings:
        settings["options"] = options_clean(competition.kind, settings["options"])
        KINDS[competition.kind].require_view(options=settings["options"], by=by)
    changed = {name for name, value in settings.items() if getattr(competition, name) != value}
    if competition.rounds.exists() and (fixed := changed - {"name", "description", "is_public", "judgement_budget"}):
        raise Conflict(
            f'"{competition}" has been launched: {", ".join(sorted(fixed))} can no longer change. '
            "Make a new competition with other settings.",
            field=min(fixed),
        )
    if "name" in changed:
        _require_name(settings["name"], beside=competition)
    for name, value in settings.items():
        setattr(competition, name, value)
    _raise_first(planning.setting_problems(planning.Plan.of(competition)))
    competition.save()
    return competition


def competition_configure(
    *, competition: Competition, by: "User", versions: Sequence[Version], **settings: Any
) -> Competition:
    """Settings and, before the launch, entrants at once; entrants keep the order in which they were entered.

    Raises:
        Conflict: when entrants would change after the launch.
        As ``competition_update`` and ``entrant_add``.
    """
    with transaction.atomic():
        entrants = competition.entrants.with_versions().filter(version__purpose=Purpose.USE)  # what people entered
        entered = {entrant.version_id: entrant for entrant in entrants}
        wanted = {version.pk: version for version in versions}
        launched = competition.rounds.exists()
        if launched and set(entered) - set(wanted):
            raise Conflict(f'"{competition}" has been launched: its entrants stay.', field="versions")
        if launched and set(wanted) - set(entered):
            raise Conflict("Add an entrant to a launched competition on its setup page.", field="versions")
        if not entered or not wanted.keys() & entered.keys():
            competition.taxonomy = versions[0].model.taxonomy if versions else competition.taxonomy
        for version_id, entrant in entered.items():
            if version_id not in wanted:
                entrant_remove(entrant=entrant, by=by)
        for version_id, version in wanted.items():
            if version_id not in entered:
                entrant_add(competition=competition, version=version, by=by)
        return competition_update(competition=competition, by=by, **settings)


def competition_delete(*, competition: Competition, by: "User") -> None:
    """Delete a competition that was never launched.

    Raises:
        Conflict: when it has rounds; their judgements are kept for good.
    """
    require_edit(by, competition, action="delete")
    if competition.rounds.exists():
        raise Conflict(f'"{competition}" has been launched: its judgements are kept. Cancel its round instead.')
    competition.delete()


def competition_preview(*, plan: planning.Plan) -> planning.Preview:
    """What a plan would take and what stands in its way; ``Plan.of(competition)`` for one that exists."""
    return planning.preview(plan)


def competition_launch(*, competition: Competition, by: "User") -> Round:
    """Begin round 1: a job scores, selects and opens the campaign.

    Raises:
        Conflict: when it was launched before.
        DomainError: the first problem of the preview, with its field and the remedy.
    """
    require_edit(by, competition, action="launch")
    with transaction.atomic():
        _lock(competition)
        if competition.rounds.exists():
            raise Conflict(f'"{competition}" was launched already: start its next round, or add an entrant.')
        _raise_first(planning.preview(planning.Plan.of(competition)).problems)
        return _round_begin(competition, number=1, by=by)


def round_start(*, competition: Competition, by: "User") -> Round:
    """Begin the next round with the same settings; images that earlier rounds asked about are left out.

    Raises:
        Conflict: while the latest round is not over, or before the first.
        DomainError: the first problem of the preview.
    """
    require_edit(by, competition, action="start a round of")
    with transaction.atomic():
        _lock(competition)
        latest = competition.rounds.order_by("-number").first()
        if latest is None:
            raise Conflict(f'"{competition}" has not been launched: launch it first.')
        if latest.state not in ENDED:
            raise Conflict(f"Round {latest.number} is {latest.state}: wait until it is complete, or cancel it.")
        _require_learnt(latest)
        _raise_first(planning.preview(planning.Plan.of(competition)).problems)
        return _round_begin(competition, number=latest.number + 1, by=by)


def _require_learnt(latest: Round) -> None:
    """The next round of a target needs the target that the last one made."""
    if not KINDS[latest.competition.kind].troubleshoots:
        return
    if latest.learn_run is None or latest.learn_run.finished_at is None:
        raise Conflict(
            f"Round {latest.number} has not been learnt from: fine-tune the target first, the next round is about the "
            "new one."
        )


def entrant_add(*, competition: Competition, version: Version, by: "User") -> Entrant:
    """Enter one more version. After the launch it duels with every earlier entrant at the cost of k exhibits each;
    no earlier exhibit, trial or judgement changes.

    Raises:
        Conflict: when it competes already, or the latest round is still scoring or selecting.
        DomainError: another label space, an unverified version, or a budget that does not reach.
    """
    require_edit(by, competition, action="add an entrant to")
    require_view(by, version.model)
    with transaction.atomic():
        _lock(competition)
        latest = competition.rounds.order_by("-number").first()
        if KINDS[competition.kind].troubleshoots:
            raise Conflict(f'"{competition}" is about one version: troubleshoot "{version}" by itself.')
        plan = planning.Plan.of(competition, newcomers=[version])
        if version in plan.versions[:-1]:
            raise Conflict(f'"{version}" competes already.', field="version")
        if latest is None:
            _raise_first(planning.setting_problems(plan))
            return _enter(competition, version)
        if latest.state not in EXTENDABLE:
            raise Conflict(
                f"Round {latest.number} is {latest.state}: an entrant can be added once its images are being labelled."
            )
        _raise_first(planning.preview(plan).problems)
        entrant = _enter(competition, version)
        if not round_move(latest, EXTENDABLE, RoundState.SCORING):
            raise Conflict(f"Round {latest.number} changed meanwhile: try again.")
        _work_begin(latest, f'"{version}" enters {competition}', by)
    logger.info("version %s entered competition %s", version.pk, competition.pk)
    return entrant


def entrant_remove(*, entrant: Entrant, by: "User") -> None:
    """Take an entrant out before the launch.

    Raises:
        Conflict: after the launch; leaderboards can still be read without it.
    """
    competition = entrant.competition
    require_edit(by, competition, action="remove an entrant of")
    with transaction.atomic():
        _lock(competition)
        if competition.rounds.exists():
            raise Conflict(f'"{competition}" has been launched: its entrants stay.')
        entrant.delete()


def round_cancel(*, round: Round, by: "User") -> Round:
    """Stop a round: its job is cancelled and its campaign paused. What was labelled is kept; ``round_retry`` goes on.

    Raises:
        Conflict: when it is over.
    """
    require_edit(by, round.competition, action="cancel a round of")
    states = (RoundState.PREPARING, RoundState.SCORING, RoundState.SELECTING, RoundState.LABELLING)
    with transaction.atomic():
        if not round_move(round, states, RoundState.CANCELLED):
            raise Conflict(f"Round {round.number} is {round.state}: there is nothing to cancel.")
        if round.job and not round.job.is_ended:
            job_cancel(job=round.job, by=None)
        if round.campaign and round.campaign.state == CampaignState.OPEN:
            labeling.campaign_pause(campaign=round.campaign, by=by)
    return round


def round_retry(*, round: Round, by: "User") -> Round:
    """Go on with a failed or cancelled round; finished shards, selections and judgements are kept.

    Raises:
        Conflict: when it has not failed and was not cancelled, or a later round exists.
        DomainError: the first problem of the preview.
    """
    competition = round.competition
    require_edit(by, competition, action="retry a round of")
    with transaction.atomic():
        _lock(competition)
        if competition.rounds.filter(number__gt=round.number).exists():
            raise Conflict(f"Round {round.number} is history: a later round has begun.")
        if round.job and not round.job.is_ended:
            raise Conflict(f'"{round.job}" is still stopping: retry in a moment.')
        _raise_first(planning.preview(planning.Plan.of(competition)).problems)
        first = KINDS[competition.kind].first_state
        if not round_move(round, (RoundState.FAILED, RoundState.CANCELLED), first, error=""):
            raise Conflict(f"Round {round.number} is {round.state}: only a failed or cancelled round can be retried.")
        _round_continue(round, by)
    return round


def round_settle_now(*, round: Round, by: "User") -> Job:
    """Compute a leaderboard from what has been labelled so far."""
    from competition.rounds import settle_enqueue

    require_edit(by, round.competition, action="settle a round of")
    Round.objects.filter(pk=round.pk).update(changed_at=timezone.now())
    return settle_enqueue(round, by=by, soon=True)


def round_move(round: Round, states: Sequence[str], to: RoundState, **fields: Any) -> bool:
    """The one way in which a round changes state; False when it was in none of ``states``.

    ``round`` shows what the database says afterwards, either way.
    """
    moved = Round.objects.filter(pk=round.pk, state__in=states).update(state=to, **fields)
    round.refresh_from_db()
    return bool(moved)


def _round_begin(competition: Competition, *, number: int, by: "User") -> Round:
    kind = KINDS[competition.kind]
    try:
        round_ = Round.objects.create(competition=competition, number=number, state=kind.first_state)
    except IntegrityError:
        raise Conflict(f"Round {number} was started meanwhile.") from None
    _round_open(round_, by)
    logger.info("round %d of competition %s begun by %s", number, competition.pk, by)
    return round_


def _round_open(round_: Round, by: "User") -> None:
    """Start the work of a new round."""
    if KINDS[round_.competition.kind].troubleshoots:
        from competition.learning import round_open

        round_open(round=round_, by=by)
    else:
        _work_begin(round_, f"{round_.competition}, round {round_.number}", by)


def _round_continue(round_: Round, by: "User") -> None:
    """Go on with a round that stopped."""
    if KINDS[round_.competition.kind].troubleshoots:
        from competition.learning import round_continue

        round_continue(round=round_, by=by)
    else:
        _work_begin(round_, f"{round_.competition}, round {round_.number}", by)


def _work_begin(round_: Round, title: str, by: "User") -> None:
    """Enqueue the job that scores, selects and opens the campaign; the round names it."""
    round_.job = job_enqueue(kind=ROUND_JOB, title=title, payload={"round": round_.pk}, by=by, subject=round_)
    round_.save(update_fields=["job"])


def _enter(competition: Competition, version: Version) -> Entrant:
    last = competition.entrants.aggregate(last=Max("number"))["last"] or 0
    try:
        with transaction.atomic():
            return Entrant.objects.create(competition=competition, version=version, number=last + 1)
    except IntegrityError:
        raise Conflict(f'"{version}" competes already.', field="version") from None


def _lock(competition: Competition) -> None:
    """Launches, rounds and entries of one competition happen one after the other."""
    Competition.objects.select_for_update().get(pk=competition.pk)


def _plan_with(competition: Competition, versions: Sequence[Version]) -> planning.Plan:
    return planning.Plan(
        corpus=competition.corpus,
        taxonomy=competition.taxonomy,
        versions=versions,
        **{name: getattr(competition, name) for name in (*planning.SETTING_NAMES, "kind", "options")},
    )


def _require_name(name: str, beside: Competition | None = None) -> None:
    if not name.strip():
        raise DomainError("The competition has no name: give it one.", field="name")
    if Competition.objects.filter(name=name.strip()).exclude(pk=beside.pk if beside else None).exists():
        raise DomainError(f'There is a competition "{name.strip()}" already: choose another name.', field="name")


def _raise_first(problems: Sequence[planning.Problem]) -> None:
    if problems:
        raise DomainError(problems[0].message, field=problems[0].field)
