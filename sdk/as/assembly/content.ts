import { abortOutgoingBody, finishOutgoingBody, outgoingBodyStream } from "./sys/http";
import { encode } from "./sys/text";
import { dropOutput } from "./sys/streams";
import { Body, BodyWriter } from "./body";

/**
 * What a message that goes out carries. Whole: {@link Content.text}, {@link Content.bytes}. In pieces:
 * {@link Content.copy} of a body that came in, or a class of your own, whose `write` is called when the head is sent:
 *
 * ```ts
 * class Countdown extends Content {
 *   constructor(private from: i32) { super(); }
 *   write(to: BodyWriter): bool {
 *     for (let i = this.from; i > 0; i--) if (!to.text(i.toString() + "\n")) return false;
 *     return true;
 *   }
 * }
 * const response = new Response(200);
 * response.content = new Countdown(10);
 * ```
 */
export abstract class Content {
  /** Its length in bytes; -1 where it is not known before it is written. */
  length: i64 = -1;

  /** Writes it. True: it is whole. False: it is not, and the message is to be broken off. */
  abstract write(to: BodyWriter): bool;

  /** @internal Gives what is copied to the body of another message, to be moved meanwhile. False: it is to be written. */
  passTo(body: i32): bool {
    return false;
  }

  /** Text, sent as UTF-8. */
  static text(text: string): Content {
    return new Whole(encode(text));
  }

  /** These bytes. They are not copied: leave them as they are. */
  static bytes(bytes: Uint8Array): Content {
    return new Whole(bytes);
  }

  /** What is left of a body, piece by piece: memory for one piece, however long it is. */
  static copy(body: Body): Content {
    return new Copy(body);
  }
}

class Whole extends Content {
  constructor(private all: Uint8Array) {
    super();
    this.length = all.length;
  }

  write(to: BodyWriter): bool {
    return to.bytes(this.all);
  }
}

class Copy extends Content {
  constructor(private from: Body) {
    super();
  }

  passTo(body: i32): bool {
    return this.from.passTo(body);
  }

  write(to: BodyWriter): bool {
    while (true) {
      const piece = this.from.next();
      if (piece === null) return !this.from.isBroken;
      if (!to.bytes(piece)) return false;
    }
  }
}

/** @internal Writes content as a message's body, whose head is on its way. */
export function writeContent(content: Content, body: i32): void {
  const stream = outgoingBodyStream(body);
  const isWhole = content.write(new BodyWriter(stream));
  dropOutput(stream);
  if (isWhole) finishOutgoingBody(body); // false: not as long as announced, and broken off
  else abortOutgoingBody(body);
}
