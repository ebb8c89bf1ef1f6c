/** A slider, over buttons for some of its places. */

export { slider as create } from "../../labeling/number.js";
