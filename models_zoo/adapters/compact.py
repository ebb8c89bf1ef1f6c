"""Compact weights: sparse, quantised factors of a network's weights in one small file, without any pickle.

Weight: one tensor (m, ...) of a network, seen as a matrix (m, n). Form: how it is made of its parts, all of them
matrices: "plain" W = C; "left" W = (U + I) V + C; "right" W = U (V + I) + C; "product" W = U V. Part: non-zero values
and where they are. Others: tensors that are kept as they are (norms, biases).

A file is

    magic (8 bytes), length of the header (4), header (JSON, deflated), payload, CRC-32 of all before (4)

all numbers little-endian. The header names the tensors and says, part by part, how it is coded; the payload is, part
after part, each piece filled up to a byte:

    codebook   float32 values, where the part's non-zeros take few; else the non-zeros themselves
    codes      one index into the codebook a non-zero, of as few bits as it has values
    places     which entries are non-zero: one bit an entry, or the gaps between them (Rice code: the remainders of r
               bits, then the quotients in unary), whichever is smaller; nothing where all are

A weight is composed in float64, term after term in the order of the rank, and rounded to float32 once: no machine's
matrix product enters, so that a file gives the same bits everywhere. Reading allocates no more than the header claims,
and the header may claim `MOST_VALUES` at most. Counters of batch norms are left out, nothing depends on them, and a
zero has no sign.
"""

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from models_zoo.adapters.spec import VersionRefused

MAGIC = b"\x89FCWT\r\n\x1a"
VERSION = 1
SUFFIX = ".compact"
MOST_HEADER = 16 * 2**20  # bytes of JSON: some 100,000 tensors
MOST_VALUES = 2**28  # of all tensors together: 1 GiB of float32
MOST_RANK = 2**16
MOST_REMAINDER = 31  # bits of a Rice code
COUNTER = "num_batches_tracked"

Form = Literal["plain", "left", "right", "product"]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
PARTS: dict[Form, tuple[str, ...]] = {
    "plain": ("c",), "left": ("u", "v", "c"), "right": ("u", "v", "c"), "product": ("u", "v"),
}  # fmt: skip
EMPTY, ALL, BITMAP, GAPS = range(4)  # how places are coded
DTYPES = ("float32", "int64", "int32", "uint8", "bool")


@dataclass(frozen=True)
class Weight:
    """One weight by its parts. shape: of the composed tensor. parts: float32 matrices by name, see `PARTS`."""

    form: Form
    shape: tuple[int, ...]
    parts: Mapping[str, Floats]

    def __post_init__(self) -> None:
        rank = self.parts["u"].shape[1] if self.form == "product" else 0
        wanted = part_shapes(self.form, self.shape, rank)
        found = {name: part.shape for name, part in self.parts.items()}
        if found != wanted:
            raise ValueError(f'a weight of form "{self.form}" and shape {self.shape} has parts {found}, not {wanted}')


@dataclass(frozen=True)
class PartCost:
    """What a part takes. distinct: different non-zero values; value_bits, place_bits: in the file, codebook with the
    values, without the filling of bytes."""

    name: str
    shape: tuple[int, int]
    nonzeros: int
    distinct: int
    value_bits: int
    place_bits: int

    @property
    def bits(self) -> int:
        return self.value_bits + self.place_bits


@dataclass(frozen=True)
class _Coding:
    """places: `EMPTY` to `GAPS`; remainder, unary: bits of the Rice code; codes: size of the codebook, 0 without."""

    places: int
    nonzeros: int
    codes: int
    remainder: int = 0
    unary: int = 0

    def pieces(self, size: int) -> tuple[int, int, int, int]:
        """Bits of codebook (or values), codes, remainders (or bitmap) and quotients, of a part with so many entries."""
        values, codes = (self.codes * 32, self.nonzeros * _width(self.codes)) if self.codes else (self.nonzeros * 32, 0)
        places = {EMPTY: (0, 0), ALL: (0, 0), BITMAP: (size, 0), GAPS: (self.nonzeros * self.remainder, self.unary)}
        return values, codes, *places[self.places]


def part_shapes(form: Form, shape: tuple[int, ...], rank: int = 0) -> dict[str, tuple[int, int]]:
    """The matrices that a weight of this shape is made of. rank: of a product."""
    m, n = shape[0], math.prod(shape[1:])
    return {
        "plain": {"c": (m, n)},
        "left": {"u": (m, m), "v": (m, n), "c": (m, n)},
        "right": {"u": (m, n), "v": (n, n), "c": (m, n)},
        "product": {"u": (m, rank), "v": (rank, n)},
    }[form]


def compose(weight: Weight) -> Floats:
    """The weight itself, float32, of its shape: the same bits on every machine."""
    parts = weight.parts
    whole = np.zeros((weight.shape[0], math.prod(weight.shape[1:])), np.float64)
    if weight.form == "left":
        whole += parts["v"]
    if weight.form == "right":
        whole += parts["u"]
    if weight.form != "plain":
        u, v = (parts[name].astype(np.float64) for name in ("u", "v"))
        for at in range(u.shape[1]):
            rows, columns = np.flatnonzero(u[:, at]), np.flatnonzero(v[at])
            if len(rows) and len(columns):
                whole[np.ix_(rows, columns)] += u[rows, at, None] * v[at, columns]
    if "c" in parts:
        whole += parts["c"]
    return whole.astype(np.float32).reshape(weight.shape)


def encode(weights: Mapping[str, Weight], others: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The file's content. Raises ValueError for values that are not finite and for tensors of another kind."""
    kept = {name: np.asarray(array) for name, array in others.items() if not name.endswith(COUNTER)}
    for name, array in kept.items():
        if array.dtype.name not in DTYPES:
            raise ValueError(f'tensor "{name}" holds {array.dtype}: a compact file keeps {", ".join(DTYPES)}')
    pieces: list[bytes] = []
    described = []
    for name, weight in weights.items():
        codings = []
        for part_name in PARTS[weight.form]:
            coding, payload = _encode_part(f"{name}, {part_name}", weight.parts[part_name])
            codings.append([coding.places, coding.nonzeros, coding.codes, coding.remainder, coding.unary])
            pieces += payload
        rank = weight.parts["u"].shape[1] if weight.form == "product" else 0
        described.append([name, weight.form, list(weight.shape), rank, codings])
    pieces += [array.astype(array.dtype.newbyteorder("<")).tobytes("C") for array in kept.values()]
    header = {
        "version": VERSION,
        "weights": described,
        "others": [[name, array.dtype.name, list(array.shape)] for name, array in kept.items()],
    }
    packed = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    content = b"".join([MAGIC, len(packed).to_bytes(4, "little"), packed, *pieces])
    return content + zlib.crc32(content).to_bytes(4, "little")


def decode(content: bytes, name: str = "weights") -> tuple[dict[str, Weight], dict[str, npt.NDArray[Any]]]:
    """The weights by their parts, and the other tensors.

    Raises VersionRefused for whatever `encode` would not have written; ``name`` is what messages call the file.
    """
    try:
        return _decode(content)
    except _Damaged as error:
        raise VersionRefused(f'compact weights "{name}" are damaged: {error}') from None


def is_compact(path: Path) -> bool:
    """By content."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The composed weights and the other tensors by name. Raises VersionRefused."""
    weights, others = decode(path.read_bytes(), path.name)
    return {**{name: compose(weight) for name, weight in weights.items()}, **others}


def costs(weights: Mapping[str, Weight]) -> list[PartCost]:
    """What each part takes in the file, in order."""
    found = []
    for name, weight in weights.items():
        for part_name in PARTS[weight.form]:
            part = weight.parts[part_name]
            coding, _, values = _coding_of(part)
            book, codes, *places = coding.pieces(part.size)
            rows, columns = part.shape
            found.append(
                PartCost(
                    f"{name}:{part_name}", (rows, columns), coding.nonzeros, len(np.unique(values)), book + codes,
                    sum(places),
                )
            )  # fmt: skip
    return found


# Writing


def _encode_part(name: str, part: Floats) -> tuple[_Coding, list[bytes]]:
    if not np.isfinite(part).all():
        raise ValueError(f'part "{name}" has values that are not finite: nothing can be kept of it')
    coding, places, values = _coding_of(part)
    pieces: list[Bytes] = []
    if coding.codes:
        book, codes = np.unique(values, return_inverse=True)
        pieces += [_raw(book), _pack(codes, _width(coding.codes))]
    else:
        pieces.append(_raw(values))
    if coding.places == BITMAP:
        pieces.append(np.packbits(part.ravel() != 0, bitorder="little"))
    if coding.places == GAPS:
        gaps = _gaps(places)
        quotients = gaps >> coding.remainder
        unary = np.zeros(coding.unary, np.bool_)
        unary[np.cumsum(quotients + 1) - 1] = True
        low = gaps & ((1 << coding.remainder) - 1)
        pieces += [_pack(low, coding.remainder), np.packbits(unary, bitorder="little")]
    return coding, [piece.tobytes() for piece in pieces]


def _coding_of(part: Floats) -> tuple[_Coding, npt.NDArray[np.int64], Floats]:
    """The smallest coding of a part, the places of its non-zeros and their values."""
    flat = part.ravel()
    places = np.flatnonzero(flat)
    values = flat[places]
    n = len(places)
    if not n:
        return _Coding(EMPTY, 0, 0), places, values
    distinct = len(np.unique(values))
    codes = distinct if 32 * distinct + n * _width(distinct) < 32 * n else 0
    if n == flat.size:
        return _Coding(ALL, n, codes), places, values
    bits, remainder = _rice(_gaps(places))
    if bits >= flat.size:
        return _Coding(BITMAP, n, codes), places, values
    return _Coding(GAPS, n, codes, remainder, bits - n * remainder), places, values


def _gaps(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Zeros before each non-zero."""
    return np.diff(places, prepend=-1) - 1


def _rice(gaps: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Bits of the best Rice code, and its remainder's width."""
    widest = int(gaps.max()).bit_length()
    return min((int((gaps >> r).sum()) + len(gaps) * (1 + r), r) for r in range(widest + 1))


def _raw(values: Floats) -> Bytes:
    return np.frombuffer(values.astype("<f4").tobytes(), np.uint8)


def _pack(numbers: npt.NDArray[np.int64], width: int) -> Bytes:
    bits = (numbers[:, None] >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.bool_).ravel(), bitorder="little")


def _width(codes: int) -> int:
    """Bits of an index into a codebook: none where it has one value."""
    return max(codes - 1, 0).bit_length()


# Reading: the file may come from anybody


class _Damaged(ValueError):
    """Why a file cannot have been written by `encode`."""


class _Pieces:
    """Takes bytes off the payload's front."""

    def __init__(self, content: bytes) -> None:
        self._content = np.frombuffer(content, np.uint8)
        self._at = 0

    def take(self, bits: int) -> Bytes:
        n_bytes = -(-bits // 8)
        _require(n_bytes <= len(self._content) - self._at, "it ends early")
        taken = self._content[self._at : self._at + n_bytes]
        self._at += n_bytes
        return taken

    def end(self) -> None:
        _require(self._at == len(self._content), f"{len(self._content) - self._at} bytes follow its last tensor")


def _decode(content: bytes) -> tuple[dict[str, Weight], dict[str, npt.NDArray[Any]]]:
    start = len(MAGIC) + 4
    _require(len(content) >= start + 4 and content.startswith(MAGIC), "it does not begin as one, or is cut off")
    crc = int.from_bytes(content[-4:], "little")
    _require(zlib.crc32(memoryview(content)[:-4]) == crc, "its checksum is another one")
    length = int.from_bytes(content[len(MAGIC) : start], "little")
    _require(length <= len(content) - start - 4, "its header is longer than the file")
    header = _header(content[start : start + length])
    pieces = _Pieces(content[start + length : -4])
    claimed = _Claims()
    weights: dict[str, Weight] = {}
    for entry in _lists(header.get("weights"), 5):
        name, form, shape, rank, codings = entry
        _require(isinstance(name, str) and name not in weights, "a weight has no name of its own")
        _require(isinstance(form, str) and form in get_args(Form), f"its weight {name!r} has an unknown form")
        weights[name] = _weight(form, _shape(shape, least=1), _count(rank, MOST_RANK), codings, pieces, claimed)
    others: dict[str, npt.NDArray[Any]] = {}
    for name, dtype, shape in _lists(header.get("others"), 3):
        is_new = isinstance(name, str) and name not in weights and name not in others
        _require(is_new, "a tensor has no name of its own")
        _require(isinstance(dtype, str) and dtype in DTYPES, f"its tensor {name!r} has an unknown type")
        sides = _shape(shape, least=0)
        kind = np.dtype(dtype)
        claimed.add(math.prod(sides))
        taken = pieces.take(8 * kind.itemsize * math.prod(sides))
        _require(dtype != "bool" or bool((taken <= 1).all()), f"its tensor {name!r} holds what is neither yes nor no")
        others[name] = np.frombuffer(taken.tobytes(), kind.newbyteorder("<")).astype(kind).reshape(sides)
    pieces.end()
    return weights, others


def _header(packed: bytes) -> dict[str, Any]:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, MOST_HEADER)
        header: Any = json.loads(text) if unpacker.eof and not unpacker.unused_data else None
    except (zlib.error, ValueError, RecursionError):
        raise _Damaged("its header is no deflated JSON") from None
    if not isinstance(header, dict):
        raise _Damaged("its header is cut off, too large, or no JSON object")
    if header.get("version") != VERSION:
        raise _Damaged(f"it is of version {header.get('version')!r}, this program reads version {VERSION}")
    return header


class _Claims:
    """Adds up what the header claims, so that a small file cannot ask for much memory."""

    def __init__(self) -> None:
        self.values = 0

    def add(self, values: int) -> None:
        self.values += values
        _require(self.values <= MOST_VALUES, f"it claims more than {MOST_VALUES:,} values")


def _weight(form: Form, shape: tuple[int, ...], rank: int, codings: Any, pieces: _Pieces, claimed: _Claims) -> Weight:
    _require((form == "product") == (rank > 0), f"a weight of form {form} has rank {rank}")
    shapes = part_shapes(form, shape, rank)
    described = _lists(codings, 5)
    _require(len(described) == len(shapes), f"a weight of form {form} has {len(described)} parts")
    claimed.add(math.prod(shape))
    parts = {}
    for (name, (rows, columns)), numbers in zip(shapes.items(), described, strict=True):
        claimed.add(rows * columns)
        parts[name] = _part(numbers, rows * columns, pieces).reshape(rows, columns)
    return Weight(form, shape, parts)


def _part(numbers: list[Any], size: int, pieces: _Pieces) -> Floats:
    places_kind, nonzeros, codes = _count(numbers[0], GAPS), _count(numbers[1], size), _count(numbers[2], size)
    coding = _Coding(
        places_kind, nonzeros, codes, _count(numbers[3], MOST_REMAINDER), _count(numbers[4], size + nonzeros)
    )
    _require((nonzeros == 0) == (places_kind == EMPTY), "a part's places and number of values contradict each other")
    _require(places_kind != ALL or nonzeros == size, "a part's places and number of values contradict each other")
    _require(codes <= nonzeros, "a part has more codes than values")
    value_bits, code_bits, first_bits, second_bits = coding.pieces(size)
    book = np.frombuffer(pieces.take(value_bits).tobytes(), "<f4").astype(np.float32)
    _require(bool(np.isfinite(book).all() and (book != 0).all()), "a part holds values that are zero or not finite")
    chosen = _unpack(pieces.take(code_bits), nonzeros, _width(codes)) if codes else None
    _require(chosen is None or bool((chosen < codes).all()), "a part refers to a value that its codebook lacks")
    first, second = pieces.take(first_bits), pieces.take(second_bits)
    flat = np.zeros(size, np.float32)
    flat[_places(coding, size, first, second)] = book if chosen is None else book[chosen]
    return flat


def _places(coding: _Coding, size: int, first: Bytes, second: Bytes) -> npt.NDArray[np.int64]:
    if coding.places == ALL:
        return np.arange(size)
    if coding.places == BITMAP:
        found = np.flatnonzero(np.unpackbits(first, count=size, bitorder="little"))
    elif coding.places == GAPS:
        ends = np.flatnonzero(np.unpackbits(second, count=coding.unary, bitorder="little"))
        _require(len(ends) == coding.nonzeros, "a part's places and number of values contradict each other")
        quotients = np.diff(ends, prepend=-1) - 1
        _require(int(quotients.max(initial=0)) << coding.remainder <= size, "a part has a value outside its matrix")
        gaps = (quotients << coding.remainder) + _unpack(first, coding.nonzeros, coding.remainder)
        found = np.cumsum(gaps + 1) - 1
    else:
        found = np.zeros(0, np.int64)
    _require(len(found) == coding.nonzeros, "a part's places and number of values contradict each other")
    _require(not len(found) or (found[0] >= 0 and bool((found < size).all())), "a part has a value outside its matrix")
    return found


def _unpack(packed: Bytes, n: int, width: int) -> npt.NDArray[np.int64]:
    if not width:
        return np.zeros(n, np.int64)
    bits = np.unpackbits(packed, count=n * width, bitorder="little").reshape(n, width)
    return bits.astype(np.int64) @ (np.int64(1) << np.arange(width, dtype=np.int64))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Damaged(otherwise)


def _lists(value: Any, length: int) -> list[list[Any]]:
    found = value if isinstance(value, list) else []
    _require(isinstance(value, list) and all(_is_list(entry, length) for entry in found), "its header lacks entries")
    return found


def _is_list(entry: Any, length: int) -> bool:
    return isinstance(entry, list) and len(entry) == length


def _count(value: Any, most: int) -> int:
    _require(type(value) is int and 0 <= value <= most, f"its header says {str(value)[:40]} where a count belongs")
    return int(value)


def _shape(value: Any, *, least: int) -> tuple[int, ...]:
    _require(isinstance(value, list) and least <= len(value) <= 8, "its header has a tensor without sides")
    return tuple(_sides(value))


def _sides(value: list[Any]) -> Iterator[int]:
    total = 1
    for side in value:
        total *= _count(side, MOST_VALUES)
        _require(total <= MOST_VALUES, f"it claims more than {MOST_VALUES:,} values")
        yield int(side)
