// What a program learns beside its request, and its log.

import { Request, Response, client, clock, environment, log, random } from "@skerry/sdk-as";

export function address(request: Request): Response {
  return Response.text(client.address() + "\n");
}

export function variable(request: Request): Response {
  const app = environment.get("SKERRY_APP");
  return Response.text((app === null ? "none" : app) + "\n");
}

export function logs(request: Request): Response {
  log.info("a line");
  log.error("another");
  return Response.text("logged\n");
}

export function randomness(request: Request): Response {
  const bytes = random.bytes(16);
  let hex = "";
  for (let i = 0; i < bytes.length; i++) hex += (bytes[i] >> 4).toString(16) + (bytes[i] & 15).toString(16);
  return Response.text(hex + "\n");
}

export function time(request: Request): Response {
  return Response.text(clock.now().toString() + "\n");
}
