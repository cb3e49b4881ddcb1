// Dialogs: an entity to add, the token for edits, and the search for an entity.

import { byId, debounced, element } from "./dom.js";

/** Close a dialog by its Cancel button or a click on its backdrop. */
function closable(dialog) {
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

/**
 * A dialog with a form whose answer may be refused: the reason is then shown, and the dialog stays open.
 *
 * @param {string} name prefix of its ids.
 * @param {function(Object): Promise<?string>} submit gets the values of the fields by id, returns an error or null.
 */
export class FormDialog {
  constructor(name, submit) {
    this.dialog = byId(`${name}-dialog`);
    this.error = this.dialog.querySelector(".error");
    this.fields = [...this.dialog.querySelectorAll("input, textarea")];
    closable(this.dialog);
    byId(`${name}-form`).addEventListener("submit", async (event) => {
      event.preventDefault();
      this.error.textContent = "";
      const submitter = this.dialog.querySelector("[type=submit]");
      submitter.disabled = true;
      const values = Object.fromEntries(this.fields.map((field) => [field.id, field.value.trim()]));
      const refused = await submit(values).finally(() => (submitter.disabled = false));
      if (refused === null) this.dialog.close("submitted");
      else this.refuse(refused);
    });
  }

  /** Open with values by id; the other fields are empty. */
  open(values = {}) {
    for (const field of this.fields) field.value = values[field.id] ?? "";
    this.error.textContent = "";
    this.dialog.showModal();
    (this.fields.find((field) => !field.value) ?? this.fields[0]).focus();
  }

  /** Open, and wait for it to close: whether it was submitted. */
  ask(values = {}, reason = "") {
    this.open(values);
    this.error.textContent = reason;
    this.dialog.returnValue = "";
    return new Promise((resolve) => {
      this.dialog.addEventListener("close", () => resolve(this.dialog.returnValue === "submitted"), { once: true });
    });
  }

  refuse(reason) {
    this.error.textContent = reason;
    this.fields[0].focus();
  }
}

/** A search for an entity by name or id: a combobox with a list. */
export class SearchDialog {
  /** @param {function(string): Promise<Array>} search entities for what was typed. */
  constructor(search) {
    this.search = search;
    this.dialog = byId("search-dialog");
    this.input = byId("search");
    this.list = byId("search-results");
    this.note = byId("search-note");
    this.results = [];
    closable(this.dialog);
    const look = debounced(() => this.look(), 180);
    this.input.addEventListener("input", look);
    this.input.addEventListener("keydown", (event) => this.onKey(event));
    byId("search-form").addEventListener("submit", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) this.take(Number(row.dataset.index));
    });
  }

  /** Open with a first query; `taken` gets the entity that is selected. */
  open(query, taken) {
    this.taken = taken;
    this.input.value = query;
    this.show([]);
    this.dialog.showModal();
    this.input.select();
    this.look();
  }

  async look() {
    const query = this.input.value.trim();
    if (!query) return this.show([], "Type a name, or an id such as Q42.");
    try {
      const results = await this.search(query);
      if (query === this.input.value.trim()) this.show(results, results.length ? "" : `No entity is called “${query}”.`);
    } catch (error) {
      this.show([], error.message);
    }
  }

  show(results, message = "") {
    this.results = results;
    this.active = results.length ? 0 : -1;
    const rows = results.map((entity, i) =>
      element(
        "li",
        { role: "option", id: `search-option-${i}`, dataset: { index: i }, "aria-selected": String(i === 0) },
        element("b", {}, entity.title),
        element("span", {}, [entity.kb_id, entity.description].filter(Boolean).join(" · ")),
      ),
    );
    this.list.replaceChildren(...rows);
    this.note.textContent = message;
    this.input.setAttribute("aria-expanded", String(results.length > 0));
    this.mark();
  }

  mark() {
    [...this.list.children].forEach((row, i) => row.setAttribute("aria-selected", String(i === this.active)));
    if (this.active >= 0) this.input.setAttribute("aria-activedescendant", `search-option-${this.active}`);
    else this.input.removeAttribute("aria-activedescendant");
    this.list.children[this.active]?.scrollIntoView({ block: "nearest" });
  }

  onKey(event) {
    const last = this.results.length - 1;
    if (event.key === "ArrowDown") this.active = Math.min(last, this.active + 1);
    else if (event.key === "ArrowUp") this.active = Math.max(0, this.active - 1);
    else if (event.key === "Enter") return event.preventDefault(), this.take(this.active);
    else return;
    event.preventDefault();
    this.mark();
  }

  take(index) {
    const entity = this.results[index];
    if (!entity) return;
    this.dialog.close();
    this.taken(entity);
  }
}
