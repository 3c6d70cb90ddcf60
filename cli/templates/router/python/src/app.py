"""{{name}}: what the host calls. What it answers is in `api.py`, which needs no host and so can be tested."""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import types as http
from wit_world.imports.streams import StreamError_Closed

import api

BODY_BYTES_MAX = 1 << 20
# What the host takes in one call of blocking_write_and_flush.
PIECE_BYTES = 4096


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: http.IncomingRequest, response_out: http.ResponseOutparam) -> None:
        body = read(request)
        if body is None:
            answer = api.refused(413, f"send at most {BODY_BYTES_MAX} bytes")
        else:
            answer = api.handle(method(request), request.path_with_query() or "/", body)
        send(response_out, answer)


def method(request: http.IncomingRequest) -> str:
    asked = request.method()
    if isinstance(asked, http.Method_Other):
        return asked.value
    return type(asked).__name__.removeprefix("Method_").upper()


def read(request: http.IncomingRequest) -> bytes | None:
    """The whole body; None if it is too long."""
    read = b""
    with request.consume() as body, body.stream() as stream:
        while len(read) <= BODY_BYTES_MAX:
            try:
                read += stream.blocking_read(64 << 10)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return read
                raise
    return None


def send(out: http.ResponseOutparam, answer: api.Answer) -> None:
    fields = [(name, value.encode()) for name, value in answer.headers.items()]
    response = http.OutgoingResponse(http.Fields.from_list(fields))
    response.set_status_code(answer.status)
    body = response.body()
    http.ResponseOutparam.set(out, Ok(response))
    with body.write() as stream:
        for at in range(0, len(answer.body), PIECE_BYTES):
            stream.blocking_write_and_flush(answer.body[at : at + PIECE_BYTES])
    http.OutgoingBody.finish(body, None)
