import { NONE, dropIncomingBody, incomingBodyStream } from "./sys/http";
import { Malformed, decode, encode } from "./sys/text";
import { pass } from "./sys/pump";
import { BROKEN, dropInput, read, writeAll } from "./sys/streams";
import { Json } from "./json";
import { Result, failed, ok } from "./result";

/** Bytes of one piece that {@link Body.next} reads: as many as a node gives at once. */
export const PIECE_BYTES: i32 = 64 * 1024;

/** Bytes of a body that is read as a whole, unless another bound is given: memory of a program is bounded too. */
export const BODY_BYTES_MAX: i32 = 16 * 1024 * 1024;

/**
 * A body that came in, of the client's request or of a backend's response: bytes that are read once, in pieces or as a
 * whole. Every read waits until there is something.
 *
 * ```ts
 * for (let piece = body.next(); piece !== null; piece = body.next()) count += piece.length;
 * if (body.isBroken) return Response.failed("the upload broke off");
 * ```
 */
export class Body {
  private stream: i32 = NONE;
  /** Where {@link Body.next} reads to: one piece of memory, however long the body is. */
  private piece: Uint8Array | null = null;
  private broken: bool = false;

  /** @internal A body by its handle; without one it is empty. */
  constructor(private handle: i32 = NONE) {
    if (handle != NONE) this.stream = incomingBodyStream(handle);
  }

  /** Did it break off? Known when a read has said that nothing comes any more. */
  get isBroken(): bool {
    return this.broken;
  }

  /**
   * Waits for bytes and puts them into `to`. How many: 1 to `to.length`, or 0 when nothing comes any more: the body is at
   * its end, or {@link Body.isBroken}.
   */
  readInto(to: Uint8Array): i32 {
    if (this.stream == NONE || !to.length) return 0;
    const bytes = read(this.stream, to);
    if (bytes > 0) return bytes;
    this.broken = bytes == BROKEN;
    this.close();
    return 0;
  }

  /**
   * The next piece, 1 to {@link PIECE_BYTES} bytes; null when nothing comes any more.
   *
   * All pieces share one memory: a piece is valid until the next call. Copy what is to stay (`piece.slice()`).
   */
  next(): Uint8Array | null {
    let piece = this.piece;
    if (piece === null) {
      piece = new Uint8Array(PIECE_BYTES);
      this.piece = piece;
    }
    const bytes = this.readInto(piece);
    return bytes ? piece.subarray(0, bytes) : null;
  }

  /** All that is left. Fails when it breaks off or is longer than `bytesMax` bytes. */
  bytes(bytesMax: i32 = BODY_BYTES_MAX): Result<Uint8Array> {
    let all = new Uint8Array(0), length = 0;
    while (true) {
      const piece = this.next();
      if (piece === null) break;
      if (piece.length > bytesMax - length) return failed<Uint8Array>("the body is longer than " + bytesMax.toString() + " bytes");
      if (length + piece.length > all.length) {
        // Twice as much each time: few copies, though nothing is freed.
        const larger = new Uint8Array(<i32>min<i64>(bytesMax, max<i64>(<i64>all.length * 2, length + piece.length)));
        larger.set(all.subarray(0, length));
        all = larger;
      }
      all.set<Uint8Array>(piece, length);
      length += piece.length;
    }
    return this.broken ? failed<Uint8Array>("the body broke off") : ok<Uint8Array>(all.subarray(0, length));
  }

  /** All that is left, as text. Fails as {@link Body.bytes} does, and when it is not UTF-8. */
  text(bytesMax: i32 = BODY_BYTES_MAX): Result<string> {
    const bytes = this.bytes(bytesMax);
    if (!bytes.ok) return failed<string>(bytes.error!);
    const text = decode(bytes.value, Malformed.Refuse);
    return text === null ? failed<string>("the body is not UTF-8") : ok<string>(text);
  }

  /** All that is left, as JSON. Fails as {@link Body.text} does, and when it is not JSON. */
  json(bytesMax: i32 = BODY_BYTES_MAX): Result<Json> {
    const text = this.text(bytesMax);
    return text.ok ? Json.parse(text.value) : failed<Json>(text.error!);
  }

  /** @internal Moves what is left to the body of another message, meanwhile. False: there is nothing to move. */
  passTo(body: i32): bool {
    if (this.stream == NONE) return false;
    pass(this.stream, this.handle, body);
    this.stream = NONE;
    return true;
  }

  /** Lets go of what was not read. */
  private close(): void {
    dropInput(this.stream);
    dropIncomingBody(this.handle);
    this.stream = NONE;
  }
}

/** Where a body's pieces are written to, of a response or of a request to a backend. */
export class BodyWriter {
  /** @internal */
  constructor(private stream: i32) {}

  /** Writes all of it, and waits where the reader is slower. False when nobody reads any more: stop then. */
  bytes(bytes: Uint8Array): bool {
    return writeAll(this.stream, bytes);
  }

  /** The same with text, in UTF-8. */
  text(text: string): bool {
    return writeAll(this.stream, encode(text));
  }
}
