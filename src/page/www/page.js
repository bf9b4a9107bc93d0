// The live page: events from /api/live, shown. What is looked at is the last part, or one that was chosen in the strip.
import { knows, languages, next, number, time, word } from "/words.js";

const LAST = 48;
const SIGNS = { pass: "✓", reject: "✕", fault: "!" };
const at = (id) => document.getElementById(id);

let state = null; // the newest event
let parts = []; // the last parts, the oldest first
let pictures = new Set(); // the parts whose pictures there are
let held = null; // the part that was chosen; the last one, if none
let shown = null; // the part whose picture is shown
let session = null;
let source = null;

/** An element with this text and class. */
function make(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = kind;
  return element;
}

/** Writes text where it differs. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A list of terms and what they are. */
function terms(list, rows) {
  list.replaceChildren(...rows.flatMap(([term, fact]) => [make("dt", term), make("dd", fact)]));
}

function milliseconds(microseconds) {
  return `${number(microseconds / 1000, 1)} ms`;
}

/** The part that is looked at. */
function current() {
  return parts.find((part) => part.sequence === held) ?? parts.at(-1);
}

function zones(part) {
  const hit = [...Array(16).keys()].filter((zone) => part.zones & (1 << zone)).map((zone) => zone + 1);
  return hit.length ? hit.join(", ") : "–";
}

function showReady(is) {
  at("ready").classList.toggle("on", is);
  at("ready").dataset.word = is ? "ready" : "notready";
  write(at("ready"), is ? word("ready") : word("notready"));
}

function showResult() {
  const part = current();
  if (!part) return;
  const name = `${word("part")} ${part.sequence}`;
  at("result").dataset.verdict = part.verdict;
  write(at("part"), part.part_id ? `${name} · ${word("partid")} ${part.part_id}` : name);
  write(at("sign"), SIGNS[part.verdict]);
  write(at("word"), word(`verdict.${part.verdict}`));
  const fault = `${part.reason} · ${word("fault." + part.reason)}`;
  write(at("class"), part.verdict === "fault" ? fault : (part.class ?? ""));
  const judged = part.score !== null;
  write(at("score-value"), judged ? number(part.score, 2) : "–");
  write(at("threshold"), number(part.threshold, 2));
  at("fill").style.width = `${100 * (part.score ?? 0)}%`;
  at("mark").style.left = `${100 * part.threshold}%`;
  const times = Object.values(part.timings_us).reduce((sum, each) => sum + each, 0);
  const facts = [
    [word("told"), milliseconds(part.told_us)],
    [word("judging"), judged ? milliseconds(times) : "–"],
    [word("engine"), judged ? milliseconds(part.timings_us.engine) : "–"],
    [word("regions"), number(part.regions)],
  ];
  if (state.zones) facts.push([word("zones"), zones(part)]);
  facts.push([word("at"), time(part.at)], [word("release"), part.release]);
  terms(at("facts"), facts);
}

/** What is wrong with the station: what keeps it from taking parts, or the last part's reason until the PLC clears it. */
function showAlert() {
  const code = state.outputs.code;
  const wrong = state.outputs.fault && code;
  at("alert").hidden = !wrong;
  if (!wrong) return;
  at("alert").dataset.kind = state.outputs.run ? "latched" : "stopped";
  write(at("alert-code"), `${word("fault")} ${code}`);
  write(at("alert-meaning"), knows(`fault.${code}`) ? word("fault." + code) : "");
  write(at("alert-cure"), knows(`cure.${code}`) ? word("cure." + code) : "");
}

/** What has changed in the pictures, until the PLC clears it. */
function showDrift() {
  const drift = state.drift;
  at("drift").hidden = !drift;
  if (!drift) return;
  const key = `drift.${drift.what}.${drift.less ? "less" : "more"}`;
  write(at("drift-what"), `${word(key)} ${number(drift.percent)} %`);
  write(at("drift-since"), `${word("since")} ${drift.part}`);
  write(at("drift-cure"), word("cure." + key));
}

function showShift() {
  const { pass, reject, fault, classes, faults } = state.shift;
  const all = pass + reject + fault;
  write(at("yield-value"), all ? `${number((100 * pass) / all, 1)} %` : "–");
  terms(at("totals"), [
    [word("parts"), number(all)],
    [word("good"), number(pass)],
    [word("rejects"), number(reject)],
    [word("faults"), number(fault)],
    [word("missed"), number(state.missed)],
  ]);
  const rows = Object.entries(classes).concat(Object.entries(faults).map(([code, count]) => [`${word("fault")} ${code}`, count]));
  rows.sort((a, b) => b[1] - a[1]);
  const most = rows[0]?.[1];
  at("classes").replaceChildren(
    ...rows.slice(0, 6).map(([name, count]) => {
      const row = make("li");
      const bar = make("i");
      bar.style.width = `${(100 * count) / most}%`;
      row.append(make("span", name), make("b", number(count)), bar);
      return row;
    }),
  );
}

/** Lamps for bits, numbers for words. */
function showBits(list, bits) {
  const rows = Object.entries(bits).map(([name, value]) => {
    const isBit = typeof value === "boolean";
    const row = make("li", name.toUpperCase(), isBit && value ? "on" : "");
    row.dataset.bit = name;
    row.append(make("b", isBit ? (value ? "1" : "0") : String(value)));
    return row;
  });
  list.replaceChildren(...rows);
}

function chip(part) {
  const item = make("li");
  const button = make("button", "", part.verdict);
  button.type = "button";
  button.dataset.part = part.sequence;
  button.append(make("span", SIGNS[part.verdict]), make("small", part.sequence));
  button.addEventListener("click", () => hold(part.sequence));
  item.append(button);
  return item;
}

function showStrip(fresh) {
  const strip = at("strip");
  for (const part of fresh) strip.prepend(chip(part));
  while (strip.children.length > LAST) strip.lastElementChild.remove();
  for (const button of strip.querySelectorAll("button")) {
    const sequence = Number(button.dataset.part);
    const part = parts.find((each) => each.sequence === sequence);
    button.ariaPressed = String(held === sequence);
    button.ariaLabel = part ? `${word("part")} ${sequence}: ${word(`verdict.${part.verdict}`)}` : "";
    const image = button.querySelector("img");
    if (pictures.has(sequence) && !image) {
      const thumb = new Image();
      thumb.alt = "";
      thumb.src = `/api/picture?part=${sequence}`;
      thumb.addEventListener("error", () => thumb.remove());
      button.prepend(thumb);
    }
  }
}

function showCaption() {
  const part = parts.find((each) => each.sequence === shown);
  const words = part && [`${word("part")} ${part.sequence}`, word(`verdict.${part.verdict}`), part.class];
  write(at("caption-part"), words ? words.filter(Boolean).join(" · ") : "");
  at("live").hidden = held === null;
}

/** Shows the picture of a part when all of it is there. */
async function showPicture(sequence) {
  const image = new Image();
  image.src = `/api/picture?part=${sequence}`;
  try {
    await image.decode();
  } catch {
    return;
  }
  if (held !== null && held !== sequence) return;
  if (held === null && shown !== null && sequence < shown) return;
  shown = sequence;
  const picture = at("picture");
  picture.src = image.src;
  picture.alt = `${word("part")} ${sequence}`;
  picture.hidden = false;
  at("nothing").hidden = true;
  showCaption();
}

function showAll(fresh) {
  if (!state) return;
  showReady(state.outputs.ready);
  write(at("camera"), state.camera);
  showResult();
  showAlert();
  showDrift();
  showShift();
  showBits(at("outputs"), state.outputs);
  showBits(at("inputs"), state.inputs);
  showStrip(fresh);
  showCaption();
}

/** Looks at this part until it is let go; at the last one, if it is none. */
function hold(sequence) {
  held = sequence;
  if (sequence !== null && pictures.has(sequence)) showPicture(sequence);
  if (sequence === null && pictures.size) showPicture(Math.max(...pictures));
  showAll([]);
  at("strip").querySelector("[aria-pressed=true]")?.scrollIntoView({ inline: "center", block: "nearest" });
}

/** The part before or after the one that is looked at. */
function step(by) {
  const index = parts.indexOf(current()) + by;
  if (parts[index]) hold(parts[index].sequence);
}

function take(event) {
  state = JSON.parse(event.data);
  const last = parts.at(-1)?.sequence ?? -1;
  // Numbers that begin again are those of a station that was started again.
  if (state.parts.length && state.parts.at(-1).sequence < last) {
    parts = [];
    shown = null;
    held = null;
    at("strip").replaceChildren();
  }
  const fresh = state.parts.filter((part) => part.sequence > (parts.at(-1)?.sequence ?? -1));
  parts = parts.concat(fresh).slice(-LAST);
  pictures = new Set(state.pictures);
  online(true);
  showAll(fresh);
}

function takePicture(event) {
  const { sequence } = JSON.parse(event.data);
  pictures.add(sequence);
  if (held === null) showPicture(sequence);
  showStrip([]);
}

function online(is) {
  document.body.classList.toggle("offline", !is);
  if (is) return;
  showReady(false);
  at("alert").hidden = false;
  at("alert").dataset.kind = "stopped";
  write(at("alert-code"), word("offline"));
  write(at("alert-meaning"), "");
  write(at("alert-cure"), word("offline.cure"));
}

/** Whoever is not logged in any more is sent to log in. */
async function check() {
  try {
    const answer = await fetch("/api/session");
    if (answer.status === 401) location.replace("/login");
    else session = await answer.json();
  } catch {
    online(false);
  }
}

function look() {
  source?.close();
  source = new EventSource("/api/live");
  source.addEventListener("live", take);
  source.addEventListener("picture", takePicture);
  source.addEventListener("error", () => {
    online(false);
    check();
    if (source.readyState === EventSource.CLOSED) setTimeout(look, 2000);
  });
}

// Nobody looks at a page that is hidden: the station has less to do.
document.addEventListener("visibilitychange", () => (document.hidden ? source?.close() : look()));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT" || at("help").open) return;
  const keys = {
    ArrowLeft: () => step(1),
    ArrowRight: () => step(-1),
    Escape: () => (document.body.classList.contains("large") ? document.body.classList.remove("large") : hold(null)),
    f: () => document.body.classList.toggle("large"),
    l: () => next(at("language")),
    "?": () => at("help").showModal(),
  };
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

at("live").addEventListener("click", () => hold(null));
at("frame").addEventListener("click", () => document.body.classList.toggle("large"));
at("help-open").addEventListener("click", () => at("help").showModal());
at("leave").addEventListener("click", async () => {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": session?.csrf ?? "" };
  await fetch("/api/logout", { method: "POST", headers }).catch(() => {});
  location.replace("/login");
});

languages(at("language"), () => showAll([]));
await check();
write(at("user"), session?.user ?? "");
look();
