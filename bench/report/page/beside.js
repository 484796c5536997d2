// The reconstructions of rows that are pinned by a click, and beside them those of the row under the pointer or the focus.
const beside = document.getElementById("beside"), besideList = beside.querySelector(".strips");
const allStrips = all("#reconstructions .strip[data-words]").map(strip => ({ strip, words: new Set(strip.dataset.words.split(" ")) }));
const besideRows = allStrips.length ? all("#tables tr[data-words]") : [];
const MAX_BESIDE = 4;  // strips of one row: it may stand for several runs
const pinned = new Set();

const nameOf = row => all("th[scope=row]", row).map(cell => cell.dataset.value).filter(text => text && text !== "-").join(" · ");

function stripsOf(row) {
  const words = row.dataset.words.split(" ");
  return allStrips.filter(found => words.every(word => found.words.has(word))).slice(0, MAX_BESIDE).map(found => found.strip);
}

// The strips of inputs that stand above a strip.
function inputsOf(strip) {
  let above = strip.previousElementSibling;
  while (above && !above.classList.contains("input")) above = above.previousElementSibling;
  return above ? [above] : [];
}

function showBeside(row) {
  const rows = [...pinned, ...(row && !pinned.has(row) ? [row] : [])], copies = [], seen = new Set();
  for (const shown of rows) {
    const strips = stripsOf(shown);
    for (const strip of strips.flatMap(found => [...inputsOf(found), found])) {
      if (seen.has(strip)) continue;
      seen.add(strip);
      const copy = strip.cloneNode(true);
      copy.classList.remove("out");
      copy.classList.toggle("pinned", pinned.has(shown) && !strip.classList.contains("input"));
      delete copy.dataset.words;
      for (const image of all("img", copy)) image.loading = "eager";
      copies.push(copy);
    }
    if (!strips.length) copies.push(Object.assign(document.createElement("p"), { className: "soft", textContent: `${nameOf(shown)} has no reconstructions.` }));
  }
  besideList.replaceChildren(...copies);
  beside.hidden = !copies.length;
}

function togglePin(row) {
  const isPinned = !pinned.delete(row);
  if (isPinned) pinned.add(row);
  row.classList.toggle("pinned", isPinned);
  row.querySelector(".pin").setAttribute("aria-pressed", isPinned);
  showBeside(row);
}

function unpinAll() {
  for (const row of [...pinned]) togglePin(row);
  showBeside(null);
}

for (const row of besideRows) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "pin", title: "Pin: keep these reconstructions in view" });
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-label", `pin the reconstructions of ${nameOf(row)}`);
  row.cells[0].prepend(button);
  // Not by a press of the mouse, which has to end on what it began on.
  button.addEventListener("focus", () => { if (button.matches(":focus-visible")) showBeside(row); });
  button.addEventListener("blur", () => { if (!pinned.size) showBeside(null); });
  // The last row stays when the pointer leaves it: a panel that shrinks and grows under the pointer would flicker.
  row.addEventListener("pointerenter", event => { if (pinned.size && event.pointerType === "mouse") showBeside(row); });
  row.addEventListener("click", event => {
    if (event.target === button || !(event.target.closest("a, button") || String(getSelection()))) togglePin(row);
  });
}
beside.querySelector("button").addEventListener("click", unpinAll);
document.addEventListener("keydown", event => { if (event.key === "Escape" && !event.target.matches("input, select")) unpinAll(); });
