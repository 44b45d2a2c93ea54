"""The fast encoder against the exact one, which is its judge."""

from pathlib import Path

import numpy as np
import pytest

from specification import SentenceEncoder, fast_encoder
from specification.errors import EncoderError
from specification.fast_encoder import MIN_COSINE, FastEncoder

pytest.importorskip("onnxruntime")
TEXTS = [f"the {noun} of company {number} rose" for number in range(6) for noun in ("shares", "debts, or costs,")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def fast(encoder: SentenceEncoder, cache: Path) -> FastEncoder:
    return FastEncoder.open(encoder, cache)


def test_gives_nearly_the_exact_vectors(fast: FastEncoder, encoder: SentenceEncoder) -> None:
    fast.identity.require(encoder.identity)
    texts = [*TEXTS, "", "word " * 3000, "😀 \0 ü"]
    vectors = fast.encode(texts)
    assert vectors.shape == (len(texts), 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)
    cosines = (vectors * encoder.encode(texts)).sum(axis=1)
    assert cosines.min() >= MIN_COSINE - 0.01
    assert np.median(cosines) >= MIN_COSINE


def test_is_made_once_and_again_where_the_file_is_damaged(
    fast: FastEncoder, encoder: SentenceEncoder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = cache.iterdir()
    good, made = file.read_bytes(), list[str]()

    def convert(exact: SentenceEncoder) -> bytes:
        made.append(exact.name)
        return good

    monkeypatch.setattr(fast_encoder, "convert", convert)
    again = FastEncoder.open(encoder, cache)
    assert made == []
    assert again.encode(TEXTS[:1]) == pytest.approx(fast.encode(TEXTS[:1]))
    file.write_bytes(good[: len(good) // 2])
    FastEncoder.open(encoder, cache)
    assert made == [encoder.name]
    assert file.read_bytes() == good


def test_one_that_is_not_near_enough_is_refused(
    fast: FastEncoder, encoder: SentenceEncoder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = cache.iterdir()
    good = file.read_bytes()
    monkeypatch.setattr(fast_encoder, "convert", lambda exact: good)
    monkeypatch.setattr(fast_encoder, "MIN_COSINE", 0.99999)
    with pytest.raises(EncoderError, match=r"cosine of 0\.9.* the exact one is used"):
        FastEncoder.open(encoder, cache)
