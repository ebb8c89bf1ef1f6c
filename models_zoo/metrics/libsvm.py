"""Epsilon-SVR with a radial kernel from libsvm's text files: a model, and the ranges that svm-scale wrote.

Both in one file, in either order (``cat ranges model > brisque.txt``).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models_zoo.metrics.params import SIZE_LIMIT
from models_zoo.metrics.registry import UnsuitableParams


@dataclass(frozen=True)
class Machine:
    """support: (n, n_features), coefficients: (n,), scale and offset: (n_features,); see `BrisqueParams`."""

    support: np.ndarray
    coefficients: np.ndarray
    intercept: float
    gamma: float
    scale: np.ndarray
    offset: np.ndarray


def read_libsvm(path: Path, *, n_features: int) -> Machine:
    """Raises UnsuitableParams, naming the line, for text that is not an epsilon-SVR with radial kernel and ranges."""
    if path.stat().st_size > SIZE_LIMIT:
        raise UnsuitableParams(f'"{path.name}" is too large for a file of parameters')
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError as error:
        raise UnsuitableParams(f'"{path.name}" is neither an .npz file nor libsvm text') from error
    model = next((number for number, line in enumerate(lines) if line.startswith("svm_type")), None)
    ranges = next((number for number, line in enumerate(lines) if line.strip() == "x"), None)
    if model is None or ranges is None:
        raise UnsuitableParams(
            f'"{path.name}" must hold a libsvm model ("svm_type ...") and the ranges of svm-scale ("x"), '
            "one after the other"
        )
    reader = _Reader(lines, path.name, n_features)
    header, first = reader.header(model)
    support, coefficients = reader.vectors(first, int(header["total_sv"]))
    scale, offset = reader.ranges(ranges)
    return Machine(support, coefficients, -float(header["rho"]), float(header["gamma"]), scale, offset)


class _Reader:
    """The lines of one file; methods take the number of the first line, counted from 0."""

    def __init__(self, lines: list[str], name: str, n_features: int) -> None:
        self.lines, self.name, self.n_features = lines, name, n_features

    def header(self, start: int) -> tuple[dict[str, str], int]:
        """The fields of the model, and the line after "SV"."""
        fields: dict[str, str] = {}
        for number in range(start, len(self.lines)):
            key, _, value = self.lines[number].strip().partition(" ")
            if key == "SV":
                break
            fields[key] = value
        else:
            raise UnsuitableParams(f'"{self.name}" has no line "SV": the model is cut short')
        wanted = {"svm_type": "epsilon_svr", "kernel_type": "rbf"}
        for key, value in wanted.items():
            if fields.get(key) != value:
                raise UnsuitableParams(f'"{self.name}": {key} is {fields.get(key)}, only {value} can be used')
        for key in ("gamma", "rho", "total_sv"):
            self._numbers(start, [fields.get(key, "")])
        return fields, number + 1

    def vectors(self, start: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        support, coefficients = np.zeros((max(n, 0), self.n_features)), np.zeros(max(n, 0))
        for vector in range(n):
            words = self._words(start + vector)
            (coefficients[vector],) = self._numbers(start + vector, words[:1])
            for word in words[1:]:
                index, value = self._numbers(start + vector, word.split(":"), 2)
                support[vector, self._feature(start + vector, index)] = value
        return support, coefficients

    def ranges(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """svm-scale takes each feature's minimum to the lower and its maximum to the upper end."""
        lower, upper = self._numbers(start + 1, self._words(start + 1), 2)
        scale, offset = np.zeros(self.n_features), np.zeros(self.n_features)
        seen = np.zeros(self.n_features, bool)
        for number in range(start + 2, min(start + 2 + self.n_features, len(self.lines))):
            index, least, most = self._numbers(number, self._words(number), 3)
            feature = self._feature(number, index)
            seen[feature] = True
            if most > least:
                scale[feature] = (upper - lower) / (most - least)
                offset[feature] = lower - least * scale[feature]
        if not seen.all():
            raise UnsuitableParams(f'"{self.name}" has no range of feature {int(np.argmin(seen)) + 1}')
        return scale, offset

    def _words(self, number: int) -> list[str]:
        if number >= len(self.lines) or not self.lines[number].split():
            raise UnsuitableParams(f'"{self.name}" ends too early: line {number + 1} is missing')
        return self.lines[number].split()

    def _numbers(self, number: int, words: list[str], count: int = 1) -> list[float]:
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) != count or not np.isfinite(values).all():
            raise UnsuitableParams(f'"{self.name}", line {number + 1}: cannot read "{" ".join(words)[:40]}" as numbers')
        return values

    def _feature(self, number: int, index: float) -> int:
        if index != int(index) or not 1 <= index <= self.n_features:
            raise UnsuitableParams(
                f'"{self.name}", line {number + 1}: there is no feature {index:g} of {self.n_features}'
            )
        return int(index) - 1
