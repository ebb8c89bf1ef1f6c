"""Active sampling: which pairs of a campaign's candidates to ask about next.

Batch: the pairs that the answers so far make most telling, a tree over the candidates of each scene, with a share of
random ones (``psychometrics.active``). A batch is added when few slots are open for the people who take part; a pair
that is chosen again gets one more slot. The campaign ends when its budget of judgements is spent.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import cast

import numpy as np
import structlog
from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone
from numpy.typing import NDArray

from accounts.errors import DomainError
from accounts.models import User
from accounts.permissions import require_edit
from corpora.models import Corpus, Item
from corpora.services import item_ensure
from jobs.models import Job
from labeling.models import (
    Campaign,
    CampaignState,
    Candidate,
    Judgement,
    Participation,
    Sampling,
    Slot,
    SlotState,
    Trial,
    TrialKind,
    TrialState,
)
from labeling.protocols import PROTOCOLS
from labeling.protocols.number import ComparisonProtocol
from labeling.psychometrics.active import propose
from labeling.querysets import SHARED_KINDS, exclusion_in_force
from labeling.results import Names, answers_read, digest, winners
from labeling.services.campaigns import TrialSpec, trials_add
from labeling.services.settling import SAMPLING_JOB, budget_left, sampling_enqueue, trials_ask_again, trials_lock

log = structlog.get_logger()

AHEAD = 3  # open slots for each person who takes part, below which a batch is added
MOST_BATCHES = 10  # of one run
MOST_CANDIDATES = 500  # of one campaign: the belief about a scene holds a square of its candidates
RECENT = timedelta(minutes=10)  # whoever answered since is at it
Pairs = NDArray[np.int64]
Allowed = NDArray[np.bool_]


def candidates_add(*, campaign: Campaign, corpus: Corpus, rows: Sequence[int], by: User, by_scene: bool = False) -> int:
    """Let active sampling pair these rows with each other.

    Args:
        by_scene: only rows of the same content group are compared; each must have one.

    Returns:
        How many candidates are new.

    Raises:
        DomainError: no active sampling, an unknown corpus or row, a row without a content group, too many.
    """
    require_edit(by, campaign, action="add candidates to")
    if campaign.sampling != Sampling.ACTIVE:
        raise DomainError("Only campaigns with active sampling have candidates: add trials instead.", field="sampling")
    if not Corpus.objects.visible_to(by).filter(pk=corpus.pk).exists():
        raise DomainError(f"There is no corpus {corpus.pk}.", field="corpus")
    known = set(Candidate.objects.filter(campaign=campaign).values_list("item_id", flat=True))
    if len(known) + len(set(rows)) > MOST_CANDIDATES:
        raise DomainError(f"A campaign has at most {MOST_CANDIDATES} candidates.", field="rows")
    items = [item for item in item_ensure(corpus=corpus, rows=rows).values() if item.pk not in known]
    scenes = _scenes(items) if by_scene else {}
    made = [Candidate(campaign=campaign, item=item, scene=scenes.get(item.pk, "")) for item in items]
    Candidate.objects.bulk_create(made, ignore_conflicts=True)
    log.info("candidates_added", campaign=campaign.pk, count=len(made), by=by.pk)
    if campaign.state == CampaignState.OPEN and made:
        sampling_enqueue(campaign)
    return len(made)


def _scenes(items: Sequence[Item]) -> dict[int, str]:
    groups = Names.of(items).groups
    without = next((item for item in items if item.pk not in groups), None)
    if without is not None:
        raise DomainError(
            f"Row {without.row} belongs to no content group: leave it out, or compare across scenes.", field="rows"
        )
    return groups


def sampling_follow(campaign: Campaign, *, is_idle: bool = False) -> None:
    """After an answer: have the next pairs chosen when few are left, or none for the person (``is_idle``)."""
    if is_idle or sampling_is_due(campaign):
        sampling_enqueue(campaign)


def sampling_is_due(campaign: Campaign) -> bool:
    """Whether so few slots are open that somebody may soon have to wait."""
    n_open = Slot.objects.filter(campaign=campaign, is_shared=True, state=SlotState.OPEN).count()
    return n_open < AHEAD * _n_people(campaign)


def _taking_part(campaign: Campaign) -> Iterable[int]:
    parts = Participation.objects.filter(campaign=campaign, consented_at__isnull=False, stopped_at=None)
    return parts.filter(~exclusion_in_force()).values_list("person_id", flat=True)


def _n_people(campaign: Campaign) -> int:
    return max(1, len(list(_taking_part(campaign))))


def sampling_check() -> None:
    """Choose pairs wherever somebody may be waiting; repeatable."""
    for campaign in Campaign.objects.filter(sampling=Sampling.ACTIVE, state=CampaignState.OPEN):
        is_wanted = budget_left(campaign) > 0 and (sampling_is_due(campaign) or _idle(campaign))
        if is_wanted and not _found_nothing(campaign):
            sampling_enqueue(campaign)


def _found_nothing(campaign: Campaign) -> bool:
    """Whether the last run found no pair to ask about, and nothing has changed since."""
    last = Job.objects.about(campaign).filter(kind=SAMPLING_JOB).order_by("-created_at").first()
    nothing = {"asked": 0, "state": sampling_state(campaign)}
    return last is not None and last.result == nothing


def sampling_state(campaign: Campaign) -> str:
    """Changes with the answers, the people and the candidates of a campaign."""
    return f"{digest(campaign)}:{_n_people(campaign)}:{Candidate.objects.filter(campaign=campaign).count()}"


def _idle(campaign: Campaign) -> list[int]:
    """People who answered lately and for whom nothing is left."""
    now = timezone.now()
    recent = Judgement.objects.filter(campaign=campaign, created_at__gt=now - RECENT).values("person")
    people = User.objects.filter(pk__in=recent).filter(pk__in=_taking_part(campaign))
    holding = set(
        Slot.objects.filter(campaign=campaign, state=SlotState.LEASED, leased_until__gt=now).values_list(
            "person_id", flat=True
        )
    )
    slots = Slot.objects.filter(campaign=campaign)
    return [person.pk for person in people if person.pk not in holding and not slots.available_to(person, now).exists()]


def pairs_sample(*, campaign: Campaign) -> int:
    """Add batches until there is enough for everybody, nothing more can be asked, or the budget is spent.

    Returns:
        How many judgements were asked for.
    """
    asked = 0
    for _ in range(MOST_BATCHES):
        campaign.refresh_from_db(fields=["state", "budget"])
        idle = _idle(campaign)
        if campaign.state != CampaignState.OPEN or not (idle or sampling_is_due(campaign)):
            break
        made = _batch_add(campaign, idle if not sampling_is_due(campaign) else [])
        if not made:
            break
        asked += made
    log.info("pairs_sampled", campaign=campaign.pk, asked=asked)
    return asked


def _batch_add(campaign: Campaign, waiting: Sequence[int]) -> int:
    """Ask about the next batch; pairs that the ``waiting`` people have had tell them nothing and are left out."""
    candidates = list(Candidate.objects.filter(campaign=campaign).order_by("item_id").select_related("item"))
    if len(candidates) < 2:
        return 0
    items = [candidate.item for candidate in candidates]
    pairs = _proposed(campaign, candidates, waiting)
    known = {
        (trial.item_id, trial.second_id): trial.pk
        for trial in Trial.objects.filter(campaign=campaign, kind=TrialKind.ORDINARY)
    }
    wanted = [(items[first], items[second]) for first, second in pairs.tolist()]
    with transaction.atomic():
        again = trials_lock(known[pair] for a, b in wanted if (pair := (a.pk, b.pk)) in known)
        locked = Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
        left = budget_left(locked)
        fresh = [TrialSpec(a, second=b) for a, b in wanted if (a.pk, b.pk) not in known][:left]
        trials_ask_again(campaign=locked, trials=again[: left - len(fresh)])
        trials_add(campaign=locked, trials=fresh)
    return len(fresh) + len(again[: left - len(fresh)])


def _proposed(campaign: Campaign, candidates: Sequence[Candidate], waiting: Sequence[int]) -> Pairs:
    """(k, 2) places of the candidates to compare next, first < second."""
    ids = np.array([candidate.item_id for candidate in candidates])
    _, scene = np.unique([candidate.scene for candidate in candidates], return_inverse=True)
    answers = answers_read(campaign)
    both = np.isin(answers.item, ids) & np.isin(answers.second, ids)
    answers = answers.of(both)
    first, second = np.searchsorted(ids, answers.item), np.searchsorted(ids, answers.second)
    same = scene[first] == scene[second]
    protocol = cast("ComparisonProtocol", PROTOCOLS[campaign.protocol])
    return propose(
        len(ids),
        first[same],
        second[same],
        winners(protocol, answers.value[same]),
        seed=(campaign.seed * 1_000_003 + Slot.objects.filter(campaign=campaign).count()) % 2**32,
        scene=scene,
        allowed=_allowed(campaign, ids, waiting),
    )


def _allowed(campaign: Campaign, ids: Pairs, waiting: Sequence[int]) -> Allowed:
    """(m, m) pairs that may be asked about now: not while a slot of theirs is open, not of dropped trials, not when
    everybody who takes part has had them, and not when a waiting person has."""
    allowed = np.ones((len(ids), len(ids)), dtype=np.bool_)
    place = {int(item): at for at, item in enumerate(ids)}
    n_people = _n_people(campaign)
    live = Q(slots__is_shared=True) & ~Q(slots__state=SlotState.VOID)
    pending = Q(slots__is_shared=True, slots__state__in=[SlotState.OPEN, SlotState.LEASED])
    had = Q(slots__person__in=waiting) | Q(skips__person__in=waiting)
    trials = Trial.objects.filter(campaign=campaign, kind__in=SHARED_KINDS).annotate(
        n_live=Count("slots", filter=live, distinct=True),
        n_pending=Count("slots", filter=pending, distinct=True),
        n_had=Count("pk", filter=had, distinct=True),
    )
    for item, second, state, n_live, n_pending, n_had in trials.values_list(
        "item_id", "second_id", "state", "n_live", "n_pending", "n_had"
    ):
        if item not in place or second not in place:
            continue
        may = state != TrialState.DROPPED and not n_pending and n_live < n_people and not n_had
        allowed[place[item], place[second]] = allowed[place[second], place[item]] = may
    return allowed
