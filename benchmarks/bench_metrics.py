"""Classical quality measures against the obvious numpy and scipy way, one photograph after the other, on one thread.

    python -m benchmarks.bench_metrics        # writes docs/benchmarks.md
    python -m benchmarks.bench_metrics --dry  # only prints

Photographs are crops of 512 x 384 of those that scikit-image carries, and their noisy versions for measures that
compare. The obvious ways are those that the tests compare with (tests/models_zoo/metrics/slow.py), and scikit-image's
PSNR and SSIM; both sides must give the same scores. Seconds are CPU seconds of the thread, the fastest of several
runs. Parameters of BRISQUE and NIQE are fitted to the crops on the spot; their values do not change the work.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.report import markdown_table, write_section
from models_zoo.metrics import get
from models_zoo.metrics.brisque import brisque_features, brisque_fit, brisque_load
from models_zoo.metrics.niqe import niqe_fit, niqe_load
from tests.models_zoo.metrics import slow
from tests.models_zoo.metrics.pictures import noisy, photograph

Score = Callable[[np.ndarray, np.ndarray], float]
WIDTH, HEIGHT = 512, 384
MODEL_SIZE = 774  # support vectors of the published BRISQUE


def crops() -> list[np.ndarray]:
    return [photograph(name)[:HEIGHT, :WIDTH] for name in ("astronaut", "coffee", "rocket")]


def fitted(images: list[np.ndarray], folder: Path) -> dict[str, Path]:
    """Parameters files; a machine of as many vectors as the published one, from crops under ever more noise."""
    rng = np.random.default_rng(0)
    features = np.array([brisque_features(noisy(image, sigma)) for image in images for sigma in range(0, 40, 4)])
    repeated = np.repeat(features, MODEL_SIZE // len(features) + 1, axis=0)[:MODEL_SIZE]
    spread = repeated * rng.uniform(0.9, 1.1, repeated.shape)
    brisque_fit(spread, rng.uniform(1, 5, MODEL_SIZE), mos_range=(1, 5)).save(folder / "brisque.npz")
    niqe_fit(images, sharp=0.1).save(folder / "niqe.npz")
    return {"brisque": folder / "brisque.npz", "niqe": folder / "niqe.npz"}


def rivals(params: dict[str, Path]) -> dict[str, tuple[str, Score]]:
    """Per measure: who else computes it, and how."""
    machine, pristine = brisque_load(params["brisque"]), niqe_load(params["niqe"])
    grey = slow.grey
    by_scipy: dict[str, Score] = {
        "brisque": lambda image, _: machine.score(slow.slow_brisque(image)),
        "niqe": lambda image, _: pristine.score(slow.slow_niqe_blocks(image)[0]),
        "ms_ssim": lambda image, other: slow.slow_ms_ssim(grey(image), grey(other)),
        "gmsd": lambda image, other: slow.slow_gmsd(grey(image), grey(other)),
        "jpeg_quality": lambda image, _: slow.slow_jpeg_quality(grey(image)),
        "blur_effect": lambda image, _: slow.slow_blur(grey(image)),
        "noise_sigma": lambda image, _: slow.slow_noise(grey(image)),
    }
    by_scikit_image: dict[str, Score] = {
        "psnr": lambda image, other: peak_signal_noise_ratio(other, image),
        "ssim": lambda image, other: structural_similarity(
            grey(image), grey(other), data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        ),
    }
    return {
        **{name: ("numpy, scipy", score) for name, score in by_scipy.items()},
        **{name: ("scikit-image", score) for name, score in by_scikit_image.items()},
    }


def milliseconds(score: Score, pairs: list[tuple[np.ndarray, np.ndarray]], repeats: int) -> float:
    """CPU time of one image."""
    score(*pairs[0])
    spent = []
    for _ in range(repeats):
        start = time.thread_time()
        for image, reference in pairs:
            score(image, reference)
        spent.append(time.thread_time() - start)
    return min(spent) / len(pairs) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print, and leave docs/benchmarks.md alone")
    options = parser.parse_args()
    images = crops()
    pairs = [(noisy(image, 8), image) for image in images]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        params = fitted(images, Path(folder))
        for name, (rival, obvious) in rivals(params).items():
            measure = get(name).build(params.get(name))
            for pair in pairs:
                if not np.isclose(measure(*pair), obvious(*pair), rtol=1e-6):
                    raise SystemExit(f"{name}: {measure(*pair)} here, {obvious(*pair)} by {rival}")
            ours = milliseconds(measure, pairs, 4 * options.repeats)
            theirs = milliseconds(obvious, pairs, options.repeats)
            lines.append(
                [get(name).title, f"{1000 / ours:,.0f}", rival, f"{1000 / theirs:,.0f}", f"{theirs / ours:.1f}"]
            )
    table = markdown_table(["measure", "images/s", "obvious way", "images/s", "ratio"], lines)
    print(table)
    if not options.dry:
        text = (
            f"## Classical quality measures\n\nPhotographs of {WIDTH} x {HEIGHT}, one after the other on one thread, "
            "already decoded; equal scores, which the command checks. CPU seconds, fastest of several runs.\n\n"
            f"`python -m benchmarks.bench_metrics`\n\n{table}"
        )
        write_section("metrics", text, libraries=("numpy", "scipy", "numba", "scikit-image"))


if __name__ == "__main__":
    main()
