"""`edgewise route`: explain a decision, replay logged ones through another strategy. Offline: no model is called."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from edgewise.chat import ChatRequest
from edgewise.cli.settings import wrong
from edgewise.clock import SystemClock
from edgewise.errors import EdgewiseError
from edgewise.routing.breaker import Breakers
from edgewise.routing.catalog import Catalog
from edgewise.routing.names import STRATEGIES, Alias, strategy_named
from edgewise.routing.replay import ask_of, logged_decision
from edgewise.routing.replay import replay as replayed
from edgewise.routing.room import Room
from edgewise.routing.shortlist import Shortlist
from edgewise.routing.strategies import BY_NAME
from edgewise.routing.tokens import Corrections
from edgewise.settings import Settings
from edgewise.words import Choice, Plan, Principal

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Explain and replay routing decisions.")

ALL = "openai,anthropic,bedrock"
EVERY = ALL + ",local,scripted"
Providers = Annotated[str, typer.Option(help="Providers to choose from, in order of preference.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def catalog_of(providers: str) -> tuple[Catalog, Settings]:
    """What this shell's settings offer. A wrong one is told and ends the command with status 2."""
    if (why := wrong(os.environ)) is not None:
        typer.echo(f"edgewise: {why}", err=True)
        raise typer.Exit(2)
    settings = Settings.from_env(os.environ)
    catalog = Catalog.load(
        [name.strip() for name in providers.split(",") if name.strip()],
        upstreams=settings.upstreams,
        overrides=settings.model_overrides,
        region=settings.aws_region,
    )
    return catalog, settings


@app.command()
def explain(
    text: Annotated[str, typer.Argument(help="What a user would ask; with --log, a request's id.")],
    model: Annotated[str, typer.Option(help="The model that is asked for.")] = "auto",
    strategy: Annotated[str | None, typer.Option(help="A strategy by name.")] = None,
    prefer: Annotated[str | None, typer.Option(help="cheap, balanced or best.")] = None,
    max_cost_usd: Annotated[float | None, typer.Option(help="The most that this request may cost.")] = None,
    log: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Explain a logged decision, from this log.")
    ] = None,
    providers: Providers = ALL,
    as_json: AsJson = False,
) -> None:
    """Which plan this question would get, or a logged one did, and how every other plan scored."""
    if log is not None:
        tell(explained(log, text, strategy), as_json)
        return
    catalog, settings = catalog_of(providers)
    aliases = {name: Alias.of(value) for name, value in settings.aliases.items()}
    room = Room(catalog, SystemClock(), aliases=aliases, defaults=settings.routing)
    asked = {"strategy": strategy, "prefer": prefer, "max_cost_usd": max_cost_usd}
    request = ChatRequest(
        {"model": model, "messages": [{"role": "user", "content": text}]},
        routing={key: value for key, value in asked.items() if value is not None},
    )
    plan = Plan(Principal("explain", "explain"), request)
    try:
        choice = asyncio.run(room.choose(request, plan, room.resolve(request, plan)))
    except EdgewiseError as error:
        typer.echo(f"edgewise: {error.message}", err=True)
        raise typer.Exit(1) from error
    tell({**told_of(choice), "prices_as_of": catalog.as_of}, as_json)


def explained(log: Path, request_id: str, strategy: str | None) -> dict[str, Any]:
    """A logged decision, decided again on what it knew, beside what came of it."""
    with log.open(encoding="utf-8") as lines:
        logged = logged_decision(lines, request_id)
    if logged is None:
        typer.echo(f"edgewise: {log} has no decision of {request_id!r}", err=True)
        raise typer.Exit(1)
    catalog, _ = catalog_of(EVERY)
    named = strategy_named(strategy or str(logged.get("edgewise.strategy", ""))) or "hybrid"
    ask = ask_of(logged["edgewise.features"], catalog, Shortlist(Corrections(), Breakers(SystemClock())))
    if ask is None:
        typer.echo("edgewise: none of the models of that decision is known here", err=True)
        raise typer.Exit(1)
    shown = ("edgewise.strategy", "edgewise.route_reason", "gen_ai.response.model", "edgewise.cost_usd")
    was = {name.rpartition(".")[2]: logged[name] for name in shown if name in logged}
    return {**told_of(BY_NAME[named](ask)), "prices_as_of": catalog.as_of, "logged": was}


def told_of(choice: Choice) -> dict[str, Any]:
    """A choice as JSON."""
    return {
        "strategy": choice.strategy,
        "reason": choice.reason,
        "steps": [
            {"models": [m.name for m in step.models], "accept": step.accept, "at_least": step.at_least}
            for step in choice.steps
        ],
        "fallbacks": [m.name for m in choice.fallbacks],
        "expected": {
            "quality": choice.expected.quality,
            "cost_usd": None if choice.expected.cost_usd is None else str(choice.expected.cost_usd),
            "latency_ms": choice.expected.latency_ms,
        },
        "worst_usd": None if choice.worst_usd is None else str(choice.worst_usd),
        "features": dict(choice.features),
        "considered": list(choice.considered),
    }


def tell(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        show(told)


def show(told: dict[str, Any]) -> None:
    """The decision for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if was := told.get("logged"):
        console.print(f"logged: {was.get('model')}, {was.get('cost_usd')} $: {was.get('route_reason')}")
    console.print(f"[bold]{told['strategy']}[/bold]: {told['reason']}")
    for number, step in enumerate(told["steps"], 1):
        check = f", kept on {step['accept']} ≥ {step['at_least']}" if step["accept"] else ""
        console.print(f"  {number}. {' + '.join(step['models'])}{check}")
    if told["fallbacks"]:
        console.print(f"  then, on failure: {', '.join(told['fallbacks'])}")
    table = Table(title=f"plans considered (prices of {told['prices_as_of']})")
    for name in ("plan", "quality", "cost $", "ms", "value"):
        table.add_column(name, justify="left" if name == "plan" else "right", overflow="fold")
    for row in told["considered"]:
        cost = row.get("cost_usd")
        label = row.get("plan") or " + ".join(row["models"])
        table.add_row(
            f"* {label}" if row.get("chosen") else label,
            f"{row['quality']:.3f}",
            "unknown" if cost is None else f"{cost:.6f}",
            str(row.get("latency_ms", "")),
            f"{row['value']:.3f}" if "value" in row else "",
        )
    console.print(table)


@app.command()
def replay(
    log: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Log lines of requests, JSON lines.")],
    strategy: Annotated[str, typer.Option(help=f"One of {', '.join(STRATEGIES)}.")] = "hybrid",
    prefer: Annotated[str | None, typer.Option(help="cheap, balanced or best.")] = None,
    providers: Providers = EVERY,
    as_json: AsJson = False,
) -> None:
    """What another strategy would have chosen for logged requests, and at what expected cost."""
    named = strategy_named(strategy)
    if named is None:
        typer.echo(f"edgewise: there is no strategy {strategy!r}", err=True)
        raise typer.Exit(2)
    catalog, _ = catalog_of(providers)
    shortlist = Shortlist(Corrections(), Breakers(SystemClock()))
    with log.open(encoding="utf-8") as lines:
        found = replayed(lines, named, catalog, shortlist, {"prefer": prefer} if prefer else {}).row()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        typer.echo(f"{key:22} {value}")
