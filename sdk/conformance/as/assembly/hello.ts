// The smallest program: what it weighs and imports is tested.

import { Request, Response } from "@skerry/sdk-as";

export function handle(request: Request): Response {
  return Response.text("hello\n");
}
