// The linked text: mentions in colour, reached by mouse, by arrow keys and by Tab.

import { element } from "./dom.js";

const LONG = 1500; // characters from which on a text is set smaller

/** Shows a session's text; tells which mention is selected. */
export class Reader {
  /**
   * @param {HTMLElement} root
   * @param {{select: function(?Object), open: function(Object)}} handlers `select`: an item has the focus; `open`: go to its details.
   */
  constructor(root, handlers) {
    this.root = root;
    this.handlers = handlers;
    this.items = [];
    this.selected = null; // key
    root.addEventListener("keydown", (event) => this.onKey(event));
    root.addEventListener("click", (event) => this.onClick(event));
    root.addEventListener("focusin", (event) => this.onFocus(event));
  }

  /**
   * Show a text with items, and without the mentions of other kinds in colour if one kind is given.
   *
   * @param {Session} session
   * @param {Array} items by position, without overlaps.
   * @param {?string} only name of a kind.
   */
  show(session, items, only = null) {
    const focused = this.root.contains(document.activeElement) ? this.selected : null;
    this.items = items;
    const fragment = document.createDocumentFragment();
    const textUntil = (start, end) => fragment.append(session.text.slice(start, end));
    let position = 0;
    for (const item of items) {
      const start = session.offsets.toUnit(item.mention.start);
      const end = session.offsets.toUnit(item.mention.end);
      textUntil(position, start);
      fragment.append(this.name(item, session.text.slice(start, end), session, only));
      position = end;
    }
    const linkedEnd = session.offsets.toUnit(session.done);
    textUntil(position, Math.max(position, linkedEnd));
    if (linkedEnd < session.text.length) {
      fragment.append(element("span", { class: "tail" }, session.text.slice(Math.max(position, linkedEnd))));
    }
    this.root.replaceChildren(fragment);
    this.root.classList.toggle("long", session.text.length > LONG);
    this.root.classList.remove("stale");
    if (!items.some((item) => item.key === this.selected)) this.selected = null;
    this.mark();
    if (focused !== null && this.selected !== null) this.nodeOf(this.selected)?.focus({ preventScroll: true });
  }

  name(item, text, session, only) {
    const { entity, mention, kind, state } = item;
    const classes = ["name", state === "link" ? "" : state, only && kind.name !== only ? "dim" : ""].filter(Boolean).join(" ");
    const names = entity === null ? "names nothing" : `${entity.title}, ${kind.name}`;
    const note = { link: "", pinned: ", linked by hand", corrected: ", corrected", nothing: ", corrected", weak: ", below the threshold" }[state];
    const score = state === "corrected" || state === "nothing" ? "" : `, ${session.scale.text(mention.score)}`;
    return element(
      "a",
      {
        class: classes,
        href: "#inspector",
        tabindex: "-1",
        "aria-label": `${text}: ${names}${score}${note}`,
        dataset: { key: item.key, kind: kind.colour, title: entity?.title ?? "", ...labelOf(text, entity) },
      },
      text,
    );
  }

  /** Replace the text by a message: a heading, a line, and perhaps buttons. */
  message(heading, line, { failed = false, actions = [] } = {}) {
    this.items = [];
    this.selected = null;
    this.root.classList.remove("long", "stale");
    const classes = failed ? "message failed" : "message";
    this.root.replaceChildren(element("div", { class: classes }, element("strong", {}, heading), line, element("br"), actions));
  }

  nodeOf(key) {
    return this.root.querySelector(`[data-key="${CSS.escape(key)}"]`);
  }

  /** One mention is in the order of Tab: the selected one, else the first. */
  mark() {
    const nodes = [...this.root.querySelectorAll(".name")];
    for (const node of nodes) {
      const isSelected = node.dataset.key === this.selected;
      node.tabIndex = isSelected ? 0 : -1;
      if (isSelected) node.setAttribute("aria-current", "true");
      else node.removeAttribute("aria-current");
    }
    if (this.selected === null && nodes.length) nodes[0].tabIndex = 0;
  }

  /** Select an item by key, or none. */
  select(key, { focus = false, scroll = false } = {}) {
    if (this.selected !== key) {
      this.selected = key;
      this.mark();
      this.handlers.select(this.items.find((item) => item.key === key) ?? null);
    }
    const node = key === null ? null : this.nodeOf(key);
    if (!scroll) node?.scrollIntoView({ block: "nearest" }); // the details may have covered it
    if (focus) (node ?? this.root).focus({ preventScroll: true });
    if (scroll) node?.scrollIntoView({ block: "center", behavior: reducedMotion() ? "auto" : "smooth" });
  }

  /** Select the next item (`by` = 1), the previous one (-1), the first or the last. */
  step(by, options = { focus: true }) {
    if (!this.items.length) return;
    const index = this.items.findIndex((item) => item.key === this.selected);
    const target = index < 0 ? (by > 0 ? 0 : this.items.length - 1) : Math.min(this.items.length - 1, Math.max(0, index + by));
    this.select(this.items[target].key, options);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    const onName = event.target.closest?.(".name");
    if (event.key in steps && this.items.length && (onName || event.target === this.root)) {
      if (event.key === "Home" || event.key === "End") this.select(this.items.at(event.key === "Home" ? 0 : -1).key, { focus: true });
      else this.step(steps[event.key]);
      event.preventDefault();
    } else if ((event.key === "Enter" || event.key === " ") && onName) {
      event.preventDefault();
      this.open(onName.dataset.key);
    } else if (event.key === "Escape" && this.selected !== null) {
      event.preventDefault();
      this.select(null, { focus: true });
    }
  }

  onClick(event) {
    const node = event.target.closest(".name");
    if (!node) return;
    event.preventDefault();
    if (selectionLength() === 0) this.select(node.dataset.key, { focus: true });
  }

  onFocus(event) {
    const node = event.target.closest(".name");
    if (node) this.select(node.dataset.key);
  }

  open(key) {
    this.select(key);
    const item = this.items.find((other) => other.key === key);
    if (item) this.handlers.open(item);
  }

  /** Characters `[start, end)` of the text that are selected in it, or null. @param {Session} session */
  selection(session) {
    const selection = document.getSelection();
    if (!selection || selection.isCollapsed || selection.rangeCount === 0) return null;
    const range = selection.getRangeAt(0);
    if (!this.root.contains(range.startContainer) || !this.root.contains(range.endContainer) || this.root.querySelector(".message")) {
      return null;
    }
    const before = document.createRange();
    before.selectNodeContents(this.root);
    before.setEnd(range.startContainer, range.startOffset);
    return trimmed(session, before.toString().length, before.toString().length + range.toString().length);
  }
}

/** Span of units without the spaces at its ends, in characters; null where nothing else remains. */
export function trimmed(session, startUnit, endUnit) {
  const text = session.text.slice(startUnit, endUnit);
  const start = startUnit + (text.length - text.trimStart().length);
  const end = startUnit + text.trimEnd().length;
  return start < end ? { start: session.offsets.toPoint(start), end: session.offsets.toPoint(end) } : null;
}

/** The title beside a name, where it says more than the name. */
const labelOf = (text, entity) => (entity === null || entity.title.toLowerCase() === text.toLowerCase() ? {} : { label: entity.title });

/** Units of the selection. */
function selectionLength() {
  return document.getSelection()?.toString().length ?? 0;
}

/** Whether the user wants little motion. */
export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

