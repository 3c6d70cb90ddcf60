import { Builder, Malformed, decode, encode } from "./sys/text";
import { asciiLower, hexDigit, isBetween, isDigit, parseDecimal } from "./text";

/**
 * An absolute URL with a host, in its parts (RFC 3986). Parts are as written, percent signs and all, but for scheme and
 * host, which are in lower case.
 *
 * ```ts
 * const url = URL.parse("https://a.example:8443/p?x=1")!;
 * url.port;             // 8443
 * url.queryParams.get("x");  // "1"
 * ```
 */
export class URL {
  private constructor(
    /** `https`, without a colon. */
    public scheme: string,
    /** What stands before `@`, without it; null if nothing does. */
    public userinfo: string | null,
    /** Name or address; that of IPv6 in brackets. */
    public host: string,
    /** 0 to 65535; -1 where the URL has none: see {@link URL.portOrDefault}. */
    public port: i32,
    /** From its first slash on; `/` where the URL has none. */
    public path: string,
    /** What stands behind `?`, without it; null if there is none. */
    public query: string | null,
    /** What stands behind `#`, without it; null if there is none. */
    public fragment: string | null,
  ) {}

  /**
   * Takes a URL apart. Null when it is none: no scheme, no `//` behind it, an empty host, a port above 65535, a space, a
   * control character, two `@`, or anything that is not ASCII (encode that with {@link encodeComponent}).
   */
  static parse(text: string): URL | null {
    for (let i = 0; i < text.length; i++) {
      // Of what RFC 3986 excludes, what browsers and servers read in different ways.
      const unit = text.charCodeAt(i);
      if (unit <= 0x20 || unit >= 0x7f || unit == 0x5c || unit == 0x22 || unit == 0x3c || unit == 0x3e) return null;
    }
    const colon = text.indexOf(":");
    if (!isScheme(text, colon) || text.substring(colon + 1, colon + 3) != "//") return null;

    let end = text.length;
    const hash = text.indexOf("#", colon);
    const fragment: string | null = hash < 0 ? null : text.substring(hash + 1);
    if (hash >= 0) end = hash;
    const mark = text.substring(0, end).indexOf("?", colon);
    const query: string | null = mark < 0 ? null : text.substring(mark + 1, end);
    if (mark >= 0) end = mark;

    const begin = colon + 3;
    const slash = text.substring(0, end).indexOf("/", begin);
    const path = slash < 0 ? "/" : text.substring(slash, end);
    let authority = text.substring(begin, slash < 0 ? end : slash);

    let userinfo: string | null = null;
    const at = authority.indexOf("@");
    if (at >= 0) {
      userinfo = authority.substring(0, at);
      authority = authority.substring(at + 1);
      if (authority.includes("@")) return null; // whose host is it? Others read such a one in different ways
    }

    // The colons within brackets are the address's.
    const bracket = authority.lastIndexOf("]");
    const before = authority.indexOf(":", bracket < 0 ? 0 : bracket);
    const host = before < 0 ? authority : authority.substring(0, before);
    let port = -1;
    if (before >= 0 && before + 1 < authority.length) {
      port = parseDecimal(authority.substring(before + 1), 65535);
      if (port < 0) return null;
    }
    if (!isHost(host)) return null;
    return new URL(asciiLower(text.substring(0, colon)), userinfo, asciiLower(host), port, path, query, fragment);
  }

  /** The port, or the usual one of `http` (80) and `https` (443); -1 where neither is known. */
  get portOrDefault(): i32 {
    if (this.port >= 0) return this.port;
    if (this.scheme == "https") return 443;
    return this.scheme == "http" ? 80 : -1;
  }

  /** Host, and the port where the URL has one: `a.example:8443`. */
  get authority(): string {
    return this.port < 0 ? this.host : this.host + ":" + this.port.toString();
  }

  /** What a request for it asks for: path and query. */
  get pathWithQuery(): string {
    return this.query === null ? this.path : this.path + "?" + this.query!;
  }

  /** The query's parameters, decoded: a copy, which changes nothing here. */
  get queryParams(): QueryParams {
    return QueryParams.parse(this.query);
  }

  /** The whole URL. */
  toString(): string {
    let text = this.scheme + "://";
    if (this.userinfo !== null) text += this.userinfo! + "@";
    text += this.authority + this.pathWithQuery;
    return this.fragment === null ? text : text + "#" + this.fragment!;
  }
}

function isScheme(text: string, length: i32): bool {
  if (length < 1) return false;
  for (let i = 0; i < length; i++) {
    const unit = text.charCodeAt(i);
    const isLetter = isBetween(unit | 0x20, 0x61, 0x7a);
    const mayFollow = isDigit(unit) || unit == 0x2b || unit == 0x2d || unit == 0x2e; // + - .
    if (!isLetter && !(i > 0 && mayFollow)) return false;
  }
  return true;
}

/** A name without the marks that would end it, or an address in brackets. */
function isHost(host: string): bool {
  if (!host.length) return false;
  const inBrackets = host.charCodeAt(0) == 0x5b;
  if (inBrackets && (host.length < 4 || host.charCodeAt(host.length - 1) != 0x5d)) return false;
  for (let i = inBrackets ? 1 : 0, end = inBrackets ? host.length - 1 : host.length; i < end; i++) {
    const unit = host.charCodeAt(i);
    if (inBrackets) {
      if (hexDigit(unit) < 0 && unit != 0x3a && unit != 0x2e) return false; // : .
    } else if (unit == 0x5b || unit == 0x5d || unit == 0x5e || unit == 0x60 || isBetween(unit, 0x7b, 0x7d)) {
      return false; // [ ] ^ ` { | }
    }
  }
  return true;
}

/** Names and values in their order, decoded: those of a query, or of a form (`application/x-www-form-urlencoded`). */
export class QueryParams {
  /** Names and values by turns. */
  private list: string[] = [];

  /**
   * Reads `a=1&b=2`. `+` is a space, `%20` too; what is not UTF-8 when decoded becomes U+FFFD, and a percent sign
   * without two hex digits stays what it is. Null has no parameters.
   */
  static parse(text: string | null): QueryParams {
    const params = new QueryParams();
    if (text === null) return params;
    const pairs = text.split("&");
    for (let i = 0; i < pairs.length; i++) {
      const pair = pairs[i];
      if (!pair.length) continue;
      const sign = pair.indexOf("=");
      const name = sign < 0 ? pair : pair.substring(0, sign);
      params.append(percentDecode(name, true), sign < 0 ? "" : percentDecode(pair.substring(sign + 1), true));
    }
    return params;
  }

  /** How many there are. */
  get length(): i32 {
    return this.list.length >> 1;
  }

  /** The name at `index`, from 0. Ends the program when there is none. */
  name(index: i32): string {
    return this.list[index << 1];
  }

  /** The value at `index`, from 0. Ends the program when there is none. */
  value(index: i32): string {
    return this.list[(index << 1) + 1];
  }

  /** The first value of this name; null if there is none. */
  get(name: string): string | null {
    for (let i = 0; i < this.list.length; i += 2) {
      if (this.list[i] == name) return this.list[i + 1];
    }
    return null;
  }

  /** Each value of this name. */
  getAll(name: string): string[] {
    const found: string[] = [];
    for (let i = 0; i < this.list.length; i += 2) {
      if (this.list[i] == name) found.push(this.list[i + 1]);
    }
    return found;
  }

  /** Is there one of this name? */
  has(name: string): bool {
    return this.get(name) !== null;
  }

  /** Adds one at the end. */
  append(name: string, value: string): this {
    this.list.push(name);
    this.list.push(value);
    return this;
  }

  /** As a query is written, without `?`: `name=Zo%C3%AB%20B`. */
  toString(): string {
    const pairs: string[] = [];
    for (let i = 0; i < this.list.length; i += 2) {
      pairs.push(encodeComponent(this.list[i]) + "=" + encodeComponent(this.list[i + 1]));
    }
    return pairs.join("&");
  }
}

/** A text as one part of a path or query: all but letters, digits and `-._~` as percent signs and hex, in UTF-8. */
export function encodeComponent(text: string): string {
  const bytes = encode(text);
  const out = new Builder();
  for (let i = 0; i < bytes.length; i++) {
    const byte = <i32>bytes[i];
    const isPlain = isBetween(byte | 0x20, 0x61, 0x7a) || isDigit(byte)
      || byte == 0x2d || byte == 0x2e || byte == 0x5f || byte == 0x7e; // - . _ ~
    if (isPlain) {
      out.unit(byte);
    } else {
      out.unit(0x25); // %
      out.unit(HEX.charCodeAt(byte >> 4));
      out.unit(HEX.charCodeAt(byte & 15));
    }
  }
  return out.take();
}

// @ts-ignore: decorator
@lazy
const HEX = "0123456789ABCDEF";

/** The other way. What is not UTF-8 becomes U+FFFD; a percent sign without two hex digits stays what it is. */
export function decodeComponent(text: string): string {
  return percentDecode(text, false);
}

function percentDecode(text: string, plusIsSpace: bool): string {
  if (!text.includes("%") && !(plusIsSpace && text.includes("+"))) return text;
  const bytes = encode(text);
  let to = 0;
  for (let i = 0; i < bytes.length; i++) {
    let byte = <i32>bytes[i];
    if (byte == 0x2b && plusIsSpace) byte = 0x20;
    else if (byte == 0x25 && i + 2 < bytes.length) {
      const high = hexDigit(bytes[i + 1]), low = hexDigit(bytes[i + 2]);
      if (high >= 0 && low >= 0) {
        byte = (high << 4) | low;
        i += 2;
      }
    }
    bytes[to++] = <u8>byte; // never ahead of what is read
  }
  return decode(bytes.subarray(0, to), Malformed.Replace)!;
}
