// `wasi:io/streams`: reading and writing, blocking. A stream is a child of its body and must go before it.

import { RESULT, lend, unlend } from "./memory";

@external("wasi:io/streams@0.2.6", "[method]input-stream.blocking-read")
declare function blockingRead(stream: i32, bytes: i64, result: usize): void;
@external("wasi:io/streams@0.2.6", "[method]input-stream.read")
declare function inputRead(stream: i32, bytes: i64, result: usize): void;
@external("wasi:io/streams@0.2.6", "[method]input-stream.subscribe")
declare function inputSubscribe(stream: i32): i32;
@external("wasi:io/streams@0.2.6", "[method]output-stream.subscribe")
declare function outputSubscribe(stream: i32): i32;
@external("wasi:io/streams@0.2.6", "[resource-drop]input-stream")
declare function inputDrop(stream: i32): void;
@external("wasi:io/streams@0.2.6", "[method]output-stream.check-write")
declare function checkWrite(stream: i32, result: usize): void;
@external("wasi:io/streams@0.2.6", "[method]output-stream.write")
declare function write(stream: i32, from: usize, bytes: usize, result: usize): void;
@external("wasi:io/streams@0.2.6", "[method]output-stream.blocking-write-and-flush")
declare function blockingWriteAndFlush(stream: i32, from: usize, bytes: usize, result: usize): void;
@external("wasi:io/streams@0.2.6", "[resource-drop]output-stream")
declare function outputDrop(stream: i32): void;

/** Bytes of one blocking write: the interface's own bound. */
const BLOCKING_WRITE_BYTES: i32 = 4096;

/** {@link read}: nothing comes any more. */
export const END: i32 = 0;
/** {@link read}: it broke off. */
export const BROKEN: i32 = -1;

/** {@link readNow}: nothing is there yet. */
export const NOT_YET: i32 = -2;

/** Waits for a stream, a source or a sink, in a way that something else goes on; null: the host waits. See pump.ts. */
// @ts-ignore: decorator
@lazy
let meanwhile: ((stream: i32, isSource: bool) => void) | null = null;

/** Sets it. */
export function setMeanwhile(to: (stream: i32, isSource: bool) => void): void {
  meanwhile = to;
}

/** Waits for bytes and puts them into `to`; how many, {@link END} or {@link BROKEN}. */
export function read(stream: i32, to: Uint8Array): i32 {
  if (!to.length) return END;
  while (true) {
    const wait = meanwhile;
    if (wait !== null) wait(stream, true);
    lend(to.dataStart, to.length);
    blockingRead(stream, to.length, RESULT);
    unlend();
    if (load<u8>(RESULT)) return load<u8>(RESULT, 4) ? END : BROKEN;
    const bytes = load<i32>(RESULT, 8);
    // A host may answer with none of the bytes it waited for: it is asked again.
    if (bytes) return bytes;
  }
}

/** Writes all of it, and waits where the reader is slower; false if nobody reads any more. */
export function writeAll(stream: i32, bytes: Uint8Array): bool {
  return writeFrom(stream, bytes.dataStart, bytes.length);
}

function writeFrom(stream: i32, from: usize, left: i32): bool {
  while (left) {
    let now = min(left, BLOCKING_WRITE_BYTES);
    // What one blocking write takes is not worth asking for room first.
    const room = left > BLOCKING_WRITE_BYTES ? roomNow(stream) : 0;
    if (room >= BLOCKING_WRITE_BYTES) {
      now = min(left, room);
      if (!writeNow(stream, from, now)) return false;
    } else {
      const wait = meanwhile;
      if (wait !== null) wait(stream, false);
      blockingWriteAndFlush(stream, from, now, RESULT);
      if (load<u8>(RESULT)) return false; // so says a stream that room is asked of, too
    }
    from += now;
    left -= now;
  }
  return true;
}

/** Puts the bytes that are there into `to`: how many, {@link END}, {@link BROKEN} or {@link NOT_YET}. */
export function readNow(stream: i32, to: Uint8Array): i32 {
  lend(to.dataStart, to.length);
  inputRead(stream, to.length, RESULT);
  unlend();
  if (load<u8>(RESULT)) return load<u8>(RESULT, 4) ? END : BROKEN;
  const bytes = load<i32>(RESULT, 8);
  return bytes ? bytes : NOT_YET;
}

/** Bytes that may be written now; -1 if nobody reads any more. */
export function roomNow(stream: i32): i32 {
  checkWrite(stream, RESULT);
  return load<u8>(RESULT) ? -1 : <i32>min<u64>(load<u64>(RESULT, 8), i32.MAX_VALUE);
}

/** Writes bytes there is room for; false if nobody reads any more. */
export function writeNow(stream: i32, from: usize, bytes: i32): bool {
  write(stream, from, bytes, RESULT);
  return !load<u8>(RESULT);
}

/** A pollable for when there is something to read. */
export function inputReady(stream: i32): i32 {
  return inputSubscribe(stream);
}

/** A pollable for when there is room to write. */
export function outputReady(stream: i32): i32 {
  return outputSubscribe(stream);
}

/** Lets go of a stream. */
export function dropInput(stream: i32): void {
  inputDrop(stream);
}

/** Lets go of a stream. What was written stays written. */
export function dropOutput(stream: i32): void {
  outputDrop(stream);
}
