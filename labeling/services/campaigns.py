"""Campaigns and their trials: create, change, open, pause, close, add, drop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

import structlog
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from accounts.errors import Conflict, DomainError
from accounts.models import User
from accounts.permissions import require_edit, require_researcher
from corpora.models import Item, Taxonomy
from labeling.models import (
    Campaign,
    CampaignState,
    Sampling,
    Slot,
    Trial,
    TrialKind,
    TrialState,
    Verdict,
    VerdictOutcome,
)
from labeling.protocols import PROTOCOLS
from labeling.protocols.base import Protocol
from labeling.querysets import SHARED_KINDS
from labeling.services import settling
from labeling.services.settling import sampling_enqueue
from labeling.signals import campaign_closed

log = structlog.get_logger()

SETTINGS = (
    "purpose", "instructions", "consent", "question", "block_minutes", "overlap", "extra_slots", "sampling", "budget",
    "lease_seconds", "gold_share", "gold_warn", "gold_stop", "gold_minimum", "repeat_share", "require_viewing",
    "show_agreement", "seed", "is_public",
)  # fmt: skip
FIXED_ONCE_OPEN = ("overlap", "seed", "sampling")


@dataclass(frozen=True)
class TrialSpec:
    """A trial to be asked.

    Attributes:
        item: the picture, or the first of two.
        classes: the one or two class indices asked about, in any order; none for ratings and comparisons.
        kind: ordinary, control, gold or training.
        expected: gold and training: the right answers in the protocol's own form, such as {class index: true|false} or
            {"low", "high"}; of a pair for ``item`` against ``second``.
        explanation: training: why.
        second: the second picture of a pair. The trial keeps the one with the lower id as its first.
        reference: a picture shown beside them.
    """

    item: Item
    classes: Sequence[int] = ()
    kind: str = "ordinary"
    expected: Mapping[Any, Any] | None = None
    explanation: str = ""
    second: Item | None = None
    reference: Item | None = None


def campaign_create(
    *,
    name: str,
    by: User,
    taxonomy: Taxonomy | None = None,
    protocol: str = "verify",
    **options: Any,
) -> Campaign:
    """Make a campaign in draft; ``options`` are the settings of ``Campaign`` by field name, those that are not given as
    the protocol advises.

    Raises:
        Denied: not a researcher.
        DomainError: an unknown or bad setting; ``field`` names it.
    """
    require_researcher(by, action="make campaigns")
    _require_known(options)
    advised = PROTOCOLS[protocol].defaults if protocol in PROTOCOLS else {}
    settings = {**advised, **options}
    campaign = Campaign(name=name.strip(), taxonomy=taxonomy, created_by=by, protocol=protocol, **settings)
    _clean(campaign)
    campaign.save()
    log.info("campaign_created", campaign=campaign.pk, by=by.pk)
    return campaign


def campaign_update(*, campaign: Campaign, by: User, **changes: Any) -> Campaign:
    """Change settings; those that judgements rest on are fixed once the campaign has been opened."""
    require_edit(by, campaign, action="change")
    name = changes.pop("name", campaign.name)
    _require_known(changes)
    for field in FIXED_ONCE_OPEN:
        if campaign.state != CampaignState.DRAFT and field in changes and changes[field] != getattr(campaign, field):
            raise DomainError(f"{field} is fixed once a campaign has been opened: make a new campaign.", field=field)
    campaign.name = name.strip()
    for field, value in changes.items():
        setattr(campaign, field, value)
    _clean(campaign)
    campaign.save(update_fields=["name", *changes])
    log.info("campaign_changed", campaign=campaign.pk, by=by.pk, fields=sorted(changes))
    return campaign


def _require_known(options: Mapping[str, Any]) -> None:
    unknown = sorted(set(options) - set(SETTINGS))
    if unknown:
        raise DomainError(f'A campaign has no setting "{unknown[0]}"; it has {", ".join(SETTINGS)}.', field=unknown[0])


def _clean(campaign: Campaign) -> None:
    protocol = PROTOCOLS.get(campaign.protocol)
    if protocol is None:
        raise DomainError(
            f'There is no protocol "{campaign.protocol}": choose from {", ".join(PROTOCOLS)}.', field="protocol"
        )
    if protocol.needs_taxonomy != (campaign.taxonomy_id is not None):
        must = "asks about classes: name their taxonomy" if protocol.needs_taxonomy else "asks about no classes"
        raise DomainError(f'The protocol "{protocol.name}" {must}.', field="taxonomy")
    if campaign.gold_stop > campaign.gold_warn:
        raise DomainError(
            f"The bar that stops ({campaign.gold_stop}) must not lie above the one that warns ({campaign.gold_warn}).",
            field="gold_stop",
        )
    if campaign.sampling == Sampling.ACTIVE:
        _clean_sampling(campaign, protocol)
    try:
        campaign.full_clean()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise DomainError(f"{field}: {messages[0]}", field=field) from None


def _clean_sampling(campaign: Campaign, protocol: Protocol) -> None:
    if protocol.n_pictures != 2:
        raise DomainError(f'Active sampling chooses pairs; "{protocol.title}" shows one picture.', field="sampling")
    if campaign.budget is None:
        raise DomainError("Active sampling ends with its budget: say how many judgements.", field="budget")


def _campaign_move(
    campaign: Campaign, *, by: User, verb: str, to: CampaignState, sources: Sequence[CampaignState]
) -> None:
    """Move a campaign from one of ``sources`` to ``to``.

    Raises:
        Conflict: it is in none of them.
    """
    require_edit(by, campaign, action=verb)
    fields: dict[str, Any] = {"state": to}
    if to == CampaignState.OPEN and campaign.opened_at is None:
        fields["opened_at"] = timezone.now()
    if not Campaign.objects.filter(pk=campaign.pk, state__in=sources).update(**fields):
        campaign.refresh_from_db(fields=["state"])
        raise Conflict(f'"{campaign}" is {campaign.state}: only a campaign that is {" or ".join(sources)} can be {to}.')
    for name, value in fields.items():
        setattr(campaign, name, value)
    log.info("campaign_moved", campaign=campaign.pk, to=to, by=by.pk)
    if to == CampaignState.OPEN and campaign.sampling == Sampling.ACTIVE:
        sampling_enqueue(campaign)


def campaign_open(*, campaign: Campaign, by: User) -> None:
    """Let people label."""
    _campaign_move(
        campaign, by=by, verb="open", to=CampaignState.OPEN, sources=[CampaignState.DRAFT, CampaignState.PAUSED]
    )


def campaign_pause(*, campaign: Campaign, by: User) -> None:
    """Hand out no more trials; answers to those already handed out are still taken."""
    _campaign_move(campaign, by=by, verb="pause", to=CampaignState.PAUSED, sources=[CampaignState.OPEN])


def campaign_close(*, campaign: Campaign, by: User) -> None:
    """End the campaign before completion; nothing more is taken."""
    live = [CampaignState.DRAFT, CampaignState.OPEN, CampaignState.PAUSED]
    _campaign_move(campaign, by=by, verb="close", to=CampaignState.CLOSED, sources=live)
    transaction.on_commit(partial(campaign_closed.send_robust, sender=Campaign, campaign=campaign))


@transaction.atomic
def trials_add(*, campaign: Campaign, trials: Sequence[TrialSpec], by: User | None = None) -> list[Trial]:
    """Ask about pictures; the same picture with the same classes and kind is asked once.

    New trials are handed out in an order drawn from the campaign's seed, after those that were there before. A complete
    campaign is open again.

    Args:
        by: who asks; None for another room, which has checked.

    Returns:
        The trial of each spec, in their order; equal specs share one.

    Raises:
        Conflict: the campaign is closed.
        DomainError: classes, kind or expected answers that make no sense.
    """
    if by is not None:
        require_edit(by, campaign, action="add trials to")
    cleaned = [_spec_clean(campaign, spec) for spec in trials]
    locked = Campaign.objects.select_for_update(no_key=True).only("state").get(pk=campaign.pk)
    if locked.state == CampaignState.CLOSED:
        raise Conflict(f'"{campaign}" is closed: make a new campaign for more trials.')
    known = _trials_known(campaign, {spec.item.pk for spec in cleaned})
    fresh = {_ask(spec): spec for spec in cleaned if _ask(spec) not in known}
    made = _trials_create(campaign, list(fresh.values()))
    known.update({_asked(trial): trial for trial in made})
    if locked.state == CampaignState.COMPLETE and any(trial.kind in SHARED_KINDS for trial in made):
        settling.campaign_reopen(campaign)
    return [known[_ask(spec)] for spec in cleaned]


Asked = tuple[int, int | None, str, tuple[int, ...]]


def _ask(spec: TrialSpec) -> Asked:
    return spec.item.pk, spec.second.pk if spec.second else None, spec.kind, tuple(spec.classes)


def _asked(trial: Trial) -> Asked:
    return trial.item_id, trial.second_id, trial.kind, tuple(trial.classes)


def _trials_known(campaign: Campaign, items: set[int]) -> dict[Asked, Trial]:
    return {_asked(trial): trial for trial in Trial.objects.filter(campaign=campaign, item__in=items)}


def asked_clean(
    campaign: Campaign, *, classes: Sequence[int], kind: str, expected: Mapping[Any, Any] | None
) -> tuple[list[int], dict[str, Any] | None]:
    """Classes and expected answers as a trial of this kind keeps them.

    Raises:
        DomainError: they make no sense.
    """
    protocol = PROTOCOLS[campaign.protocol]
    kept = protocol.clean_classes(classes, campaign.taxonomy.n_classes if campaign.taxonomy else 0)
    if kind not in TrialKind.values or kind == TrialKind.REPEAT:
        raise DomainError(f'"{kind}" is no kind of trial that can be added: ordinary, control, gold or training.')
    needs_answer = kind in {TrialKind.GOLD, TrialKind.TRAINING}
    if needs_answer != (expected is not None):
        must = "needs the expected answer" if needs_answer else "has no expected answer"
        raise DomainError(f"A trial of kind {kind} {must}.", field="expected")
    return kept, None if expected is None else protocol.clean_expected(kept, expected)


def _spec_clean(campaign: Campaign, spec: TrialSpec) -> TrialSpec:
    protocol = PROTOCOLS[campaign.protocol]
    classes, expected = asked_clean(campaign, classes=spec.classes, kind=spec.kind, expected=spec.expected)
    if (spec.second is not None) != (protocol.n_pictures == 2):
        shown = "two pictures" if protocol.n_pictures == 2 else "one picture"
        raise DomainError(f'The protocol "{protocol.name}" shows {shown} in a trial.', field="second")
    if spec.second is not None and spec.second.pk == spec.item.pk:
        raise DomainError("A pair must be of two different pictures.", field="second")
    kept = TrialSpec(
        spec.item, classes, str(spec.kind), expected, spec.explanation.strip(), spec.second, spec.reference
    )
    if spec.second is not None and spec.second.pk < spec.item.pk:
        return replace(kept, item=spec.second, second=spec.item, expected=expected and protocol.mirrored(expected))
    return kept


def _trials_create(campaign: Campaign, specs: list[TrialSpec]) -> list[Trial]:
    last = Trial.objects.filter(campaign=campaign).aggregate(last=Max("position"))["last"]
    start = 0 if last is None else last + 1
    order = list(range(start, start + len(specs)))
    Random(f"{campaign.seed}:{start}").shuffle(order)
    training = sorted(position for spec, position in zip(specs, order, strict=True) if spec.kind == TrialKind.TRAINING)
    in_turn = iter(training)  # training trials stay in the order in which they were given
    made = Trial.objects.bulk_create(
        Trial(
            campaign=campaign,
            item=spec.item,
            second=spec.second,
            reference=spec.reference,
            kind=spec.kind,
            position=next(in_turn) if spec.kind == TrialKind.TRAINING else position,
            classes=spec.classes,
            expected=spec.expected,
            explanation=spec.explanation,
        )
        for spec, position in zip(specs, order, strict=True)
    )
    Slot.objects.bulk_create(
        (
            Slot(trial=trial, campaign=campaign, number=number, position=trial.position)
            for trial in made
            if trial.kind in SHARED_KINDS
            for number in range(1 if campaign.sampling == Sampling.ACTIVE else campaign.overlap)
        ),
        batch_size=2000,
    )
    return made


def gold_add(*, trial: Trial, by: User, expected: Mapping[Any, Any] | None = None) -> Trial:
    """Make a gold trial of an ordinary one: with the answer given, or with what its verdict says.

    Raises:
        DomainError: neither an answer nor a settled verdict without ties.
    """
    protocol = PROTOCOLS[trial.campaign.protocol]
    if expected is None:
        verdict = Verdict.objects.filter(trial=trial, outcome=VerdictOutcome.SETTLED).first()
        if verdict is None:
            raise DomainError("This trial has no settled verdict: give the expected answer.", field="expected")
        expected = protocol.expected_of(verdict.value)
    spec = TrialSpec(
        trial.item, trial.classes, TrialKind.GOLD, expected, second=trial.second, reference=trial.reference
    )
    gold = trials_add(campaign=trial.campaign, trials=[spec], by=by)[0]
    wanted = protocol.clean_expected(trial.classes, expected)
    if gold.expected != wanted or gold.state != TrialState.OPEN:
        Trial.objects.filter(pk=gold.pk).update(expected=wanted, state=TrialState.OPEN)
        gold.expected, gold.state = wanted, TrialState.OPEN
    log.info("gold_set", trial=gold.pk, by=by.pk)
    return gold


def gold_retire(*, trial: Trial, by: User) -> None:
    """Hand a gold trial to nobody any more; answers given to it still count for those who gave them."""
    require_edit(by, trial.campaign, action="change the gold of")
    if trial.kind != TrialKind.GOLD:
        raise DomainError("Only gold trials are retired.")
    Trial.objects.filter(pk=trial.pk).update(state=TrialState.DROPPED)
    log.info("gold_retired", trial=trial.pk, by=by.pk)


@transaction.atomic
def trial_drop(*, trial: Trial, by: User) -> None:
    """Withdraw an open trial: its remaining slots are void, its verdict is "dropped"."""
    campaign = trial.campaign
    require_edit(by, campaign, action="drop trials of")
    locked = settling.trials_lock([trial.pk])[0]
    if locked.kind not in SHARED_KINDS or locked.state != TrialState.OPEN:
        raise Conflict("Only an open trial can be dropped: this one has ended.")
    settling.trial_withdraw(campaign, locked)
    log.info("trial_dropped", trial=trial.pk, by=by.pk)
