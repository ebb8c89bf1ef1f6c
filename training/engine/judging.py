"""How good networks are on labelled rows, whatever their task: by opinion scores, or by classes.

Mark: one number, higher = better; SRCC of a quality network, accuracy of a classifier. Orientation: 1, or -1 for a
quality network whose lower scores are better; read off the labels where neither its card nor its architecture says it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch import nn

from models_zoo.adapters.prepare import Prepared
from models_zoo.adapters.spec import Preprocessing
from models_zoo.architectures import architecture_card
from training.engine.context import RunContext
from training.engine.images import evaluate
from training.engine.labels import LabelledData, LabelledRows
from training.engine.measures import REPLICATES, accuracy, agreement, change, srcc
from training.engine.networks import InputNetwork

Outputs = npt.NDArray[np.float32]
_MOST_READ = 400  # images of which an orientation is read off


@dataclass(frozen=True)
class Judge:
    """Judges networks that see images as one target does."""

    run: RunContext
    data: LabelledData
    preprocessing: Preprocessing
    orientation: int

    @classmethod
    def of(cls, run: RunContext, target: InputNetwork) -> Self:
        """For the run's labels, which are of the target's task."""
        assert run.data is not None
        known = target.higher_is_better
        if known is None and architecture_card(target.architecture).higher_is_better:
            known = True
        judge = cls(run, run.data, target.preprocessing, -1 if known is False else 1)
        if not target.spec.is_quality or known is not None:
            return judge
        rows = run.data.rows("val") if len(run.data.rows("val")) else run.data.rows("train")
        found = judge.marks([target.module().to(run.device)], rows.where(np.arange(min(len(rows), _MOST_READ))))[0]
        return cls(run, run.data, target.preprocessing, -1 if found < 0 else 1)

    @property
    def is_quality(self) -> bool:
        return self.data.task == "quality"

    def outputs(self, networks: Sequence[nn.Module], rows: LabelledRows) -> Outputs:
        """(networks, n, outputs) float32 of whole images, each decoded once for all networks; as they give them."""
        prepared = [Prepared(network, self.preprocessing).to(self.run.device) for network in networks]
        return evaluate(
            prepared,
            self.data,
            rows.indices,
            preprocessing=self.preprocessing,
            device=self.run.device,
            check=self.run.check,
        )

    def marks(self, networks: Sequence[nn.Module], rows: LabelledRows) -> list[float]:
        """One number per network; NaN where it is not defined."""
        return [self.mark(outputs, rows) for outputs in self.outputs(networks, rows)]

    def mark(self, outputs: Outputs, rows: LabelledRows) -> float:
        """outputs: (n, outputs) of one network."""
        if self.is_quality:
            return srcc(self.orientation * outputs[:, 0], rows.mos, scale=rows.scale)
        return float((outputs.argmax(axis=1) == rows.label).mean())

    def compare(
        self, before: Outputs, after: Outputs, rows: LabelledRows, *, replicates: int = REPLICATES
    ) -> dict[str, Any]:
        """JSON: measures before and after with their intervals, and the change, of one network on the same rows.

        Intervals are bootstraps over groups of like content (accuracy: Wilson's).
        """
        if not len(rows):
            return {"n": 0}
        if not self.is_quality:
            return _classes_compared(before.argmax(axis=1) == rows.label, after.argmax(axis=1) == rows.label)
        was, became = (
            agreement(
                self.orientation * outputs[:, 0],
                rows.mos,
                scale=rows.scale,
                groups=rows.group,
                replicates=replicates,
                seed=self.run.seed,
            )
            for outputs in (before, after)
        )
        changed = {name: each.plain() for name, each in change(was, became).items()}
        return {"n": len(rows), "before": was.plain(), "after": became.plain(), "change": changed}


def _classes_compared(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """lost, won: images that were right and are wrong now, and the other way round."""
    was, became = accuracy(before), accuracy(after)
    return {
        "n": len(before),
        "before": {"accuracy": was.plain()},
        "after": {"accuracy": became.plain()},
        "change": {"accuracy": {"value": became.value - was.value}},
        "lost": int((before & ~after).sum()),
        "won": int((~before & after).sum()),
    }
