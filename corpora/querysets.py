"""Reads of corpora and taxonomies."""

from typing import Self

from accounts.querysets import SharedQuerySet


class TaxonomyQuerySet(SharedQuerySet):
    def light(self) -> Self:
        """Without the classes and edges, which are long."""
        return self.defer("classes", "edges", "node_names")


class CorpusQuerySet(SharedQuerySet):
    def ready(self) -> Self:
        """Imported: their rows can be scored and looked at."""
        return self.filter(state="ready")

    def for_lists(self) -> Self:
        """With what a line of a list shows, in one query."""
        return self.select_related("created_by", "taxonomy").defer(
            "taxonomy__classes", "taxonomy__edges", "taxonomy__node_names", "facts"
        )
