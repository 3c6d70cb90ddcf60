// Bodies on their way from one message to another while the program does something else.
//
// A proxy that sent a request's body to its end before it looked at the response would stand still with a server that
// answers while it reads, as soon as the buffers between are full. So such a body is moved whenever the program waits:
// for the response, for a piece of a body, for room to write.

import { abortOutgoingBody, dropIncomingBody, finishOutgoingBody, outgoingBodyStream } from "./http";
import { block, drop, poll } from "./poll";
import {
  END, NOT_YET, dropInput, dropOutput, inputReady, outputReady, readNow, roomNow, setMeanwhile, writeNow,
} from "./streams";

/** Bytes of one piece: as many as a node gives at once. */
const PIECE_BYTES: i32 = 64 * 1024;

class Pump {
  private piece: Uint8Array = new Uint8Array(PIECE_BYTES);
  /** What of the piece is still to be written. */
  private from: i32 = 0;
  private to: i32 = 0;
  private sink: i32;

  constructor(private source: i32, private sourceBody: i32, private sinkBody: i32) {
    this.sink = outgoingBodyStream(sinkBody);
  }

  /** Moves what can be moved without waiting. False: there is nothing more to move, and its handles are gone. */
  step(): bool {
    while (true) {
      if (this.from == this.to) {
        const bytes = readNow(this.source, this.piece);
        if (bytes == NOT_YET) return true;
        if (bytes <= 0) return this.close(bytes == END);
        this.from = 0;
        this.to = bytes;
      }
      const room = roomNow(this.sink);
      if (room < 0) return this.close(false);
      if (room == 0) return true;
      const bytes = min(room, this.to - this.from);
      if (!writeNow(this.sink, this.piece.dataStart + this.from, bytes)) return this.close(false);
      this.from += bytes;
    }
  }

  /** What it waits for, as a pollable. */
  ready(): i32 {
    return this.from == this.to ? inputReady(this.source) : outputReady(this.sink);
  }

  private close(isWhole: bool): bool {
    dropInput(this.source);
    dropIncomingBody(this.sourceBody);
    dropOutput(this.sink);
    if (isWhole) finishOutgoingBody(this.sinkBody);
    else abortOutgoingBody(this.sinkBody);
    return false;
  }
}

// @ts-ignore: decorator
@lazy
let pumps: Pump[] = [];
/** What is waited for, the program's own first: one list for all waits, since nothing is freed. */
// @ts-ignore: decorator
@lazy
const waited: i32[] = [];

/** Begins to move a body. All three handles are the pump's from here on. */
export function pass(source: i32, sourceBody: i32, sinkBody: i32): void {
  pumps.push(new Pump(source, sourceBody, sinkBody));
  setMeanwhile((stream: i32, isSource: bool): void => {
    if (pumps.length) wait(isSource ? inputReady(stream) : outputReady(stream));
  });
}

/** Waits until it is ready, and moves bodies meanwhile. The handle is gone. */
export function wait(pollable: i32): void {
  while (true) {
    for (let i = pumps.length - 1; i >= 0; i--) if (!pumps[i].step()) pumps.splice(i, 1);
    if (!pumps.length) {
      block(pollable);
      return;
    }
    waited.length = 0;
    waited.push(pollable);
    for (let i = 0; i < pumps.length; i++) waited.push(pumps[i].ready());
    const isReady = poll(waited);
    for (let i = 1; i < waited.length; i++) drop(waited[i]);
    if (isReady) {
      drop(pollable);
      return;
    }
  }
}
