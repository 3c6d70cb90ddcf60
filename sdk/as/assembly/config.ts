import * as sys from "./sys/config";
import { Result, failed, ok } from "./result";

/**
 * The app's plain configuration (`wasi:config`): `[config]` in skerry.toml, `skerry config set`. It is part of the version
 * and does not change while a request is answered.
 */
export namespace config {
  /**
   * A value; null if there is none. A host that fails to read it is as if there were none: use {@link config.read} where
   * that matters. A node never fails.
   */
  export function get(key: string): string | null {
    return sys.get(key);
  }

  /** The same, or why the host cannot read it. */
  export function read(key: string): Result<string | null> {
    const value = sys.get(key), why = sys.why();
    return why === null ? ok<string | null>(value) : failed<string | null>(why);
  }

  /** Every key and its value by turns, or why the host cannot read them. */
  export function all(): Result<string[]> {
    const list = sys.getAll(), why = sys.why();
    return why === null ? ok<string[]>(list) : failed<string[]>(why);
  }
}
