"""Commands around the catalogue: spec, list, show, search, task, base."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from catalogue import parse_filter
from indexer import KnownBase, cached_specification
from serving.wire import RANKING
from slmdock import output
from slmdock.context import Context
from slmdock.dock import specification_cache
from specification import (
    NO_PRIVACY,
    Example,
    ParameterVector,
    Privacy,
    Recipe,
    Specification,
    Tuning,
    differential_privacy,
    read_examples,
    specify,
)
from specification.errors import InvalidInput
from specification.parameter_vector import DEFAULT_STEPS, Form
from specification.privacy import DEFAULT_DELTA

base_app = typer.Typer(
    no_args_is_help=True, help="The base models that adapters may stand on.", rich_markup_mode=None
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Where = Annotated[str, typer.Option(help="Filter, for instance 'domain=finance|law,rank<=16'.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")]
SPECIFICATION_SUFFIX = ".safetensors"


def spec(
    context: typer.Context,
    examples: Annotated[Path, typer.Argument(help="JSON Lines file, a field 'text' (or 'prompt') per line.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; default: beside the input.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Points of the reduced set; default: min(32, n/2).")
    ] = None,
    task: Annotated[
        bool, typer.Option("--task", help="For a task: leave out what only a learnware needs; it tells less.")
    ] = False,
    epsilon: Annotated[
        float | None, typer.Option(help="Make it differentially private: ε, the privacy loss, such as 4.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help=f"δ of --epsilon, under 1/n. Default: {DEFAULT_DELTA:g}.")
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(help="Add a parameter vector by this proxy model (folder or hub id): Qwen/Qwen2.5-0.5B."),
    ] = None,
    proxy_form: Annotated[
        Form, typer.Option(help="How it is made; adaptive and gradient take one pass.")
    ] = "adaptive",
    proxy_steps: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Steps of --proxy-form tuned; default: 400.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a specification from examples, on this machine. The file holds no text."""
    dock: Context = context.obj
    privacy = _privacy(epsilon, delta)
    recipe = _recipe(proxy, proxy_form, proxy_steps)
    if proxy and privacy.promised:
        raise InvalidInput("--proxy with --epsilon: a parameter vector is not private; leave one of them out")
    found = read_examples(examples)
    with output.progress_bar("encoding", "texts") as progress:
        chosen = [each.text for each in found]
        specification = specify(chosen, dock.encoder(), size, progress, privacy, calibrated=not task)
    if proxy:
        specification = replace(specification, parameters=_parameters(found, proxy, recipe))
    target = out or examples.with_suffix(".specification" + SPECIFICATION_SUFFIX)
    save_specification(specification, target, "--out")
    _warn_of_delta(specification)
    if as_json:
        output.print_json({"file": str(target), **output.specification_json(specification)})
        return
    print(f"{target}: {output.specification_line(specification)}")


def list_learnwares(
    context: typer.Context,
    where: Where = "",
    query: Annotated[str, typer.Option(help="Words to look for in names and descriptions.")] = "",
    limit: Limit = 100,
    after: Annotated[str | None, typer.Option(help="Go on behind this id.")] = None,
    as_json: Json = False,
) -> None:
    """List learnwares, or find some by their description."""
    dock: Context = context.obj
    chosen = parse_filter(where)
    following = None
    with closing(dock.access()) as access:
        if query:
            found = access.find(query, limit, chosen)
        else:
            page = access.learnwares(chosen, limit, after)
            found, following = list(page.learnwares), page.next
    if as_json:
        output.print_json({"learnwares": [item.model_dump(mode="json") for item in found], "next": following})
        return
    if not found:
        print("no learnware passes")
        return
    output.console().print(output.learnware_table(found))
    if following:
        print(f"more: --after {following}")


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of a learnware.")],
    as_json: Json = False,
) -> None:
    """Show everything the dock knows of a learnware."""
    dock: Context = context.obj
    with closing(dock.access()) as access:
        learnware = access.learnware(name)
    if as_json:
        output.print_json(learnware.model_dump(mode="json"))
    else:
        output.console().print(output.learnware_details(learnware))


def search(
    context: typer.Context,
    task: Annotated[Path, typer.Argument(help="Examples of the task (JSON Lines), or a specification file.")],
    where: Where = "",
    limit: Limit = 10,
    as_json: Json = False,
) -> None:
    """Find the learnwares that fit a task. Only the specification leaves this process, never a text."""
    dock: Context = context.obj
    chosen = parse_filter(where)
    with closing(dock.access()) as access:
        # A sketch takes seconds: first, is there a catalogue, or a gateway that lets us look into it?
        access.learnwares(chosen, 1)
        ranking = access.search(task_specification(dock, task), limit, chosen)
    if as_json:
        output.print_json(RANKING.dump_python(ranking, mode="json"))
        return
    output.console().print(output.ranking_table(ranking))
    print(output.decision_line(ranking))
    if ranking.mixture and ranking.mixture.planned:
        print(output.mixture_line(ranking.mixture))
    if ranking.decision.learnware and not where:
        print(f"to send prompts to it through a gateway: slmdock task {output.safe(shlex.quote(str(task)))}")


def task(
    context: typer.Context,
    examples: Annotated[Path, typer.Argument(help="Examples of the task (JSON Lines), or a specification file.")],
    as_json: Json = False,
) -> None:
    """Register a task at the gateway, which decides who answers it; task:<id> is then a model to ask."""
    dock: Context = context.obj
    with closing(dock.gateway()) as client:
        # As in a search.
        client.base_models()
        registered = client.register_task(task_specification(dock, examples))
    if as_json:
        output.print_json(registered.model_dump(mode="json"))
        return
    print(f"task:{registered.id}")
    print(output.safe(registered.reason))
    print(f"send it as 'model', with base URL {client.url}/v1 in any client of OpenAI's API")


@base_app.command("add")
def add_base(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, as adapters give it in base_model_name_or_path.")],
    folder: Annotated[Path, typer.Argument(help="Folder in the transformers format.")],
) -> None:
    """Make a base model known to the dock."""
    dock: Context = context.obj
    base = dock.bases().add(name, folder)
    print(f"{base.name}: {len(base.modules)} linear modules, {_fingerprint(base)}")


@base_app.command("list")
def list_bases(context: typer.Context, as_json: Json = False) -> None:
    """List the base models the dock knows; through --url the names of those that it serves."""
    dock: Context = context.obj
    if dock.url:
        _list_served(dock, as_json)
        return
    bases = dock.bases()
    found = [bases.get(name) for name in bases.names()]
    if as_json:
        output.print_json([base.model_dump(mode="json", exclude={"modules"}) for base in found])
        return
    for base in found:
        print(f"{base.name}: {base.folder}; {_fingerprint(base)}")
    if not found:
        print(f"none yet in {dock.config.folder}; 'slmdock base add NAME FOLDER' makes one known")


def _list_served(dock: Context, as_json: bool) -> None:
    """Of a dock elsewhere only the names are told, of the base models that its gateway serves."""
    with closing(dock.gateway()) as client:
        names = client.base_models()
    if as_json:
        output.print_json([{"name": name} for name in names])
        return
    for name in names:
        print(f"{output.safe(name)}: served at {client.url}")


def _fingerprint(base: KnownBase) -> str:
    parts = ", ".join(f"{part} {digest[:12]}" for part, digest in base.fingerprint.items())
    return parts if base.weights_sha256 else f"{parts}; weights not known, add it again with its weights"


def save_specification(made: Specification, target: Path, option: str) -> None:
    """Writes a specification file.

    Raises:
        InvalidInput: it cannot be written; ``option`` chooses another place.
    """
    try:
        made.save(target)
    except OSError as error:
        raise InvalidInput(
            f"{target} cannot be written ({error.strerror}); choose another with {option}"
        ) from None


def task_specification(dock: Context, file: Path) -> Specification:
    """A task's specification: the file's own, or made of the examples in it."""
    if file.suffix == SPECIFICATION_SUFFIX:
        return Specification.load(file)
    return specified(dock, file, calibrated=False)


def specified(dock: Context, examples: Path, calibrated: bool) -> Specification:
    """The specification of an examples file, made on this machine; see ``cached_specification``."""
    with output.progress_bar("encoding", "texts") as progress:
        return cached_specification(examples, dock.encoder(), specification_cache(), progress, calibrated)


def _privacy(epsilon: float | None, delta: float | None) -> Privacy:
    if epsilon is None:
        if delta is not None:
            raise InvalidInput("--delta without --epsilon; give both, or --epsilon alone")
        return NO_PRIVACY
    return differential_privacy(epsilon, DEFAULT_DELTA if delta is None else delta)


def _warn_of_delta(made: Specification) -> None:
    if made.privacy.delta is not None and made.privacy.delta * made.sample_size >= 1:
        print(
            f"warning: delta {made.privacy.delta:g} is not under 1/{made.sample_size}: such a promise would let "
            "one of the texts be published; choose a smaller --delta",
            file=sys.stderr,
        )


def _recipe(proxy: str | None, form: Form, steps: int | None) -> Recipe:
    if proxy is None and (form != "adaptive" or steps is not None):
        raise InvalidInput("--proxy-form or --proxy-steps without --proxy; name the proxy model")
    if steps is not None and form != "tuned":
        raise InvalidInput(f"--proxy-steps with --proxy-form {form}, which takes no steps; choose tuned")
    return Recipe(form=form, tuning=Tuning(steps=steps or DEFAULT_STEPS) if form == "tuned" else None)


def _parameters(examples: Sequence[Example], proxy: str, recipe: Recipe) -> ParameterVector:
    from specification.proxy import Proxy
    from specification.proxy_training import specify_parameters

    with output.progress_bar("proxy", "steps" if recipe.tuning else "examples") as progress:
        return specify_parameters(examples, Proxy(proxy), recipe, progress)
