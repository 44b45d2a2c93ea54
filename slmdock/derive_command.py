"""The command ``derive``: a specification for a provider who can share no examples."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from catalogue.learnware import ENGINE_ID_LENGTH
from indexer import AdapterStore
from indexer.adapter import Adapter, read_adapter
from indexer.base_models import KnownBase
from indexer.model_card import MODEL_CARD_FILE, card_prompts
from indexer.whole_model import is_whole_model
from serving import TransformersConfig, TransformersEngine
from serving.derivation import Derivation, Derived, Sampling, prompt_bank
from serving.frame import Frame
from slmdock import output
from slmdock.catalogue_commands import SPECIFICATION_SUFFIX, Json, save_specification
from slmdock.context import Context
from specification import mark_derived, specify
from specification.errors import InvalidInput

DEFAULTS = Sampling()


def derive(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of an adapter (PEFT), perhaps with its model card.")],
    to: Annotated[Path | None, typer.Option(help="Where to write; default: beside the folder.")] = None,
    texts: Annotated[int, typer.Option(min=8, max=512, help="Texts to be sketched.")] = DEFAULTS.keep,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds of sampling.")] = DEFAULTS.rounds,
    samples: Annotated[int, typer.Option(min=8, max=10_000, help="Texts written a round.")] = DEFAULTS.samples,
    text_tokens: Annotated[
        int, typer.Option(min=4, max=1024, help="Longest text, in tokens.")
    ] = DEFAULTS.text_tokens,
    budget: Annotated[
        int, typer.Option(min=1, help="Tokens read and written after which no round begins.")
    ] = DEFAULTS.budget,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of everything that is drawn.")] = DEFAULTS.seed,
    as_json: Json = False,
) -> None:
    """Derive a specification from what an adapter writes, where no examples can be shared.

    Runs adapter and base model in this process with transformers, without vLLM: slow for large models. The
    specification is marked 'derived' wherever it is shown; one made of examples is better.
    """
    dock: Context = context.obj
    if is_whole_model(folder):
        raise InvalidInput(f"{folder}: a whole model has no base model to depart from; submit it with --examples")
    bases = dock.bases()
    adapter = read_adapter(folder, bases)
    prompts = card_prompts(folder / MODEL_CARD_FILE)
    sampling = Sampling(
        keep=texts, rounds=rounds, samples=samples, text_tokens=text_tokens, budget=budget, seed=seed
    )
    derived = asyncio.run(_derive(adapter, bases.get(adapter.base_model), prompts, sampling))
    with output.progress_bar("encoding", "texts") as progress:
        made = mark_derived(specify(derived.texts, dock.encoder(), progress=progress))
    place = folder.resolve()
    target = to or place.with_name(f"{place.name}.specification{SPECIFICATION_SUFFIX}")
    save_specification(made, target, "--to")
    if as_json:
        said = {name: getattr(derived, name) for name in ("written", "rounds", "tokens", "departure")}
        output.print_json({"file": str(target), **said, **output.specification_json(made)})
        return
    print(f"{target}: {output.specification_line(made)}")
    print(
        f"kept of {derived.written} texts written in {derived.rounds} rounds, {derived.tokens} tokens; its answers"
        f" to them are {derived.departure:.2f} nats likelier than by the base model"
    )


async def _derive(adapter: Adapter, base: KnownBase, prompts: list[str], sampling: Sampling) -> Derived:
    """Runs the adapter from a store of its own, so that no catalogue need know it yet."""
    with tempfile.TemporaryDirectory() as place:
        store = AdapterStore(Path(place))
        store.put(adapter.id, adapter.files)
        engine = TransformersEngine(TransformersConfig(Path(base.folder), base.name, store.root))
        await engine.start()
        try:
            name = f"derived@{adapter.id[:ENGINE_ID_LENGTH]}"
            derivation = Derivation(engine, name, Frame.of(Path(base.folder)), sampling)
            with output.progress_bar("sampling", "rounds") as progress:
                return await derivation.run(prompts, prompt_bank(), progress)
        finally:
            await engine.stop()
