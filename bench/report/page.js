"use strict";
const all = (selector, under = document) => [...under.querySelectorAll(selector)];
const split = text => text.toLowerCase().split(/[\s·,()[\]]+/).filter(Boolean);
const put = (element, out) => { if (element.classList.contains("out") !== out) element.classList.toggle("out", out); };
const count = (n, of, what) => (n === of ? "" : `${n} of `) + `${of} ${what}${of === 1 ? "" : "s"}`;

// Whether words hold all that is asked for. A word that is among the known ones means just that one, any other all that
// begin with it: so "vae" is not "vae_gan", although "va" is both. But "mo" is not "model=vae", of which "model=v" is.
function matcher(query, known) {
  const begins = (other, word) => other.startsWith(word) && other.includes("=") === word.includes("=");
  const asked = split(query).map(word => [word, known.has(word)]);
  return words => asked.every(([word, whole]) => words.some(other => whole ? other === word : begins(other, word)));
}

// --- sorting: numbers by size, then texts, and at the end, either way, what is not there

function worth(cell) {
  const text = cell.dataset.value ?? "";
  if (["", "-", "n/a", "not run"].includes(text)) return null;
  const number = /^[<×]? ?([-+−]?[\d,]*\.?\d+(?:e[-+]?\d+)?)(?=\s|$)/i.exec(text);
  return number ? Number(number[1].replaceAll(",", "").replace("−", "-")) : text;
}

const collator = new Intl.Collator("en", { numeric: true });
function compare(x, y) {
  if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
  return typeof x === "number" ? x - y : collator.compare(x, y);
}

function sort(head) {
  const body = head.closest("table").tBodies[0], at = head.cellIndex;
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const keyed = [...body.rows].map(row => [worth(row.cells[at]), row]);
  keyed.sort(([x], [y]) => x === null || y === null ? (x === null) - (y === null) : sign * compare(x, y));
  body.append(...keyed.map(([, row]) => row));
}

// --- filtering

const ofRuns = document.getElementById("filter"), told = ofRuns.parentElement.querySelector("output");
const tables = all("table").map(table => {
  const bar = table.closest(".card").querySelector(".filters");
  const rows = [...table.tBodies[0].rows].map(row => ({
    row,
    own: row.dataset.words?.split(" "),
    labels: all("th", row).map(cell => cell.dataset.value),
  }));
  return { card: table.closest(".card"), bar, rows, input: bar?.querySelector("input"), axes: bar ? all("select", bar) : [] };
});
const items = all("main [data-words]:not(tr)").map(element => [element, element.dataset.words]);
const runs = RUNS.map(words => words.split(" "));
const known = new Set(all("main [data-words]").flatMap(e => e.dataset.words.split(" ")).concat(...runs));
const holders = all("section:not(#tables) .holds").map(element => [element, all("[data-words]", element)]);
const folds = all("details").map(element => [element, all("[data-words]", element)]);

// The words of a row's labels and cells, found when they are first asked for.
const everything = found => found.all ??= [...(found.own ?? []), ...split(found.row.innerText)];

function filterTable(table, ofRun) {
  let ofRow = () => true;
  if (table.input?.value.trim()) {
    const match = matcher(table.input.value, new Set(table.rows.flatMap(everything)));
    ofRow = found => match(everything(found));
  }
  const axes = table.axes.filter(select => select.value).map(select => [select.dataset.axis, select.value.slice(1)]);
  let left = 0;
  for (const found of table.rows) {
    const shown = (!found.own || ofRun(found.own)) && axes.every(([i, label]) => found.labels[i] === label) && ofRow(found);
    put(found.row, !shown);
    left += shown;
  }
  if (table.bar) table.bar.querySelector("output").textContent = count(left, table.rows.length, "row");
}

function filterAll() {
  const ofRun = matcher(ofRuns.value, known), answers = new Map();
  for (const table of tables) filterTable(table, ofRun);
  for (const [element, words] of items) {
    if (!answers.has(words)) answers.set(words, ofRun(words.split(" ")));
    put(element, !answers.get(words));
  }
  const empty = parts => parts.length > 0 && parts.every(part => part.classList.contains("out"));
  for (const [element, parts] of holders) put(element, empty(parts));
  const left = runs.filter(ofRun).length;
  told.textContent = count(left, runs.length, "run");
  document.getElementById("nothing").hidden = left > 0;
  if (ofRuns.value.trim())
    for (const [element, parts] of folds) element.open = parts.filter(p => !p.classList.contains("out")).length <= FOLDED;
  const address = new URL(location);
  if (ofRuns.value.trim()) address.searchParams.set("runs", ofRuns.value.trim());
  else address.searchParams.delete("runs");
  if (address.href !== location.href) history.replaceState(null, "", address);
}

const again = target => {
  const table = tables.find(({ bar }) => bar?.contains(target));
  if (table) filterTable(table, matcher(ofRuns.value, known));
  else filterAll();
};
document.addEventListener("input", event => { if (event.target.matches("input, select")) again(event.target); });
document.addEventListener("keydown", event => {
  if (event.key !== "Escape" || !event.target.matches("input, select") || !event.target.value) return;
  event.preventDefault();
  event.target.value = "";
  again(event.target);
});
document.addEventListener("click", event => {
  const button = event.target.closest("th button");
  if (button) sort(button.closest("th"));
});

ofRuns.value = new URL(location).searchParams.get("runs") ?? "";
if (ofRuns.value) filterAll();
