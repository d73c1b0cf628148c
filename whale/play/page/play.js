// One drive at a time. The server holds its states; this page holds what it was told of each step, for the strip.
"use strict";

const PAIRS = [["w", "s"], ["a", "d"], ["r", "f"], ["u", "o"], ["i", "k"], ["q", "e"]]; // + and -, dimension by dimension
const STICKS = [[1, -1], [0, -1], [3, -1], [null, 0], [null, 0], [2, -1]]; // axis of a gamepad, and its sign
const DEAD = 0.15; // of a stick
const $ = (id) => document.getElementById(id);
const painter = { imagined: $("imagined").getContext("2d"), recorded: $("recorded").getContext("2d") };

const frameNames = { drawn: "drawn", likeliest: "the most likely ones" };

let about = null; // of the robot's world
let drive = null; // number of the one that goes on
let moments = []; // answers without frames, by step
let held = new Map(); // what is held down -> [dimension, sign]
let gripper = 1;
let playing = false;
let busy = false;
let wanted = []; // single requests that wait their turn
let times = []; // when the last steps were shown
let padWas = false;

async function ask(path, message) {
  const options = message === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(message),
  };
  const answer = await fetch(path, options).catch(() => { throw new Error("no answer: has whale play ended? start it again, and open its new address"); });
  const found = await answer.json();
  if (found.error) {
    const { what, place, found: seen, expected, remedy } = found.error;
    const parts = [place && `at ${place}`, seen && `found ${seen}`, expected && `expected ${expected}`, remedy];
    throw new Error([what, ...parts.filter(Boolean)].join("; "));
  }
  return found;
}

function paint(name, text) {
  const context = painter[name], side = about.resolution;
  context.canvas.width = context.canvas.height = side;
  const image = context.createImageData(side, side);
  if (text) {
    const bytes = atob(text);
    for (let pixel = 0; pixel < side * side; pixel += 1) {
      for (let colour = 0; colour < 3; colour += 1) image.data[4 * pixel + colour] = bytes.charCodeAt(3 * pixel + colour);
      image.data[4 * pixel + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

function show(found) {
  const { frame, recorded, ...rest } = found;
  paint("imagined", frame);
  const steps = about.starts[Number($("start").value)].steps;
  if (recorded) paint("recorded", recorded);
  drive = found.drive;
  moments.length = found.step;
  moments.push(rest);
  $("step").textContent = `step ${found.step}`;
  $("recorded-step").textContent = recorded ? `step ${found.step} of ${steps}`
    : found.step > steps ? "the episode is over" : "frames were not kept";
  const value = found.uncertainty;
  $("doubt-now").textContent = value !== null ? value.toPrecision(3) : found.doubt === "none" || !found.step ? "" : "not defined yet";
  $("limit").textContent = limitText(found);
  $("gif").href = `gif/${drive}`;
  $("notice").textContent = found.notice;
  drawStrip();
  document.body.dataset.step = found.step;
}

function limitText(found) {
  const doubt = $("doubt").value;
  if (doubt === "none") return "";
  if (!about.limits.includes(doubt)) return "never calibrated for this world: no limit";
  const share = `${Math.round(100 * about.coverage)} % of held-out steps lie below the line`;
  const state = found.beyond ? "beyond the trusted range; " : "";
  const calibrated = about.frames[0];
  return state + share + ($("frames").value === calibrated ? "" : ` if frames are ${frameNames[calibrated]}: here it is rough`);
}

function drawStrip() {
  const canvas = $("strip"), ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  context.scale(ratio, ratio);
  const values = moments.flatMap(({ uncertainty, limit }) => [uncertainty, limit]).filter((each) => each !== null);
  const highest = 1.15 * Math.max(...values, 1e-9), slot = stripSlot(width);
  const y = (value) => height - 1 - (height - 2) * Math.min(value / highest, 1);
  context.fillStyle = colour("--line");
  context.fillRect(0, height - 1, width, 1);
  moments.forEach(({ uncertainty, beyond }, step) => {
    if (uncertainty === null) return;
    context.fillStyle = colour(beyond ? "--warm" : "--calm");
    context.fillRect((step - 1) * slot + 1, y(uncertainty), Math.max(slot - 2, 1), height - 1 - y(uncertainty));
  });
  context.strokeStyle = colour("--text");
  context.setLineDash([4, 3]);
  moments.forEach(({ limit }, step) => {
    if (limit === null) return;
    context.beginPath();
    context.moveTo((step - 1) * slot, y(limit));
    context.lineTo(step * slot, y(limit));
    context.stroke();
  });
}

function stripSlot(width) {
  return width / Math.max(moments.length - 1, 32);
}

function say(text) {
  $("notice").textContent = text;
}

// Requests go one after another: a step begins where the one before ended.
async function turn(message) {
  busy = true;
  try {
    show(await ask("drive", message));
    if (message.do === "step") {
      times = [...times.slice(-19), performance.now()];
      const span = times[times.length - 1] - times[0];
      $("rate").textContent = times.length > 4 ? `${(1000 * (times.length - 1) / span).toFixed(1)} frames/s` : "";
    }
  } catch (error) {
    stop();
    held.clear();
    lightKeys();
    say(error.message);
  }
  busy = false;
}

function stepMessage(axes) {
  return { do: "step", drive, by: axes ? "keys" : $("by").value, axes: axes || [], gripper, z: $("z").value,
    z_seed: Number($("z-seed").value) || 0, doubt: $("doubt").value, frames: $("frames").value };
}

function gamepad() {
  return [...(navigator.getGamepads ? navigator.getGamepads() : [])].find(Boolean);
}

function watchPadButton() {
  const pad = gamepad(), before = padWas;
  padWas = Boolean(pad && pad.buttons[0] && pad.buttons[0].pressed);
  if (padWas && !before) toggleGripper();
}

function axesNow() {
  const axes = about.axes.map(() => 0), size = Number($("size").value);
  for (const [dimension, sign] of held.values()) axes[dimension] += sign * size;
  const pad = gamepad();
  if (pad) {
    STICKS.forEach(([axis, sign], dimension) => {
      const value = axis === null || dimension >= axes.length ? 0 : pad.axes[axis] || 0;
      if (Math.abs(value) > DEAD) axes[dimension] += sign * value * size;
    });
  }
  return axes.map((value) => Math.max(-1, Math.min(1, value)));
}

async function loop() {
  if (about) watchPadButton();
  if (about && !busy && (drive !== null || wanted.length)) {
    const axes = axesNow();
    if (wanted.length) await turn(wanted.shift());
    else if (playing && $("by").value !== "keys") await turn(stepMessage(null));
    else if (axes.some((value) => value !== 0)) await turn(stepMessage(axes));
    else times = [];
  }
  window.requestAnimationFrame(loop);
}

function oneStep() {
  const axes = $("by").value === "keys" ? axesNow() : null;
  wanted.push(stepMessage(axes));
}

function back() {
  stop();
  const step = moments.length - 1;
  if (step > 0) wanted.push({ do: "rewind", drive, to: step - 1 });
}

function stop() {
  playing = false;
  $("play").textContent = "Play";
  $("play").classList.remove("lit");
}

function play() {
  if ($("by").value === "keys") {
    say("choose who acts first: the recorded actions, or a policy");
    return;
  }
  playing = !playing;
  $("play").textContent = playing ? "Pause" : "Play";
  $("play").classList.toggle("lit", playing);
}

function toggleGripper() {
  gripper = gripper ? 0 : 1;
  if ($("by").value === "keys" && drive !== null) wanted.push(stepMessage(axesNow()));
  lightKeys();
}

function lightKeys() {
  const held_now = new Set([...held.values()].map(String));
  for (const button of document.querySelectorAll("#pads button[data-axis]")) {
    button.classList.toggle("lit", held_now.has(`${button.dataset.axis},${button.dataset.sign}`));
  }
  $("gripper").textContent = gripper ? "open" : "closed";
}

function fill(id, rows, keep) {
  const select = $(id), before = select.value;
  select.replaceChildren(...rows.map(([value, text]) => new Option(text, value)));
  if (keep && rows.some(([value]) => String(value) === before)) select.value = before;
}

async function open(dataset) {
  drive = null;
  stop();
  try {
    about = await ask(dataset ? `about?dataset=${encodeURIComponent(dataset)}` : "about");
    const { name, identity, rate_hz, frame, licence, origin } = about;
    $("about").textContent = `${name} (${identity}); ${rate_hz} actions a second in the ${frame} frame; data: ${licence}; ${origin}`;
    fill("dataset", about.datasets.map((each) => [each, each]));
    $("dataset").value = about.dataset;
    fill("start", about.starts.map(({ key, instruction }, number) => [number, `${number + 1}: ${instruction || key}`]));
    const names = { keys: "you", recorded: "the recorded actions" };
    fill("by", about.by.map((each) => [each, names[each] || `policy ${each}`]), true);
    const kinds = { prior: "inferred at each step", frozen: "frozen where it is", off: "off", drawn: "drawn by number" };
    fill("z", about.z.map((each) => [each, kinds[each]]), true);
    const doubts = { entropy: "entropy of the tokens", retracing: "retracing (slower)", none: "none" };
    fill("doubt", about.doubt.map((each) => [each, doubts[each]]), true);
    fill("frames", about.frames.map((each) => [each, frameNames[each]]), true);
    buildPads();
    begin();
  } catch (error) {
    say(error.message);
  }
}

function begin() {
  stop();
  wanted = [{ do: "begin", dataset: about.dataset, start: Number($("start").value) }];
  gripper = 1;
  lightKeys();
}

function buildPads() {
  const pads = [];
  about.axes.forEach(({ name, size, unit }, dimension) => {
    if (!size || dimension >= PAIRS.length) return;
    const label = document.createElement("span");
    label.textContent = name;
    label.title = `at 100 %: ${size.toPrecision(2)} ${unit} a step`;
    pads.push(label, ...[1, -1].map((sign, place) => padButton(dimension, sign, PAIRS[dimension][place])));
  });
  const label = document.createElement("span"), button = document.createElement("button");
  label.textContent = "gripper";
  button.id = "gripper";
  button.className = "wide";
  button.addEventListener("click", toggleGripper);
  $("pads").replaceChildren(...pads, label, button);
  lightKeys();
}

function padButton(dimension, sign, key) {
  const button = document.createElement("button"), letter = document.createElement("kbd");
  letter.textContent = key.toUpperCase();
  button.append(letter, sign > 0 ? " +" : " \u2212");
  button.dataset.axis = dimension;
  button.dataset.sign = sign;
  const hold = (is_held) => (event) => {
    event.preventDefault();
    setHeld(`pad ${dimension} ${sign}`, [dimension, sign], is_held);
  };
  button.addEventListener("pointerdown", hold(true));
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(end, hold(false));
  return button;
}

// A short tap acts once, also when it is over before the loop looks.
function setHeld(name, [dimension, sign], is_held) {
  if (is_held === held.has(name)) return;
  if (!is_held) held.delete(name);
  else {
    $("by").value = "keys";
    stop();
    if (!held.size && !busy && drive !== null) {
      held.set(name, [dimension, sign]);
      wanted.push(stepMessage(axesNow()));
    }
    held.set(name, [dimension, sign]);
  }
  lightKeys();
}

window.addEventListener("keydown", (event) => {
  if (!about || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=number]")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const dimension = PAIRS.findIndex((pair) => pair.includes(key));
  const actions = { " ": toggleGripper, Backspace: back, Enter: oneStep, p: play, n: begin, g: () => $("gif").click() };
  if (dimension >= 0 && dimension < about.axes.length && about.axes[dimension].size) {
    event.preventDefault();
    setHeld(key, [dimension, PAIRS[dimension][0] === key ? 1 : -1], true);
  } else if (actions[key] && !(["Enter", " "].includes(key) && event.target.matches("a, button, select"))) {
    event.preventDefault();
    if (!event.repeat || key === "Backspace") actions[key]();
  }
});
window.addEventListener("keyup", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (held.has(key)) setHeld(key, held.get(key), false);
});
window.addEventListener("blur", () => {
  held.clear();
  lightKeys();
});
window.addEventListener("resize", drawStrip);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawStrip);

$("strip").addEventListener("click", (event) => {
  const to = Math.ceil(event.offsetX / stripSlot($("strip").clientWidth));
  stop();
  if (to < moments.length - 1) wanted.push({ do: "rewind", drive, to });
});
$("back").addEventListener("click", back);
$("forward").addEventListener("click", oneStep);
$("play").addEventListener("click", play);
$("restart").addEventListener("click", begin);
$("dataset").addEventListener("change", () => open($("dataset").value));
$("start").addEventListener("change", begin);
$("by").addEventListener("change", stop);
$("z").addEventListener("change", () => { $("z-seed-label").hidden = $("z").value !== "drawn"; });
for (const id of ["doubt", "frames"]) {
  $(id).addEventListener("change", () => { if (moments.length) $("limit").textContent = limitText(moments[moments.length - 1]); });
}
const showSize = () => { $("size-now").textContent = `${Math.round(100 * Number($("size").value))} %`; };
$("size").addEventListener("input", showSize);
showSize();

open(null).then(loop);
