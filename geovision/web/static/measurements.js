// A picture that is measurements, such as a radar's, to the numbers that the network takes, as geovision's
// readers do it: each channel in the colours that hold it, means over the model's pixels on the ground, of
// those the middle. Nothing is resampled.

import { Unusable, upright } from "./pixels.js";

// Float32 (channel, height, width) of 0 to 1, and which of them are there.
export async function measure(file, input) {
  const factor = await blockOf(file, input);
  const picture = await upright(file, { whole: true });
  const channels = measured(picture, input.channels);
  return middle(averaged(channels, picture, factor), input.size);
}

// Left, upper, right, lower of what the network sees of a picture of this width and height.
export async function seen(file, { width, height }, input) {
  const factor = await blockOf(file, input);
  const [rows, columns] = input.size;
  const left = factor * cut(Math.ceil(width / factor), columns);
  const upper = factor * cut(Math.ceil(height / factor), rows);
  return [left, upper, left + factor * columns, upper + factor * rows];
}

// How many pixels of a file make one of the model's, along each side.
async function blockOf(file, { picture, pixel_size }) {
  const told = await header(file);
  if (told.bits > 8) throw new Unusable("depth");
  const own = told.pixel_size ?? picture.pixel_size;
  const factor = Math.round(pixel_size / own);
  if (!(own > 0) || factor < 1 || Math.abs(factor * own - pixel_size) > 1e-6 * pixel_size) throw new Unusable("ground");
  return factor;
}

// Of a PNG what a browser does not tell: bits a colour, and its text entry pixel_size.
async function header(file) {
  const bytes = new DataView(await file.arrayBuffer());
  const name = (at) => String.fromCharCode(...[0, 1, 2, 3].map((k) => bytes.getUint8(at + k)));
  const told = { bits: 8 };
  if (bytes.byteLength < 33 || bytes.getUint32(0) !== 0x89504e47) return told;
  told.bits = bytes.getUint8(24);
  for (let at = 8; at + 12 <= bytes.byteLength && name(at + 4) !== "IDAT"; at += 12 + bytes.getUint32(at)) {
    const end = at + 8 + bytes.getUint32(at);
    if (name(at + 4) !== "tEXt" || end > bytes.byteLength) continue;
    const [key, text] = new TextDecoder("latin1").decode(new Uint8Array(bytes.buffer, at + 8, end - at - 8)).split("\0");
    if (key === "pixel_size") told.pixel_size = Number(text);
  }
  return told;
}

// Counts of each channel; refused where its colours differ, or where all channels are the same.
function measured({ width, height, counts }, channels) {
  const places = channels.map(({ bands }) => bands.map((band) => ["red", "green", "blue"].indexOf(band)));
  const found = places.map(() => new Uint8Array(width * height));
  let grey = true;
  let empty = true;
  for (let cell = 0; cell < width * height; cell++) {
    for (const [number, [first, ...others]] of places.entries()) {
      const count = counts[4 * cell + first];
      if (others.some((other) => counts[4 * cell + other] !== count)) throw new Unusable("differ");
      found[number][cell] = count;
      if (count) empty = false;
      if (count !== found[0][cell]) grey = false;
    }
  }
  if (channels.length > 1 && grey && !empty) throw new Unusable("grey");
  return found;
}

// Means over blocks, of what is there; a block is there where half or more of it is.
function averaged(channels, { width, height }, factor) {
  const columns = Math.ceil(width / factor);
  const rows = Math.ceil(height / factor);
  const means = channels.map(() => new Uint8Array(columns * rows));
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const sums = channels.map(() => 0);
      let there = 0;
      for (let y = factor * row; y < Math.min(factor * (row + 1), height); y++)
        for (let x = factor * column; x < Math.min(factor * (column + 1), width); x++) {
          const cell = y * width + x;
          if (channels.some((counts) => counts[cell])) there++;
          channels.forEach((counts, number) => (sums[number] += counts[cell]));
        }
      if (there && 2 * there >= factor * factor)
        sums.forEach((sum, number) => (means[number][row * columns + column] = rounded(sum / there)));
    }
  return { means, columns, rows };
}

// A half goes to the even neighbour.
function rounded(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.floor(value + 0.5);
  return below % 2 ? below + 1 : below;
}

// Cells cut off before the middle; below 0, cells that are put there.
function cut(there, wanted) {
  const missing = wanted - there;
  return missing >= 0 ? -Math.floor(missing / 2) : Math.floor(-missing / 2);
}

function middle({ means, columns, rows }, [height, width]) {
  const left = cut(columns, width);
  const upper = cut(rows, height);
  const pixels = new Float32Array(means.length * height * width);
  const there = new Uint8Array(pixels.length);
  for (let y = Math.max(0, -upper); y < Math.min(height, rows - upper); y++)
    for (let x = Math.max(0, -left); x < Math.min(width, columns - left); x++) {
      const cell = (y + upper) * columns + x + left;
      const any = means.some((counts) => counts[cell]);
      means.forEach((counts, number) => {
        const at = (number * height + y) * width + x;
        pixels[at] = counts[cell] / 255;
        there[at] = any;
      });
    }
  return { pixels, there };
}
