// `skerry:edge`: what a node knows and WASI has no interface for.

import { RESULT, addressOf, optionalBytesAt, optionalTextAt, textAt } from "./memory";
import { wellFormed } from "./text";

@external("skerry:edge/client@0.1.0", "address")
declare function clientAddress(result: usize): void;
@external("skerry:edge/client@0.1.0", "tls")
declare function clientTls(result: usize): void;
@external("skerry:edge/geo@0.1.0", "lookup")
declare function geoLookup(address: usize, units: usize, result: usize): void;
@external("skerry:edge/device@0.1.0", "lookup")
declare function deviceLookup(userAgent: usize, units: usize, result: usize): void;
@external("skerry:edge/secrets@0.1.0", "get")
declare function secretsGet(
  hasStore: i32, store: usize, storeUnits: usize, name: usize, nameUnits: usize, result: usize,
): void;

/** What a client's connection agreed on. */
export class Tls {
  /** @internal */
  constructor(
    /** `TLSv1.2` or `TLSv1.3`. */
    readonly version: string,
    /** The cipher by its OpenSSL name; null where the protocol does not tell (HTTP/3). */
    readonly cipher: string | null,
    /** The name the client asked a certificate for; null if it named none. */
    readonly serverName: string | null,
  ) {}
}

/** Where the request came from. */
export function address(): string {
  clientAddress(RESULT);
  return textAt(load<u32>(RESULT), load<u32>(RESULT, 4));
}

/** Null over plain HTTP. */
export function tls(): Tls | null {
  clientTls(RESULT);
  if (!load<u8>(RESULT)) return null;
  // A text takes 8 bytes, an optional one 12.
  const version = textAt(load<u32>(RESULT, 4), load<u32>(RESULT, 8));
  return new Tls(version, optionalTextAt(RESULT + 12), optionalTextAt(RESULT + 24));
}

/** JSON text. */
export function place(address: string): string | null {
  address = wellFormed(address);
  geoLookup(addressOf(address), address.length, RESULT);
  return optionalTextAt(RESULT);
}

/** JSON text. */
export function device(userAgent: string): string | null {
  userAgent = wellFormed(userAgent);
  deviceLookup(addressOf(userAgent), userAgent.length, RESULT);
  return optionalTextAt(RESULT);
}

/** Why the last {@link secret} failed; null if it did not. */
// @ts-ignore: decorator
@lazy
let reason: string | null = null;

export function why(): string | null {
  return reason;
}

/** A secret of a store, null is the default one. Null: there is none, or {@link why}. */
export function secret(store: string | null, name: string): Uint8Array | null {
  const from = wellFormed(store !== null ? store : "");
  name = wellFormed(name);
  secretsGet(i32(store !== null), addressOf(from), from.length, addressOf(name), name.length, RESULT);
  reason = load<u8>(RESULT) ? "no such store" : null; // the only error there is
  return reason === null ? optionalBytesAt(RESULT + 4) : null;
}
