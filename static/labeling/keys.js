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

/** The action among `actions` that a key press means, or null. Modified presses belong to the browser. */
export function actionOf(event, actions, bindings) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return null;
  return actions.find((action) => bindings[action.name] === event.code) ?? null;
}

/** Whether a key may be bound: not one that moves the focus, closes a dialog, or is a modifier. */
export function bindable(code) {
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
