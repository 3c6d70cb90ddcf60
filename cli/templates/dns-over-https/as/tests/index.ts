// Each function `test_…` is a test: `skerry test`. What is tested here needs no host.

import { Request } from "@skerry/sdk-as";
import { decode } from "../assembly/base64url";
import { handle } from "../assembly/index";
import { Answer, Question, query } from "../assembly/message";

function bytes(list: u8[]): Uint8Array {
  const all = new Uint8Array(list.length);
  all.set(list);
  return all;
}

function answered(records: u8[][], authorities: u8[][]): Uint8Array {
  const asked = query("Example.com", "A")!;
  let message: u8[] = [];
  for (let i = 0; i < asked.length; i++) message.push(asked[i]);
  message[2] = 0x81;
  message[3] = 0x80;
  message[7] = <u8>records.length;
  message[9] = <u8>authorities.length;
  for (let i = 0; i < records.length; i++) message = message.concat(records[i]);
  for (let i = 0; i < authorities.length; i++) message = message.concat(authorities[i]);
  return bytes(message);
}

export function test_an_answer_is_read_and_kept_as_long_as_its_shortest_ttl(): void {
  const cname: u8[] = [0xc0, 12, 0, 5, 0, 1, 0, 0, 1, 0, 0, 6, 3, 0x77, 0x77, 0x77, 0xc0, 12];
  const a: u8[] = [3, 0x77, 0x77, 0x77, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];
  const answer = Answer.of(answered([cname, a], []))!;
  assert(answer.ttl == 60 && answer.status == "NOERROR");
  assert(answer.records.at(0).get("data").asString() == "www.Example.com.");
  assert(answer.records.at(1).toString() == '{"name":"www.Example.com.","type":"A","ttl":60,"data":"192.0.2.7"}');
  assert(answer.question.is(Question.of(query("example.COM.", "a")!).value));
}

export function test_that_there_is_nothing_is_kept_as_long_as_the_zone_says(): void {
  const soa: u8[] = [0xc0, 12, 0, 6, 0, 1, 0, 0, 14, 16, 0, 22, 0, 0];
  for (let i = 0; i < 16; i++) soa.push(1);
  const end: u8[] = [0, 0, 0, 30];
  assert(Answer.of(answered([], [soa.concat(end)]))!.ttl == 30);
  assert(Answer.of(answered([], []))!.ttl == 0);
}

export function test_a_message_cut_short_or_running_in_circles_is_none(): void {
  const a: u8[] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];
  const whole = answered([a], []);
  assert(Answer.of(whole) !== null);
  for (let length = 0; length < whole.length; length++) assert(Answer.of(whole.slice(0, length)) === null);
  const circle: u8[] = [0xc0, 29, 0, 1, 0, 1, 0, 0, 0, 60, 0, 0];
  assert(Answer.of(answered([circle], [])) === null);
}

export function test_only_queries_pass(): void {
  const good = query("a.example", "HTTPS")!;
  assert(Question.of(good).value.type == 65);
  const places: i32[] = [2, 2, 5, 7, 12], values: u8[] = [0x80, 0x10, 2, 1, 64];
  for (let i = 0; i < places.length; i++) {
    const bad = good.slice();
    bad[places[i]] = values[i];
    assert(!Question.of(bad).ok, i.toString());
  }
  assert(query("a..b", "A") === null && query("a", "NONE") === null && query(".", "NS") !== null);
}

export function test_base64url(): void {
  assert(String.UTF8.decode(decode("Zm9v")!.buffer) == "foo");
  assert(decode("-_8")![0] == 0xfb && decode("Zm8=")!.length == 2 && decode("")!.length == 0);
  assert(decode("Z") === null && decode("Zm9+") === null && decode("Zh") === null);
}

export function test_what_is_no_query_is_not_passed_on(): void {
  const at = "https://{{name}}.localhost/dns-query";
  assert(handle(new Request(at)).status == 400);
  assert(handle(new Request(at + "?dns=AAAB")).status == 400);
  assert(handle(new Request(at + "?dns=AACAAAABAAAAAAAAAAABAAE")).status == 400);
  assert(handle(new Request(at + "?dns=" + "A".repeat(2000))).status == 413);
  assert(handle(new Request(at, "POST")).status == 415);
}
