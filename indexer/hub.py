"""Adapters from the Hugging Face hub, or what ``HF_ENDPOINT`` names: safetensors and card, revision pinned."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from indexer.adapter import MAX_WEIGHTS_BYTES
from indexer.adapter_config import MAX_CONFIG_BYTES
from indexer.bulk import SPECIFICATION_FILE, Submission
from indexer.folders import without_weights
from indexer.model_card import MAX_MODEL_CARD_BYTES, MODEL_CARD_FILE, hub_card
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from specification.errors import InvalidInput, TooLarge
from specification.record import MAX_SPECIFICATION_BYTES

TIMEOUT_SECONDS = 30
LIMITS = {
    CONFIG_FILE: MAX_CONFIG_BYTES,
    MODEL_CARD_FILE: MAX_MODEL_CARD_BYTES,
    SPECIFICATION_FILE: MAX_SPECIFICATION_BYTES,
    WEIGHTS_FILE: MAX_WEIGHTS_BYTES,
}
"""What is downloaded, in this order, and how many bytes it may have. All else stays behind."""
REASONS: dict[type[Exception], str] = {
    GatedRepoError: "gated; ask for access there, and set HF_TOKEN",
    RepositoryNotFoundError: "not there, or private; check the id, or set HF_TOKEN",
    RevisionNotFoundError: "has no such revision there",
    OfflineModeIsEnabled: "HF_HUB_OFFLINE is set; unset it",
}


class Hub:
    """The hub. Nothing is told to it but what is asked for; a token only if ``HF_TOKEN`` holds one."""

    def __init__(self, cache: Path) -> None:
        constants.HF_HUB_DISABLE_TELEMETRY = True
        disable_progress_bars()
        self.cache = cache
        self.api = HfApi(token=os.environ.get("HF_TOKEN", "").strip() or False)

    def search(self, base: str | None, tag: str | None, limit: int) -> list[str]:
        """Returns ids of PEFT adapters on a base model, with a tag, or both; the most downloaded first.

        Raises:
            InvalidInput: the hub cannot be reached, or does not answer as a hub.
        """
        tags = ["peft", *([f"base_model:adapter:{base}"] if base else []), *([tag] if tag else [])]
        with self._asked("search"):
            return [each.id for each in self.api.list_models(filter=tags, sort="downloads", limit=limit)]

    def fetch(self, model: str, examples: Path | None = None) -> Submission:
        """Downloads what is needed of ``model`` (owner/name, or owner/name@revision) at one commit.

        What was downloaded before is not downloaded again. The specification is the one beside the adapter,
        unless ``examples`` are given.

        Raises:
            InvalidInput: no such model, no adapter as safetensors, no specification, or an unreadable card.
            TooLarge: a file exceeds its limit; none is downloaded then.
        """
        name, _, revision = model.partition("@")
        with self._asked(model):
            info = self.api.model_info(
                name, revision=revision or None, files_metadata=True, timeout=TIMEOUT_SECONDS
            )
            sizes = {each.rfilename: each.size for each in info.siblings or ()}
            commit = str(info.sha)
        if re.fullmatch("[0-9a-f]{40}", commit) is None:
            raise InvalidInput(f"{model}: the hub names no commit for it (got {commit[:80]!r})")
        if examples is not None:
            sizes.pop(SPECIFICATION_FILE, None)
        wanted = [file for file in LIMITS if file in sizes]
        _check_sizes(model, sizes, wanted)
        if examples is None and SPECIFICATION_FILE not in wanted:
            raise InvalidInput(
                f"{model}: has no {SPECIFICATION_FILE}; give --examples with this one id, or ask its owner to add "
                "one made with 'slmdock spec'"
            )
        folder = self.cache / f"{name.replace('/', '--')}@{commit}"
        with self._asked(model):
            for file in wanted:
                self.api.hf_hub_download(name, file, revision=commit, local_dir=folder)
        card = hub_card(name, commit, folder / MODEL_CARD_FILE)
        return Submission(folder, card, examples, None if examples else folder / SPECIFICATION_FILE)

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Maps to InvalidInput whatever a hub, or what only pretends to be one, makes the library raise."""
        try:
            yield
        except Exception as error:
            known = (reason for kind, reason in REASONS.items() if isinstance(error, kind))
            said = " ".join(str(error).split())[:300]
            reason = next(known, f"could not be had ({type(error).__name__}: {said})")
            raise InvalidInput(f"{what} at {self.api.endpoint}: {reason}") from None


def _check_sizes(model: str, sizes: dict[str, int | None], wanted: list[str]) -> None:
    """Refuses by their names and sizes, before any download, what could not be taken in."""
    if CONFIG_FILE not in sizes:
        raise InvalidInput(f"{model}: has no {CONFIG_FILE}, so it is no adapter that PEFT saved")
    if WEIGHTS_FILE not in sizes:
        raise without_weights(Path(model), set(sizes), WEIGHTS_FILE)
    for name in wanted:
        size = sizes[name]
        if not isinstance(size, int):
            raise InvalidInput(f"{model}: the hub does not say how large {name} is")
        if size > LIMITS[name]:
            raise TooLarge(f"{model}: {name} of {size} bytes, the limit is {LIMITS[name]}")
