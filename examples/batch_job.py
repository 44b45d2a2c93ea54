"""A batch job: one decision for a file of prompts, then all answers, some at a time, into another file.

The dock decides by a sketch of the prompts that is made here, before any prompt is sent. Input and output are
JSON lines: ``{"text": …}`` in, ``{"text": …, "answer": …, "model": …}`` out, in the same order.

    python -m examples.batch_job prompts.jsonl answers.jsonl
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from openai import AsyncOpenAI

from slmdock import AsyncClient
from specification import Encoder, SentenceEncoder, read_examples, specify

KEY = os.environ.get("SLMDOCK_KEY", "unused")
AT_ONCE = 16
MAX_TOKENS = 64


async def run(url: str, prompts: Path, answers: Path, encoder: Encoder | None = None, key: str = KEY) -> str:
    """Answers every prompt of a file and returns why that model was chosen."""
    texts = [example.text for example in read_examples(prompts)]
    sketch = specify(texts, encoder or SentenceEncoder(), calibrated=False)
    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncClient(url, key=key) as dock, AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as tokens:
        task = await dock.register_task(sketch)

        async def line(text: str) -> str:
            async with gate:
                answer = await tokens.completions.create(
                    model=f"task:{task.id}", prompt=text, max_tokens=MAX_TOKENS, temperature=0
                )
            return json.dumps({"text": text, "answer": answer.choices[0].text, "model": answer.model})

        lines = await asyncio.gather(*map(line, texts))
    answers.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return task.reason


if __name__ == "__main__":
    print(asyncio.run(run("http://127.0.0.1:8000", Path(sys.argv[1]), Path(sys.argv[2]))))
