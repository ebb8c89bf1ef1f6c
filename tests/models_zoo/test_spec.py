import json

import pytest

from models_zoo.adapters import Preprocessing, VersionRefused, VersionSpec


def test_json_round_trip_is_exact():
    spec = VersionSpec(
        kind="torch",
        architecture="tiny_cnn",
        arch_kwargs={"widths": [4, 8], "in_channels": 1},
        weights="/somewhere/w.safetensors",
        sha256="ab" * 32,
        preprocessing=Preprocessing(resize=36, crop=32, mean=(0.5,), std=(0.25,), channels="grey"),
        num_classes=10,
    )
    assert VersionSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_fingerprint_follows_content_not_place(tmp_path):
    one, two, other = tmp_path / "a.th", tmp_path / "b.th", tmp_path / "c.th"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    other.write_bytes(b"other")
    prints = [VersionSpec("torch", "linear", weights=str(path)).fingerprint() for path in (one, two, other)]
    assert prints[0] == prints[1] != prints[2]
    assert (
        VersionSpec("torch", "linear", preprocessing=Preprocessing(crop=8)).fingerprint()
        != VersionSpec("torch", "linear").fingerprint()
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"resize": 0}, "resize is 0"),
        ({"crop": 2.5}, "crop is 2.5"),
        ({"interpolation": "magic"}, "interpolation is 'magic': choose one of bilinear"),
        ({"mean": (1, 2)}, "mean has 2 values for 3 channels"),
        ({"mean": (1, 2, 3), "channels": "grey"}, "mean has 3 values for 1 channels"),
        ({"std": (0.0,)}, "std is .*above 0"),
        ({"range": 2}, "range is 2"),
        ({"mean": "abc"}, "one number per channel"),
        ({"colour": 1}, "unknown entry 'colour'"),
    ],
)
def test_bad_preprocessing_is_named(entries, message):
    with pytest.raises(VersionRefused, match=message):
        Preprocessing.from_dict(entries)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"kind": "keras"}, "kind is 'keras'"),
        ({"kind": "torch"}, "needs an architecture"),
        ({"kind": "onnx"}, "needs a file"),
        ({"kind": "torch", "architecture": "linear", "outputs": "scores"}, "outputs is 'scores'"),
    ],
)
def test_bad_versions_are_named(entries, message):
    with pytest.raises(VersionRefused, match=message):
        VersionSpec.from_dict(entries)
