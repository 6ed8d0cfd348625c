"use strict";

// An error must be seen: in the page by whoever reads it, and in the document by whoever tests it.
addEventListener("error", (event) => {
  document.documentElement.dataset.error = String(event.message);
  const notice = document.createElement("p");
  notice.className = "failure";
  notice.textContent = "Something in this page failed: " + event.message;
  document.querySelector("main").prepend(notice);
});

const figures = JSON.parse(document.getElementById("figures").textContent);
const hidden = new Set();
const narrow = () => innerWidth < 640;

function theme() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    text: value("--soft"), grid: value("--line"), muted: value("--muted"), page: value("--page"), ink: value("--ink"),
    font: getComputedStyle(document.body).fontFamily,
  };
}

function layout(figure, colors) {
  const axis = (title, more) => ({
    title: { text: title, standoff: 8, font: { size: 12 } }, automargin: true, gridcolor: colors.grid, zeroline: false,
    linecolor: colors.grid, ticks: "", tickfont: { size: 11 }, ...more,
  });
  return {
    xaxis: axis(figure.x, { showgrid: false, showline: true, hoverformat: ",", rangemode: "normal" }),
    yaxis: axis(figure.y, { rangemode: figure.toZero ? "tozero" : "normal", nticks: 6 }),
    font: { family: colors.font, color: colors.text, size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 8, r: 12, t: figure.legend ? 30 : 10, b: 8 },
    height: figure.wide ? (narrow() ? 300 : 400) : 290,
    hovermode: figure.x === "training step" ? "x unified" : "closest",
    hoverlabel: {
      bgcolor: colors.page, bordercolor: colors.grid, font: { color: colors.ink, family: colors.font, size: 12 },
    },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colors.muted, activecolor: colors.ink },
    showlegend: figure.legend,
    legend: { orientation: "h", traceorder: "normal", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)", font: { size: 12 } },
    dragmode: narrow() ? false : "zoom",
  };
}

function recolored(traces, colors) {
  return traces.map((trace) => {
    const copy = { type: "scatter", ...trace, visible: !hidden.has(trace.meta) };
    if (trace.line && trace.line.color === "@muted") copy.line = { ...trace.line, color: colors.muted };
    return copy;
  });
}

function draw(place) {
  const figure = figures[Number(place.dataset.figure)];
  const colors = theme();
  Plotly.react(place, recolored(figure.traces, colors), layout(figure, colors), {
    responsive: true, displaylogo: false, displayModeBar: narrow() ? false : "hover",
    // Named one by one, because Plotly's own choice holds a button that sends the data to its server.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], plotlyServerURL: "",
    toImageButtonOptions: { format: "svg", filename: "isentrope" },
  });
  place.dataset.drawn = "yes";
}

const places = [...document.querySelectorAll(".plot")];
const inClosedFold = (place) => place.closest("details:not([open])") !== null;

places.filter((place) => !inClosedFold(place)).forEach(draw);

document.querySelectorAll("details").forEach((fold) => {
  fold.addEventListener("toggle", () => {
    if (fold.open) fold.querySelectorAll(".plot:not([data-drawn])").forEach(draw);
  });
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  places.filter((place) => place.dataset.drawn).forEach(draw);
});

document.querySelectorAll(".chip").forEach((chip) => {
  chip.addEventListener("click", () => {
    const group = Number(chip.dataset.group);
    const hide = !hidden.has(group);
    if (hide) hidden.add(group); else hidden.delete(group);
    chip.setAttribute("aria-pressed", String(!hide));
    places.filter((place) => place.dataset.drawn).forEach(draw);
  });
});

document.querySelectorAll(".copy").forEach((button) => {
  button.addEventListener("click", () => {
    // Works from a file:// page too, where the clipboard interface may be missing.
    const selection = getSelection();
    selection.selectAllChildren(button.parentElement.querySelector("pre"));
    button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
});
