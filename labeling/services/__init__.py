"""Every write of this room: campaigns and trials, taking part, assignment, judging, settling."""

from labeling.services.asking import RowSpec, rows_ask
from labeling.services.assignment import slots_lease
from labeling.services.campaigns import (
    TrialSpec,
    campaign_close,
    campaign_create,
    campaign_open,
    campaign_pause,
    campaign_update,
    gold_add,
    gold_retire,
    trial_drop,
    trials_add,
)
from labeling.services.judging import Answer, Recorded, Turn, judgement_record, judgement_undo, slot_skip, turn_take
from labeling.services.sampling import candidates_add, pairs_sample
from labeling.services.taking_part import (
    consent_record,
    invite_check,
    invite_create,
    invite_revoke,
    participation_ensure,
    participation_join,
    person_exclude,
    person_restore,
    slots_release,
    viewing_record,
)

__all__ = [
    "Answer",
    "Recorded",
    "RowSpec",
    "TrialSpec",
    "Turn",
    "campaign_close",
    "campaign_create",
    "campaign_open",
    "campaign_pause",
    "campaign_update",
    "candidates_add",
    "consent_record",
    "gold_add",
    "gold_retire",
    "invite_check",
    "invite_create",
    "invite_revoke",
    "judgement_record",
    "judgement_undo",
    "pairs_sample",
    "participation_ensure",
    "participation_join",
    "person_exclude",
    "person_restore",
    "rows_ask",
    "slot_skip",
    "slots_lease",
    "slots_release",
    "trial_drop",
    "trials_add",
    "turn_take",
    "viewing_record",
]
