"""`manage.py metric_params`: a file of parameters for a measure that is learned. No database, no server.

* ``lpips``: from a torchvision network and the authors' learned weights;
* ``niqe``: fitted to pristine photographs;
* ``brisque``: fitted to rated images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError, CommandParser

from corpora.imaging.decode import decode_rgb
from corpora.imaging.inspect import is_image_name
from corpora.tables import no_doubles, no_gaps, read_numbers, read_table, require_columns

ENDINGS = {"lpips": ".safetensors", "niqe": ".npz", "brisque": ".npz"}


class Command(BaseCommand):
    help = "Make a file of parameters for a measure that is learned: from published files, or fitted to images."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        measures = parser.add_subparsers(dest="measure", required=True)
        lpips = measures.add_parser("lpips", help="LPIPS: a torchvision network and the authors' learned weights")
        lpips.add_argument("--network", choices=["alex", "vgg", "squeeze"], required=True)
        lpips.add_argument("--backbone", type=Path, required=True, help="State dict of torchvision's network")
        lpips.add_argument("--linear", type=Path, required=True, help="The learned weights, such as alex.pth")
        niqe = measures.add_parser("niqe", help="NIQE: the statistics of pristine photographs")
        niqe.add_argument("--images", type=Path, required=True, help="A folder of pristine photographs")
        niqe.add_argument(
            "--sharp", type=float, default=0.75, help="Blocks count above this share of their image's sharpest one"
        )
        brisque = measures.add_parser("brisque", help="BRISQUE: a regression from image statistics to ratings")
        brisque.add_argument("--images", type=Path, required=True, help="The folder of the rated images")
        brisque.add_argument("--ratings", type=Path, required=True, help="A table path,mos; higher is better")
        brisque.add_argument(
            "--scale", type=float, nargs=2, required=True, metavar=("LOW", "HIGH"), help="Ends of the rating scale"
        )
        for measure, ending in ENDINGS.items():
            measures.choices[measure].add_argument(
                "--out", type=Path, required=True, help=f"The file to write, {ending}"
            )

    def handle(self, *args: Any, **options: Any) -> None:
        measure, out = options["measure"], options["out"].expanduser()
        if out.suffix != ENDINGS[measure]:
            raise CommandError(f'"{out}" does not end in {ENDINGS[measure]}: name it so.')
        try:
            {"lpips": _lpips, "niqe": _niqe, "brisque": _brisque}[measure](out, options)
        except (ValueError, OSError) as error:
            raise CommandError(f"{error}.") from error
        architecture = f"lpips_{options['network']}" if measure == "lpips" else measure
        self.stdout.write(
            f'{out} is written: add it with "version_add {out} --kind metric --architecture {architecture}".'
        )


def _lpips(out: Path, options: dict[str, Any]) -> None:
    from models_zoo.adapters.weights import read_state_dict
    from models_zoo.metrics.lpips import lpips_params

    backbone, linear = (read_state_dict(options[name].expanduser()) for name in ("backbone", "linear"))
    lpips_params(options["network"], backbone=backbone, linear=linear, out=out)


def _niqe(out: Path, options: dict[str, Any]) -> None:
    from models_zoo.metrics.niqe import niqe_fit

    folder = options["images"].expanduser()
    files = sorted(file for file in folder.rglob("*") if file.is_file() and is_image_name(file.name))
    if not files:
        raise CommandError(f'"{folder}" has no images.')
    niqe_fit((_of_file(decode_rgb, file) for file in files), sharp=options["sharp"]).save(out)


def _brisque(out: Path, options: dict[str, Any]) -> None:
    from models_zoo.metrics.brisque import brisque_features, brisque_fit

    ratings, folder = options["ratings"].expanduser(), options["images"].expanduser()
    table = read_table(ratings, text=["path"])
    require_columns(ratings, table, ["path", "mos"])
    no_gaps(ratings, table["path"], "path")
    no_doubles(ratings, table["path"])
    mos = read_numbers(ratings, table["mos"], "mos")
    files = [folder / path for path in table["path"].to_pylist()]
    features = np.array([_of_file(lambda path: brisque_features(decode_rgb(path)), file) for file in files])
    brisque_fit(features, mos, mos_range=tuple(options["scale"])).save(out)


def _of_file(function: Callable[[Path], np.ndarray], file: Path) -> np.ndarray:
    """Raises ValueError that names the file where it is no image or not a suitable one."""
    try:
        return function(file)
    except ValueError as error:
        raise ValueError(f'"{file}": {error}') from error
