import * as sys from "./sys/edge";
import { Json, jsonOrNil } from "./json";

/**
 * Where an address is (`skerry:edge`): what skerry.toml says of it (`[geo]`), else the database of the node's operator.
 *
 * ```ts
 * const city = geo.lookup(client.address()).get("city").asString("somewhere");
 * ```
 */
export namespace geo {
  /** What is known of an address, an object; null (the JSON one) where nothing is, or where it is no address. */
  export function lookup(address: string): Json {
    return jsonOrNil(sys.place(address));
  }

  /** The same as JSON text, to be passed on: a program that only does this carries no reader of JSON. */
  export function text(address: string): string | null {
    return sys.place(address);
  }
}
