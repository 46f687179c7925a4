// The dashboard: draws each picture that comes, and nothing while none does.

import { ask, byId, clockIs, element, list, pill, say, since, steer, tick } from "./shown.js";
import { addressOf, close, follows, open, typed } from "./task.js";

const RETRY_MS = 2000;
let all = null; // the newest picture
let chosen = null; // the repository that is shown
let failed = null; // what is known to have failed, so that only what is new is said

if (location.search) history.replaceState(null, "", location.pathname + location.hash); // the token is in the cookie now

// What comes.

let live = null;

/** Says whether what is shown is how things stand. */
function linked(state, text) {
  pill(byId("link"), state, text);
  document.body.classList.toggle("stale", state !== "live");
}

function listen() {
  live = new EventSource("/events");
  live.onopen = () => linked("live", "live");
  live.onmessage = (message) => {
    all = JSON.parse(message.data);
    clockIs(all.now);
    linked("live", "live");
    requestAnimationFrame(draw);
    follows(all.repositories);
  };
  live.onerror = () => {
    linked("lost", "not connected");
    if (live.readyState === EventSource.CLOSED) lost();
  };
}

/** A browser tries again by itself where nobody answers; where it was refused it does not. */
async function lost() {
  try {
    const answer = await fetch("/icon.svg", { method: "HEAD" });
    if (answer.status === 403) linked("lost", "open the new address that swarm web printed");
  } catch { /* not there: it is tried again */ }
  setTimeout(listen, RETRY_MS);
}
listen();

// What is shown.

function draw() {
  const found = all.repositories;
  const shown = found.find((each) => each.path === chosen) ?? found[0];
  list(byId("repositories"), found.length > 1 ? found.map((each) => tabOf(each, each === shown)) : [], (each) => each.path, repository);
  byId("repositories").hidden = found.length < 2;
  byId("main").hidden = !shown;
  if (!shown) return say(byId("name"), "swarm has not been used on this machine yet");
  chosen = shown.path;
  say(byId("name"), found.length > 1 ? "swarm" : shown.name);
  service(shown);
  list(byId("runs"), shown.runs.length ? shown.runs : [null], (each) => each?.id ?? "", run);
  rows("failures", shown, failure);
  byId("s-failures").hidden = !shown.failures.length;
  rows("workers", shown, worker);
  rows("queue", shown, queued);
  waiting(shown);
  rows("landings", shown, landing);
  more("runs", shown);
  announce(shown);
  tick();
}

const tabOf = (each, current) => ({
  path: each.path, name: nameOf(each), place: each.place, current,
  state: each.daemon.state, busy: each.capacity?.running ?? 0, bad: each.bad.map(inWords).join(", "),
});

const inWords = ([state, number]) => `${number} ${state}`;

/** Repositories of the same name are told apart by the folder that they are in, or else by the whole path. */
function nameOf(each) {
  const short = (one, parts) => one.place.split("/").slice(-parts).join("/");
  const alone = (parts) => all.repositories.every((other) => other === each || short(other, parts) !== short(each, parts));
  return alone(1) ? each.name : alone(2) ? short(each, 2) : each.place;
}

function repository(each) {
  return element("a", { href: "#", title: each.place, "aria-current": each.current ? "page" : null, "data-focus": "tab",
    on: (event) => { event.preventDefault(); chosen = each.path; draw(); } },
  each.name,
  each.busy ? element("span", { class: "busy" }, `${each.busy} at work`) : null,
  each.bad ? element("span", { class: "bad" }, each.bad) : null,
  each.state === "running" ? null : element("span", { class: "dim" }, STATES[each.state] ?? each.state));
}

const STATES = { none: "no daemon", silent: "silent", unknown: "can't be read", failed: "ended by itself" };

function service(shown) {
  const { daemon, capacity } = shown;
  pill(byId("daemon-state"), daemon.state, STATES[daemon.state] ?? daemon.state);
  list(byId("daemon-text"), [daemon], () => "", ({ text, since: moment }) =>
    element("span", {}, text, moment === null ? null : since(moment, { before: ", up " })));
  say(byId("place"), shown.place);
  say(byId("warning"), daemon.warning);
  const pause = byId("pause"), paused = daemon.state === "paused";
  pause.hidden = !paused && daemon.state !== "running";
  pause.textContent = paused ? "Resume" : "Pause";
  byId("capacity").hidden = !capacity;
  if (capacity) {
    const dots = Array.from({ length: Math.min(capacity.most, 40) }, (_, n) => ({ n, kind: n < capacity.running ? "on" : n < capacity.running + capacity.open ? "open" : "" }));
    list(byId("slots"), dots, (dot) => dot.n, (dot) => element("i", { class: dot.kind }));
    say(byId("workers-text"), `${capacity.running} of ${capacity.most} workers`);
    for (const name of ["cpu", "memory"]) {
      byId(name).value = capacity[name] ?? 0;
      byId(name).parentElement.hidden = capacity[name] === null;
      say(byId(`${name}-text`), `${capacity[name]} %`);
    }
    say(byId("disk"), capacity.disk && `${capacity.disk} free`);
    say(byId("reason"), capacity.text);
  }
  list(byId("notes"), shown.notes, (note) => note, (note) => element("li", {}, note));
}

byId("pause").addEventListener("click", () => {
  const paused = all?.repositories.find((each) => each.path === chosen)?.daemon.state === "paused";
  if (paused) steer("Go on, and start what is ready?", "Resume", { repository: chosen, do: "resume" });
  else steer("Start nothing new? What is at work goes on.", "Pause", { repository: chosen, do: "pause" });
});

function run(each) {
  if (!each) return element("li", { class: "dim" }, "No runs yet. Next: ", element("code", {}, "swarm run PLAN"));
  const track = element("div", { class: "track", role: "progressbar", "aria-label": `${each.id}: landed`, "aria-valuemin": 0, "aria-valuemax": each.total, "aria-valuenow": each.landed });
  for (const state of ORDER) {
    const number = each.counts.find(([name]) => name === state)?.[1];
    if (!number) continue;
    const part = element("i", { "data-state": state });
    part.style.flexGrow = number;
    track.append(part);
  }
  const count = (pair) => element("span", { "data-state": pair[0] }, inWords(pair));
  return element("li", {},
    element("div", { class: "line" }, element("h3", {}, each.id), stated(each.ended && each.landed < each.total ? "paused" : each.state, each.state),
      element("span", { class: "dim" }, `${each.landed} of ${each.total} landed`)),
    each.total ? track : null,
    element("div", { class: "counts" }, ...each.counts.map(count)),
    each.goal ? element("p", {}, each.goal) : null,
    ...each.problems.map((text) => element("p", { class: "bad" }, `can't go on: ${text}`)),
    each.qa ? element("p", {}, each.qa) : null,
    ...each.lines.map((text) => element("p", { class: "dim path" }, text)),
    each.type ? typed([each.type]) : null);
}

const ORDER = ["landed", "answered", "landing", "queued", "running", "failed", "blocked", "cancelled", "ready", "pending"];

function rows(name, shown, make) {
  list(byId(name), placed(name, shown), keyOf, make);
  counted(name, shown);
}

const placed = (name, shown) => shown[name].map((row) => ({ ...row, repository: shown.path, several: shown.runs.length > 1 }));

function counted(name, shown) {
  const found = shown[name], section = byId(`s-${name}`), total = found.length + shown.more[name];
  section.classList.toggle("empty", !found.length);
  const count = section.querySelector(".count");
  if (count) count.textContent = total ? total : "";
  more(name, shown);
}

/** What waits for the same thing is named together. */
function waiting(shown) {
  const groups = new Map();
  for (const row of placed("waiting", shown)) groups.set(row.text, [...(groups.get(row.text) ?? []), row]);
  list(byId("waiting"), [...groups].map(([text, together]) => ({ text, together })), (group) => group.text, ({ text, together }) =>
    element("li", { class: "group" }, element("p", { class: "about" }, text || "it can start"),
      element("p", { class: "names" }, ...together.map((row, n) => element("a", { href: addressOf(row.repository, row), title: row.title, "data-focus": `task-${n}` }, row.several ? `${row.of}/${row.name}` : row.name)))));
  counted("waiting", shown);
}

function more(name, shown) {
  const where = byId(`more-${name}`);
  if (where) say(where, shown.more[name] ? `… and ${shown.more[name]} more` : "");
}

const keyOf = (row) => JSON.stringify([row.repository, row.run, row.task]);

function landing(row) {
  const side = element("span", {}, element("code", {}, row.text), " ", row.at ? since(row.at, { after: " ago" }) : null);
  return item({ ...row, title: "" }, row.title === row.name ? "" : row.title, side);
}

function named(row) {
  return element("div", { class: "name" },
    element("a", { href: addressOf(row.repository, row), "data-focus": "task" }, row.several ? `${row.of}/${row.name}` : row.name),
    row.title && row.title !== row.name ? element("span", { class: "title" }, row.title) : null);
}

const item = (row, about, side) => element("li", {}, named(row), element("div", { class: "about" }, about), element("div", { class: "side" }, side));

const stated = (state, text) => element("span", { class: "pill", "data-state": state }, text ?? state);

function failure(row) {
  const about = element("div", {}, row.text, typed(row.type));
  return item(row, about, stated(row.state));
}

function queued(row) {
  return item(row, row.text || (row.candidate ? element("span", { class: "dim" }, "candidate ", element("code", {}, row.candidate)) : ""), stated(row.step.split(" ")[0], row.step));
}

function worker(row) {
  const cell = (kind, ...inside) => element("td", { role: "cell", class: kind }, ...inside);
  const notes = row.notes.join(", ");
  return element("tr", { role: "row" },
    cell("", named(row)), cell("dim", row.agent),
    cell("", row.text, row.text && notes ? element("br") : null, notes ? element("span", { class: "dim" }, notes) : null),
    cell("figure", row.started === null ? "" : since(row.started)), cell("figure", row.cpu ?? ""), cell("figure", row.memory ?? ""));
}

/** Says aloud, and in the title, what somebody would want to know who looks elsewhere. */
function announce(shown) {
  const bad = all.repositories.flatMap((each) => each.failures.map(({ run: of, task }) => JSON.stringify([each.path, of, task])));
  const fresh = failed === null ? [] : shown.failures.filter(({ run: of, task }) => !failed.has(JSON.stringify([shown.path, of, task])));
  if (fresh.length) byId("said").textContent = fresh.slice(0, 3).map((row) => `${row.name} ${row.state}`).join(", ");
  failed = new Set(bad);
  const working = all.repositories.reduce((sum, each) => sum + (each.capacity?.running ?? 0), 0);
  const sums = new Map();
  for (const [state, number] of all.repositories.flatMap((each) => each.bad)) sums.set(state, (sums.get(state) ?? 0) + number);
  const parts = [...[...sums].map(inWords), working ? `${working} at work` : ""].filter(Boolean);
  document.title = `${parts.length ? `${parts.join(", ")} · ` : ""}${all.repositories.length > 1 ? "swarm" : shown.name}`;
}

// Finding a task.

byId("find").addEventListener("submit", async (event) => {
  event.preventDefault();
  const repository = chosen, query = { ...Object.fromEntries(new FormData(event.target)), repository };
  try {
    const { tasks, number } = await ask("/tasks", query);
    list(byId("found"), tasks.map((row) => ({ ...row, repository, several: true })), keyOf, (row) => item(row, row.text, stated(row.state)));
    say(byId("found-text"), number > tasks.length ? `The first ${tasks.length} of ${number} tasks` : `${number} task${number === 1 ? "" : "s"}`);
  } catch (error) {
    say(byId("found-text"), error.message);
  }
});

// One task has an address of its own.

function route() {
  const query = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (query.repository && query.run && query.task) open(query);
  else close();
}
addEventListener("hashchange", route);
addEventListener("popstate", route);
route();
