// Each function `test_…` is a test: `skerry test`. What is tested here needs no host.

import { QueryParams, Request } from "@skerry/sdk-as";
import { Bitmap } from "../assembly/bitmap";
import { Filter, handle } from "../assembly/index";

/** Half of it blue, the other half red. */
function picture(width: i32, height: i32): Bitmap {
  const pixels = new Uint8Array(width * height * 3);
  for (let i = 0; i < pixels.length; i += 3) pixels[(i / 3) % width < width / 2 ? i : i + 2] = 200;
  return new Bitmap(width, height, pixels);
}

function sides(query: string): string {
  const image = Filter.of(QueryParams.parse(query))!.apply(picture(100, 50));
  return image.width.toString() + "x" + image.height.toString();
}

export function test_an_image_fits_into_what_was_asked_for_and_never_grows(): void {
  assert(sides("w=10") == "10x5");
  assert(sides("h=10") == "20x10");
  assert(sides("w=10&h=1") == "2x1");
  assert(sides("w=1000") == "100x50");
  assert(sides("gray=1") == "100x50");
}

export function test_an_image_is_written_as_it_is_read(): void {
  const file = picture(3, 2).write();
  assert(file.length == 54 + 2 * 12);
  const again = Bitmap.read(file)!.write();
  for (let i = 0; i < file.length; i++) assert(file[i] == again[i], i.toString());
}

export function test_pixels_are_the_mean_of_those_they_stand_for(): void {
  const file = picture(4, 4).resize(2, 1).write();
  assert(file[54] == 200 && file[56] == 0 && file[57] == 0 && file[59] == 200);
  const one = picture(4, 4).resize(1, 1).grey().write();
  assert(one[54] == 41 && one[55] == 41 && one[56] == 41);
}

export function test_what_is_no_image_is_none(): void {
  const file = picture(3, 2).write();
  for (let length = 0; length < file.length; length++) assert(Bitmap.read(file.slice(0, length)) === null);
  const places: i32[] = [0, 13, 21, 25, 28, 30], values: u8[] = [0, 0x7f, 1, 1, 8, 1];
  for (let i = 0; i < places.length; i++) {
    const bad = file.slice();
    bad[places[i]] = values[i];
    assert(Bitmap.read(bad) === null, i.toString());
  }
}

export function test_what_cannot_be_done_is_said(): void {
  const bad = ["w=0", "w=x", "h=5000", "gray=2", "w="];
  for (let i = 0; i < bad.length; i++) {
    assert(handle(new Request("https://{{name}}.localhost/?" + bad[i], "POST")).status == 400, bad[i]);
  }
}
