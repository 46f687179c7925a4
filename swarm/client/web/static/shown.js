// Elements made of text, and lists of them of which only what has changed is touched. What others wrote is only ever text here:
// no markup is made of strings anywhere in this page.

export const byId = (id) => document.getElementById(id);

/** Leaves out what is not there. */
export const there = (inside) => inside.filter((each) => each !== null && each !== undefined);

/** Makes an element. `attributes` that are null or false are left out; what is in it is text or elements. */
export function element(tag, attributes, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "class") made.className = value;
    else if (name === "on") made.addEventListener("click", value);
    else if (value !== null && value !== false) made.setAttribute(name, value);
  }
  made.append(...there(inside));
  return made;
}

/** Says something in an element, and hides one that has nothing to say. */
export function say(where, text) {
  if (where.textContent !== text) where.textContent = text;
  where.hidden = !text;
}

/** Shows a state in a pill. */
export function pill(where, state, text) {
  say(where, text ?? state);
  where.dataset.state = state;
}

/** Has a list show `items`: those that are as they were stay, also where somebody has the focus in one. */
export function list(where, items, key, make) {
  const there = where.shownItems ?? (where.shownItems = new Map());
  const now = new Map();
  for (const item of items) {
    const name = key(item), text = JSON.stringify(item), before = there.get(name);
    if (before && before.text === text) now.set(name, before);
    else {
      const made = make(item);
      if (before) {
        const focused = before.made.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
        before.made.replaceWith(made);
        if (focused) made.querySelector(`[data-focus="${focused}"]`)?.focus();
      }
      now.set(name, { text, made });
    }
  }
  for (const [name, { made }] of there) if (!now.has(name)) made.remove();
  let place = where.firstChild;
  for (const { made } of now.values()) {
    if (made === place) place = place.nextSibling;
    else where.insertBefore(made, place);
  }
  where.shownItems = now;
}

// Times count on by themselves: elements with data-since are written anew each second, and where there are none nothing is done.

let ahead = 0; // of the server's clock
let ticking = 0;

export const clockIs = (now) => { ahead = now - Date.now() / 1000; };

export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds)), two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h${two(Math.floor(whole % 3600 / 60))}m`;
  return `${Math.floor(whole / 86400)}d${two(Math.floor(whole % 86400 / 3600))}h`;
}

export function since(moment, { before = "", after = "" } = {}) {
  const made = element("span", { "data-since": moment, "data-before": before, "data-after": after });
  write(made);
  return made;
}

function write(each) {
  const passed = Date.now() / 1000 + ahead - Number(each.dataset.since);
  const text = `${each.dataset.before}${duration(passed)}${each.dataset.after}`;
  if (each.textContent !== text) each.textContent = text;
}

export function tick() {
  const found = document.querySelectorAll("[data-since]");
  for (const each of found) write(each);
  const wanted = found.length > 0 && !document.hidden;
  if (wanted && !ticking) ticking = setInterval(tick, 1000);
  if (!wanted && ticking) ticking = clearInterval(ticking) ?? 0;
}
document.addEventListener("visibilitychange", tick);

// Asking.

/** Asks for a document. Throws an Error with the sentences that the command would print. */
export async function ask(path, query, body) {
  const target = `${path}?${new URLSearchParams(query)}`;
  const answer = await fetch(target, body ? { method: "POST", body: JSON.stringify(body) } : {});
  const text = await answer.text();
  let document_ = null;
  try { document_ = JSON.parse(text); } catch { /* the door speaks in plain words */ }
  if (answer.ok) return document_;
  const error = document_?.error;
  throw new Error(error ? [error.cause, error.consequence, error.next_step && `Next: ${error.next_step}`].filter(Boolean).join(" ") : text);
}

/** Asks whether somebody is sure; gives whether they are. */
export function sure(text, yes) {
  const dialog = byId("sure");
  byId("sure-text").textContent = text;
  byId("sure-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

/** Has something done, once somebody is sure, and says how that went. */
export async function steer(text, yes, body) {
  if (!await sure(text, yes)) return false;
  try {
    await ask("/steer", {}, body);
    return true;
  } catch (error) {
    await sure(error.message, "OK");
    return false;
  }
}
