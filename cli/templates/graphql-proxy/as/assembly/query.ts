// As much of the GraphQL language as it takes to say what a query asks for, and how deep.
//
// (https://spec.graphql.org, section 2. Arguments, variables and directives are passed over.)

import { Token, Tokens } from "./tokens";

/** Selections in selections that are read at all, and fragments: parsing them takes stack. */
const NESTING_MAX: i32 = 64;

/** What may be asked for. */
export class Rules {
  constructor(
    /** `query.field`, `mutation.field`; empty: everything. */
    readonly allow: string[],
    /** Fields in fields; `{ a { b } }` has two. */
    readonly depthMax: i32,
  ) {}
}

/** A field, a fragment where it stands (no name) or one that is spread (`...name`). */
class Selection {
  constructor(readonly name: string, readonly isSpread: bool, readonly inner: Selection[]) {}
}

class Operation {
  constructor(readonly kind: string, readonly name: string, readonly selections: Selection[]) {}
}

/** A query document. What is wrong with it stands in `error`. */
export class Document {
  error: string | null = null;
  private operations: Operation[] = [];
  private fragments: Map<string, Selection[]> = new Map<string, Selection[]>();
  private tokens: Tokens;
  /** Of fragments; -1 while one is being looked at. */
  private depths: Map<string, i32> = new Map<string, i32>();

  constructor(text: string) {
    this.tokens = new Tokens(text);
    while (this.error === null && this.tokens.kind != Token.End) this.definition();
  }

  /** Null: the operation that will be run is allowed. Else why it is not. */
  check(name: string | null, rules: Rules): string | null {
    let chosen: Operation | null = null;
    for (let i = 0; i < this.operations.length; i++) {
      if (name !== null && this.operations[i].name != name) continue;
      if (chosen !== null) return "operationName does not name one operation of the query";
      chosen = this.operations[i];
    }
    if (chosen === null) return "operationName does not name one operation of the query";

    const depth = this.depth(chosen.selections);
    if (this.error !== null) return this.error;
    if (depth > rules.depthMax) {
      return "the query is " + depth.toString() + " fields deep, and none may be deeper than " + rules.depthMax.toString();
    }
    const fields: string[] = [];
    this.collect(chosen.selections, fields);
    for (let i = 0; i < fields.length; i++) {
      const field = chosen.kind + "." + fields[i];
      if (rules.allow.length && !rules.allow.includes(field)) return field + " is not allowed";
    }
    return null;
  }

  // -- What an operation reaches, through its fragments, too

  private depth(selections: Selection[]): i32 {
    let deepest = 0;
    for (let i = 0; i < selections.length && this.error === null; i++) {
      const selection = selections[i];
      if (selection.isSpread) deepest = max(deepest, this.fragmentDepth(selection.name));
      else deepest = max(deepest, (selection.name.length ? 1 : 0) + this.depth(selection.inner));
    }
    return deepest;
  }

  /** Each fragment is looked at once, however often it is spread. */
  private fragmentDepth(name: string): i32 {
    if (this.depths.has(name)) {
      if (this.depths.get(name) < 0) this.fail("fragment " + name + " holds itself");
      return this.depths.get(name);
    }
    if (!this.fragments.has(name)) this.fail("there is no fragment " + name);
    else if (this.depths.size >= NESTING_MAX) this.fail("too many fragments");
    if (this.error !== null) return 0;
    this.depths.set(name, -1);
    const depth = this.depth(this.fragments.get(name));
    this.depths.set(name, depth);
    return depth;
  }

  /** The fields at the top. That no fragment holds itself was found out before. */
  private collect(selections: Selection[], to: string[]): void {
    for (let i = 0; i < selections.length; i++) {
      const selection = selections[i];
      if (!selection.isSpread) {
        if (selection.name.length) to.push(selection.name);
        else this.collect(selection.inner, to);
      } else if (this.depths.delete(selection.name)) { // once is enough
        this.collect(this.fragments.get(selection.name), to);
      }
    }
  }

  // -- Reading

  private definition(): void {
    if (this.tokens.skip("{")) {
      this.operations.push(new Operation("query", "", this.selections(1)));
      return;
    }
    const kind = this.tokens.name();
    if (kind === null) return this.fail("not a GraphQL query");
    const name = this.tokens.name();
    this.untilBrace();
    const selections = this.selections(1);
    if (kind == "fragment") {
      if (name === null || this.fragments.has(name)) return this.fail("a fragment without a name of its own");
      this.fragments.set(name, selections);
    } else if (kind == "query" || kind == "mutation" || kind == "subscription") {
      this.operations.push(new Operation(kind, name === null ? "" : name, selections));
    } else {
      this.fail("not a GraphQL query");
    }
  }

  /** What stands behind `{`, up to its `}`. */
  private selections(nesting: i32): Selection[] {
    const selections: Selection[] = [];
    if (nesting > NESTING_MAX) this.fail("the query is nested too deeply");
    while (this.error === null) {
      if (selections.length && this.tokens.skip("}")) break;
      if (this.tokens.skip("...")) {
        selections.push(this.spread(nesting));
        continue;
      }
      let name = this.tokens.name();
      if (name !== null && this.tokens.skip(":")) name = this.tokens.name(); // what stood before was an alias
      if (name === null) {
        this.fail("a selection of fields is not well formed");
        break;
      }
      this.argumentsAndDirectives();
      const inner: Selection[] = this.tokens.skip("{") ? this.selections(nesting + 1) : [];
      selections.push(new Selection(name, false, inner));
    }
    return selections;
  }

  /** Behind `...`. */
  private spread(nesting: i32): Selection {
    if (this.tokens.kind == Token.Name && this.tokens.text != "on") {
      const name = this.tokens.name()!;
      this.argumentsAndDirectives();
      return new Selection(name, true, []);
    }
    this.untilBrace();
    return new Selection("", false, this.selections(nesting + 1));
  }

  /** Passes over everything up to a `{` outside of parentheses, and that. */
  private untilBrace(): void {
    while (this.error === null && !this.tokens.skip("{")) {
      if (this.tokens.skip("(")) this.parentheses();
      else if (this.tokens.isOver || this.tokens.text == "}" || this.tokens.text == "...") {
        this.fail("a selection of fields is missing");
      } else this.tokens.next();
    }
  }

  private argumentsAndDirectives(): void {
    while (this.error === null) {
      if (this.tokens.skip("(")) this.parentheses();
      else if (!this.tokens.skip("@")) return;
      else if (this.tokens.name() === null) this.fail("a directive has no name");
    }
  }

  /** Behind `(`, up to its `)`. Neither stands in a value but in strings, which are tokens of their own. */
  private parentheses(): void {
    while (this.error === null && !this.tokens.skip(")")) {
      if (this.tokens.isOver || this.tokens.text == "(") this.fail("a list of arguments is not well formed");
      else this.tokens.next();
    }
  }

  private fail(why: string): void {
    if (this.error === null) this.error = why;
  }
}
