"""``manage.py demo digits | photographs | cifar10 | frames | robust``: builds a demonstration competition."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.errors import DomainError
from competition.demo import seeding
from jobs.inline import run_inline


class Command(BaseCommand):
    help = "Build a demonstration competition; what is there already is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        demos = parser.add_subparsers(dest="demo", required=True)
        digits = demos.add_parser("digits", help="1,797 handwritten digits, five classifiers; needs nothing")
        photographs = demos.add_parser("photographs", help="distorted photographs, five quality models; needs nothing")
        for demo in (digits, photographs):
            demo.add_argument("--enqueue", action="store_true", help="leave the work to a worker")
        cifar = demos.add_parser("cifar10", help="CIFAR-10 with pretrained networks and recorded human answers")
        cifar.add_argument("--k", type=int, default=30, help="images per pair of models")
        frames = demos.add_parser("frames", help="video frames, nine quality models and recorded laboratory ratings")
        frames.add_argument("--levels", type=int, default=6, help="levels per model")
        robust = demos.add_parser("robust", help="plain, robust, adjustable and compressed classifiers, trained here")
        robust.add_argument("--data", type=Path, help="the data folder, which holds cifar10/; digits without it")
        robust.add_argument("--k", type=int, default=4, help="images per pair of versions")
        robust.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="change every training")
        for demo, folder in ((cifar, "cifar10/"), (frames, "iqa_uhd_frames/ and biqa_params/")):
            demo.add_argument("--data", type=Path, required=True, help=f"the data folder, which holds {folder}")
            demo.add_argument("--replay", action="store_true", help="label it with the recorded answers, over HTTP")
            demo.add_argument("--server", default="", help="address of a running Falsify; by default one of its own")
            demo.add_argument("--report", type=Path, help="write the comparison with the truth to this Markdown file")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['demo']}")(**options)
        except DomainError as error:
            raise CommandError(str(error)) from error

    def _digits(self, *, enqueue: bool, **_: Any) -> None:
        self._seed("digits", enqueue=enqueue)

    def _photographs(self, *, enqueue: bool, **_: Any) -> None:
        self._seed("photographs", enqueue=enqueue)

    def _seed(self, name: str, *, enqueue: bool) -> None:
        job = seeding.demo_enqueue(name, by=seeding.demo_owner())
        if not enqueue:
            run_inline(job, show=True)

    def _cifar10(self, *, data: Path, k: int, replay: bool, server: str, report: Path | None, **_: Any) -> None:
        from competition.demo import cifar10, recorded_cifar10, replaying, reporting

        round_ = cifar10.build(data, k=k, by=seeding.demo_owner(), say=self.stdout.write)
        if replay:
            replaying.replay(
                round_, recorded_cifar10.answers(round_, data / "cifar10"), people=recorded_cifar10.N_PEOPLE,
                note=recorded_cifar10.NOTE, server=server, say=self.stdout.write,
            )  # fmt: skip
        if report:
            report.write_text(reporting.report(round_, data / "cifar10"), encoding="utf-8")
            self.stdout.write(f"Report written to {report}.")

    def _robust(self, *, data: Path | None, k: int, set: list[str], **_: Any) -> None:
        from competition.demo import robust

        try:
            config = {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in set)}
        except ValueError as error:
            raise CommandError(f"--set takes FIELD=JSON, such as epochs=2: {error}") from error
        round_ = robust.build(data, k=k, by=seeding.demo_owner(), say=self.stdout.write, config=config)
        self.stdout.write(f'"{round_.competition}" is {round_.get_state_display().lower()}.')

    def _frames(self, *, data: Path, levels: int, replay: bool, server: str, report: Path | None, **_: Any) -> None:
        from competition.demo import frames, replaying

        folder = data / "iqa_uhd_frames"
        round_ = frames.build(data, levels=levels, by=seeding.demo_owner(), say=self.stdout.write)
        if replay:
            replaying.replay(
                round_, frames.answers(round_, folder), people=frames.N_PEOPLE, note=frames.NOTE, server=server,
                say=self.stdout.write,
            )  # fmt: skip
        if report:
            report.write_text(frames.report(round_), encoding="utf-8")
            self.stdout.write(f"Report written to {report}.")
