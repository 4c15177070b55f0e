#!/usr/bin/env python
"""``make demo``: prepares the atlas, serves it, calls each endpoint once, shows what came back, and goes on serving."""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from serving import HERE, Reply, Server, Site, SiteError, url_of

KINDS = {"sync": "/stock/", "async": "/stock/async/", "bridge": "/bridge/"}
CALLS = (
    ("GET", "search/?q=san&limit=3", None),
    ("GET", "nearest/?lat=48.857&lon=2.352&limit=3", None),
    ("GET", "countries/?continent=EU&limit=3", None),
    ("GET", "cities/{city}/", None),
    ("POST", "visits/", {"note": "make demo"}),
)
ALONE = (
    ("/stock/async/cities.csv?limit=3", "async"),
    ("/bridge/cities.csv?limit=3", "bridge"),
    ("/live/?every=0.2&events=3", "async"),
    ("/health/", "bridge"),
)
SHOWN = 60
AGAIN = 5
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    request: str
    kind: str
    ok: bool
    came_back: str
    queries: str = ""
    first_ms: str = ""
    again_ms: str = ""
    stock_ms: str = ""

    @property
    def endpoint(self) -> str:
        """The method and the endpoint's own part of the path."""
        method, _, path = self.request.partition(" ")
        prefix = next((prefix for kind, prefix in KINDS.items() if kind == self.kind and path.startswith(prefix)), "/")
        return f"{method} {path.removeprefix(prefix).partition('?')[0]}"

    @property
    def cells(self) -> tuple[str, ...]:
        """The line as it is printed."""
        return (self.request, self.kind, self.queries, self.first_ms, self.again_ms, self.stock_ms, self.came_back)


HEADS = ("request", "view", "queries", "first ms", "then ms", "stock ms", "what came back")


def main() -> int:
    """Runs the demo and returns its exit code."""
    options = parsed_arguments()
    for number in ENDS:
        signal.signal(number, interrupt)
    try:
        with ExitStack() as stack:
            site = prepared_site(options, stack)
            server = stack.enter_context(site.serve(port=options.port))
            with site.without_the_bridge().serve() as stock:
                rows = list(called_once(server, stock))
            show(rows)
            if not all(row.ok for row in rows):
                say("a call failed: see the table")
                return 1
            if not options.once:
                keep_serving(server)
    except SiteError as err:
        say(f"error: {err}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0


def parsed_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", choices=("sqlite", "mariadb", "postgresql", "mysql"), default="sqlite")
    parser.add_argument("--once", action="store_true", help="end after the calls; exit code 1 if one failed")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--cities", type=int, help="only the largest CITIES cities")
    parser.add_argument("--data", type=Path, default=HERE / ".data", help="folder of the SQLite database")
    return parser.parse_args()


def interrupt(*_: object) -> None:
    """Makes any request to end look like one Ctrl-C; a second one must not cut short the stopping, which is bounded."""
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def prepared_site(options: argparse.Namespace, stack: ExitStack) -> Site:
    """Returns the site on its database, migrated and loaded; ``stack`` stops what had to be started."""
    if options.db == "sqlite":
        site = Site(options.data.resolve())
        say(f"database: SQLite in {options.data}")
    else:
        say(f"starting a private {options.db} server in a temporary folder")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atlas-")))
        site = Site(folder, url=stack.enter_context(private_server(options.db, folder)))
    say("migrating")
    site.manage("migrate", "--verbosity", "0")
    site.manage("load_places", *(("--limit", str(options.cities)) if options.cities else ()))
    return site


@contextmanager
def private_server(family: str, folder: Path) -> Iterator[str]:
    """Runs a database server of our own and yields the URL of an empty database; ``folder`` is for MySQL's key."""
    try:
        from asyncdb.testing import MariaDBServer, MySQLServer, PostgreSQLServer  # not for SQLite

        server = {"mariadb": MariaDBServer, "mysql": MySQLServer, "postgresql": PostgreSQLServer}[family]()
        stack = ExitStack()
        stack.enter_context(server)
    except (OSError, RuntimeError, ImportError) as err:
        raise SiteError(f"no {family} server could be started: {err}") from err
    with stack:
        server.create_database("atlas")
        yield url_of(server, "atlas", folder)


def called_once(server: Server, stock: Server) -> Iterator[Row]:
    """Calls each endpoint once, and Django's own views on ``stock`` too; yields a row for each."""
    city = 2988507  # Paris
    for method, path, body in CALLS:
        for kind, prefix in KINDS.items():
            sent = {"city_id": city, **body} if body else None
            beside = None if kind == "bridge" else stock
            yield row_of(server, method, prefix + path.format(city=city), kind, sent, stock=beside)
    for path, kind in ALONE:
        yield row_of(server, "GET", path, kind)


def row_of(server: Server, method: str, path: str, kind: str, body: Any = None, *, stock: Server | None = None) -> Row:
    """Sends one request, and a few more of the same for the time that it takes once everything is warm."""
    request = f"{method} {path}"
    try:
        reply = server.call(method, path, body)
        again = times(server, path) if method == "GET" else []
        beside = times(stock, path) if method == "GET" else []
    except (OSError, HTTPException) as err:
        return Row(request, kind, ok=False, came_back=f"no answer: {type(err).__name__}")
    return Row(
        request,
        kind,
        ok=reply.status in (200, 201),
        came_back=shortened(reply),
        queries="" if reply.queries is None else str(reply.queries),
        first_ms=f"{reply.total_ms:.1f}",
        again_ms=f"{statistics.median(again):.1f}" if again else "",
        stock_ms=f"{statistics.median(beside):.1f}" if beside else "",
    )


def times(server: Server | None, path: str) -> list[float]:
    """Returns the milliseconds of a few more requests, after one that warms up."""
    return [server.call("GET", path).total_ms for _ in range(1 + AGAIN)][1:] if server else []


def shortened(reply: Reply) -> str:
    """Returns the gist of an answer: names for a list, else the beginning of the JSON."""
    if reply.status not in (200, 201):
        return f"{reply.status} {reply.body[:SHOWN].decode(errors='replace')}"
    if not reply.content_type.startswith("application/json"):
        return reply.body.decode().splitlines()[-2 if reply.body.endswith(b"\n\n") else -1]
    data = reply.json()
    if isinstance(data, list):
        return ", ".join(described(item) for item in data)
    if "visit_count" in data.get("city", {}):
        return f"visit {data['visit']['id']}, {data['city']['name']} visited {data['city']['visit_count']} times"
    if "alternative_names" in data:
        return f"{data['name']}, {data['country_name']}, {len(data['alternative_names'])} other names"
    text = json.dumps(data, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def described(item: dict[str, Any]) -> str:
    """Returns one item of a list in a few words."""
    if "distance_km" in item:
        return f"{item['name']} {item['distance_km']:.1f} km"
    if "city_count" in item:
        return f"{item['name']} ({item['city_count']}, {item['largest_city']})"
    return f"{item['name']} ({item['country']})"


def show(rows: Sequence[Row]) -> None:
    """Prints the table: with rich on a terminal, else in plain columns."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        show_rich(rows)
    else:
        show_plain(rows)
    say(f"first: on a server that has just started, connecting and compiling included; then: median of {AGAIN} more;")
    say("stock: that of the same view on Django without the bridge, in a process of its own")


def show_plain(rows: Sequence[Row]) -> None:
    """Prints the table in plain columns."""
    lines = [HEADS, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    align: list[Callable[[str, int], str]] = [str.ljust, str.ljust, *[str.rjust] * 4, str.ljust]
    for line in lines:
        print("  ".join(place(cell, width) for place, cell, width in zip(align, line, widths, strict=True)).rstrip())


def show_rich(rows: Sequence[Row]) -> None:
    """Prints the table with rich."""
    from rich.console import Console  # optional
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for head in HEADS:
        justify = "right" if head.endswith((" ms", "queries")) else "left"
        table.add_column(head, justify=justify, no_wrap=head != HEADS[-1])
    for row in rows:
        # The view's column says which of the three it is: on a narrow terminal the endpoint's name must do.
        table.add_row(*map(escape, (row.endpoint, *row.cells[1:])), style=None if row.ok else "red")
    Console().print(table)


def keep_serving(server: Server) -> None:
    """Serves until Ctrl-C.

    - **errors**: ``SiteError`` when uvicorn ends by itself.
    """
    try:
        say(f"serving on {server.url}/ until Ctrl-C")
        code = server.process.wait()
    except KeyboardInterrupt:
        say("stopping")
        return
    raise SiteError(f"uvicorn ended by itself with exit code {code}")


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
