// `wasi:http/outgoing-handler`: sending a request, and waiting for what comes back.

import { RESULT, textAt } from "./memory";
import { NONE } from "./http";
import { wait } from "./pump";

@external("wasi:http/outgoing-handler@0.2.6", "handle")
declare function outgoingHandle(request: i32, hasOptions: i32, options: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[method]future-incoming-response.subscribe")
declare function futureSubscribe(future: i32): i32;
@external("wasi:http/types@0.2.6", "[method]future-incoming-response.get")
declare function futureGet(future: i32, result: usize): void;
@external("wasi:http/types@0.2.6", "[resource-drop]future-incoming-response")
declare function futureDrop(future: i32): void;
@external("wasi:http/types@0.2.6", "[constructor]request-options")
declare function optionsNew(): i32;
@external("wasi:http/types@0.2.6", "[method]request-options.set-connect-timeout")
declare function optionsSetConnect(options: i32, has: i32, ns: i64): i32;
@external("wasi:http/types@0.2.6", "[method]request-options.set-first-byte-timeout")
declare function optionsSetFirstByte(options: i32, has: i32, ns: i64): i32;
@external("wasi:http/types@0.2.6", "[method]request-options.set-between-bytes-timeout")
declare function optionsSetBetweenBytes(options: i32, has: i32, ns: i64): i32;

/** Names of `error-code` in the order of their tags. */
// @ts-ignore: decorator
@lazy
const ERRORS: StaticArray<string> = [
  "DNS-timeout", "DNS-error", "destination-not-found", "destination-unavailable", "destination-IP-prohibited",
  "destination-IP-unroutable", "connection-refused", "connection-terminated", "connection-timeout",
  "connection-read-timeout", "connection-write-timeout", "connection-limit-reached", "TLS-protocol-error",
  "TLS-certificate-error", "TLS-alert-received", "HTTP-request-denied", "HTTP-request-length-required",
  "HTTP-request-body-size", "HTTP-request-method-invalid", "HTTP-request-URI-invalid", "HTTP-request-URI-too-long",
  "HTTP-request-header-section-size", "HTTP-request-header-size", "HTTP-request-trailer-section-size",
  "HTTP-request-trailer-size", "HTTP-response-incomplete", "HTTP-response-header-section-size",
  "HTTP-response-header-size", "HTTP-response-body-size", "HTTP-response-trailer-section-size",
  "HTTP-response-trailer-size", "HTTP-response-transfer-coding", "HTTP-response-content-coding",
  "HTTP-response-timeout", "HTTP-upgrade-failed", "HTTP-protocol-error", "loop-detected", "configuration-error",
  "internal-error",
];
const INTERNAL_ERROR: i32 = 38;

/** Why the last {@link send} or {@link response} answered NONE. */
// @ts-ignore: decorator
@lazy
let reason = "";

export function why(): string {
  return reason;
}

/** Times in ms, 0: the host's. As an options handle, or NONE when all are the host's. */
export function newOptions(connectMs: i32, firstByteMs: i32, betweenBytesMs: i32): i32 {
  if (connectMs <= 0 && firstByteMs <= 0 && betweenBytesMs <= 0) return NONE;
  const options = optionsNew();
  // A host without such a time says so, and goes on without.
  if (connectMs > 0) optionsSetConnect(options, 1, <i64>connectMs * 1_000_000);
  if (firstByteMs > 0) optionsSetFirstByte(options, 1, <i64>firstByteMs * 1_000_000);
  if (betweenBytesMs > 0) optionsSetBetweenBytes(options, 1, <i64>betweenBytesMs * 1_000_000);
  return options;
}

/** Sends a request; its body may be written afterwards. A future, or NONE. */
export function send(request: i32, options: i32): i32 {
  outgoingHandle(request, i32(options != NONE), options != NONE ? options : 0, RESULT);
  if (!load<u8>(RESULT)) return load<i32>(RESULT, 8);
  reason = errorAt(RESULT + 8);
  return NONE;
}

/** Waits for the response and takes it; NONE: there is none. The future is gone. */
export function response(future: i32): i32 {
  wait(futureSubscribe(future));
  futureGet(future, RESULT);
  let found = NONE;
  if (!load<u8>(RESULT) || load<u8>(RESULT, 8)) reason = "it was taken before";
  else if (load<u8>(RESULT, 16)) reason = errorAt(RESULT + 24);
  else found = load<i32>(RESULT, 24);
  futureDrop(future);
  return found;
}

/** Gives up on a response. */
export function abandon(future: i32): void {
  futureDrop(future);
}

function errorAt(at: usize): string {
  const tag = <i32>load<u8>(at);
  const name = ERRORS[tag];
  if (tag != INTERNAL_ERROR || !load<u8>(at, 8)) return name;
  return name + ": " + textAt(load<u32>(at, 12), load<u32>(at, 16));
}
