// Text files: opened by a button or dropped on the page.

const LARGEST = 16 << 20; // bytes
const ENCODINGS = { "ef bb bf": "utf-8", "ff fe": "utf-16le", "fe ff": "utf-16be" };

/**
 * Read a text file: UTF-8, UTF-16 with a mark, else Windows-1252.
 *
 * @param {File} file
 * @returns {Promise<string>} its text, with line ends as a text area has them.
 * @throws {Error} it is too large, or no text.
 */
export async function textOf(file) {
  if (file.size > LARGEST) throw new Error(`“${file.name}” has ${Math.round(file.size / 1e6)} MB; up to ${LARGEST >> 20} MB can be opened.`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const text = decoded(bytes).replace(/\r\n?/g, "\n");
  if (text.slice(0, 4096).includes("\0")) throw new Error(`“${file.name}” is no text file; save it as plain text first.`);
  if (!text.trim()) throw new Error(`“${file.name}” is empty.`);
  return text;
}

function decoded(bytes) {
  const head = [...bytes.slice(0, 3)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  const marked = Object.keys(ENCODINGS).find((mark) => head.startsWith(mark));
  if (marked) return new TextDecoder(ENCODINGS[marked]).decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

/** Let files be dropped on an element. */
export function droppable(target, onFile) {
  const mark = (isOver) => target.classList.toggle("dragging", isOver);
  target.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    mark(true);
  });
  target.addEventListener("dragleave", () => mark(false));
  target.addEventListener("drop", (event) => {
    mark(false);
    const [file] = event.dataTransfer.files;
    if (!file) return;
    event.preventDefault();
    onFile(file);
  });
}
