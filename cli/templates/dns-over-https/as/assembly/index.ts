// {{name}}: DNS over HTTPS (RFC 8484). Checks what is asked, asks a resolver, and says how long the answer may be kept.

import { Content, Json, Request, Response, Result, Router, config, failed, fetch, log, ok } from "@skerry/sdk-as";
import { decode } from "./base64url";
import { Answer, Question, query } from "./message";

/** Queries have one question and at most a few options. */
const QUERY_BYTES_MAX: i32 = 1024;
/** What a message of DNS can have. */
const ANSWER_BYTES_MAX: i32 = 65535;

const MESSAGE = "application/dns-message";

const router = new Router()
  .get("/", lookedUp)
  .get("/dns-query", byGet)
  .post("/dns-query", byPost);

export function handle(request: Request): Response {
  return router.handle(request);
}

/** `GET /dns-query?dns=…`: the message in base64url. */
function byGet(request: Request): Response {
  const text = request.queryParams.get("dns");
  if (text === null) return refused(400, "send ?dns= and a message in base64url");
  const message = decode(text);
  return message === null ? refused(400, "dns is not base64url") : answered(message);
}

/** `POST /dns-query`: the message as it is. */
function byPost(request: Request): Response {
  const type = request.headers.get("content-type");
  if (type === null || type != MESSAGE) return refused(415, "send application/dns-message");
  const message = request.body.bytes(QUERY_BYTES_MAX);
  return message.ok ? answered(message.value) : refused(413, "the message is too long");
}

function answered(message: Uint8Array): Response {
  if (message.length > QUERY_BYTES_MAX) return refused(413, "the message is too long");
  const question = Question.of(message);
  if (!question.ok) return refused(400, question.error!);
  const got = ask(message, question.value);
  return got.ok ? kept(Response.bytes(got.value.message, MESSAGE), got.value) : refused(502, got.error!);
}

/** `GET /?name=example.com&type=A`: the same for people, as JSON. */
function lookedUp(request: Request): Response {
  const params = request.queryParams, name = params.get("name"), asked = params.get("type");
  if (name === null) return Response.text("{{name}}: /?name=example.com&type=A, or /dns-query as of RFC 8484\n");
  const type = asked === null ? "A" : asked;
  const message = query(name, type);
  if (message === null) return refused(400, "no such name or type");
  const got = ask(message, Question.of(message).value);
  if (!got.ok) return refused(502, got.error!);
  const found = Json.object()
    .set("name", Json.string(name))
    .set("type", Json.string(type))
    .set("status", Json.string(got.value.status))
    .set("answers", got.value.records);
  return kept(Response.json(found), got.value);
}

function kept(response: Response, answer: Answer): Response {
  response.headers.set("cache-control", "max-age=" + answer.ttl.toString());
  return response;
}

/** Asks the resolver. What it fails with is for the client. */
function ask(message: Uint8Array, question: Question): Result<Answer> {
  const resolver = config.get("resolver");
  if (resolver === null) return failed<Answer>("no resolver in [config]");
  const to = new Request(resolver, "POST");
  to.headers.set("content-type", MESSAGE);
  to.headers.set("accept", MESSAGE);
  to.content = Content.bytes(message);
  const got = fetch(to);
  if (!got.ok) {
    log.error(got.error!);
    return failed<Answer>("the resolver does not answer");
  }
  if (got.value.status != 200) {
    log.error("the resolver says " + got.value.status.toString());
    return failed<Answer>("the resolver refuses");
  }
  const bytes = got.value.body.bytes(ANSWER_BYTES_MAX);
  const answer = bytes.ok ? Answer.of(bytes.value) : null;
  if (answer === null || !answer.question.is(question)) return failed<Answer>("what the resolver says is no answer");
  return ok<Answer>(answer);
}

function refused(status: i32, why: string): Response {
  return Response.text(why + "\n", status);
}
