// Base64url without padding (RFC 4648, section 5).

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/** The bytes; null if the text is something else. */
export function decode(text: string): Uint8Array | null {
  let length = text.length;
  while (length > 0 && text.charAt(length - 1) == "=") length--;
  const bytes = new Uint8Array((length * 3) >> 2);
  let bits: u32 = 0, count = 0, to = 0;
  for (let i = 0; i < length; i++) {
    const value = DIGITS.indexOf(text.charAt(i));
    if (value < 0) return null;
    bits = (bits << 6) | value;
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes[to++] = <u8>(bits >> count);
      bits &= (1 << count) - 1;
    }
  }
  return count < 6 && bits == 0 ? bytes : null; // what is left is less than a digit, and zero
}
