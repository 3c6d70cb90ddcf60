import * as sys from "./sys/edge";

export { Tls } from "./sys/edge";

/** Who the request came from (`skerry:edge`): as the node saw it, not as a field of the request says. */
export namespace client {
  /** The address: IPv4 as four numbers, IPv6 as in RFC 5952. */
  export function address(): string {
    return sys.address();
  }

  /** What its connection agreed on; null over plain HTTP. */
  export function tls(): sys.Tls | null {
    return sys.tls();
  }
}
