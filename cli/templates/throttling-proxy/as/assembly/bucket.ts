// A bucket of requests that fills up again steadily, kept as one number: when it will be full.
//
// (The generic cell rate algorithm: no counter to reset, and no burst of twice the limit where two windows meet.)

/** How many requests fit, and how long an empty bucket takes to be full, in ms. */
export class Bucket {
  constructor(private requests: i64, private fullMs: i64) {}

  /** Takes one request. `state` is the time, in ms, when the bucket is full; a new client's is. */
  take(state: string, now: i64): Taken {
    const kept = numberOf(state);
    // One that says it is full in days was kept under another limit.
    const fullAt = min(max(kept, now), now + this.fullMs);
    const one = max<i64>(this.fullMs / this.requests, 1);
    const next = fullAt + one;
    if (next > now + this.fullMs) return Taken.no(next - now - this.fullMs);
    return Taken.yes(next, (now + this.fullMs - next) / one);
  }
}

/** What came of taking a request. */
export class Taken {
  private constructor(
    /** The bucket's next state. */
    readonly fullAt: i64,
    /** So many requests are left. */
    readonly left: i64,
    /** There was none; there is one after so long. 0: there was one. */
    readonly waitMs: i64,
  ) {}

  static yes(fullAt: i64, left: i64): Taken {
    return new Taken(fullAt, left, 0);
  }

  static no(waitMs: i64): Taken {
    return new Taken(0, 0, waitMs);
  }
}

/** A whole number from 0 to 10^17; 0 if it is none. */
export function numberOf(text: string | null): i64 {
  if (text === null || !text.length || text.length > 17) return 0;
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) < 0x30 || text.charCodeAt(i) > 0x39) return 0;
  }
  return I64.parseInt(text);
}

/** An address of IPv4, or what of one of IPv6 belongs to one customer: who has one address there has 2^64. */
export function network(address: string): string {
  if (!address.includes(":")) return address;
  if (address.startsWith("::ffff:") && address.includes(".")) return address.substring(7);
  const halves = address.split("::"); // `::` stands for as many zeros as are missing
  let groups = halves[0].length ? halves[0].split(":") : [];
  const last = halves.length > 1 && halves[1].length ? halves[1].split(":") : [];
  for (let zeros = 8 - groups.length - last.length; zeros > 0; zeros--) groups.push("0");
  groups = groups.concat(last);
  return groups.slice(0, 4).join(":") + "::/64";
}
