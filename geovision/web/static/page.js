// What the reader sees and touches. Who answers, the server or this device, is behind `ask`.

import { WORDS } from "./words.js";
import { Refused, openDevice, openServer } from "./answer.js";
import { Unusable, part } from "./pixels.js";
import { seen } from "./measurements.js";

const by = (id) => document.getElementById(id);
const about = await (await fetch("page.json")).json();
const [input] = about.inputs;
const state = { language: firstLanguage(), said: "loading", file: null, answer: null, picture: null, seen: null, mapped: false };
let ask = null;
let asked = 0;

function firstLanguage() {
  const kept = localStorage.getItem("language");
  if (kept in WORDS) return kept;
  return navigator.language.startsWith("zh") ? "zh" : "en";
}

const inLanguage = (text) => (typeof text === "string" ? text : text[state.language] || text.en);
// A sentence, with what the model's pictures are called in it.
const word = (key) => WORDS[state.language][key].replace(/\{(\w+)\}/g, (_, what) => inLanguage(input.picture[what]));
const percent = (share) => `${Math.round(100 * share)} %`;

// --- everything that depends on the language -------------------------------------------------------

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
  showState();
  if (state.answer) showAnswer(state.answer);
}

function showState() {
  const { said, answer } = state;
  by("state").textContent = said === "answered" ? word("answered") + nameOf(answer.label) : said ? word(said) : "";
}

function say(key) {
  state.said = key;
  showState();
}

const cardOf = (code) => about.target.cards.find((card) => card.code === code);
const nameOf = (code) => (cardOf(code) ? inLanguage(cardOf(code).name) : code);

function showAnswer(answer) {
  const card = cardOf(answer.label);
  by("notices").replaceChildren(...answer.flags.map(() => paragraph(word("strange"), "notice bad")));
  by("label").replaceChildren(nameOf(answer.label), " ", small(otherName(card)));
  by("word").textContent = inLanguage(answer.word);
  by("likely").setAttribute("aria-label", word("likely"));
  by("likely").replaceChildren(...Object.entries(answer.probabilities).slice(0, 3).map(bar));
  by("about").textContent = word("about") + nameOf(answer.label);
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

function bar([code, share]) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.textContent = nameOf(code);
  const number = document.createElement("span");
  number.textContent = percent(share);
  const track = document.createElement("span");
  track.className = "track";
  const filled = document.createElement("i");
  filled.style.width = `${100 * share}%`;
  track.append(filled);
  item.append(name, number, track);
  return item;
}

// --- the picture and where the model looked ----------------------------------------------------------

function draw() {
  const canvas = by("picture");
  const { picture, answer, mapped } = state;
  canvas.width = picture.width;
  canvas.height = picture.height;
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, 0, 0);
  by("look").setAttribute("aria-pressed", String(mapped));
  by("look").textContent = word(mapped ? "hide" : "look");
  canvas.setAttribute("aria-label", mapped ? word("mapped") + nameOf(answer.label) : word("picture"));
  if (mapped && answer.class_activation_map) {
    const [left, upper, right, lower] = state.seen;
    pen.fillStyle = UNSEEN;
    const around = new Path2D();
    around.rect(0, 0, picture.width, picture.height);
    around.rect(left, upper, right - left, lower - upper);
    pen.fill(around, "evenodd");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(veil(answer.class_activation_map), left, upper, right - left, lower - upper);
  }
}

const UNSEEN = "rgb(0 0 40 / 78%)";

// What is dark in the veil was not looked at; what is clear was.
function veil(map) {
  const canvas = document.createElement("canvas");
  canvas.height = map.length;
  canvas.width = map[0].length;
  const pen = canvas.getContext("2d");
  const pixels = pen.createImageData(canvas.width, canvas.height);
  const most = Math.max(...map.flat(), 1e-12);
  map.flat().forEach((value, index) => {
    const share = Math.max(value, 0) / most;
    pixels.data.set([255 * share, 190 * share, 40, 200 - 140 * share], 4 * index);
  });
  pen.putImageData(pixels, 0, 0);
  return canvas;
}

// The picture, no larger than need be, and the part of it that the network sees.
async function shown(file) {
  const largest = 1600;
  const whole = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => { throw new Refused("unreadable"); });
  const scale = Math.min(1, largest / Math.max(whole.width, whole.height));
  const box = input.picture.pixel_size === null ? part(whole, input.size, input.resize) : await seen(file, whole, input);
  return { picture: scale === 1 ? whole : smaller(whole, scale), seen: box.map((edge) => edge * scale) };
}

function smaller(whole, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(whole.width * scale);
  canvas.height = Math.round(whole.height * scale);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(whole, 0, 0, canvas.width, canvas.height);
  whole.close();
  return canvas;
}

// --- what is touched ----------------------------------------------------------------------------------

async function take(file) {
  const mine = ++asked;
  by("error").hidden = true;
  by("answer").hidden = true;
  state.answer = null;
  say("reading");
  try {
    const sight = await shown(file);
    const answer = await ask(file);
    if (mine !== asked) return; // another picture was taken meanwhile
    Object.assign(state, { file, answer, mapped: false }, sight);
    say("answered");
    showAnswer(answer);
    by("answer").focus({ preventScroll: true });
    by("answer").scrollIntoView({ block: "start" });
  } catch (error) {
    if (mine === asked) fail(error);
  }
}

async function look() {
  const mine = asked;
  if (!state.answer.class_activation_map) {
    by("look").disabled = true;
    const { class_activation_map } = await ask(state.file, true).finally(() => (by("look").disabled = false));
    if (mine !== asked) return;
    state.answer.class_activation_map = class_activation_map;
  }
  state.mapped = !state.mapped;
  draw();
}

function fail(error) {
  const known = error instanceof Refused || error instanceof Unusable;
  if (!known) console.error(error);
  say(null);
  by("error").textContent = known ? word(error.word) + (error.reason ?? "") : word("broken");
  by("error").hidden = false;
}

for (const id of ["camera", "file"])
  by(id).addEventListener("change", ({ target }) => {
    if (target.files[0]) take(target.files[0]);
    target.value = ""; // the same file again is a new question
  });
for (const button of document.querySelectorAll("[data-language]"))
  button.addEventListener("click", () => {
    state.language = button.dataset.language;
    localStorage.setItem("language", state.language);
    show();
  });
by("look").addEventListener("click", () => look().catch(fail));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file && ask) take(file);
});

by("camera").parentElement.hidden = !input.picture.camera;
by("file").parentElement.classList.toggle("first", !input.picture.camera);
by("hint").hidden = !input.picture.hint;
show();
try {
  ask = about.mode === "device" ? await openDevice(about) : openServer(about);
  for (const id of ["camera", "file"]) by(id).disabled = false;
  say("ready");
} catch (error) {
  fail(error);
}
if ("serviceWorker" in navigator && about.mode === "device") navigator.serviceWorker.register("service-worker.js");
