// The page: connects text, server, reader and panels.

import { explainSections, request, RequestError, token } from "./api.js";
import { keyOf } from "./decoding.js";
import { FormDialog, SearchDialog } from "./dialogs.js";
import { byId, debounced, element } from "./dom.js";
import { candidateOf, Edits } from "./edits.js";
import { EXAMPLES } from "./examples.js";
import { copy, htmlOf, save } from "./exporting.js";
import { droppable, textOf } from "./files.js";
import { Inspector } from "./inspector.js";
import { Overview } from "./overview.js";
import { Progress } from "./progress.js";
import { Reader, reducedMotion, trimmed } from "./reader.js";
import { Session } from "./session.js";
import { plural, ThresholdPanel } from "./threshold.js";

const LIVE = 3000; // characters up to which a text is linked while it is typed
const PAUSE_MS = 350;
const RETRY_MS = 1000;
const TEXT = "blink-text";
const WIDE = "(min-width: 62.01rem)"; // as in panels.css

const field = byId("text");
let session = new Session();
let threshold = null; // what the user set; null for the server's own
let only = null; // kind of entity that is shown alone
let running = null; // AbortController of the text that is being linked

// -- what is shown ---------------------------------------------------------------------------------------------------

const reader = new Reader(byId("reader"), {
  select: (item) => inspect(item),
  open: () => inspector.focus(),
});
const inspector = new Inspector({
  close: () => (reader.selected === null ? reader.root.focus() : closeInspector()),
  step: (by) => reader.step(by, { scroll: true }),
  correct: (item, correction) => correct(item, correction),
  uncorrect: (item) => attempt(() => edits.uncorrect(session, item.mention).then(show)),
  search: (item) => search.open(textOfItem(item), (entity) => correct(item, { entity, verdict: "entity" })),
  add: (item) => entityDialog.open({ "entity-title": textOfItem(item) }),
});
const panel = new ThresholdPanel((value) => {
  threshold = value;
  session.threshold = value ?? session.defaultThreshold;
  requestAnimationFrame(show);
  announceCount();
});
const overview = new Overview({
  only: (kind) => {
    only = kind;
    show();
  },
  visit: (key) => reader.select(key, { focus: true, scroll: true }),
  jump: (share) => {
    const box = reader.root.getBoundingClientRect();
    scrollBy({ top: box.top + share * box.height - innerHeight / 2, behavior: reducedMotion() ? "auto" : "smooth" });
  },
});
const progress = new Progress(() => {
  stop();
  show();
});

function show() {
  const links = session.items();
  const items = byId("weaker").checked ? [...links, ...session.weaker(links)].sort((a, b) => a.mention.start - b.mention.start) : links;
  if (only !== null && !links.some((item) => item.kind.name === only)) only = null;
  panel.show(session, links);
  if (!session.text) welcome();
  else if (!items.length && session.done >= session.offsets.length) explainNone();
  else reader.show(session, items, only);
  overview.show(session, links, only);
  inspect(reader.items.find((item) => item.key === reader.selected) ?? null);
  for (const id of ["copy", "save-html"]) byId(id).disabled = !session.text || session.done === 0;
}

function inspect(item) {
  const links = reader.items;
  const shown = item && { ...item, verdict: session.corrections.get(item.key)?.verdict };
  inspector.show(session, shown, { index: links.findIndex((other) => other.key === item?.key), count: links.length });
}

function closeInspector() {
  const key = reader.selected;
  reader.select(null);
  (reader.nodeOf(key) ?? reader.root).focus();
  reader.select(null);
}

function welcome() {
  reader.message("Nothing to link yet", "Type or paste a text above, drop a file, or take one of the examples.");
}

function explainNone() {
  const [next] = session.weaker([]).sort((a, b) => b.mention.score - a.mention.score);
  if (!next) return reader.message("No links", "The text holds nothing that reads as the name of an entity.");
  const lower = Math.max(session.scale.low, (Math.ceil(next.mention.score * 100) - 1) / 100);
  const name = session.slice(next.mention.start, next.mention.end);
  const line = `The best guess below it is “${name}”, ${next.entity.title} (${session.scale.text(next.mention.score)}).`;
  const actions = element("button", { type: "button", class: "quiet", onclick: () => setThreshold(lower) }, `Lower the threshold to ${session.scale.threshold(lower)}`);
  return reader.message(`No links above ${session.scale.threshold(session.threshold)}`, line, { actions });
}

function setThreshold(value) {
  threshold = session.threshold = value;
  show();
  announceCount();
  reader.root.focus();
}

const announce = (text) => (byId("announcer").textContent = text);
const announceCount = debounced(() => announce(`${plural(session.items().length, "link")} at ${session.scale.threshold(session.threshold)}`), 500);
const textOfItem = ({ mention }) => session.slice(mention.start, mention.end);

// -- linking ---------------------------------------------------------------------------------------------------------

function stop() {
  running?.abort();
  running = null;
  live.cancel();
  progress.end();
  byId("reader").removeAttribute("aria-busy");
}

/** Link the text of the field. `keep`: pinned and corrected mentions, since the text is the same. */
async function link({ keep = false } = {}) {
  stop();
  const text = field.value.toWellFormed ? field.value.toWellFormed() : field.value;
  sizeChanged();
  if (!text.trim()) {
    [session, only] = [new Session(), null];
    return show();
  }
  const next = new Session(text);
  next.threshold = threshold;
  if (keep && session.text === text) [next.pinned, next.corrections] = [session.pinned, session.corrections];
  const controller = (running = new AbortController());
  const isSame = () => running === controller;
  byId("reader").setAttribute("aria-busy", "true");
  reader.root.classList.add("stale");
  progress.begin(next.offsets.length);
  try {
    await explainSections({ text }, controller.signal, (section) => {
      if (!isSame()) return;
      next.add(section);
      progress.advance(section.end);
      if (session !== next) begin(next);
      show();
    });
    if (isSame()) announce(plural(session.items().length, "link"));
  } catch (error) {
    if (error.name !== "AbortError" && isSame()) failed(error, next);
  } finally {
    if (isSame()) {
      running = null; // nothing to abort any more
      stop();
      sizeChanged();
    }
  }
}

function begin(next) {
  if (next.text !== session.text) {
    reader.selected = null;
    overview.restart();
  }
  session = next;
}

function failed(error, next) {
  if (error instanceof RequestError && error.isLoading) {
    setTimeout(() => running === null && field.value === next.text && link(), RETRY_MS);
    return reader.message("The server is not ready", `${sentence(error.message)} The text is linked as soon as it is.`);
  }
  if (next.done) return toast(`${sentence(error.message)} ${next.done.toLocaleString("en")} characters are linked.`, { failed: true });
  session = new Session();
  show();
  const again = element("button", { type: "button", class: "quiet", onclick: () => link() }, "Try again");
  reader.message("The text was not linked", sentence(error.message), { failed: true, actions: again });
  return announce(`The text was not linked. ${sentence(error.message)}`);
}

/** A line of the server as a sentence. */
const sentence = (line) => `${line[0].toUpperCase()}${line.slice(1)}${/[.!?]$/.test(line) ? "" : "."}`;

const live = debounced(() => link(), PAUSE_MS);

/** Link characters that the user selected, in the text area or in the linked text. */
async function linkSelection() {
  const span = selectedSpan();
  if (span === null) return toast("Select some characters of the text first.", { failed: true });
  const current = session;
  return attempt(async () => {
    const mention = await current.explained(span);
    if (session !== current) return;
    if (!mention?.candidates.length) return toast("Nothing in the knowledge base comes near these words.", { failed: true });
    const before = current.pinned;
    current.pin(mention);
    edits.note({ label: `the link of “${mention.mention}”`, undo: async () => (current.pinned = before) });
    document.getSelection()?.removeAllRanges();
    show();
    reader.select(keyOf(mention), { focus: true, scroll: true });
    announce(`${mention.mention}: ${mention.candidates[0].title}`);
  });
}

function selectedSpan() {
  const inField = document.activeElement === field || selection.where === "field";
  if (inField && field.value === session.text && field.selectionStart < field.selectionEnd) {
    return trimmed(session, field.selectionStart, field.selectionEnd);
  }
  return reader.selection(session) ?? selection.span;
}

/** The last selection: a button that is clicked or reached by Tab may take it away. */
const selection = { where: null, span: null };
document.addEventListener("selectionchange", () => {
  const active = document.activeElement;
  if (active === field) [selection.where, selection.span] = field.selectionStart < field.selectionEnd ? ["field", null] : [null, null];
  else if (!active?.closest?.("button, dialog, input")) {
    selection.span = reader.selection(session);
    selection.where = selection.span === null ? null : "reader";
  }
  byId("link-selection").disabled = selection.where === null;
});

// -- edits -----------------------------------------------------------------------------------------------------------

const tokenDialog = new FormDialog("token", async ({ token: value }) => {
  token.set(value);
  return null;
});
const edits = new Edits({
  askToken: (reason) => tokenDialog.ask({}, reason),
  changed: () => {
    const { last } = edits;
    byId("undo").disabled = last === null;
    byId("undo").title = last === null ? "Nothing to undo" : `Undo ${last.label}`;
  },
});
const entityDialog = new FormDialog("entity", async (values) => {
  const title = values["entity-title"];
  if (!title) return "The name is missing.";
  const aliases = values["entity-aliases"].split(",").map((alias) => alias.trim()).filter(Boolean);
  const types = values["entity-type"] ? [values["entity-type"]] : [];
  try {
    await edits.add({ title, text: values["entity-text"], aliases, types });
  } catch (error) {
    return error.message;
  }
  toast(`“${title}” is in the knowledge base.`, { action: ["Undo", undo] });
  if (field.value.trim()) link({ keep: true });
  return null;
});
const search = new SearchDialog(async (query) => {
  const { entities } = await request("GET", `entities?${new URLSearchParams({ q: query, limit: "12" })}`);
  return entities.map(candidateOf);
});

const correct = (item, correction) =>
  attempt(async () => {
    await edits.correct(session, item.mention, correction);
    show();
    const said = correction.entity === null ? "names nothing" : `is ${correction.entity.title}`;
    toast(`Saved: “${textOfItem(item)}” ${said}.`, { action: ["Undo", undo] });
  });

const undo = () =>
  attempt(async () => {
    const action = await edits.undo();
    if (action === null) return;
    toast(`Undone: ${action.label}.`);
    if (action.relinks) link({ keep: true });
    else show();
  });

/** Do something; say so if it fails. */
async function attempt(run) {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return toast(sentence(error.message), { failed: true });
  }
}

let toastTimer = 0;
function toast(text, { failed: hasFailed = false, action = null } = {}) {
  const node = byId("toast");
  const button = action && element("button", { type: "button", onclick: () => ((node.hidden = true), action[1]()) }, action[0]);
  node.classList.toggle("failed", hasFailed);
  node.hidden = false;
  node.replaceChildren(element("span", {}, text), ...(button ? [button] : []));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (node.hidden = true), hasFailed ? 9000 : 6000);
}

// -- the field and the buttons ----------------------------------------------------------------------------------------

function sizeChanged() {
  const count = field.value.length;
  const isPending = count > LIVE && field.value !== session.text;
  byId("size").textContent = count > LIVE ? `${count.toLocaleString("en")} characters${isPending ? ": press Link" : ""}` : "";
  for (const example of byId("examples").children) {
    example.setAttribute("aria-pressed", String(EXAMPLES.find(({ label }) => label === example.textContent).text === field.value));
  }
  if (count < 1 << 20) sessionStorage.setItem(TEXT, field.value);
}

function setText(text) {
  field.value = text;
  field.scrollTop = 0;
  return link();
}

const openFile = (file) => attempt(async () => setText(await textOf(file)));

field.addEventListener("input", () => {
  sizeChanged();
  if (field.value.length <= LIVE) live();
  else reader.root.classList.add("stale");
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) link();
});
field.addEventListener("paste", () => setTimeout(() => link()));
droppable(document.querySelector(".field"), openFile);
byId("open-file").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", () => {
  const [file] = byId("file").files;
  if (file) openFile(file);
  byId("file").value = "";
});
byId("clear").addEventListener("click", () => {
  setText("");
  field.focus();
});
byId("link").addEventListener("click", () => link());
byId("link-selection").addEventListener("mousedown", (event) => event.preventDefault()); // keeps the selection
byId("link-selection").addEventListener("click", linkSelection);
byId("add-entity").addEventListener("click", () => {
  const span = selectedSpan();
  entityDialog.open({ "entity-title": span === null ? "" : session.slice(span.start, span.end) });
});
byId("undo").addEventListener("click", undo);
byId("labels").addEventListener("change", () => reader.root.classList.toggle("labelled", byId("labels").checked));
byId("weaker").addEventListener("change", show);
byId("copy").addEventListener("click", () => attempt(() => copy(JSON.stringify(session, null, 1)).then(() => toast("The links are copied as JSON."))));
byId("save-html").addEventListener("click", () => save("linked-text.html", "text/html", htmlOf(session)));
byId("open-token").addEventListener("click", () => tokenDialog.open({ token: token.get() }));
byId("theme").addEventListener("change", ({ target }) => useTheme(target.value));

function useTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("blink-theme", theme);
  byId("theme").querySelector(`[value="${theme}"]`).checked = true;
}

byId("examples").append(
  ...EXAMPLES.map(({ label, text }) => element("button", { type: "button", class: "example", "aria-pressed": "false", onclick: () => setText(text) }, label)),
);

/** Show the details of the closest decision of the first text, where they do not cover it: the page then explains itself. */
function selectClosest() {
  const margin = ({ mention: { candidates } }) => candidates[0].score - (candidates[1]?.score ?? -1);
  const [closest] = session.items().filter((item) => item.entity).sort((a, b) => margin(a) - margin(b));
  if (closest && reader.selected === null && matchMedia(WIDE).matches) reader.select(closest.key);
}

/** Say how many entities there are, and whether they can be edited. */
async function showState() {
  const state = await request("GET", "page/state").catch(() => null);
  if (state === null) return void setTimeout(showState, 5 * RETRY_MS);
  byId("about").textContent = `links text to ${state.entities.toLocaleString("en")} entities`;
  byId("open-token").hidden = !state.edits;
  byId("entity-note").hidden = !state.edits;
  byId("entity-off").hidden = state.edits;
}

async function start() {
  const theme = localStorage.getItem("blink-theme");
  if (["auto", "light", "dark"].includes(theme)) useTheme(theme);
  const linked = setText(sessionStorage.getItem(TEXT) || EXAMPLES[0].text);
  await showState();
  await linked;
  selectClosest();
}

start();
