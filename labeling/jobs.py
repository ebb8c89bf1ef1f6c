"""Background work of campaigns."""

from typing import Any

from jobs.context import JobContext
from jobs.registry import job_handler
from jobs.schedule import periodic
from labeling.models import Campaign
from labeling.services.sampling import pairs_sample, sampling_check, sampling_state
from labeling.services.settling import SAMPLING_JOB


@job_handler(SAMPLING_JOB)
def sample_job(context: JobContext) -> dict[str, Any]:
    """Choose the next pairs of a campaign with active sampling."""
    campaign = Campaign.objects.get(pk=context.payload["campaign"])
    return {"asked": pairs_sample(campaign=campaign), "state": sampling_state(campaign)}


@periodic(seconds=15)
def samples_check() -> None:
    """Campaigns whose people may be waiting for pairs."""
    sampling_check()
