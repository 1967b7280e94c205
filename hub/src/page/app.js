// The overview page. State is plain maps; the feed marks what changed; one paint per frame updates only those nodes.
//
//   master data (once) ─► cards ─► nodes by line        snapshot, deltas ─► lines ─► dirty ─► paint
//
// Nothing from the hub is ever parsed as HTML: text goes in as text.

const $ = (id) => document.getElementById(id);
const API = "/api/v1";
const SILENCE_MS = 3_000;
const BACKOFF_MS = { first: 500, most: 30_000 };
const MOVES_SHOWN = 60;
const TAGGED_SHOWN = 8;
// When more than this changes at once, flashes would say nothing.
const FLASHES_MAX = 20;
// A scale that is well speaks every few seconds; a declared figure is as good as its last declaration.
const STALE_MS = { weight: 60_000, rfid: 60_000, scan: 7 * 86_400_000 };
const SOURCES = {
  weight: ["scale", "M2 5h12l-1.5 8h-9zM5 5a3 3 0 0 1 6 0"],
  scan: ["declared", "M2 3v10M5 3v10M7.5 3v10M11 3v10M14 3v10"],
  rfid: ["RFID", "M8 13v-3M5 9a4 4 0 0 1 6 0M2.5 6.5a8 8 0 0 1 11 0"],
};
const COUNTED_BY = { weight: "counted by a scale", scan: "by declaration", rfid: "counted by RFID" };
const number = new Intl.NumberFormat();
const signed = new Intl.NumberFormat(undefined, { signDisplay: "exceptZero" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const state = {
  facility: null, zones: new Map(), skus: new Map(), slots: new Map(), shelves: new Map(), planogram: new Map(), cells: new Map(),
  lines: new Map(), nodes: new Map(), moves: [], tagged: [], doubts: [], rate: [], dirty: new Set(), moved: false,
  filter: null, search: "", asOf: 0, link: "connecting", ahead: 0,
};

// ── talking to the hub ──────────────────────────────────────────────────────────────────────────────────────────────
class Refused extends Error {
  constructor(status, problem) { super(problem.detail ?? `The hub answered ${status}.`); this.status = status; this.problem = problem; }
}
async function call(path, options) {
  let answer;
  try { answer = await fetch(API + path, { credentials: "same-origin", ...options }); }
  catch { throw new Refused(0, { detail: "The hub cannot be reached. Check that it runs and that this device has a network." }); }
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) gate();
  if (!answer.ok) throw new Refused(answer.status, body);
  return { status: answer.status, body };
}
const get = async (path) => (await call(path)).body;
async function all(path) {
  const items = [];
  let cursor = "";
  do {
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}limit=1000${cursor}`);
    items.push(...page.items);
    cursor = page.next ? `&cursor=${encodeURIComponent(page.next)}` : "";
  } while (cursor);
  return items;
}
const q = encodeURIComponent;

// ── small helpers ───────────────────────────────────────────────────────────────────────────────────────────────────
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else if (key === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
function text(node, value) { if (node.textContent !== value) node.textContent = value; }
function icon(source) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", SOURCES[source]?.[1] ?? "");
  svg.append(path);
  return svg;
}
function ago(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}
/** When a line's source last spoke; the hub writes the beginning of time when it never did. */
function heard(line) {
  const at = Date.parse(line.fresh_at);
  return at > 0 ? `${ago(hubNow() - at)} ago` : "never heard";
}
const percent = (p) => `${Math.floor(p * 100)} %`;
const skuName = (id) => state.skus.get(id)?.name ?? id;
const key = (slot, sku) => `${slot}\n${sku}`;
/** The hub's time now: our clock may be wrong, the hub's is what ages are measured by. */
const hubNow = () => Date.now() + state.ahead;

// ── master data and cards ───────────────────────────────────────────────────────────────────────────────────────────
async function start() {
  let facilities;
  try { facilities = await all("/facilities"); }
  catch (error) { if (error.status !== 401) { banner(error.message); setTimeout(start, 3000); } return; }
  banner(null);
  if (facilities.length === 0) { checklist({}); setTimeout(start, 3000); return; }
  const wanted = new URLSearchParams(location.search).get("facility");
  const select = $("facility");
  select.replaceChildren(...facilities.map((f) => el("option", { value: f.id }, f.name)));
  select.disabled = false;
  select.value = facilities.some((f) => f.id === wanted) ? wanted : facilities[0].id;
  await open(select.value);
}

async function open(facility) {
  link.stop();
  Object.assign(state, { facility, lines: new Map(), moves: [], tagged: [], doubts: [], rate: [], asOf: 0 });
  const url = new URL(location.href);
  url.searchParams.set("facility", facility);
  history.replaceState(null, "", url);
  const f = `/facilities/${q(facility)}`;
  try {
    const [zones, shelves, slots, skus, planogram, devices, moves, tagged] = await Promise.all([
      all(`${f}/zones`), all(`${f}/shelves`), all(`${f}/slots`), all("/skus"), get(`${f}/planogram`), all(`/devices?facility=${q(facility)}`),
      get(`/movements?facility=${q(facility)}&order=desc&limit=${MOVES_SHOWN}`), get(`${f}/tag-events?limit=${TAGGED_SHOWN}`),
    ]);
    if (state.facility !== facility) return;
    state.zones = new Map(zones.map((z) => [z.id, z]));
    state.shelves = new Map(shelves.map((s) => [s.id, s]));
    state.slots = new Map(slots.map((s) => [s.id, s]));
    state.skus = new Map(skus.map((s) => [s.id, s]));
    state.planogram = new Map(planogram.lines.map((l) => [key(l.slot, l.sku), l]));
    state.cells = new Map(devices.flatMap((d) => d.channels.map((c) => [key(d.id, c.channel), c.slot])));
    state.devices = devices.length;
    state.moves = moves.items;
    state.tagged = tagged.items.map((e) => ({ ...e, from: e.from?.zone, to: e.to?.zone }));
    state.rate = state.moves.map((m) => [performance.now() - (Date.now() - Date.parse(m.at)), 1]).reverse();
  } catch (error) {
    if (error.status !== 401) { banner(error.message); setTimeout(() => state.facility === facility && open(facility), 3000); }
    return;
  }
  for (const id of ["slot-names", "sku-names"]) {
    const from = id === "slot-names" ? state.slots : state.skus;
    $(id).replaceChildren(...[...from.values()].map((item) => el("option", { value: item.id }, item.name)));
  }
  build();
  drawMoves();
  drawTagged();
  loadDoubts();
  link.start();
}

/** Lines of a slot: planned ones first, then what turned up. */
function linesOf(slot) {
  const planned = [...state.planogram.values()].filter((l) => l.slot === slot).map((l) => l.sku);
  const found = [...state.lines.values()].filter((l) => l.slot === slot && !planned.includes(l.sku)).map((l) => l.sku);
  return [...planned, ...found];
}

function build() {
  state.nodes = new Map();
  state.slotNodes = new Map();
  const shelves = new Map([...state.shelves.values()].map((shelf) => [shelf.id, []]));
  const bySlot = new Map();
  for (const line of [...state.planogram.values(), ...state.lines.values()]) {
    if (!bySlot.has(line.slot)) bySlot.set(line.slot, new Set());
    bySlot.get(line.slot).add(line.sku);
  }
  for (const slot of state.slots.values()) {
    const card = $("slot-template").content.cloneNode(true).firstElementChild;
    text(card.querySelector("h4"), slot.name === slot.id ? slot.id : `${slot.name} (${slot.id})`);
    state.slotNodes.set(slot.id, card);
    for (const sku of bySlot.get(slot.id) ?? []) addLine(card, slot.id, sku);
    shelves.get(slot.shelf)?.push(card);
  }
  $("shelf-list").replaceChildren(...[...shelves].filter(([, cards]) => cards.length > 0).map(([id, cards]) => {
    const shelf = state.shelves.get(id);
    return el("section", { class: "shelf", "aria-label": `Shelf ${shelf.name}` },
      el("header", {}, el("h3", {}, shelf.name), el("span", { class: "muted zone" }, state.zones.get(shelf.zone)?.name ?? "")),
      el("div", { class: "slots" }, ...cards));
  }));
  state.dirty = new Set(state.nodes.keys());
  filter();
  paintSoon();
}

function addLine(card, slot, sku) {
  const row = $("line-template").content.cloneNode(true).firstElementChild;
  const part = (name) => row.querySelector(`.${name}`);
  const nodes = { row, sku: part("sku"), source: part("source"), count: part("count"), gauge: part("gauge").firstElementChild,
    percent: part("percent"), tags: part("tags"), age: part("age"), shown: {} };
  nodes.count.addEventListener("click", () => why(slot, sku));
  card.querySelector(".lines").append(row);
  state.nodes.set(key(slot, sku), nodes);
  return nodes;
}

// ── painting ────────────────────────────────────────────────────────────────────────────────────────────────────────
let painting = 0;
function paintSoon() { if (!painting) painting = requestAnimationFrame(paint); }

function paint() {
  painting = 0;
  state.flashing = state.dirty.size <= FLASHES_MAX;
  for (const id of state.dirty) {
    const [slot, sku] = id.split("\n");
    let nodes = state.nodes.get(id);
    if (!nodes && state.slotNodes?.has(slot)) nodes = addLine(state.slotNodes.get(slot), slot, sku);
    if (nodes) paintLine(id, nodes);
  }
  state.dirty.clear();
  if (state.moved) movesSoon();
  figures();
  if (state.search || state.filter) filter();
}

/** What there is to say about a line, apart from its number. */
function judge(id) {
  const line = state.lines.get(id);
  const plan = state.planogram.get(id);
  if (!line) return { known: false, tags: [["none", "Not counted yet"]], stale: false, low: false, doubt: false };
  const stale = hubNow() - Date.parse(line.fresh_at) > (STALE_MS[line.source] ?? Infinity);
  const empty = line.quantity <= 0 && line.planned;
  const low = !empty && plan?.min != null && line.quantity < plan.min;
  const doubt = line.confidence <= 0.5;
  const tags = [];
  if (empty) tags.push(["none", line.quantity < 0 ? "Below zero" : "Empty"]);
  if (low) tags.push(["low", "Low"]);
  if (doubt) tags.push(["doubt", "In doubt"]);
  if (stale) tags.push(["stale", "Stale"]);
  return { known: true, tags, stale, low: low || empty, doubt };
}

function paintLine(id, nodes) {
  const line = state.lines.get(id);
  const sku = id.split("\n")[1];
  const slot = id.split("\n")[0];
  const source = line?.source ?? state.planogram.get(id)?.source;
  const judged = judge(id);
  text(nodes.sku, skuName(sku));
  if (nodes.shown.source !== source) {
    nodes.source.replaceChildren(icon(source), SOURCES[source]?.[0] ?? source ?? "");
    nodes.shown.source = source;
  }
  const shown = line ? number.format(line.quantity) : "—";
  if (nodes.count.textContent !== shown) {
    if (nodes.shown.counted && state.flashing) flash(nodes.count);
    text(nodes.count, shown);
    nodes.count.setAttribute("aria-label", `${skuName(sku)} in ${slot}: ${line ? shown : "not counted yet"}. Why this number`);
  }
  nodes.shown.counted = Boolean(line);
  nodes.count.disabled = !line;
  const sure = line?.confidence ?? 0;
  text(nodes.percent, line ? `${percent(sure)} sure` : "");
  nodes.gauge.style.setProperty("--sure", `${sure * 100}%`);
  nodes.row.dataset.sure = sure > 0.9 ? "good" : sure > 0.5 ? "fair" : "poor";
  paintAge(id, nodes, judged);
}

function paintAge(id, nodes, judged = judge(id)) {
  const line = state.lines.get(id);
  text(nodes.age, line ? heard(line) : "");
  if (nodes.age.textContent && nodes.shown.fresh !== line?.fresh_at) {
    nodes.age.title = `Last heard ${dateTime.format(new Date(line.fresh_at))}, last changed ${dateTime.format(new Date(line.changed_at))}`;
    nodes.shown.fresh = line.fresh_at;
  }
  const tags = judged.tags.map(([, word]) => word).join();
  if (nodes.shown.tags !== tags) {
    nodes.tags.replaceChildren(...judged.tags.map(([kind, word]) => el("span", { class: `tag ${kind}` }, word)));
    nodes.row.classList.toggle("is-stale", judged.stale);
    nodes.shown.tags = tags;
  }
}

const still = matchMedia("(prefers-reduced-motion: reduce)");
/** A quiet flash. An animation of its own, because restarting a class's would force a layout for each change. */
function flash(node) {
  if (still.matches || document.hidden) return;
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--flash");
  node.animate([{ backgroundColor: colour }, { backgroundColor: "transparent" }], { duration: 1400, easing: "ease-out" });
}

function figures() {
  if (state.link === "gone") return;
  let units = 0, low = 0, stale = 0;
  for (const [id, line] of state.lines) {
    units += line.quantity;
    const judged = judge(id);
    low += judged.low;
    stale += judged.stale;
  }
  const live = state.link === "live";
  text($("kpi-units"), number.format(units));
  text($("kpi-lines"), number.format(state.lines.size));
  text($("kpi-low"), number.format(low));
  text($("kpi-stale"), number.format(stale));
  text($("kpi-doubt"), number.format(state.doubts.length));
  const since = performance.now() - 60_000;
  while (state.rate.length && state.rate[0][0] < since) state.rate.shift();
  // A rate is a figure of now: without a link there is none.
  text($("kpi-rate"), live ? number.format(state.rate.reduce((sum, [, n]) => sum + n, 0)) : "—");
  const empty = state.lines.size === 0 && state.asOf > 0;
  $("main").hidden = empty || state.slots.size === 0;
  if ($("main").hidden) checklist({ facility: state.slots.size > 0, device: state.devices > 0, reading: state.moves.length > 0 });
  else $("first").hidden = true;
}

function checklist(done) {
  $("first").hidden = false;
  for (const step of ["facility", "device", "reading"]) $(`step-${step}`).classList.toggle("done", Boolean(done[step]));
  $("first-count").hidden = !done.facility;
}

function filter() {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  let any = false;
  for (const shelf of $("shelf-list").children) {
    let shelfShows = false;
    const shelfName = shelf.getAttribute("aria-label").toLowerCase();
    for (const card of shelf.querySelectorAll(".slot")) {
      const hay = `${shelfName} ${card.querySelector("h4").textContent.toLowerCase()}`;
      let cardShows = !state.filter && words.every((w) => hay.includes(w));
      for (const row of card.querySelectorAll(".line")) {
        const named = `${hay} ${row.querySelector(".sku").textContent.toLowerCase()}`;
        const good = words.every((w) => named.includes(w)) && (!state.filter || row.matches(FILTERS[state.filter]));
        if (row.hidden === good) row.hidden = !good;
        cardShows ||= good;
      }
      if (card.hidden === cardShows) card.hidden = !cardShows;
      shelfShows ||= cardShows;
    }
    if (shelf.hidden === shelfShows) shelf.hidden = !shelfShows;
    any ||= shelfShows;
  }
  $("no-match").hidden = any || state.slots.size === 0;
}
const FILTERS = { low: ":has(.tag.low, .tag.none)", stale: ".is-stale", doubt: ":has(.tag.doubt)" };

function setFilter(name) {
  state.filter = state.filter === name ? null : name;
  for (const button of document.querySelectorAll(".toggle[data-filter]")) {
    button.setAttribute("aria-pressed", String(button.dataset.filter === state.filter));
  }
  filter();
}

// ── movements and discrepancies ─────────────────────────────────────────────────────────────────────────────────────
function moveNode(m, current) {
  const button = el("button", { class: "move", "aria-haspopup": current === undefined ? "dialog" : null, "aria-current": current ? "true" : null,
    on: { click: () => (current === undefined ? why(m.slot, m.sku, m.id) : explain(m.id)) } },
    el("span", { class: `delta num ${m.delta > 0 ? "up" : m.delta < 0 ? "down" : ""}` }, signed.format(m.delta)),
    el("span", { class: "name" }, skuName(m.sku)),
    el("time", { class: "time num", datetime: m.at, title: dateTime.format(new Date(m.at)) }, clock.format(new Date(m.at))),
    el("span", { class: "more" }, `${m.slot} · ${m.cause} · now ${number.format(m.level_after)}`),
    el("span", { class: "sure-text num" }, percent(m.confidence)));
  return el("li", { "data-id": m.id }, button);
}

/** What a tag did, in words. */
const DID = {
  arrived: (e) => `came to ${zoneName(e.to)}`,
  returned: (e) => `is back in ${zoneName(e.to)}`,
  moved: (e) => (e.from === e.to ? `moved within ${zoneName(e.to)}` : `${zoneName(e.from)} → ${zoneName(e.to)}`),
  departed: (e) => ({ exit: `went out, last in ${zoneName(e.from)}`, sale: `sold at ${zoneName(e.from)}` })[e.how] ?? `gone from ${zoneName(e.from)}`,
};
const zoneName = (id) => state.zones.get(id)?.name ?? id ?? "an unknown place";

function drawTagged() {
  $("tagged-panel").hidden = state.tagged.length === 0;
  $("tagged").replaceChildren(...state.tagged.map((e) => el("li", {},
    el("div", { class: "move", title: e.tag },
      el("span", { class: `delta ${e.kind === "departed" ? "down" : "up"}`, "aria-hidden": "true" }, { departed: "↗", moved: "→" }[e.kind] ?? "↘"),
      el("span", { class: "name" }, e.sku ? skuName(e.sku) : `Tag …${e.tag.slice(-6)}`),
      el("time", { class: "time num", datetime: e.at, title: dateTime.format(new Date(e.at)) }, clock.format(new Date(e.at))),
      el("span", { class: "more" }, DID[e.kind](e))))));
}

let movesWaiting = 0;
/** The list at most twice a second: nobody reads faster. */
function movesSoon() {
  state.moved = false;
  movesWaiting ||= setTimeout(() => { movesWaiting = 0; drawMoves(); drawTagged(); }, 500);
}

function drawMoves() {
  const list = $("moves");
  const there = new Map([...list.children].map((node) => [node.dataset.id, node]));
  const fresh = state.moves.filter((m) => !there.has(m.id)).length;
  const quiet = there.size === 0 || fresh > FLASHES_MAX;
  const wanted = state.moves.map((m) => {
    const node = there.get(m.id) ?? moveNode(m);
    if (!quiet && !there.has(m.id)) flash(node);
    return node;
  });
  wanted.forEach((node, i) => { if (list.children[i] !== node) list.insertBefore(node, list.children[i] ?? null); });
  while (list.children.length > wanted.length) list.lastElementChild.remove();
  $("no-moves").hidden = wanted.length > 0;
}

let doubtsWaiting = 0;
function doubtsSoon() { doubtsWaiting ||= setTimeout(() => { doubtsWaiting = 0; loadDoubts(); }, 500); }
async function loadDoubts() {
  const facility = state.facility;
  try {
    const page = await get(`/discrepancies?facility=${q(facility)}&open=true&limit=200`);
    if (facility !== state.facility) return;
    state.doubts = page.items;
  } catch { return; }
  $("doubts").replaceChildren(...state.doubts.map((d) => el("li", { class: "doubt-item" },
    el("h3", {}, `${d.kind.replaceAll("_", " ").replace(/^./, (c) => c.toUpperCase())} · ${d.slot}`),
    el("p", {}, d.sku ? `${skuName(d.sku)}. ` : "", d.advice ?? ""),
    el("div", { class: "foot" },
      el("time", { datetime: d.opened_at, title: dateTime.format(new Date(d.opened_at)) }, `open for ${ago(hubNow() - Date.parse(d.opened_at))}`),
      el("button", { class: "toggle", on: { click: () => change("counts", d.slot, d.sku) } }, "Count now")))));
  $("no-doubts").hidden = state.doubts.length > 0;
  paintSoon();
}

// ── the link ────────────────────────────────────────────────────────────────────────────────────────────────────────
const link = {
  socket: null, tries: 0, timer: 0, heard: 0,
  start() {
    clearTimeout(this.timer);
    this.socket?.close();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${API}/live?facility=${q(state.facility)}`);
    this.socket = socket;
    this.heard = performance.now();
    socket.onmessage = (event) => { if (this.socket === socket) { this.heard = performance.now(); hear(JSON.parse(event.data)); } };
    socket.onclose = () => { if (this.socket === socket) this.lost(); };
  },
  stop() { clearTimeout(this.timer); const old = this.socket; this.socket = null; old?.close(); },
  lost() {
    this.socket = null;
    // Whether the session ended or the hub is away, a plain call finds out.
    call("/facilities?limit=1").catch(() => {});
    const most = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** this.tries++);
    this.timer = setTimeout(() => this.start(), most / 2 + Math.random() * most / 2);
    linkState(this.tries > 2 || !navigator.onLine ? "offline" : "reconnecting");
  },
  now() { if (state.facility && !this.socket) { this.tries = 0; this.start(); } },
};

function hear(message) {
  switch (message.type) {
    case "snapshot": {
      const before = state.lines;
      state.lines = new Map(message.stock.map((line) => [key(line.slot, line.sku), line]));
      state.dirty = new Set([...state.nodes.keys(), ...state.lines.keys(), ...before.keys()]);
      arrived(message.stock[0]?.as_of);
      if (link.tries > 0) catchUp();
      link.tries = 0;
      break;
    }
    case "delta":
      for (const line of message.stock) { state.lines.set(key(line.slot, line.sku), line); state.dirty.add(key(line.slot, line.sku)); }
      for (const { slot, sku } of message.gone) { state.lines.delete(key(slot, sku)); state.dirty.add(key(slot, sku)); }
      if (message.movements.length) {
        state.moves = [...message.movements].reverse().concat(state.moves).slice(0, MOVES_SHOWN);
        state.rate.push([performance.now(), message.movements.length + message.movements_skipped]);
        state.moved = true;
      }
      if (message.events.some((event) => event.kind.startsWith("discrepancy"))) doubtsSoon();
      for (const event of message.events.filter((event) => event.tag)) {
        state.tagged = [{ ...event, ...event.tag }, ...state.tagged].slice(0, TAGGED_SHOWN);
        state.moved = true;
      }
      if (message.gone.length || message.stock.some((line) => !state.slots.has(line.slot) || !state.skus.has(line.sku))) remaster();
      arrived(message.stock[0]?.as_of);
      break;
    case "heartbeat":
      arrived(message.at);
      break;
    case "live":
      for (const value of message.values) live(value);
      break;
  }
  paintSoon();
}

function arrived(at) {
  if (at) state.ahead = Date.parse(at) - Date.now();
  state.asOf = hubNow();
  linkState("live");
}

function live(value) {
  if (value.grams === undefined) return;
  const card = state.slotNodes?.get(state.cells.get(key(value.device, value.channel)));
  if (!card) return;
  const node = card.querySelector(".grams");
  node.hidden = false;
  text(node, `${number.format(Math.round(value.grams))} g`);
  node.title = `Live from ${value.device}, channel ${value.channel}; not stock`;
}

/** Movements that passed while the link was down. */
async function catchUp() {
  try {
    state.moves = (await get(`/movements?facility=${q(state.facility)}&order=desc&limit=${MOVES_SHOWN}`)).items;
    state.moved = true;
    paintSoon();
  } catch { /* The next snapshot tries again. */ }
  loadDoubts();
}

let remastering = 0;
/** Something came that master data did not know, or a line went: read it anew, not more than every five seconds. */
function remaster() { remastering ||= setTimeout(() => { remastering = 0; open(state.facility); }, 5000); }

function linkState(now) {
  if (state.link !== now && state.link !== "gone") {
    state.link = now;
    $("link").dataset.state = now;
    text($("link"), { live: "Live", connecting: "Connecting", reconnecting: "Reconnecting", stale: "Not updating", offline: "Offline", gone: "Signed out" }[now]);
    const away = now === "offline" || now === "stale";
    banner(away ? `No news from the hub since ${state.asOf ? clock.format(new Date(state.asOf)) : "this page was opened"}. Figures may be old; changing stock is off until the link is back.` : null);
    $("change-send").disabled = away;
    $("act").disabled = away;
    figures();
  }
}

function banner(words) { $("banner").hidden = !words; text($("banner"), words ?? ""); }
function gate() {
  link.stop();
  $("main").hidden = true;
  $("first").hidden = true;
  $("gate").hidden = false;
  linkState("gone");
}

setInterval(() => {
  if (link.socket && performance.now() - link.heard > SILENCE_MS) {
    linkState("stale");
    if (performance.now() - link.heard > 3 * SILENCE_MS) { link.stop(); link.lost(); }
  }
  text($("as-of"), state.asOf ? (state.link === "live" ? clock.format(new Date(state.asOf)) : `as of ${clock.format(new Date(state.asOf))}, ${ago(hubNow() - state.asOf)} old`) : "");
  for (const [id, nodes] of state.nodes) paintAge(id, nodes);
  if (state.nodes.size) figures();
}, 1000);
addEventListener("online", () => link.now());
document.addEventListener("visibilitychange", () => { if (!document.hidden) link.now(); });

// ── why this number ─────────────────────────────────────────────────────────────────────────────────────────────────
function show(dialog) { if (!dialog.open) dialog.showModal(); }

let opened = null;
async function why(slot, sku, movement) {
  opened = [slot, sku];
  const line = state.lines.get(key(slot, sku));
  text($("why-title"), `${skuName(sku)} in ${slot}`);
  const list = el("ol", { class: "moves", "aria-label": "Movements of this line, newest first" });
  const told = el("div", { id: "why-told", "aria-live": "polite" }, el("p", { class: "muted" }, "Reading the evidence…"));
  $("why-body").replaceChildren(
    el("div", { class: "now" }, el("strong", { class: "num" }, line ? number.format(line.quantity) : "—"),
      el("span", {}, line ? `units, ${percent(line.confidence)} sure, ${COUNTED_BY[line.source] ?? line.source}` : "units; the line is gone"),
      line ? el("span", { class: "muted" }, `last heard: ${heard(line)}; last changed: ${Date.parse(line.changed_at) > 0 ? dateTime.format(new Date(line.changed_at)) : "never"}`) : null),
    el("div", { class: "actions" }, ...[["counts", "Count"], ["receipts", "Receive"], ["picks", "Pick"], ["adjustments", "Adjust"]]
      .map(([kind, word]) => el("button", { class: "toggle", on: { click: () => change(kind, slot, sku) } }, `${word}…`))),
    told, el("section", {}, el("h3", {}, "Movements of this line"), list));
  show($("why"));
  try {
    const page = await get(`/movements?facility=${q(state.facility)}&slot=${q(slot)}&sku=${q(sku)}&order=desc&limit=25`);
    const chosen = movement ?? page.items[0]?.id;
    list.replaceChildren(...page.items.map((m) => moveNode(m, m.id === chosen)));
    if (chosen) await explain(chosen);
    else told.replaceChildren(el("p", {}, "Nothing has moved on this line yet; its quantity is where it began."));
  } catch (error) { told.replaceChildren(problem(error)); }
}

async function explain(id) {
  for (const node of $("why-body").querySelectorAll(".move")) node.setAttribute("aria-current", String(node.parentElement.dataset.id === id));
  const told = $("why-told");
  let e;
  try { e = await get(`/movements/${q(id)}/explain`); }
  catch (error) { told.replaceChildren(problem(error)); return; }
  const m = e.movement;
  told.replaceChildren(
    el("section", {}, el("h3", {}, `Why ${signed.format(m.delta)} at ${dateTime.format(new Date(m.at))}`),
      el("ol", { class: "told" }, ...e.narrative.map((sentence) => el("li", {}, el("span", {}, sentence))))),
    el("section", {}, el("h3", {}, "Evidence"), ...e.evidence.map(frame)),
    el("section", {}, el("h3", {}, "Rules and calibration"), facts([
      ["Rule", e.rule?.rule ?? "declared"], ["Fold version", String(e.fold_version)],
      ["Unit weight used", e.unit_weight_used_mg ? `${number.format(e.unit_weight_used_mg / 1000)} g` : null],
      ["SKU as of now", e.sku_now ? skuNow(e.sku_now) : null],
      ["Calibration", e.calibration ? `channel ${e.calibration.channel}: zero ${number.format(e.calibration.zero_mg / 1000)} g, scale ${number.format(e.calibration.scale_ppm / 1e6)}` : null],
      ["Set by", e.calibration?.set_by ?? null],
      ["Set at", e.calibration?.position ? copyable(e.calibration.position) : e.calibration ? "the device's enrolment" : null],
      ["Movement", copyable(m.id)], ["Caused by", m.principal ?? m.device],
      ["As data", el("a", { href: `${API}/movements/${q(id)}/explain`, target: "_blank", rel: "noopener" }, "explanation as JSON")],
    ])));
}

/** How a SKU is known at this moment: it may have had another name and weight when the movement was decided. */
function skuNow(sku) {
  const weight = sku.unit_weight_mg ? `, unit weight ${number.format(sku.unit_weight_mg / 1000)} g` : "";
  const retired = sku.retired_at ? `, retired ${dateTime.format(new Date(sku.retired_at))}` : "";
  return `${sku.name}${weight}${retired}`;
}

function frame(e) {
  const what = { frame: "Frame", command: "Call", master: "Master data", tick: "Time passed", gone: "No longer kept" }[e.kind] ?? "Entry";
  return el("article", { class: "frame" },
    facts([[what, copyable(e.position)], ["Received", e.received_at ? dateTime.format(new Date(e.received_at)) : null],
      ["Device", e.device ? `${e.device} · ${e.stream}` : null], ["By", e.principal],
      ["Sequence", e.seq === null ? null : `${e.seq}${e.boot ? ` of boot ${e.boot}` : ""}`],
      ["Profile", e.profile_hash ? copyable(e.profile_hash, `${e.profile ?? "unknown"} ${e.profile_hash.slice(0, 12)}…`) : null]]),
    e.decoded ? el("details", { open: true }, el("summary", {}, "What it says"), el("pre", { tabindex: "0" }, JSON.stringify(e.decoded, null, 2))) : null,
    e.raw_hex ? el("details", {}, el("summary", {}, `Raw bytes (${e.raw_hex.length / 2})`),
      e.raw_text !== null ? el("pre", { tabindex: "0" }, e.raw_text) : null,
      el("pre", { tabindex: "0" }, e.raw_hex.replace(/(..)/g, "$1 ").trim())) : null);
}

function facts(rows) {
  return el("dl", { class: "facts" }, ...rows.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function copyable(value, label = value) {
  const button = el("button", { class: "copy", type: "button", "aria-label": `Copy ${value}` }, "Copy");
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(value); text(button, "Copied"); }
    catch { text(button, "Select it"); getSelection().selectAllChildren(button.previousSibling); }
    setTimeout(() => text(button, "Copy"), 1500);
  });
  return el("span", {}, el("code", {}, label), " ", button);
}

function problem(error) {
  const id = error.problem?.request_id;
  return el("p", { class: "result", "data-state": "bad" }, error.message, id ? ` (request ${id})` : "");
}

// ── changing stock ──────────────────────────────────────────────────────────────────────────────────────────────────
const form = $("change-form");
let changeKey = "";
/** A key for each change; the same one when the same call is sent again. Works without a secure context too. */
function newKey() { changeKey = `page-${[...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("")}`; }

function change(kind, slot, sku) {
  form.reset();
  form.elements.kind.value = kind ?? "counts";
  $("change-slot").value = slot ?? "";
  $("change-sku").value = sku ?? "";
  $("change-result").hidden = true;
  newKey();
  shape();
  show($("change"));
  (slot && sku ? $("change-quantity") : $("change-slot")).focus();
}

function shape() {
  const kind = form.elements.kind.value;
  text($("quantity-label"), { counts: "Units there now", receipts: "Units received", picks: "Units taken", adjustments: "Change, such as 3 or -2" }[kind]);
  text($("reference-label"), kind === "adjustments" ? "Reason" : "Reference (optional)");
  $("reference-field").hidden = kind === "counts";
  $("change-quantity").min = kind === "adjustments" ? "" : kind === "counts" ? "0" : "1";
}

function result(kind, words) {
  const node = $("change-result");
  node.hidden = false;
  node.dataset.state = kind;
  text(node, words);
}

form.addEventListener("input", () => { newKey(); shape(); $("change-result").hidden = true; });
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const kind = form.elements.kind.value;
  const [slot, sku, reference] = ["slot", "sku", "reference"].map((name) => form.elements[name].value.trim());
  const quantity = Number(form.elements.quantity.value);
  const missing = !slot ? "slot" : !sku ? "sku" : form.elements.quantity.value === "" || !Number.isSafeInteger(quantity) ? "quantity" : kind === "adjustments" && !reference ? "reference" : null;
  if (missing) { result("bad", { slot: "Name the slot.", sku: "Name the SKU.", quantity: "Give a whole number of units.", reference: "Say why." }[missing]); form.elements[missing].focus(); return; }
  const body = kind === "adjustments" ? { slot, sku, delta: quantity, reason: reference } : { slot, sku, quantity };
  if (reference && (kind === "receipts" || kind === "picks")) body.reference = reference;
  $("change-send").disabled = true;
  try {
    const done = await call(`/facilities/${q(state.facility)}/${kind}`, { method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": changeKey }, body: JSON.stringify(body) });
    const line = done.body.movements?.find((m) => m.slot === slot && m.sku === sku);
    if (done.status === 202) result("wait", `Recorded at ${done.body.position}. It is safe and shows as soon as the database commits it.`);
    else result("good", line ? `Done: ${signed.format(line.delta)}, ${skuName(sku)} in ${slot} is now ${number.format(line.level_after)}.` : `Done at ${done.body.position}.`);
    newKey();
    // The drawer behind the sheet tells of the line as it was.
    if (opened && $("why").open) why(...opened);
  } catch (error) {
    result("bad", `${error.message}${error.problem?.code ? ` [${error.problem.code}, request ${error.problem.request_id}]` : ""}`);
  } finally { $("change-send").disabled = state.link !== "live"; }
});

// ── controls ────────────────────────────────────────────────────────────────────────────────────────────────────────
$("facility").addEventListener("change", (event) => open(event.target.value));
$("search").addEventListener("input", (event) => { state.search = event.target.value; filter(); });
$("clear").addEventListener("click", () => { $("search").value = ""; state.search = ""; state.filter = null; setFilter(null); $("search").focus(); });
$("act").addEventListener("click", () => change());
$("first-count").addEventListener("click", () => change());
for (const button of document.querySelectorAll("[data-filter]")) button.addEventListener("click", () => setFilter(button.dataset.filter));
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());
}
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) { event.preventDefault(); $("search").focus(); }
});

start();
