/** Keys by position: which action a key press means, what is printed on a key, and which bindings clash. */

const SYMBOLS = {
  ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Backspace: "⌫", Enter: "⏎", Space: "Space",
  Minus: "-", Equal: "=", BracketLeft: "[", BracketRight: "]", Semicolon: ";", Quote: "'", Comma: ",", Period: ".",
  Slash: "/", Backslash: "\\", Backquote: "`", IntlBackslash: "<",
};
const RESERVED = new Set(["Tab", "Escape", "Enter", "ShiftLeft", "ShiftRight", "ControlLeft", "ControlRight", "AltLeft",
  "AltRight", "MetaLeft", "MetaRight", "CapsLock", "ContextMenu"]);

/** What to print on a key cap; `layout` maps codes to letters where the browser tells (navigator.keyboard). */
export function keyLabel(code, layout = null) {
  if (SYMBOLS[code]) return SYMBOLS[code];
  const printed = layout?.get?.(code);
  if (printed) return printed.toUpperCase();
  return code.replace(/^(Key|Digit)/, "").replace(/^Numpad/, "Num ");
}

const PANS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const ZOOMS = { Equal: 1, Minus: -1, NumpadAdd: 1, NumpadSubtract: -1 };

/** The key that another one stands for where that is bound to nothing: those of the number pad, Space for Enter. */
export function alias(code) {
  if (code === "Space" || code === "NumpadEnter") return "Enter";
  return /^Numpad\d$/.test(code) ? code.replace("Numpad", "Digit") : code;
}

/**
 * The action among `actions` that a key press means, or null. Modified presses belong to the browser, and Shift with
 * arrows pans. Only what moves a slider repeats while its key is held.
 */
export function actionOf(event, actions, bindings) {
  if (event.ctrlKey || event.metaKey || event.altKey || panOf(event)) return null;
  const bound = (code) => actions.find((action) => bindings[action.name] === code);
  const action = bound(event.code) ?? bound(alias(event.code)) ?? null;
  return event.repeat && action?.kind !== "move" ? null : action;
}

/** The direction in which a key press pans, [x, y], or null: Shift with an arrow. */
export function panOf(event) {
  return (event.shiftKey && PANS[event.code]) || null;
}

/** +1 or -1 for the keys that zoom in and out where they are bound to nothing else, or null. */
export function zoomOf(event) {
  return event.ctrlKey || event.metaKey || event.altKey ? null : ZOOMS[event.code] ?? null;
}

/** Whether a press belongs to the element that has the focus: a button is pressed by Enter and Space. */
export function isForElement(event) {
  const isPress = ["Enter", "Space", "NumpadEnter"].includes(event.code);
  return isPress && Boolean(event.target?.closest?.("button, a, select, summary"));
}

/**
 * Whether a key may be bound: not one that moves the focus, closes a dialog, or is a modifier; Enter, which presses
 * buttons, may only send.
 */
export function bindable(code, kind = "answer") {
  if (code === "Enter") return kind === "submit";
  return Boolean(code) && /^[A-Za-z0-9]{1,24}$/.test(code) && !RESERVED.has(code);
}

/** The names of two actions of one trial bound to the same key, or null. */
export function clash(bindings, actionSets) {
  for (const actions of actionSets) {
    const seen = new Map();
    for (const { name } of actions) {
      const other = seen.get(bindings[name]);
      if (other) return [other, name];
      seen.set(bindings[name], name);
    }
  }
  return null;
}
