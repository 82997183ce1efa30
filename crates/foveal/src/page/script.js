"use strict";
/* Tables: a click on a heading sorts the rows, numbers by their values, the largest first; a second click reverses. */
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const numeric = head.classList.contains("n");
    const first = numeric ? "descending" : "ascending";
    const other = numeric ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => {
      const cell = row.cells[column];
      return numeric ? parseFloat(cell.dataset.v) : cell.textContent;
    };
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!numeric) return sign * x.localeCompare(y);
      /* Cells without a number stay at the end. */
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  }));
}
const counted = (number, thing) => `${number} ${thing}${number === 1 ? "" : "s"}`;
/* Grids of images: the slider hides detections below its score, and an object is missed if no detection that is left
   found it. */
for (const gallery of document.querySelectorAll(".gallery")) {
  const control = (name) => gallery.querySelector(".controls ." + name);
  const [slider, select, order, only] = ["score", "class", "order", "only"].map(control);
  const list = gallery.querySelector(".cards");
  const cards = [...list.children].map((item) => ({
    item,
    index: Number(item.dataset.i),
    name: item.querySelector(".name").textContent,
    said: item.querySelector(".said"),
    image: item.querySelector("img"),
    marks: [...item.querySelectorAll("g")].map((mark) => ({
      mark,
      kind: mark.classList[0],
      /* Without a slider, a mark keeps the state that it has in the page. */
      bad: mark.classList.contains("bad"),
      class: mark.dataset.c,
      found: parseFloat(mark.dataset.f),
      score: parseFloat(mark.dataset.s),
      ok: "ok" in mark.dataset,
    })),
  }));
  const update = () => {
    const score = slider ? parseFloat(slider.value) : 0;
    const wanted = select ? select.value : "";
    let [images, allMissed, allFalse] = [0, 0, 0];
    for (const card of cards) {
      let [objects, missed, falseAlarms, any] = [0, 0, 0, false];
      for (const { mark, kind, bad: first, class: own, found, score: scored, ok } of card.marks) {
        const off = (wanted !== "" && own !== wanted) || (kind === "d" && scored < score);
        const wrong = kind === "o" ? !(found >= score) : kind === "d" && !ok;
        const bad = !off && (slider ? wrong : first);
        mark.setAttribute("class", kind + (off ? " off" : "") + (bad ? " bad" : ""));
        if (off) continue;
        any = true;
        objects += kind === "o";
        missed += bad && kind === "o";
        falseAlarms += bad && kind === "d";
      }
      card.missed = missed;
      card.falseAlarms = falseAlarms;
      if (slider) {
        card.said.textContent = `${counted(objects, "object")}, ${missed} missed, ${counted(falseAlarms, "false alarm")}`;
        card.image.alt = `${card.name}: ${card.said.textContent}`;
      }
      card.item.hidden = (wanted !== "" && !any) || Boolean(only && only.checked && missed + falseAlarms === 0);
      if (!card.item.hidden) {
        images += 1;
        allMissed += missed;
        allFalse += falseAlarms;
      }
    }
    if (slider) gallery.querySelector("output").textContent = score.toFixed(2);
    const errors = slider ? `: ${counted(allMissed, "object")} missed, ${counted(allFalse, "false alarm")}` : "";
    const status = gallery.querySelector(".status");
    if (status) status.textContent = `${images} of ${cards.length} images${errors}`;
  };
  const sort = () => {
    const keys = {
      errors: (card) => card.missed + card.falseAlarms,
      missed: (card) => card.missed,
      false: (card) => card.falseAlarms,
    };
    const key = keys[order.value];
    const byName = (a, b) => a.name.localeCompare(b.name) || a.index - b.index;
    const compare = key ? (a, b) => key(b) - key(a) || a.index - b.index : byName;
    list.append(...[...cards].sort(compare).map((card) => card.item));
  };
  for (const input of [slider, select, only]) {
    if (input) input.addEventListener("input", update);
  }
  if (slider) slider.addEventListener("change", sort);
  if (order) order.addEventListener("input", sort);
  update();
  if (order) sort();
}
/* An image opens in a dialog, with the boxes that its grid shows. */
const dialog = document.createElement("dialog");
dialog.setAttribute("aria-label", "Image");
const close = document.createElement("button");
close.type = "button";
close.textContent = "Close";
close.addEventListener("click", () => dialog.close());
const frame = document.createElement("div");
frame.className = "frame";
const caption = document.createElement("p");
dialog.append(close, frame, caption);
document.body.append(dialog);
for (const button of document.querySelectorAll(".cards .open")) {
  button.addEventListener("click", () => {
    frame.className = button.closest(".labels") ? "frame labels" : "frame";
    frame.replaceChildren(...[...button.children].map((child) => child.cloneNode(true)));
    caption.textContent = button.querySelector("img").alt;
    dialog.showModal();
  });
}
