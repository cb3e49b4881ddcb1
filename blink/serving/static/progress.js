// Progress of linking: shown when an answer takes longer than a moment.

import { byId } from "./dom.js";

const PATIENCE_MS = 400;

/** A bar that knows the share of the text that is linked, or estimates it from the speed of earlier answers. */
export class Progress {
  /** @param {function()} stop called when the user stops linking. */
  constructor(stop) {
    this.track = byId("progress-bar");
    this.fill = this.track.firstElementChild;
    this.msPerCharacter = null;
    byId("stop").addEventListener("click", stop);
  }

  /** Begin with a text of so many characters. */
  begin(characters) {
    this.end();
    Object.assign(this, { characters, done: 0, started: performance.now() });
    this.timer = setTimeout(() => {
      byId("progress").hidden = false;
      this.draw();
      this.timer = setInterval(() => this.draw(), 200);
    }, PATIENCE_MS);
  }

  /** So many characters are linked. */
  advance(done) {
    this.done = done;
    this.msPerCharacter = (performance.now() - this.started) / Math.max(1, done);
    if (!byId("progress").hidden) this.draw();
  }

  draw() {
    const elapsed = performance.now() - this.started;
    const isLong = this.done > 0 || this.msPerCharacter !== null;
    const estimated = this.msPerCharacter === null ? 0 : elapsed / (this.msPerCharacter * this.characters);
    const share = Math.min(0.97, Math.max(this.done / this.characters, estimated));
    this.track.classList.toggle("unknown", !isLong);
    if (isLong) {
      this.fill.style.width = `${100 * share}%`;
      this.track.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    } else {
      this.fill.style.width = "";
      this.track.removeAttribute("aria-valuenow");
    }
    const all = this.characters.toLocaleString("en");
    byId("progress-text").textContent = this.done
      ? `${this.done.toLocaleString("en")} of ${all} characters linked`
      : `Linking ${all} characters, ${Math.round(elapsed / 1000)} s`;
  }

  /** The text is linked, or linking was stopped. */
  end() {
    clearTimeout(this.timer);
    clearInterval(this.timer);
    byId("progress").hidden = true;
  }
}
