"use strict";
const charts = [...document.querySelectorAll(".chart")];
for (const chart of charts) {
  if (typeof Plotly === "undefined") {
    const missing = document.querySelector("script[src]")?.getAttribute("src") ?? "plotly.js";
    chart.textContent = `The chart's program is not there: ${missing}. The tables hold its numbers.`;
    chart.style.height = "auto";
    continue;
  }
  const figure = JSON.parse(document.getElementById(chart.id + "-data").textContent);
  Plotly.newPlot(chart, figure.data, figure.layout, {responsive: true, displayModeBar: false});
}
// Paper is narrower than a screen; plotly draws for the width that it was told
const paper = 680;
addEventListener("beforeprint", () => {
  for (const chart of charts) Plotly.relayout(chart, {width: paper});
});
addEventListener("afterprint", () => {
  for (const chart of charts) Plotly.relayout(chart, {width: null, autosize: true});
});
