// From the host's call to `handle` and back. The transform (`transform.mjs`) writes the function that calls both.

import { NONE, answer as give, newFields, newResponse, responseBody, setStatus } from "./sys/http";
import { writeContent } from "./content";
import { Request } from "./request";
import { Response } from "./response";

/**
 * Bytes of a body up to which its length is left to the host, which has it in its buffer as a whole before the head
 * leaves: a node's buffer is 64 KiB, wasmtime's is smaller.
 */
const LENGTH_LEFT_TO_HOST: i64 = 4096;

/** The client's request. */
export function incoming(handle: i32): Request {
  return Request.incoming(handle);
}

/** Answers: the head at once, the content after it. */
export function answer(out: i32, response: Response): void {
  const content = response.content;
  const length: i64 = content !== null && content.length > LENGTH_LEFT_TO_HOST ? content.length : -1;
  const fields = newFields();
  response.headers.sendTo(fields, length);
  const message = newResponse(fields);
  if (response.status != 200) assert(setStatus(message, response.status), "a status that is none");
  const body = content !== null ? responseBody(message) : NONE;
  give(out, message);
  if (content !== null) writeContent(content, body);
}
