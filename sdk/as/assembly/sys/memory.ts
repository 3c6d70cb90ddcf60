// The program's memory as the host sees it: where results go, what the host may allocate, text and bytes at an address.
//
// `sys/` is the only room with addresses. A type is passed in its flat form: handles, numbers and tags are values, texts
// and lists are an address and a length, and a result of more than one value is written to RESULT. Text is UTF-16,
// AssemblyScript's own, so nothing is converted here: the host does it when it copies.

/**
 * Where results are written. The largest is that of `future-incoming-response.get`, 56 bytes: three nested tags of 8, and
 * an error code (a tag of 8 and at most 24 bytes behind it).
 */
export const RESULT: usize = memory.data(64, 8);

/** Bytes of memory lent to the host for its next allocation, by {@link lend}. */
let lent: usize = 0;
let lentBytes: usize = 0;

/**
 * What the host allocates for a result in this memory.
 *
 * Each allocation is made as an object of the language, with its header before it, so that {@link textAt} and
 * {@link bytesAt} can hand it out as it is.
 */
export function cabi_realloc(old: usize, oldBytes: usize, align: usize, bytes: usize): usize {
  if (old) return __renew(old, bytes); // only texts shrink, and those are never lent
  if (lent && bytes <= lentBytes) {
    const at = lent;
    lent = 0;
    return at;
  }
  return __new(bytes, idof<ArrayBuffer>());
}

/** The host's next allocation of at most this size goes there: reading the pieces of a body takes no new memory. */
export function lend(at: usize, bytes: usize): void {
  lent = at;
  lentBytes = bytes;
}

/** Ends a loan that was not made use of. */
export function unlend(): void {
  lent = 0;
}

/** A text the host allocated, `units` long. */
export function textAt(at: usize, units: usize): string {
  return units ? changetype<string>(object(at, units << 1, idof<string>())) : "";
}

/** A list of bytes the host allocated. */
export function bytesAt(at: usize, bytes: usize): Uint8Array {
  if (!bytes) return new Uint8Array(0);
  return Uint8Array.wrap(changetype<ArrayBuffer>(object(at, bytes, idof<ArrayBuffer>())));
}

/** Writes what kind of object this is, and its length, into the header that `cabi_realloc` left room for. */
function object(at: usize, bytes: usize, id: u32): usize {
  store<u32>(at - 8, id);
  store<u32>(at - 4, <u32>bytes);
  return at;
}

/** The text of an `option<string>` at this address. */
export function optionalTextAt(at: usize): string | null {
  return load<u8>(at) ? textAt(load<u32>(at, 4), load<u32>(at, 8)) : null;
}

/** The bytes of an `option<list<u8>>` at this address. */
export function optionalBytesAt(at: usize): Uint8Array | null {
  return load<u8>(at) ? bytesAt(load<u32>(at, 4), load<u32>(at, 8)) : null;
}

/** Address of a text's units. It must be well formed: see `wellFormed`. */
// @ts-ignore: decorator
@inline
export function addressOf(text: string): usize {
  return changetype<usize>(text);
}
