"""What `amago-suite watch` serves, and to whom."""

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from writer import SCORES, make_grid, write_grid, write_run

from amago.errors import ConfigurationError, DataError
from amago_suite.live.watch import Live, loopback, make_server
from amago_suite.report import VERSION_MARK


@pytest.fixture
def live(tmp_path) -> Live:
    """Two of three runs are finished."""
    grid = make_grid(tmp_path, {"lake": SCORES["lake"]}, ("a",))
    return Live(write_grid(grid, skip=lambda cell: cell.seed == 2))


@pytest.fixture
def server(live: Live) -> Iterator[ThreadingHTTPServer]:
    live.refresh()
    with make_server(live, "localhost", 0) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def ask(
    server: ThreadingHTTPServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_finished_cell_makes_a_new_page(live: Live) -> None:
    """The page changes when a run ends, only then, and says which version it is."""
    assert live.refresh()
    first, version = live.page.decode(), live.state["version"]
    assert f'data-version="{version}"' in first and VERSION_MARK not in first
    assert "1 run of 3 missing" in first and "connect-src 'self'" in first
    assert not live.refresh() and live.page.decode() == first
    write_run(live.grid.cells[2], SCORES["lake"], 1.0)
    assert live.refresh() and live.state["version"] != version
    assert "partial" not in live.page.decode().split("<title>")[1].split("</title>")[0]
    assert live.state["line"] == "All 3 runs are done." and live.state["fraction"] == 1.0


def test_a_file_that_cannot_be_read_leaves_the_page(live: Live) -> None:
    """A damaged cell is said beside the old page, and ends a watch only if there is no page yet."""
    live.refresh()
    before = live.page
    write_run(live.grid.cells[2], SCORES["lake"], 1.0)
    good = live.grid.cells[2].episodes.read_text()
    live.grid.cells[2].episodes.write_text("torn")
    assert not live.refresh() and live.page == before
    assert "lacks the columns" in live.state["problem"]
    with pytest.raises(DataError):
        Live(live.grid).refresh()
    live.grid.cells[2].episodes.write_text(good)
    assert live.refresh() and live.state["problem"] is None


def test_page_and_state_are_all_there_is(server: ThreadingHTTPServer, live: Live) -> None:
    """Two addresses; no file of the machine can be asked for, nothing can be sent."""
    status, page = ask(server, "/")
    assert (status, page) == (200, live.page)
    status, state = ask(server, "/state?x=1")
    assert status == 200 and json.loads(state)["line"] == "2 done, 1 waiting"
    assert ask(server, "/", "HEAD") == (200, b"")
    for path in ("/etc/passwd", "/../../etc/passwd", "/state/..", "/plan.json"):
        assert ask(server, path)[0] == 404
    assert ask(server, "/", "POST")[0] == 501


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "192.168.0.4", ""])
def test_names_of_other_machines_are_not_answered(server: ThreadingHTTPServer, host: str) -> None:
    """A page elsewhere whose name was pointed at 127.0.0.1 (DNS rebinding) reads nothing."""
    assert ask(server, "/", host=host or " ")[0] == 403
    assert ask(server, "/", host=f"localhost:{server.server_address[1]}")[0] == 200
    assert ask(server, "/", host="[::1]:1")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.4", "example.org", ""])
def test_only_this_machine_is_served(live: Live, host: str) -> None:
    """An address that others reach is refused in one line with a way out."""
    with pytest.raises(ConfigurationError, match=r"to this machine only .*ssh -L"):
        make_server(live, host, 0)


def test_this_machines_own_addresses() -> None:
    assert [loopback(host) for host in ("localhost", "127.0.0.1", "127.1.2.3", "::1")] == [
        "127.0.0.1",
        "127.0.0.1",
        "127.1.2.3",
        "::1",
    ]


def test_a_taken_port_is_one_clear_line(server: ThreadingHTTPServer, live: Live) -> None:
    """Which port, why, and the way out."""
    port = server.server_address[1]
    with pytest.raises(ConfigurationError, match=rf"--port {port}: Address already in use; name another"):
        make_server(live, "127.0.0.1", port)
