"""{{name}}: an HTTP API at the edge. Which function answers which path stands in `route`."""

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

HELLO = {"en": "Hello", "de": "Hallo", "fr": "Bonjour"}


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def handle(method: str, target: str, body: bytes = b"") -> Answer:
    """Stands around every route: sees each request first and each answer last."""
    answer = route(method, target, body)
    answer.headers["x-served-by"] = "{{name}}"
    return answer


def route(method: str, target: str, body: bytes) -> Answer:
    url = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    # The host leaves the body out of what answers HEAD.
    match "GET" if method == "HEAD" else method, [unquote(part) for part in url.path.split("/")[1:]]:
        case "GET", [""]:
            return text(200, "{{name}}: GET /greetings/NAME?lang=de, POST /sum\n")
        case "GET", ["greetings", name] if name:
            return greet(name, query.get("lang", "en"))
        case "POST", ["sum"]:
            return add(body)
        case _, ["sum"]:
            refusal = text(405, "method not allowed\n")
            refusal.headers["allow"] = "POST"
            return refusal
        case _:
            return text(404, "not found\n")


def greet(name: str, language: str) -> Answer:
    if language not in HELLO:
        return refused(404, "that language is not spoken here")
    return as_json(200, {"name": name, "greeting": f"{HELLO[language]}, {name}!"})


def add(body: bytes) -> Answer:
    try:
        numbers = json.loads(body)["numbers"]
        return as_json(200, {"count": len(numbers), "sum": sum(numbers)})
    except (ValueError, TypeError, KeyError):
        return refused(400, 'send {"numbers": [1, 2]}')


def refused(status: int, error: str) -> Answer:
    return as_json(status, {"error": error})


def as_json(status: int, value: object) -> Answer:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, body, {"content-type": "application/json"})


def text(status: int, text: str) -> Answer:
    return Answer(status, text.encode(), {"content-type": "text/plain; charset=utf-8"})
