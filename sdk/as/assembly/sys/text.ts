// Text and its bytes: UTF-16 as the language and the host's border have it, UTF-8 as bodies have it, ISO 8859-1 as header
// values have it.

/**
 * The same text without halves of surrogate pairs, each replaced by U+FFFD. Text for the host must be like that: it
 * traps a program that passes anything else.
 */
export function wellFormed(text: string): string {
  for (let i = 0, length = text.length; i < length; i++) {
    if (isLone(text, i)) return repaired(text);
    if (isHigh(unit(text, i))) i++;
  }
  return text;
}

function repaired(text: string): string {
  const at = __new(<usize>text.length << 1, idof<string>());
  memory.copy(at, changetype<usize>(text), <usize>text.length << 1);
  for (let i = 0, length = text.length; i < length; i++) {
    if (isLone(text, i)) store<u16>(at + (<usize>i << 1), 0xfffd);
    else if (isHigh(unit(text, i))) i++;
  }
  return changetype<string>(at);
}

// @ts-ignore: decorator
@inline
function unit(text: string, i: i32): u32 {
  return load<u16>(changetype<usize>(text) + (<usize>i << 1));
}

// @ts-ignore: decorator
@inline
function isHigh(unit: u32): bool {
  return (unit & 0xfc00) == 0xd800;
}

/** Is the unit at `i` half of a pair without its other half? One that follows a high half is never asked about. */
function isLone(text: string, i: i32): bool {
  const here = unit(text, i);
  if ((here & 0xf800) != 0xd800) return false;
  return !isHigh(here) || i + 1 >= text.length || (unit(text, i + 1) & 0xfc00) != 0xdc00;
}

/** How {@link decode} meets what is not UTF-8. */
export enum Malformed {
  /** The whole text is refused. */
  Refuse,
  /** Each broken sequence becomes U+FFFD. */
  Replace,
}

/** UTF-8 as text (the "UTF-8 decode" of the WHATWG Encoding Standard, without looking for a byte order mark). */
export function decode(bytes: Uint8Array, how: Malformed): string | null {
  const from = bytes.dataStart, length = <usize>bytes.length;
  if (!length) return "";
  const text = __new(length << 1, idof<string>()); // a byte makes one unit at most
  let to = text;
  for (let i: usize = 0; i < length; ) {
    const lead = <u32>load<u8>(from + i++);
    if (lead < 0x80) {
      store<u16>(to, lead);
      to += 2;
      continue;
    }
    // How many bytes follow, and between what the first of them must be: no overlong form, no surrogate, nothing
    // above U+10FFFF.
    let left = 0, code: u32 = 0, low: u32 = 0x80, high: u32 = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
      left = 1;
      code = lead & 0x1f;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      left = 2;
      code = lead & 0x0f;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      left = 3;
      code = lead & 0x07;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    }
    let whole = left > 0;
    while (left > 0) {
      const next = i < length ? <u32>load<u8>(from + i) : 0;
      if (next < low || next > high) {
        whole = false;
        break;
      }
      low = 0x80;
      high = 0xbf;
      code = (code << 6) | (next & 0x3f);
      i++;
      left--;
    }
    if (!whole) {
      if (how == Malformed.Refuse) return null;
      code = 0xfffd;
    }
    if (code >= 0x10000) {
      code -= 0x10000;
      store<u16>(to, 0xd800 | (code >> 10));
      to += 2;
      code = 0xdc00 | (code & 0x3ff);
    }
    store<u16>(to, code);
    to += 2;
  }
  return changetype<string>(__renew(text, to - text));
}

/** Text as UTF-8; halves of surrogate pairs become U+FFFD. */
export function encode(text: string): Uint8Array {
  const length = text.length;
  const bytes = __new(<usize>length * 3, idof<ArrayBuffer>()); // a unit makes three bytes at most, a pair four
  let to = bytes;
  for (let i = 0; i < length; i++) {
    let code = unit(text, i);
    if (code < 0x80) {
      store<u8>(to++, code);
    } else if (code < 0x800) {
      store<u8>(to++, 0xc0 | (code >> 6));
      store<u8>(to++, tail(code));
    } else {
      if (isLone(text, i)) code = 0xfffd;
      if (isHigh(code)) {
        code = 0x10000 + ((code & 0x3ff) << 10) + (unit(text, ++i) & 0x3ff);
        store<u8>(to++, 0xf0 | (code >> 18));
        store<u8>(to++, tail(code >> 12));
      } else {
        store<u8>(to++, 0xe0 | (code >> 12));
      }
      store<u8>(to++, tail(code >> 6));
      store<u8>(to++, tail(code));
    }
  }
  return Uint8Array.wrap(changetype<ArrayBuffer>(__renew(bytes, to - bytes)));
}

/** A byte that follows: the lowest six bits. */
// @ts-ignore: decorator
@inline
function tail(code: u32): u32 {
  return 0x80 | (code & 0x3f);
}

/** Bytes as the text whose units they are (ISO 8859-1): how header values are text and stay what they were. */
export function widen(at: usize, bytes: usize): string {
  if (!bytes) return "";
  const text = __new(bytes << 1, idof<string>());
  for (let i: usize = 0; i < bytes; i++) store<u16>(text + (i << 1), load<u8>(at + i));
  return changetype<string>(text);
}

/** The other way; every unit must be below 256. */
export function narrow(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0, length = text.length; i < length; i++) bytes[i] = <u8>unit(text, i);
  return bytes;
}

/** A text that grows: adding takes time by what is added, not by what is there, as `+=` does. */
export class Builder {
  private room: i32 = 32;
  private units: i32 = 0;
  private at: usize = __new(32 << 1, idof<string>());

  /** Adds one UTF-16 unit. */
  unit(unit: i32): void {
    this.make(1);
    store<u16>(this.at + (<usize>this.units << 1), unit);
    this.units++;
  }

  /** Adds the units of a text from `from` up to, and without, `to`. */
  part(text: string, from: i32, to: i32): void {
    const units = to - from;
    this.make(units);
    memory.copy(this.at + (<usize>this.units << 1), changetype<usize>(text) + (<usize>from << 1), <usize>units << 1);
    this.units += units;
  }

  /** Adds a text. */
  add(text: string): void {
    this.part(text, 0, text.length);
  }

  /** The text. The builder is used up. */
  take(): string {
    return this.units ? changetype<string>(__renew(this.at, <usize>this.units << 1)) : "";
  }

  private make(units: i32): void {
    if (this.units + units <= this.room) return;
    this.room = max(this.room << 1, this.units + units);
    this.at = __renew(this.at, <usize>this.room << 1);
  }
}
