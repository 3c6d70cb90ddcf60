// Bodies, whole and in pieces, and JSON.

import { BodyWriter, Content, Json, Request, Response, clock } from "@skerry/sdk-as";

export function echo(request: Request): Response {
  const type = request.headers.get("content-type");
  const response = new Response(200);
  if (type !== null) response.headers.set("content-type", type);
  response.content = Content.copy(request.body);
  return response;
}

export function upper(request: Request): Response {
  const text = request.body.text();
  if (!text.ok) return Response.text("not text\n", 400);
  const bytes = Uint8Array.wrap(String.UTF8.encode(text.value));
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] >= 0x61 && bytes[i] <= 0x7a) bytes[i] -= 0x20;
  }
  return Response.bytes(bytes, "text/plain; charset=utf-8");
}

/** Pieces that leave one by one: without a wait between them they would leave together, as a whole. */
class Three extends Content {
  write(to: BodyWriter): bool {
    const pieces = ["one\n", "two\n", "three\n"];
    for (let i = 0; i < pieces.length; i++) {
      if (!to.text(pieces[i])) return false;
      clock.sleep(2);
    }
    return true;
  }
}

export function stream(request: Request): Response {
  return Response.of(new Three(), "text/plain; charset=utf-8");
}

export function json(request: Request): Response {
  const list = Json.array().push(Json.number(1)).push(Json.number(2));
  const json = Json.object()
    .set("name", Json.string("skerry"))
    .set("n", Json.number(3))
    .set("list", list)
    .set("nothing", Json.nil());
  return Response.json(json);
}

export function sum(request: Request): Response {
  const json = request.body.json();
  if (!json.ok) return notThat();
  const a = json.value.get("a"), b = json.value.get("b");
  if (!a.isNumber || !b.isNumber) return notThat();
  return Response.json(Json.object().set("sum", Json.number(a.asNumber() + b.asNumber())));
}

function notThat(): Response {
  return Response.text("not what was asked for\n", 400);
}
