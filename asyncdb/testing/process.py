"""One server process in a temporary folder: started, watched, paused, killed; never left behind."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import AsyncDBError

_LOG_TAIL_BYTES = 3000
# A socket's path may be 107 bytes long on Linux and 103 elsewhere; PostgreSQL also makes a lock file beside it.
_LONGEST_FOLDER = 70
_IN_MEMORY = "/dev/shm"
_ROOM = 4 * 2**30
"""Bytes that must be free in memory, of which a server of tests takes some 100 MiB."""

# Reads until the end of its input, which comes when the process that started the server is gone, however it went;
# then asks the server to stop, ends it after five seconds, and removes the folder.
_WATCH = """
read -r _ || true
kill -"$2" "$1" 2>/dev/null
n=0
while kill -0 "$1" 2>/dev/null && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
kill -KILL "$1" 2>/dev/null
rm -rf -- "$3"
"""


class ServerFailed(AsyncDBError, RuntimeError):
    """A test server could not be started, or did not do what it was told."""


class Account:
    """The account that a server runs under: another one than root, which most refuse to be.

    Where this process is root's: the first of ``names`` that exists; for None its own.
    """

    def __init__(self, names: Sequence[str] | None) -> None:
        self.user: int | None = None
        self.group: int | None = None
        if names is None or os.geteuid() != 0:
            return
        for name in (*names, "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                self.user, self.group = entry.pw_uid, entry.pw_gid
                return
        raise ServerFailed(f"this is root, and there is no account {' or '.join((*names, 'nobody'))} to run a server")

    def own(self, path: Path) -> None:
        """Gives a file or folder to the account."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)

    def popen(self, command: Sequence[str | Path], *, cwd: Path, log: Path) -> subprocess.Popen[bytes]:
        """Starts a command under the account, in a session of its own: Ctrl-C in the terminal does not reach it."""
        try:
            with log.open("ab") as output:
                return subprocess.Popen(
                    command,
                    cwd=cwd,
                    env=environment() | {"HOME": str(cwd), "TMPDIR": str(cwd)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    user=self.user,
                    group=self.group,
                    extra_groups=None if self.user is None else [],
                )
        except OSError as err:
            account = "your account" if self.user is None else f"the account with the id {self.user}"
            raise ServerFailed(f"{account} cannot run {command[0]} in {cwd}: {err}") from err


def environment() -> dict[str, str]:
    """Returns the environment of servers and their clients: no variable of the user reaches them."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def find_binary(*names: str, folders: Sequence[str] = (), package: str) -> Path:
    """Returns the first of ``names`` found in ``folders``, on PATH, or in /usr/sbin.

    - **errors**: ``ServerFailed`` that names the Debian package.
    """
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    for name in names:
        if found := shutil.which(name, path=path):
            return Path(found)
    raise ServerFailed(f"{names[0]} is not installed: on Debian and Ubuntu, apt-get install {package}")


class ServerProcess:
    """One server process and its temporary folder.

    Ends exactly what it started, also when this process is killed.
    """

    def __init__(self, name: str, account: Account, *, stop_signal: signal.Signals) -> None:
        self._name = name
        self._account = account
        self._stop_signal = stop_signal
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """The temporary folder, from :meth:`make_folder` to :meth:`remove`."""
        if self._folder is None:
            raise ServerFailed(f"{self._name} is not started: use it in a with block, or call start()")
        return self._folder

    def make_folder(self) -> None:
        """Makes the temporary folder; whoever does this sees to it that :meth:`remove` is called."""
        self._folder = Path(tempfile.mkdtemp(prefix=f"asyncdb-{self._name}-", dir=_place()))
        self._account.own(self._folder)

    @property
    def exists(self) -> bool:
        return self._folder is not None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def pid(self) -> int | None:
        """The process id while the server runs, else None."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip() or "(its log is empty)"
        return "(it has no log)"

    def run(self, command: Sequence[str | Path], *, timeout: float) -> None:
        """Runs a command that prepares the data folder, under the server's account."""
        process = self._account.popen(command, cwd=self.folder, log=self.log)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerFailed(
                f"{Path(command[0]).name} was not done within {timeout:g} s; its log ends:\n{self.log_tail()}"
            ) from None
        if code:
            raise ServerFailed(f"{Path(command[0]).name} ended with {code}; its log ends:\n{self.log_tail()}")

    def start(self, command: Sequence[str | Path], *, ready: Callable[[], bool], timeout: float) -> None:
        """Starts the server and waits until ``ready()``; at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        self._process = self._account.popen(command, cwd=self.folder, log=self.log)
        self._watch(self._process.pid)
        pause = 0.01
        while not ready():
            if (code := self._process.poll()) is not None:
                self._forget()
                raise ServerFailed(f"{self._name} ended with {code} at its start; its log ends:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(
                    f"{self._name} took no connection within {timeout:g} s; its log ends:\n{self.log_tail()}"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)

    def stop(self, *, timeout: float) -> None:
        """Asks the server to stop and waits; it is killed if it has not within ``timeout`` seconds."""
        if self._process is not None and self.pid is not None:
            self._send(signal.SIGCONT, [self._process.pid, *self._children()])
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self._forget()

    def kill(self) -> None:
        """Kills the server and its children at once, as a crash of the machine would."""
        if self._process is not None and self.pid is not None:
            pids = self._freeze()
            self._send(signal.SIGKILL, pids)
            self._process.wait(10)
            deadline = time.monotonic() + 10
            while any(_is_running(pid) for pid in pids) and time.monotonic() < deadline:
                time.sleep(0.005)
        self._forget()

    def pause(self) -> None:
        """Stops the server and its children where they are (SIGSTOP): connections stay open, nobody answers."""
        if self.pid is None:
            raise ServerFailed(f"{self._name} does not run: start it before you pause it")
        pids = self._freeze()
        deadline = time.monotonic() + 5
        while not all(_state(pid) in {"T", "Z", None} for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.001)

    def resume(self) -> None:
        """Lets the server go on (SIGCONT)."""
        if self._process is not None and self.pid is not None:
            self._send(signal.SIGCONT, [*self._children(), self._process.pid])

    def remove(self) -> None:
        """Removes the temporary folder; the server must have been stopped."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _freeze(self) -> list[int]:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # first: it starts no further child
        pids = self._children()
        self._send(signal.SIGSTOP, pids)
        return [self._process.pid, *pids]

    def _children(self) -> list[int]:
        return [] if self._process is None else [pid for pid, parent in _parents() if parent == self._process.pid]

    @staticmethod
    def _send(number: signal.Signals, pids: Sequence[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _watch(self, pid: int) -> None:
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "watch", str(pid), self._stop_signal.name[3:], str(self.folder)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _forget(self) -> None:
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait()
            if self._watcher.stdin is not None:
                self._watcher.stdin.close()
            self._watcher = None
        self._process = None


def _stat(pid: int | str) -> list[str]:
    # The second field, the command in parentheses, may itself hold spaces and parentheses.
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), int(_stat(entry.name)[1])


def _state(pid: int) -> str | None:
    try:
        return _stat(pid)[0]
    except (OSError, IndexError):
        return None


def _is_running(pid: int) -> bool:
    return _state(pid) not in {None, "Z", "X"}


def run_client(command: Sequence[str | Path], sql: str, *, variables: Mapping[str, str], timeout: float) -> bytes:
    """Runs a database's own command-line client with ``sql`` on its input and returns what it printed."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            input=sql.encode(),
            capture_output=True,
            timeout=timeout,
            env={**environment(), **variables},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServerFailed(f"{name}: no answer within {timeout:g} s") from None
    if done.returncode:
        raise ServerFailed(f"{name}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _place() -> str:
    """Where servers live: in memory where there is room, unless somebody has chosen by TMPDIR; a disk is slower."""
    chosen = tempfile.gettempdir()
    if "TMPDIR" not in os.environ and os.access(_IN_MEMORY, os.W_OK | os.X_OK):
        with contextlib.suppress(OSError):
            if shutil.disk_usage(_IN_MEMORY).free >= _ROOM:
                return _IN_MEMORY
    return chosen if len(chosen) <= _LONGEST_FOLDER else "/tmp"
