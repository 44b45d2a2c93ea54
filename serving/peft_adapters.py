"""A transformers model with the few adapters that were used last."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.engine import AdapterUnavailable, adapter_prefix
from serving.resolver import StoreResolver

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INERT = "inert"


class PeftAdapters:
    """Loads adapters by engine name through the same door as vLLM's resolver. Not safe for threads."""

    def __init__(self, model: "PreTrainedModel", resolver: StoreResolver, limit: int) -> None:
        from peft import LoraConfig, get_peft_model

        # The inert adapter is never active. It lets a real one fail to load without harm to the model.
        config = LoraConfig(r=1, target_modules="all-linear", task_type="CAUSAL_LM")
        self._model: Any = get_peft_model(model, config, adapter_name=INERT)
        self._model.eval()
        self._resolver = resolver
        self._limit = limit
        self._loaded: OrderedDict[str, None] = OrderedDict()

    @contextmanager
    def applied(self, name: str) -> Iterator[Any]:
        """Gives the model with the adapter of that engine name, or the bare base model for its own name.

        Raises:
            AdapterUnavailable: the resolver refuses the name, or the files cannot be loaded.
        """
        if name == self._resolver.base_model:
            with self._model.disable_adapter():
                yield self._model
            return
        adapter = self._load(name)
        self._model.set_adapter(adapter)
        yield self._model

    def _load(self, name: str) -> str:
        prefix = adapter_prefix(name)
        folder = self._resolver.folder_of(name)
        if prefix is None or folder is None:
            raise AdapterUnavailable(f"adapter {name[:200]!r} does not exist")
        if prefix not in self._loaded:
            self._read(name, prefix, folder)
            self._loaded[prefix] = None
        self._loaded.move_to_end(prefix)
        while len(self._loaded) > self._limit:
            oldest, _ = self._loaded.popitem(last=False)
            self._model.delete_adapter(oldest)
        return prefix

    def _read(self, name: str, prefix: str, folder: Path) -> None:
        try:
            result = self._model.load_adapter(str(folder), adapter_name=prefix, is_trainable=False)
            if result.unexpected_keys:
                raise ValueError(f"weights for modules that the base model lacks: {result.unexpected_keys[:3]}")
        except Exception as error:
            if prefix in self._model.peft_config:
                self._model.delete_adapter(prefix)
            raise AdapterUnavailable(f"adapter {name} cannot be loaded: {error}") from error
