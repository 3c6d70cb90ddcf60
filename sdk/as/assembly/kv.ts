import { NONE } from "./sys/http";
import * as sys from "./sys/keyvalue";
import { Malformed, decode, encode } from "./sys/text";
import { Result, failed, ok } from "./result";

/**
 * A key-value store (`wasi:keyvalue`), which the app declares: `kv_stores = ["carts"]` in skerry.toml.
 *
 * ```ts
 * const store = Store.open("carts");
 * if (!store.ok) return Response.failed(store.error!);
 * const cart = store.value.text("ana");
 * ```
 *
 * Keys have 1 to 1024 bytes, values up to 8 MiB, and one request may make 1,000 operations (docs/limits.md). A value that was written is read by this program from
 * then on, by others within moments.
 */
export class Store {
  private constructor(private bucket: i32) {}

  /** Opens a store. Fails when the app declares none of that name. */
  static open(name: string = "default"): Result<Store> {
    const bucket = sys.open(name);
    return bucket == NONE ? failed<Store>(sys.why()!) : ok<Store>(new Store(bucket));
  }

  /** A value, null if there is none. Fails when the store cannot be reached, as every call here does. */
  get(key: string): Result<Uint8Array | null> {
    return made<Uint8Array | null>(sys.get(this.bucket, key));
  }

  /** The same as text. Fails when it is not UTF-8, too. */
  text(key: string): Result<string | null> {
    const value = sys.get(this.bucket, key);
    if (sys.why() !== null) return failed<string | null>(sys.why()!);
    if (value === null) return ok<string | null>(null);
    const text = decode(value, Malformed.Refuse);
    return text === null ? failed<string | null>("the value is not UTF-8") : ok<string | null>(text);
  }

  /** Writes a value, new or over another. */
  set(key: string, value: Uint8Array): Result<bool> {
    sys.set(this.bucket, key, value);
    return made<bool>(true);
  }

  /** The same with text, as UTF-8. */
  setText(key: string, value: string): Result<bool> {
    return this.set(key, encode(value));
  }

  /** Takes an entry out; that there is none is no failure. */
  delete(key: string): Result<bool> {
    sys.remove(this.bucket, key);
    return made<bool>(true);
  }

  /** Is there an entry? */
  has(key: string): Result<bool> {
    return made<bool>(sys.exists(this.bucket, key));
  }

  /** All keys, up to `max` of them; the store's order. A node reads 1,000 at a time. */
  keys(max: i32 = 10_000): Result<string[]> {
    let all: string[] = [], cursor: string | null = null;
    do {
      const page = sys.keys(this.bucket, cursor);
      if (sys.why() !== null) return failed<string[]>(sys.why()!);
      all = all.length ? all.concat(page) : page;
      cursor = sys.nextCursor();
    } while (cursor !== null && all.length < max);
    return ok<string[]>(all.length > max ? all.slice(0, max) : all);
  }

  /**
   * Adds to a number and answers the sum; an entry that is not there counts as 0. Atomic: no other program's adding is
   * lost. Fails when the value is not a number in decimal text, too.
   */
  increment(key: string, by: i64 = 1): Result<i64> {
    return made<i64>(sys.increment(this.bucket, key, by));
  }

  /** An entry as it is now, to be swapped if it is still so. */
  find(key: string): Result<Found> {
    const cas = sys.find(this.bucket, key);
    return cas == NONE ? failed<Found>(sys.why()!) : ok<Found>(new Found(cas));
  }
}

/**
 * An entry as it was found, for a change that must not lose another's:
 *
 * ```ts
 * const found = store.find("list").value;
 * do {
 *   next = changed(found.value().value);
 *   done = found.swap(next);             // false: somebody was faster, and `found` is what there is now
 * } while (done.ok && !done.value);
 * ```
 */
export class Found {
  /** @internal */
  constructor(private cas: i32) {}

  /** The value that was found; null if there was no entry. */
  value(): Result<Uint8Array | null> {
    if (this.cas < 0) return failed<Uint8Array | null>("it was swapped");
    return made<Uint8Array | null>(sys.found(this.cas));
  }

  /**
   * Writes a value if the entry is still as found: true, and this is used up. False: it is not, nothing was written, and
   * this is the entry as it is now.
   */
  swap(value: Uint8Array): Result<bool> {
    if (this.cas < 0) return failed<bool>("it was swapped");
    this.cas = sys.swap(this.cas, value);
    return made<bool>(this.cas == sys.SWAPPED);
  }
}

/** What the last call brought, unless it failed. */
function made<T>(value: T): Result<T> {
  const why = sys.why();
  return why === null ? ok<T>(value) : failed<T>(why);
}
