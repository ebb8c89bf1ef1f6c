"""`manage.py train METHOD --set key=value ...`: train in this process, without a server.

``train --list`` names the methods, ``train METHOD --help-config`` what can be set. Several GPUs, or processes:
``accelerate launch manage.py train METHOD ...``; the first process writes, the others help. A run that broke off goes
on with ``train --resume RUN``.
"""

import json
import os
from argparse import ArgumentTypeError
from typing import Any, get_args

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.errors import DomainError
from accounts.models import User
from accounts.option_fields import bounds_words, shown_value, takes_several, type_words
from corpora.management.commands.corpus_import import owner
from jobs.inline import run_inline
from models_zoo.management.commands.score import version_named
from models_zoo.models import Version
from training.engine.devices import OnLoss, Precision
from training.engine.registry import Method, UnknownMethod, method, methods
from training.models import Edition, LabelledSet, Run
from training.services import run_create, run_retry


class Command(BaseCommand):
    help = "Train: run a training method on versions and a labelled set; what comes out are new versions."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("method", nargs="?", help="A training method; --list names them")
        parser.add_argument("--list", action="store_true", help="Name the methods and end")
        parser.add_argument("--help-config", action="store_true", help="Say what --set takes and end")
        parser.add_argument("--preset", default="", help="Values to begin with; the method's first one by default")
        parser.add_argument(
            "--set", action="append", default=[], type=key_value, metavar="KEY=VALUE", help="Change a value; repeat it"
        )
        parser.add_argument(
            "--input", action="append", default=[], type=key_value, metavar="ROLE=VERSION",
            help='A version that goes in: target="model label", or its number; repeat it',
        )  # fmt: skip
        parser.add_argument("--data", help='A labelled set, "name" for its newest edition or "name@2"')
        parser.add_argument("--name", default="", help="What the run is called")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
        parser.add_argument("--precision", choices=get_args(Precision), help="auto: by what the device can do")
        parser.add_argument("--compile", action="store_true", help="torch.compile on a GPU")
        parser.add_argument("--on-device-loss", choices=get_args(OnLoss), help="When a GPU disappears")
        parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="Stop after this time, resumable")
        parser.add_argument("--memory-limit", type=float, metavar="GB", help="Stop above this much, resumable")
        parser.add_argument("--enqueue", action="store_true", help="Leave it to a worker")
        parser.add_argument("--resume", type=int, metavar="RUN", help="Go on with a run, by its number")
        parser.add_argument("--user", help="Who trains; the first admin by default")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["list"]:
                self.stdout.write("\n".join(method_lines()))
            elif options["help_config"]:
                self.stdout.write("\n".join(config_lines(_method(options["method"]), options["preset"])))
            else:
                self._train(options)
        except (DomainError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _train(self, options: dict[str, Any]) -> None:
        if options["enqueue"]:
            run = _run(options)
            self.stdout.write(f'Run {run.pk}, "{run.name}", waits for a worker.')
            return
        settings.JOBS_SEND_MESSAGES = False  # no worker is called: this process does the work
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            done: Run | None = _together(options)
        else:
            done = _run(options)
            _finish(done, options)
        if done is not None:
            self._say(done)

    def _say(self, run: Run) -> None:
        run.refresh_from_db()
        self.stdout.write(f'Run {run.pk}, "{run.name}", is over after {run.seconds:,.0f} s. Files: {run.directory}')
        for output in run.outputs.select_related("version__model"):
            self.stdout.write(f'  {output.role}: "{output.version}" (version {output.version_id})')
        if run.report:
            self.stdout.write(json.dumps(run.report, indent=1))


def method_lines() -> list[str]:
    """A line for each method, and one for its presets."""
    lines = []
    for name, found in methods().items():
        card = found.card
        lines.append(f"{name:<12} {card.title}: {card.summary} ({card.source})")
        roles = ", ".join(
            f"{slot.role}{'' if slot.required else '?'}{'*' if slot.many else ''}" for slot in card.inputs
        )
        lines.append(
            f"{'':<12} presets: {', '.join(card.presets) or 'none'}; inputs: {roles or 'none'}; "
            f"labels: {card.data or 'none'}"
        )
    return lines or ["There are no methods."]


def config_lines(chosen: Method, preset: str) -> list[str]:
    """The config as a table: name, value of the preset, type and bounds, and what it means."""
    values = chosen.configure(preset)
    rows = [
        (
            name,
            shown_value(info, getattr(values, name)),
            "; ".join(words for words in (type_words(info), bounds_words(info)) if words),
            info.description or info.title or "",
        )
        for name, info in chosen.config.model_fields.items()
    ]
    heads = ("name", preset or next(iter(chosen.card.presets), "default"), "takes", "meaning")
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(3)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in (heads, *rows)
    ]


def key_value(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ArgumentTypeError(f'"{text}" is no pair: write key=value')
    return key.strip(), value.strip()


def parsed(text: str) -> Any:
    """JSON where it is some, a list where there are commas, else text; the config checks the type."""
    try:
        return json.loads(text)
    except ValueError:
        return [parsed(part.strip()) for part in text.split(",")] if "," in text else text


def _setting(chosen: Method, key: str, text: str) -> Any:
    """A value of the config; one alone is a list of one, and nothing an empty one, where the field is a list."""
    value, info = parsed(text), chosen.config.model_fields.get(key)
    if info is None or not takes_several(info) or isinstance(value, list):
        return value
    return [value] if text else []


def _method(name: str | None) -> Method:
    if name is None:
        raise DomainError(f"Say which method: {', '.join(methods())}.")
    try:
        return method(name)
    except UnknownMethod as error:
        raise DomainError(f"{error}.".replace("there", "There", 1)) from error


def _run(options: dict[str, Any]) -> Run:
    """The run that was asked for, with a live job."""
    by = owner(options["user"])
    if options["resume"] is not None:
        run = Run.objects.visible_to(by).filter(pk=options["resume"]).first()
        if run is None:
            raise DomainError(f"There is no run {options['resume']}: the page of runs names them.")
        return run_retry(run=run, by=by)
    chosen = _method(options["method"])
    return run_create(
        method=chosen.card.name,
        by=by,
        name=options["name"],
        preset=options["preset"],
        config={key: _setting(chosen, key, text) for key, text in options["set"]},
        inputs=_inputs(options["input"], options["user"]),
        edition=_edition(options["data"], by) if options["data"] else None,
        seed=options["seed"],
        device=options["device"],
        resources=_resources(options),
    )


def _resources(options: dict[str, Any]) -> dict[str, Any]:
    given = {
        "precision": options["precision"],
        "compiled": options["compile"] or None,
        "on_device_loss": options["on_device_loss"],
        "time_limit_seconds": options["time_limit"],
        "memory_limit_gb": options["memory_limit"],
    }
    return {name: value for name, value in given.items() if value is not None}


def _inputs(pairs: list[tuple[str, str]], username: str | None) -> dict[str, list[Version]]:
    found: dict[str, list[Version]] = {}
    for role, name in pairs:
        found.setdefault(role, []).append(version_named(name, username))
    return found


def _edition(text: str, by: User) -> Edition:
    """The edition that "name" or "name@number" means. Raises DomainError."""
    visible = LabelledSet.objects.visible_to(by)
    name, separator, number = text.rpartition("@")
    chosen = visible.filter(name=text).first()
    wanted = None
    if chosen is None and separator and number.isdecimal():
        chosen, wanted = visible.filter(name=name).first(), int(number)
    if chosen is None:
        some = ", ".join(f'"{each}"' for each in visible[:8])
        raise DomainError(f'There is no labelled set "{text}". There are: {some or "none yet"}.')
    editions = chosen.editions.order_by("-number")
    edition: Edition | None = (editions.filter(number=wanted) if wanted is not None else editions).first()
    if edition is None:
        has = ", ".join(str(each.number) for each in editions) or "none yet"
        raise DomainError(f'The labelled set "{chosen}" has no edition {wanted or ""}. Editions: {has}.')
    return edition


def _finish(run: Run, options: dict[str, Any]) -> None:
    assert run.job is not None, "a run is made with its job"
    run_inline(run.job, show=options["verbosity"] > 0)


def _together(options: dict[str, Any]) -> Run | None:
    """Under ``accelerate launch`` the first process has the job; the others help it. None in the others."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    from training.running import run_train

    state = PartialState(cpu=options["device"] == "cpu" or not torch.cuda.is_available())
    number: list[Any] = [None]
    run = None
    if state.is_main_process:
        try:
            run = _run(options)
            number[0] = run.pk
        finally:
            broadcast_object_list(number)
        _finish(run, options)
        return run
    broadcast_object_list(number)
    if number[0] is not None:
        run_train(run=Run.objects.get(pk=number[0]), context=None)
    return None
