// The text at a glance: kinds of entities, how often each is linked and where, and a map of a long text.

import { byId, drawn, element } from "./dom.js";
import { countsOf, kindsOf } from "./session.js";
import { plural } from "./threshold.js";

const SHOWN = 200;

/** Shows legend, counts and map. */
export class Overview {
  /**
   * @param {{only: function(?string), visit: function(string), jump: function(number)}} handlers `only`: one kind alone in colour;
   *   `visit`: select the item with a key; `jump`: go to a share of the text.
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.visits = new Map(); // row -> number of the occurrence shown last
    byId("map").addEventListener("pointerdown", (event) => {
      const box = byId("map").getBoundingClientRect();
      handlers.jump((event.clientY - box.top) / box.height);
    });
    addEventListener("scroll", () => this.view(), { passive: true });
    addEventListener("resize", () => this.view(), { passive: true });
  }

  /** @param {Session} session @param {Array} items that are shown @param {?string} only the kind that is shown alone. */
  show(session, items, only) {
    this.legend(items, only);
    this.counts(session, items);
    this.map(session, items);
  }

  legend(items, only) {
    const hadFocus = document.activeElement?.closest?.("#legend") ? document.activeElement.dataset.name : null;
    const buttons = kindsOf(items).map(({ kind, count }) =>
      element(
        "button",
        {
          type: "button",
          class: "kind",
          dataset: { kind: kind.colour, name: kind.name },
          "aria-pressed": String(only === kind.name),
          onclick: () => this.handlers.only(only === kind.name ? null : kind.name),
        },
        `${kind.name} ${count}`,
      ),
    );
    byId("legend").replaceChildren(...buttons);
    if (hadFocus) buttons.find((button) => button.dataset.name === hadFocus)?.focus();
  }

  counts(session, items) {
    const counts = countsOf(items);
    byId("overview").hidden = counts.length === 0;
    byId("overview-total").textContent = counts.length.toLocaleString("en");
    const focusedRow = document.activeElement?.closest?.("#counts button")?.dataset.row;
    const rows = counts.slice(0, SHOWN).map((entry) => element("li", {}, this.count(session, entry)));
    if (counts.length > SHOWN) rows.push(element("li", { class: "note" }, `and ${plural(counts.length - SHOWN, "more")}`.replace("mores", "more")));
    byId("counts").replaceChildren(...rows);
    if (focusedRow) byId("counts").querySelector(`[data-row="${CSS.escape(focusedRow)}"]`)?.focus({ preventScroll: true });
  }

  count(session, { entity, kind, items }) {
    const positions = items.map((item) => item.mention.start / Math.max(1, session.offsets.length));
    const label = `${entity.title}, ${kind.name}: ${plural(items.length, "mention")}. Go to the next one.`;
    return element(
      "button",
      { type: "button", dataset: { kind: kind.colour, row: entity.row }, "aria-label": label, onclick: () => this.visit(entity.row, items) },
      element("span", { class: "dot", "aria-hidden": "true" }),
      element("span", { class: "title" }, entity.title),
      element("span", { class: "times" }, items.length === 1 ? "" : `${items.length.toLocaleString("en")}×`),
      entity.description ? element("span", { class: "about-it" }, entity.description) : null,
      positionsOf(positions),
    );
  }

  /** Select the next occurrence of an entity, and the first after the last. */
  visit(row, items) {
    const next = ((this.visits.get(row) ?? -1) + 1) % items.length;
    this.visits.set(row, next);
    this.handlers.visit(items[next].key);
  }

  /** Forget which occurrences were visited: the text is another. */
  restart() {
    this.visits.clear();
  }

  map(session, items) {
    const map = byId("map");
    map.hidden = byId("reader").offsetHeight < 700;
    if (map.hidden) return map.replaceChildren();
    const svg = drawn("svg", { viewBox: "0 0 10 1000", preserveAspectRatio: "none" });
    for (const { mention, kind, entity } of items) {
      if (entity === null) continue;
      const rect = drawn("rect", { x: 1, width: 8, y: (1000 * mention.start) / session.offsets.length, height: 3 });
      rect.dataset.kind = kind.colour;
      svg.append(rect);
    }
    this.window = drawn("rect", { class: "view", x: 0, width: 10, y: 0, height: 0 });
    svg.append(this.window);
    map.replaceChildren(svg);
    this.view();
  }

  /** Draw which stretch of the text is on the screen. */
  view() {
    if (byId("map").hidden || !this.window) return;
    const box = byId("reader").getBoundingClientRect();
    const top = Math.max(0, -box.top) / box.height;
    const bottom = Math.min(box.height, innerHeight - box.top) / box.height;
    this.window.setAttribute("y", 1000 * top);
    this.window.setAttribute("height", Math.max(0, 1000 * (bottom - top)));
  }
}

function positionsOf(shares) {
  const svg = drawn("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" });
  svg.append(drawn("line", { x1: 0, x2: 100, y1: 5, y2: 5, "stroke-width": 0.8 }));
  for (const share of shares.slice(0, 300)) svg.append(drawn("rect", { x: 98 * share, y: 1, width: 2, height: 8, rx: 1 }));
  return svg;
}
