// What the contract does not ask for: corners of the SDK, a route each.

import {
  BodyWriter, Content, Request, Response, Router, Store, client, clock, config, device, fetch, geo, log, secrets, start,
} from "@skerry/sdk-as";

/** The backend's URL, as the app's configuration has it. */
function backend(path: string): string {
  return "http://" + config.get("backend")! + path;
}

function orFailed(text: string, error: string | null): Response {
  return error === null ? Response.text(text) : Response.text(error, 502);
}

function secret(name: string, store: string | null): Response {
  const secret = secrets.text(name, store);
  if (!secret.ok) return orFailed("", secret.error);
  const text = secret.value;
  return Response.text(text === null ? "none" : text);
}

class Countdown extends Content {
  constructor(private from: i32) {
    super();
  }

  write(to: BodyWriter): bool {
    for (let i = this.from; i > 0; i--) if (!to.text(i.toString() + "\n")) return false;
    return true;
  }
}

/** Content that finds out in the middle that there is no more. */
class Broken extends Content {
  write(to: BodyWriter): bool {
    to.text("a part");
    clock.sleep(5);
    return false;
  }
}

const router = new Router()
  .any("/proxy/*path", (request: Request): Response => {
    const got = fetch(request.forward(backend("/" + request.param("path"))));
    return got.ok ? got.value : Response.text(got.error!, 502);
  })
  .post("/rewritten", (request: Request): Response => {
    const got = fetch(request.forward(backend("/echo")));
    if (got.ok) got.value.content = Content.text("something longer");
    return got.ok ? got.value : Response.text(got.error!, 502);
  })
  .get("/bare", (request: Request): Response => {
    const paths = ["/a", "/204", "/304"];
    let text = "";
    for (let i = 0; i < 3; i++) {
      const got = fetch(new Request(backend(paths[i]), i == 0 ? "HEAD" : "GET"));
      text += got.ok && got.value.content === null ? "bare " : "not bare ";
    }
    return Response.text(text);
  })
  .get("/own-content", (request: Request): Response => {
    const ask = new Request(backend("/echo"), "POST");
    ask.content = new Countdown(3);
    const got = fetch(ask);
    return got.ok ? got.value : Response.text(got.error!, 502);
  })
  .get("/slow", (request: Request): Response => {
    const ask = new Request(backend("/slow"));
    ask.firstByteTimeoutMs = 100;
    const got = fetch(ask);
    return orFailed("in time", got.error);
  })
  .get("/twice", (request: Request): Response => {
    const pending = start(new Request(backend("/a")));
    const first = pending.wait();
    return orFailed(first.ok ? pending.wait().error! : "not once", null);
  })
  .get("/increment/:key", (request: Request): Response => {
    const store = Store.open("counts").value;
    const sum = store.increment(request.param("key"), 2);
    return orFailed(sum.ok ? sum.value.toString() : "", sum.error);
  })
  .get("/swap", (request: Request): Response => {
    const store = Store.open("counts").value;
    store.delete("list");
    const found = store.find("list").value;
    let tries = 0, done = false;
    while (!done) {
      const before = found.value().value;
      const after = new Uint8Array(before === null ? 1 : before.length + 1);
      if (++tries == 1) store.setText("list", "another was faster");
      done = found.swap(after).value;
    }
    const length = store.get("list").value!.length;
    return Response.text(tries.toString() + " " + length.toString() + " " + found.swap(new Uint8Array(0)).error!);
  })
  .get("/tls", (request: Request): Response => {
    const tls = client.tls();
    if (tls === null) return Response.text("none");
    const cipher = tls.cipher, name = tls.serverName;
    return Response.text([tls.version, cipher === null ? "-" : cipher, name === null ? "-" : name].join(" "));
  })
  .get("/place/:address", (request: Request): Response => {
    const place = geo.lookup(request.param("address"));
    return Response.text(place.isNull ? "nowhere" : place.get("city").asString("no city"));
  })
  .get("/place-text/:address", (request: Request): Response => {
    const text = geo.text(request.param("address"));
    return Response.text(text === null ? "nowhere" : text);
  })
  .get("/device/*agent", (request: Request): Response => {
    const known = device.lookup(request.param("agent")), text = device.text(request.param("agent"));
    return Response.text(known.get("name").asString("-") + " " + (text === null ? "-" : text));
  })
  .get("/secret/:name", (request: Request): Response => secret(request.param("name"), null))
  .get("/secret/:name/of/:store", (request: Request): Response => secret(request.param("name"), request.param("store")))
  .get("/secret/:name/after-a-failure", (request: Request): Response => {
    return secrets.get("PIN", "nix").ok ? orFailed("", "there is a store") : secret(request.param("name"), null);
  })
  .get("/no-such-store", (request: Request): Response => orFailed("", Store.open("nix").error))
  .get("/lone", (request: Request): Response => {
    // Halves of surrogate pairs: the host would end a program that passes them.
    log.info("half " + String.fromCharCode(0xd834) + " of a pair");
    return Response.text(config.get(String.fromCharCode(0xdd1e)) === null ? "alive" : "found");
  })
  .get("/bad-status", (request: Request): Response => new Response(99))
  .get("/bad-location", (request: Request): Response => Response.redirect("/a\r\nset-cookie: b"))
  .get("/too-short", (request: Request): Response => {
    const response = Response.text("short");
    response.headers.set("content-length", "10");
    return response;
  })
  .get("/broken", (request: Request): Response => Response.of(new Broken(), "text/plain"))
  .get("/long", (request: Request): Response => Response.text("x".repeat(300_000)))
  .get("/forbidden", (request: Request): Response => {
    const response = Response.text("fine");
    response.headers.set("transfer-encoding", "x");
    response.headers.set("connection", "upgrade");
    return response;
  });

export function handle(request: Request): Response {
  return router.handle(request);
}
