"""A chat model in LangChain's shape (invoke, stream, batch, and async) over the dock's OpenAI interface.

It needs the plain ``openai`` client alone. LangChain's own ``ChatOpenAI(base_url=…, model="auto", api_key=…)``
speaks the same interface; it is not a dependency, and not tested, here.

    python -m examples.chat_model "Does the contract allow the tenant to leave?"
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from openai import AsyncOpenAI, OpenAI

KEY = os.environ.get("SLMDOCK_KEY", "unused")


@dataclass(frozen=True)
class DockChat:
    """``model`` is ``auto``, ``task:<id>`` or a name; ``options`` go with every request."""

    url: str = "http://127.0.0.1:8000"
    model: str = "auto"
    key: str = KEY
    options: dict[str, Any] = field(default_factory=dict)

    def invoke(self, text: str) -> str:
        """Returns the answer to a text."""
        with OpenAI(**self._client()) as client:
            answer = client.chat.completions.create(**self._request(text))
        return answer.choices[0].message.content or ""

    def stream(self, text: str) -> Iterator[str]:
        """Yields the answer as it is written."""
        with OpenAI(**self._client()) as client:
            for chunk in client.chat.completions.create(**self._request(text), stream=True):
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    def batch(self, texts: Sequence[str], at_once: int = 8) -> list[str]:
        """Returns the answers to many texts, in their order."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(self.invoke, texts))

    async def ainvoke(self, text: str) -> str:
        """See ``invoke``."""
        async with AsyncOpenAI(**self._client()) as client:
            answer = await client.chat.completions.create(**self._request(text))
        return answer.choices[0].message.content or ""

    async def astream(self, text: str) -> AsyncIterator[str]:
        """See ``stream``."""
        async with AsyncOpenAI(**self._client()) as client:
            async for chunk in await client.chat.completions.create(**self._request(text), stream=True):
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    async def abatch(self, texts: Sequence[str], at_once: int = 8) -> list[str]:
        """See ``batch``."""
        gate = asyncio.Semaphore(at_once)

        async def one(text: str) -> str:
            async with gate:
                return await self.ainvoke(text)

        return await asyncio.gather(*map(one, texts))

    def _client(self) -> dict[str, Any]:
        return {"base_url": f"{self.url}/v1", "api_key": self.key}

    def _request(self, text: str) -> dict[str, Any]:
        return {"model": self.model, "messages": [{"role": "user", "content": text}], **self.options}


if __name__ == "__main__":
    for piece in DockChat().stream(sys.argv[1]):
        print(piece, end="", flush=True)
