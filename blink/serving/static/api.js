// Requests to the server that served this page, and to no other.

const TOKEN = "blink-token";

/** A request that failed, in a line for people. */
export class RequestError extends Error {
  /**
   * @param {string} message
   * @param {number} status of HTTP; 0 where the server did not answer.
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }

  /** Whether edits need another token. */
  get needsToken() {
    return this.status === 401;
  }

  /** Whether the server only has to be waited for: it loads its model. */
  get isLoading() {
    return this.status === 503;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

/**
 * Send a request and read its JSON answer.
 *
 * @param {string} method of HTTP.
 * @param {string} path relative to the page.
 * @param {{body?: Object, edits?: boolean, signal?: AbortSignal}} options `edits`: send the token.
 * @throws {RequestError} the server refused, or did not answer.
 */
export async function request(method, path, options = {}) {
  const response = await send(method, path, options);
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new RequestError(messageOf(response, answer), response.status);
  return answer;
}

/**
 * Explain a text, section by section.
 *
 * @param {{text: string, spans?: Array}} body spans: own mentions, characters `[start, end)`.
 * @param {?AbortSignal} signal
 * @param {function(Object)} onSection called with each section in order, see `Session.add`.
 * @throws {RequestError} the server refused, did not answer, or stopped on the way.
 */
export async function explainSections(body, signal, onSection) {
  const response = await send("POST", "page/link", { body, signal });
  if (!response.ok) throw new RequestError(messageOf(response, await response.json().catch(() => null)), response.status);
  let isWhole = false;
  for await (const line of linesOf(response.body)) {
    const section = JSON.parse(line);
    if (section.error) throw new RequestError(section.error, section.status ?? 500);
    onSection(section);
    isWhole = section.is_last;
  }
  if (!isWhole) throw new RequestError("The server stopped before the end of the text.", 0);
}

async function* linesOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines;
  }
  if (rest) yield rest;
}

async function send(method, path, { body, edits = false, signal }) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (edits && token.get()) headers.Authorization = `Bearer ${token.get()}`;
  try {
    return await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError("The server does not answer. Is `blink serve` still running?", 0);
  }
}

function messageOf(response, answer) {
  if (typeof answer?.error === "string") return answer.error;
  if (response.status === 413) return "The text is longer than this server takes.";
  if (response.status === 503) return "The linker is being loaded.";
  if (response.status === 429) return "The server is busy; try again in a moment.";
  return `The server answered with status ${response.status}.`;
}
