// Requests to backends.

import { Content, Request, Response, fetch, fetchAll } from "@skerry/sdk-as";

function failed(): Response {
  return Response.text("fetch failed\n", 502);
}

/** A `GET` of a URL that the client named. */
function ask(url: string | null): Request {
  const request = new Request(url === null ? "" : url);
  request.headers.set("x-from", "skerry");
  return request;
}

export function get(request: Request): Response {
  const got = fetch(ask(request.queryParams.get("url")));
  if (!got.ok) return failed();
  const body = got.value.body.text();
  if (!body.ok) return failed();
  return Response.text(got.value.status.toString() + " " + body.value + "\n");
}

export function post(request: Request): Response {
  const url = request.queryParams.get("url");
  const on = new Request(url === null ? "" : url, "POST");
  const type = request.headers.get("content-type");
  if (type !== null) on.headers.set("content-type", type);
  on.content = Content.copy(request.body);
  const got = fetch(on);
  return got.ok ? got.value : failed();
}

export function both(request: Request): Response {
  const urls = request.queryParams.getAll("url");
  const requests: Request[] = [];
  for (let i = 0; i < urls.length; i++) requests.push(ask(urls[i]));
  const answers = fetchAll(requests);
  let bodies = "";
  for (let i = 0; i < answers.length; i++) {
    if (!answers[i].ok) return failed();
    const body = answers[i].value.body.text();
    if (!body.ok) return failed();
    bodies += body.value;
  }
  return Response.text(bodies);
}
