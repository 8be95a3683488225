"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const byId = (name) => document.getElementById(name);

// The colours are variables of the style sheet, so that a change of the theme needs no new drawing.
const config = {
  background: null,
  font: "system-ui, sans-serif",
  view: { stroke: null },
  axis: {
    labelColor: "var(--ink)", titleColor: "var(--muted)", gridColor: "var(--line)", domainColor: "var(--muted)",
    tickColor: "var(--muted)", labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
  },
  legend: { labelColor: "var(--ink)", labelFontSize: 12 },
};
const rowHeight = 20; // of the grid of attention, in pixels
const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config };

const theme = byId("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
const showTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
});
system.addEventListener("change", showTheme);
showTheme();

function chosen() {
  const [example, layer, head] = ["example", "layer", "head"].map((name) => Number(byId(`attention-${name}`).value));
  const { tokens, percent } = content.attention[example];
  const names = tokens.map((token, place) => `${place} ${token}`);
  return { names, weights: percent[layer][head], layer: layer + 1, head: head + 1 };
}

function row(name, cells, kind) {
  const line = document.createElement("tr");
  for (const [index, text] of [name, ...cells].entries()) {
    const cell = document.createElement(index === 0 || kind === "th" ? "th" : "td");
    if (cell.tagName === "TH") cell.scope = index === 0 && kind === "td" ? "row" : "col";
    cell.textContent = text;
    line.append(cell);
  }
  return line;
}

function showAttention(view) {
  const { names, weights, layer, head } = chosen();
  const values = weights.flatMap((of, from) =>
    of.map((percent, to) => ({ from: names[from], to: names[to], weight: percent / 100 })));
  const strongest = weights.map((of, from) => `${names[from]} to ${names[of.indexOf(Math.max(...of))]}`);
  byId("attention-said").textContent = `Layer ${layer}, head ${head}: each row of the grid is a token, and the stronger ` +
    `the colour of a cell, the more it attends to the token of the column. The strongest link of each token: ${strongest.join(", ")}.`;
  const table = byId("attention-table");
  table.tHead.replaceChildren(row("", names, "th"));
  table.tBodies[0].replaceChildren(...weights.map((of, from) => row(names[from], of.map(String), "td")));
  return view.data("attention", values).height(rowHeight * names.length).resize().runAsync();
}

async function drawAll() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    const spec = content.charts[place.dataset.chart];
    const inner = place.appendChild(document.createElement("div")); // Vega changes the role of what it draws in
    const { view } = await vegaEmbed(inner, spec, options);
    if (place.dataset.chart !== "attention") continue;
    await showAttention(view);
    for (const name of ["example", "layer", "head"]) {
      byId(`attention-${name}`).addEventListener("change", () => showAttention(view));
    }
  }
  document.documentElement.dataset.drawn = "yes";
}
drawAll();
