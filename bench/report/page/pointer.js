// Pictures that answer to the pointer and to the keyboard: a loupe over a grid of images and over the codes of a chart.
const loupe = Object.assign(document.createElement("div"), { id: "loupe", hidden: true }), LENS = 128;
const [lens, lensText] = ["canvas", "span"].map(tag => loupe.appendChild(document.createElement(tag)));
const closeLoupe = () => { loupe.hidden = true; all(".ring").forEach(ring => { ring.hidden = true; }); };
const clamp = (value, low, high) => Math.max(low, Math.min(value, high));

// cut: left, top, width and height of the part of an image, if there is one; x, y: in the window.
function showLoupe(image, cut, text, x, y) {
  lens.hidden = !cut;
  if (cut) {
    const [left, top, width, height] = cut, scale = Math.max(1, Math.round(LENS / Math.max(width, height)));
    [lens.width, lens.height] = [Math.round(width * scale), Math.round(height * scale)];
    const context = lens.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(image, left, top, width, height, 0, 0, lens.width, lens.height);
  }
  lensText.textContent = text;
  loupe.hidden = false;
  if (!loupe.isConnected) document.body.append(loupe);
  const { offsetWidth, offsetHeight } = loupe;
  loupe.style.left = `${clamp(x + 18, 4, innerWidth - offsetWidth - 4)}px`;
  loupe.style.top = `${y + 18 + offsetHeight < innerHeight ? y + 18 : Math.max(4, y - 18 - offsetHeight)}px`;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// --- the grid of images that a plane of codes decodes to, at quantiles of the prior

const signed = value => value.toFixed(2).replace("-", "−");
const grids = new Map();  // by picture: the codes of its columns and rows, [n, 2], and a function that shows a cell

function makeGrid(image) {
  const [rows, columns] = image.dataset.grid.split(",").map(Number), places = JSON.parse(image.dataset.places || "[]");
  let at = [columns >> 1, rows >> 1];
  // x, y: in the window; beside the cell, unless they are given.
  function showCell(column, row, x, y) {
    at = [clamp(column, 0, columns - 1), clamp(row, 0, rows - 1)];
    const { left, top, width, height } = image.getBoundingClientRect();
    const across = (image.naturalWidth + 1) / columns, down = (image.naturalHeight + 1) / rows;  // with a pixel between
    const where = places.length ? ` ${signed(places[at[0]][0])}, ${signed(places[at[1]][1])}` : "";
    showLoupe(image, [at[0] * across, at[1] * down, across - 1, down - 1], `decoded at${where || " this cell"}`,
      x ?? left + width * (at[0] + 0.5) / columns, y ?? top + height * (at[1] + 0.5) / rows);
  }
  image.addEventListener("pointermove", event => {
    const { left, top, width, height } = image.getBoundingClientRect();
    showCell(Math.floor((event.clientX - left) / width * columns), Math.floor((event.clientY - top) / height * rows));
  });
  image.addEventListener("focus", () => showCell(...at));
  image.addEventListener("keydown", event => {
    if (!ARROWS[event.key]) return;
    event.preventDefault();
    showCell(at[0] + ARROWS[event.key][0], at[1] + ARROWS[event.key][1]);
  });
  grids.set(image, { places, showCell });
}
all("img[data-grid]").forEach(makeGrid);

// --- the images that codes belong to

const sheets = all("img.sheet");
function cutOf(sheet, i) {
  const [height, width] = sheet.dataset.side.split(",").map(Number), columns = Number(sheet.dataset.columns);
  return i < Number(sheet.dataset.count) ? [i % columns * width, Math.floor(i / columns) * height, width, height] : null;
}

document.addEventListener("drawn", ({ target, detail: view }) => {
  if (!target.dataset.sheet) return;
  const sheet = sheets[target.dataset.sheet], { columns } = JSON.parse(target.querySelector("script").textContent).data;
  const [x, y] = ["x", "y"].map(name => columns[name].map(view.scale(name))), canvas = target.querySelector("canvas");
  const ring = target.querySelector(".ring") ?? target.appendChild(Object.assign(document.createElement("i"), { className: "ring" }));
  ring.hidden = true;
  let current = -1;

  // Where pixels of the plot begin, in the window.
  function origin() {
    const { left, top } = canvas.getBoundingClientRect(), [dx, dy] = view.origin(), padding = view.padding();
    return [left + dx + padding.left, top + dy + padding.top];
  }
  async function show(index) {
    current = index;
    sheet.loading = "eager";
    if (!sheet.complete) await sheet.decode();
    if (current !== index) return;
    const [left, top] = origin(), box = target.getBoundingClientRect();
    ring.style.left = `${left - box.left + x[index]}px`;
    ring.style.top = `${top - box.top + y[index]}px`;
    ring.hidden = false;
    const label = columns.class ? `class ${columns.class[index]}, ` : "";
    showLoupe(sheet, cutOf(sheet, columns.i[index]), `${label}test example ${columns.i[index] + 1}`, left + x[index], top + y[index]);
  }
  // The nearest code to a place in the plot, of those that are allowed; -1 if there is none.
  function nearest(left, top, reach, allowed = () => true) {
    let found = -1, least = reach * reach;
    for (let i = 0; i < x.length; i++) {
      const distance = (x[i] - left) ** 2 + (y[i] - top) ** 2;
      if (distance < least && allowed(x[i] - left, y[i] - top)) [found, least] = [i, distance];
    }
    return found;
  }
  // Between the codes, what the plane decodes to there, as far as the grid goes.
  const grid = grids.get(target.closest("figure").querySelector("img[data-grid]"));
  function showDecoded(left, top, event) {
    if (!grid?.places.length) return;
    const [column, row] = [[left, "x", 0], [top, "y", 1]].map(([place, name, axis]) => {
      const pixels = grid.places.map(pair => view.scale(name)(pair[axis])), steps = pixels.map(pixel => Math.abs(pixel - place));
      const reach = Math.abs(pixels[1] - pixels[0]), inside = place > Math.min(...pixels) - reach && place < Math.max(...pixels) + reach;
      return inside ? steps.indexOf(Math.min(...steps)) : -1;
    });
    if (column >= 0 && row >= 0) grid.showCell(column, row, event.clientX, event.clientY);
  }
  target.onpointermove = event => {
    const [left, top] = origin(), found = nearest(event.clientX - left, event.clientY - top, 12);
    if (found >= 0) show(found);
    else {
      current = -1;
      closeLoupe();
      showDecoded(left, top, event);
    }
  };
  target.onfocus = () => show(current >= 0 ? current : nearest(view.width() / 2, view.height() / 2, Infinity));
  target.onkeydown = event => {
    const arrow = ARROWS[event.key];
    if (!arrow || event.target !== target) return;
    event.preventDefault();
    // Within 45 degrees of the arrow.
    const ahead = (dx, dy) => dx * arrow[0] + dy * arrow[1] > Math.abs(dx * arrow[1] + dy * arrow[0]);
    const found = current < 0 ? -1 : nearest(x[current], y[current], Infinity, ahead);
    if (found >= 0) show(found);
  };
});

for (const element of all("img[data-grid], .chart[data-sheet]"))
  for (const name of ["pointerleave", "blur"]) element.addEventListener(name, closeLoupe);
addEventListener("scroll", closeLoupe, { passive: true });
document.addEventListener("keydown", event => { if (event.key === "Escape") closeLoupe(); });
