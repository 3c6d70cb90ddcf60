import { NONE, requestAuthority, requestBody, requestEntries, requestMethod, requestPathWithQuery, requestScheme } from "./sys/http";
import { Body } from "./body";
import { Content } from "./content";
import { Headers } from "./headers";
import { QueryParams, URL } from "./url";

/**
 * A request: the client's, as `handle` is given it, or one to be sent by {@link fetch}.
 *
 * ```ts
 * const ask = new Request("https://api.example/items", "POST");
 * ask.headers.set("accept", "application/json");
 * ask.content = Content.text("all");
 * ```
 */
export class Request {
  /** How long `fetch` waits for a connection, in ms; 0: as long as the node does. */
  connectTimeoutMs: i32 = 0;
  /** How long `fetch` waits for the response's head, in ms; 0: as long as the node does. */
  firstByteTimeoutMs: i32 = 0;
  /** How long a read of the response's body waits, in ms; 0: as long as the node does. */
  betweenBytesTimeoutMs: i32 = 0;

  /** @internal Parameters of the route, names and values by turns. */
  routeParams: string[] | null = null;

  // Of the client's request, asked for when first needed: what is not asked for costs nothing.
  private handle: i32 = NONE;
  private contentIs: Content | null = null;
  private methodIs: string | null = null;
  private targetIs: string | null = null;
  private headersAre: Headers | null = null;
  private bodyIs: Body | null = null;

  /**
   * A request to be sent to this URL, which must be absolute (`https://…` or `http://…`): {@link fetch} fails if it is
   * not.
   */
  constructor(private to: string, method: string = "GET") {
    this.methodIs = method;
  }

  /** @internal The client's. */
  static incoming(handle: i32): Request {
    const request = new Request("");
    request.handle = handle;
    request.methodIs = null;
    return request;
  }

  /** `GET`, `POST`, …: as sent, in the case it was sent in. */
  get method(): string {
    const known = this.methodIs;
    if (known !== null) return known;
    const method = requestMethod(this.handle);
    this.methodIs = method;
    return method;
  }

  /** Path and query, as sent: `/a%20b?x=1`. */
  get target(): string {
    const known = this.targetIs;
    if (known !== null) return known;
    let target: string | null = null;
    if (this.handle != NONE) {
      target = requestPathWithQuery(this.handle);
    } else {
      const url = URL.parse(this.to);
      if (url !== null) target = url.pathWithQuery;
    }
    const is = target !== null && target.length ? target : "/";
    this.targetIs = is;
    return is;
  }

  /** The path, as sent, percent signs and all: `/a%20b`. */
  get path(): string {
    const target = this.target, mark = target.indexOf("?");
    return mark < 0 ? target : target.substring(0, mark);
  }

  /** What stands behind `?`, as sent; null if there is none. */
  get query(): string | null {
    const target = this.target, mark = target.indexOf("?");
    return mark < 0 ? null : target.substring(mark + 1);
  }

  /** The query's parameters, decoded. Taken apart anew at each call. */
  get queryParams(): QueryParams {
    return QueryParams.parse(this.query);
  }

  /** A parameter of the route (`:name`, `*name`), decoded; empty if the route has none of that name. */
  param(name: string): string {
    const list = this.routeParams;
    if (list !== null) {
      for (let i = 0; i < list.length; i += 2) if (list[i] == name) return list[i + 1];
    }
    return "";
  }

  /** `http` or `https`: how the client came. */
  get scheme(): string {
    if (this.handle == NONE) {
      const url = URL.parse(this.to);
      return url ? url.scheme : "";
    }
    const scheme = requestScheme(this.handle);
    return scheme !== null ? scheme : "http";
  }

  /** Host and port the request is for, as sent; empty if it named none. */
  get authority(): string {
    if (this.handle == NONE) {
      const url = URL.parse(this.to);
      return url ? url.authority : "";
    }
    const authority = requestAuthority(this.handle);
    return authority !== null ? authority : "";
  }

  /** The whole URL; null if what the client sent is none. */
  get url(): URL | null {
    if (this.handle == NONE) return URL.parse(this.to);
    return URL.parse(this.scheme + "://" + this.authority + this.target);
  }

  /** The fields. Of the client's request a copy: changing it changes what this program sees. */
  get headers(): Headers {
    const known = this.headersAre;
    if (known !== null) return known;
    const headers = this.handle == NONE ? new Headers() : new Headers(requestEntries(this.handle));
    this.headersAre = headers;
    return headers;
  }

  /** The client's body; of a request to be sent it is empty, see {@link Request.content}. */
  get body(): Body {
    const known = this.bodyIs;
    if (known !== null) return known;
    const body = this.handle == NONE ? new Body() : new Body(requestBody(this.handle));
    this.bodyIs = body;
    return body;
  }

  /** What `fetch` sends as its body. Null: none. Of the client's request: see {@link Request.body}. */
  get content(): Content | null {
    return this.contentIs;
  }

  /** Sets it, and takes out a `content-length`, which would be that of another body. */
  set content(content: Content | null) {
    this.headers.delete("content-length");
    this.contentIs = content;
  }

  /**
   * This request for another server: the same method and fields, and the same body, passed on as it comes. A `GET` or
   * `HEAD` goes without body.
   */
  forward(url: string): Request {
    const request = new Request(url, this.method);
    request.headersAre = this.headers.clone();
    if (this.method == "GET" || this.method == "HEAD") request.headers.delete("content-length");
    else request.contentIs = Content.copy(this.body);
    return request;
  }
}
