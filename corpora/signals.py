"""What upper rooms may listen to."""

from django.dispatch import Signal

#: Sent after the opinion scores of a corpus were replaced and the database knows it. Arguments: ``sender=Corpus``,
#: ``corpus``, ``by``. Receivers are quick; what takes long is a new job. A receiver that raises is logged.
opinions_changed = Signal()
