import { appendField } from "./sys/http";
import { asciiLower, decimal, isBetween } from "./text";

/**
 * The header fields of a message, in their order. Names are ASCII and lower case, whatever case they are given in.
 *
 * A value is text whose characters are bytes (U+0000 to U+00FF, as in `fetch` of a browser): what came in goes out
 * unchanged, whatever its encoding was.
 *
 * Fields that belong to a connection (`connection`, `transfer-encoding`, `upgrade`, …) and `host` are the host's: it
 * hides them from what came in, and leaves them out of what goes out.
 */
export class Headers {
  /** Names and values by turns. */
  private list: string[];

  /** No fields, or those of this list: names and values by turns, valid and names in lower case. */
  constructor(list: string[] = []) {
    this.list = list;
  }

  /** How many fields there are; several of one name count as many. */
  get length(): i32 {
    return this.list.length >> 1;
  }

  /** The name of the field at `index`, from 0. Ends the program when there is none. */
  name(index: i32): string {
    return this.list[index << 1];
  }

  /** The value of the field at `index`, from 0. Ends the program when there is none. */
  value(index: i32): string {
    return this.list[(index << 1) + 1];
  }

  /** The values of this name, joined by `, `; null if there are none. */
  get(name: string): string | null {
    name = asciiLower(name);
    let found: string | null = null;
    for (let i = 0; i < this.list.length; i += 2) {
      if (this.list[i] == name) found = found === null ? this.list[i + 1] : found + ", " + this.list[i + 1];
    }
    return found;
  }

  /** Each value of this name, in their order. */
  getAll(name: string): string[] {
    name = asciiLower(name);
    const found: string[] = [];
    for (let i = 0; i < this.list.length; i += 2) {
      if (this.list[i] == name) found.push(this.list[i + 1]);
    }
    return found;
  }

  /** Is there a field of this name? */
  has(name: string): bool {
    name = asciiLower(name);
    for (let i = 0; i < this.list.length; i += 2) {
      if (this.list[i] == name) return true;
    }
    return false;
  }

  /**
   * Makes this the only value of the name. Space at its ends is dropped.
   *
   * False, and nothing changes, when that is no field: a name that is not a token of RFC 9110, a value with a line end, a
   * NUL or another control character, or with a character above U+00FF.
   */
  set(name: string, value: string): bool {
    name = asciiLower(name);
    value = trimmed(value);
    if (!isName(name) || !isValue(value)) return false;
    this.delete(name);
    this.push(name, value);
    return true;
  }

  /** Adds a value beside those there are. False, and nothing changes, as for {@link Headers.set}. */
  append(name: string, value: string): bool {
    name = asciiLower(name);
    value = trimmed(value);
    if (!isName(name) || !isValue(value)) return false;
    this.push(name, value);
    return true;
  }

  /** Takes out all values of the name. */
  delete(name: string): void {
    name = asciiLower(name);
    if (!this.has(name)) return;
    const kept: string[] = [];
    for (let i = 0; i < this.list.length; i += 2) {
      if (this.list[i] == name) continue;
      kept.push(this.list[i]);
      kept.push(this.list[i + 1]);
    }
    this.list = kept;
  }

  /** The same fields, to be changed without changing these. */
  clone(): Headers {
    return new Headers(this.list.slice(0));
  }

  /** @internal Adds a field that is known to be one. */
  push(name: string, value: string): void {
    this.list.push(name);
    this.list.push(value);
  }

  /**
   * @internal Gives them to a message whose body is `length` bytes long, -1: not known. What the host keeps for itself is
   * left out.
   */
  sendTo(fields: i32, length: i64): void {
    for (let i = 0; i < this.list.length; i += 2) {
      appendField(fields, this.list[i], this.list[i + 1]);
      if (this.list[i] == "content-length") length = -1;
    }
    if (length >= 0) appendField(fields, "content-length", decimal(length));
  }
}

/** A token of RFC 9110 §5.6.2, in lower case. */
function isName(name: string): bool {
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i);
    const isToken = isBetween(unit, 0x61, 0x7a) // a to z
      || isBetween(unit, 0x30, 0x39) // 0 to 9
      || isBetween(unit, 0x5e, 0x60) // ^ _ `
      || isBetween(unit, 0x23, 0x27) // # $ % & '
      || unit == 0x21 || unit == 0x2a || unit == 0x2b || unit == 0x2d || unit == 0x2e // ! * + - .
      || unit == 0x7c || unit == 0x7e; // | ~
    if (!isToken) return false;
  }
  return name.length > 0;
}

/** Visible characters, spaces, tabs, and what is above ASCII within a byte (RFC 9110 §5.5). */
function isValue(value: string): bool {
  for (let i = 0; i < value.length; i++) {
    const unit = value.charCodeAt(i);
    if ((unit < 0x20 && unit != 0x09) || unit == 0x7f || unit > 0xff) return false;
  }
  return true;
}

function trimmed(value: string): string {
  let from = 0, to = value.length;
  while (from < to && isBlank(value.charCodeAt(from))) from++;
  while (to > from && isBlank(value.charCodeAt(to - 1))) to--;
  return to - from == value.length ? value : value.substring(from, to);
}

// @ts-ignore: decorator
@inline
function isBlank(unit: i32): bool {
  return unit == 0x20 || unit == 0x09;
}
