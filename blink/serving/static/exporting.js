// What leaves the page: links as JSON, the linked text as an HTML file that needs nothing else.

import { element, pageAddress } from "./dom.js";

const STYLE = `:root{color-scheme:light dark}
body{max-width:46rem;margin:2rem auto;padding:0 1rem;font:1.1rem/1.8 Georgia,serif}
main{white-space:pre-wrap;overflow-wrap:anywhere}
.link{--c:#7a7f8a;padding:.05em .2em;border-radius:.3em;background:color-mix(in srgb,var(--c) 18%,transparent);border-bottom:2px solid var(--c);color:inherit;text-decoration:none}
.link small{font:600 .65em system-ui,sans-serif;margin-left:.4em;opacity:.85}
.person{--c:#4d76e0}.place{--c:#2f9e5b}.organization{--c:#c07c16}.team{--c:#d2583c}.work{--c:#b04fc4}.event{--c:#1b95ab}`;

/** An HTML document of the linked text. Its text is escaped by the browser's own serializer. */
export function htmlOf(session) {
  const main = element("main");
  let position = 0;
  for (const { mention, entity, kind } of session.items()) {
    if (entity === null) continue;
    const [start, end] = [session.offsets.toUnit(mention.start), session.offsets.toUnit(mention.end)];
    main.append(session.text.slice(position, start), linked(session.text.slice(start, end), entity, kind));
    position = end;
  }
  main.append(session.text.slice(position));
  const head = `<meta charset="utf-8"><title>Linked text</title><style>${STYLE}</style>`;
  return `<!doctype html>\n<html lang="en"><head>${head}</head><body>${main.outerHTML}</body></html>\n`;
}

function linked(text, entity, kind) {
  const address = pageAddress(entity.url);
  const attributes = { class: `link ${kind.colour}`, title: entity.description || entity.title, href: address };
  return element(address === null ? "span" : "a", attributes, text, element("small", {}, entity.title));
}

/** Save a text as a file of the user. */
export function save(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Copy a text; falls back to a selection where the page may not use the clipboard. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { class: "hidden", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (!copied) throw new Error("The browser did not allow copying.");
  }
}
