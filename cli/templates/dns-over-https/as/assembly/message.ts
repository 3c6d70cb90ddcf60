// Messages of DNS (RFC 1035, section 4): as much as a proxy has to know.

import { Json, Result, failed, ok } from "@skerry/sdk-as";

const HEADER_BYTES: i32 = 12;
/** Of a name, with its dots (RFC 1035, section 3.1). */
const NAME_LENGTH_MAX: i32 = 253;
/** Pointers in a name: more than any honest one has. */
const POINTERS_MAX: i32 = 16;

const TYPES = ["A", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "AAAA", "HTTPS"];
const TYPE_NUMBERS: i32[] = [1, 2, 5, 6, 12, 15, 16, 28, 65];
const SOA: i32 = 6;

/** What is asked. */
export class Question {
  constructor(readonly name: string, readonly type: i32) {}

  /** The question of a query: one, of the kind that is asked and not answered. */
  static of(message: Uint8Array): Result<Question> {
    const reader = new Reader(message);
    if (message.length < HEADER_BYTES) return failed<Question>("the message is shorter than its header");
    if (reader.flags & 0xf800) return failed<Question>("the message is no query");
    if (reader.questions != 1 || reader.answers != 0) return failed<Question>("the message has not one question");
    const question = reader.question();
    return reader.isBroken ? failed<Question>("the question is not well formed") : ok<Question>(question);
  }

  is(other: Question): bool {
    return this.name == other.name && this.type == other.type;
  }
}

/** What is answered. */
export class Answer {
  private constructor(
    readonly message: Uint8Array,
    readonly question: Question,
    /** `NOERROR`, `NXDOMAIN`, … */
    readonly status: string,
    /** An array of `{ name, type, ttl, data }`. */
    readonly records: Json,
    /** How long it may be kept, in seconds. */
    readonly ttl: u32,
  ) {}

  /** Null if the message is none, or not well formed. */
  static of(message: Uint8Array): Answer | null {
    const reader = new Reader(message);
    if (reader.isBroken || !(reader.flags & 0x8000) || reader.questions != 1) return null;
    const question = reader.question(), records = Json.array();
    let ttl = u32.MAX_VALUE;
    for (let i = 0; i < reader.answers && !reader.isBroken; i++) {
      const record = reader.record();
      records.push(record.json());
      ttl = min(ttl, record.ttl);
    }
    if (reader.isBroken) return null;
    if (!reader.answers) {
      // That there is nothing may be kept as long as the zone says (RFC 2308, section 5).
      ttl = 0;
      for (let i = 0; i < reader.authorities && !reader.isBroken; i++) {
        const record = reader.record();
        if (!reader.isBroken && record.type == SOA) ttl = min(record.ttl, record.minimum);
      }
    }
    return new Answer(message, question, statusOf(reader.flags & 15), records, ttl);
  }
}

function statusOf(code: i32): string {
  switch (code) {
    case 0: return "NOERROR";
    case 2: return "SERVFAIL";
    case 3: return "NXDOMAIN";
    case 5: return "REFUSED";
    default: return "RCODE" + code.toString();
  }
}

/** The query for a name and a type (`AAAA`, `65`); null if it is no name, or no type. */
export function query(name: string, type: string): Uint8Array | null {
  const at = TYPES.indexOf(type.toUpperCase());
  const number = at >= 0 ? TYPE_NUMBERS[at] : I32.parseInt(type);
  if (number < 1 || number > 0xffff) return null;
  if (name.endsWith(".")) name = name.substring(0, name.length - 1);
  if (name.length > NAME_LENGTH_MAX) return null;
  // Recursion wanted, one question. The number is 0, so that equal queries are equal (RFC 8484, section 4.1).
  const message: u8[] = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
  const labels: string[] = name.length ? name.split(".") : [];
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i];
    if (label.length < 1 || label.length > 63) return null;
    message.push(<u8>label.length);
    for (let j = 0; j < label.length; j++) {
      if (label.charCodeAt(j) > 0x7f) return null;
      message.push(<u8>label.charCodeAt(j));
    }
  }
  message.push(0);
  message.push(<u8>(number >> 8));
  message.push(<u8>number);
  message.push(0);
  message.push(1);
  const bytes = new Uint8Array(message.length);
  bytes.set(message);
  return bytes;
}

class Record {
  constructor(
    readonly name: string,
    readonly type: i32,
    readonly ttl: u32,
    readonly data: string,
    /** Of an SOA: how long it may be kept that there is nothing. */
    readonly minimum: u32,
  ) {}

  json(): Json {
    const at = TYPE_NUMBERS.indexOf(this.type);
    return Json.object()
      .set("name", Json.string(this.name))
      .set("type", Json.string(at >= 0 ? TYPES[at] : "TYPE" + this.type.toString()))
      .set("ttl", Json.number(this.ttl))
      .set("data", Json.string(this.data));
  }
}

/** Goes through a message. What stands beyond its end is 0, and makes it broken. */
class Reader {
  isBroken: bool = false;
  flags: i32;
  questions: i32;
  answers: i32;
  authorities: i32;
  private at: i32 = 2;

  constructor(private message: Uint8Array) {
    this.flags = this.u16();
    this.questions = this.u16();
    this.answers = this.u16();
    this.authorities = this.u16();
    this.at = HEADER_BYTES;
  }

  question(): Question {
    const name = this.name(), type = this.u16();
    this.u16(); // the class: the Internet
    return new Question(name.toLowerCase(), type);
  }

  record(): Record {
    const name = this.name(), type = this.u16();
    this.u16(); // the class
    const ttl = <u32>(this.u16() << 16 | this.u16()), length = this.u16(), from = this.at;
    if (from + length > this.message.length) this.isBroken = true;
    if (this.isBroken) return new Record(name, type, ttl, "", 0);
    const data = this.data(type, length);
    this.at = max(from, from + length - 4);
    const minimum = <u32>(this.u16() << 16 | this.u16());
    this.at = from + length;
    return new Record(name, type, ttl, data, minimum);
  }

  /** As it is written in zone files; of types that are not known here as RFC 3597 says. */
  private data(type: i32, length: i32): string {
    const from = this.at;
    const parts: string[] = [];
    if (type == 1 && length == 4) {
      for (let i = 0; i < 4; i++) parts.push(this.message[from + i].toString());
      return parts.join(".");
    }
    if (type == 28 && length == 16) {
      for (let i = 0; i < 8; i++) parts.push(this.u16().toString(16));
      return parts.join(":");
    }
    if (type == 2 || type == 5 || type == 12) return this.name();
    if (type == 15) return this.u16().toString() + " " + this.name();
    if (type == 16 && length > 0 && <i32>this.message[from] < length) {
      return this.latin(from + 1, this.message[from]);
    }
    for (let i = 0; i < length; i++) parts.push(this.message[from + i].toString(16).padStart(2, "0"));
    return "\\# " + length.toString() + " " + parts.join("");
  }

  /** A name, which may go on at another place that stands before it. */
  private name(): string {
    let name = "", at = this.at, pointers = 0;
    while (!this.isBroken) {
      if (at >= this.message.length) break;
      const length = <i32>this.message[at++];
      if (length >= 0xc0) {
        if (at >= this.message.length || ++pointers > POINTERS_MAX) break;
        if (pointers == 1) this.at = at + 1;
        at = (length & 0x3f) << 8 | <i32>this.message[at];
      } else if (length == 0) {
        if (pointers == 0) this.at = at;
        return name.length ? name : ".";
      } else {
        if (length > 63 || at + length > this.message.length || name.length + length > NAME_LENGTH_MAX) break;
        name += this.latin(at, length) + ".";
        at += length;
      }
    }
    this.isBroken = true;
    return "";
  }

  private latin(from: i32, length: i32): string {
    let text = "";
    for (let i = from; i < from + length; i++) text += String.fromCharCode(this.message[i]);
    return text;
  }

  private u16(): i32 {
    if (this.at + 2 > this.message.length) {
      this.isBroken = true;
      return 0;
    }
    this.at += 2;
    return <i32>this.message[this.at - 2] << 8 | <i32>this.message[this.at - 1];
  }
}
