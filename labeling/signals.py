"""What upper rooms may listen to.

All are sent after the transaction has committed, in the process that committed it, with ``send_robust``: a receiver
that raises is logged and harms nobody. Receivers are quick and repeatable; what takes long is a new job.
"""

from django.dispatch import Signal

#: A shared trial got a verdict (settled, undecided or dropped). Arguments: ``sender=Trial``, ``trial``, ``verdict``.
#: Sent again when a trial that was reopened by an undo or an exclusion ends again.
trial_ended = Signal()

#: Verdicts that had been given changed or were withdrawn (undo, exclusion, restoration). Arguments:
#: ``sender=Campaign``, ``campaign``.
verdicts_changed = Signal()

#: Every shared trial has ended. Arguments: ``sender=Campaign``, ``campaign``. Sent after the last ``trial_ended``.
campaign_complete = Signal()

#: The owner ended the campaign before completion. Arguments: ``sender=Campaign``, ``campaign``.
campaign_closed = Signal()
