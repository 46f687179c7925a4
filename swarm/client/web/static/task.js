// One task in a sheet at the side: its attempts, its output as it comes, and what it changed.

import { ask, byId, duration, element, pill, say, since, steer, there, tick } from "./shown.js";

const LINES_MAX = 3000; // of the log that are kept
const REFRESH_MS = 700;
const LISTS = ["workers", "queue", "waiting", "failures", "landings"];
const TABS = ["attempts", "log", "diff"];
const sheet = byId("task");
let named = null; // which task is open: {repository, run, task}
let tab = "attempts";
let log = null;
let seen = "";
let waits = 0;
let trace = ""; // of it in the picture for which it was read last

/** Where a task is shown: an address, so that it can be kept, and the browser's way back leads out of it. */
export const addressOf = (repository, row) => `#${new URLSearchParams({ repository, run: row.run, task: row.task })}`;

export function open(query) {
  named = query;
  seen = "";
  say(byId("task-name"), `${query.run}/${query.task}`);
  for (const id of ["task-title", "task-state"]) say(byId(id), "");
  for (const id of ["task-actions", "panel-attempts", "log", "diff"]) byId(id).replaceChildren();
  if (!sheet.open) sheet.showModal();
  choose("attempts");
  refresh();
}

export function close() {
  if (sheet.open) sheet.close();
}

sheet.addEventListener("close", () => {
  named = null;
  log = log?.close() ?? null;
  if (location.hash) history.pushState(null, "", location.pathname);
});
byId("task-close").addEventListener("click", close);
sheet.addEventListener("click", (event) => { if (event.target === sheet && event.offsetX < 0) close(); });

/** Looks at the open task again, if a picture shows it elsewhere than the one before: what is known of it has to be read anew. */
export function follows(pictures) {
  if (!named) return;
  const now = traces(pictures.find((each) => each.path === named.repository));
  if (now !== trace && !waits) waits = setTimeout(() => { waits = 0; trace = now; refresh(); }, REFRESH_MS);
}

function traces(shown) {
  const found = LISTS.flatMap((name) => (shown?.[name] ?? []).filter((row) => row.run === named.run && row.task === named.task)
    .map((row) => [name, row.state, row.step, row.notes]));
  return JSON.stringify([shown?.daemon.state, found]);
}

async function refresh() {
  const asked = named;
  if (!asked) return;
  try {
    const found = await ask("/task", asked);
    const text = JSON.stringify(found);
    if (asked !== named || text === seen) return;
    seen = text;
    show(found);
  } catch (error) {
    if (asked === named && !seen) byId("panel-attempts").replaceChildren(element("p", { class: "bad" }, error.message));
  }
}

function show(found) {
  say(byId("task-name"), `${found.of}/${found.name}`);
  say(byId("task-title"), found.title);
  pill(byId("task-state"), found.state);
  byId("task-actions").replaceChildren(...actions(found));
  byId("panel-attempts").replaceChildren(...there([
    facts(found.facts), typed(found.type),
    found.asked ? element("details", {}, element("summary", {}, "What was asked"), element("pre", { class: "output" }, found.asked)) : null,
    ...found.attempts.map(attempt),
    found.attempts.length ? null : element("p", { class: "dim" }, "It has had no attempt yet."),
  ]));
  tick();
}

const facts = (pairs) => element("dl", { class: "facts" }, ...pairs.flatMap(([label, text]) => [element("dt", {}, label), element("dd", {}, text)]));

export const typed = (commands) => commands.length ? element("div", { class: "type" }, ...commands.map((each) => element("code", {}, each))) : null;

function attempt(each) {
  const took = each.started === null ? null : each.ended === null ? since(each.started) : duration(each.ended - each.started);
  return element("section", { class: "attempt" },
    element("h3", { class: "line" }, `Attempt ${each.n}`, element("span", { class: "pill", "data-state": each.state }, each.state), took,
      opens("log", "Output", each.n), opens("diff", "Changes", each.n)),
    facts(each.facts));
}

const opens = (which, text, n) => element("button", {
  type: "button", class: "small", "aria-label": `${text} of attempt ${n}`, on: () => { choose(which, n); byId(`tab-${which}`).focus(); },
}, text);

function actions(found) {
  const about = { repository: named.repository, run: found.run, task: found.task };
  const button = (text, danger, question, doing) => element("button", {
    type: "button", class: danger ? "danger" : "",
    on: async () => { if (await steer(question, text, { ...about, do: doing })) refresh(); },
  }, text);
  if (found.live) return [button("Cancel task", true, `Give ${found.name} up? The work done so far is kept on its branch.`, "cancel")];
  if (["failed", "cancelled"].includes(found.state)) return [button("Try again", false, `Try ${found.name} again, with a new attempt?`, "retry")];
  return [];
}

// The tabs.

/** Shows a tab; of output and changes those of one attempt, where it is named, else of the newest. */
function choose(which, attempt) {
  tab = which;
  for (const each of TABS) {
    const chosen = each === which;
    byId(`panel-${each}`).hidden = !chosen;
    byId(`tab-${each}`).setAttribute("aria-selected", chosen);
    byId(`tab-${each}`).tabIndex = chosen ? 0 : -1;
  }
  log = log?.close() ?? null;
  if (which === "log") follow(attempt);
  if (which === "diff") changes(attempt);
}

for (const each of TABS) byId(`tab-${each}`).addEventListener("click", () => choose(each));
sheet.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  choose(TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length]);
  byId(`tab-${tab}`).focus();
});

function follow(attempt) {
  const where = byId("log");
  let last = "";
  where.replaceChildren();
  say(byId("log-text"), "Waiting for output …");
  log = new EventSource(`/log?${new URLSearchParams(attempt ? { ...named, attempt } : named)}`);
  log.onopen = () => { where.replaceChildren(); last = ""; };
  log.onmessage = (message) => {
    const { lines, over } = JSON.parse(message.data);
    const atEnd = where.scrollTop + where.clientHeight >= where.scrollHeight - 30;
    for (const [label, line] of lines) {
      if (label !== last) where.append(element("span", { class: "of" }, label));
      last = label;
      where.append(element("span", {}, line));
    }
    while (where.childElementCount > LINES_MAX) where.firstChild.remove();
    if (atEnd) where.scrollTop = where.scrollHeight;
    if (over) log = log?.close() ?? null; // or it would be opened again
    say(byId("log-text"), over ? (where.childElementCount ? "" : "Nothing was printed.") : "Shown as it comes.");
  };
}

async function changes(attempt) {
  const where = byId("diff"), asked = named;
  say(byId("diff-text"), "Looking …");
  try {
    const { text, left_out_bytes: left } = await ask("/diff", attempt ? { ...asked, attempt } : asked);
    if (asked !== named) return;
    const lines = text.split("\n").map((line) => element("span", { class: kind(line) }, line));
    where.replaceChildren(...lines);
    const whose = attempt ? `Attempt ${attempt}. ` : "", more = left ? `The first part; ${left.toLocaleString()} bytes more in swarm diff.` : "";
    say(byId("diff-text"), whose + (text ? more : "It has changed nothing that is kept yet."));
    where.hidden = !text;
  } catch (error) {
    say(byId("diff-text"), error.message);
    where.hidden = true;
  }
}

function kind(line) {
  if (/^(diff |\+\+\+ |--- )/.test(line)) return "file";
  return { "+": "plus", "-": "minus", "@": "at" }[line[0]] ?? "";
}
