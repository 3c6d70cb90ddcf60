import { NONE, incomingResponseBody, responseEntries, responseStatus } from "./sys/http";
import { Body } from "./body";
import { Content } from "./content";
import { Headers } from "./headers";
import { Json } from "./json";
import { log } from "./log";

/**
 * A response: the one `handle` gives back, or one that {@link fetch} brought, which may be given back as it is.
 *
 * ```ts
 * const response = Response.text("made\n", 201);
 * response.headers.set("location", "/items/1");
 * return response;
 * ```
 */
export class Response {
  /** The fields. */
  headers: Headers;
  private contentIs: Content | null = null;
  private bodyIs: Body | null = null;

  /** Without body. `status` is 200 to 599; a program that gives back another one ends there, and the client gets a 500. */
  constructor(public status: i32 = 200, headers: Headers = new Headers()) {
    this.headers = headers;
  }

  /** @internal From elsewhere. */
  static incoming(handle: i32, isOfHead: bool): Response {
    const response = new Response(responseStatus(handle), new Headers(responseEntries(handle)));
    const body = new Body(incomingResponseBody(handle));
    response.bodyIs = body;
    // These have no body, whatever their length says (RFC 9110 §6.4.1).
    const isBare = isOfHead || response.status == 204 || response.status == 304;
    if (!isBare) response.contentIs = Content.copy(body);
    return response;
  }

  /** Text, `text/plain; charset=utf-8`. */
  static text(text: string, status: i32 = 200): Response {
    return Response.made(Content.text(text), "text/plain; charset=utf-8", status);
  }

  /** A page, `text/html; charset=utf-8`. The text is sent as it is: escape what others wrote. */
  static html(html: string, status: i32 = 200): Response {
    return Response.made(Content.text(html), "text/html; charset=utf-8", status);
  }

  /** JSON, `application/json`. */
  static json(json: Json, status: i32 = 200): Response {
    return Response.made(Content.text(json.toString()), "application/json", status);
  }

  /** Bytes. They are not copied: leave them as they are. */
  static bytes(bytes: Uint8Array, type: string = "application/octet-stream", status: i32 = 200): Response {
    return Response.of(Content.bytes(bytes), type, status);
  }

  /** Some content and its type. A type that is no header value is left out. */
  static of(content: Content, type: string, status: i32 = 200): Response {
    const response = new Response(status);
    response.headers.set("content-type", type);
    response.contentIs = content;
    return response;
  }

  /** @internal The same with a type that is known to be a header value: it need not be looked at. */
  static made(content: Content, type: string, status: i32): Response {
    const response = new Response(status);
    response.headers.push("content-type", type);
    response.contentIs = content;
    return response;
  }

  /** Elsewhere: 302, or another status of 3xx. A location that is no header value is a 500. */
  static redirect(location: string, status: i32 = 302): Response {
    const response = new Response(status);
    return response.headers.set("location", location) ? response : Response.text("internal error\n", 500);
  }

  /** 500 `internal error`. Why goes to the log, and never to the client. */
  static failed(why: string): Response {
    log.error(why);
    return Response.text("internal error\n", 500);
  }

  /** What it carries when it is given back; null: nothing. */
  get content(): Content | null {
    return this.contentIs;
  }

  /** Sets it, and takes out a `content-length`, which would be that of another body. */
  set content(content: Content | null) {
    this.headers.delete("content-length");
    this.contentIs = content;
  }

  /** Is the status 200 to 299? */
  get isSuccess(): bool {
    return this.status >= 200 && this.status < 300;
  }

  /**
   * The body of a response that came from elsewhere; empty of one made here. What was read from it is not there any more
   * when the response is given back: give such a response other content, or none.
   */
  get body(): Body {
    const known = this.bodyIs;
    if (known !== null) return known;
    const body = new Body(NONE);
    this.bodyIs = body;
    return body;
  }
}
