"use strict";
// Each figure of lines turns into a plot that answers the pointer once it comes near the screen.
// The drawing that is there before stays for paper, and for readers without scripts.
(() => {
  const specs = JSON.parse(document.getElementById("plots").textContent);
  const dashes = ["solid", [6, 4], [8, 3, 2, 3], [2, 2], [8, 2, 2, 2, 2, 2], [4, 2], [1, 1], [12, 3]];
  const marks = ["circle", "square", "triangle", "diamond", "inverted_triangle", "plus", "x", "asterisk"];
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const fine = matchMedia("(pointer: fine)").matches;
  const hidden = new Set(); // architectures that are hidden in every plot
  const plots = [];
  Bokeh.logger.set_level("warn");

  const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const series = (look) => theme(`s${look % 8}`);
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  function number(value, beside = 0) {
    if (value === null || value === undefined || Number.isNaN(value)) return "-";
    const size = Math.max(Math.abs(value), Math.abs(beside));
    const digits = size < 1 ? 3 : Math.max(2 - Math.floor(Math.log10(size)), 0);
    const text = value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return text.replace(/^-(?=[0.,]*$)/, "").replace("-", "\u2212");
  }
  const place = (x) => (Number.isInteger(x) ? x.toLocaleString("en") : x.toLocaleString("en", { maximumSignificantDigits: 3 }));
  const floats = (values) => Float64Array.from(values, (v) => (v === null ? NaN : v));

  // A piece of the line as it is drawn, so that legends can be read in grey too.
  function swatch(line) {
    const space = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(space, "svg");
    const stroke = document.createElementNS(space, "path");
    const dash = dashes[line.look % 8];
    drawing.setAttribute("viewBox", "0 0 24 8");
    drawing.setAttribute("class", "swatch");
    drawing.setAttribute("aria-hidden", "true");
    stroke.setAttribute("d", "M0 4h24");
    stroke.style.stroke = `var(--s${line.look % 8})`;
    if (dash !== "solid") stroke.setAttribute("stroke-dasharray", dash.join(" "));
    drawing.append(stroke);
    return drawing;
  }

  function key(line) {
    const button = make("button", "toggle");
    button.type = "button";
    button.append(swatch(line), line.name);
    if (line.n) button.append(" ", make("span", "small", `n = ${line.n}`));
    return button;
  }

  class Plot {
    constructor(figure, spec) {
      this.lines = spec.lines.map((line) => ({ ...line, shown: true, glyphs: [] }));
      this.spec = spec;
      this.live = make("div", "live");
      const legend = make("div", "legend");
      for (const line of this.lines) {
        line.button = key(line);
        line.button.addEventListener("click", () => this.show(line, !line.shown));
        legend.append(line.button);
      }
      const box = make("div", "plot");
      box.setAttribute("role", "img");
      box.setAttribute("aria-label", spec.caption);
      this.tip = make("div", "tip");
      this.tip.hidden = true;
      const stage = make("div", "stage");
      stage.append(box, this.tip);
      this.live.append(make("div", "title", spec.title), legend, stage);
      figure.prepend(this.live);
      this.draw();
      this.paint();
      for (const line of this.lines) this.show(line, !hidden.has(line.name));
      Bokeh.Plotting.show(this.figure, box).then(() => figure.classList.add("is-live"));
    }

    draw() {
      const { spec } = this;
      const range = (ends, sources) => ends
        ? new Bokeh.Range1d({ start: ends[0], end: ends[1] })
        : new Bokeh.DataRange1d({ range_padding: 0.06, ...sources });
      this.figure = Bokeh.Plotting.figure({
        height: 290, sizing_mode: "stretch_width", toolbar_location: null, tools: "", min_border_right: 14,
        x_axis_type: spec.logarithmic ? "log" : "linear",
        x_range: range(spec.x_range), y_range: range(spec.y_range),
        x_axis_label: spec.x_label, y_axis_label: spec.y_label,
      });
      for (const line of this.lines) {
        const data = { x: floats(line.x), mean: floats(line.mean) };
        if (line.low) Object.assign(data, { low: floats(line.low), high: floats(line.high) });
        (line.runs || []).forEach((run, i) => { data[`run${i}`] = floats(run); });
        const source = new Bokeh.ColumnDataSource({ data });
        const at = (field) => ({ source, x: { field: "x" }, y: { field } });
        const add = (glyph, part) => line.glyphs.push([glyph, part]);
        if (line.low) {
          const band = { source, x: { field: "x" }, y1: { field: "low" }, y2: { field: "high" }, fill_alpha: 0.16 };
          add(this.figure.varea(band), "fill");
        }
        (line.runs || []).forEach((_, i) => add(this.figure.line({ ...at(`run${i}`), line_width: 0.8, line_alpha: 0.5 }), "line"));
        add(this.figure.line({ ...at("mean"), line_width: 2, line_dash: dashes[line.look % 8] }), "line");
        if (spec.marked) add(this.figure.scatter({ ...at("mean"), marker: marks[line.look % 8], size: 6 }), "mark");
      }
      if (Math.max(...this.lines.flatMap((line) => line.x)) >= 1000) {
        this.figure.xaxis.formatter = new Bokeh.NumeralTickFormatter({ format: "0[.]0a" });
      }
      if (spec.ticks.length) this.figure.xaxis.ticker = new Bokeh.FixedTicker({ ticks: spec.ticks });
      this.cursor = new Bokeh.Span({ dimension: "height", location: 0, visible: false, line_width: 1 });
      this.figure.add_layout(this.cursor);
      this.figure.toolbar.visible = false; // else its overflow button shows, at a width of nothing
      this.places = [...new Set(this.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
      if (fine) {
        const zoom = new Bokeh.BoxZoomTool({ dimensions: "width" });
        Object.assign(zoom.overlay, { line_color: null, fill_color: "gray", fill_alpha: 0.2 });
        this.figure.add_tools(zoom);
        this.figure.on_event("doubletap", () => this.figure.reset.emit());
      }
      this.figure.on_event("mousemove", (event) => this.point(event));
      this.figure.on_event("tap", (event) => this.point(event));
      this.figure.on_event("mouseleave", () => this.leave());
    }

    // Colours follow the page's: Bokeh draws on a canvas, which knows no stylesheet.
    paint() {
      const [ink, soft, rule] = ["ink", "soft", "line"].map(theme);
      const font = getComputedStyle(document.body).fontFamily;
      const clear = "transparent";
      Object.assign(this.figure, { background_fill_color: clear, border_fill_color: clear, outline_line_color: null });
      for (const axis of [this.figure.xaxis, this.figure.yaxis]) {
        Object.assign(axis, {
          axis_label_text_color: ink, axis_label_text_font: font, axis_label_text_font_style: "normal", axis_label_text_font_size: "12px",
          major_label_text_color: ink, major_label_text_font: font, major_label_text_font_size: "11px",
          axis_line_color: soft, major_tick_line_color: soft, minor_tick_line_color: null, major_tick_in: 0,
        });
      }
      for (const grid of [this.figure.xgrid, this.figure.ygrid]) grid.grid_line_color = rule;
      this.cursor.line_color = soft;
      for (const line of this.lines) {
        const colour = series(line.look);
        for (const [renderer, part] of line.glyphs) {
          if (part !== "line") renderer.glyph.fill_color = colour;
          if (part !== "fill") renderer.glyph.line_color = colour;
        }
      }
    }

    show(line, shown) {
      line.shown = shown;
      for (const [renderer] of line.glyphs) renderer.visible = shown;
      line.button.setAttribute("aria-pressed", String(shown));
    }

    // The values of every shown line at the place that is nearest to the pointer.
    point(event) {
      const scale = this.spec.logarithmic ? Math.log : (v) => v;
      const { start, end } = this.figure.x_range;
      const among = this.places.filter((x) => x >= start && x <= end);
      if (!among.length) return this.leave();
      const far = (x) => Math.abs(scale(x) - scale(event.x));
      const x = among.reduce((best, each) => (far(each) < far(best) ? each : best));
      const table = make("table");
      table.createCaption().textContent = `${place(x)} ${this.spec.x_label}`;
      for (const line of this.lines) {
        const i = line.x.indexOf(x);
        if (!line.shown || i < 0 || line.mean[i] === null) continue;
        const row = table.insertRow();
        const name = make("th");
        name.append(swatch(line), line.name);
        const band = line.low && line.low[i] !== null ? [line.low[i], line.high[i]] : null;
        const runs = line.runs ? line.runs.map((run) => run[i]).filter((v) => v !== null) : [];
        const widest = Math.max(...[line.mean[i], ...(band || []), ...runs].map(Math.abs));
        const rest = band ? `[${band.map((v) => number(v, widest)).join(", ")}]`
          : runs.length ? `runs: ${runs.map((v) => number(v, widest)).join(", ")}` : "";
        row.append(name, make("td", "", number(line.mean[i], widest)), make("td", "small", rest));
      }
      if (!table.rows.length) return this.leave();
      this.cursor.location = x;
      this.cursor.visible = true;
      this.tip.replaceChildren(table);
      this.tip.hidden = false;
      const room = this.tip.parentElement.clientWidth - this.tip.offsetWidth;
      const left = event.sx + 16 <= room ? event.sx + 16 : event.sx - 16 - this.tip.offsetWidth;
      this.tip.style.left = `${Math.max(0, Math.min(left, room))}px`;
      this.tip.style.top = `${Math.max(0, event.sy - this.tip.offsetHeight / 2)}px`;
    }

    leave() {
      this.cursor.visible = false;
      this.tip.hidden = true;
    }
  }

  // One legend for all plots, above the first of them.
  for (const place of document.querySelectorAll("[data-legend]")) {
    const lines = new Map(Object.values(specs).flatMap((spec) => spec.lines.map((line) => [line.name, line])));
    const sorted = [...lines.values()].sort((a, b) => a.look - b.look);
    if (sorted.length < 2) continue;
    for (const line of sorted) {
      const button = key({ name: line.name, look: line.look });
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const shown = hidden.delete(line.name);
        if (!shown) hidden.add(line.name);
        button.setAttribute("aria-pressed", String(shown));
        for (const plot of plots) for (const each of plot.lines) if (each.name === line.name) plot.show(each, shown);
      });
      place.append(button);
    }
    place.hidden = false;
  }

  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      plots.push(new Plot(target, specs[target.dataset.plot]));
    }
  }, { rootMargin: "400px 0px" });
  for (const figure of document.querySelectorAll("[data-plot]")) near.observe(figure);
  scheme.addEventListener("change", () => plots.forEach((plot) => plot.paint()));
})();
