// `wasi:clocks`.

import { RESULT } from "./memory";
import { block } from "./poll";

@external("wasi:clocks/wall-clock@0.2.6", "now")
declare function wallNow(result: usize): void;
@external("wasi:clocks/monotonic-clock@0.2.6", "now")
declare function monotonicNow(): i64;
@external("wasi:clocks/monotonic-clock@0.2.6", "subscribe-duration")
declare function subscribeDuration(ns: i64): i32;

/** Milliseconds since 1970. */
export function wallMs(): i64 {
  wallNow(RESULT);
  return load<i64>(RESULT) * 1000 + load<u32>(RESULT, 8) / 1_000_000;
}

/** Nanoseconds since some moment. */
export function monotonicNs(): i64 {
  return monotonicNow();
}

/** Waits. */
export function sleepNs(ns: i64): void {
  block(subscribeDuration(ns));
}
