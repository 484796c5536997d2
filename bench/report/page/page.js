"use strict";
const all = (selector, under = document) => [...under.querySelectorAll(selector)];
const split = text => text.toLowerCase().split(/[\s·,()[\]]+/).filter(Boolean);
const hide = (element, hidden) => { if (element.classList.contains("out") !== hidden) element.classList.toggle("out", hidden); };
const count = (n, of, what) => (n === of ? "" : `${n} of `) + `${of} ${what}${of === 1 ? "" : "s"}`;

// A test of whether a run's words match all words of a query. A known word matches itself alone, any other word all that
// begin with it: "vae" is not "vae_gan", although "va" matches both. "mo" does not match "model=vae", but "model=v" does.
function matcher(query, known) {
  const begins = (other, word) => other.startsWith(word) && other.includes("=") === word.includes("=");
  const queried = split(query).map(word => [word, known.has(word)]);
  return words => queried.every(([word, exact]) => words.some(other => exact ? other === word : begins(other, word)));
}

// --- sorting: numbers by size, then texts; missing values are last in both directions

function sortKey(cell) {
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
  const keyed = [...body.rows].map(row => [sortKey(row.cells[at]), row]);
  keyed.sort(([x], [y]) => x === null || y === null ? (x === null) - (y === null) : sign * compare(x, y));
  body.append(...keyed.map(([, row]) => row));
}

// --- filtering: by words, and by switches that leave one value of an axis

const switches = all("#switches [data-axis]").map(group => ({
  group, axis: group.dataset.axis, select: group.querySelector("select"), radios: all("input", group),
}));
// The chosen value of a switch as words, "" for all.
const valueOf = ({ select, radios }) => select ? select.value : radios.find(radio => radio.checked)?.value ?? "";
function choose(found, value) {
  if (found.select) found.select.value = value;
  else for (const radio of found.radios) radio.checked = radio.value === value;
}

// A test of whether words fit all switches. Words that do not name an axis fit each of its values.
function switchMatcher() {
  const chosen = switches.map(found => [`${found.axis.toLowerCase()}=`, valueOf(found).split(" ")]).filter(([, [first]]) => first);
  return words => chosen.every(([axis, values]) =>
    !words.some(word => word.startsWith(axis)) || values.every(value => words.includes(value)));
}

const runFilter = document.getElementById("filter"), runCount = runFilter.parentElement.querySelector("output");
const tables = all("table").map(table => {
  const bar = table.closest(".card").querySelector(".filters");
  const rows = [...table.tBodies[0].rows].map(row => ({
    row,
    own: row.dataset.words?.split(" "),
    labels: all("th", row).map(cell => cell.dataset.value),
  }));
  const columns = all("thead th[data-words]", table).map(cell => [cell.cellIndex, cell.dataset.words.split(" "), cell]);
  return { table, columns, card: table.closest(".card"), bar, rows, input: bar?.querySelector("input"), axes: bar ? all("select", bar) : [] };
});
const items = all("main [data-words]:not(tr)").map(element => [element, element.dataset.words]);
const runs = RUNS.map(words => words.split(" "));
const known = new Set(all("main [data-words]").flatMap(e => e.dataset.words.split(" ")).concat(...runs));
const holders = all("section:not(#tables) .holds").map(element => [element, all("[data-words]", element)]);
const folds = all("details:not(.numbers, .group)").map(element => [element, all("[data-words]", element)]);

// The words of a row's labels and cells, split on first use.
const allWords = found => found.all ??= [...(found.own ?? []), ...split(found.row.innerText)];

function filterColumns({ table, columns }, fits) {
  for (const [i, words, head] of columns) {
    const out = !fits(words);
    if (head.classList.contains("out") !== out) for (const row of [head.parentElement, ...table.tBodies[0].rows]) hide(row.cells[i], out);
  }
}

function filterTable(table, matchesRun) {
  let matchesRow = () => true;
  if (table.input?.value.trim()) {
    const match = matcher(table.input.value, new Set(table.rows.flatMap(allWords)));
    matchesRow = found => match(allWords(found));
  }
  const axes = table.axes.filter(select => select.value).map(select => [select.dataset.axis, select.value.slice(1)]);
  let shownRows = 0;
  for (const found of table.rows) {
    const shown = (!found.own || matchesRun(found.own)) && axes.every(([i, label]) => found.labels[i] === label) && matchesRow(found);
    hide(found.row, !shown);
    shownRows += shown;
  }
  if (table.bar) table.bar.querySelector("output").textContent = count(shownRows, table.rows.length, "row");
}

// A test of whether a run's words match the filter and the switches.
function runMatcher() {
  const matches = matcher(runFilter.value, known), fits = switchMatcher();
  return words => matches(words) && fits(words);
}

function filterAll() {
  const matchesRun = runMatcher(), fits = switchMatcher(), answers = new Map();
  for (const table of tables) {
    filterColumns(table, fits);
    filterTable(table, matchesRun);
  }
  for (const [element, words] of items) {
    if (!answers.has(words)) answers.set(words, matchesRun(words.split(" ")));
    hide(element, !answers.get(words));
  }
  const empty = parts => parts.length > 0 && parts.every(part => part.classList.contains("out"));
  for (const [element, parts] of holders) hide(element, empty(parts));
  document.dispatchEvent(new Event("filtered"));
  const shownRuns = runs.filter(matchesRun).length;
  runCount.textContent = count(shownRuns, runs.length, "run");
  document.getElementById("nothing").hidden = shownRuns > 0;
  if (runFilter.value.trim())
    for (const [element, parts] of folds) element.open = parts.filter(p => !p.classList.contains("out")).length <= MAX_OPEN;
  const chosen = switches.filter(valueOf), labelOf = ({ select, radios }) =>
    select ? select.selectedOptions[0].text : radios.find(radio => radio.checked).parentElement.textContent.trim();
  const shown = document.getElementById("shown");
  shown.hidden = !chosen.length;
  shown.textContent = `Shown here: ${chosen.map(found => `${found.axis} ${labelOf(found)}`).join(", ")}.`;
  const address = new URL(location);
  for (const [name, value] of [["runs", runFilter.value.trim()], ...switches.map(found => [found.axis, valueOf(found)])]) {
    if (value) address.searchParams.set(name, value);
    else address.searchParams.delete(name);
  }
  if (address.href !== location.href) history.replaceState(null, "", address);
}

const filterAgain = target => {
  const table = tables.find(({ bar }) => bar?.contains(target));
  if (table) filterTable(table, runMatcher());
  else filterAll();
};
document.addEventListener("input", event => { if (event.target.matches("input, select")) filterAgain(event.target); });
document.addEventListener("keydown", event => {
  if (event.key !== "Escape" || !event.target.matches("input, select") || !event.target.value) return;
  event.preventDefault();
  if (event.target.type === "radio") choose(switches.find(({ group }) => group.contains(event.target)), "");
  else event.target.value = "";
  filterAgain(event.target);
});
document.addEventListener("click", event => {
  const button = event.target.closest("thead th button");
  if (button) sort(button.closest("th"));
});

const asked = new URL(location).searchParams;
runFilter.value = asked.get("runs") ?? "";
for (const found of switches) if (asked.has(found.axis)) choose(found, asked.get(found.axis));
if (runFilter.value || switches.some(valueOf)) filterAll();
