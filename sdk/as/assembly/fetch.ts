import { NONE, newFields, newRequest, outgoingRequestBody, setMethod, setTarget } from "./sys/http";
import { newOptions, response as wait, send, why } from "./sys/outgoing";
import { writeContent } from "./content";
import { Request } from "./request";
import { Response } from "./response";
import { Result, failed, ok } from "./result";

/**
 * Sends a request and waits for the head of its response; the body is read from {@link Response.body}, or passed on by
 * giving the response back.
 *
 * Fails when the URL or method is none, when the app may not reach that server, when it cannot be reached or does not
 * answer in time. The error begins with the name of `wasi:http`'s error code, as `connection-refused`. A status of 4xx or
 * 5xx is a response.
 */
export function fetch(request: Request): Result<Response> {
  return start(request).wait();
}

/** Sends all requests, then waits for all: the answers, in the order of the requests. */
export function fetchAll(requests: Request[]): Result<Response>[] {
  const pending = new Array<Pending>(requests.length);
  for (let i = 0; i < requests.length; i++) pending[i] = start(requests[i]);
  const answers = new Array<Result<Response>>(requests.length);
  for (let i = 0; i < requests.length; i++) answers[i] = pending[i].wait();
  return answers;
}

/**
 * Sends a request and goes on; {@link Pending.wait} brings the response.
 *
 * A request's content is written before this returns, which waits where its server reads slowly. Only a copied body
 * ({@link Content.copy}) is sent later, whenever the program waits for a response or for a body: what of it is not sent
 * when the program has given its response is not sent at all.
 */
export function start(request: Request): Pending {
  const url = request.url;
  if (url === null) return new Pending(NONE, false, "HTTP-request-URI-invalid: not an absolute URL");
  if (url.scheme != "http" && url.scheme != "https") {
    return new Pending(NONE, false, "HTTP-request-URI-invalid: neither http nor https");
  }

  const content = request.content;
  const fields = newFields();
  request.headers.sendTo(fields, content !== null ? content.length : -1);
  const message = newRequest(fields);
  if (!setMethod(message, request.method)) return new Pending(NONE, false, "HTTP-request-method-invalid");
  if (!setTarget(message, url.scheme == "https", url.authority, url.pathWithQuery)) {
    return new Pending(NONE, false, "HTTP-request-URI-invalid");
  }

  const body = content !== null ? outgoingRequestBody(message) : NONE;
  const options = newOptions(request.connectTimeoutMs, request.firstByteTimeoutMs, request.betweenBytesTimeoutMs);
  const future = send(message, options);
  if (future == NONE) return new Pending(NONE, false, why());
  if (content !== null && !content.passTo(body)) writeContent(content, body);
  return new Pending(future, request.method == "HEAD", "");
}

/** A response on its way. */
export class Pending {
  /** @internal */
  constructor(private future: i32, private isOfHead: bool, private error: string) {}

  /** Waits for the response's head. Fails as {@link fetch} does, and the second time. */
  wait(): Result<Response> {
    if (this.future == NONE) return failed<Response>(this.error);
    const response = wait(this.future);
    this.future = NONE;
    this.error = "it was waited for before";
    return response == NONE ? failed<Response>(why()) : ok<Response>(Response.incoming(response, this.isOfHead));
  }
}
