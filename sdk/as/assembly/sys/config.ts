// `wasi:config/store`, a draft: the one wasmtime has.

import { RESULT, addressOf, optionalTextAt, textAt } from "./memory";
import { wellFormed } from "./text";
import { pairsAt } from "./environment";

@external("wasi:config/store@0.2.0-rc.1", "get")
declare function storeGet(key: usize, units: usize, result: usize): void;
@external("wasi:config/store@0.2.0-rc.1", "get-all")
declare function storeGetAll(result: usize): void;

/** Why the last call failed; null if it did not. */
// @ts-ignore: decorator
@lazy
let reason: string | null = null;

export function why(): string | null {
  return reason;
}

/** A value; null: there is none, or {@link why}. */
export function get(key: string): string | null {
  key = wellFormed(key);
  storeGet(addressOf(key), key.length, RESULT);
  return worked() ? optionalTextAt(RESULT + 4) : null;
}

/** Keys and values by turns; none of them when it failed. */
export function getAll(): string[] {
  storeGetAll(RESULT);
  return worked() ? pairsAt(load<usize>(RESULT, 4), load<i32>(RESULT, 8)) : [];
}

function worked(): bool {
  // Both cases of the error carry a text.
  reason = load<u8>(RESULT) ? textAt(load<u32>(RESULT, 8), load<u32>(RESULT, 12)) : null;
  return reason === null;
}
