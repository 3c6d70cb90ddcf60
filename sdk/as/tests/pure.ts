// What needs no host: URL, query, JSON, fields, router, text. Each exported function is a test; `run.mjs` calls them.

import {
  Headers, Json, Next, QueryParams, Request, Response, Router, URL, decodeComponent, encodeComponent,
} from "../assembly/index";
import { jsonOrNil } from "../assembly/json";
import { cabi_realloc, lend, textAt } from "../assembly/sys/memory";
import { Malformed, decode, encode, narrow, wellFormed, widen } from "../assembly/sys/text";
import { decimal, parseDecimal } from "../assembly/text";

function same(is: string | null, wanted: string | null): void {
  assert(is == wanted, "is " + shown(is) + ", wanted " + shown(wanted));
}

function shown(text: string | null): string {
  return text === null ? "null" : "`" + text + "`";
}

function bytes(list: u8[]): Uint8Array {
  const all = new Uint8Array(list.length);
  for (let i = 0; i < list.length; i++) all[i] = list[i];
  return all;
}

// -- URL

export function test_url_has_its_parts(): void {
  const url = URL.parse("HTTPS://u:p@A.Example:8443/p/q?x=1&x=2#f?g")!;
  same(url.scheme, "https");
  same(url.userinfo, "u:p");
  same(url.host, "a.example");
  assert(url.port == 8443);
  same(url.path, "/p/q");
  same(url.query, "x=1&x=2");
  same(url.fragment, "f?g");
  same(url.authority, "a.example:8443");
  same(url.pathWithQuery, "/p/q?x=1&x=2");
  same(url.toString(), "https://u:p@a.example:8443/p/q?x=1&x=2#f?g");
  same(url.queryParams.getAll("x").join(), "1,2");
}

export function test_url_parts_may_be_absent(): void {
  const url = URL.parse("http://a")!;
  same(url.path, "/");
  same(url.query, null);
  same(url.fragment, null);
  same(url.userinfo, null);
  assert(url.port == -1 && url.portOrDefault == 80);
  assert(URL.parse("https://a:")!.portOrDefault == 443);
  same(URL.parse("https://a?q")!.query, "q");
  same(URL.parse("https://a?q/r")!.path, "/");
  same(URL.parse("https://a#f?x/y")!.query, null);
  same(URL.parse("https://[::1]:81/x")!.host, "[::1]");
  assert(URL.parse("https://[::1]:81/x")!.port == 81 && URL.parse("https://[2001:db8::2]/")!.port == -1);
}

export function test_url_refuses_what_is_none(): void {
  const bad = [
    "", "a", "/a", "//a/b", "https:/a", "https://", "https:///x", "https://:80/", "1http://a", "ht tp://a", "https://a b/",
    "https://a/\n", "https://a:65536/", "https://a:-1/", "https://a:8x/", "https://[::1/", "https://]/", "https://a\\b/",
    "https://[g]/", "https://ü/", "https://a/<", "://a", "https://a@b@c/",
  ];
  for (let i = 0; i < bad.length; i++) assert(URL.parse(bad[i]) === null, bad[i]);
}

export function test_url_query_is_decoded(): void {
  const params = QueryParams.parse("name=Zo%C3%AB+B&name=second&&flag&=x&bad=%zz%4&cut=%ff%e2%82");
  same(params.getAll("name").join("|"), "Zoë B|second");
  same(params.get("flag"), "");
  same(params.get(""), "x");
  same(params.get("bad"), "%zz%4");
  same(params.get("cut"), "��");
  same(params.get("none"), null);
  assert(params.length == 6 && params.has("flag") && !params.has("none"));
  assert(QueryParams.parse(null).length == 0 && QueryParams.parse("").length == 0);
}

export function test_url_components_go_there_and_back(): void {
  same(encodeComponent("Zoë & 𝄞/-._~"), "Zo%C3%AB%20%26%20%F0%9D%84%9E%2F-._~");
  same(decodeComponent("Zo%C3%AB%20%26%20%f0%9d%84%9e%2F+"), "Zoë & 𝄞/+");
  same(new QueryParams().append("a b", "ü=1").append("c", "").toString(), "a%20b=%C3%BC%3D1&c=");
}

// -- JSON

function reparsed(text: string): string {
  const json = Json.parse(text);
  return json.ok ? json.value.toString() : json.error!;
}

export function test_json_is_written_as_it_was_read(): void {
  const texts = [
    '{"name":"skerry","n":3,"list":[1,2],"nothing":null}', "[]", "{}", '""', "true", "false", "null", "0", "-7", "1.5",
    '[[[{"a":[]}]]]', '"\\"\\\\\\n\\r\\t\\u0000\\u001f"', '"ü𝄞"', "123456789012345", "9007199254740991",
  ];
  for (let i = 0; i < texts.length; i++) same(reparsed(texts[i]), texts[i]);
  same(reparsed(' \n[ 1 , { "a" : 2.50 } ]\t'), '[1,{"a":2.5}]');
  same(reparsed('"\\/\\b\\f\\u00fc\\uD834\\udd1e"'), '"/\\u0008\\u000cü𝄞"');
  same(reparsed("1e3"), "1000");
  same(reparsed("-0.25E-1"), "-0.025");
  same(Json.number(NaN).toString() + Json.number(-Infinity).toString(), "nullnull");
}

export function test_json_refuses_what_is_none(): void {
  const bad = [
    "", " ", "nul", "truex", "[1,]", "[1 2]", "{", '{"a"}', '{"a":}', '{"a":1,}', "{a:1}", "'a'", '"a', '"\n"', '"\\x"',
    '"\\u12g4"', "01", "-", "1.", ".5", "1e", "+1", "1 2", "[", "]", "NaN", '"\\', "\u{feff}1",
  ];
  for (let i = 0; i < bad.length; i++) assert(!Json.parse(bad[i]).ok, bad[i]);
  same(reparsed('{"a":1'), "not JSON: wanted `,` or `}` at character 6");
}

export function test_json_has_a_depth(): void {
  assert(Json.parse("[".repeat(128) + "]".repeat(128)).ok);
  assert(!Json.parse("[".repeat(1_000_000)).ok);
}

export function test_json_is_asked_without_checks_between(): void {
  const json = Json.parse('{"a":{"b":[1,"x",true]},"a":{"b":[2]}}').value;
  assert(json.get("a").get("b").at(0).asNumber() == 2); // the last of a name
  assert(json.at(0).get("b").at(2).asBool());
  same(json.at(0).get("b").at(1).asString(), "x");
  same(json.name(1), "a");
  assert(json.get("none").at(7).get("x").isNull && isNaN(json.get("none").asNumber()));
  assert(json.length == 2 && json.has("a") && !json.has("b"));
  same(Json.object().set("a", Json.nil()).set("a", Json.bool(true)).toString(), '{"a":true}');
}

export function test_json_that_is_not_there_or_is_none_is_null(): void {
  assert(jsonOrNil('{"a":1}').get("a").asNumber() == 1);
  assert(jsonOrNil(null).isNull && jsonOrNil("").isNull && jsonOrNil('{"a":1').isNull);
}

export function test_json_of_many_escapes_takes_memory_by_its_length(): void {
  // By concatenation it would be gigabytes.
  const json = Json.parse('"' + "\\n".repeat(200_000) + '"');
  assert(json.ok && json.value.asString().length == 200_000 && json.value.toString().length == 400_002);
}

// -- Headers

export function test_headers_are_found_in_any_case(): void {
  const headers = new Headers();
  assert(headers.append("X-One", "a") && headers.append("x-one", " b\t") && headers.set("Content-Type", "text/plain"));
  same(headers.get("X-ONE"), "a, b");
  same(headers.getAll("x-One").join("|"), "a|b");
  same(headers.name(2), "content-type");
  same(headers.value(1), "b");
  assert(headers.length == 3 && headers.has("content-TYPE") && !headers.has("x-two") && headers.get("x-two") === null);
  const copy = headers.clone();
  headers.set("x-one", "c");
  same(headers.getAll("x-one").join("|"), "c");
  headers.delete("X-One");
  assert(headers.length == 1 && copy.length == 3);
}

export function test_headers_refuse_what_is_no_field(): void {
  const headers = new Headers();
  const names = ["", "a b", "a:", "ä", "a\n", "(a)"];
  for (let i = 0; i < names.length; i++) assert(!headers.set(names[i], "x") && !headers.append(names[i], "x"), names[i]);
  const values = ["a\r\nb", "a\nb", "\0", "a\x7fb", "a\x01", "€"];
  for (let i = 0; i < values.length; i++) assert(!headers.set("x", values[i]) && !headers.append("x", values[i]), values[i]);
  assert(headers.length == 0 && headers.set("!#$%&'*+-.^_`|~09az", "") && headers.set("x", "a\tb ü"));
}

// -- Router

let seen = "";

function named(name: string, request: Request): Response {
  return Response.text(name + " " + request.param("id") + request.param("rest"));
}

const router = new Router()
  .use("/", (request: Request, next: Next): Response => {
    seen += "1";
    const response = next.run(request);
    seen += "4";
    return response;
  })
  .use("/in", (request: Request, next: Next): Response => {
    seen += "2";
    return request.path == "/in/closed" ? new Response(403) : next.run(request);
  })
  .get("/", (request: Request): Response => new Response(210))
  .get("/users/me", (request: Request): Response => new Response(211))
  .get("/users/:id", (request: Request): Response => new Response(request.param("id").length ? 212 : 500))
  .put("/users/:id", (request: Request): Response => new Response(213))
  .get("/users/:id/posts/:post", (request: Request): Response => {
    same(request.param("id"), "4/2");
    same(request.param("post"), "a b");
    same(request.param("none"), "");
    return new Response(214);
  })
  .get("/files/*rest", (request: Request): Response => {
    same(request.param("rest"), request.path == "/files/" ? "" : "a/b c/d");
    return new Response(215);
  })
  .any("/any", (request: Request): Response => new Response(216))
  .get("/in/open", (request: Request): Response => new Response(217));

function asked(method: string, target: string): Response {
  return router.handle(new Request("https://a" + target, method));
}

export function test_router_finds_the_first_that_fits(): void {
  assert(asked("GET", "/").status == 210);
  assert(asked("GET", "/?x=/users/me").status == 210);
  assert(asked("GET", "/users/me").status == 211);
  assert(asked("GET", "/users/7?x").status == 212);
  assert(asked("HEAD", "/users/7").status == 212);
  assert(asked("PUT", "/users/me").status == 213);
  assert(asked("GET", "/users/4%2f2/posts/a%20b").status == 214);
  assert(asked("GET", "/files/a/b%20c/d").status == 215);
  assert(asked("GET", "/files/").status == 215);
  assert(asked("BREW", "/any").status == 216);
}

export function test_router_says_what_is_not_there(): void {
  const paths = ["/users", "/users/", "/users/7/", "/users/7/posts", "/users//posts/1", "/files", "/Any", "/any/", "/%61ny"];
  for (let i = 0; i < paths.length; i++) assert(asked("GET", paths[i]).status == 404, paths[i]);
}

export function test_router_names_the_methods_there_are(): void {
  const response = asked("POST", "/users/me");
  assert(response.status == 405);
  same(response.headers.get("allow"), "GET, HEAD, PUT");
}

export function test_router_middleware_stands_around(): void {
  seen = "";
  assert(asked("GET", "/in/open").status == 217);
  same(seen, "124");
  assert(asked("GET", "/in/closed").status == 403 && asked("GET", "/in").status == 404);
  seen = "";
  asked("GET", "/inside");
  same(seen, "14");
}

// -- text and memory

export function test_text_is_decoded_as_the_standard_says(): void {
  same(decode(bytes([]), Malformed.Refuse), "");
  same(decode(encode("aü€𝄞\0"), Malformed.Refuse), "aü€𝄞\0");
  const bad: u8[][] = [
    [0x80], [0xc0, 0x80], [0xc1, 0xbf], [0xe0, 0x9f, 0xbf], [0xed, 0xa0, 0x80], [0xf0, 0x8f, 0xbf, 0xbf], [0xf4, 0x90, 0x80, 0x80],
    [0xf5], [0xff], [0xc3], [0xe2, 0x82], [0xf0, 0x9d, 0x84],
  ];
  for (let i = 0; i < bad.length; i++) assert(decode(bytes(bad[i]), Malformed.Refuse) === null, i.toString());
  // One for each broken sequence, as long as it could have been right (W3C: "maximal subpart").
  same(decode(bytes([0x61, 0xf0, 0x9d, 0x84, 0x62, 0xc0, 0x80]), Malformed.Replace), "a�b��");
  same(decode(bytes([0xe2, 0x82, 0xe2, 0x82, 0xac]), Malformed.Replace), "�€");
}

export function test_text_for_the_host_is_well_formed(): void {
  const right = "a𝄞b";
  assert(changetype<usize>(wellFormed(right)) == changetype<usize>(right));
  same(wellFormed("a" + String.fromCharCode(0xd834)), "a�");
  same(wellFormed(String.fromCharCode(0xdd1e) + "a"), "�a");
  same(wellFormed(String.fromCharCode(0xd834) + right), "�" + right);
  same(decode(encode(String.fromCharCode(0xd834)), Malformed.Refuse), "�");
}

export function test_text_of_header_values_keeps_every_byte(): void {
  const all = new Uint8Array(256);
  for (let i = 0; i < 256; i++) all[i] = <u8>i;
  const back = narrow(widen(all.dataStart, all.length));
  for (let i = 0; i < 256; i++) assert(back[i] == i);
}

export function test_text_numbers(): void {
  same(decimal(0) + " " + decimal(7) + " " + decimal(1234567890123), "0 7 1234567890123");
  assert(parseDecimal("65535", 65535) == 65535 && parseDecimal("0", 9) == 0);
  assert(parseDecimal("65536", 65535) < 0 && parseDecimal("", 9) < 0 && parseDecimal("-1", 9) < 0);
  assert(parseDecimal("99999999999999999999999999", i32.MAX_VALUE) < 0);
}

export function test_memory_the_host_allocates_becomes_text(): void {
  // As wasmtime does: as much as it could be, then as much as it is.
  let at = cabi_realloc(0, 0, 2, 20);
  store<u16>(at, 0x61);
  store<u16>(at + 2, 0xfc);
  at = cabi_realloc(at, 20, 2, 4);
  same(textAt(at, 2), "aü");
  same(textAt(1, 0), "");
}

export function test_memory_is_lent_once_and_only_where_it_is_enough(): void {
  const piece = new Uint8Array(16);
  lend(piece.dataStart, 16);
  assert(cabi_realloc(0, 0, 1, 16) == piece.dataStart && cabi_realloc(0, 0, 1, 16) != piece.dataStart);
  lend(piece.dataStart, 16);
  assert(cabi_realloc(0, 0, 1, 17) != piece.dataStart);
}
