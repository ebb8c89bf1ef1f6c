"""Progress in words."""

from jobs.models import Job, JobState


def duration(seconds: float) -> str:
    """``8 s``, ``3 min``, ``2 h 05 min``, ``3 days``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{round(hours / 24)} days"


def numbers(job: Job) -> str:
    """``1,234 of 5,000 images · 51.2 images/s · 3 min left``; what is not known is left out."""
    parts = []
    if job.total:
        parts.append(f"{job.done:,} of {job.total:,} {job.unit}".strip())
    elif job.done:
        parts.append(f"{job.done:,} {job.unit}".strip())
    if job.rate and job.state == JobState.RUNNING:
        rate = f"{job.rate:,.0f}" if job.rate >= 100 else f"{job.rate:.3g}"
        parts.append(f"{rate} {job.unit or 'steps'}/s")
    if job.seconds_left is not None:
        parts.append(f"{duration(job.seconds_left)} left")
    if job.is_ended and job.started_at and job.ended_at:
        parts.append(f"took {duration((job.ended_at - job.started_at).total_seconds())}")
    return " · ".join(parts)
