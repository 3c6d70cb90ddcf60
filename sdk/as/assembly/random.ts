import { randomBytes, randomU64 } from "./sys/random";

/** Random numbers fit for keys (`wasi:random`). */
export namespace random {
  /** So many bytes, from 0; a node gives at most 64 KiB at once and ends a program that wants more. */
  export function bytes(length: i32): Uint8Array {
    return randomBytes(max(0, length));
  }

  /** 64 bits. */
  export function number(): u64 {
    return randomU64();
  }
}
