"""`amago-suite watch SUITE`: the report of what is finished, served to this machine only, new as cells finish.

Nothing is written: the page is made in memory, so that a folder that cannot be written, or that
belongs to a run elsewhere on a shared file system, can be watched too.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from amago.errors import AmagoError, ConfigurationError
from amago_suite.analysis.collect import collect
from amago_suite.analysis.rows import analyse
from amago_suite.grid import Grid
from amago_suite.live.display import clock, doing
from amago_suite.live.status import Overview, Watcher
from amago_suite.report import VERSION_MARK, render

PORT = 8765
#: Seconds between two looks at the cells' files.
INTERVAL = 2.0
_SHOWN_RUNNING = 4
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


@dataclass
class Live:
    """The page as it is now; one thread refreshes it while others read it.

    Attributes:
        page: HTML.
        state: what ``/state`` answers: the page's version, a line, the share that is done.
    """

    grid: Grid
    page: bytes = b""
    state: dict[str, Any] = field(default_factory=dict)
    _watcher: Watcher = field(init=False, repr=False)
    _shown: object = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._watcher = Watcher(self.grid)

    def refresh(self) -> bool:
        """Look at the cells, and make a new page where another set of them is finished or failed.

        Returns:
            Whether the page is new. A cell's file that cannot be read is said on the page that was
            there before; the first page raises.

        Raises:
            DataError: the first page cannot be made.
        """
        found = self._watcher.look()
        look = Overview(self.grid, found.cells, max(len(found.running), 1))
        ended = [(s.cell.key, s.state) for s in look.cells if s.state in ("done", "failed")]
        new, problem = ended != self._shown, None
        if new:
            try:
                collection = collect(self.grid)
                text = render(collection, analyse(collection), live=True)
            except AmagoError as error:
                if not self.page:
                    raise
                new, problem = False, str(error)
            else:
                version = hashlib.sha256(text.encode()).hexdigest()[:16]
                self.page = text.replace(VERSION_MARK, version).encode()
                self.state = {"version": version}
                self._shown = ended
        self.state = {**self.state, "line": _line(look), "fraction": look.fraction(), "problem": problem}
        return new


def _line(look: Overview) -> str:
    """What the cells do, in one line."""
    counts = look.count()
    if counts == {"done": len(look.cells)}:
        return f"All {len(look.cells):,} runs are done."
    parts = [", ".join(f"{count:,} {state}" for state, count in counts.items())]
    if look.running:
        left = look.seconds_left()
        parts += [f"about {clock(left)} left"] if left is not None else []
        names = [f"{status.cell.label}: {doing(status)}" for status in look.running[:_SHOWN_RUNNING]]
        more = len(look.running) - _SHOWN_RUNNING
        parts.append("; ".join(names) + (f" and {more:,} more" if more > 0 else ""))
    return " \u00b7 ".join(parts)


def loopback(host: str) -> str:
    """``host`` as an address of this machine that no other can reach.

    Raises:
        ConfigurationError: another address.
    """
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ConfigurationError(
        f"--host {host}: the report is served to this machine only (127.0.0.1, ::1 or localhost); from another "
        f"one, `ssh -L {PORT}:localhost:{PORT} THIS_MACHINE` and open http://localhost:{PORT}/ there"
    )


def make_server(live: Live, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the page, bound but not yet serving.

    Raises:
        ConfigurationError: an address beyond this machine, or a port that cannot be had.
    """
    address = loopback(host)

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True
        # Otherwise a second server could be bound beside the first one on some systems.
        allow_reuse_address = sys.platform != "win32"

    try:
        return Server((address, port), _handler(live))
    except OSError as error:
        way_out = "name another with --port, or --port 0 for any that is free"
        raise ConfigurationError(f"--port {port}: {error.strerror}; {way_out}") from error


def _handler(live: Live) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "amago-suite", ""

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            # A page elsewhere could make a reader's browser ask under a name that leads here: only
            # this machine's own names are answered.
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
            answers: dict[str, tuple[str, Callable[[], bytes]]] = {
                "/": ("text/html; charset=utf-8", lambda: live.page),
                "/state": ("application/json", lambda: json.dumps(live.state).encode()),
            }
            found = answers.get(urlsplit(self.path).path)
            if not _is_local(host):
                status, kind, content = 403, "text/plain", b"only for this machine\n"
            elif found is None:
                status, kind, content = 404, "text/plain", b"nothing here\n"
            else:
                status, kind, content = 200, found[0], found[1]()
            self.send_response(status)
            for name, value in {
                **_HEADERS,
                "Content-Type": kind,
                "Content-Length": str(len(content)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Requests are not worth a line each."""

    return Handler


def _is_local(host: str) -> bool:
    try:
        loopback(host)
    except ConfigurationError:
        return False
    return True


def watch(grid: Grid, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the report until the process is asked to end (Ctrl-C or SIGTERM).

    Raises:
        ConfigurationError: an address beyond this machine, or a port that cannot be had.
        DataError: a finished cell's file is malformed.
    """
    live = Live(grid)
    with make_server(live, host, port) as server, _ended_by_signals():
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        try:
            live.refresh()
            serving.start()
            address, bound = str(server.server_address[0]), server.server_address[1]
            name = f"[{address}]" if ":" in address else address
            say(f"{grid.suite}: http://{name}:{bound}/   (Ctrl-C ends this; runs go on)")
            while True:
                time.sleep(INTERVAL)
                if live.refresh():
                    say(live.state["line"])
        except KeyboardInterrupt:
            say("Stopped watching.")
        finally:
            if serving.is_alive():
                server.shutdown()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt, also where a shell started this in the background."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
