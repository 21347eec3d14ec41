"""What our routes take and answer: JSON, checked before it is looked at, and sentences.

What the host refuses, such as requests from other origins, does not come here. A GET changes
nothing; what changes something is asked for by a POST that no form of another site can send: its
body is a JSON object whose fields are those of a frozen dataclass.
"""

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import MISSING, Field, fields
from types import NoneType
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from aiohttp import web
from server import PromptServer

T = TypeVar("T")

MOST_BYTES = 2**16
JSON = "application/json"
KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    NoneType: "null",
}


class Refused(Exception):
    """Why a request is not done, in a sentence, and as which status of HTTP."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def serve_get(path: str, answer: Callable[[], Awaitable[object]]) -> None:
    """Answer a path with what JSON can hold, where there is a server that does not do so yet."""

    async def get(_: web.Request) -> object:
        return await answer()

    _serve("GET", path, get)


def serve_post(path: str, asked: type[T], answer: Callable[[T], Awaitable[object]]) -> None:
    """Answer requests of a kind, which `answer` may refuse by raising `Refused`.

    Args:
        asked: a dataclass; those of its fields that have a default may be left out.
    """

    async def post(request: web.Request) -> object:
        return await answer(_read(asked, await _body(request)))

    _serve("POST", path, post)


def _serve(method: str, path: str, answer: Callable[[web.Request], Awaitable[object]]) -> None:
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    known = [(getattr(r, "method", None), getattr(r, "path", None)) for r in server.routes]
    if (method, path) in known:
        return

    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await answer(request))
        except Refused as refused:
            return web.json_response({"error": str(refused)}, status=refused.status)

    server.routes.route(method, path)(handle)


async def _body(request: web.Request) -> dict[str, object]:
    if request.content_type != JSON:
        raise Refused(
            415, f"Content-Type is {request.content_type}, but {JSON} is needed: send it as JSON."
        )
    body = bytearray()
    try:
        async for part in request.content.iter_any():
            body += part
            if len(body) > MOST_BYTES:
                raise Refused(413, f"The request is too large: send at most {MOST_BYTES} bytes.")
    except web.RequestPayloadError as error:
        encoding = request.headers.get("Content-Encoding")
        raise Refused(
            400, f"The request cannot be unpacked (Content-Encoding is {encoding}): send it plain."
        ) from error
    try:
        told = json.loads(bytes(body).decode("utf-8"), parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The request is no JSON ({error}): send an object.") from error
    if not isinstance(told, dict):
        raise Refused(400, f"The request is {shown(told)}, but a JSON object is needed.")
    return told


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _read(asked: type[T], told: dict[str, object]) -> T:
    known = {field.name: field for field in fields(asked)}  # type: ignore[arg-type]
    names = ", ".join(known)
    for name in told:
        if name not in known:
            raise Refused(400, f"{shown(name)} is not known here: use {names}.")
    for name, field in known.items():
        if name not in told and _is_required(field):
            raise Refused(400, f"{name} is missing: give {names}.")
    kinds = get_type_hints(asked)
    return asked(**{name: _value(name, value, kinds[name]) for name, value in told.items()})


def _is_required(field: Field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _value(name: str, value: object, kind: Any) -> object:  # noqa: ANN401  (a class or a union)
    kinds = get_args(kind) or (kind,)
    if float in kinds and type(value) is int and int not in kinds:
        value = float(value) if abs(value) < 2**1000 else math.inf
    if type(value) not in kinds or value in (math.inf, -math.inf):
        needed = " or ".join(KINDS[kind] for kind in kinds)
        raise Refused(400, f"{name} is {shown(value)}, but {needed} is needed.")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Refused(400, f"{name} has half a character at {error.start}.") from error
    return value


def shown(value: object) -> str:
    """A value as JSON, as far as it fits into a sentence."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
