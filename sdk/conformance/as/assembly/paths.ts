// Targets: path, query, parameters, URLs.

import { Request, Response, URL } from "@skerry/sdk-as";

export function where(request: Request): Response {
  const query = request.query;
  return Response.text("path " + request.path + "\nquery " + (query === null ? "-" : query) + "\n");
}

export function query(request: Request): Response {
  const names = request.queryParams.getAll("name");
  return Response.text((names.length ? names.join(",") : "none") + "\n");
}

export function post(request: Request): Response {
  return Response.text("user " + request.param("user") + " post " + request.param("post") + "\n");
}

export function file(request: Request): Response {
  return Response.text(request.param("path") + "\n");
}

export function url(request: Request): Response {
  const url = URL.parse("https://u@a.example:8443/p/q?x=1&x=2#f")!;
  const parts = [url.scheme, url.host, url.port.toString(), url.path, url.query!, url.fragment!];
  return Response.text(parts.join("|") + "\n");
}
