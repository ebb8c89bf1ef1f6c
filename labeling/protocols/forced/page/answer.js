/** Two alternatives with a tie: a key, a button, or a click on the better picture. */

import { choices } from "../../labeling/number.js";

export function create(context) {
  return { ...choices(context), picks: ["left", "right"] };
}
