"""Names that the process which publishes live events and the one which streams them share; no Django in here.

Channel: a Redis pub/sub name. Ticket: a signed, short-lived token that names the channels its bearer may follow.
"""

PREFIX = "falsify:"
PATTERN = f"{PREFIX}*"
ALL_JOBS = f"{PREFIX}jobs"
TICKET_SALT = "falsify.events"
TICKET_SECONDS = 120


def job_channel(job_id: object) -> str:
    """For a page that shows this job."""
    return f"{PREFIX}job:{job_id}"


def user_channel(user_id: object) -> str:
    """For a person's list of their own jobs."""
    return f"{PREFIX}user:{user_id}"
