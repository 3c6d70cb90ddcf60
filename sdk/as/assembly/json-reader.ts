// Reads JSON (RFC 8259). Its public face is `Json.parse`.

import { JSON_DEPTH_MAX, Json } from "./json";
import { Result, failed, ok } from "./result";
import { Builder } from "./sys/text";
import { hexDigit, isBetween, isDigit } from "./text";

/** Reads a text once, from its begin to its end. */
export class Reader {
  private at: i32 = 0;
  /** What was wrong first. */
  private wrong: string = "";

  constructor(private text: string) {}

  document(): Result<Json> {
    const json = this.value(0);
    this.blanks();
    if (json !== null && this.at < this.text.length) this.fail("the end");
    if (json === null || this.wrong.length) return failed<Json>(this.wrong);
    return ok<Json>(json);
  }

  private fail(wanted: string): void {
    if (!this.wrong.length) this.wrong = "not JSON: wanted " + wanted + " at character " + this.at.toString();
  }

  private peek(): i32 {
    return this.at < this.text.length ? this.text.charCodeAt(this.at) : -1;
  }

  private take(unit: i32): bool {
    if (this.peek() != unit) return false;
    this.at++;
    return true;
  }

  private blanks(): void {
    while (true) {
      const unit = this.peek();
      if (unit != 0x20 && unit != 0x0a && unit != 0x0d && unit != 0x09) return;
      this.at++;
    }
  }

  private value(depth: i32): Json | null {
    if (depth > JSON_DEPTH_MAX) {
      this.fail("no more than " + JSON_DEPTH_MAX.toString() + " levels");
      return null;
    }
    this.blanks();
    const unit = this.peek();
    if (unit == 0x7b) return this.object(depth);
    if (unit == 0x5b) return this.array(depth);
    if (unit == 0x22) {
      const text = this.string();
      return text === null ? null : Json.string(text);
    }
    if (unit == 0x2d || isDigit(unit)) return this.number();
    if (this.word("true")) return Json.bool(true);
    if (this.word("false")) return Json.bool(false);
    if (this.word("null")) return Json.nil();
    this.fail("a value");
    return null;
  }

  private word(word: string): bool {
    if (this.text.substring(this.at, this.at + word.length) != word) return false;
    this.at += word.length;
    return true;
  }

  private array(depth: i32): Json | null {
    const json = Json.array();
    this.at++;
    this.blanks();
    if (this.take(0x5d)) return json;
    while (true) {
      const item = this.value(depth + 1);
      if (item === null) return null;
      json.push(item);
      this.blanks();
      if (this.take(0x5d)) return json;
      if (!this.take(0x2c)) {
        this.fail("`,` or `]`");
        return null;
      }
    }
  }

  private object(depth: i32): Json | null {
    const json = Json.object();
    this.at++;
    this.blanks();
    if (this.take(0x7d)) return json;
    while (true) {
      this.blanks();
      if (this.peek() != 0x22) {
        this.fail("a name");
        return null;
      }
      const name = this.string();
      if (name === null) return null;
      this.blanks();
      if (!this.take(0x3a)) {
        this.fail("`:`");
        return null;
      }
      const value = this.value(depth + 1);
      if (value === null) return null;
      json.member(name, value);
      this.blanks();
      if (this.take(0x7d)) return json;
      if (!this.take(0x2c)) {
        this.fail("`,` or `}`");
        return null;
      }
    }
  }

  private string(): string | null {
    let from = ++this.at;
    let out: Builder | null = null; // most strings are a part of the text as it is
    while (true) {
      const unit = this.peek();
      if (unit < 0x20) {
        this.fail("a character of a string"); // control characters must be escaped; -1 is the end
        return null;
      }
      if (unit == 0x22) {
        const to = this.at++;
        if (out === null) return this.text.substring(from, to);
        out.part(this.text, from, to);
        return out.take();
      }
      if (unit != 0x5c) {
        this.at++;
        continue;
      }
      if (out === null) out = new Builder();
      out.part(this.text, from, this.at++);
      const escaped = this.escape();
      if (escaped < 0) {
        this.fail("an escape");
        return null;
      }
      out.unit(escaped);
      from = this.at;
    }
  }

  /** The unit that stands behind a backslash; -1 if none does. */
  private escape(): i32 {
    const unit = this.peek();
    this.at++;
    switch (unit) {
      case 0x22:
      case 0x5c:
      case 0x2f:
        return unit;
      case 0x62:
        return 0x08;
      case 0x66:
        return 0x0c;
      case 0x6e:
        return 0x0a;
      case 0x72:
        return 0x0d;
      case 0x74:
        return 0x09;
      case 0x75: {
        let code = 0;
        for (let i = 0; i < 4; i++) {
          const digit = hexDigit(this.peek());
          if (digit < 0) return -1;
          code = (code << 4) | digit;
          this.at++;
        }
        return code;
      }
      default:
        return -1;
    }
  }

  private number(): Json | null {
    const from = this.at;
    const isNegative = this.take(0x2d);
    let whole: i64 = 0, digits = 0;
    if (!this.take(0x30)) {
      if (!isBetween(this.peek(), 0x31, 0x39)) {
        this.fail("a digit");
        return null;
      }
      for (; isDigit(this.peek()); digits++) whole = whole * 10 + (this.text.charCodeAt(this.at++) - 0x30);
    }
    let isWhole = digits <= 15; // below 10^15 every whole number is an f64
    if (this.take(0x2e)) {
      isWhole = false;
      if (!this.digits()) return null;
    }
    if (this.take(0x65) || this.take(0x45)) {
      isWhole = false;
      if (!this.take(0x2b)) this.take(0x2d);
      if (!this.digits()) return null;
    }
    if (!isWhole) return Json.number(parseFloat(this.text.substring(from, this.at)));
    return Json.number(isNegative ? -<f64>whole : <f64>whole);
  }

  private digits(): bool {
    if (!isDigit(this.peek())) {
      this.fail("a digit");
      return false;
    }
    while (isDigit(this.peek())) this.at++;
    return true;
  }
}
