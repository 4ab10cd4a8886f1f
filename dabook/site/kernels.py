"""Kernels for many notebooks: each a process of its own, forked from one that has imported what
notebooks import.

Started from nothing, a kernel of the book spends some ten seconds of a core on its imports, more
than most notebooks take for their work. Forked (`multiprocessing`'s fork server), it has them at
once, and shares their memory with the others; it shares nothing that a notebook does.
"""

import asyncio
import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

PRELOADED = "dabook.site.preloaded"
OWN = ("DALIB_", "DABOOK_", "JPY_", "PYTEST_")
"""How the variables begin that are read when they are needed, or by no kernel. All others may have
been read by the imports, so that a kernel with other values of them is started from nothing."""

_asked = False  # for forked kernels
_server: dict[str, str] | None = None  # variables of the fork server; None before it is started


@contextmanager
def forked() -> Iterator[None]:
    """Fork the kernels that are started in here, on Linux; elsewhere nothing changes.

    It pays for two notebooks or more. Python imports the main script of this process in each kernel
    (not `python -m`), so that a script needs its `if __name__ == "__main__"`. The fork server ends
    with this process.
    """
    global _asked
    before, _asked = _asked, sys.platform == "linux"
    try:
        yield
    finally:
        _asked = before


def _fits(environment: Mapping[str, str]) -> bool:
    """Whether a kernel with these variables may be forked."""
    global _server
    if _server is None:
        multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOADED])
        _server = dict(os.environ)
    return _read_by_imports(environment) == _read_by_imports(_server)


def _read_by_imports(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(OWN)}


class Provisioner(LocalProvisioner):
    """Starts a kernel as its command says, or forks it, where that comes to the same."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """As its base class."""
        environment = kwargs.get("env") or os.environ
        if not (_asked and _fits(environment)):
            return await super().launch_kernel(cmd, **kwargs)
        self.cwd = Path(kwargs.get("cwd") or Path.cwd())
        arguments = cmd[cmd.index("-f") :]
        self.process = await asyncio.to_thread(Forked, arguments, dict(environment), self.cwd)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class Forked:
    """A forked kernel, with what is asked of a `subprocess.Popen`.

    Args:
        arguments: of the kernel's command line.
        environment: all of its variables.
        folder: where it starts.
    """

    stdin = stdout = stderr = None

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path):
        context = multiprocessing.get_context("forkserver")
        here, there = context.Pipe(duplex=False)
        self._process: ForkServerProcess = context.Process(
            target=_run,
            args=(list(arguments), dict(environment), str(folder), there),
            daemon=True,  # else Python would wait for it at its end
        )
        self._process.start()
        there.close()
        with suppress(EOFError):  # it died, which `poll` says
            here.recv()  # now signals to its group reach it alone
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """The exit code, once it has ended."""
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel alone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _run(
    arguments: list[str], environment: dict[str, str], folder: str, started: Connection
) -> None:
    """Be a kernel, in the forked process."""
    os.setsid()
    started.send(None)
    started.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    multiprocessing.current_process().daemon = False  # it may have children
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from ipykernel.kernelapp import IPKernelApp  # imported long ago, by the fork server alone

    IPKernelApp.launch_instance(argv=arguments)
    atexit._run_exitfuncs()  # which a forked process leaves out


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
