/**
 * What came of something that can fail: a value, or why there is none.
 *
 * The language has no exceptions to catch: `throw` ends the program, and the client gets a 500. So a failure is a value.
 *
 * ```ts
 * const got = fetch(new Request("https://api.example/"));
 * if (!got.ok) return Response.text("cannot: " + got.error!, 502);
 * return got.value;
 * ```
 */
export class Result<T> {
  /** @internal Use {@link ok} and {@link failed}. */
  constructor(private slot: T, readonly error: string | null) {}

  /** Is there a value? */
  get ok(): bool {
    return this.error === null;
  }

  /** The value. The program ends here (a 500) if there is none: ask {@link Result.ok} first. */
  get value(): T {
    if (this.error !== null) throw new Error("Result.value of a failure");
    return this.slot;
  }
}

/** A value. */
export function ok<T>(value: T): Result<T> {
  return new Result<T>(value, null);
}

/** Why there is no value, in words for a log. */
export function failed<T>(why: string): Result<T> {
  return new Result<T>(nothing<T>(), why);
}

function nothing<T>(): T {
  if (isReference<T>()) return changetype<T>(0); // never handed out
  return <T>0;
}
