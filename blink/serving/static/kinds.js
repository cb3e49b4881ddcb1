// Kinds of entities: what colours and the legend show of the types in a catalogue.

const WORDS = {
  person: "person people human actor artist athlete politician writer singer musician scientist philosopher painter poet",
  place: "place location country city town village state province region county district island river sea ocean lake mountain"
    + " continent building stadium airport street park planet moon",
  organization: "organization organisation org company university college school bank institute institution agency party brand"
    + " airline newspaper magazine broadcaster league institution museum",
  team: "team club band orchestra",
  work: "work film movie series book novel song album painting opera play poem game artwork software app website",
  event: "event award war battle holiday election festival tournament disaster competition",
};
const GROUP_OF = new Map(Object.entries(WORDS).flatMap(([group, words]) => words.split(" ").map((word) => [word, group])));
const OTHER_HUES = 4;

/**
 * The kind of an entity by its types: the first type that has a colour of its own, by its last word ("sports team" is a team).
 *
 * @param {Array<string>} types most general first, or none.
 * @returns {{name: string, colour: string}} name for the legend, and the value of `data-kind` that style.css colours.
 */
export function kindOf(types) {
  const known = (types ?? []).filter((type) => typeof type === "string" && type.trim());
  const groups = known.map((type) => GROUP_OF.get(type.toLowerCase().split(/[\s_-]+/).at(-1))).filter(Boolean);
  if (groups.includes("team")) return { name: "team", colour: "team" };
  if (groups.length) return { name: groups[0], colour: groups[0] };
  if (!known.length) return { name: "entity", colour: "entity" };
  return { name: known[0].toLowerCase(), colour: `other-${hashed(known[0].toLowerCase()) % OTHER_HUES}` };
}

function hashed(word) {
  let sum = 7;
  for (const letter of word) sum = (31 * sum + letter.codePointAt(0)) % 65521;
  return sum;
}
