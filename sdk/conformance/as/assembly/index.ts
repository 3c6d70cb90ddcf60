// The conformance guest in AssemblyScript: one table of behaviours, a guest of each SDK, equal answers.

import { Request, Response, Router } from "@skerry/sdk-as";
import * as bodies from "./bodies";
import * as fetches from "./fetches";
import * as messages from "./messages";
import * as paths from "./paths";
import * as stores from "./stores";
import * as surroundings from "./surroundings";

const router = new Router()
  .use("/mw", messages.marks)
  .use("/mw/closed", messages.closes)
  .get("/mw/hello", messages.hello)
  .get("/mw/closed", messages.hello)
  .get("/hello", messages.hello)
  .any("/method", messages.method)
  .get("/headers", messages.headers)
  .get("/status/:status", messages.status)
  .get("/redirect", messages.redirect)
  .get("/error", messages.error)
  .get("/panic", messages.panic)
  .get("/where", paths.where)
  .get("/query", paths.query)
  .get("/url", paths.url)
  .get("/users/:user/posts/:post", paths.post)
  .get("/files/*path", paths.file)
  .post("/echo", bodies.echo)
  .post("/upper", bodies.upper)
  .get("/stream", bodies.stream)
  .get("/json", bodies.json)
  .post("/json", bodies.sum)
  .get("/fetch", fetches.get)
  .post("/fetch", fetches.post)
  .get("/both", fetches.both)
  .get("/config", stores.configured)
  .get("/secret", stores.secret)
  .get("/kv", stores.keys)
  .get("/kv/:name", stores.read)
  .put("/kv/:name", stores.write)
  .delete("/kv/:name", stores.remove)
  .get("/client", surroundings.address)
  .get("/env", surroundings.variable)
  .get("/log", surroundings.logs)
  .get("/random", surroundings.randomness)
  .get("/time", surroundings.time);

export function handle(request: Request): Response {
  return router.handle(request);
}
