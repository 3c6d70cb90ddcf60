// Heads: methods, fields, status, middleware, failures.

import { Next, Request, Response } from "@skerry/sdk-as";

export function hello(request: Request): Response {
  return Response.text("hello\n");
}

export function method(request: Request): Response {
  return Response.text(request.method + "\n");
}

export function headers(request: Request): Response {
  const response = Response.text(request.headers.getAll("x-one").join("|") + "\n");
  response.headers.append("set-cookie", "a=1");
  response.headers.append("set-cookie", "b=2");
  response.headers.set("x-count", request.headers.getAll("x-one").length.toString());
  return response;
}

export function status(request: Request): Response {
  const text = request.param("status");
  if (text.length != 3) return notAStatus();
  let status = 0;
  for (let i = 0; i < 3; i++) {
    const digit = text.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return notAStatus();
    status = status * 10 + digit;
  }
  return status >= 200 && status <= 599 ? new Response(status) : notAStatus();
}

function notAStatus(): Response {
  return Response.text("not a status\n", 400);
}

export function redirect(request: Request): Response {
  return Response.redirect("/hello");
}

export function error(request: Request): Response {
  return Response.failed("a handler failed");
}

export function panic(request: Request): Response {
  throw new Error("a handler panicked");
}

export function marks(request: Request, next: Next): Response {
  const response = next.run(request);
  response.headers.set("x-before", "1");
  response.headers.set("x-after", response.status.toString());
  return response;
}

export function closes(request: Request, next: Next): Response {
  return Response.text("closed\n", 403);
}
