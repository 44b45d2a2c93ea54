import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from specification import (
    MAX_SPECIFICATION_BYTES,
    Section,
    Specification,
    StoredSpecification,
    calibrate,
    mark_derived,
)
from specification.errors import Incomparable, InvalidSpecification, TooLarge
from specification.record import METADATA_KEY, _digest, _read_document, _read_tensors
from tests.conftest import IDENTITY, make_specification


def forge(
    data: bytes, points: np.ndarray | None = None, weights: np.ndarray | None = None, **document: object
) -> bytes:
    """A file with other content and a digest that fits it."""
    tensors = _read_tensors(data, ["text"])
    tensors = {
        "text.points": tensors["text.points"] if points is None else points.astype("<f2"),
        "text.weights": tensors["text.weights"] if weights is None else weights.astype("<f4"),
    }
    whole = _read_document(data).model_copy(update=document)
    whole = whole.model_copy(update={"digest": _digest(whole, tensors)})
    return safetensors.numpy.save(tensors, {METADATA_KEY: whole.model_dump_json()})


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    specification = make_specification(1)
    specification.save(tmp_path / "s.safetensors")
    again = Specification.load(tmp_path / "s.safetensors")
    assert again.digest == specification.digest
    # What was read with the file is what its content gives.
    assert replace(again).digest == again.digest
    assert again.section == specification.section
    assert np.array_equal(again.reduced_set.points, specification.reduced_set.points)
    assert np.array_equal(again.reduced_set.weights, specification.reduced_set.weights)
    fast = StoredSpecification(specification.to_bytes()).reduced_set
    assert np.array_equal(fast.points, again.reduced_set.points)


def test_holds_float16_points_float32_weights_and_json() -> None:
    data = make_specification(1).to_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    document = json.loads(header["__metadata__"]["slmdock"])
    assert header["text.points"]["dtype"] == "F16"
    assert header["text.weights"]["dtype"] == "F32"
    assert document["version"] == 1
    assert document["privacy"] == {"mechanism": "none"}
    assert document["sections"]["text"]["encoder"] == IDENTITY.model_dump()
    assert {"sample_size", "compression_error", "gamma"} <= set(document["sections"]["text"])


def test_truncated_anywhere_is_refused() -> None:
    data = make_specification(1).to_bytes()
    for length in range(0, len(data) - 1, 7):
        with pytest.raises(InvalidSpecification):
            Specification.from_bytes(data[:length])


def test_any_changed_byte_is_refused() -> None:
    data = bytearray(make_specification(1).to_bytes())
    for position in range(len(data) - 8 * 16, len(data)):
        changed = bytes(data[:position]) + bytes([data[position] ^ 1]) + bytes(data[position + 1 :])
        with pytest.raises(InvalidSpecification, match="digest"):
            Specification.from_bytes(changed)


@pytest.mark.parametrize(
    ("points", "weights", "message"),
    [
        (np.full((4, 16), np.nan), None, "NaN"),
        (np.full((4, 16), np.inf), None, "NaN, Inf"),
        (np.full((4, 16), 3.0), None, "outside the unit ball"),
        (None, np.array([0.5, 0.5, 0.5, 0.5]), "sum to 2"),
        (None, np.array([1.5, -0.5, 0, 0]), "non-negative"),
        (None, np.full(4, np.nan), "sum to nan"),
        (np.zeros((4, 15)), None, r"points \(4, 15\)"),
        (np.zeros((60, 16)), np.full(60, 1 / 60), "60 points for 100 texts"),
    ],
)
def test_senseless_content_with_a_right_digest_is_refused(
    points: np.ndarray | None, weights: np.ndarray | None, message: str
) -> None:
    with pytest.raises(InvalidSpecification, match=message):
        Specification.from_bytes(forge(make_specification(1).to_bytes(), points, weights))


def test_a_number_beyond_any_sample_is_refused() -> None:
    section = make_specification(1).section.model_dump() | {"sample_size": 2**64}
    with pytest.raises(ValueError, match="sample_size"):
        Section.model_validate(section)


def test_another_version_is_refused() -> None:
    with pytest.raises(InvalidSpecification, match="field 'version'"):
        Specification.from_bytes(forge(make_specification(1).to_bytes(), version=2))


def test_too_large_is_refused() -> None:
    with pytest.raises(TooLarge, match="the limit is"):
        Specification.from_bytes(bytes(MAX_SPECIFICATION_BYTES + 1))


def test_another_encoder_is_named_with_both() -> None:
    other = IDENTITY.model_copy(update={"name": "other", "weights_sha256": "1" * 64})
    with pytest.raises(Incomparable, match=r"sixteen.*but other"):
        make_specification(1).require_encoder(other)


def test_the_same_weights_under_another_name_are_comparable() -> None:
    make_specification(1).require_encoder(IDENTITY.model_copy(update={"name": "renamed"}))


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_cleanly(data: bytes) -> None:
    with pytest.raises(InvalidSpecification):
        Specification.from_bytes(data)


@given(st.data())
def test_any_splice_is_refused_or_equal(data: st.DataObject) -> None:
    whole = make_specification(1).to_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    spliced = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    try:
        assert Specification.from_bytes(spliced).digest == make_specification(1).digest
    except InvalidSpecification:
        assert spliced != whole


def test_a_derived_one_is_marked_for_good_and_never_calibrated() -> None:
    plain = make_specification(1)
    derived = mark_derived(plain)
    assert (plain.origin, derived.origin) == ("examples", "derived")
    assert derived.digest != plain.digest
    assert Specification.from_bytes(derived.to_bytes()).origin == "derived"
    assert Specification.from_bytes(plain.to_bytes()).origin == "examples"
    # Files of examples are what they were before there was another origin, their digests too.
    assert b"origin" not in plain.to_bytes()
    assert "origin" not in plain._document().model_dump(exclude_none=True)["sections"]["text"]
    calibration = calibrate(np.eye(16, dtype=np.float32))
    calibrated = replace(plain, section=plain.section.model_copy(update={"calibration": calibration}))
    assert mark_derived(calibrated).section.calibration is None
    both = calibrated.section.model_copy(update={"origin": "derived"})
    sections = _read_document(plain.to_bytes()).sections.model_copy(update={"text": both})
    with pytest.raises(InvalidSpecification, match=r"sections\.text.*has no calibration"):
        Specification.from_bytes(forge(plain.to_bytes(), sections=sections))
