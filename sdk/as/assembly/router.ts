import { Request } from "./request";
import { Response } from "./response";
import { decodeComponent } from "./url";

/** Answers a request. */
export type Handler = (request: Request) => Response;

/** Stands before handlers: answers itself, or calls {@link Next.run} and sees the answer. */
export type Middleware = (request: Request, next: Next) => Response;

/**
 * Which handler answers a request, by method and path.
 *
 * ```ts
 * const router = new Router()
 *   .use("/admin", onlyAdmins)
 *   .get("/users/:id", user)         // request.param("id")
 *   .get("/files/*path", file);      // all that is left, slashes too
 *
 * export function handle(request: Request): Response {
 *   return router.handle(request);
 * }
 * ```
 *
 * - The first route that matches answers. `GET` routes answer `HEAD`, too: the host leaves the body out.
 * - No route for the path: 404. Routes for it, but of other methods: 405, and `allow` says which.
 * - Paths are compared as sent: `/a` is not `/a/` and not `/%61`. A `:name` is one part between slashes and never empty, a
 *   `*name` stands last and takes what is left, which may be empty. Values are decoded, so they may hold slashes and dots.
 * - Handlers and middleware are functions that keep nothing of where they were written: the language has no closures. What
 *   they share goes into globals: a program serves one request.
 *
 * A router is made anew for every request, so registering only notes: a pattern is read when a path is compared with it.
 */
export class Router {
  private routes: Route[] = [];
  private layers: Layer[] = [];

  /** Answers these requests by `handler`. `method` is compared as it is. */
  on(method: string, pattern: string, handler: Handler): this {
    this.routes.push(new Route(method, pattern, handler));
    return this;
  }

  /** `GET`, and `HEAD`. */
  get(pattern: string, handler: Handler): this {
    return this.on("GET", pattern, handler);
  }

  /** `POST`. */
  post(pattern: string, handler: Handler): this {
    return this.on("POST", pattern, handler);
  }

  /** `PUT`. */
  put(pattern: string, handler: Handler): this {
    return this.on("PUT", pattern, handler);
  }

  /** `PATCH`. */
  patch(pattern: string, handler: Handler): this {
    return this.on("PATCH", pattern, handler);
  }

  /** `DELETE`. */
  delete(pattern: string, handler: Handler): this {
    return this.on("DELETE", pattern, handler);
  }

  /** Every method. */
  any(pattern: string, handler: Handler): this {
    return this.on(ANY, pattern, handler);
  }

  /**
   * Puts `middleware` before everything under `prefix`: the path itself and what follows it behind a slash, found or not.
   * `/` is all. They run in the order they were added, each around those that follow.
   */
  use(prefix: string, middleware: Middleware): this {
    this.layers.push(new Layer(prefix, middleware));
    return this;
  }

  /** Answers a request. */
  handle(request: Request): Response {
    return this.from(0, request);
  }

  /** @internal Goes on at this layer. */
  from(layer: i32, request: Request): Response {
    for (; layer < this.layers.length; layer++) {
      const found = this.layers[layer];
      if (isUnder(request.path, found.prefix)) return found.middleware(request, new Next(this, layer + 1));
    }
    return this.route(request);
  }

  private route(request: Request): Response {
    const method = request.method, path = request.path;
    const wanted = method == "HEAD" ? "GET" : method;
    const allowed: string[] = [];
    const params: string[] = [];
    for (let i = 0; i < this.routes.length; i++) {
      const route = this.routes[i];
      params.length = 0;
      if (!matches(route.pattern, path, params)) continue;
      if (route.method == ANY || route.method == method || route.method == wanted) {
        request.routeParams = params;
        return route.handler(request);
      }
      allow(allowed, route.method);
      if (route.method == "GET") allow(allowed, "HEAD");
    }
    if (!allowed.length) return Response.text("not found\n", 404);
    const response = Response.text("method not allowed\n", 405);
    response.headers.set("allow", allowed.join(", "));
    return response;
  }
}

/** What stands behind a middleware: others, then the handler. */
export class Next {
  /** @internal */
  constructor(private router: Router, private layer: i32) {}

  /** Answers the request by what stands behind. */
  run(request: Request): Response {
    return this.router.from(this.layer, request);
  }
}

/** No method has this name. */
// @ts-ignore: decorator
@lazy
const ANY = "*";

class Route {
  constructor(public method: string, public pattern: string, public handler: Handler) {}
}

class Layer {
  constructor(public prefix: string, public middleware: Middleware) {}
}

function allow(methods: string[], method: string): void {
  if (!methods.includes(method)) methods.push(method);
}

function isUnder(path: string, prefix: string): bool {
  if (prefix == "/") return true;
  return path.startsWith(prefix) && (path.length == prefix.length || path.charCodeAt(prefix.length) == SLASH);
}

const SLASH: i32 = 0x2f;
const COLON: i32 = 0x3a;
const STAR: i32 = 0x2a;

/** Does the path fit the pattern? Names and values of its parameters are put into `params`. */
function matches(pattern: string, path: string, params: string[]): bool {
  let at = 0;
  for (let i = 0; i < pattern.length; ) {
    const unit = pattern.charCodeAt(i);
    const begins = i > 0 && pattern.charCodeAt(i - 1) == SLASH;
    if (begins && unit == STAR) {
      params.push(pattern.substring(i + 1));
      params.push(decodeComponent(path.substring(at)));
      return true;
    }
    if (begins && unit == COLON) {
      const nameEnd = partEnd(pattern, i), valueEnd = partEnd(path, at);
      if (valueEnd == at) return false;
      params.push(pattern.substring(i + 1, nameEnd));
      params.push(decodeComponent(path.substring(at, valueEnd)));
      i = nameEnd;
      at = valueEnd;
      continue;
    }
    if (at == path.length || path.charCodeAt(at) != unit) return false;
    i++;
    at++;
  }
  return at == path.length;
}

/** Where the part that begins at `from` ends. */
function partEnd(path: string, from: i32): i32 {
  const slash = path.indexOf("/", from);
  return slash < 0 ? path.length : slash;
}
