// Config, secrets and key-value data.

import { Request, Response, Store, config, secrets } from "@skerry/sdk-as";

function orNone(value: string | null): string {
  return value === null ? "none" : value;
}

export function configured(request: Request): Response {
  return Response.text(orNone(config.get("greeting")) + "\n" + orNone(config.get("absent")) + "\n");
}

/** Its length: a secret is not for answers. */
export function secret(request: Request): Response {
  const secret = secrets.get("API_KEY");
  if (!secret.ok) return Response.failed(secret.error!);
  const bytes = secret.value;
  return Response.text((bytes === null ? "none" : bytes.length.toString()) + "\n");
}

const STORE = "things";

export function keys(request: Request): Response {
  const store = Store.open(STORE);
  if (!store.ok) return Response.failed(store.error!);
  const keys = store.value.keys();
  if (!keys.ok) return Response.failed(keys.error!);
  const sorted = keys.value.sort();
  let text = "";
  for (let i = 0; i < sorted.length; i++) text += sorted[i] + "\n";
  return Response.text(text);
}

export function read(request: Request): Response {
  const store = Store.open(STORE);
  if (!store.ok) return Response.failed(store.error!);
  const value = store.value.get(request.param("name"));
  if (!value.ok) return Response.failed(value.error!);
  const bytes = value.value;
  return bytes === null ? Response.text("not found\n", 404) : Response.bytes(bytes);
}

export function write(request: Request): Response {
  const store = Store.open(STORE);
  if (!store.ok) return Response.failed(store.error!);
  const body = request.body.bytes();
  if (!body.ok) return Response.text(body.error! + "\n", 400);
  const done = store.value.set(request.param("name"), body.value);
  return done.ok ? new Response(204) : Response.failed(done.error!);
}

export function remove(request: Request): Response {
  const store = Store.open(STORE);
  if (!store.ok) return Response.failed(store.error!);
  const done = store.value.delete(request.param("name"));
  return done.ok ? new Response(204) : Response.failed(done.error!);
}
