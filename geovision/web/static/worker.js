// Worker that runs the model on this device and returns the same predictions as the ONNX runtime of geovision.

import * as ort from "./ort/ort.wasm.min.mjs";
import { decodeImage, resizeImage } from "./pixels.js";
import { measure } from "./measurements.js";
import { decode } from "./decode.js";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
// Several threads require shared memory, which is available only with both isolation headers.
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;

let metadata;
let session;

async function open(opened) {
  metadata = opened;
  const bytes = await (await fetch(metadata.file)).arrayBuffer();
  session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
}

async function predict(file) {
  return decode(await session.run(await readInputs(file, metadata.inputs[0])), metadata);
}

async function readInputs(file, input) {
  const shape = [1, input.channels.length, ...input.size];
  if (input.picture.pixel_size === null)
    return { [input.name]: new ort.Tensor("float32", resizeImage(await decodeImage(file), input.size, input.resize), shape) };
  const { pixels, valid } = await measure(file, input);
  return { [input.name]: new ort.Tensor("float32", pixels, shape), [input.valid]: new ort.Tensor("bool", valid, shape) };
}

self.addEventListener("message", async ({ data: { id, open: opened, file } }) => {
  try {
    self.postMessage({ id, value: opened ? await open(opened) : await predict(file) });
  } catch (error) {
    if (!error.key) console.error(error);
    self.postMessage({ id, error: { key: error.key ?? "broken" } });
  }
});
