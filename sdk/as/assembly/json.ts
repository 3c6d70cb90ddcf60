import { Builder } from "./sys/memory";
import { Result, failed, ok } from "./result";
import { hexDigit, isBetween, isDigit } from "./text";

/** What a {@link Json} value is. */
export enum JsonKind {
  Null,
  Bool,
  Number,
  String,
  Array,
  Object,
}

/** How deep arrays and objects may stand in one another: reading them takes stack. */
export const JSON_DEPTH_MAX: i32 = 128;

/**
 * A JSON value (RFC 8259).
 *
 * ```ts
 * const made = Json.object().set("name", Json.string("skerry")).set("list", Json.array().push(Json.number(1)));
 * const read = Json.parse('{"a":1}');
 * if (read.ok) read.value.get("a").asNumber();  // 1
 * ```
 *
 * {@link Json.get} and {@link Json.at} answer null (the JSON one) for what is not there, so that a path into a document
 * needs one check at its end.
 */
export class Json {
  private text: string = "";
  private num: f64 = 0;
  /** Elements, or names and values by turns. */
  private names: string[] = NO_NAMES;
  private items: Json[] = NO_ITEMS;

  private constructor(
    /** What it is. */
    readonly kind: JsonKind,
  ) {}

  /** `null`. */
  static nil(): Json {
    return new Json(JsonKind.Null);
  }

  /** `true` or `false`. */
  static bool(value: bool): Json {
    const json = new Json(JsonKind.Bool);
    json.num = value ? 1 : 0;
    return json;
  }

  /** A number; JSON has none for NaN and the infinities, which are written as `null`. */
  static number(value: f64): Json {
    const json = new Json(JsonKind.Number);
    json.num = value;
    return json;
  }

  /** A text. */
  static string(value: string): Json {
    const json = new Json(JsonKind.String);
    json.text = value;
    return json;
  }

  /** `[]`, to be filled by {@link Json.push}. */
  static array(): Json {
    const json = new Json(JsonKind.Array);
    json.items = [];
    return json;
  }

  /** `{}`, to be filled by {@link Json.set}. */
  static object(): Json {
    const json = new Json(JsonKind.Object);
    json.names = [];
    json.items = [];
    return json;
  }

  /**
   * Reads a whole document. Fails, and says at which character, when it is not JSON, when something follows, or when it is
   * deeper than {@link JSON_DEPTH_MAX}. A number is the nearest f64; of members of one name the last counts.
   */
  static parse(text: string): Result<Json> {
    return new Reader(text).document();
  }

  /** Is it `null`, or not there? */
  get isNull(): bool {
    return this.kind == JsonKind.Null;
  }

  /** Is it a number? */
  get isNumber(): bool {
    return this.kind == JsonKind.Number;
  }

  /** Is it a text? */
  get isString(): bool {
    return this.kind == JsonKind.String;
  }

  /** Is it an array? */
  get isArray(): bool {
    return this.kind == JsonKind.Array;
  }

  /** Is it an object? */
  get isObject(): bool {
    return this.kind == JsonKind.Object;
  }

  /** The number; `otherwise` if it is none. */
  asNumber(otherwise: f64 = NaN): f64 {
    return this.kind == JsonKind.Number ? this.num : otherwise;
  }

  /** The text; `otherwise` if it is none. */
  asString(otherwise: string = ""): string {
    return this.kind == JsonKind.String ? this.text : otherwise;
  }

  /** True or false; `otherwise` if it is neither. */
  asBool(otherwise: bool = false): bool {
    return this.kind == JsonKind.Bool ? this.num != 0 : otherwise;
  }

  /** How many elements or members it has; 0 of anything else. */
  get length(): i32 {
    return this.items.length;
  }

  /** The element or member at `index`, from 0; null if there is none. */
  at(index: i32): Json {
    return index >= 0 && index < this.items.length ? this.items[index] : Json.nil();
  }

  /** The name of the member at `index`, from 0; empty if there is none. */
  name(index: i32): string {
    return index >= 0 && index < this.names.length ? this.names[index] : "";
  }

  /** The member of this name; null if there is none. */
  get(name: string): Json {
    const at = this.names.lastIndexOf(name);
    return at < 0 ? Json.nil() : this.items[at];
  }

  /** Has it a member of this name? */
  has(name: string): bool {
    return this.names.includes(name);
  }

  /** Adds an element. Ends the program if it is no array. */
  push(item: Json): this {
    assert(this.kind == JsonKind.Array);
    this.items.push(item);
    return this;
  }

  /** Sets a member. Ends the program if it is no object. */
  set(name: string, value: Json): this {
    assert(this.kind == JsonKind.Object);
    const at = this.names.lastIndexOf(name);
    if (at >= 0) {
      this.items[at] = value;
    } else {
      this.names.push(name);
      this.items.push(value);
    }
    return this;
  }

  /** @internal Adds a member without looking for one of its name. */
  member(name: string, value: Json): void {
    this.names.push(name);
    this.items.push(value);
  }

  /** As it is written, without blanks. */
  toString(): string {
    const text = new Builder();
    this.write(text);
    return text.take();
  }

  private write(to: Builder): void {
    switch (this.kind) {
      case JsonKind.Null:
        to.add("null");
        break;
      case JsonKind.Bool:
        to.add(this.num ? "true" : "false");
        break;
      case JsonKind.Number:
        to.add(numberText(this.num));
        break;
      case JsonKind.String:
        quote(this.text, to);
        break;
      case JsonKind.Array:
        to.add("[");
        for (let i = 0; i < this.items.length; i++) {
          if (i) to.add(",");
          this.items[i].write(to);
        }
        to.add("]");
        break;
      default:
        to.add("{");
        for (let i = 0; i < this.items.length; i++) {
          if (i) to.add(",");
          quote(this.names[i], to);
          to.add(":");
          this.items[i].write(to);
        }
        to.add("}");
    }
  }
}

/** Those of all values that have none. */
// @ts-ignore: decorator
@lazy
const NO_NAMES: string[] = [];
// @ts-ignore: decorator
@lazy
const NO_ITEMS: Json[] = [];

/** Below it every whole number is an f64 of its own. */
const WHOLE_MAX: f64 = 9007199254740992;

function numberText(value: f64): string {
  if (!isFinite(value)) return "null";
  if (value == Math.trunc(value) && Math.abs(value) < WHOLE_MAX) return (<i64>value).toString();
  const text = value.toString();
  return text.endsWith(".0") ? text.substring(0, text.length - 2) : text;
}

function quote(text: string, to: Builder): void {
  let from = 0;
  to.unit(0x22);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0x20 && unit != 0x22 && unit != 0x5c) continue;
    to.part(text, from, i);
    from = i + 1;
    to.unit(0x5c);
    if (unit >= 0x20) {
      to.unit(unit);
    } else if (unit == 0x0a) {
      to.unit(0x6e); // n
    } else if (unit == 0x0d) {
      to.unit(0x72); // r
    } else if (unit == 0x09) {
      to.unit(0x74); // t
    } else {
      to.add("u00");
      to.unit(HEX.charCodeAt(unit >> 4));
      to.unit(HEX.charCodeAt(unit & 15));
    }
  }
  to.part(text, from, text.length);
  to.unit(0x22);
}

// @ts-ignore: decorator
@lazy
const HEX = "0123456789abcdef";

/** Reads a text once, from its begin to its end. */
class Reader {
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
