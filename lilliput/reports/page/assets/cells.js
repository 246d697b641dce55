
// -- cells: one open beside the map, two side by side
const study = JSON.parse(document.getElementById("cells-data").textContent);
const buttons = [...document.querySelectorAll("#heat button[data-cell]")];
const aside = document.getElementById("open"), dialog = document.getElementById("compared"), tip = document.getElementById("tip");
let shown = null, comparing = false;

const make = (tag, about = {}, ...inside) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(about)) key === "text" ? (node.textContent = value) : node.setAttribute(key, value);
  node.append(...inside);
  return node;
};
const jpeg = (content, alt, kind = "") => make("img", { src: "data:image/jpeg;base64," + content, alt, class: kind });
const className = (number) => study.classes[number];
const told = (one) => one.truth === one.guess ? className(one.truth) : className(one.truth) + " as " + className(one.guess);

function pictures(cell) {
  const part = (heading, ...lines) => make("div", {}, make("h4", { text: heading }), ...lines);
  const neighbours = cell.neighbours.map((line) => make("div", { class: "line" }, jpeg(study.images[line.image], "asked for"),
    ...line.near.map((key, place) => jpeg(study.images[key], line.right[place] ? "of its class" : "of another class", line.right[place] ? "right" : "wrong"))));
  const saliency = cell.saliency.map((one) => make("div", { class: "line", title: told(one) },
    jpeg(study.images[one.image], told(one), one.truth === one.guess ? "right" : "wrong"),
    ...one.maps.map((map, place) => jpeg(map, study.methods[place] + " for " + className(one.truth)))));
  const mistakes = cell.mistakes.map((one) => make("figure", {}, jpeg(study.images[one.image], told(one)),
    make("figcaption", { text: told(one) + " " + one.chance })));
  return make("div", { class: "pictures" },
    part("Nearest neighbours", ...neighbours), part("What the score hangs on: image, " + study.methods.join(", "), ...saliency),
    part("Its surest mistakes", make("div", { class: "line" }, ...mistakes)));
}

function panel(key, button) {
  const cell = study.cells[key], facts = make("dl");
  for (const [name, value] of Object.entries(cell.facts)) if (value) facts.append(make("dt", { text: name }), make("dd", { text: value }));
  const curve = make("div", { class: "curve", role: "img", "aria-label": "Accuracy against epochs of " + cell.name });
  const whole = make("div", { class: "cell" }, make("h3", {}, make("span", { text: cell.name }), ...(button ? [button] : [])), facts, curve);
  if (cell.neighbours) whole.append(pictures(cell));
  if (cell.command) whole.append(make("h4", { text: "Once more" }), make("code", { text: cell.command }));
  queueMicrotask(() => drawCurve(curve, key));
  return whole;
}

function drawCurve(place, key) {
  if (!place.isConnected || !window.Plotly) return;
  const cell = study.cells[key], look = style();
  const ends = [Math.min(0, ...cell.epochs), Math.max(1, ...cell.epochs)];
  const lines = Object.entries({ ...study.baselines[""], ...study.baselines[cell.backbone] }).map(([name, value], number) => ({
    x: ends, y: [value, value], name, mode: "lines", line: { dash: ["dot", "dash", "dashdot", "longdash", "longdashdot"][number % 5], width: 1.2, color: look.font.color },
    hovertemplate: name.replace(/</g, "&lt;") + ": %{y:.3f}<extra></extra>" }));
  const own = { x: cell.epochs, y: cell.values, name: "this cell", mode: "lines+markers", line: { color: "#d55e00", width: 2.5 }, hovertemplate: "epoch %{x}: %{y:.3f}<extra></extra>" };
  const axis = { gridcolor: look.line, zerolinecolor: look.line, automargin: true };
  Plotly.react(place, [own, ...lines], { ...look, template: {}, height: 190, margin: { l: 40, r: 6, t: 6, b: 34 }, hovermode: "closest", font: { ...look.font, size: 11 },
    xaxis: { ...axis, title: { text: "epochs", standoff: 4 } }, yaxis: axis, legend: { font: { size: 10 } } }, options);
}

function open(key) {
  shown = key;
  const button = make("button", { type: "button", class: "plain", "aria-pressed": comparing, text: comparing ? "click another cell" : "compare" });
  button.addEventListener("click", () => { comparing = !comparing; open(shown); });
  aside.replaceChildren(panel(key, button));
  buttons.forEach((one) => one.setAttribute("aria-pressed", one.dataset.cell === key));
}

function difference(first, second) {
  const [a, b] = [study.cells[first], study.cells[second]], gap = a.accuracy - b.accuracy;
  let text = `${a.name} − ${b.name}: ${gap >= 0 ? "+" : "−"}${Math.abs(gap).toFixed(3).slice(1)}.`;
  if (a.right && b.right) {
    const count = (one, other) => one.right.filter((is, row) => is && !other.right[row]).length;
    text += ` Of ${a.right.length} test images of the sample, ${count(a, b)} are told right by the first alone, ${count(b, a)} by the second alone.`;
  }
  return text + " Whether a gap is more than chance is in the verdict.";
}

function compare(first, second) {
  comparing = false;
  open(first);
  const close = make("button", { type: "button", class: "plain", text: "close" });
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(make("p", {}, make("span", { text: difference(first, second) }), close), make("div", {}, panel(first), panel(second)));
  dialog.showModal();
  requestAnimationFrame(() => [first, second].forEach((key, place) => drawCurve(dialog.querySelectorAll(".curve")[place], key)));
}

buttons.forEach((button) => button.addEventListener("click", () => {
  const key = button.dataset.cell;
  if (comparing && key !== shown) return compare(shown, key);
  comparing = false;
  open(key);
  if (window.innerWidth <= 900) aside.scrollIntoView({ behavior: "smooth" });
}));
document.querySelectorAll("[data-tip]").forEach((place) => {
  place.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    tip.textContent = place.dataset.tip;
    tip.hidden = false;
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(event.clientY + 18, innerHeight - tip.offsetHeight - 8) + "px";
  });
  place.addEventListener("pointerleave", () => { tip.hidden = true; });
});
dark.addEventListener("change", () => { if (shown) open(shown); });
if (buttons.length) open(Object.keys(study.cells)[0]);

// -- the plots' library, once the rest of the page can be read
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (one) => one.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}
unpacked("plotly").then((code) => {
  document.body.append(make("script", { text: code }));
  drawAll();
  if (shown) open(shown);
});
