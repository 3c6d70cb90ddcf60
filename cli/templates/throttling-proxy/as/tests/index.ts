// Each function `test_…` is a test: `skerry test`. What is tested here needs no host.

import { Bucket, network, numberOf } from "../assembly/bucket";

export function test_a_bucket_empties_and_fills_up_again(): void {
  const bucket = new Bucket(3, 3000);
  let state = "";
  for (let left = 2; left >= 0; left--) {
    const taken = bucket.take(state, 10000);
    assert(taken.waitMs == 0 && taken.left == left);
    state = taken.fullAt.toString();
  }
  assert(bucket.take(state, 10200).waitMs == 800);
  const later = bucket.take(state, 11000);
  assert(later.waitMs == 0 && later.left == 0);
  assert(bucket.take(state, 60000).left == 2);
}

export function test_a_state_of_another_limit_locks_nobody_out_for_long(): void {
  assert(new Bucket(1, 1000).take("99999999999999", 5000).waitMs == 1000);
  assert(new Bucket(1, 1000).take("x", 5000).waitMs == 0);
}

export function test_addresses(): void {
  assert(network("192.0.2.7") == "192.0.2.7");
  assert(network("::ffff:192.0.2.7") == "192.0.2.7");
  assert(network("2001:db8:1:2:3::4") == "2001:db8:1:2::/64");
  assert(network("2001:db8::4") == "2001:db8:0:0::/64");
  assert(network("1::3:4:5:6:7:8") == "1:0:3:4::/64");
  assert(network("::1") == "0:0:0:0::/64");
}

export function test_numbers(): void {
  assert(numberOf("60") == 60);
  assert(numberOf(null) == 0 && numberOf("") == 0 && numberOf("6x") == 0 && numberOf("-1") == 0);
}
