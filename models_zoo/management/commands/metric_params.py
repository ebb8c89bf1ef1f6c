"""`manage.py metric_params lpips`: one file of parameters for a version of LPIPS. No database, no server."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Make a file of parameters for a measure that is learned, from the files that its authors publish."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        measures = parser.add_subparsers(dest="measure", required=True)
        lpips = measures.add_parser("lpips", help="LPIPS: a torchvision network and the authors' learned weights")
        lpips.add_argument("--network", choices=["alex", "vgg", "squeeze"], required=True)
        lpips.add_argument("--backbone", type=Path, required=True, help="State dict of torchvision's network")
        lpips.add_argument("--linear", type=Path, required=True, help="The learned weights, such as alex.pth")
        lpips.add_argument("--out", type=Path, required=True, help="The file to write, .safetensors")

    def handle(self, *args: Any, **options: Any) -> None:
        from models_zoo.adapters.weights import read_state_dict
        from models_zoo.metrics.lpips import lpips_params

        out = options["out"].expanduser()
        if out.suffix != ".safetensors":
            raise CommandError(f'"{out}" does not end in .safetensors: name it so.')
        try:
            backbone, linear = (read_state_dict(options[name].expanduser()) for name in ("backbone", "linear"))
            lpips_params(options["network"], backbone=backbone, linear=linear, out=out)
        except (ValueError, OSError) as error:
            raise CommandError(f"{error}.") from error
        self.stdout.write(
            f'{out} is written: add it with "version_add {out} --kind metric '
            f'--architecture lpips_{options["network"]}".'
        )
