// Predictions from the server, or from the model in a worker on this device. Both return
// {label, confidence, word, probabilities, flags, outlier_score, class_activation_map}. The server returns
// the map only on request, because it takes time; the device always returns it.

export class PredictionError extends Error {
  // key: key of a text in words.js; reason: message of the server.
  constructor(key, reason) {
    super(reason ?? key);
    this.key = key;
    this.reason = reason;
  }
}

export function openServer() {
  return async (file, withMap = false) => {
    let response;
    try {
      response = await fetch(`api/predict?map=${withMap}`, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
    } catch {
      throw new PredictionError("unreachable");
    }
    if (response.ok) return response.json();
    if (response.status === 503 || response.status === 429) throw new PredictionError("busy");
    const { detail } = await response.json().catch(() => ({}));
    throw new PredictionError("refused", detail ?? String(response.status));
  };
}

export async function openDevice(metadata) {
  const worker = new Worker("worker.js", { type: "module" });
  const pending = new Map();
  let last = 0;
  const call = (message) => new Promise((resolve, reject) => {
    pending.set(++last, { resolve, reject });
    worker.postMessage({ ...message, id: last });
  });
  worker.addEventListener("message", ({ data: { id, value, error } }) => {
    const { resolve, reject } = pending.get(id);
    pending.delete(id);
    if (error) reject(new PredictionError(error.key));
    else resolve(value);
  });
  worker.addEventListener("error", () => {
    for (const { reject } of pending.values()) reject(new PredictionError("broken"));
    pending.clear();
  });
  await call({ open: metadata });
  return (file) => call({ file });
}
