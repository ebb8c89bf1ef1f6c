"""The three robust methods at the size of their papers' networks, cut to a time budget on one large GPU.

``python -m benchmarks.gpu_robust --minutes 25``. Each method gets its share of the minutes: short probes say what an
image and an epoch cost, and all its epochs are scaled alike to fill the share. What comes out is a reference point of
the papers' networks on the images of the data folder after few epochs; the papers train for far longer, on lossless
images. Prints a table; ``--write`` puts it into docs/benchmarks.md.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import write_section
from benchmarks.robust import lines_of, tables
from benchmarks.robust_data import cifar_data, digits_data
from training.engine.devices import Resources, device_words
from training.engine.labels import LabelledData
from training.engine.local import RunResult, run_method
from training.engine.registry import MethodConfig, method
from training.engine.robustness import Unconfirmed

PROBE_IMAGES = 1_024
SPARE = 0.85  # of a share is planned; the rest is for what probes do not see


@dataclass(frozen=True)
class Planned:
    """share: of all minutes. epochs: the paper's, by the config's fields; scaled together. config: what else differs
    from the paper's preset."""

    method: str
    share: float
    epochs: Mapping[str, int]
    config: Mapping[str, Any] = field(default_factory=dict)


PLAN = (
    Planned("pgdat", 0.12, {"epochs": 200}, {"warm_up": 0.1}),
    Planned("oat", 0.28, {"epochs": 200}, {"warm_up": 0.1, "dedicated": ()}),
    Planned("rdi", 0.32, {"epochs": 164}, {"exit_loss": "mean", "baselines": False, "most_val": 1_000}),
    Planned("atmc", 0.28, {"dense_epochs": 200, "prune_epochs": 200, "factor_epochs": 200, "bits_epochs": 150}),
)


@dataclass(frozen=True)
class Setting:
    data: LabelledData
    folder: Path
    resources: Resources
    preset: str
    most_test: int

    def run(self, planned: Planned, name: str, epochs: Mapping[str, int], **changes: Any) -> RunResult:
        config = self.config(planned, epochs, **changes)
        return run_method(
            planned.method, config=config, directory=self.folder / f"{planned.method}-{name}", data=self.data,
            resources=self.resources,
        )  # fmt: skip

    def config(self, planned: Planned, epochs: Mapping[str, int], **changes: Any) -> MethodConfig:
        values = {**planned.config, **epochs, "most_test": self.most_test, **changes}
        return method(planned.method).configure(self.preset, **values)


def scaled(epochs: Mapping[str, int], factor: float) -> dict[str, int]:
    return {name: max(1, round(factor * number)) for name, number in epochs.items()}


def planned_epochs(planned: Planned, setting: Setting, seconds: float) -> dict[str, int]:
    """The epochs that fill the share. Probes of one epoch a stage tell what an image costs and what a run costs
    besides; the first warms up, the last has three times as many images."""
    started = time.monotonic()
    one = dict.fromkeys(planned.epochs, 1)
    taken = [
        setting.run(planned, f"probe-{number}", one, most_images=n, most_test=min(100, setting.most_test)).seconds
        for number, n in enumerate((PROBE_IMAGES, PROBE_IMAGES, 3 * PROBE_IMAGES))
    ]
    per_image = max(taken[2] - taken[1], 1e-3) / (2 * PROBE_IMAGES)  # of one epoch of each stage
    n_images = len(setting.data.rows("train"))
    besides = max(0.0, taken[1] - per_image * PROBE_IMAGES) * setting.most_test / min(100, setting.most_test)
    left = SPARE * seconds - besides - (time.monotonic() - started)
    mean = sum(planned.epochs.values()) / len(planned.epochs)
    return scaled(planned.epochs, max(0.0, left) / (per_image * n_images) / mean)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--methods", nargs="+", choices=[each.method for each in PLAN], help="all by default")
    parser.add_argument("--device", default="cuda", help="cpu with --digits tries the script itself")
    parser.add_argument("--digits", action="store_true", help="the digits presets on digits")
    parser.add_argument("--train", type=int, default=19_000, help="CIFAR training images")
    parser.add_argument("--most-test", type=int, default=1_000)
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    data = digits_data() if options.digits else cifar_data(train=options.train, val=1_000, test=options.most_test)
    chosen = [each for each in PLAN if not options.methods or each.method in options.methods]
    total = sum(each.share for each in chosen)
    said = []
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            data, Path(folder), Resources(device=options.device), "digits" if options.digits else "paper",
            options.most_test,
        )  # fmt: skip
        for planned in chosen:
            epochs = planned_epochs(planned, setting, 60 * options.minutes * planned.share / total)
            words = ", ".join(f"{name} {number}" for name, number in epochs.items())
            print(f"{planned.method}: {words}", flush=True)
            try:
                result = setting.run(planned, "whole", epochs)
            except Unconfirmed as error:
                said.append(f"### {planned.method}: {words}\n\nThe run failed: {error}")
                continue
            text = tables([lines_of(planned.method, result)]).replace("### ", "#### ")
            said.append(f"### {planned.method}: {words}\n\n{result.seconds:.0f} s in all.\n\n{text}")
            print(said[-1], flush=True)
    device = device_words(torch.device("cuda" if options.device.startswith("cuda") else "cpu"))
    head = f"{options.minutes:g} minutes on {device}, {len(data.rows('train')):,} training images of {data.name}."
    whole = "\n\n".join([f"## Robust methods on one GPU\n\n{head} `python -m benchmarks.gpu_robust`", *said])
    print(whole)
    if options.write:
        write_section("gpu-robust", whole)


if __name__ == "__main__":
    main()
