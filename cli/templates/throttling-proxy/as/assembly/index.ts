// {{name}}: passes requests on to an origin, and no more of them from one client than skerry.toml says.

import { Request, Response, Store, client, clock, config, fetch, log } from "@skerry/sdk-as";
import { Bucket, Taken, network, numberOf } from "./bucket";

/** Others may change an entry while it is changed here: so often it is tried. */
const ATTEMPTS_MAX: i32 = 10;
/** What a store keeps as a key, with room for the rest of the name. */
const CLIENT_LENGTH_MAX: i32 = 256;

export function handle(request: Request): Response {
  const requests = numberOf(config.get("requests")), seconds = numberOf(config.get("seconds"));
  if (requests < 1 || seconds < 1) return Response.failed("[config] requests, seconds: not numbers above 0");
  const who = clientOf(request);
  if (who === null) return Response.text("say who you are\n", 401);

  const taken = count(new Bucket(requests, seconds * 1000), who);
  if (taken.waitMs > 0) {
    const refusal = Response.text("too many requests\n", 429);
    refusal.headers.set("retry-after", ((taken.waitMs + 999) / 1000).toString());
    return refusal;
  }
  const response = forward(request);
  response.headers.set("x-ratelimit-remaining", taken.left.toString());
  return response;
}

/**
 * Takes one request out of the client's bucket. All nodes share the store, and a change that another made meanwhile is not
 * lost: it is looked at again. A store that cannot be reached must not stop the site, so everybody passes then. Requests of
 * one client that keep getting into each other's way are too many.
 */
function count(bucket: Bucket, who: string): Taken {
  const now = clock.now();
  const store = Store.open("throttle-{{name}}");
  if (!store.ok) return uncounted(store.error!);
  const found = store.value.find(who);
  if (!found.ok) return uncounted(found.error!);
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const entry = found.value.value();
    if (!entry.ok) return uncounted(entry.error!);
    const taken = bucket.take(textOf(entry.value), now);
    if (taken.waitMs > 0) return taken; // the entry stays as it is
    const swapped = found.value.swap(Uint8Array.wrap(String.UTF8.encode(taken.fullAt.toString())));
    if (!swapped.ok) return uncounted(swapped.error!);
    if (swapped.value) return taken;
  }
  return Taken.no(1000);
}

function textOf(entry: Uint8Array | null): string {
  return entry === null ? "" : String.UTF8.decode(entry.slice().buffer);
}

function uncounted(why: string): Taken {
  log.warn("not counted: " + why);
  return Taken.yes(0, 0);
}

/** Who is counted; null if the client does not say. */
function clientOf(request: Request): string | null {
  const field = config.get("count_by");
  if (field === null || field == "address") return network(client.address());
  const said = request.headers.get(field);
  return said !== null && said.length > 0 && said.length <= CLIENT_LENGTH_MAX ? field + ": " + said : null;
}

/** Bodies go through piece by piece, both ways at once. */
function forward(request: Request): Response {
  const origin = config.get("origin");
  if (origin === null) return Response.failed("no origin in [config]");
  const to = request.forward(origin + request.target);
  to.headers.set("x-forwarded-for", client.address());
  const got = fetch(to);
  if (got.ok) return got.value;
  log.error(got.error!);
  return Response.text("the origin does not answer\n", got.error!.includes("timeout") ? 504 : 502);
}
