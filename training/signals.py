"""What upper rooms may listen to."""

from django.dispatch import Signal

#: Sent when a run is over: its outputs are registered and verified (``run.finished_at`` is set), or its job failed or
#: was cancelled (``finished_at`` is None; a retry may still finish it). Arguments: ``sender=Run``, ``run``.
#: Delivered at least once, in the process that saw the end: receivers are quick, repeatable and import nothing heavy.
#: A receiver that raises is logged.
run_ended = Signal()
