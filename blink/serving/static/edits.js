// Edits of the knowledge base and corrections of links, kept by the server, each with the way to take it back.

import { request, RequestError } from "./api.js";
import { keyOf } from "./decoding.js";

/** Makes edits with the token of this tab, and asks for one where the server wants it. */
export class Edits {
  /** @param {{askToken: function(string): Promise<boolean>, changed: function()}} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    this.done = []; // what can be undone, the last one at the end
  }

  /**
   * Run a request that needs a token; ask for the token until it is right or the user gives up.
   *
   * @throws {RequestError} the server refused for another reason, or the user gave up.
   */
  async withToken(run) {
    for (;;) {
      try {
        return await run();
      } catch (error) {
        if (!(error instanceof RequestError) || !error.needsToken || !(await this.handlers.askToken(error.message))) throw error;
      }
    }
  }

  /** Add an entity. @returns {Promise<Object>} the entity as a candidate. */
  async add(fields) {
    const { entity, edit } = await this.send("entities", fields);
    const undo = () => this.send("entities/undo", { number: edit });
    this.note({ label: `the entity “${entity.title}”`, relinks: true, undo });
    return candidateOf(entity);
  }

  /** Save what a mention names; `entity` null: nothing. */
  async correct(session, mention, correction) {
    const earlier = session.corrections.get(keyOf(mention)) ?? null;
    await this.save(session, mention, correction);
    const label = `the correction of “${session.slice(mention.start, mention.end)}”`;
    this.note({ label, undo: () => this.save(session, mention, earlier) });
  }

  /** Save a correction, or take back what is saved (null). */
  async save(session, mention, correction) {
    const span = { text: session.text, start: mention.start, end: mention.end };
    if (correction === null) await this.send("corrections/remove", span);
    else await this.send("corrections", { ...span, entity: correction.entity === null ? null : `row:${correction.entity.row}` });
    session.correct(mention, correction);
  }

  /** Take the correction of a mention back. */
  async uncorrect(session, mention) {
    const earlier = session.corrections.get(keyOf(mention));
    await this.save(session, mention, null);
    this.note({ label: "taking a correction back", undo: () => this.save(session, mention, earlier) });
  }

  send(path, body) {
    return this.withToken(() => request("POST", path, { body, edits: true }));
  }

  /** Note something that can be undone. */
  note(action) {
    this.done.push(action);
    this.handlers.changed();
  }

  /** The action that undo takes back, or null. */
  get last() {
    return this.done.at(-1) ?? null;
  }

  /** Take the last action back. @returns {Promise<?Object>} it. */
  async undo() {
    const action = this.last;
    if (action === null) return null;
    await action.undo();
    this.done = this.done.filter((other) => other !== action);
    this.handlers.changed();
    return action;
  }
}

/** An entity of the knowledge base as a candidate of a mention. */
export const candidateOf = (entity) => ({
  row: entity.row,
  kb_id: entity.kb_idx ?? null,
  title: entity.title,
  description: entity.text ?? "",
  url: entity.idx ?? null,
  types: entity.types ?? [],
});
