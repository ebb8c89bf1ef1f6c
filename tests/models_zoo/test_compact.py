"""Compact weights: bit-exact, really small, and nothing but tensors comes out of whatever is put in."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models_zoo.adapters import VersionRefused, compact
from models_zoo.adapters.compact import Weight, compose, costs, decode, encode
from models_zoo.adapters.weights import load_into, read_state_dict
from models_zoo.architectures import build

FORMS = ("plain", "left", "right", "product")


def matrix(rng: np.random.Generator, rows: int, columns: int, density: float, values: int = 0) -> np.ndarray:
    """Some non-zeros, of few different values where `values` says so."""
    drawn = rng.choice(rng.normal(size=values), (rows, columns)) if values else rng.normal(size=(rows, columns))
    return (drawn * (rng.random((rows, columns)) < density)).astype(np.float32)


def weight(rng: np.random.Generator, form: str, shape: tuple[int, ...], density: float, values: int = 0) -> Weight:
    shapes = compact.part_shapes(form, shape, 3 if form == "product" else 0)
    return Weight(form, shape, {name: matrix(rng, *sides, density, values) for name, sides in shapes.items()})


def same(left: dict[str, Weight], right: dict[str, Weight]) -> bool:
    return left.keys() == right.keys() and all(
        (one.form, one.shape) == (right[name].form, right[name].shape)
        and all(np.array_equal(one.parts[part], right[name].parts[part]) for part in one.parts)
        for name, one in left.items()
    )


@given(
    seed=st.integers(0, 2**31),
    form=st.sampled_from(FORMS),
    shape=st.sampled_from([(1, 1), (5, 3, 2, 2), (4, 40), (70, 9), (3, 1, 1, 1)]),
    density=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
    values=st.sampled_from([0, 1, 2, 3, 16, 200]),
)
@settings(max_examples=120, deadline=None)
def test_what_was_written_comes_back_to_the_bit(seed, form, shape, density, values):
    rng = np.random.default_rng(seed)
    given_weights = {"a.weight": weight(rng, form, shape, density, values), "b": weight(rng, "plain", (2, 3), 0.5)}
    others = {
        "norm": rng.normal(size=4).astype(np.float32), "count": np.arange(3), "scalar": np.float32(2).reshape(()),
        "flags": np.array([True, False]),
    }  # fmt: skip
    content = encode(given_weights, others)
    weights, found = decode(content)
    assert same(weights, given_weights)
    assert found.keys() == others.keys()
    for name, array in others.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    assert encode(weights, found) == content


def test_the_file_takes_what_its_costs_say():
    rng = np.random.default_rng(0)
    weights = {"w": weight(rng, "left", (64, 64, 3, 3), 0.02, 16)}
    content = encode(weights, {})
    header = int.from_bytes(content[8:12], "little")
    said = sum(part.bits for part in costs(weights))
    assert said / 8 <= len(content) - header - 16 < said / 8 + 12  # each piece is filled up to a byte
    n = sum(part.nonzeros for part in costs(weights))
    entropy = -(0.02 * np.log2(0.02) + 0.98 * np.log2(0.98)) * sum(np.prod(part.shape) for part in costs(weights))
    assert said < 4 * n + 3 * 16 * 32 + 1.05 * entropy  # places within a few percent of what they must cost
    assert len(content) < 64 * 64 * 9 * 4 / 25


def test_places_take_the_smaller_of_two_codings():
    rng = np.random.default_rng(0)
    sparse, half, full = (costs({"w": weight(rng, "plain", (100, 100), d)})[0] for d in (0.01, 0.5, 1.0))
    assert sparse.place_bits < 10 * sparse.nonzeros
    assert 9_900 < half.place_bits <= 10_000
    assert full.place_bits == 0


def test_composing_is_what_it_says():
    rng = np.random.default_rng(0)
    for form in FORMS:
        one = weight(rng, form, (6, 4, 3, 3), 0.5)
        u, v, c = (one.parts.get(name, np.zeros(())).astype(np.float64) for name in ("u", "v", "c"))
        plain = {
            "plain": lambda c=c: c, "left": lambda u=u, v=v, c=c: (u + np.eye(6)) @ v + c,
            "right": lambda u=u, v=v, c=c: u @ (v + np.eye(36)) + c, "product": lambda u=u, v=v: u @ v,
        }[form]()  # fmt: skip
        assert np.allclose(compose(one).reshape(6, 36), plain, atol=1e-6)


def test_a_file_loads_as_any_weights_do(tmp_path):
    torch.manual_seed(0)
    module = build("tiny_cnn", widths=[4, 6], num_classes=3)
    rng = np.random.default_rng(0)
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    matrices = {name for name, value in state.items() if value.ndim > 1}
    weights = {name: weight(rng, "left", state[name].shape, 0.3, 4) for name in matrices}
    file = tmp_path / "anything.bin"
    file.write_bytes(encode(weights, {name: value for name, value in state.items() if name not in matrices}))
    loaded = read_state_dict(file)
    load_into(module, loaded, architecture="tiny_cnn", weights="here")
    for name in matrices:
        assert np.array_equal(module.state_dict()[name].numpy(), compose(weights[name]))


def test_what_cannot_be_kept_is_said():
    bad = np.array([[np.nan, 1.0]], np.float32)
    with pytest.raises(ValueError, match=r"w, c.*not finite"):
        encode({"w": Weight("plain", (1, 2), {"c": bad})}, {})
    with pytest.raises(ValueError, match='tensor "x" holds complex64'):
        encode({}, {"x": np.zeros(2, np.complex64)})
    with pytest.raises(ValueError, match='form "left" and shape'):
        Weight("left", (2, 2), {"c": bad})


# Files of other people


def remade(content: bytes, change) -> bytes:
    """The file with another header, its checksum made right again."""
    length = int.from_bytes(content[8:12], "little")
    header = json.loads(zlib.decompress(content[12 : 12 + length]))
    packed = zlib.compress(json.dumps(change(header) or header).encode())
    whole = content[:8] + len(packed).to_bytes(4, "little") + packed + content[12 + length : -4]
    return whole + zlib.crc32(whole).to_bytes(4, "little")


@pytest.fixture(scope="module")
def content() -> bytes:
    rng = np.random.default_rng(0)
    weights = {
        "a": weight(rng, "left", (8, 4, 3, 3), 0.05, 4), "b": weight(rng, "product", (6, 5), 1.0),
        "c": weight(rng, "plain", (9, 9), 0.5, 3), "d": weight(rng, "right", (9, 2), 0.0),
    }  # fmt: skip
    return encode(weights, {"norm": np.ones(3, np.float32), "flag": np.array([True])})


@pytest.mark.parametrize("cut", [0, 4, 8, 11, 12, 40, -1, -4, -9])
def test_a_file_that_was_cut_off_is_refused(content, cut, tmp_path):
    file = tmp_path / "cut.compact"
    file.write_bytes(content[:cut])
    with pytest.raises(VersionRefused, match=r"cut\.compact"):
        read_state_dict(file)


def test_every_flipped_byte_is_noticed(content):
    for at in range(8, len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 0x41
        with pytest.raises(VersionRefused, match="checksum"):
            decode(bytes(damaged))


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_bytes_changed_by_somebody_who_knows_the_checksum_do_no_harm(content, data):
    damaged = bytearray(content[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(8, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    whole = bytes(damaged) + zlib.crc32(bytes(damaged)).to_bytes(4, "little")
    try:
        weights, _ = decode(whole)
    except VersionRefused:
        return
    assert all(np.isfinite(compose(each)).all() for each in weights.values())


NUMBERS = st.one_of(st.integers(-2, 10), st.sampled_from([2**31, 2**63, 10**30, True, None, 1.5, "x", [], {}]))


@given(entry=st.integers(0, 3), part=st.integers(0, 2), place=st.integers(0, 4), number=NUMBERS)
@settings(max_examples=300, deadline=None)
def test_a_header_that_lies_is_refused_or_harmless(content, entry, part, place, number):
    def change(header):
        codings = header["weights"][entry][4]
        codings[part % len(codings)][place] = number

    try:
        decode(remade(content, change))
    except VersionRefused:
        return
    assert isinstance(number, int)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(version=9), "version 9, this program reads version 1"),
        (lambda header: header["weights"][0].__setitem__(2, [2**20, 2**20]), "claims more than"),
        (lambda header: header["weights"][3].__setitem__(2, [9, 2**15]), "claims more than"),
        (lambda header: header["weights"][0].__setitem__(1, "exec"), "unknown form"),
        (lambda header: header["weights"].append(header["weights"][0]), "no name of its own"),
        (lambda header: header["others"][0].__setitem__(1, "object"), "unknown type"),
        (lambda header: header["others"].pop(), "bytes follow its last tensor"),
        (lambda header: header["others"].append(["more", "int64", [5]]), "ends early"),
        (lambda header: header["others"][0].__setitem__(2, [0, 2**28, -1]), "where a count belongs"),
        (lambda header: header.pop("weights"), "lacks entries"),
        (lambda header: [1], "no JSON object"),
    ],
)
def test_headers_that_are_refused(content, change, message):
    def kept(header):
        found = change(header)
        return found if isinstance(found, list) and found == [1] else None

    with pytest.raises(VersionRefused, match=message):
        decode(remade(content, kept))


def test_a_header_that_unpacks_to_much_more_is_refused(content):
    bomb = zlib.compress(b"[" * (compact.MOST_HEADER + 10), 9)
    whole = content[:8] + len(bomb).to_bytes(4, "little") + bomb
    with pytest.raises(VersionRefused, match=r"deflated|too large"):
        decode(whole + zlib.crc32(whole).to_bytes(4, "little"))


def test_the_zoo_knows_the_file_by_its_content(tmp_path: Path, content):
    from models_zoo.content import COMPACT, format_identify

    file = tmp_path / "weights.onnx"
    file.write_bytes(content)
    assert format_identify(file) == COMPACT
