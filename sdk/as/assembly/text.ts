// Text helpers of this package. The language's own case functions bring tables of all of Unicode, several KiB.

import { Builder } from "./sys/text";

/** A to Z in lower case, the rest as it is. A text without any is given back as it is. */
export function asciiLower(text: string): string {
  let at = 0;
  while (at < text.length && !isBetween(text.charCodeAt(at), 0x41, 0x5a)) at++;
  if (at == text.length) return text;
  const lower = new Builder();
  lower.part(text, 0, at);
  for (; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    lower.unit(isBetween(unit, 0x41, 0x5a) ? unit | 0x20 : unit);
  }
  return lower.take();
}

/** Is it one of these, both ends included? */
// @ts-ignore: decorator
@inline
export function isBetween(unit: i32, low: i32, high: i32): bool {
  return unit >= low && unit <= high;
}

/** Is it 0 to 9? */
// @ts-ignore: decorator
@inline
export function isDigit(unit: i32): bool {
  return isBetween(unit, 0x30, 0x39);
}

/** Value of a hex digit; -1 if it is none. */
export function hexDigit(unit: i32): i32 {
  if (isDigit(unit)) return unit - 0x30;
  const letter = unit | 0x20;
  return isBetween(letter, 0x61, 0x66) ? letter - 0x61 + 10 : -1;
}

/** Text of digits only as a number; -1 if it is something else, empty, or above `max`. */
export function parseDecimal(text: string, max: i32): i32 {
  if (!text.length) return -1;
  let value: i64 = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (!isDigit(unit)) return -1;
    value = value * 10 + (unit - 0x30);
    if (value > max) return -1;
  }
  return <i32>value;
}

/** A number from 0 on in decimal: smaller than what the language has for all numbers. */
export function decimal(value: i64): string {
  let text = "";
  do {
    text = String.fromCharCode(0x30 + <i32>(value % 10)) + text;
    value /= 10;
  } while (value > 0);
  return text;
}
