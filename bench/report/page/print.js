// On paper nothing scrolls: a wide table is printed in parts, each with the names of its rows. Headings are texts and not
// buttons, which a browser does not repeat on the next page.
const PAPER = 700;  // pixels across A4 without its margins
const SHRINK = 0.72;  // of the letters of a table
const parts = [], opened = [];

function splitTable(table) {
  const head = table.tHead.rows[table.tHead.rows.length - 1], shown = [...head.cells].filter(cell => cell.checkVisibility());
  const names = shown.filter(cell => cell.classList.contains("name")).map(cell => cell.cellIndex);
  const others = shown.filter(cell => !cell.classList.contains("name")).map(cell => cell.cellIndex);
  const widths = [...head.cells].map(cell => cell.offsetWidth * SHRINK), sum = list => list.reduce((total, i) => total + widths[i], 0);
  const room = PAPER - sum(names), groups = [[]];
  for (const i of others) {
    if (groups.at(-1).length && sum([...groups.at(-1), i]) > room) groups.push([]);
    groups.at(-1).push(i);
  }
  for (const group of groups) {
    const kept = new Set([...names, ...group]), part = table.cloneNode(true);
    for (const row of part.rows) for (const cell of [...row.cells].filter((_, i) => !kept.has(i))) cell.remove();
    for (const button of part.querySelectorAll("th button")) button.replaceWith(...button.childNodes);
    part.classList.add("printed");
    table.before(part);
    parts.push(part);
  }
  table.classList.add("split");
}

addEventListener("beforeprint", () => {
  for (const group of all("details.group:not([open])")) {
    group.open = true;
    opened.push(group);
  }
  for (const table of all("table:not(.printed)")) if (table.checkVisibility()) splitTable(table);
});
addEventListener("afterprint", () => {
  for (const part of parts.splice(0)) part.remove();
  for (const group of opened.splice(0)) group.open = false;
  for (const table of all("table.split")) table.classList.remove("split");
});
