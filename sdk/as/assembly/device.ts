import * as sys from "./sys/edge";
import { Json, jsonOrNil } from "./json";

/**
 * What a device is (`skerry:edge`): what skerry.toml says of its exact `User-Agent` (`[devices]`).
 *
 * ```ts
 * const agent = request.headers.get("user-agent");
 * const isMobile = agent !== null && device.lookup(agent).get("device").get("is_mobile").asBool();
 * ```
 */
export namespace device {
  /** What is known of it, an object; null (the JSON one) where nothing is. */
  export function lookup(userAgent: string): Json {
    return jsonOrNil(sys.device(userAgent));
  }

  /** The same as it stands there, to be passed on: a program that only does this carries no reader of JSON. */
  export function text(userAgent: string): string | null {
    return sys.device(userAgent);
  }
}
