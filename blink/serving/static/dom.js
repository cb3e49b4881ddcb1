// Elements out of data. Text always becomes a text node: nothing that a server or a user says is parsed as HTML.

/**
 * Make an element.
 *
 * @param {string} tag its name.
 * @param {Object} attributes `on...` are listeners, `dataset` is merged, booleans are set or left out, all else is an attribute.
 * @param {...(Node|string|null|undefined|Array)} children nodes and texts; null is left out.
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an SVG element with attributes. */
export function drawn(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

/** An icon of the page's sprite; it is hidden from assistive technology, so a label must be given elsewhere. */
export function icon(name) {
  return drawn("svg", { class: "icon", "aria-hidden": "true", focusable: "false" }, drawn("use", { href: `#icon-${name}` }));
}

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** A bar whose length is a share of its track; `share` from 0 to 1. */
export function bar(share, classes = "") {
  const fill = element("span", { class: "bar-fill" });
  fill.style.inlineSize = `${Math.round(1000 * Math.min(1, Math.max(0, share))) / 10}%`;
  return element("span", { class: `bar ${classes}`, "aria-hidden": "true" }, fill);
}

/** The address if a browser may open it as a page, else null: a catalogue may hold any text, such as `javascript:...`. */
export function pageAddress(url) {
  if (typeof url !== "string" || !/^https?:\/\//i.test(url)) return null;
  try {
    return new URL(url).href;
  } catch {
    return null;
  }
}

/** Wait until calls pause, then make the last one. */
export function debounced(run, delayMs) {
  let timer = 0;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), delayMs);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}
