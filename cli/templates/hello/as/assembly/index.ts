import { Request, Response } from "@skerry/sdk-as";

export function handle(request: Request): Response {
  if (request.path == "/") return Response.text("Hello from {{name}}!\n");
  return Response.text("not found\n", 404);
}
