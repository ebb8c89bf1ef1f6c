"""Reads of labelled sets and runs."""

from typing import Self

from accounts.querysets import SharedQuerySet


class LabelledSetQuerySet(SharedQuerySet):
    def for_lists(self) -> Self:
        """With what a line of a list shows, in one query."""
        return self.select_related("created_by", "taxonomy").defer(
            "taxonomy__classes", "taxonomy__edges", "taxonomy__node_names"
        )


class RunQuerySet(SharedQuerySet):
    def for_lists(self) -> Self:
        """With what a line of a list shows, in one query."""
        return self.select_related("created_by", "job", "edition__labelled_set")
