"""One frame of ``slmdock top``: what a gateway says of its last minute, as tables."""

from typing import get_args

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from serving.live import LastMinute, LiveSnapshot, Quantiles, Used, WholeModelsState
from serving.request_record import Stage

BAR_WIDTH = 16
GIB = 2**30
STAGES: tuple[Stage, ...] = get_args(Stage)


def frame(snapshot: LiveSnapshot, url: str) -> RenderableType:
    """Returns the whole frame. Last come the learnwares, since a low terminal cuts the end off."""
    minute = snapshot.last_minute
    middle = Table.grid(padding=(0, 4, 0, 0))
    middle.add_row(_times(minute), _decisions(minute))
    parts: list[RenderableType] = [_rates(snapshot), middle, _engines(snapshot), _most_used(minute.most_used)]
    if snapshot.dock.whole is not None:
        parts.insert(3, _whole_models(snapshot.dock.whole))
    spaced = [each for part in parts for each in (part, Text())][:-1]
    return Group(_head(snapshot, url), Rule(style="dim"), *spaced)


def _head(snapshot: LiveSnapshot, url: str) -> RenderableType:
    learnwares = snapshot.dock.learnwares
    catalogue = Text("catalogue does not answer", style="bold red")
    if learnwares is not None:
        catalogue = Text(f"{learnwares:,} learnware{'' if learnwares == 1 else 's'}")
    line = Table.grid(
        Column(ratio=1, no_wrap=True, overflow="ellipsis"), Column(justify="right", no_wrap=True), expand=True
    )
    name = Text.assemble(("slmdock top", "bold"), "  ", url)
    line.add_row(name, Text.assemble(catalogue, f", up {duration(snapshot.uptime_seconds)}"))
    return line


def _rates(snapshot: LiveSnapshot) -> RenderableType:
    minute, stages = snapshot.last_minute, snapshot.in_flight
    table = Table.grid(Column(width=13, style="bold"), Column())
    table.add_row("requests/s", _joined(
        Text(f"{minute.requests:.1f}"),
        _marked(f"{minute.refused:.1f} refused", minute.refused > 0, "yellow"),
        _marked(f"{minute.failed:.1f} failed", minute.failed > 0, "bold red"),
        Text(f"over the last {minute.window_seconds:.0f} s", style="dim"),
    ))  # fmt: skip
    table.add_row("tokens/s", Text(f"{_rate(minute.completion_tokens)} out, {_rate(minute.prompt_tokens)} in"))
    parts = ", ".join(f"{stages.get(stage, 0)} {stage}" for stage in STAGES)
    table.add_row("in flight", Text(f"{sum(stages.values())} ({parts})"))
    return table


def _rate(a_second: float) -> str:
    return f"{a_second:,.{0 if a_second >= 10 or a_second == 0 else 2 if a_second < 0.1 else 1}f}"


def _times(minute: LastMinute) -> Table:
    table = _table("time", Column("p50", justify="right"), Column("p95", justify="right"))
    for name, quantiles in (
        ("decision", minute.decision),
        ("first token", minute.first_token),
        ("whole answer", minute.whole),
    ):
        table.add_row(name, *_quantiles(quantiles))
    return table


def _decisions(minute: LastMinute) -> Table:
    # Rich takes the padding of the last column, which may be empty, from the first.
    columns = Column("decision", min_width=10), Column("requests", justify="right", no_wrap=True)
    table = _table(*columns, "")
    most = max(minute.decisions.values(), default=1)
    for kind, count in minute.decisions.items():
        bar = Text("█" * max(1, round(BAR_WIDTH * count / most)), style="yellow" if kind == "fallback" else "cyan")
        table.add_row(kind, f"{count:,}", bar)
    if not minute.decisions:
        table.add_row(Text("none yet", style="dim"))
    return table


def _most_used(used: tuple[Used, ...]) -> Table:
    requests, tokens = (Column(name, justify="right", no_wrap=True) for name in ("requests", "tokens out"))
    table = _table("learnware", requests, tokens)
    for one in used:
        name, at, version = one.model.partition("@")
        table.add_row(
            _cut(Text.assemble(name, (at + version[:8], "dim"))), f"{one.requests:,}", f"{one.completion_tokens:,}"
        )
    if not used:
        table.add_row(Text("none yet", style="dim"))
    return table


def _engines(snapshot: LiveSnapshot) -> Table:
    numbers = (Column(name, justify="right", no_wrap=True) for name in ("in flight", "adapters in memory"))
    table = _table("engine", Column("state", no_wrap=True), *numbers)
    for engine in snapshot.dock.engines:
        alone = engine.replicas[0] if len(engine.replicas) == 1 else None
        load = (str(alone.in_flight), f"{alone.residents:,}") if alone else ("", "")
        table.add_row(_cut(Text(engine.base_model)), _state(engine.healthy), *load)
        for one in () if alone else engine.replicas:
            name = _cut(Text(f"  {one.replica}", style="dim"))
            table.add_row(name, _state(one.up), str(one.in_flight), f"{one.residents:,}")
    return table


def _whole_models(whole: WholeModelsState) -> Table:
    numbers = (Column(name, justify="right", no_wrap=True) for name in ("in flight", "GiB", "idle"))
    table = _table("whole model", Column("state", no_wrap=True), *numbers)
    for one in whole.models:
        state = _state(True) if one.up else Text("starting", style="yellow")
        idle = duration(one.idle_seconds) if one.up and not one.in_flight else "-"
        table.add_row(_cut(Text(one.model)), state, str(one.in_flight), f"{one.bytes / GIB:.2f}", idle)
    table.add_row(Text("together", style="dim"), "", "", f"{whole.used / GIB:.2f} of {whole.budget / GIB:.2f}", "")
    return table


def _state(up: bool) -> Text:
    return Text("up", style="green") if up else Text("DOWN", style="bold red")


def duration(seconds: float) -> str:
    """A time in words, with two figures or so: ``850 µs``, ``12 ms``, ``3.4 s``, ``2 h 05 min``, ``3 d 4 h``."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 60:
        return f"{minutes} min {int(seconds) % 60:02} s"
    if hours < 24:
        return f"{hours} h {minutes % 60:02} min"
    return f"{hours // 24} d {hours % 24} h"


def _quantiles(quantiles: Quantiles | None) -> tuple[str, str]:
    return (duration(quantiles.p50), duration(quantiles.p95)) if quantiles else ("-", "-")


def _table(*columns: Column | str) -> Table:
    return Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")


def _cut(text: Text) -> Text:
    """Text on one line that ends in an ellipsis where it is too long; a column of it gives way to the others."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _joined(*texts: Text) -> Text:
    return Text(", ").join(texts)


def _marked(text: str, marked: bool, style: str) -> Text:
    return Text(text, style=style if marked else "dim")
