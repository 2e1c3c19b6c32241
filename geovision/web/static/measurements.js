// Conversion of images of measurements, such as radar images, into network inputs, as in the readers of
// geovision: each channel is read from its colors and averaged over the pixels of the model on the ground, and
// the central part is used. Values are not resampled.

import { ImageError, decodeImage } from "./pixels.js";

// Return float32 pixels (channel, height, width) of 0 to 1, and their valid mask.
export async function measure(file, input) {
  const factor = await blockFactor(file, input);
  const image = await decodeImage(file, { full: true });
  const channels = readChannels(image, input.channels);
  return centerCrop(blockMeans(channels, image, factor), input.size);
}

// Return left, upper, right and lower edge of the network input in an image of this width and height.
export async function inputBox(file, { width, height }, input) {
  const factor = await blockFactor(file, input);
  const [rows, columns] = input.size;
  const left = factor * cropOffset(Math.ceil(width / factor), columns);
  const upper = factor * cropOffset(Math.ceil(height / factor), rows);
  return [left, upper, left + factor * columns, upper + factor * rows];
}

// Return the number of file pixels per model pixel along each side.
async function blockFactor(file, { picture, pixel_size }) {
  const header = await readHeader(file);
  if (header.bits > 8) throw new ImageError("depth");
  const own = header.pixel_size ?? picture.pixel_size;
  const factor = Math.round(pixel_size / own);
  if (!(own > 0) || factor < 1 || Math.abs(factor * own - pixel_size) > 1e-6 * pixel_size) throw new ImageError("ground");
  return factor;
}

// Return PNG properties that browsers do not expose: bits per color, and the text entry pixel_size.
async function readHeader(file) {
  const bytes = new DataView(await file.arrayBuffer());
  const name = (at) => String.fromCharCode(...[0, 1, 2, 3].map((k) => bytes.getUint8(at + k)));
  const header = { bits: 8 };
  if (bytes.byteLength < 33 || bytes.getUint32(0) !== 0x89504e47) return header;
  header.bits = bytes.getUint8(24);
  for (let at = 8; at + 12 <= bytes.byteLength && name(at + 4) !== "IDAT"; at += 12 + bytes.getUint32(at)) {
    const end = at + 8 + bytes.getUint32(at);
    if (name(at + 4) !== "tEXt" || end > bytes.byteLength) continue;
    const [key, text] = new TextDecoder("latin1").decode(new Uint8Array(bytes.buffer, at + 8, end - at - 8)).split("\0");
    if (key === "pixel_size") header.pixel_size = Number(text);
  }
  return header;
}

// Return the counts of each channel. Throw if the colors of one channel differ, or all channels are equal.
function readChannels({ width, height, counts }, channels) {
  const places = channels.map(({ bands }) => bands.map((band) => ["red", "green", "blue"].indexOf(band)));
  const found = places.map(() => new Uint8Array(width * height));
  let gray = true;
  let empty = true;
  for (let cell = 0; cell < width * height; cell++) {
    for (const [number, [first, ...others]] of places.entries()) {
      const count = counts[4 * cell + first];
      if (others.some((other) => counts[4 * cell + other] !== count)) throw new ImageError("differ");
      found[number][cell] = count;
      if (count) empty = false;
      if (count !== found[0][cell]) gray = false;
    }
  }
  if (channels.length > 1 && gray && !empty) throw new ImageError("gray");
  return found;
}

// Return means of valid pixels over blocks; a block is valid if at least half of its pixels are.
function blockMeans(channels, { width, height }, factor) {
  const columns = Math.ceil(width / factor);
  const rows = Math.ceil(height / factor);
  const means = channels.map(() => new Uint8Array(columns * rows));
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const sums = channels.map(() => 0);
      let valid = 0;
      for (let y = factor * row; y < Math.min(factor * (row + 1), height); y++)
        for (let x = factor * column; x < Math.min(factor * (column + 1), width); x++) {
          const cell = y * width + x;
          if (channels.some((counts) => counts[cell])) valid++;
          channels.forEach((counts, number) => (sums[number] += counts[cell]));
        }
      if (valid && 2 * valid >= factor * factor)
        sums.forEach((sum, number) => (means[number][row * columns + column] = roundHalfEven(sum / valid)));
    }
  return { means, columns, rows };
}

// Round to the nearest integer, halves to the even neighbor.
function roundHalfEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.floor(value + 0.5);
  return below % 2 ? below + 1 : below;
}

// Return the number of cells that are cropped at the near edge; negative for padding.
function cropOffset(available, wanted) {
  const missing = wanted - available;
  return missing >= 0 ? -Math.floor(missing / 2) : Math.floor(-missing / 2);
}

function centerCrop({ means, columns, rows }, [height, width]) {
  const left = cropOffset(columns, width);
  const upper = cropOffset(rows, height);
  const pixels = new Float32Array(means.length * height * width);
  const valid = new Uint8Array(pixels.length);
  for (let y = Math.max(0, -upper); y < Math.min(height, rows - upper); y++)
    for (let x = Math.max(0, -left); x < Math.min(width, columns - left); x++) {
      const cell = (y + upper) * columns + x + left;
      const any = means.some((counts) => counts[cell]);
      means.forEach((counts, number) => {
        const at = (number * height + y) * width + x;
        pixels[at] = counts[cell] / 255;
        valid[at] = any;
      });
    }
  return { pixels, valid };
}
