// Offsets of the server count characters (code points); strings of JavaScript count UTF-16 units.

/** Converts offsets of one text. */
export class Offsets {
  /** @param {string} text */
  constructor(text) {
    this.units = text.length;
    this.astral = []; // unit offsets of characters that take two units
    for (const match of text.matchAll(/[\u{10000}-\u{10ffff}]/gu)) this.astral.push(match.index);
  }

  /** Characters of the text. */
  get length() {
    return this.units - this.astral.length;
  }

  /** The unit at which character `point` starts. */
  toUnit(point) {
    // The i-th wide character starts at character astral[i] - i: those before `point` add a unit each.
    let low = 0;
    let high = this.astral.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.astral[middle] - middle < point) low = middle + 1;
      else high = middle;
    }
    return point + low;
  }

  /** The character that holds unit `unit`. */
  toPoint(unit) {
    let low = 0;
    let high = this.astral.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.astral[middle] < unit) low = middle + 1;
      else high = middle;
    }
    return unit - low;
  }
}
