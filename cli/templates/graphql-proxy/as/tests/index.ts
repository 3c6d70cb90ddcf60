// Each function `test_…` is a test: `skerry test`. What is tested here needs no host.

import { Json, Request } from "@skerry/sdk-as";
import { askedOf, handle, words } from "../assembly/index";
import { Document, Rules } from "../assembly/query";

function why(query: string, name: string | null = null): string {
  const document = new Document(query);
  if (document.error !== null) return document.error!;
  const why = document.check(name, new Rules(["query.a", "mutation.m"], 3));
  return why === null ? "" : why;
}

export function test_fields_at_the_top_are_looked_at_wherever_they_come_from(): void {
  const good = [
    "{ a }",
    'query Q($x: [Int!]! = {deep: {er: 1}}) @live { alias: a(x: $x, s: "}\\"", o: {p: {q: 1}}) @skip(if: true) }',
    "mutation { m }",
    '{ a(s: """}{ \\""" """) { b } } # }',
    "{ ...F } fragment F on Query { ... on Query { a } }",
  ];
  for (let i = 0; i < good.length; i++) assert(why(good[i]) == "", good[i] + ": " + why(good[i]));
  const bad = ["{ b }", "{ a: b }", "mutation { a }", "{ a ...F } fragment F on Query { b }", "{ ... { b } }"];
  for (let i = 0; i < bad.length; i++) assert(why(bad[i]).includes("not allowed"), bad[i] + ": " + why(bad[i]));
  assert(why("query One { a } query Two { b }", "One") == "");
  assert(why("query One { a } query Two { b }", "Two").includes("not allowed"));
  assert(why("query One { a } query Two { a }").includes("operationName"));
}

export function test_depth_counts_fields_through_fragments(): void {
  assert(why("{ a { ... on X { b { c } } } }") == "");
  assert(why("{ a { b { c { d } } } }").includes("4 fields deep"));
  assert(why("{ a { ...F } } fragment F on X { b { c { d } } }").includes("4 fields deep"));
  assert(why("{ ...F } fragment F on X { a { ...F } }").includes("holds itself"));
  assert(why("{ ...F }").includes("no fragment"));
}

export function test_what_is_no_query_is_said_to_be(): void {
  const bad = ["", "{", "{}", "a", "{ a } }", "{ a(", "{ a(() }", '{ "', "{ ... }", "query", "{ a; }", "{ a ".repeat(10000)];
  for (let i = 0; i < bad.length; i++) assert(why(bad[i]) != "", bad[i].substring(0, 20));
}

export function test_what_is_sent_on_is_written_anew(): void {
  const sent = Json.parse('{"query":"{b}","query":"{a}","extensions":{},"variables":{"x":1}}').value;
  assert(askedOf(sent)!.toString() == '{"query":"{a}","variables":{"x":1}}');
  const bad = ["[]", "{}", '{"query":1}', '{"query":"","operationName":1}', '{"query":"","variables":[]}'];
  for (let i = 0; i < bad.length; i++) assert(askedOf(Json.parse(bad[i]).value) === null, bad[i]);
  assert(words(" a  b ").join() == "a,b");
}

export function test_only_json_is_taken_and_only_by_post(): void {
  assert(handle(new Request("https://{{name}}.localhost/graphql", "POST")).status == 415);
  assert(handle(new Request("https://{{name}}.localhost/graphql")).status == 405);
}
