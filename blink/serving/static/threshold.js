// The threshold: a slider under a histogram of the scores.

import { byId, drawn } from "./dom.js";
import { kindOf } from "./kinds.js";

const BINS = 40;

/** Shows how scores are distributed, and which of them the threshold keeps. */
export class ThresholdPanel {
  /** @param {function(number)} changed called with each new threshold. */
  constructor(changed) {
    this.slider = byId("threshold");
    this.value = byId("threshold-value");
    this.note = byId("threshold-note");
    this.reset = byId("reset-threshold");
    this.slider.addEventListener("input", () => changed(Number(this.slider.value)));
    this.reset.addEventListener("click", () => {
      changed(null);
      this.slider.focus();
    });
  }

  /** @param {Session} session @param {Array} items that are shown. */
  show(session, items) {
    const { scale, threshold, defaultThreshold } = session;
    const known = threshold !== null;
    this.slider.disabled = !known || !session.isFiltered;
    this.value.textContent = known ? scale.threshold(threshold) : "–";
    if (!known) return this.empty();
    Object.assign(this.slider, { min: scale.low, max: scale.high, step: scale.step });
    if (Number(this.slider.value) !== threshold) {
      this.slider.step = "any"; // the model's own threshold need not be a multiple of the step
      this.slider.value = threshold;
      if (document.activeElement === this.slider) this.slider.step = scale.step;
    }
    const links = items.filter((item) => item.state === "link").length;
    this.slider.setAttribute("aria-valuetext", `${scale.threshold(threshold)}: ${plural(links, "link")}`);
    const total = session.mentions.filter((mention) => mention.candidates.length).length;
    this.note.textContent = `${plural(links, "link")} of ${plural(total, "mention")} considered. ${MEANINGS[session.kind] ?? ""}`;
    this.reset.hidden = threshold === defaultThreshold;
    this.draw(session);
  }

  empty() {
    this.note.textContent = "Move it to see more links, or only sure ones.";
    this.reset.hidden = true;
    byId("histogram").replaceChildren();
  }

  draw(session) {
    const bins = binned(session);
    const highest = Math.max(1, ...bins.map((bin) => bin.length));
    const svg = drawn("svg", { viewBox: `0 0 ${BINS} 100`, preserveAspectRatio: "none" });
    bins.forEach((bin, i) => {
      let top = 100;
      const height = Math.min(34, 96 / highest);
      for (const mention of bin.slice(0, 96)) {
        top -= height;
        const rect = drawn("rect", { x: i + 0.1, y: top + (height > 4 ? 1 : 0), width: 0.8, height: Math.max(0.4, height - (height > 4 ? 1.5 : 0)), rx: 0.15 });
        if (mention.score > session.threshold) rect.dataset.kind = kindOf(mention.candidates[0].types).colour;
        else rect.setAttribute("class", "below");
        svg.append(rect);
      }
    });
    const x = BINS * session.scale.position(session.threshold);
    svg.append(
      drawn("line", { class: "base", x1: 0, x2: BINS, y1: 100, y2: 100 }),
      drawn("line", { class: "mark", x1: x, x2: x, y1: 0, y2: 100 }),
    );
    byId("histogram").replaceChildren(svg);
  }
}

const MEANINGS = {
  probability: "A score is the probability that the link is right.",
  log_probability: "A score is the logarithm of a probability.",
  inner_product: "A score is an inner product: the larger, the nearer.",
};

function binned(session) {
  const bins = Array.from({ length: BINS }, () => []);
  for (const mention of session.mentions) {
    if (!mention.candidates.length) continue;
    bins[Math.min(BINS - 1, Math.floor(BINS * session.scale.position(mention.score)))].push(mention);
  }
  for (const bin of bins) bin.sort((a, b) => kindOf(a.candidates[0].types).colour.localeCompare(kindOf(b.candidates[0].types).colour));
  return bins;
}

/** A number with its noun. */
export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
