"use strict";
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const style = () => {
  const css = getComputedStyle(document.documentElement);
  const ink = css.getPropertyValue("--ink").trim(), line = css.getPropertyValue("--line").trim();
  return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12 }, line };
};
const options = { displayModeBar: false, responsive: true };

function draw(script) {
  const figure = JSON.parse(script.textContent), look = style();
  const layout = { ...figure.layout, template: {}, ...look, margin: { l: 50, r: 10, t: 30, b: 45 }, hovermode: "closest" };
  const narrow = window.innerWidth < 700;
  layout.legend = narrow ? { orientation: "h", y: figure.layout.height > 400 ? -0.12 : -0.28, yanchor: "top" } : {};
  for (const key of Object.keys(layout))
    if (/^[xy]axis/.test(key)) layout[key] = { ...layout[key], gridcolor: look.line, zerolinecolor: look.line, automargin: true };
  const holder = document.getElementById(script.dataset.for);
  if (narrow) layout.height = (layout.height ?? 360) + 20 * figure.data.filter((one) => one.showlegend !== false).length;
  holder.style.height = layout.height + "px";
  Plotly.react(holder, figure.data, layout, options);
}

function drawAll() { document.querySelectorAll("script.figure").forEach(draw); drawMap(); }

// -- the map: one encoder at a time, an image where the pointer is
const holder = document.getElementById("map-data");
const map = holder && JSON.parse(holder.textContent);
const choice = document.getElementById("map-choice");

function drawMap() {
  if (!map) return;
  const points = map.maps[Number(choice.value)].xy;
  const traces = map.classes.map((name, label) => {
    const rows = map.labels.flatMap((one, row) => (one === label ? [row] : []));
    return { type: "scatter", mode: "markers", name: name.replace(/</g, "&lt;"), marker: { color: map.colours[label], size: 7 }, customdata: rows,
      x: rows.map((row) => points[row][0]), y: rows.map((row) => points[row][1]), hoverinfo: "none" };
  });
  const bare = { visible: false };
  const layout = { ...style(), xaxis: bare, yaxis: bare, margin: { l: 5, r: 5, t: 5, b: 5 }, hovermode: "closest",
    legend: window.innerWidth < 700 ? { orientation: "h" } : {} };
  Plotly.react("plot-map", traces, layout, options).then((plot) => {
    if (plot.ours) return;
    plot.ours = true;
    const image = Object.assign(document.createElement("img"), { id: "map-image", hidden: true, alt: "" });
    document.body.append(image);
    plot.on("plotly_hover", ({ points: [point], event }) => {
      image.src = "data:image/jpeg;base64," + map.thumbnails[point.customdata];
      image.hidden = false;
      image.style.left = Math.min(event.clientX + 14, innerWidth - 110) + "px";
      image.style.top = Math.min(event.clientY + 14, innerHeight - 110) + "px";
    });
    plot.on("plotly_unhover", () => { image.hidden = true; });
  });
}
if (choice) choice.addEventListener("change", drawMap);

// -- tables: a click on a heading sorts
const value = (row, column) => {
  const cell = row.cells[column], text = cell.dataset.v ?? cell.textContent.trim();
  const number = parseFloat(text.replace("−", "-"));
  return text === "" || text === "–" ? null : Number.isNaN(number) ? text : number;
};
function sort(heading) {
  const table = heading.closest("table"), column = heading.cellIndex;
  const numbers = [...table.tBodies[0].rows].some((row) => typeof value(row, column) === "number");
  const was = heading.getAttribute("aria-sort");
  const down = was === "none" ? numbers : was === "ascending";
  table.querySelectorAll("th[aria-sort]").forEach((one) => one.setAttribute("aria-sort", "none"));
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].sort((one, two) => {
    const [a, b] = [value(one, column), value(two, column)];
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
    return down ? -order : order;
  });
  table.tBodies[0].append(...rows);
}
document.querySelectorAll("table.sortable th button").forEach((button) =>
  button.addEventListener("click", () => sort(button.closest("th"))));

dark.addEventListener("change", () => window.Plotly && drawAll());
