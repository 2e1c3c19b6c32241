// User interface of the page. `predict` requests predictions from the server or from this device.

import { WORDS } from "./words.js";
import { PredictionError, openDevice, openServer } from "./answer.js";
import { ImageError, cropBox } from "./pixels.js";
import { inputBox } from "./measurements.js";

const by = (id) => document.getElementById(id);
const about = await (await fetch("page.json")).json();
const [input] = about.inputs;
const state = { language: initialLanguage(), status: "loading", file: null, prediction: null, image: null, box: null, mapShown: false };
let predict = null;
let requests = 0;

function initialLanguage() {
  const stored = localStorage.getItem("language");
  if (stored in WORDS) return stored;
  return navigator.language.startsWith("zh") ? "zh" : "en";
}

const inLanguage = (text) => (typeof text === "string" ? text : text[state.language] || text.en);
// Return a text of the page with the name of the model's images inserted.
const word = (key) => WORDS[state.language][key].replace(/\{(\w+)\}/g, (_, what) => inLanguage(input.picture[what]));
const percent = (probability) => `${Math.round(100 * probability)} %`;

// --- texts, which depend on the language -----------------------------------------------------------

function show() {
  document.documentElement.lang = state.language;
  for (const button of document.querySelectorAll("[data-language]"))
    button.setAttribute("aria-pressed", String(button.dataset.language === state.language));
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = word(node.dataset.word);
  document.title = `${inLanguage(about.task.title)} – geovision`;
  by("title").textContent = inLanguage(about.task.title);
  by("question").textContent = inLanguage(about.task.question);
  by("hint").textContent = input.picture.hint ? inLanguage(input.picture.hint) : "";
  by("where").textContent = word(about.mode === "device" ? "onDevice" : "onServer");
  by("model").textContent = word("model") + about.model;
  by("terms").textContent = [
    about.trained_on && word("trained") + about.trained_on,
    about.license && word("license") + about.license,
  ].filter(Boolean).join(" · ");
  showStatus();
  if (state.prediction) showPrediction(state.prediction);
}

function showStatus() {
  const { status, prediction } = state;
  by("state").textContent = status === "predicted" ? word("predicted") + nameOf(prediction.label) : status ? word(status) : "";
}

function setStatus(key) {
  state.status = key;
  showStatus();
}

const cardOf = (code) => about.target.cards.find((card) => card.code === code);
const nameOf = (code) => (cardOf(code) ? inLanguage(cardOf(code).name) : code);

function showPrediction(prediction) {
  const card = cardOf(prediction.label);
  by("notices").replaceChildren(...prediction.flags.map(() => paragraph(word("strange"), "notice bad")));
  by("label").replaceChildren(nameOf(prediction.label), " ", small(otherName(card)));
  by("word").textContent = inLanguage(prediction.word);
  by("likely").setAttribute("aria-label", word("likely"));
  by("likely").replaceChildren(...Object.entries(prediction.probabilities).slice(0, 3).map(bar));
  by("about").textContent = word("about") + nameOf(prediction.label);
  by("about").hidden = !card?.facts?.length;
  by("facts").replaceChildren(...(card?.facts ?? []).flatMap((fact) => [term("dt", fact.heading), term("dd", fact.text)]));
  by("caution").hidden = !card?.caution;
  by("caution").textContent = card?.caution ? inLanguage(card.caution) : "";
  by("look").hidden = !about.outputs.includes("class_activation_map");
  by("answer").hidden = false;
  draw();
}

function otherName(card) {
  if (!card || typeof card.name === "string") return "";
  return state.language === "en" ? card.name.zh : card.name.en;
}

function small(text) {
  const node = document.createElement("small");
  node.textContent = text;
  return node;
}

function paragraph(text, name) {
  const node = document.createElement("p");
  node.className = name;
  node.textContent = text;
  return node;
}

function term(kind, text) {
  const node = document.createElement(kind);
  node.textContent = inLanguage(text);
  return node;
}

function bar([code, probability]) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.textContent = nameOf(code);
  const number = document.createElement("span");
  number.textContent = percent(probability);
  const track = document.createElement("span");
  track.className = "track";
  const filled = document.createElement("i");
  filled.style.width = `${100 * probability}%`;
  track.append(filled);
  item.append(name, number, track);
  return item;
}

// --- image and class-activation map ------------------------------------------------------------------

function draw() {
  const canvas = by("picture");
  const { image, prediction, mapShown } = state;
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  by("look").setAttribute("aria-pressed", String(mapShown));
  by("look").textContent = word(mapShown ? "hide" : "look");
  canvas.setAttribute("aria-label", mapShown ? word("mapped") + nameOf(prediction.label) : word("picture"));
  if (mapShown && prediction.class_activation_map) {
    const [left, upper, right, lower] = state.box;
    context.fillStyle = OUTSIDE_COLOR;
    const outside = new Path2D();
    outside.rect(0, 0, image.width, image.height);
    outside.rect(left, upper, right - left, lower - upper);
    context.fill(outside, "evenodd");
    context.imageSmoothingQuality = "high";
    context.drawImage(overlay(prediction.class_activation_map), left, upper, right - left, lower - upper);
  }
}

const OUTSIDE_COLOR = "rgb(0 0 40 / 78%)";

// Return an overlay that is dark where the map is 0 and transparent where it is high.
function overlay(map) {
  const canvas = document.createElement("canvas");
  canvas.height = map.length;
  canvas.width = map[0].length;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  const largest = Math.max(...map.flat(), 1e-12);
  map.flat().forEach((value, index) => {
    const share = Math.max(value, 0) / largest;
    pixels.data.set([255 * share, 190 * share, 40, 200 - 140 * share], 4 * index);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// Return the image, reduced to the display size, and the box of the network input in it.
async function loadImage(file) {
  const maxSide = 1600;
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => { throw new PredictionError("unreadable"); });
  const scale = Math.min(1, maxSide / Math.max(bitmap.width, bitmap.height));
  const box = input.picture.pixel_size === null ? cropBox(bitmap, input.size, input.resize) : await inputBox(file, bitmap, input);
  return { image: scale === 1 ? bitmap : downscale(bitmap, scale), box: box.map((edge) => edge * scale) };
}

function downscale(bitmap, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

// --- events -------------------------------------------------------------------------------------------

async function predictFile(file) {
  const request = ++requests;
  by("error").hidden = true;
  by("answer").hidden = true;
  state.prediction = null;
  setStatus("reading");
  try {
    const display = await loadImage(file);
    const prediction = await predict(file);
    if (request !== requests) return; // a newer image was chosen in the meantime
    Object.assign(state, { file, prediction, mapShown: false }, display);
    setStatus("predicted");
    showPrediction(prediction);
    by("answer").focus({ preventScroll: true });
    by("answer").scrollIntoView({ block: "start" });
  } catch (error) {
    if (request === requests) showError(error);
  }
}

async function toggleMap() {
  const request = requests;
  if (!state.prediction.class_activation_map) {
    by("look").disabled = true;
    const { class_activation_map } = await predict(state.file, true).finally(() => (by("look").disabled = false));
    if (request !== requests) return;
    state.prediction.class_activation_map = class_activation_map;
  }
  state.mapShown = !state.mapShown;
  draw();
}

function showError(error) {
  const known = error instanceof PredictionError || error instanceof ImageError;
  if (!known) console.error(error);
  setStatus(null);
  by("error").textContent = known ? word(error.key) + (error.reason ?? "") : word("broken");
  by("error").hidden = false;
}

for (const id of ["camera", "file"])
  by(id).addEventListener("change", ({ target }) => {
    if (target.files[0]) predictFile(target.files[0]);
    target.value = ""; // choosing the same file again triggers a new request
  });
for (const button of document.querySelectorAll("[data-language]"))
  button.addEventListener("click", () => {
    state.language = button.dataset.language;
    localStorage.setItem("language", state.language);
    show();
  });
by("look").addEventListener("click", () => toggleMap().catch(showError));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file && predict) predictFile(file);
});

by("camera").parentElement.hidden = !input.picture.camera;
by("file").parentElement.classList.toggle("first", !input.picture.camera);
by("hint").hidden = !input.picture.hint;
show();
try {
  predict = about.mode === "device" ? await openDevice(about) : openServer(about);
  for (const id of ["camera", "file"]) by(id).disabled = false;
  setStatus("ready");
} catch (error) {
  showError(error);
}
if ("serviceWorker" in navigator && about.mode === "device") navigator.serviceWorker.register("service-worker.js");
