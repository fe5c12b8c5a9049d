"use strict";
// Hover values, methods to show or hide, tables to sort. Everything can be read without.
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const make = (tag, text, name) =>
    Object.assign(document.createElement(tag), {textContent: text, className: name || ""});

  const tip = make("div", "", "tip");
  tip.setAttribute("role", "status");
  document.body.append(tip);
  const show = (lines, x, y) => {
    tip.replaceChildren(...lines);
    tip.style.display = "block";
    const box = tip.getBoundingClientRect();
    const left = Math.min(x + 14, document.documentElement.clientWidth - box.width - 8);
    const top = y + 16 + box.height > innerHeight ? y - box.height - 10 : y + 16;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  };
  const hide = () => { tip.style.display = "none"; };

  for (const element of all("[data-tip]")) {
    element.querySelector(":scope > title")?.remove(); // one tooltip is enough
    const text = () => [make("div", element.dataset.tip)];
    element.addEventListener("pointermove", (event) => {
      event.stopPropagation();
      show(text(), event.clientX, event.clientY);
    });
    element.addEventListener("pointerleave", hide);
    element.addEventListener("focus", () => {
      const box = element.getBoundingClientRect();
      show(text(), box.left, box.bottom - 8);
    });
    element.addEventListener("blur", hide);
  }

  // The values of all curves at the pointer's place.
  const short = (v) => Math.abs(v) >= 1e-3 && Math.abs(v) < 1e4
    ? v.toPrecision(3) : v === 0 ? "0" : v.toExponential(1);
  const inverse = ([low, high, start, end, log]) => (at) => {
    const share = (at - start) / (end - start);
    return log ? low * (high / low) ** share : low + share * (high - low);
  };
  for (const panel of all("svg.panel")) {
    const lines = all("g.line:not(.faint)", panel);
    if (!lines.length) continue;
    for (const line of lines) line.querySelector("title")?.remove();
    const scale = JSON.parse(panel.dataset.scale);
    const x = inverse(scale.x), y = inverse(scale.y);
    const cursor = panel.querySelector(".cursor");
    const points = lines.map((line) => all("polyline", line).flatMap((part) =>
      part.getAttribute("points").split(" ").map((p) => p.split(",").map(Number))));
    panel.addEventListener("pointermove", (event) => {
      const box = panel.getBoundingClientRect();
      const at = (event.clientX - box.left) / box.width * 420;
      if (at < scale.x[2] - 4 || at > scale.x[3] + 4) { cursor.style.display = "none"; return hide(); }
      let place = null;
      const found = [];
      lines.forEach((line, i) => {
        if (line.classList.contains("off") || !points[i].length) return;
        const near = points[i].reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
        if (place === null || Math.abs(near[0] - at) < Math.abs(place - at)) place = near[0];
        found.push([line, near]);
      });
      if (place === null) return hide();
      const seen = found.filter(([, near]) => Math.abs(near[0] - place) < 6)
        .sort((a, b) => a[1][1] - b[1][1]);
      const rows = seen.slice(0, 12).map(([line, near]) => {
        const row = make("div", `${line.dataset.label}: ${short(y(near[1]))}`);
        row.prepend(make("span", "", "swatch"));
        row.style.setProperty("--c", line.style.getPropertyValue("--c"));
        return row;
      });
      if (seen.length > 12) rows.push(make("div", `and ${seen.length - 12} more`, "soft"));
      cursor.setAttribute("transform", `translate(${place} 0)`);
      cursor.style.display = "inline";
      show([make("div", `at ${short(x(place))}`, "soft"), ...rows], event.clientX, event.clientY);
    });
    panel.addEventListener("pointerleave", () => { cursor.style.display = "none"; hide(); });
  }

  // The legend's methods become buttons.
  for (const item of all(".legend [data-method]")) {
    const button = make("button", "", item.className);
    button.type = "button";
    button.append(...item.childNodes);
    button.style.cssText = item.style.cssText;
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const other of all("[data-m]:not(.row)"))
        if (other.dataset.m === item.dataset.method) other.classList.toggle("off", !on);
    });
    item.replaceWith(button);
  }
  document.documentElement.classList.add("script");

  // A click on a head sorts by its column: numbers first, then text.
  const value = (row, column) => {
    const cell = row.cells[column];
    const number = parseFloat(cell?.dataset.v ?? cell?.textContent.replaceAll(",", ""));
    return Number.isNaN(number) ? cell?.textContent.trim() ?? "" : number;
  };
  const before = (a, b) => typeof a === typeof b
    ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  for (const table of all("table.sorts")) {
    all("thead th", table).forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = make("button", "", "sort");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of all("th", table.tHead)) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => (up ? 1 : -1) * before(value(a, column), value(b, column)));
        table.tBodies[0].append(...rows);
      });
    });
  }
})();
