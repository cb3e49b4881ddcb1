// The selected mention: what it was linked to, how sure that is and why, the other candidates, and corrections.

import { bar, byId, element, icon, pageAddress } from "./dom.js";
import { kindOf } from "./kinds.js";
import { number } from "./scale.js";

const CANDIDATES = 6;

/** Shows one item of the text. */
export class Inspector {
  /**
   * @param {{close: function(), step: function(number), correct: function(Object, Object), search: function(Object),
   *   uncorrect: function(Object), add: function(Object)}} handlers
   */
  constructor(handlers) {
    this.root = byId("inspector");
    this.handlers = handlers;
    this.item = null;
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.item === null) return;
      event.preventDefault();
      handlers.close();
    });
  }

  /** @param {Session} session @param {?Object} item @param {{index: number, count: number}} position of the item in the text. */
  show(session, item, position = { index: 0, count: 0 }) {
    const focus = this.root.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    const isSame = item !== null && this.item?.key === item.key;
    if (!isSame) [this.open, this.choosing, this.all] = [null, false, false];
    Object.assign(this, { session, item, position });
    this.root.dataset.open = String(item !== null);
    document.body.classList.toggle("page-sheet-open", item !== null);
    this.root.replaceChildren(...(item === null ? [this.nothing()] : this.parts()));
    if (focus && isSame) this.root.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    if (!isSame) this.root.scrollTop = 0;
  }

  focus() {
    byId("inspector-heading")?.focus({ preventScroll: false });
  }

  again() {
    this.show(this.session, this.item, this.position);
  }

  nothing() {
    return element(
      "div",
      { class: "inspector-empty" },
      element("h2", { class: "hidden", id: "inspector-heading" }, "Details"),
      "Select a coloured name to see which entity it is, how sure that is, and what else it might be.",
    );
  }

  parts() {
    const sections = [this.top(), this.verdict()];
    if (this.item.mention.candidates.length) sections.push(this.candidates());
    return sections;
  }

  // -- the entity --------------------------------------------------------------------------------------------------

  top() {
    const { item, session } = this;
    const { entity, kind, mention } = item;
    return element(
      "div",
      { class: "inspector-top", dataset: { kind: kind.colour } },
      this.bar(),
      element("h2", { id: "inspector-heading", tabindex: "-1" }, entity === null ? "Names nothing here" : entity.title),
      entity === null ? null : chips(entity, kind),
      entity?.description ? element("p", { class: "description" }, entity.description) : null,
      item.state === "corrected" || item.state === "nothing" ? null : meters(mention, session),
      this.status(),
    );
  }

  bar() {
    const { item, session, position } = this;
    const text = session.slice(item.mention.start, item.mention.end);
    const step = (by, label, end) =>
      element(
        "button",
        { type: "button", class: by < 0 ? "step back" : "step", "aria-label": label, title: label, disabled: end, dataset: { focus: label }, onclick: () => this.handlers.step(by) },
        icon("chevron"),
      );
    return element(
      "div",
      { class: "inspector-bar" },
      element("q", {}, text),
      element("span", {}, position.count ? `${position.index + 1} of ${position.count}` : ""),
      step(-1, "Previous mention", position.index <= 0),
      step(1, "Next mention", position.index >= position.count - 1),
      element("button", { type: "button", class: "step", "aria-label": "Close", title: "Close (Escape)", dataset: { focus: "close" }, onclick: () => this.handlers.close() }, icon("cross")),
    );
  }

  status() {
    const { item, session } = this;
    if (item.state === "corrected") return note(item.verdict === "right" ? "Saved: the link is right." : "Saved as a correction.", "corrected");
    if (item.state === "nothing") return note("Saved: it names nothing in the knowledge base.", "corrected");
    if (item.state === "pinned") return note("You selected these characters: the score is that of the entity alone.");
    if (item.state !== "weak") return null;
    const over = item.mention.overlapped_by;
    if (item.mention.score > session.threshold && over) return note(`Dropped: “${session.slice(...over)}” overlaps it and scores higher.`);
    return note(`Below the threshold of ${session.scale.threshold(session.threshold)}: no link.`);
  }

  // -- corrections -------------------------------------------------------------------------------------------------

  verdict() {
    const { item, handlers } = this;
    const isCorrected = item.state === "corrected" || item.state === "nothing";
    if (isCorrected) {
      return element(
        "div",
        { class: "section verdict" },
        button("Take back", "undo", { focus: "take-back" }, () => handlers.uncorrect(item)),
        button("Change", null, { focus: "wrong", class: "quiet wrong", "aria-expanded": String(this.choosing) }, () => this.toggleChoices()),
        this.choosing ? this.choices() : null,
      );
    }
    return element(
      "div",
      { class: "section" },
      element("h3", {}, "Is it right?"),
      element(
        "div",
        { class: "verdict" },
        button("Right", "check", { focus: "right", class: "quiet right" }, () => handlers.correct(item, { entity: item.entity, verdict: "right" })),
        button("Wrong", "cross", { focus: "wrong", class: "quiet wrong", "aria-expanded": String(this.choosing) }, () => this.toggleChoices()),
      ),
      this.choosing ? this.choices() : null,
    );
  }

  toggleChoices() {
    this.choosing = !this.choosing;
    this.again();
  }

  choices() {
    const { item, handlers } = this;
    const others = item.mention.candidates.filter((candidate) => candidate.row !== item.entity?.row).slice(0, CANDIDATES);
    return element(
      "div",
      { class: "choices" },
      element("p", {}, "What does it name?"),
      element(
        "div",
        { class: "verdict" },
        others.map((candidate) =>
          button(candidate.title, null, { focus: `is-${candidate.row}`, title: candidate.description }, () => handlers.correct(item, { entity: candidate, verdict: "entity" })),
        ),
        button("Another entity", "search", { focus: "another", "aria-haspopup": "dialog" }, () => handlers.search(item)),
        button("A new entity", "plus", { focus: "new", "aria-haspopup": "dialog" }, () => handlers.add(item)),
        button("Nothing", null, { focus: "nothing" }, () => handlers.correct(item, { entity: null, verdict: "nothing" })),
      ),
    );
  }

  // -- candidates --------------------------------------------------------------------------------------------------

  candidates() {
    const { mention } = this.item;
    const shown = this.all ? mention.candidates : mention.candidates.slice(0, CANDIDATES);
    const hidden = mention.candidates.length - shown.length;
    return element(
      "div",
      { class: "section" },
      element("h3", {}, "Candidates, and what their scores are made of"),
      element("ol", { class: "candidates" }, shown.map((candidate, i) => this.candidate(candidate, i))),
      hidden > 0
        ? button(`${hidden} more`, null, { focus: "more", class: "quiet small" }, () => {
            this.all = true;
            this.again();
          })
        : null,
    );
  }

  candidate(candidate, rank) {
    const { session } = this;
    const isOpen = this.open === null ? false : this.open === candidate.row;
    const kind = kindOf(candidate.types);
    const toggle = element(
      "button",
      {
        type: "button",
        "aria-expanded": String(isOpen),
        dataset: { focus: `candidate-${candidate.row}` },
        onclick: () => {
          this.open = isOpen ? null : candidate.row;
          this.again();
        },
      },
      element("span", { class: "dot", "aria-hidden": "true" }),
      element("span", { class: "title" }, candidate.title),
      element("span", { class: "score" }, session.scale.text(candidate.score)),
      bar(session.scale.position(candidate.score)),
    );
    const classes = rank === 0 ? "candidate winner" : "candidate";
    return element(
      "li",
      { class: classes, dataset: { kind: kind.colour, open: String(isOpen) } },
      toggle,
      isOpen ? this.details(candidate, kind) : null,
    );
  }

  details(candidate, kind) {
    const isShown = this.item.entity?.row === candidate.row;
    return element(
      "div",
      { class: "details" },
      candidate.description && !isShown ? element("p", {}, candidate.description) : null,
      partsOf(candidate, this.session),
      candidate.reasons?.length ? element("ul", { class: "reasons" }, candidate.reasons.map((reason) => element("li", {}, reason))) : null,
      isShown ? null : chips(candidate, kind),
      isShown
        ? null
        : element(
            "p",
            { class: "verdict" },
            button("It is this one", "check", { focus: `choose-${candidate.row}`, class: "quiet small right" }, () =>
              this.handlers.correct(this.item, { entity: candidate, verdict: "entity" }),
            ),
          ),
    );
  }
}

function button(label, iconName, { focus, ...attributes }, onclick) {
  return element("button", { type: "button", class: "quiet", ...attributes, dataset: { focus }, onclick }, iconName ? icon(iconName) : null, label);
}

const note = (text, classes = "") => element("p", { class: `status ${classes}` }, text);

function chips(entity, kind) {
  const address = pageAddress(entity.url);
  const id = entity.kb_id ?? `row ${entity.row}`;
  return element(
    "div",
    { class: "chips" },
    element("span", { class: "kind", dataset: { kind: kind.colour } }, kind.name),
    (entity.types ?? []).filter((type) => type !== kind.name).slice(0, 3).map((type) => element("span", { class: "chip" }, type)),
    address === null
      ? element("span", { class: "chip" }, id)
      : element("a", { class: "chip out", href: address, target: "_blank", rel: "noopener noreferrer", "aria-label": `${id}, opens its page` }, id, icon("out")),
  );
}

/** How sure it is that the words name something, that it is this entity, and both together. */
function meters(mention, session) {
  const [first] = mention.candidates;
  const entity = first?.parts?.entity;
  const rows = [];
  if (session.kind !== "inner_product" && !mention.requested && typeof entity === "number") {
    rows.push(["The words name an entity", mention.mention_score], ["It is this one of the candidates", entity]);
  }
  rows.push([rows.length ? (session.kind === "probability" ? "Both: the link is right" : "Both together") : "Score", mention.score]);
  const share = (value) => (session.kind === "log_probability" ? Math.exp(value) : session.scale.position(value));
  return element(
    "div",
    { class: "meters" },
    rows.map(([label, value]) =>
      element("div", { class: "meter" }, element("span", {}, label), element("b", {}, session.scale.text(value)), bar(share(value))),
    ),
  );
}

const SUMMANDS = [
  ["base", "names and context"],
  ["prior", "graph of facts"],
  ["coherence", "other links of the text"],
  ["document", "short and full names"],
];
const MODEL_SCORES = [
  ["encoder", "encoder, inner product"],
  ["reranker", "reranker, log-odds"],
];

/** What a candidate's score is made of: what each stage added, as bars to both sides of zero; then scores of the model. */
function partsOf(candidate, session) {
  const parts = candidate.parts ?? {};
  const summands = SUMMANDS.filter(([name]) => typeof parts[name] === "number" && (name === "base" || Math.abs(parts[name]) >= 5e-4));
  const widest = Math.max(1e-9, ...summands.map(([name]) => Math.abs(parts[name])));
  const rows = summands.flatMap(([name, label]) => [
    element("dt", {}, label),
    element("dd", {}, signed(parts[name] / widest), element("span", { class: "value" }, change(parts[name], session, name === "base"))),
  ]);
  const scores = MODEL_SCORES.filter(([name]) => typeof parts[name] === "number").flatMap(([name, label]) => [
    element("dt", {}, label),
    element("dd", {}, element("span"), element("span", { class: "value" }, number(parts[name]))),
  ]);
  return rows.length + scores.length ? element("dl", { class: "parts" }, rows, scores) : null;
}

function change(value, session, isBase) {
  if (session.kind !== "probability") return (isBase || value < 0 ? "" : "+") + number(value);
  const points = Math.round(1000 * value) / 10;
  const sign = points < 0 ? "\u2212" : isBase ? "" : "+";
  return `${sign}${Math.abs(points).toFixed(Math.abs(points) < 10 ? 1 : 0)} %`;
}

function signed(share) {
  const fill = element("i", { class: share < 0 ? "less" : "" });
  fill.style.inlineSize = `${50 * Math.min(1, Math.abs(share))}%`;
  fill.style.insetInlineStart = share < 0 ? `${50 - 50 * Math.min(1, -share)}%` : "50%";
  return element("span", { class: "signed", "aria-hidden": "true" }, fill);
}
