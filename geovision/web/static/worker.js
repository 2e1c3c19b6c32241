// The model on this device: a picture in, the answer of geovision's runtime out.

import * as ort from "./ort/ort.wasm.min.mjs";
import { bringTo, upright } from "./pixels.js";
import { measure } from "./measurements.js";
import { decode } from "./decode.js";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
// Several threads need shared memory, which a page has only behind its two isolation headers.
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;

let about;
let session;

async function open(given) {
  about = given;
  const bytes = await (await fetch(about.file)).arrayBuffer();
  session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
}

async function answer(file) {
  return decode(await session.run(await taken(file, about.inputs[0])), about);
}

async function taken(file, input) {
  const shape = [1, input.channels.length, ...input.size];
  if (input.picture.pixel_size === null)
    return { [input.name]: new ort.Tensor("float32", bringTo(await upright(file), input.size, input.resize), shape) };
  const { pixels, there } = await measure(file, input);
  return { [input.name]: new ort.Tensor("float32", pixels, shape), [input.valid]: new ort.Tensor("bool", there, shape) };
}

self.addEventListener("message", async ({ data: { id, open: given, file } }) => {
  try {
    self.postMessage({ id, value: given ? await open(given) : await answer(file) });
  } catch (error) {
    if (!error.word) console.error(error);
    self.postMessage({ id, error: { word: error.word ?? "broken" } });
  }
});
