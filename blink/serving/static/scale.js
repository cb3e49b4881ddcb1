// How scores are shown, by their kind: probabilities, log-probabilities or inner products.

const MINUS = "\u2212";

/** Shows scores of one kind, and turns them into positions from 0 to 1. */
export class Scale {
  /**
   * @param {string} kind `probability`, `log_probability` or `inner_product`.
   * @param {Array} mentions whose scores bound the scale where the kind does not.
   */
  constructor(kind, mentions = []) {
    this.kind = kind;
    const scores = mentions.map((mention) => mention.score).filter(Number.isFinite);
    if (kind === "probability") [this.low, this.high, this.step] = [0.01, 0.99, 0.01];
    else if (kind === "log_probability") [this.low, this.high, this.step] = [below(Math.min(-5, ...scores)), 0, 0.05];
    else [this.low, this.high, this.step] = [below(Math.min(0, ...scores)), Math.ceil(Math.max(1, ...scores)), 0.1];
  }

  /** Where a score is between the ends of the scale, from 0 to 1. */
  position(score) {
    if (this.kind === "probability") return Math.min(1, Math.max(0, score));
    return Math.min(1, Math.max(0, (score - this.low) / (this.high - this.low)));
  }

  /** A score as text: `93 %`, or a number. */
  text(score) {
    if (typeof score !== "number" || !Number.isFinite(score)) return "–";
    if (this.kind !== "probability") return number(score);
    if (score > 0 && score < 0.01) return "<1 %";
    if (score < 1 && score > 0.99) return ">99 %";
    return `${Math.round(100 * score)} %`;
  }

  /** A threshold as text. */
  threshold(value) {
    return this.kind === "probability" ? value.toFixed(2) : number(value);
  }
}

/** The next whole number below: as a threshold it keeps what has the score. */
const below = (score) => Math.ceil(score) - 1;

/** A number with two digits behind the point and a true minus sign. */
export function number(value) {
  return (value < 0 ? MINUS : "") + Math.abs(value).toFixed(2);
}
