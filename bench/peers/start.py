"""Becomes a peer: `python -m bench.peers.start NAME PORT`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from bench.measure import raise_file_limit
from bench.peers import over_http
from bench.peers.installed import HERE, HOST, environment, filled, folder, found, free_port

if TYPE_CHECKING:
    from pathlib import Path


def become(program: Path | str, *arguments: str, env: dict[str, str]) -> NoReturn:
    os.execvpe(program, [str(program), *arguments], env)  # noqa: S606 - no shell is wanted


def ws(port: int) -> NoReturn:
    modules = {"NODE_PATH": str(folder("ws") / "node_modules")}
    become("node", str(HERE / "ws" / "server.js"), str(port), env=os.environ | modules)


def serverless_offline(port: int, *flags: str) -> NoReturn:
    os.chdir(folder("serverless-offline"))
    ports = {"--websocketPort": port, "--httpPort": free_port(), "--lambdaPort": free_port()}
    # The first calls start a worker for each message under way, which may take longer than the six
    # seconds that a function has.
    flags += ("--noTimeout", *(str(word) for pair in ports.items() for word in pair))
    quiet = {
        "SLS_TELEMETRY_DISABLED": "1",
        "SLS_NOTIFICATIONS_MODE": "off",
        "SLS_INTERACTIVE_SETUP_ENABLE": "0",
    }
    serverless = "node_modules/serverless/bin/serverless.js"
    become("node", serverless, "offline", "start", "--host", HOST, *flags, env=os.environ | quiet)


def nchan(port: int) -> NoReturn:
    here = folder("nchan")
    values = {
        "MODULE": found("nchan", "usr/lib/nginx/modules/ngx_nchan_module.so"),
        "FOLDER": here,
        "PORT": port,
    }
    conf = here / "nginx.conf"
    conf.write_text(filled(HERE / "nchan" / "nginx.conf", values))
    nginx = found("nchan", "usr/sbin/nginx")
    become(nginx, "-e", "stderr", "-p", str(here), "-c", str(conf), env=environment("nchan"))


def main(name: str, port: int) -> None:
    raise_file_limit()
    match name:
        case "ws":
            ws(port)
        case "serverless-offline":
            serverless_offline(port)
        case "serverless-offline-in-process":
            serverless_offline(port, "--useInProcess")
        case "nchan":
            nchan(port)
        case "pushpin":
            over_http.main(port)
        case _:
            sys.exit(f"no such peer: {name}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
