// `wasi:http/types`: messages, their fields and bodies.
//
// A handle is an i32 that is never negative. Functions that can fail answer NONE.

import { RESULT, addressOf, optionalTextAt, textAt } from "./memory";
import { narrow, wellFormed, widen } from "./text";

/** No handle. */
export const NONE: i32 = -1;

/** Names of `method` in the order of their tags; `other` carries its name. */
// @ts-ignore: decorator
@lazy
const METHODS: StaticArray<string> = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
const METHOD_OTHER: i32 = 9;

// -- fields

@external("wasi:http/types@0.2.6", "[constructor]fields")
declare function fieldsNew(): i32;
@external("wasi:http/types@0.2.6", "[method]fields.append")
declare function fieldsAppend(fields: i32, name: usize, units: usize, value: usize, bytes: usize, result: usize): void;
@external("wasi:http/types@0.2.6", "[method]fields.entries")
declare function fieldsEntries(fields: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[resource-drop]fields")
declare function fieldsDrop(fields: i32): void;

/** New, empty fields. */
export function newFields(): i32 {
  return fieldsNew();
}

/** Adds a field; false if the host does not have it. Every unit of `value` is below 256. */
export function appendField(fields: i32, name: string, value: string): bool {
  const bytes = narrow(value);
  fieldsAppend(fields, addressOf(name), name.length, bytes.dataStart, bytes.length, RESULT);
  return !load<u8>(RESULT);
}

/** Names and values by turns. The handle is gone. */
export function takeEntries(fields: i32): string[] {
  fieldsEntries(fields, RESULT);
  const count = load<i32>(RESULT, 4);
  const list = new Array<string>(count << 1);
  let at = load<usize>(RESULT);
  for (let i = 0; i < count; i++, at += 16) {
    list[i << 1] = textAt(load<u32>(at), load<u32>(at, 4));
    list[(i << 1) + 1] = widen(load<u32>(at, 8), load<u32>(at, 12));
  }
  fieldsDrop(fields);
  return list;
}

// -- the client's request

@external("wasi:http/types@0.2.6", "[method]incoming-request.method")
declare function requestMethodOf(request: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[method]incoming-request.path-with-query")
declare function requestPath(request: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[method]incoming-request.scheme")
declare function requestSchemeOf(request: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[method]incoming-request.authority")
declare function requestAuthorityOf(request: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[method]incoming-request.headers")
declare function requestFields(request: i32): i32;
@external("wasi:http/types@0.2.6", "[method]incoming-request.consume")
declare function requestConsume(request: i32, result: usize): void;

/** Its method, as sent. */
export function requestMethod(request: i32): string {
  requestMethodOf(request, RESULT);
  const tag = <i32>load<u8>(RESULT);
  return tag < METHOD_OTHER ? METHODS[tag] : textAt(load<u32>(RESULT, 4), load<u32>(RESULT, 8));
}

/** Path and query, as sent; null if it has none. */
export function requestPathWithQuery(request: i32): string | null {
  requestPath(request, RESULT);
  return optionalTextAt(RESULT);
}

/** `http`, `https` or another; null where the host does not know. */
export function requestScheme(request: i32): string | null {
  requestSchemeOf(request, RESULT);
  if (!load<u8>(RESULT)) return null;
  const tag = load<u8>(RESULT, 4);
  if (tag == 0) return "http";
  return tag == 1 ? "https" : textAt(load<u32>(RESULT, 8), load<u32>(RESULT, 12));
}

/** Host and port the client asked for; null if it named none. */
export function requestAuthority(request: i32): string | null {
  requestAuthorityOf(request, RESULT);
  return optionalTextAt(RESULT);
}

/** Its fields; see {@link takeEntries}. */
export function requestEntries(request: i32): string[] {
  return takeEntries(requestFields(request));
}

/** Its body, once; NONE the second time. */
export function requestBody(request: i32): i32 {
  requestConsume(request, RESULT);
  return handleAt(4);
}

// -- bodies to read

@external("wasi:http/types@0.2.6", "[method]incoming-body.stream")
declare function incomingStream(body: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[resource-drop]incoming-body")
declare function incomingDrop(body: i32): void;

/** The body's stream, once. */
export function incomingBodyStream(body: i32): i32 {
  incomingStream(body, RESULT);
  return handleAt(4);
}

/** Lets go of a body whose stream is gone. */
export function dropIncomingBody(body: i32): void {
  incomingDrop(body);
}

// -- the response

@external("wasi:http/types@0.2.6", "[constructor]outgoing-response")
declare function responseNew(fields: i32): i32;
@external("wasi:http/types@0.2.6", "[method]outgoing-response.set-status-code")
declare function responseSetStatus(response: i32, status: i32): i32;
@external("wasi:http/types@0.2.6", "[method]outgoing-response.body")
declare function responseBodyOf(response: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[static]response-outparam.set")
declare function outparamSet(out: i32, isError: i32, value: i32, a: i32, b: i64, c: i32, d: i32, e: i32, f: i32): void;

/** A response with these fields, which are its from here on. */
export function newResponse(fields: i32): i32 {
  return responseNew(fields);
}

/** 200 until it is set; false if it is not a status. */
export function setStatus(response: i32, status: i32): bool {
  return !responseSetStatus(response, status);
}

/** The body, once. */
export function responseBody(response: i32): i32 {
  responseBodyOf(response, RESULT);
  return handleAt(4);
}

/** Answers with it; its body may be written afterwards. */
export function answer(out: i32, response: i32): void {
  outparamSet(out, 0, response, 0, 0, 0, 0, 0, 0);
}

// -- bodies to write

@external("wasi:http/types@0.2.6", "[method]outgoing-body.write")
declare function outgoingWrite(body: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[static]outgoing-body.finish")
declare function outgoingFinish(body: i32, hasTrailers: i32, trailers: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[resource-drop]outgoing-body")
declare function outgoingDrop(body: i32): void;

/** The body's stream, once. */
export function outgoingBodyStream(body: i32): i32 {
  outgoingWrite(body, RESULT);
  return handleAt(4);
}

/** The body is whole; its stream is gone. False if it is not as long as its `content-length` says. */
export function finishOutgoingBody(body: i32): bool {
  outgoingFinish(body, 0, 0, RESULT);
  return !load<u8>(RESULT);
}

/** The body is not whole: the message is broken off. Its stream is gone. */
export function abortOutgoingBody(body: i32): void {
  outgoingDrop(body);
}

/** The handle in a `result` whose value is at `offset`. */
// @ts-ignore: decorator
@inline
export function handleAt(offset: usize): i32 {
  return load<u8>(RESULT) ? NONE : load<i32>(RESULT + offset);
}

// -- requests to elsewhere

@external("wasi:http/types@0.2.6", "[constructor]outgoing-request")
declare function outgoingNew(fields: i32): i32;
@external("wasi:http/types@0.2.6", "[method]outgoing-request.set-method")
declare function outgoingSetMethod(request: i32, tag: i32, name: usize, units: usize): i32;
@external("wasi:http/types@0.2.6", "[method]outgoing-request.set-path-with-query")
declare function outgoingSetPath(request: i32, has: i32, path: usize, units: usize): i32;
@external("wasi:http/types@0.2.6", "[method]outgoing-request.set-scheme")
declare function outgoingSetScheme(request: i32, has: i32, tag: i32, name: usize, units: usize): i32;
@external("wasi:http/types@0.2.6", "[method]outgoing-request.set-authority")
declare function outgoingSetAuthority(request: i32, has: i32, authority: usize, units: usize): i32;
@external("wasi:http/types@0.2.6", "[method]outgoing-request.body")
declare function outgoingRequestBodyOf(request: i32, result: usize): void;

/** A request with these fields, which are its from here on. */
export function newRequest(fields: i32): i32 {
  return outgoingNew(fields);
}

/** False if it is no method. */
export function setMethod(request: i32, method: string): bool {
  for (let tag = 0; tag < METHOD_OTHER; tag++) {
    if (METHODS[tag] == method) return !outgoingSetMethod(request, tag, 0, 0);
  }
  method = wellFormed(method);
  return !outgoingSetMethod(request, METHOD_OTHER, addressOf(method), method.length);
}

/** Where it goes. False if the host takes one of these for no scheme, authority or path. */
export function setTarget(request: i32, isSecure: bool, authority: string, pathWithQuery: string): bool {
  authority = wellFormed(authority);
  pathWithQuery = wellFormed(pathWithQuery);
  return !outgoingSetScheme(request, 1, i32(isSecure), 0, 0)
    && !outgoingSetAuthority(request, 1, addressOf(authority), authority.length)
    && !outgoingSetPath(request, 1, addressOf(pathWithQuery), pathWithQuery.length);
}

/** The body, once. */
export function outgoingRequestBody(request: i32): i32 {
  outgoingRequestBodyOf(request, RESULT);
  return handleAt(4);
}

// -- responses from elsewhere

@external("wasi:http/types@0.2.6", "[method]incoming-response.status")
declare function incomingStatus(response: i32): i32;
@external("wasi:http/types@0.2.6", "[method]incoming-response.headers")
declare function incomingFields(response: i32): i32;
@external("wasi:http/types@0.2.6", "[method]incoming-response.consume")
declare function incomingConsume(response: i32, result: usize): void;

/** Its status. */
export function responseStatus(response: i32): i32 {
  return incomingStatus(response);
}

/** Its fields; see {@link takeEntries}. */
export function responseEntries(response: i32): string[] {
  return takeEntries(incomingFields(response));
}

/** Its body, once. */
export function incomingResponseBody(response: i32): i32 {
  incomingConsume(response, RESULT);
  return handleAt(4);
}
