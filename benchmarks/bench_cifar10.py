"""The real competition: ten CIFAR-10 classifiers, labelled by replaying recorded people over HTTP.

Runs ``manage.py demo cifar10 --replay`` in a folder of its own and writes the comparison with the truth to
docs/benchmarks.md. Needs the data folder (``FALSIFY_SHARED_DATA``, by default ``../shared/data``).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import write_section

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FALSIFY_SHARED_DATA", ROOT.parent / "shared" / "data"))
NOTES = """
True accuracy is measured over all 10,000 images with CIFAR-10's labels. The six published classifiers and the
recorded people saw the lossless images, the four ResNets see the JPEG files, which costs them about ten points; all
enter the same competition because it is about the predictions, whatever their origin. The published predictions carry
no confidences, so the confidence filter is off in every duel that involves one of them.

What this says: on one modest, fully labelled test set, a random sample of the same number of images orders models by
average accuracy better than MAD does, because average accuracy is what a random sample estimates. MAD asks another
question, who is right where models disagree, and needs no labels to find the images; every image it asks about shows a
model wrong.
"""


def main() -> None:
    if not (DATA / "cifar10").is_dir():
        sys.exit(f"{DATA} has no cifar10 folder: set FALSIFY_SHARED_DATA to the data folder.")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.md"
        environment = {**os.environ, "VAR_DIR": f"{folder}/var", "LOG_LEVEL": "WARNING"}

        def manage(*arguments: str) -> None:
            subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, check=True)

        manage("migrate", "--verbosity", "0")
        manage("admin_ensure")
        started = time.perf_counter()
        manage("demo", "cifar10", "--data", str(DATA), "--replay", "--report", str(report))
        minutes = (time.perf_counter() - started) / 60
        text = report.read_text(encoding="utf-8").strip()
    write_section(
        "cifar10",
        "## The CIFAR-10 competition, labelled by recorded people\n\n"
        f"{text}\n{NOTES}\nFrom the archive to the leaderboard: {minutes:.1f} minutes. "
        "`python -m benchmarks.bench_cifar10`\n",
    )


if __name__ == "__main__":
    main()
