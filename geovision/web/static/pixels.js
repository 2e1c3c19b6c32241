// A picture file to the numbers that the network takes, as geovision's readers do it with Pillow:
// upright, transparent parts white, first reduced by whole factors, then resampled by triangles that
// are as wide as the new pixels, each step rounded to counts.

const LEAST_SIDE = 8;
const MOST_PIXELS = 16_000_000; // a canvas on a phone holds no more
const REDUCING_GAP = 3;

export class Unusable extends Error {
  constructor(word) {
    super(word);
    this.word = word;
  }
}

// With `whole`, a picture that a canvas cannot hold as it is, is refused instead of made smaller.
export async function upright(file, { whole = false } = {}) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Unusable("unreadable");
  }
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  if (whole && scale < 1) throw new Unusable("large");
  const width = Math.floor(bitmap.width * scale);
  const height = Math.floor(bitmap.height * scale);
  if (Math.min(width, height) < LEAST_SIDE) throw new Unusable("small");
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return { width, height, counts: pen.getImageData(0, 0, width, height).data };
}

// Float32 (3, height, width) of 0 to 1.
export function bringTo(picture, [height, width], resize) {
  const box = part(picture, [height, width], resize);
  const small = resample(...reduced(picture, box, height, width), height, width);
  const pixels = new Float32Array(3 * height * width);
  for (let cell = 0; cell < height * width; cell++)
    for (let colour = 0; colour < 3; colour++) pixels[colour * height * width + cell] = small[3 * cell + colour] / 255;
  return pixels;
}

// Left, upper, right, lower of what the network sees of a picture: all of it, or the largest part in the
// middle that has its proportions.
export function part(picture, [height, width], resize) {
  if (resize !== "crop") return [0, 0, picture.width, picture.height];
  const scale = Math.min(picture.height / height, picture.width / width);
  const left = (picture.width - scale * width) / 2;
  const upper = (picture.height - scale * height) / 2;
  return [left, upper, left + scale * width, upper + scale * height];
}

// Means of whole blocks, where a picture is many times too large. Returns a picture of three colours and
// the part of it that is wanted.
function reduced(picture, [left, upper, right, lower], height, width) {
  const across = Math.max(1, Math.floor((right - left) / width / REDUCING_GAP));
  const down = Math.max(1, Math.floor((lower - upper) / height / REDUCING_GAP));
  if (across === 1 && down === 1)
    return [{ ...picture, colours: 4 }, [left, upper, right, lower]];
  const first = [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(upper))];
  const last = [Math.min(picture.width, Math.ceil(right)), Math.min(picture.height, Math.ceil(lower))];
  const columns = Math.ceil((last[0] - first[0]) / across);
  const rows = Math.ceil((last[1] - first[1]) / down);
  const counts = new Uint8ClampedArray(3 * rows * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      mean(picture, first[0] + column * across, first[1] + row * down, across, down, last, counts, 3 * (row * columns + column));
  const box = [(left - first[0]) / across, (upper - first[1]) / down, (right - first[0]) / across, (lower - first[1]) / down];
  return [{ width: columns, height: rows, counts, colours: 3 }, box];
}

function mean(picture, left, upper, across, down, last, into, at) {
  const right = Math.min(left + across, last[0]);
  const lower = Math.min(upper + down, last[1]);
  const sums = [0, 0, 0];
  for (let y = upper; y < lower; y++)
    for (let x = left; x < right; x++)
      for (let colour = 0; colour < 3; colour++) sums[colour] += picture.counts[4 * (y * picture.width + x) + colour];
  const cells = (right - left) * (lower - upper);
  for (let colour = 0; colour < 3; colour++) into[at + colour] = Math.floor(sums[colour] / cells + 0.5);
}

function resample(picture, [left, upper, right, lower], height, width) {
  const across = weights(picture.width, left, right, width);
  const down = weights(picture.height, upper, lower, height);
  const narrow = new Uint8ClampedArray(3 * picture.height * width);
  for (let y = 0; y < picture.height; y++)
    for (let x = 0; x < width; x++)
      for (let colour = 0; colour < 3; colour++) {
        const { first, share } = across[x];
        let sum = 0;
        for (let k = 0; k < share.length; k++) sum += share[k] * picture.counts[picture.colours * (y * picture.width + first + k) + colour];
        narrow[3 * (y * width + x) + colour] = Math.floor(sum + 0.5);
      }
  const small = new Uint8ClampedArray(3 * height * width);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < 3 * width; x++) {
      const { first, share } = down[y];
      let sum = 0;
      for (let k = 0; k < share.length; k++) sum += share[k] * narrow[3 * (first + k) * width + x];
      small[3 * y * width + x] = Math.floor(sum + 0.5);
    }
  return small;
}

// For each new pixel the old ones below its triangle and their shares.
function weights(size, low, high, wanted) {
  const scale = (high - low) / wanted;
  const reach = Math.max(scale, 1);
  return Array.from({ length: wanted }, (_, index) => {
    const centre = low + (index + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(size, Math.floor(centre + reach + 0.5));
    const share = Array.from({ length: end - first }, (_, k) => Math.max(0, 1 - Math.abs(first + k - centre + 0.5) / reach));
    const sum = share.reduce((a, b) => a + b, 0);
    return { first, share: share.map((each) => each / sum) };
  });
}
