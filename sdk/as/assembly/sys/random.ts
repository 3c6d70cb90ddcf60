// `wasi:random/random`.

import { RESULT, bytesAt } from "./memory";

@external("wasi:random/random@0.2.6", "get-random-bytes")
declare function getRandomBytes(bytes: i64, result: usize): void;
@external("wasi:random/random@0.2.6", "get-random-u64")
declare function getRandomU64(): i64;

/** So many bytes. */
export function randomBytes(bytes: i32): Uint8Array {
  getRandomBytes(bytes, RESULT);
  return bytesAt(load<u32>(RESULT), load<u32>(RESULT, 4));
}

/** 64 bits. */
export function randomU64(): u64 {
  return <u64>getRandomU64();
}
