// Draws the charts: <div class="chart"> with a Vega-Lite specification as JSON, whose data are columns. The libraries are
// loaded, and each chart is drawn, when the first or this one comes near the screen, or before the page is printed.
const dark = matchMedia("(prefers-color-scheme: dark)");
// Petroff 2021, "Accessible color sequences for data visualization", with the ones that are too pale or too dark for the
// page made darker or lighter.
const COLOURS = {
  light: ["#2f7fc9", "#d95d00", "#832db6", "#bd1f01", "#717581", "#a96b59", "#b87800", "#5f817e", "#8a7d2f", "#23898f"],
  dark: ["#5aa5ea", "#f5822f", "#b98be0", "#ff7b87", "#9aa3b3", "#c98f7c", "#ffb938", "#94c4bf", "#c9bc7d", "#92dadd"],
};

// text: a colour. A canvas does not know that of the page, so it has a grey that is legible on both.
function config(isDark, text) {
  const line = { domainColor: text, tickColor: text, gridOpacity: 0.15, gridColor: text };
  return {
    background: null, aria: false, font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { ...line, labelColor: text, titleColor: text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400, labelFlush: false },
    legend: { labelColor: text, titleColor: text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400, orient: "bottom", symbolOpacity: 1, symbolSize: 55, gradientLength: 180 },
    title: { color: text, fontSize: 13, fontWeight: 600, anchor: "start" },
    text: { color: text, fontSize: 12 }, rule: { color: text },
    range: { category: COLOURS[isDark ? "dark" : "light"] },
  };
}

let hasLibraries = false;
function loadLibraries() {
  if (hasLibraries) return;
  hasLibraries = true;
  for (const found of all("script.library")) {
    const script = document.createElement("script");
    script.textContent = found.textContent;
    document.head.append(script);
  }
}

function readSpec(element, width) {
  const spec = JSON.parse(element.querySelector("script").textContent), { columns } = spec.data, fields = Object.keys(columns);
  spec.data = { values: columns[fields[0]].map((_, i) => Object.fromEntries(fields.map(field => [field, columns[field][i]]))) };
  const isCanvas = spec.usermeta?.renderer === "canvas";
  const made = config(dark.matches, isCanvas ? "#76808d" : "currentColor");
  if (spec.usermeta?.square) spec.width = spec.height = Math.min(spec.width, width - 90);
  else {
    spec.autosize = { type: "fit-x", contains: "padding" };
    spec.width = Math.min(spec.width, width);
    const longest = Math.max(0, ...(columns.label ?? []).map(label => label.length));
    made.legend.columns = Math.max(1, Math.floor(spec.width / (6.3 * longest + 36)));
    made.legend.labelLimit = spec.width - 40;
  }
  spec.config = made;
  for (const param of spec.params ?? []) if (param.name === "out") param.value = linesOut(element);
  return spec;
}

// The lines of a chart of which a filter has left no run.
function linesOut(element) {
  const kept = new Map();
  for (const item of all(".numbers li", element.parentElement))
    kept.set(item.value - 1, kept.get(item.value - 1) || !item.classList.contains("out"));
  return [...kept.keys()].filter(line => !kept.get(line));
}

// Names stand beside their markers where there is room: Vega has a transform for it, which Vega-Lite cannot name.
function placeNames(spec) {
  const group = spec.marks.find(mark => mark.name === "names_marks");
  if (!group) return spec;
  const { tooltip, ...text } = group.encode.update;
  return { ...spec, marks: spec.marks.map(mark => mark !== group ? mark : {
    ...mark, from: { data: "markers_marks" },
    encode: { update: { fill: text.fill, fontSize: { value: 12 }, text: { field: "datum.name" } } },
    transform: [{ type: "label", size: { signal: "[width, height]" }, avoidBaseMark: true, padding: 0,
      anchor: ["right", "left", "top", "bottom", "top-right", "bottom-right", "top-left", "bottom-left"], offset: [3, 3, 3, 3, 1, 1, 1, 1] }],
  }) };
}

const views = new Map();  // of the charts that are drawn
async function draw(element) {
  loadLibraries();
  nearCharts.unobserve(element);
  const spec = readSpec(element, element.closest(".card").clientWidth - 60);  // its padding, and room for the menu
  let holder = element.querySelector(".drawn");
  if (!holder) element.append(holder = Object.assign(document.createElement("div"), { className: "drawn" }));
  views.set(element, null);
  const { view } = await vegaEmbed(holder, spec, {
    renderer: spec.usermeta?.renderer ?? "svg", patch: placeNames, tooltip: { theme: dark.matches ? "dark" : "light" },
    actions: { export: true, source: false, compiled: false, editor: false }, downloadFileName: spec.description, scaleFactor: 2,
  });
  holder.querySelector("summary")?.setAttribute("aria-label", `save the chart: ${spec.description}`);
  element.style.width = element.style.height = "";
  views.set(element, view);
  element.dispatchEvent(new CustomEvent("drawn", { bubbles: true, detail: view }));
}

// Leaves out the lines that a filter leaves out.
function refresh(element) {
  nearCharts.unobserve(element);
  const view = views.get(element), out = linesOut(element);
  if (view && element.parentElement.querySelector(".numbers") && String(view.signal("out")) !== String(out)) view.signal("out", out).runAsync();
}

const drawOrRefresh = element => views.has(element) ? refresh(element) : draw(element);
const nearCharts = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) drawOrRefresh(target);
}, { rootMargin: "200px" });
const allCharts = all(".chart");
allCharts.forEach(element => nearCharts.observe(element));

// Those that are not near the screen wait until they are.
document.addEventListener("filtered", () => {
  for (const element of views.keys()) if (element.parentElement.querySelector(".numbers")) nearCharts.observe(element);
});
dark.addEventListener("change", () => { for (const element of views.keys()) draw(element); });
addEventListener("beforeprint", () => allCharts.filter(element => element.checkVisibility()).forEach(drawOrRefresh));
