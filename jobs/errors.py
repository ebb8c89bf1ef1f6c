"""Why a job failed, in words a user understands."""

import errno

from django.db import OperationalError

from accounts.errors import DomainError

DISK_FULL = "The disk is full: free some space, then press Retry. The job then goes on where it stopped."
OUT_OF_MEMORY = "The machine ran out of memory: choose a smaller batch, or run fewer jobs at a time, then press Retry."


def explain(error: BaseException) -> str:
    """One or two sentences for the person who enqueued the job; the traceback is kept beside it."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DISK_FULL
    if isinstance(error, OperationalError) and "disk is full" in str(error):
        return DISK_FULL
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return OUT_OF_MEMORY
    if isinstance(error, DomainError | ValueError | OSError) and str(error):
        return str(error)
    words = f": {error}" if str(error) else ""
    return (
        f"Something unexpected happened ({type(error).__name__}{words}). "
        "The traceback is kept with this job: please report it, or press Retry."
    )
