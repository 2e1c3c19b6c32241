// Conversion of image files into network inputs, as in the Pillow readers of geovision: apply the orientation,
// fill transparent parts with white, reduce by integer factors, and resample with a triangle filter as wide as
// the new pixels. Each step is rounded to counts.

const MIN_SIDE = 8;
const MAX_PIXELS = 16_000_000; // maximum size of a canvas on a phone
const REDUCING_GAP = 3;

export class ImageError extends Error {
  // key: key of a text in words.js.
  constructor(key) {
    super(key);
    this.key = key;
  }
}

// With `full`, throw if an image is too large for a canvas, instead of reducing it.
export async function decodeImage(file, { full = false } = {}) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new ImageError("unreadable");
  }
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (bitmap.width * bitmap.height)));
  if (full && scale < 1) throw new ImageError("large");
  const width = Math.floor(bitmap.width * scale);
  const height = Math.floor(bitmap.height * scale);
  if (Math.min(width, height) < MIN_SIDE) throw new ImageError("small");
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return { width, height, counts: context.getImageData(0, 0, width, height).data };
}

// Return float32 pixels (3, height, width) of 0 to 1.
export function resizeImage(image, [height, width], resize) {
  const box = cropBox(image, [height, width], resize);
  const small = resample(...reduceBlocks(image, box, height, width), height, width);
  const pixels = new Float32Array(3 * height * width);
  for (let cell = 0; cell < height * width; cell++)
    for (let color = 0; color < 3; color++) pixels[color * height * width + cell] = small[3 * cell + color] / 255;
  return pixels;
}

// Return left, upper, right and lower edge of the network input: the complete image, or its largest central
// part with the aspect ratio of the input.
export function cropBox(image, [height, width], resize) {
  if (resize !== "crop") return [0, 0, image.width, image.height];
  const scale = Math.min(image.height / height, image.width / width);
  const left = (image.width - scale * width) / 2;
  const upper = (image.height - scale * height) / 2;
  return [left, upper, left + scale * width, upper + scale * height];
}

// Reduce an image that is several times too large to means of blocks. Return an image of three colors, and
// the box of the network input in it.
function reduceBlocks(image, [left, upper, right, lower], height, width) {
  const across = Math.max(1, Math.floor((right - left) / width / REDUCING_GAP));
  const down = Math.max(1, Math.floor((lower - upper) / height / REDUCING_GAP));
  if (across === 1 && down === 1)
    return [{ ...image, colors: 4 }, [left, upper, right, lower]];
  const first = [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(upper))];
  const last = [Math.min(image.width, Math.ceil(right)), Math.min(image.height, Math.ceil(lower))];
  const columns = Math.ceil((last[0] - first[0]) / across);
  const rows = Math.ceil((last[1] - first[1]) / down);
  const counts = new Uint8ClampedArray(3 * rows * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      blockMean(image, first[0] + column * across, first[1] + row * down, across, down, last, counts, 3 * (row * columns + column));
  const box = [(left - first[0]) / across, (upper - first[1]) / down, (right - first[0]) / across, (lower - first[1]) / down];
  return [{ width: columns, height: rows, counts, colors: 3 }, box];
}

function blockMean(image, left, upper, across, down, last, into, at) {
  const right = Math.min(left + across, last[0]);
  const lower = Math.min(upper + down, last[1]);
  const sums = [0, 0, 0];
  for (let y = upper; y < lower; y++)
    for (let x = left; x < right; x++)
      for (let color = 0; color < 3; color++) sums[color] += image.counts[4 * (y * image.width + x) + color];
  const cells = (right - left) * (lower - upper);
  for (let color = 0; color < 3; color++) into[at + color] = Math.floor(sums[color] / cells + 0.5);
}

function resample(image, [left, upper, right, lower], height, width) {
  const across = filterWeights(image.width, left, right, width);
  const down = filterWeights(image.height, upper, lower, height);
  const narrow = new Uint8ClampedArray(3 * image.height * width);
  for (let y = 0; y < image.height; y++)
    for (let x = 0; x < width; x++)
      for (let color = 0; color < 3; color++) {
        const { first, weight } = across[x];
        let sum = 0;
        for (let k = 0; k < weight.length; k++) sum += weight[k] * image.counts[image.colors * (y * image.width + first + k) + color];
        narrow[3 * (y * width + x) + color] = Math.floor(sum + 0.5);
      }
  const small = new Uint8ClampedArray(3 * height * width);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < 3 * width; x++) {
      const { first, weight } = down[y];
      let sum = 0;
      for (let k = 0; k < weight.length; k++) sum += weight[k] * narrow[3 * (first + k) * width + x];
      small[3 * y * width + x] = Math.floor(sum + 0.5);
    }
  return small;
}

// Return the source pixels and their weights for each new pixel of the triangle filter.
function filterWeights(size, low, high, wanted) {
  const scale = (high - low) / wanted;
  const reach = Math.max(scale, 1);
  return Array.from({ length: wanted }, (_, index) => {
    const center = low + (index + 0.5) * scale;
    const first = Math.max(0, Math.floor(center - reach + 0.5));
    const end = Math.min(size, Math.floor(center + reach + 0.5));
    const weight = Array.from({ length: end - first }, (_, k) => Math.max(0, 1 - Math.abs(first + k - center + 0.5) / reach));
    const sum = weight.reduce((a, b) => a + b, 0);
    return { first, weight: weight.map((each) => each / sum) };
  });
}
