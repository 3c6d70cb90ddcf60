// @skerry/sdk-as: what a program imports. A capability is a file; what is not used is not in the program, nor among its
// imports.

export { Request } from "./request";
export { Response } from "./response";
export { Headers } from "./headers";
export { Body, BodyWriter, BODY_BYTES_MAX, PIECE_BYTES } from "./body";
export { Content } from "./content";
export { URL, QueryParams, encodeComponent, decodeComponent } from "./url";
export { Router, Next, Handler, Middleware } from "./router";
export { fetch, fetchAll, start, Pending } from "./fetch";
export { Store, Found } from "./kv";
export { config } from "./config";
export { secrets } from "./secrets";
export { client, Tls } from "./client";
export { geo } from "./geo";
export { device } from "./device";
export { log } from "./log";
export { Json, JsonKind, JSON_DEPTH_MAX } from "./json";
export { environment } from "./environment";
export { clock } from "./clock";
export { random } from "./random";
export { Result, ok, failed } from "./result";
