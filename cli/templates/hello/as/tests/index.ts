// Each function `test_…` is a test: `skerry test`.
import { Request } from "@skerry/sdk-as";
import { handle } from "../assembly/index";

export function test_it_says_hello(): void {
  const response = handle(new Request("https://{{name}}.localhost/"));
  assert(response.status == 200);
  assert(response.headers.get("content-type") == "text/plain; charset=utf-8");
}

export function test_it_knows_no_other_path(): void {
  assert(handle(new Request("https://{{name}}.localhost/elsewhere")).status == 404);
}
