"""`manage.py version_add FILE --model NAME --label LABEL`: enter weights or predictions and check them at once."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.errors import DomainError
from accounts.models import User
from corpora.management.commands.corpus_import import owner, taxonomy_named
from corpora.models import Corpus
from jobs.inline import run_inline
from jobs.models import Job
from models_zoo.adapters.spec import Preprocessing
from models_zoo.models import Model, Outputs, VersionKind, VersionState
from models_zoo.presets import PRESETS_BY_KEY
from models_zoo.services import model_create, version_add


class Command(BaseCommand):
    help = "Add a version to the zoo and check it; the model is made where it is missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="Weights, ONNX file, exported program, or predictions")
        parser.add_argument("--model", required=True, help="Name of the model")
        parser.add_argument("--label", default="v1")
        parser.add_argument("--kind", choices=VersionKind.values, default=VersionKind.TORCH)
        parser.add_argument("--architecture", default="", help="Of weights: a name of the registry")
        parser.add_argument(
            "--options", type=json.loads, default={}, help='Of the architecture, as JSON: {"widths": [8]}'
        )
        parser.add_argument(
            "--preprocessing",
            default="unit",
            help=f"A preset ({', '.join(PRESETS_BY_KEY)}), or the fields of Preprocessing as JSON",
        )
        parser.add_argument("--outputs", choices=Outputs.values, default=Outputs.LOGITS)
        parser.add_argument("--corpus", help="Of predictions: the corpus they are for")
        parser.add_argument("--taxonomy", help="Label space of a new model")
        parser.add_argument("--licence", default="")
        parser.add_argument("--public", action="store_true", help="Every researcher may look at a new model")
        parser.add_argument("--user", help="Owner; the first admin by default")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            by = owner(options["user"])
            version = version_add(
                model=_model(by, options),
                label=options["label"],
                kind=options["kind"],
                by=by,
                file=options["file"].expanduser().absolute(),
                architecture=options["architecture"],
                arch_kwargs=options["options"],
                preprocessing=preprocessing_of(options["preprocessing"]),
                outputs=options["outputs"],
                corpus=_corpus(by, options["corpus"]),
            )
            run_inline(Job.objects.about(version).get(kind="models_zoo.verify"), show=options["verbosity"] > 0)
        except (DomainError, ValueError) as error:
            raise CommandError(str(error)) from error
        version.refresh_from_db()
        if version.state != VersionState.VERIFIED:
            raise CommandError(f'"{version}" is refused. {version.refusal}')
        self.stdout.write(f'"{version}" ({version.pk}) is verified{_measured(version)}.')


def _measured(version: Any) -> str:
    if version.parameters is None:
        return ""
    macs = "" if version.macs is None else f", {version.macs:,} MACs"
    return f": {version.parameters:,} parameters{macs}, {version.milliseconds:.2f} ms per image on one CPU thread"


def _model(by: User, options: dict[str, Any]) -> Model:
    found: Model | None = Model.objects.visible_to(by).filter(name=options["model"]).first()
    if found is not None:
        return found
    taxonomy = taxonomy_named(options["taxonomy"], by)
    if taxonomy is None:
        raise DomainError(f'There is no model "{options["model"]}": to make it, give its label space with --taxonomy.')
    return model_create(
        name=options["model"], taxonomy=taxonomy, by=by, licence=options["licence"], is_public=options["public"]
    )


def preprocessing_of(text: str) -> Preprocessing:
    """A preset's name, or JSON. Raises DomainError or VersionRefused for neither."""
    if text in PRESETS_BY_KEY:
        return PRESETS_BY_KEY[text].preprocessing
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise DomainError(f'"{text}" is neither a preset ({", ".join(PRESETS_BY_KEY)}) nor a JSON object.')
    return Preprocessing.from_dict(fields)


def _corpus(by: User, name: str | None) -> Corpus | None:
    if not name:
        return None
    corpus: Corpus | None = Corpus.objects.visible_to(by).filter(name=name).first()
    if corpus is None:
        raise DomainError(f'There is no corpus "{name}": import it with "manage.py corpus_import".')
    return corpus
