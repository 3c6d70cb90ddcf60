// `wasi:keyvalue`, a draft: the one Spin has, whose cursors are texts and which has compare-and-swap.

import { RESULT, addressOf, optionalBytesAt, optionalTextAt, textAt } from "./memory";
import { wellFormed } from "./text";
import { NONE } from "./http";

@external("wasi:keyvalue/store@0.2.0-draft2", "open")
declare function storeOpen(name: usize, units: usize, result: usize): void;
@external("wasi:keyvalue/store@0.2.0-draft2", "[method]bucket.get")
declare function bucketGet(bucket: i32, key: usize, units: usize, result: usize): void;
@external("wasi:keyvalue/store@0.2.0-draft2", "[method]bucket.set")
declare function bucketSet(bucket: i32, key: usize, units: usize, value: usize, bytes: usize, result: usize): void;
@external("wasi:keyvalue/store@0.2.0-draft2", "[method]bucket.delete")
declare function bucketDelete(bucket: i32, key: usize, units: usize, result: usize): void;
@external("wasi:keyvalue/store@0.2.0-draft2", "[method]bucket.exists")
declare function bucketExists(bucket: i32, key: usize, units: usize, result: usize): void;
@external("wasi:keyvalue/store@0.2.0-draft2", "[method]bucket.list-keys")
declare function bucketListKeys(bucket: i32, hasCursor: i32, cursor: usize, units: usize, result: usize): void;
@external("wasi:keyvalue/atomics@0.2.0-draft2", "increment")
declare function atomicsIncrement(bucket: i32, key: usize, units: usize, delta: i64, result: usize): void;
@external("wasi:keyvalue/atomics@0.2.0-draft2", "[static]cas.new")
declare function casNew(bucket: i32, key: usize, units: usize, result: usize): void;
@external("wasi:keyvalue/atomics@0.2.0-draft2", "[method]cas.current")
declare function casCurrent(cas: i32, result: usize): void;
@external("wasi:keyvalue/atomics@0.2.0-draft2", "swap")
declare function atomicsSwap(cas: i32, value: usize, bytes: usize, result: usize): void;
@external("wasi:keyvalue/atomics@0.2.0-draft2", "[resource-drop]cas")
declare function casDrop(cas: i32): void;

/** Why the last call failed; null if it did not. */
// @ts-ignore: decorator
@lazy
let reason: string | null = null;
/** Where the next page begins; null: that was the last. */
// @ts-ignore: decorator
@lazy
let cursorAfter: string | null = null;

export function why(): string | null {
  return reason;
}

/** After {@link keys}. */
export function nextCursor(): string | null {
  return cursorAfter;
}

/** A store by its name; NONE: {@link why}. */
export function open(name: string): i32 {
  name = wellFormed(name);
  storeOpen(addressOf(name), name.length, RESULT);
  return worked(4) ? load<i32>(RESULT, 4) : NONE;
}

/** A value; null: there is none, or {@link why}. */
export function get(bucket: i32, key: string): Uint8Array | null {
  key = wellFormed(key);
  bucketGet(bucket, addressOf(key), key.length, RESULT);
  return worked(4) ? optionalBytesAt(RESULT + 4) : null;
}

export function set(bucket: i32, key: string, value: Uint8Array): void {
  key = wellFormed(key);
  bucketSet(bucket, addressOf(key), key.length, value.dataStart, value.length, RESULT);
  worked(4);
}

export function remove(bucket: i32, key: string): void {
  key = wellFormed(key);
  bucketDelete(bucket, addressOf(key), key.length, RESULT);
  worked(4);
}

export function exists(bucket: i32, key: string): bool {
  key = wellFormed(key);
  bucketExists(bucket, addressOf(key), key.length, RESULT);
  return worked(4) && load<u8>(RESULT, 4) != 0;
}

/** A page of keys; see {@link nextCursor}. */
export function keys(bucket: i32, cursor: string | null): string[] {
  const from = wellFormed(cursor ? cursor : "");
  bucketListKeys(bucket, i32(cursor !== null), addressOf(from), from.length, RESULT);
  cursorAfter = null;
  if (!worked(4)) return [];
  let at = load<usize>(RESULT, 4);
  const count = load<i32>(RESULT, 8);
  const list = new Array<string>(count);
  for (let i = 0; i < count; i++, at += 8) list[i] = textAt(load<u32>(at), load<u32>(at, 4));
  cursorAfter = optionalTextAt(RESULT + 12);
  return list;
}

/** The number after it was added to. */
export function increment(bucket: i32, key: string, by: i64): i64 {
  key = wellFormed(key);
  atomicsIncrement(bucket, addressOf(key), key.length, by, RESULT);
  return worked(8) ? load<i64>(RESULT, 8) : 0;
}

/** An entry as it is found, to be swapped; NONE: {@link why}. */
export function find(bucket: i32, key: string): i32 {
  key = wellFormed(key);
  casNew(bucket, addressOf(key), key.length, RESULT);
  return worked(4) ? load<i32>(RESULT, 4) : NONE;
}

/** What was found. */
export function found(cas: i32): Uint8Array | null {
  casCurrent(cas, RESULT);
  return worked(4) ? optionalBytesAt(RESULT + 4) : null;
}

/** {@link swap}: it is done. */
export const SWAPPED: i32 = -2;

/** {@link SWAPPED}, or the entry as it is now because another was faster, or NONE: {@link why}. The handle is gone. */
export function swap(cas: i32, value: Uint8Array): i32 {
  atomicsSwap(cas, value.dataStart, value.length, RESULT);
  reason = null;
  if (!load<u8>(RESULT)) return SWAPPED;
  if (load<u8>(RESULT, 4)) return load<i32>(RESULT, 8);
  reason = errorAt(RESULT + 8);
  return NONE;
}

/** Lets go of an entry that is not to be swapped. */
export function dropFound(cas: i32): void {
  casDrop(cas);
}

/** Did the call work? The error is at `offset` of the result. */
function worked(offset: usize): bool {
  reason = load<u8>(RESULT) ? errorAt(RESULT + offset) : null;
  return reason === null;
}

function errorAt(at: usize): string {
  const tag = load<u8>(at);
  if (tag == 0) return "no such store";
  return tag == 1 ? "access denied" : textAt(load<u32>(at, 4), load<u32>(at, 8));
}
