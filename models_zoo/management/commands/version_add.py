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
from models_zoo.metrics import get as metric_card
from models_zoo.models import ADDED_KINDS, Model, Outputs, Task, VersionKind, VersionState
from models_zoo.presets import PRESETS_BY_KEY
from models_zoo.services import model_create, version_add


class Command(BaseCommand):
    help = "Add a version to the zoo and check it; the model is made where it is missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file",
            type=Path,
            nargs="?",
            help="Weights, ONNX file, exported program, predictions, or a measure's parameters",
        )
        parser.add_argument("--model", required=True, help="Name of the model")
        parser.add_argument("--label", default="v1")
        parser.add_argument("--kind", choices=[kind for kind, _ in ADDED_KINDS], default=VersionKind.TORCH)
        parser.add_argument("--architecture", default="", help="Of weights: its name; or a measure's name")
        parser.add_argument(
            "--options", type=json.loads, default={}, help='Of the architecture, as JSON: {"widths": [8]}'
        )
        parser.add_argument(
            "--preprocessing",
            help=f'A preset ({", ".join(PRESETS_BY_KEY)}), or fields of Preprocessing as JSON; by default "unit"',
        )
        parser.add_argument("--outputs", choices=Outputs.values, default=Outputs.LOGITS, help="Of classifiers")
        parser.add_argument("--corpus", help="Of predictions: the corpus they are for")
        parser.add_argument("--task", choices=Task.values, help="Of a new model; by default what the others say")
        parser.add_argument("--taxonomy", help="Label space of a new classifier")
        parser.add_argument("--lower-is-better", action="store_true", help="Of a new quality model's scores")
        parser.add_argument("--score-low", type=float, help="The lowest score of a new quality model, if there is one")
        parser.add_argument("--score-high", type=float, help="The highest score of a new quality model")
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
                file=options["file"].expanduser().absolute() if options["file"] else None,
                architecture=options["architecture"],
                arch_kwargs=options["options"],
                preprocessing=preprocessing_of(options["preprocessing"] or "unit"),
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
    if version.milliseconds is None:
        return ""
    if version.parameters is None:
        return f": {version.milliseconds:.2f} ms per image on one CPU thread"
    macs = "" if version.macs is None else f", {version.macs:,} MACs"
    return f": {version.parameters:,} parameters{macs}, {version.milliseconds:.2f} ms per image on one CPU thread"


def _model(by: User, options: dict[str, Any]) -> Model:
    """The model of that name; where there is none, it is made as the options say.

    Raises:
        DomainError: when they do not say what a new classifier predicts.
    """
    found: Model | None = Model.objects.visible_to(by).filter(name=options["model"]).first()
    if found is not None:
        return found
    card = _said_by_the_measure(options)
    taxonomy = taxonomy_named(options["taxonomy"], by)
    if taxonomy is None and (options["task"] or card.get("task")) != Task.QUALITY:
        raise DomainError(
            f'There is no model "{options["model"]}": to make it, give its label space with --taxonomy, or say '
            "--task quality."
        )
    return model_create(
        name=options["model"],
        taxonomy=taxonomy,
        by=by,
        licence=options["licence"] or card.pop("licence", ""),
        is_public=options["public"],
        **({} if taxonomy else {**_scale(options), **card}),
    )


def _scale(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": Task.QUALITY,
        "higher_is_better": not options["lower_is_better"],
        "score_low": options["score_low"],
        "score_high": options["score_high"],
    }


def _said_by_the_measure(options: dict[str, Any]) -> dict[str, Any]:
    """What a measure's card says of the model that a version of it makes."""
    if options["kind"] != VersionKind.METRIC or not options["architecture"]:
        return {}
    card = metric_card(options["architecture"])
    return {
        "task": Task.QUALITY,
        "higher_is_better": card.higher_is_better,
        "score_low": card.low,
        "score_high": card.high,
        "licence": card.licence,
        "description": f"{card.title}. {card.summary}. {card.source}",
    }


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
