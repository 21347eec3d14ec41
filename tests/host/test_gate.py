"""What our routes refuse, over HTTP through the host's own rule for origins."""

import asyncio
import json
import zlib
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
import pytest
import server
from aiohttp import web
from aiohttp.test_utils import TestServer

from relax_memory.host.web import gate

PATH = "/relax_forcing/asked"
JSON = {"Content-Type": gate.JSON}
WELL = {"text": "a night street", "seconds": 5, "count": 2}


@dataclass(frozen=True, kw_only=True)
class Asked:
    text: str
    seconds: float | str
    count: int = 1
    sure: bool = False
    share: float | None = None


@pytest.fixture
def routes(monkeypatch):
    """Routes of a server, of which one answers with what it was asked and one refuses."""
    routes = web.RouteTableDef()
    monkeypatch.setattr(server.PromptServer, "instance", SimpleNamespace(routes=routes), False)

    async def answer(asked: Asked) -> object:
        return vars(asked)

    async def refuse(_: Asked) -> object:
        raise gate.Refused(404, "No such run: look at the queue.")

    async def nothing() -> object:
        return []

    for _ in range(2):  # a pack may be loaded twice
        gate.serve_post(PATH, Asked, answer)
        gate.serve_post(f"{PATH}/refused", Asked, refuse)
        gate.serve_get(PATH, nothing)
    return routes


@pytest.fixture
def ask(routes):
    def ask(data: bytes | dict, *, method="POST", path=PATH, headers=JSON):
        async def over_http():
            app = web.Application(middlewares=[server.create_origin_only_middleware()])
            app.add_routes(routes)
            sent = data if isinstance(data, bytes) else json.dumps(data).encode()
            async with (
                TestServer(app) as running,
                aiohttp.ClientSession() as session,
                session.request(
                    method, running.make_url(path), data=sent, headers=headers
                ) as reply,
            ):
                text = await reply.text()
                return reply.status, json.loads(text) if text.startswith(("{", "[")) else text

        return asyncio.run(over_http())

    return ask


def test_a_request_is_read_and_answered(ask, routes):
    assert ask(WELL) == (200, {**WELL, "sure": False, "share": None})
    assert ask(WELL, headers={"Content-Type": "application/json; charset=utf-8"})[0] == 200
    assert ask({**WELL, "seconds": "now", "share": 0, "sure": True})[0] == 200
    assert ask({**WELL, "text": "Straße 夜 😀"})[1]["text"] == "Straße 夜 😀"
    assert ask(b"", method="GET", headers={}) == (200, [])
    assert len(routes) == 3


def test_the_host_refuses_another_origin_and_says_nothing(ask):
    for headers in (
        {"Origin": "http://example.com"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert ask(WELL, headers=JSON | headers) == (403, "")


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""]
)
def test_only_json_is_taken(ask, kind):
    status, said = ask(WELL, headers={"Content-Type": kind})
    assert status == 415
    assert said["error"].endswith("but application/json is needed: send it as JSON.")


@pytest.mark.parametrize("encoding", ["identity", "deflate"])
def test_no_more_is_read_than_64_kb(ask, encoding):
    headers = JSON | {"Content-Encoding": encoding}

    def asked(size: int) -> bytes:
        body = json.dumps(WELL).encode().ljust(size)
        return zlib.compress(body) if encoding == "deflate" else body

    assert ask(asked(gate.MOST_BYTES), headers=headers)[0] == 200
    for size in (gate.MOST_BYTES + 1, 2**20):
        assert ask(asked(size), headers=headers) == (
            413,
            {"error": "The request is too large: send at most 65536 bytes."},
        )


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_cannot_be_unpacked_is_refused(ask, encoding):
    said = f"The request cannot be unpacked (Content-Encoding is {encoding}): send it plain."
    assert ask(WELL, headers=JSON | {"Content-Encoding": encoding}) == (400, {"error": said})


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "The request is no JSON"),
        (b"{", "The request is no JSON"),
        (b"\xff\xfe", "The request is no JSON"),
        (b"[" * 60_000, "The request is no JSON"),
        (b"1" * 60_000, "The request is no JSON"),
        (b'{"text": "", "seconds": NaN}', "NaN is no number of JSON"),
        (b"[1]", "The request is [1], but a JSON object is needed."),
        (b"null", "The request is null, but a JSON object is needed."),
        ({**WELL, "promt": "x"}, '"promt" is not known here: use text, seconds, count, sure, s'),
        ({"text": "x"}, "seconds is missing: give text, seconds,"),
        ({**WELL, "text": 5}, "text is 5, but a text is needed."),
        ({**WELL, "text": None}, "text is null, but a text is needed."),
        ({**WELL, "text": ["x" * 99]}, "..., but a text is needed."),
        ({**WELL, "text": "\ud83d"}, "text has half a character at 0."),
        ({**WELL, "seconds": True}, "seconds is true, but a number or a text is needed."),
        ({**WELL, "seconds": 10**400}, "but a number or a text is needed."),
        (b'{"text": "", "seconds": 1e999}', "seconds is Infinity, but a number"),
        ({**WELL, "count": 1.0}, "count is 1.0, but a whole number is needed."),
        ({**WELL, "count": True}, "count is true, but a whole number is needed."),
        ({**WELL, "sure": 1}, "sure is 1, but true or false is needed."),
        ({**WELL, "share": "half"}, 'share is "half", but a number or null is needed.'),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(ask, sent, said):
    status, answer = ask(sent)
    assert status == 400
    assert said in answer["error"]
    assert len(answer["error"]) < 200


def test_a_route_may_refuse_by_a_status_of_its_own(ask):
    refused = 404, {"error": "No such run: look at the queue."}
    assert ask(WELL, path=f"{PATH}/refused") == refused


def test_a_pack_without_a_server_serves_nothing(monkeypatch):
    async def answer() -> object:
        return []

    monkeypatch.delattr(server.PromptServer, "instance", raising=False)
    gate.serve_get(PATH, answer)
