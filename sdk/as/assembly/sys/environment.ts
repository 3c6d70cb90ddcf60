// `wasi:cli/environment`.

import { RESULT, textAt } from "./memory";

@external("wasi:cli/environment@0.2.6", "get-environment")
declare function getEnvironment(result: usize): void;

/** Names and values by turns. */
export function environment(): string[] {
  getEnvironment(RESULT);
  return pairsAt(load<usize>(RESULT), load<i32>(RESULT, 4));
}

/** A `list<tuple<string, string>>`. */
export function pairsAt(at: usize, count: i32): string[] {
  const list = new Array<string>(count << 1);
  for (let i = 0; i < count; i++, at += 16) {
    list[i << 1] = textAt(load<u32>(at), load<u32>(at, 4));
    list[(i << 1) + 1] = textAt(load<u32>(at, 8), load<u32>(at, 12));
  }
  return list;
}
