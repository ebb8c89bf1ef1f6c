"""The real gMAD competition: nine quality models over video frames, labelled by replaying recorded people over HTTP.

Runs ``manage.py demo frames --replay`` in a folder of its own and writes what it found beside all ratings to
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
SRCC is measured with the opinion scores of all 324 frames; each recorded person's comparison is the difference of
their own ratings of the two frames (1 to 5), so it is as fine as that scale. VMAF and the other metrics marked "video"
are the study's own, measured against the uncoded video, and enter as prediction files; the others are computed here
from the frames alone, enlarged to one height as people saw them. The corpus is tiny for gMAD, which looks for rare
failures: with more images every attack gets stronger.
"""


def main() -> None:
    if not (DATA / "iqa_uhd_frames").is_dir():
        sys.exit(f"{DATA} has no iqa_uhd_frames folder: set FALSIFY_SHARED_DATA to the data folder.")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.md"
        environment = {**os.environ, "VAR_DIR": f"{folder}/var", "LOG_LEVEL": "WARNING"}

        def manage(*arguments: str) -> None:
            subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, check=True)

        manage("migrate", "--verbosity", "0")
        manage("admin_ensure")
        started = time.perf_counter()
        manage("demo", "frames", "--data", str(DATA), "--replay", "--report", str(report))
        minutes = (time.perf_counter() - started) / 60
        text = report.read_text(encoding="utf-8").strip()
    write_section(
        "frames",
        "## A gMAD competition of quality models, labelled by recorded people\n\n"
        f"{text}\n{NOTES}\nFrom the archive to the leaderboard: {minutes:.1f} minutes. "
        "`python -m benchmarks.bench_frames`\n",
    )


if __name__ == "__main__":
    main()
