import { environment as all } from "./sys/environment";

/**
 * Who and where this program is (`wasi:cli/environment`). A node has `SKERRY_TENANT`, `SKERRY_APP`, `SKERRY_VERSION`,
 * `SKERRY_REQUEST_ID`, `SKERRY_NODE` and `SKERRY_POP`.
 */
export namespace environment {
  /** A variable's value; null if there is none. */
  export function get(name: string): string | null {
    const list = all();
    for (let i = 0; i < list.length; i += 2) if (list[i] == name) return list[i + 1];
    return null;
  }
}
