// {{name}}: stands before a GraphQL server, passes on what skerry.toml allows, and adds the authorization that clients are
// not to have.

import { Content, Json, Request, Response, Router, config, fetch, log, secrets } from "@skerry/sdk-as";
import { Document, Rules } from "./query";

/** Queries are a few KiB; what is longer is not read. */
const BODY_BYTES_MAX: i32 = 64 * 1024;

const router = new Router().post("/", proxy).post("/graphql", proxy);

export function handle(request: Request): Response {
  return router.handle(request);
}

function proxy(request: Request): Response {
  const type = request.headers.get("content-type");
  if (type === null || !type.startsWith("application/json")) return refused(415, "send application/json");
  const body = request.body.text(BODY_BYTES_MAX);
  if (!body.ok) return refused(body.error!.includes("longer") ? 413 : 400, body.error!);
  const sent = Json.parse(body.value);
  const asked = sent.ok ? askedOf(sent.value) : null;
  if (asked === null) return refused(400, "not a GraphQL request");

  const rules = configured();
  if (rules === null) return Response.failed("[config] depth: not a number above 0");
  const document = new Document(asked.get("query").asString());
  if (document.error !== null) return refused(400, document.error!);
  const name = asked.get("operationName");
  const why = document.check(name.isString ? name.asString() : null, rules);
  return why === null ? forward(asked) : refused(403, why);
}

/**
 * Of what was sent what is sent on: written anew, so that the server cannot read it in another way. Null: it is no
 * GraphQL request.
 */
export function askedOf(sent: Json): Json | null {
  const query = sent.get("query"), name = sent.get("operationName"), variables = sent.get("variables");
  if (!query.isString) return null;
  if (!name.isNull && !name.isString) return null;
  if (!variables.isNull && !variables.isObject) return null;
  const asked = Json.object().set("query", query);
  if (!name.isNull) asked.set("operationName", name);
  if (!variables.isNull) asked.set("variables", variables);
  return asked;
}

function configured(): Rules | null {
  const depth = config.get("depth"), allow = config.get("allow");
  const depthMax = depth === null ? 0 : I32.parseInt(depth);
  if (depthMax < 1) return null;
  return new Rules(words(allow === null ? "" : allow), depthMax);
}

export function words(text: string): string[] {
  const all = text.split(" "), words: string[] = [];
  for (let i = 0; i < all.length; i++) if (all[i].length) words.push(all[i]);
  return words;
}

function forward(asked: Json): Response {
  const endpoint = config.get("endpoint");
  if (endpoint === null) return Response.failed("no endpoint in [config]");
  const to = new Request(endpoint, "POST");
  to.headers.set("content-type", "application/json");
  to.headers.set("accept", "application/json");
  // Without a value the server is asked as anybody may ask it.
  const token = secrets.text("GRAPHQL_TOKEN");
  if (token.ok && token.value !== null) to.headers.set("authorization", "Bearer " + token.value!.trimEnd());
  to.content = Content.text(asked.toString());
  const got = fetch(to);
  if (!got.ok) {
    log.error(got.error!);
    return refused(502, "the GraphQL server does not answer");
  }
  const type = got.value.headers.get("content-type");
  return Response.of(Content.copy(got.value.body), type === null ? "application/json" : type, got.value.status);
}

/** As GraphQL says it, so that clients show it. */
function refused(status: i32, message: string): Response {
  const error = Json.object().set("message", Json.string(message));
  return Response.json(Json.object().set("errors", Json.array().push(error)), status);
}
