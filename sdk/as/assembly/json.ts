import { Builder } from "./sys/text";
import { Reader } from "./json-reader";
import { Result } from "./result";

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

/** The document in a text; null (the JSON one) if there is no text, or what it is is not JSON. */
export function jsonOrNil(text: string | null): Json {
  if (text === null) return Json.nil();
  const read = Json.parse(text);
  return read.ok ? read.value : Json.nil();
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
