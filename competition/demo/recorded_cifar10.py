"""Recorded answers about the CIFAR-10 test images.

CIFAR-10H (J. Peterson et al., ICCV 2019) recorded, for each CIFAR-10 test image, which class each of about 50 people
chose. A simulated person's answer about an image is one of these recorded answers, drawn without replacement; asked
whether the image holds a cat, they say yes when the recorded answer was "cat".
"""

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from competition.demo.replaying import Answering
from competition.models import Round
from corpora.reading import manifest_of
from labeling.models import Slot

N_PEOPLE = 12
NOTE = "Recorded people (CIFAR-10H)"


class RecordedAnswers:
    """What people said about each image; one answer per simulated person and image."""

    def __init__(self, file: Path, *, seed: int) -> None:
        with file.open(newline="") as rows:
            reader = csv.reader(rows)
            next(reader)
            self._counts = {path: [int(n) for n in counts] for path, *counts in reader}
        self._seed = seed
        self._order: dict[str, list[int]] = {}
        self._drawn: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()

    def answer(self, path: str, person: int) -> int:
        """The class that this person saw in the image; the same at every call."""
        with self._lock:
            if path not in self._order:
                pool = np.repeat(np.arange(len(self._counts[path])), self._counts[path])
                rng = np.random.default_rng([self._seed, *path.encode()])
                self._order[path] = rng.permutation(pool).tolist()
            if (path, person) not in self._drawn:
                self._drawn[path, person] = self._order[path].pop()
            return self._drawn[path, person]


def recorded_path(path: str) -> str:
    """The image's path in the records, whatever folder the import put before it."""
    return "/".join(Path(path).parts[-3:])


def answers(round: Round, folder: Path) -> Callable[[int], Answering]:
    """How each simulated person answers; ``folder`` holds ``human_counts.csv``."""
    recorded = RecordedAnswers(folder / "human_counts.csv", seed=0)
    paths = [str(path) for path in manifest_of(round.competition.corpus).column("path")]

    def answer_for(person: int) -> Answering:
        def answer(trial: dict[str, Any]) -> dict[str, Any]:
            row = Slot.objects.values_list("trial__item__row", flat=True).get(pk=trial["slot"])
            seen = recorded.answer(recorded_path(paths[row]), person)
            return {str(card["index"]): card["index"] == seen for card in trial["classes"]}

        return answer

    return answer_for
