// The words of the GraphQL language.

export enum Token {
  Name,
  /** A character of its own: braces, parentheses, colons, …, or `...` */
  Mark,
  /** A number or a string: what it says is not looked at. */
  Value,
  End,
  /** Something that has no place in a query. */
  Wrong,
}

const QUOTES = '"""';

/** Goes through a text. `kind` and `text` are those of the token that comes next; `text` of names and marks only. */
export class Tokens {
  kind: Token = Token.End;
  text: string = "";
  private at: i32 = 0;

  constructor(private all: string) {
    this.next();
  }

  /** Does nothing come that could be read? */
  get isOver(): bool {
    return this.kind == Token.End || this.kind == Token.Wrong;
  }

  /** Goes on if this mark comes. */
  skip(mark: string): bool {
    if (this.kind != Token.Mark || this.text != mark) return false;
    this.next();
    return true;
  }

  /** The name that comes, and goes on; null if none does. */
  name(): string | null {
    if (this.kind != Token.Name) return null;
    const name = this.text;
    this.next();
    return name;
  }

  /** Goes on. */
  next(): void {
    this.text = "";
    this.skipBlanks();
    if (this.at >= this.all.length) {
      this.kind = Token.End;
      return;
    }
    const from = this.at, first = this.all.charAt(from);
    if (first == '"') {
      this.kind = this.string() ? Token.Value : Token.Wrong;
    } else if (isWordCharacter(this.all.charCodeAt(from)) || first == "-") {
      const isName = !(first >= "0" && first <= "9") && first != "-";
      this.kind = isName ? Token.Name : Token.Value;
      this.at++;
      while (this.at < this.all.length && this.isInWord(isName)) this.at++;
      if (isName) this.text = this.all.substring(from, this.at);
    } else if (this.all.startsWith("...", from)) {
      this.mark("...");
    } else if ("!$&():=@[]{|}".includes(first)) {
      this.mark(first);
    } else {
      this.kind = Token.Wrong;
    }
  }

  private mark(text: string): void {
    this.kind = Token.Mark;
    this.text = text;
    this.at += text.length;
  }

  private isInWord(isName: bool): bool {
    const unit = this.all.charCodeAt(this.at);
    return isWordCharacter(unit) || (!isName && (unit == 0x2e || unit == 0x2b || unit == 0x2d)); // . + -
  }

  private skipBlanks(): void {
    for (; this.at < this.all.length; this.at++) {
      const unit = this.all.charCodeAt(this.at);
      if (unit == 0x23) { // a comment
        while (this.at < this.all.length && !isLineEnd(this.all.charCodeAt(this.at))) this.at++;
      } else if (unit != 0x20 && unit != 0x09 && unit != 0x2c && unit != 0xfeff && !isLineEnd(unit)) {
        return;
      }
    }
  }

  /** Goes behind a string; false if it has no end. */
  private string(): bool {
    if (this.all.startsWith(QUOTES, this.at)) {
      let end = this.all.indexOf(QUOTES, this.at + 3);
      while (end >= 0 && this.all.charAt(end - 1) == "\\") end = this.all.indexOf(QUOTES, end + 3); // `\"""`
      this.at = end + 3;
      return end >= 0;
    }
    for (this.at++; this.at < this.all.length; this.at++) {
      const unit = this.all.charCodeAt(this.at);
      if (isLineEnd(unit)) return false;
      if (unit == 0x5c) this.at++; // \
      else if (unit == 0x22) {
        this.at++;
        return true;
      }
    }
    return false;
  }
}

function isWordCharacter(unit: i32): bool {
  const letter = unit | 0x20;
  return (letter >= 0x61 && letter <= 0x7a) || (unit >= 0x30 && unit <= 0x39) || unit == 0x5f;
}

function isLineEnd(unit: i32): bool {
  return unit == 0x0a || unit == 0x0d;
}
