// Each function `test_…` is a test: `skerry test`. What is tested here needs no host.

import { Json, Request, Response } from "@skerry/sdk-as";
import { handle, helloIn, sumOf } from "../assembly/index";

function ask(path: string, method: string = "GET"): Response {
  return handle(new Request("https://{{name}}.localhost" + path, method));
}

export function test_languages(): void {
  assert(helloIn(null)! == "Hello");
  assert(helloIn("fr")! == "Bonjour");
  assert(helloIn("tlh") === null);
  assert(ask("/greetings/ana?lang=de").status == 200);
  assert(ask("/greetings/ana?lang=tlh").status == 404);
}

export function test_sums(): void {
  assert(sumOf(Json.parse('{"numbers":[1,2.5]}').value)!.toString() == '{"count":2,"sum":3.5}');
  assert(sumOf(Json.parse('{"numbers":[1,"2"]}').value) === null);
  assert(sumOf(Json.parse("[1,2]").value) === null);
}

export function test_paths_and_methods_that_are_not_there(): void {
  assert(ask("/elsewhere").status == 404);
  assert(ask("/sum").status == 405);
  assert(ask("/sum").headers.get("allow")! == "POST");
}

export function test_every_answer_is_marked(): void {
  assert(ask("/").headers.get("x-served-by")! == "{{name}}");
  assert(ask("/elsewhere").headers.get("x-served-by")! == "{{name}}");
}
