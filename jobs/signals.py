"""What upper rooms may listen to."""

from django.dispatch import Signal

#: Sent after a job reached an end state and the database knows it. Arguments: ``sender=Job``, ``job``.
#: Delivered at least once, in the process that saw the end (a worker, the scheduler, a web process): receivers are
#: quick, repeatable and import nothing heavy; what takes long is a new job. A receiver that raises is logged.
job_ended = Signal()
