// One question, two who answer it: the server, or the model in a worker on this device. Both give
// {label, confidence, word, probabilities, flags, outlier_score, class_activation_map}. The server tells the
// map to who asks for it, since it takes time; the device has it anyway.

export class Refused extends Error {
  // word: key of a sentence in words.js; reason: what the server said.
  constructor(word, reason) {
    super(reason ?? word);
    this.word = word;
    this.reason = reason;
  }
}

export function openServer() {
  return async (file, withMap = false) => {
    let reply;
    try {
      reply = await fetch(`api/predict?map=${withMap}`, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
    } catch {
      throw new Refused("unreachable");
    }
    if (reply.ok) return reply.json();
    if (reply.status === 503 || reply.status === 429) throw new Refused("busy");
    const { detail } = await reply.json().catch(() => ({}));
    throw new Refused("refused", detail ?? String(reply.status));
  };
}

export async function openDevice(about) {
  const worker = new Worker("worker.js", { type: "module" });
  const waiting = new Map();
  let last = 0;
  const call = (message) => new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    worker.postMessage({ ...message, id: last });
  });
  worker.addEventListener("message", ({ data: { id, value, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Refused(error.word));
    else resolve(value);
  });
  worker.addEventListener("error", () => {
    for (const { reject } of waiting.values()) reject(new Refused("broken"));
    waiting.clear();
  });
  await call({ open: about });
  return (file) => call({ file });
}
