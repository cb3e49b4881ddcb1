// The decoder's rule, in the browser: which mentions of an explanation are links at a threshold.

/** The best candidate of a mention, or null. */
export const best = (mention) => mention.candidates[0] ?? null;

/** Whether two spans share a character. */
export const overlaps = (a, b) => a.start < b.end && b.start < a.end;

/** A name for a span of a text. */
export const keyOf = (span) => `${span.start}-${span.end}`;

/**
 * The links at a threshold, as the server decodes them: mentions by descending score, ties in the order of the explanation; each is
 * kept if its score is above the threshold and it shares no character with one that was kept before.
 *
 * @param {Array} mentions of an explanation, in its order.
 * @param {number} threshold
 * @returns {Array} the mentions that are links, by position.
 */
export function linksAt(mentions, threshold) {
  const above = mentions.filter((mention) => mention.score > threshold && best(mention) !== null);
  above.sort((a, b) => b.score - a.score); // stable
  const covered = new Set();
  const links = [];
  for (const mention of above) {
    if (isCovered(covered, mention)) continue;
    for (let i = mention.start; i < mention.end; i++) covered.add(i);
    links.push(mention);
  }
  return links.sort((a, b) => a.start - b.start || a.end - b.end);
}

function isCovered(covered, { start, end }) {
  for (let i = start; i < end; i++) if (covered.has(i)) return true;
  return false;
}

/** Mentions with a best candidate that are not links and overlap none, the best first: what a lower threshold would show. */
export function weakerThan(shown, mentions) {
  const weaker = [];
  const covered = new Set();
  const cover = ({ start, end }) => {
    for (let i = start; i < end; i++) covered.add(i);
  };
  shown.forEach(cover);
  const ranked = mentions.filter((mention) => best(mention) !== null).sort((a, b) => b.score - a.score || a.start - b.start);
  for (const mention of ranked) {
    if (isCovered(covered, mention)) continue;
    cover(mention);
    weaker.push(mention);
  }
  return weaker.sort((a, b) => a.start - b.start);
}
