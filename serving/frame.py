"""What a base model's chat template puts around a prompt, for engines that are asked in plain text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specification.errors import InvalidInput

MARK = "\ue000"


@dataclass(frozen=True)
class Frame:
    """What stands before a prompt and behind it where a model is to answer."""

    before: str = ""
    after: str = ""

    def around(self, prompt: str) -> str:
        """Returns the prompt as the model is to see it."""
        return f"{self.before}{prompt}{self.after}"

    @classmethod
    def of(cls, base: Path) -> "Frame":
        """Reads the chat template in a base model's folder; where there is none, nothing stands around a prompt.

        Raises:
            InvalidInput: the tokenizer cannot be read, or its template refuses a plain prompt.
        """
        from jinja2 import TemplateError
        from transformers import AutoTokenizer

        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(str(base), local_files_only=True)
            if not tokenizer.chat_template:
                return cls()
            messages = [{"role": "user", "content": MARK}]
            text = str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        except (OSError, ValueError, TemplateError) as error:
            raise InvalidInput(f"{base}: the tokenizer's chat template cannot be used: {error}") from None
        before, _, after = text.partition(MARK)
        # Where the tokenizer puts it before every text by itself, engines do so too.
        if tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]:
            before = before.removeprefix(tokenizer.bos_token)
        return cls(before, after)
