// An image, read and written as BMP: the one format whose pixels stand there as they are.

/** Of the file and of the image, before the pixels. */
const HEADER_BYTES: i32 = 54;
/** Pixels of a side, of what is read. */
const SIDE_MAX: i32 = 8000;

export class Bitmap {
  constructor(
    readonly width: i32,
    readonly height: i32,
    /** Blue, green and red of each pixel, the lowest line first, as BMP has it. */
    private pixels: Uint8Array,
  ) {}

  /** Null: no BMP, or one with compressed pixels, with a palette, or cut short. */
  static read(file: Uint8Array): Bitmap | null {
    if (file.length < HEADER_BYTES || file[0] != 0x42 || file[1] != 0x4d) return null; // BM
    const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
    const from = view.getUint32(10, true), width = view.getInt32(18, true), signed = view.getInt32(22, true);
    const bits = view.getUint16(28, true), compression = view.getUint32(30, true);
    if (signed == i32.MIN_VALUE) return null;
    const height = abs(signed), bytes = <i32>bits >> 3; // below 0: the highest line first
    if (width < 1 || width > SIDE_MAX || height < 1 || height > SIDE_MAX) return null;
    // Compression 3 says where in a pixel which colour is; those who write it write it as usual.
    if (!(bits == 24 && compression == 0) && !(bits == 32 && (compression == 0 || compression == 3))) return null;
    const line = (width * bytes + 3) & ~3;
    if (<i64>from + <i64>line * height > file.length) return null;

    const pixels = new Uint8Array(width * height * 3);
    let to = 0;
    for (let y = 0; y < height; y++) {
      let at = <i32>from + (signed < 0 ? height - 1 - y : y) * line;
      for (let x = 0; x < width; x++, at += bytes, to += 3) {
        pixels[to] = file[at];
        pixels[to + 1] = file[at + 1];
        pixels[to + 2] = file[at + 2];
      }
    }
    return new Bitmap(width, height, pixels);
  }

  /** As a file, of 24 bits a pixel. */
  write(): Uint8Array {
    const line = (this.width * 3 + 3) & ~3;
    const file = new Uint8Array(HEADER_BYTES + line * this.height);
    const view = new DataView(file.buffer);
    file[0] = 0x42;
    file[1] = 0x4d;
    view.setUint32(2, file.length, true);
    view.setUint32(10, HEADER_BYTES, true);
    view.setUint32(14, HEADER_BYTES - 14, true);
    view.setInt32(18, this.width, true);
    view.setInt32(22, this.height, true);
    view.setUint16(26, 1, true); // planes
    view.setUint16(28, 24, true);
    for (let y = 0; y < this.height; y++) {
      const from = y * this.width * 3;
      file.set(this.pixels.subarray(from, from + this.width * 3), HEADER_BYTES + y * line);
    }
    return file;
  }

  /** Made smaller: each pixel is the mean of those it stands for. */
  resize(width: i32, height: i32): Bitmap {
    const pixels = new Uint8Array(width * height * 3);
    let to = 0;
    for (let y = 0; y < height; y++) {
      const top = y * this.height / height, bottom = max((y + 1) * this.height / height, top + 1);
      for (let x = 0; x < width; x++, to += 3) {
        const left = x * this.width / width, right = max((x + 1) * this.width / width, left + 1);
        let blue: u32 = 0, green: u32 = 0, red: u32 = 0;
        for (let line = top; line < bottom; line++) {
          for (let at = (line * this.width + left) * 3, end = (line * this.width + right) * 3; at < end; at += 3) {
            blue += this.pixels[at];
            green += this.pixels[at + 1];
            red += this.pixels[at + 2];
          }
        }
        const count = <u32>((bottom - top) * (right - left));
        pixels[to] = <u8>(blue / count);
        pixels[to + 1] = <u8>(green / count);
        pixels[to + 2] = <u8>(red / count);
      }
    }
    return new Bitmap(width, height, pixels);
  }

  /** As bright as it was, by ITU-R BT.601. */
  grey(): Bitmap {
    const pixels = new Uint8Array(this.pixels.length);
    for (let at = 0; at < pixels.length; at += 3) {
      const blue = <u32>this.pixels[at], green = <u32>this.pixels[at + 1], red = <u32>this.pixels[at + 2];
      const grey = <u8>((114 * blue + 587 * green + 299 * red + 500) / 1000);
      pixels[at] = grey;
      pixels[at + 1] = grey;
      pixels[at + 2] = grey;
    }
    return new Bitmap(this.width, this.height, pixels);
  }
}
