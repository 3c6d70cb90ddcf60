import * as sys from "./sys/edge";
import { Result, failed, ok } from "./result";
import { Malformed, decode } from "./sys/text";

/**
 * Secrets of the app (`skerry:edge`): those skerry.toml names, `secrets = ["API_KEY"]`, with the values of
 * `skerry secrets set`. They are part of the version and do not change while a request is answered.
 *
 * ```ts
 * const key = secrets.text("API_KEY");
 * if (!key.ok || key.value === null) return Response.failed("no API_KEY");
 * ask.headers.set("authorization", "Bearer " + key.value!);
 * ```
 *
 * Do not log them.
 */
export namespace secrets {
  /**
   * The bytes of a secret; null if there is none. `store` is one of `[secret_stores]`, null the default one. Fails when
   * the app has no such store; the default one it always has.
   */
  export function get(name: string, store: string | null = null): Result<Uint8Array | null> {
    const value = sys.secret(store, name), why = sys.why();
    return why === null ? ok<Uint8Array | null>(value) : failed<Uint8Array | null>(why);
  }

  /** The same as text. Fails when it is not UTF-8, too. */
  export function text(name: string, store: string | null = null): Result<string | null> {
    const value = sys.secret(store, name), why = sys.why();
    if (why !== null) return failed<string | null>(why);
    if (value === null) return ok<string | null>(null);
    const text = decode(value, Malformed.Refuse);
    return text === null ? failed<string | null>("the secret is not UTF-8") : ok<string | null>(text);
  }
}
