// `wasi:io/poll`: waiting for one thing, or for the first of several.

import { RESULT, lend, unlend } from "./memory";

@external("wasi:io/poll@0.2.6", "[method]pollable.block")
declare function pollableBlock(pollable: i32): void;
@external("wasi:io/poll@0.2.6", "[resource-drop]pollable")
declare function pollableDrop(pollable: i32): void;
@external("wasi:io/poll@0.2.6", "poll")
declare function pollList(pollables: usize, count: usize, result: usize): void;

/** Where the host writes which are ready: 16 numbers. More get memory of their own. */
const READY_BYTES: usize = 64;
// @ts-ignore: decorator
@lazy
const READY: usize = memory.data(64, 4);

/** Waits until it is ready. The handle is gone. */
export function block(pollable: i32): void {
  pollableBlock(pollable);
  pollableDrop(pollable);
}

/** Waits until any of them is ready; is the first one? The handles stay. */
export function poll(pollables: i32[]): bool {
  lend(READY, READY_BYTES);
  pollList(pollables.dataStart, pollables.length, RESULT);
  unlend();
  // Indices are in their order.
  return load<u32>(RESULT, 4) > 0 && load<u32>(load<usize>(RESULT)) == 0;
}

/** Lets go of it. */
export function drop(pollable: i32): void {
  pollableDrop(pollable);
}
