// The page: what is given, what runs it, and what comes of it.

import { Site, element } from "./attention.js";
import { Model } from "./model.js";
import { Pad } from "./pad.js";
import { digitPicture, fitted, pixelsOf } from "./picture.js";

const DIGITS = "digits.tflite";
const SHOWN = 10; // classes
// A three, so that there is something to see at once.
const EXAMPLE = [[
  [0.3, 0.2], [0.45, 0.13], [0.62, 0.17], [0.68, 0.3], [0.6, 0.42], [0.46, 0.48],
  [0.62, 0.53], [0.7, 0.66], [0.64, 0.8], [0.47, 0.87], [0.3, 0.8],
]];

const at = (id) => document.getElementById(id);
const pad = new Pad(at("pad"), () => show(pad.strokes.length ? digitPicture(pad.strokes) : null));
const opened = { name: "", bytes: null, model: null, sites: [] };
let picture = null;
let running = null;
let again = false;

/**
 * What is on the page: the numbers as the model gave them.
 *
 * @type {?{backend: string, outputs: Object<string, number[]>, milliseconds: number}}
 */
export let latest = null;

/** Resolves when nothing is left to run. */
export async function settled() {
  await opening;
  while (running) await running;
}

function tell(message) {
  at("message").textContent = message;
  at("message").hidden = !message;
}

function show(given) {
  picture = given;
  again = true;
  running ??= runAll();
}

/** Runs as long as there is something newer: while one draws, pictures are left out. */
async function runAll() {
  // Not before the strokes are on the screen.
  await new Promise((done) => { setTimeout(done); });
  try {
    while (again) {
      again = false;
      await runOnce();
    }
  } catch (error) {
    tell(`The run failed. Received: ${error.message}`);
  } finally {
    running = null;
  }
}

async function runOnce() {
  const { model } = opened;
  if (!model) return;
  if (!picture) {
    clear();
    return;
  }
  const fit = fitted(picture, model.image.width, model.image.height);
  const { outputs, milliseconds } = await model.run(pixelsOf(fit, model.image.channels));
  if (model !== opened.model) return;
  latest = { backend: model.backend, outputs, milliseconds };
  at("run").textContent = `${model.runBy}: ${milliseconds.toFixed(1)} ms a run`;
  Object.assign(at("seen"), { width: fit.width, height: fit.height });
  at("seen").getContext("2d").drawImage(fit, 0, 0);
  showScores(model, outputs);
  for (const { name, site } of opened.sites) site.draw(outputs[name], fit);
}

function clear() {
  latest = null;
  at("answer").textContent = "–";
  at("scores").replaceChildren();
  at("seen").width += 0;
  for (const { site } of opened.sites) site.root.hidden = true;
}

function showScores({ facts }, outputs) {
  for (const { site } of opened.sites) site.root.hidden = false;
  const classes = facts.outputs.find(({ name, shape }) => !(name in facts.attention) && shape.length === 2);
  if (!classes) {
    at("answer").textContent = "no classes";
    return;
  }
  const scores = outputs[classes.name];
  const shares = sharesOf(scores);
  const label = (i) => facts.labels[i] ?? `${i}`;
  const best = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a]);
  at("answer").textContent = label(best[0]);
  // Few stay where they are.
  const listed = scores.length > SHOWN ? best.slice(0, SHOWN) : scores.map((_, i) => i);
  at("scores").replaceChildren(...listed.map((i) => {
    const fill = element("i");
    fill.style.width = `${100 * shares[i]}%`;
    return element("li", {},
      element("span", { textContent: label(i) }),
      element("span", { className: "bar" }, fill),
      element("span", { className: "share", textContent: `${(100 * shares[i]).toFixed(1)} %` }));
  }));
}

/** Scores as shares: as they are, if they are shares already, or their softmax. */
function sharesOf(scores) {
  const sum = scores.reduce((a, b) => a + b, 0);
  if (scores.every((score) => score >= 0) && Math.abs(sum - 1) < 0.02) return scores;
  const most = scores.reduce((a, b) => Math.max(a, b));
  const powers = scores.map((score) => Math.exp(score - most));
  const whole = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / whole);
}

/** Opens a file, or the open one with another back end. A file that is refused changes nothing. */
async function open(name, bytes) {
  tell("");
  let model;
  try {
    model = await Model.open(bytes, at("backend").value);
  } catch (error) {
    if (!opened.model) at("run").textContent = "";
    tell(`${name}: ${error.message}`);
    return;
  }
  while (running) await running;
  opened.model?.delete();
  const { facts, image } = model;
  const attention = facts.outputs.filter((output) => output.name in facts.attention);
  const sites = attention.map((output) => ({
    name: output.name, site: new Site(facts.attention[output.name], output.shape),
  }));
  Object.assign(opened, { name, bytes, model, sites });
  at("sites").replaceChildren(...sites.map(({ site }) => site.root));
  if (!sites.length) {
    at("sites").textContent = "This file gives no attention; convert it with --with-attention.";
  }
  at("model").textContent =
    `${name}, ${Math.ceil(bytes.length / 1024)} KiB: images ${image.height} × ${image.width} × ` +
    `${image.channels}, ${facts.scaled ? "scaled as the file says" : "pixels of 0 to 1"}; ` +
    (sites.length ? `${sites.length} ULSAM` : "no attention");
  at("run").textContent = model.runBy;
  tell(model.remark);
  clear();
  // WebGPU makes its shaders in the first run, which is no measure of the others.
  await model.run(new Float32Array(image.height * image.width * image.channels));
  show(picture);
}

/** One after the other, whatever is chosen meanwhile. */
function queued(name, bytes) {
  opening = opening.then(() => open(name, bytes)).catch((error) => tell(`${name}: ${error.message}`));
}

async function openFile(file) {
  if (file) queued(file.name, new Uint8Array(await file.arrayBuffer()));
}

async function openImage(file) {
  if (!file) return;
  try {
    const image = await createImageBitmap(file);
    tell("");
    pad.show([]);
    show(image);
  } catch {
    tell(`${file.name}: this browser cannot read it as an image.`);
  }
}

async function start() {
  const asked = new URLSearchParams(location.search).get("backend");
  if (asked === "webgpu" || asked === "wasm") at("backend").value = asked;
  pad.show(EXAMPLE, true);
  picture = digitPicture(EXAMPLE);
  const response = await fetch(DIGITS);
  if (!response.ok) {
    at("run").textContent = "";
    tell("The digits model is not here: run `make web`, or open another file.");
    return;
  }
  await open(DIGITS, new Uint8Array(await response.arrayBuffer()));
}

/** A chosen file, which may be chosen again. */
function onFile(id, use) {
  at(id).addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = "";
    use(file);
  });
}

at("clear").addEventListener("click", () => pad.clear());
at("backend").addEventListener("change", () => {
  if (opened.bytes) queued(opened.name, opened.bytes);
});
onFile("image", openImage);
onFile("file", openFile);
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) (file.type.startsWith("image/") ? openImage : openFile)(file);
});

let opening = start().catch((error) => tell(error.message));
