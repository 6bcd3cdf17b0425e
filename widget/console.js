/* What the script says in the console: one line for each thing that goes wrong, and each only once. */

const said = new Set();

/** @param {unknown} text @returns {""} */
export function warn(text) {
  if (!said.has(text)) console.warn(`hitcounter: ${text}`);
  said.add(text);
  return "";
}
