// Everything that was written by others goes in as text (textContent), never as markup.
"use strict";
const POLL_MS = 3000;
const at = (id) => document.getElementById(id);
let shown = null;     // the assignment on the page
let isBusy = false;   // a request is under way: keys and buttons wait
let timer = null;

function stored(store, key) { try { return store.getItem(key) || ""; } catch { return ""; } }
function keep(store, key, value) { try { store.setItem(key, value); } catch { /* private mode */ } }

let rater = stored(localStorage, "rater");
let token = stored(sessionStorage, "token");

// path is relative to the page's own address, so that a prefix in front of the service does not matter
async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const base = location.pathname.replace(/\/+$/, "");
  const answer = await fetch(`${base}/${path}`, {
    method: body ? "POST" : "GET", headers, body: body && JSON.stringify({ rater, ...body }),
  });
  if (answer.status === 401) throw { needsToken: true };
  if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
  return answer.json();
}

async function ask(path, body) {
  if (isBusy) return;
  isBusy = true;
  clearTimeout(timer);
  for (const button of document.querySelectorAll("#bar button")) button.disabled = true;
  try {
    show(await call(path, body));
    at("problem").textContent = "";
  } catch (error) {
    if (error.needsToken) enter(token ? "The service refuses this token." : "The service asks for its token.");
    else at("problem").textContent = `Not saved, try again: ${error.message}`;
    if (!shown || shown.kind === "nothing") timer = setTimeout(next, POLL_MS);
  } finally {
    isBusy = false;
    for (const button of document.querySelectorAll("#bar button")) button.disabled = false;
    at("undo").disabled = false;
  }
}

const next = () => ask(`next?rater=${encodeURIComponent(rater)}`);

function enter(problem) {
  for (const id of ["work", "nothing", "bar", "who"]) at(id).hidden = true;
  at("entry").hidden = false;
  at("name").value = rater;
  at("token-field").hidden = !problem;
  at("entry-error").textContent = problem || "";
  (rater && problem ? at("token") : at("name")).focus();
}

function show(assignment) {
  shown = assignment;
  const isNothing = assignment.kind === "nothing";
  at("entry").hidden = true;
  at("who").hidden = false;
  at("who").textContent = rater;
  at("work").hidden = isNothing;
  at("nothing").hidden = !isNothing;
  at("bar").hidden = false;
  at("skip").hidden = isNothing;
  at("counts").textContent = `${assignment.num_waiting} waiting · ${assignment.num_mine} judged by you`;
  at("question").textContent = assignment.question;
  fill(at("prompt"), assignment.prompt);
  at("completions").replaceChildren(...assignment.items.map(card));
  at("choices").replaceChildren(...choices(assignment));
  if (isNothing) timer = setTimeout(next, POLL_MS);
  else scrollTo(0, 0);
}

function fill(element, text) {
  element.textContent = text.trim() ? text : text ? "(white space only)" : "(empty)";
  element.classList.toggle("empty", !text.trim());
}

function card(item, place) {
  const section = document.createElement("section");
  section.className = "card";
  const title = document.createElement("h2");
  title.textContent = shown.kind === "rating" ? "Answer" : ["A", "B"][place];
  const text = document.createElement("pre");
  text.dir = "auto";
  fill(text, item.completion);
  section.append(title, text);
  return section;
}

function choices(assignment) {
  if (assignment.kind === "rating") {
    const points = Array.from({ length: assignment.num_points }, (_, i) => i + 1);
    return [end("worst"), ...points.map((n) => button("point", "", String(n), () => rate(n))), end("best")];
  }
  if (assignment.kind === "comparison") return [
    button("", "←", "A is better", () => compare("left")),
    button("", "=", "Equal", () => compare("tie")),
    button("", "→", "B is better", () => compare("right")),
  ];
  return [];
}

function end(word) {
  const span = document.createElement("span");
  span.className = "end";
  span.textContent = word;
  return span;
}

function button(kind, key, words, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  if (key) {
    const cap = document.createElement("kbd");
    cap.textContent = key;
    made.append(cap);
  }
  made.append(words);
  made.addEventListener("click", act);
  return made;
}

function rate(point) {
  if (shown?.kind !== "rating" || point > shown.num_points) return;
  ask("ratings", { item: shown.items[0].id, value: (point - 1) / (shown.num_points - 1) });
}

function compare(winner) {
  if (shown?.kind !== "comparison") return;
  ask("comparisons", { left: shown.items[0].id, right: shown.items[1].id, winner });
}

function skip() {
  if (shown && shown.kind !== "nothing") ask("skips", { items: shown.items.map((item) => item.id) });
}

const undo = () => ask("undo", {});

const KEYS = {
  s: skip, u: undo, ArrowLeft: () => compare("left"), ArrowRight: () => compare("right"),
  "=": () => compare("tie"),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !at("entry").hidden) return;
  // An arrow decides only where there is something to compare; else it scrolls.
  if (event.key.startsWith("Arrow") && shown?.kind !== "comparison") return;
  const act = /^[1-9]$/.test(event.key) ? () => rate(Number(event.key)) : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

at("skip").addEventListener("click", skip);
at("undo").addEventListener("click", undo);
at("who").addEventListener("click", () => enter());
at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  rater = at("name").value.trim();
  if (!rater) return;
  if (!at("token-field").hidden) token = at("token").value.trim();
  keep(localStorage, "rater", rater);
  keep(sessionStorage, "token", token);
  next();
});

if (rater) next();
else enter();
