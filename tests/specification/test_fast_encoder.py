"""The fast encoder against the exact one, which is its judge."""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from transformers.utils.logging import warning_once

from specification import SentenceEncoder, fast_encoder
from specification.errors import EncoderError
from specification.fast_encoder import MIN_COSINE, FastEncoder

pytest.importorskip("openvino")
TEXTS = [f"the {noun} of company {number} rose" for number in range(6) for noun in ("shares", "debts, or costs,")]


@pytest.fixture(scope="module")
def fast(encoder: SentenceEncoder) -> FastEncoder:
    return FastEncoder.of(encoder)


def test_gives_nearly_the_exact_vectors(fast: FastEncoder, encoder: SentenceEncoder) -> None:
    fast.identity.require(encoder.identity)
    texts = [*TEXTS, "", "word " * 3000, "😀 \0 ü"]
    vectors = fast.encode(texts)
    assert vectors.shape == (len(texts), 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)
    assert (vectors * encoder.encode(texts)).sum(axis=1).min() >= MIN_COSINE


def test_any_thread_may_encode(fast: FastEncoder) -> None:
    alone = fast.encode(TEXTS)
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(lambda text: fast.encode([text])[0], TEXTS * 5))
    assert np.stack(at_once) == pytest.approx(np.tile(alone, (5, 1)), abs=1e-6)


def test_libraries_say_nothing_while_it_is_made(
    encoder: SentenceEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    talker = logging.getLogger("transformers.modeling_utils")
    warning_once.cache_clear()
    talker.addHandler(caplog.handler)
    try:
        FastEncoder.of(encoder)
    finally:
        talker.removeHandler(caplog.handler)
    assert caplog.messages == []


def test_openvino_reports_nothing(fast: FastEncoder) -> None:
    assert sys.modules["openvino_telemetry"] is None


def test_one_that_is_not_near_enough_is_refused(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_encoder, "MIN_COSINE", 1.1)
    with pytest.raises(EncoderError, match=r"cosine of .* the exact one is used"):
        FastEncoder.of(encoder)
