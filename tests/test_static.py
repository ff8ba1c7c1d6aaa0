"""The page beside the handlers, over HTTP."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import pytest
from yarl import URL

from tests.harness import echo
from wsgateway.api.definition import ApiDefinition
from wsgateway.gateway import Gateway
from wsgateway.loaders.source import LoadedApi
from wsgateway.page import static_folder
from wsgateway.ports import bind_ports
from wsgateway.serving import served_urls
from wsgateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FORBIDDEN = b'{"message":"Forbidden"}'
INDEX = "<!doctype html><title>page</title>"


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Served:
    """A gateway with a folder of files."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.ready_urls = served_urls(gateway)
        self._session = session

    async def get(
        self,
        path: str,
        method: str = "GET",
        *,
        management: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Response:
        url = self.gateway.health_url if management else self.gateway.websocket_urls[0]
        authority = url.split("/")[2]
        async with self._session.request(
            method,
            URL(f"http://{authority}{path}", encoded=True),
            allow_redirects=False,
            headers=headers,
        ) as response:
            named = {name.lower(): value for name, value in response.headers.items()}
            return Response(response.status, named, await response.read())


@asynccontextmanager
async def serving(folder: Path, **settings: object) -> AsyncIterator[Served]:
    api = LoadedApi(
        ApiDefinition.model_validate({"name": "chat", "stages": {"dev": {}, "prod-2": {}}}),
        {"$default": echo},
        {"$default": "default"},
    )
    merged = Settings.model_validate({"port": 0, "drain_close_rate": 1e6, **settings})
    gateway = Gateway(merged, api, bind_ports(merged), static=static_folder(folder))
    await gateway.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Served(gateway, session)
    finally:
        await gateway.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Handlers with a page."""
    files = {
        "index.html": INDEX,
        "main.js": "export {};",
        "page.css": "body {}",
        "health": "a file",
        "metrics": "a file",
        "api.json": "a file",
        ".env": "SECRET=1",
        "more/index.html": "more",
        "more/.git": "hidden",
    }
    for name, text in files.items():
        file = tmp_path / "static" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "handler.py").write_text("SECRET = 2")
    return tmp_path


async def test_files_are_served(folder: Path) -> None:
    async with serving(folder) as served:
        index = await served.get("/_wsgateway/")
        script = await served.get("/_wsgateway/main.js")
        style = await served.get("/_wsgateway/page.css")

    assert (index.status, index.body) == (200, INDEX.encode())
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert (script.status, script.body) == (200, b"export {};")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert (style.status, style.headers["content-type"]) == (200, "text/css; charset=utf-8")


async def test_a_file_is_fetched_again_only_if_it_has_changed(folder: Path) -> None:
    async with serving(folder) as served:
        first = await served.get("/_wsgateway/main.js")
        unchanged = {"If-None-Match": first.headers["etag"]}
        second = await served.get("/_wsgateway/main.js", headers=unchanged)
        (folder / "static" / "main.js").write_text("export default 1;")
        third = await served.get("/_wsgateway/main.js", headers=unchanged)

    assert first.headers["cache-control"] == "no-cache"
    assert (second.status, second.body) == (304, b"")
    assert (third.status, third.body) == (200, b"export default 1;")


@pytest.mark.parametrize("path", ["/_wsgateway/", "/_wsgateway/main.js", "/_wsgateway/api.json"])
async def test_nothing_inline_and_nothing_from_elsewhere_may_run(folder: Path, path: str) -> None:
    async with serving(folder) as served:
        headers = (await served.get(path)).headers

    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws: wss:"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-cache"


async def test_the_gateways_own_paths_win_over_files(folder: Path) -> None:
    async with serving(folder) as served:
        health = await served.get("/_wsgateway/health")
        metrics = await served.get("/_wsgateway/metrics")
        api = await served.get("/_wsgateway/api.json")

    assert health.body == b'{"status":"ready"}'
    assert b"wsgateway_connections" in metrics.body
    assert api.body == b'{"name":"chat","stages":{"dev":"../dev","prod-2":"../prod-2"}}'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/", "/_wsgateway/"),
        ("/?stage=dev", "/_wsgateway/?stage=dev"),
        ("/_wsgateway", "/_wsgateway/"),
        ("/_wsgateway/more", "/_wsgateway/more/"),
    ],
)
async def test_what_leads_to_the_page(folder: Path, method: str, path: str, location: str) -> None:
    async with serving(folder) as served:
        answer = await served.get(path, method)

    assert (answer.status, answer.headers["location"]) == (307, location)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/_wsgateway/nothing", 404),
        ("/_wsgateway/.env", 404),
        ("/_wsgateway/more/.git", 404),
        ("/_wsgateway/%2e%2e/handler.py", 404),
        ("/_wsgateway/..%2fhandler.py", 404),
        ("/_wsgateway//etc/passwd", 404),
        ("/_wsgateway/more/", 200),
        ("/dev", 426),
        ("/dev/main.js", 404),
        ("/main.js", 403),
        ("//", 403),
    ],
)
async def test_nothing_but_the_folder_is_served(folder: Path, path: str, status: int) -> None:
    async with serving(folder) as served:
        answer = await served.get(path)

    assert answer.status == status
    assert b"SECRET" not in answer.body


async def test_files_cannot_be_written(folder: Path) -> None:
    async with serving(folder) as served:
        for method in ("POST", "PUT", "DELETE"):
            assert (await served.get("/_wsgateway/main.js", method)).status == 405
        root = await served.get("/", "POST")

    assert (root.status, root.body) == (403, FORBIDDEN)


async def test_a_link_out_of_the_folder_leads_nowhere(folder: Path) -> None:
    (folder / "static" / "link.py").symlink_to(folder / "handler.py")

    async with serving(folder) as served:
        assert (await served.get("/_wsgateway/link.py")).status == 404


async def test_the_page_is_on_the_public_port_alone(folder: Path) -> None:
    async with serving(folder, management_port=0) as served:
        public = await served.get("/_wsgateway/")
        root = await served.get("/")
        metrics = await served.get("/_wsgateway/metrics")
        private = await served.get("/_wsgateway/", management=True)
        private_root = await served.get("/", management=True)
        private_metrics = await served.get("/_wsgateway/metrics", management=True)

    assert (public.status, public.body) == (200, INDEX.encode())
    assert root.status == 307
    assert metrics.body == b"a file"
    assert private.status == 404
    assert (private_root.status, private_root.body) == (403, FORBIDDEN)
    assert b"wsgateway_connections" in private_metrics.body


async def test_the_ready_line_ends_with_the_page(folder: Path) -> None:
    async with serving(folder) as served:
        public = served.gateway.websocket_urls[0].split("/")[2]

        assert served.ready_urls[-1] == f"http://{public}/_wsgateway/"


async def test_files_without_an_index_are_no_page(folder: Path) -> None:
    (folder / "static" / "index.html").unlink()

    async with serving(folder) as served:
        root = await served.get("/")
        script = await served.get("/_wsgateway/main.js")
        urls = served.ready_urls

    assert (root.status, root.body) == (403, FORBIDDEN)
    assert script.status == 200
    assert urls[-1].endswith("/_wsgateway/health")


async def test_without_files_there_is_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        root = await served.get("/")
        index = await served.get("/_wsgateway/")
        api = await served.get("/_wsgateway/api.json")
        urls = served.ready_urls

    assert (root.status, root.body) == (403, FORBIDDEN)
    assert (index.status, api.status) == (404, 404)
    assert urls[-1].endswith("/_wsgateway/health")
