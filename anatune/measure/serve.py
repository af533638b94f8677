"""Lends this machine to a tracker: TVM's own RPC server, started again whenever it stops (rank 6).

    python -m anatune.measure.serve HOST:PORT/KEY

A kernel that crashes ends TVM's server with it: the loop that takes sessions stops while its
process stays. Here the process ends too, and a new one registers at the same port. A server that
nothing crashes can as well be ``python -m tvm.exec.rpc_server``; whoever reaches either of them may
run anything on this machine, so start them in a network that you trust.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from types import FrameType

from anatune.errors import OptionError
from anatune.measure.pinning import processors
from anatune.measure.tracker import Remote
from anatune.measure.worker import die_with_parent

PORT = 9091
"""First port that is tried unless another is asked for: that of TVM's servers."""

PORTS = 100
"""Ports that are tried, one after the other."""


def main() -> None:
    """Serve until killed."""
    given = _options()
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, _leave)
    try:
        remote = Remote.parse(given.remote)
    except OptionError as error:
        sys.exit(str(error))
    # TVM's own default on x86 is half of the cores.
    os.environ.setdefault("TVM_NUM_THREADS", str(processors()))
    port = given.port
    while True:
        port = _serve(remote, given.host, port)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Lend this machine to a tracker.")
    parser.add_argument("remote", metavar="HOST:PORT/KEY", help="the tracker, and what to be")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen at")
    parser.add_argument("--port", type=int, default=PORT, help="first port to try")
    return parser.parse_args()


def _serve(remote: Remote, host: str, port: int) -> int:
    """Run one server until its process ends; its port."""
    try:
        from tvm import rpc
    except ImportError as error:
        sys.exit(f"{error}; pip install 'anatune[remote]'")
    server = rpc.Server(
        host, port, port + PORTS, key=remote.key, tracker_addr=(remote.host, remote.port),
        server_init_callback=end_with_the_loop, silent=True,
    )  # fmt: skip
    print(f"lent to {remote} at port {server.port}", file=sys.stderr, flush=True)
    try:
        server.proc.join()
    finally:
        server.terminate()
    return int(server.port)


def end_with_the_loop() -> None:
    """In the server's process: a loop that stops ends it, and so does the end of its parent."""
    die_with_parent()
    threading.excepthook = lambda stopped: os._exit(1)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
