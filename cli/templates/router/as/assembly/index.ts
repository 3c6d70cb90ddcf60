// {{name}}: an HTTP API at the edge. Which function answers which path stands in `router`.

import { Json, Next, Request, Response, Router } from "@skerry/sdk-as";

const router = new Router()
  .use("/", mark)
  .get("/", (_: Request): Response => Response.text("{{name}}: GET /greetings/:name?lang=de, POST /sum\n"))
  .get("/greetings/:name", greet)
  .post("/sum", sum);

export function handle(request: Request): Response {
  return router.handle(request);
}

/** Stands around every route: sees each request first and each answer last. */
function mark(request: Request, next: Next): Response {
  const response = next.run(request);
  response.headers.set("x-served-by", "{{name}}");
  return response;
}

function greet(request: Request): Response {
  const name = request.param("name");
  const hello = helloIn(request.queryParams.get("lang"));
  if (hello === null) return refused(404, "that language is not spoken here");
  return Response.json(Json.object()
    .set("name", Json.string(name))
    .set("greeting", Json.string(hello + ", " + name + "!")));
}

/** Null: not spoken here. */
export function helloIn(language: string | null): string | null {
  if (language === null || language == "en") return "Hello";
  if (language == "de") return "Hallo";
  if (language == "fr") return "Bonjour";
  return null;
}

function sum(request: Request): Response {
  const read = request.body.json();
  const added = read.ok ? sumOf(read.value) : null;
  return added === null ? refused(400, 'send {"numbers": [1, 2]}') : Response.json(added);
}

/** Null: not of the shape `{"numbers": [1, 2]}`. */
export function sumOf(sent: Json): Json | null {
  const numbers = sent.get("numbers");
  if (!numbers.isArray) return null;
  let sum: f64 = 0;
  for (let i = 0; i < numbers.length; i++) {
    if (!numbers.at(i).isNumber) return null;
    sum += numbers.at(i).asNumber();
  }
  return Json.object().set("count", Json.number(numbers.length)).set("sum", Json.number(sum));
}

function refused(status: i32, error: string): Response {
  return Response.json(Json.object().set("error", Json.string(error)), status);
}
