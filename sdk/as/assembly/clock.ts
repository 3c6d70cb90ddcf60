import { monotonicNs, sleepNs, wallMs } from "./sys/clocks";

/** Time (`wasi:clocks`). */
export namespace clock {
  /** The time of day, in ms since 1970-01-01T00:00:00Z. */
  export function now(): i64 {
    return wallMs();
  }

  /** Time that only goes forward, in ns since some moment: for measuring. */
  export function monotonic(): i64 {
    return monotonicNs();
  }

  /** Waits, in ms. What was written to a response leaves meanwhile. Less than 1: not at all. */
  export function sleep(ms: i32): void {
    if (ms > 0) sleepNs(<i64>ms * 1_000_000);
  }
}
