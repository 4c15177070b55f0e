"""``make demo`` as its user sees it: the calls, the exit codes, and nothing left running."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "atlas" / "demo.py"
ENDPOINTS = 19
READS_OF_DJANGO = 8
pytestmark = pytest.mark.acceptance


@contextmanager
def demo(data, *arguments):
    """The demo as a process, on few cities; killed if the test leaves it running."""
    command = [sys.executable, str(DEMO), "--cities", "200", "--data", str(data), *arguments]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(DEMO.parents[2])))),
    }
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def port_of(process):
    """Reads until the demo says where it serves."""
    for line in process.stdout:
        if found := re.search(r"serving on http://127\.0\.0\.1:(\d+)/", line):
            return int(found[1])
    pytest.fail("the demo ended before it served")


@pytest.mark.verify("mariadb", "postgresql", "mysql")
def test_once_calls_each_endpoint_and_ends_well(tmp_path, family):
    with demo(tmp_path, "--once", "--db", family) as process:
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    answered = re.findall(
        r"^(?:GET|POST) /\S+ +(?:sync|async|bridge)(?: +\d+)?((?: +\d+\.\d)+) +\S", output, re.MULTILINE
    )
    assert len(answered) == ENDPOINTS, output
    beside_stock = [figures for figures in answered if len(figures.split()) == 3]
    assert len(beside_stock) == READS_OF_DJANGO, output


@pytest.mark.verify
def test_a_second_run_finds_the_cities_loaded(tmp_path):
    for told in ("loaded 200 cities", "already loaded: 200 cities"):
        with demo(tmp_path, "--once") as process:
            output, _ = process.communicate(timeout=60)
        assert told in output


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.verify), signal.SIGTERM])
def test_it_serves_until_it_is_interrupted_and_leaves_nothing(tmp_path, number):
    with demo(tmp_path) as process:
        port = port_of(process)
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        process.send_signal(number)
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with demo(tmp_path, "--once", "--port", str(port)) as process:
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"error: port {port} cannot be used" in output
