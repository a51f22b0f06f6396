"""`ps`, `models` and `scale`: what the experts are, what they do, and how many of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from capyra.deployments.cli import addresses
from capyra.deployments.cli.addresses import AddressOption, JsonOption, ServerOption
from capyra.deployments.cli.output import (
    plural,
    print_json,
    print_table,
    say,
    size,
    table_text,
)
from capyra.deployments.cli.residency import show
from capyra.engine.errors import CapacityError, InvalidValue, UnknownExpert

if TYPE_CHECKING:
    from capyra.deployments.cli.client import Client
    from capyra.deployments.rest import ServeRest

MOST_REPLICAS = 256
STYLES = {
    "ready": "green",
    "loading": "yellow",
    "draining": "yellow",
    "parked": "cyan",
    "failed": "red",
}
PS_COLUMNS = ("EXPERT", "STATE", ">REPLICAS", ">RUNNING", ">WAITING", ">MEMORY", "PROCESSES")
MODELS_COLUMNS = ("MODEL", "ENGINE", ">CONTEXT", "ABLE TO", "DESCRIPTION")


@dataclass(frozen=True, slots=True)
class Row:
    """One expert, as `ps` shows it. What the server does not tell is None."""

    expert: str
    state: str | None
    target: int | None
    ready: int
    running: int | None
    waiting: int | None
    bytes: int | None
    replicas: tuple[dict[str, Any], ...]
    problem: str | None = None

    @classmethod
    def of(cls, card: dict[str, Any]) -> Row:
        told: dict[str, Any] = card.get("capyra") or {}
        replicas = tuple(told.get("replicas") or ())
        return cls(
            expert=str(card.get("id")),
            state=told.get("state"),
            target=told.get("target"),
            ready=sum(1 for one in replicas if one.get("state") == "ready"),
            running=_total(told, "running"),
            waiting=_total(told, "waiting"),
            bytes=_total(told, "rss_bytes"),
            replicas=replicas,
            problem=told.get("problem"),
        )

    def cells(self) -> tuple[str, ...]:
        style = STYLES.get(self.state or "", "dim")
        target = "?" if self.target is None else str(self.target)
        places = (_place(one) for one in self.replicas)
        return (
            self.expert,
            f"[{style}]{self.state or '-'}[/]",
            f"{self.ready}/{target}",
            _figure(self.running),
            _figure(self.waiting),
            size(self.bytes),
            ", ".join(place for place in places if place) or "-",
        )

    def refusals(self) -> list[str]:
        """Why replicas do not serve with their newest settings; each reason once."""
        return sorted({str(one["problem"]) for one in self.replicas if one.get("problem")})


def _total(told: dict[str, Any], name: str) -> int | None:
    """The sum over all replicas; None if the server tells nothing of them."""
    if "replicas" not in told:
        return None
    return sum(int(one.get(name) or 0) for one in told["replicas"])


def _figure(count: int | None) -> str:
    return "-" if count is None else str(count)


def _place(replica: dict[str, Any]) -> str:
    """`1234@node`; nodes have long names, whose beginning tells them apart."""
    node = str(replica.get("node") or "")[:8]
    pid = replica.get("pid")
    return f"{pid}@{node}" if pid and node else str(pid or node)


def ps(
    server: ServerOption = None,
    as_json: JsonOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it anew every second, until Ctrl-C.")
    ] = False,
) -> None:
    """Show each expert's state, replicas, requests and memory."""
    with _client(server) as client:
        if watch and not as_json:
            _watch(client)
        rows = _rows(client)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_table(PS_COLUMNS, [row.cells() for row in rows])
        for row in rows:
            if row.problem is not None:
                say(f"{row.expert} did not start: {row.problem}")
            for problem in row.refusals():
                say(f"{row.expert} keeps its former settings: {problem}")


def _rows(client: Client) -> list[Row]:
    return [Row.of(card) for card in client.models()]


def _watch(client: Client) -> NoReturn:
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, screen=False) as live:
        while True:
            cells = [row.cells() for row in _rows(client)]
            text = table_text(PS_COLUMNS, cells, terminal=True)
            live.update(Text.from_ansi(text), refresh=True)
            time.sleep(1.0)


def models(server: ServerOption = None, as_json: JsonOption = False) -> None:
    """List the models and what each is able to do."""
    with _client(server) as client:
        cards = client.models()
    if as_json:
        print_json(cards)
    else:
        print_table(MODELS_COLUMNS, [_model_cells(card) for card in cards])


def _model_cells(card: dict[str, Any]) -> tuple[str, ...]:
    from rich.markup import escape

    told: dict[str, Any] = card.get("capyra") or {}
    context = told.get("context") or card.get("max_model_len")
    return (
        str(card.get("id")),
        str(told.get("engine") or "-"),
        f"{context:,}" if isinstance(context, int) else "-",
        ", ".join(_abilities(told.get("capabilities") or {})) or "-",
        escape(str(told.get("description") or "")),
    )


def _abilities(told: dict[str, Any]) -> list[str]:
    names = ("images", "tools", "embeddings", "scoring", "suffix")
    found = [name for name in names if told.get(name)]
    return found + (["json"] if "json_schema" in (told.get("formats") or ()) else [])


def scale(
    expert: Annotated[str, typer.Argument(metavar="EXPERT", help="The expert.")],
    replicas: Annotated[
        str,
        typer.Argument(
            metavar="N",
            help="How many replicas there shall be, 0 to stop the expert; auto: as its load needs.",
        ),
    ],
    address: AddressOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when they are there.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Seconds that --wait waits at most.")
    ] = 180.0,
) -> None:
    """Set the number of an expert's replicas.

    It holds until another is set, or `auto`.
    """
    if replicas == "auto":
        with _client(server) as client:
            show(client.post(f"/v1/experts/{expert}/scale", {"replicas": "auto"}), as_json=as_json)
        return
    wanted = replica_count(replicas)
    from capyra.deployments.rest import ServeRest

    rest = ServeRest(addresses.dashboard(address))
    deployment = _deployment(rest, expert)
    _check_most(deployment, expert, wanted)
    before = int(deployment.get("target_num_replicas") or 0)
    rest.scale(expert, wanted)
    if before == wanted:
        # Serve had this number already: Control cannot see there that an operator wants it too.
        with _client(server) as client:
            client.post(f"/v1/experts/{expert}/scale", {"replicas": wanted})
    if wait:
        await_replicas(rest, expert, wanted, timeout)
    if as_json:
        print_json({"expert": expert, "before": before, "target": wanted, "reached": wait})
    else:
        say(f"{expert}: {before} → {plural(wanted, 'replica')}")


def replica_count(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_REPLICAS:
        raise InvalidValue(f"{text!r} is no number of replicas: give 0 to {MOST_REPLICAS}, or auto")
    return int(text)


def _deployment(rest: ServeRest, expert: str) -> dict[str, Any]:
    from capyra.deployments.names import EXPERT_DEPLOYMENT

    applications: dict[str, Any] = rest.details().get("applications", {})
    found: dict[str, Any] | None = (
        applications.get(expert, {}).get("deployments", {}).get(EXPERT_DEPLOYMENT)
    )
    if found is None:
        raise UnknownExpert(f"Serve runs no expert {expert!r}; `capyra ps` lists them")
    return found


def _check_most(deployment: dict[str, Any], expert: str, wanted: int) -> None:
    """The experts file's `replicas.max` holds for operators too."""
    settings = deployment.get("deployment_config", {}).get("user_config") or {}
    most = settings.get("config", {}).get("replicas", {}).get("max")
    if most is not None and wanted > most:
        raise InvalidValue(
            f"{expert} may have {plural(most, 'replica')} at most: raise its `replicas.max` in the "
            "experts file and deploy it"
        )


def await_replicas(
    rest: ServeRest,
    expert: str,
    wanted: int,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Return when exactly so many replicas run and none is starting or stopping."""
    give_up = clock() + timeout_s
    while True:
        states = [one["state"] for one in _deployment(rest, expert).get("replicas", [])]
        if states == ["RUNNING"] * wanted:
            return
        if clock() > give_up:
            there = states.count("RUNNING")
            raise CapacityError(
                f"{expert} has {there} of {wanted} replicas after {timeout_s:g} s; it goes on"
            )
        pause(0.2)


def _client(server: str | None) -> Client:
    from capyra.deployments.cli.client import Client

    return Client(addresses.server(server), addresses.key())
