"""Rebuild the ImageNet-1k taxonomy from a WordNet database and the list of the 1,000 class ids."""

import argparse
import csv
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from corpora.taxonomy import TaxonomyError, imagenet1k, to_csv
from corpora.taxonomy.wordnet import read_nouns, taxonomy_of


class Command(BaseCommand):
    help = "Rebuild the ImageNet-1k taxonomy from WordNet 3.0."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder that holds data.noun"
        )
        parser.add_argument(
            "--classes",
            type=Path,
            help="CSV with a column wnid and a column index (or imgnetid); default: the carried table",
        )
        parser.add_argument("--out", type=Path, required=True, help="the taxonomy to write, CSV")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ids = _class_ids(options["classes"]) if options["classes"] else [item.id for item in imagenet1k().classes]
            taxonomy = taxonomy_of("imagenet1k", ids, read_nouns(options["wordnet"]))
            to_csv(options["out"], taxonomy)
        except (TaxonomyError, OSError) as error:
            raise CommandError(str(error)) from error
        nodes = len(taxonomy.parents)
        self.stdout.write(f"{options['out']}: {taxonomy.n_classes} classes, {nodes} nodes, {len(taxonomy.edges)} edges")


def _class_ids(path: Path) -> list[str]:
    """WordNet ids by class index, from a CSV that has columns `wnid` and `index` (or `imgnetid`)."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        column = next((name for name in ("index", "imgnetid") if name in (reader.fieldnames or ())), None)
        if column is None or "wnid" not in (reader.fieldnames or ()):
            raise TaxonomyError(
                f"{path.name}: columns wnid and index are needed, found {', '.join(reader.fieldnames or ())}"
            )
        try:
            by_index = {int(row[column]): row["wnid"].strip() for row in reader}
        except ValueError as error:
            raise TaxonomyError(f"{path.name}: {error}; a class index is a whole number") from error
    if sorted(by_index) != list(range(len(by_index))):
        raise TaxonomyError(f"{path.name}: {len(by_index)} classes must be numbered 0 to {len(by_index) - 1}")
    return [by_index[index] for index in range(len(by_index))]
