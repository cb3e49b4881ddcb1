// What the page knows of the current text: the server's explanation, the threshold, and what the user did by hand.

import { explainSections } from "./api.js";
import { best, keyOf, linksAt, overlaps, weakerThan } from "./decoding.js";
import { kindOf } from "./kinds.js";
import { Offsets } from "./offsets.js";
import { Scale } from "./scale.js";

const AROUND = 15_000; // characters before and behind a selected span that the server reads
const FILTERED = ["probability", "joint", "joint_0"]; // modes in which the threshold alone decides

/**
 * A mention as the page shows it.
 *
 * @typedef {Object} Item
 * @property {string} key of its span.
 * @property {Object} mention of the explanation, or one that the user linked.
 * @property {?Object} entity the candidate that it names; null if the user said that it names nothing.
 * @property {{name: string, colour: string}} kind of the entity.
 * @property {"link"|"pinned"|"corrected"|"nothing"|"weak"} state
 */

/** A text with its mentions. */
export class Session {
  constructor(text = "") {
    this.text = text;
    this.offsets = new Offsets(text);
    this.mentions = [];
    this.pinned = [];
    this.corrections = new Map();
    this.done = 0; // characters that are linked
    this.kind = "probability";
    this.isFiltered = true; // whether links follow from scores and threshold
    this.threshold = null;
    this.defaultThreshold = null;
    this.scale = new Scale(this.kind);
  }

  /**
   * Take over a section of the text as the server explained it.
   *
   * @param {Object} section characters `start` to `end`; `explanation`, whose candidates name the `entities` by row.
   */
  add({ explanation, entities, start, end }) {
    for (const mention of mentionsOf(explanation, entities)) this.mentions.push(moved(mention, start));
    this.done = end;
    this.kind = explanation.score_kind;
    this.isFiltered = FILTERED.includes(explanation.mode);
    this.scale = new Scale(this.kind, this.mentions);
    this.defaultThreshold = explanation.threshold ?? this.scale.low; // null: no score is too low
    this.threshold ??= this.defaultThreshold;
  }

  /** Link a span by hand: its mention is shown whatever its score, in place of pinned ones that it overlaps. */
  pin(mention) {
    this.pinned = [...this.pinned.filter((other) => !overlaps(other, mention)), mention];
  }

  /** What the server says of a span that the user selected: its mention, which is linked whatever its score. */
  async explained({ start, end }) {
    const from = Math.max(0, start - AROUND); // of a long text what is around it
    const body = { text: this.slice(from, Math.min(this.offsets.length, end + AROUND)), spans: [[start - from, end - from]] };
    let mention = null;
    await explainSections(body, null, ({ explanation, entities }) => ([mention] = mentionsOf(explanation, entities)));
    return mention && { ...moved(mention, from), requested: true };
  }

  /** Note what a mention names; null takes the note back. */
  correct(mention, correction) {
    if (correction === null) this.corrections.delete(keyOf(mention));
    else this.corrections.set(keyOf(mention), { mention, ...correction });
  }

  /** What is shown: the links, with what the user linked or corrected in place of links that it overlaps. @returns {Array<Item>} */
  items() {
    const corrected = [...this.corrections.values()].map((correction) => correction.mention);
    const pinned = [...this.pinned.filter((pin) => !corrected.some((other) => overlaps(other, pin))), ...corrected];
    const links = this.links().filter((link) => !pinned.some((pin) => overlaps(pin, link)));
    return [...links, ...pinned].sort((a, b) => a.start - b.start || a.end - b.end).map((mention) => this.item(mention));
  }

  /** The server's links at the threshold. */
  links() {
    if (this.threshold === null) return [];
    return this.isFiltered ? linksAt(this.mentions, this.threshold) : this.mentions.filter((mention) => mention.status === "linked");
  }

  /** Mentions that a lower threshold would show. @returns {Array<Item>} */
  weaker(items) {
    const shown = items.map((item) => item.mention);
    return weakerThan(shown, this.mentions).map((mention) => ({ ...this.item(mention), state: "weak" }));
  }

  /** The item of a mention. */
  item(mention) {
    const correction = this.corrections.get(keyOf(mention));
    const entity = correction ? correction.entity : best(mention);
    return { key: keyOf(mention), mention, entity, kind: kindOf(entity?.types), state: this.stateOf(mention, correction) };
  }

  stateOf(mention, correction) {
    if (correction) return correction.entity === null ? "nothing" : "corrected";
    return this.pinned.includes(mention) ? "pinned" : "link";
  }

  /** Characters `[start, end)` of the text, as the server counts them. */
  slice(start, end) {
    return this.text.slice(this.offsets.toUnit(start), this.offsets.toUnit(end));
  }

  /** The links that are shown, as JSON for other programs. */
  toJSON() {
    const links = this.items().filter((item) => item.entity !== null);
    return { text: this.text, threshold: this.threshold, links: links.map((item) => linkOf(item, this)) };
  }
}

/** The mentions of an explanation, with what the entities of their candidates are. */
export function mentionsOf(explanation, entities) {
  const described = (candidate) => ({ ...entities[candidate.row], ...candidate });
  return explanation.mentions.map((mention) => ({ ...mention, candidates: mention.candidates.map(described) }));
}

function moved(mention, by) {
  if (by === 0) return mention;
  const over = mention.overlapped_by;
  const moves = { start: mention.start + by, end: mention.end + by, overlapped_by: over && over.map((offset) => offset + by) };
  return { ...mention, ...moves };
}

function linkOf({ mention, entity, state }, session) {
  return {
    start: mention.start,
    end: mention.end,
    mention: session.slice(mention.start, mention.end),
    row: entity.row,
    kb_id: entity.kb_id,
    title: entity.title,
    score: entity.score ?? null,
    description: entity.description ?? "",
    url: entity.url ?? null,
    ...(state === "link" ? {} : { by_hand: state }),
  };
}

/** How often each entity is linked: by count, then by first position. */
export function countsOf(items) {
  const counts = new Map();
  for (const item of items) {
    if (item.entity === null) continue;
    const entry = counts.get(item.entity.row) ?? { entity: item.entity, kind: item.kind, items: [] };
    entry.items.push(item);
    counts.set(item.entity.row, entry);
  }
  return [...counts.values()].sort((a, b) => b.items.length - a.items.length);
}

/** The kinds of the items with their numbers, the most frequent first. */
export function kindsOf(items) {
  const kinds = new Map();
  for (const { kind, entity } of items) {
    if (entity === null) continue;
    const entry = kinds.get(kind.name) ?? { kind, count: 0 };
    entry.count += 1;
    kinds.set(kind.name, entry);
  }
  return [...kinds.values()].sort((a, b) => b.count - a.count);
}
