// {{name}}: fetches an image, or takes the one that is sent, and answers with it smaller or grey.

import { Body, QueryParams, Request, Response, Router, config, fetch, log } from "@skerry/sdk-as";
import { Bitmap } from "./bitmap";

/** Bytes of an image as it comes: four million pixels. */
const IMAGE_BYTES_MAX: i32 = 16 * 1024 * 1024;
/** Pixels of a side, of what is asked for. */
const SIDE_MAX: i32 = 2000;
/** How long clients may keep what came from the backend, in seconds. */
const KEPT = "max-age=3600";

const router = new Router()
  .get("/", (_: Request): Response => Response.text("{{name}}: GET /path/of/an/image.bmp?w=200&h=100&gray=1, or POST one to /\n"))
  .get("/*path", ofBackend)
  .post("/", ofClient);

export function handle(request: Request): Response {
  return router.handle(request);
}

/** `GET /PATH?w=…`: the backend's image of that path. */
function ofBackend(request: Request): Response {
  const filter = Filter.of(request.queryParams);
  if (filter === null) return noFilter();
  const images = config.get("images");
  if (images === null) return Response.failed("no images in [config]");
  const got = fetch(new Request(images + request.path));
  if (!got.ok) {
    log.error(got.error!);
    return refused(502, "the images are not within reach");
  }
  if (got.value.status == 404) return refused(404, "no such image");
  if (got.value.status != 200) return refused(502, "the image cannot be had");
  const response = filtered(got.value.body, filter);
  if (response.status == 200) response.headers.set("cache-control", KEPT);
  return response;
}

/** `POST /?w=…`: the image that is sent. */
function ofClient(request: Request): Response {
  const filter = Filter.of(request.queryParams);
  return filter === null ? noFilter() : filtered(request.body, filter);
}

function filtered(body: Body, filter: Filter): Response {
  const read = body.bytes(IMAGE_BYTES_MAX);
  if (!read.ok) return body.isBroken ? refused(400, read.error!) : refused(413, "the image has too many bytes");
  const image = Bitmap.read(read.value);
  if (image === null) return refused(415, "not a BMP of 24 or 32 bits a pixel, uncompressed");
  return Response.bytes(filter.apply(image).write(), "image/bmp");
}

/** What is asked for. Of one side alone (the other is 0) the other follows; of both the image fits in. */
export class Filter {
  constructor(private width: i32, private height: i32, private gray: bool) {}

  /** Null: the query asks for none that there is. */
  static of(query: QueryParams): Filter | null {
    const width = side(query.get("w")), height = side(query.get("h")), gray = query.get("gray");
    if (width < 0 || height < 0) return null;
    if (gray !== null && gray != "0" && gray != "1") return null;
    return new Filter(width, height, gray !== null && gray == "1");
  }

  apply(image: Bitmap): Bitmap {
    let width: i64 = image.width, height: i64 = image.height;
    if (this.width && width > this.width) {
      height = height * this.width / width;
      width = this.width;
    }
    if (this.height && height > this.height) {
      width = width * this.height / height;
      height = this.height;
    }
    const isSmaller = width < image.width || height < image.height;
    const sized = isSmaller ? image.resize(<i32>max<i64>(width, 1), <i32>max<i64>(height, 1)) : image;
    return this.gray ? sized.grey() : sized;
  }
}

/** Pixels of a side; 0 if none is asked for, -1 if it is none. */
function side(text: string | null): i32 {
  if (text === null) return 0;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) < 0x30 || text.charCodeAt(i) > 0x39) return -1;
  if (!text.length || text.length > 4) return -1;
  const pixels = I32.parseInt(text);
  return pixels >= 1 && pixels <= SIDE_MAX ? pixels : -1;
}

function noFilter(): Response {
  return refused(400, "w and h are 1 to " + SIDE_MAX.toString() + ", gray is 0 or 1");
}

function refused(status: i32, why: string): Response {
  return Response.text(why + "\n", status);
}
