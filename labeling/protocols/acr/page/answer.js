/** One button for each point of the scale. */

export { choices as create } from "../../labeling/number.js";
