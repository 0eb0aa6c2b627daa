"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);
  const root = document.documentElement;

  // The sliders set one CSS variable, which every overlay's opacity is.
  const setOpacity = (value) => {
    root.style.setProperty("--opacity", value / 100);
    for (const slider of all("input.opacity")) slider.value = value;
    for (const output of all(".opacity-value")) output.textContent = `${value} %`;
  };
  for (const slider of all("input.opacity")) {
    slider.addEventListener("input", () => setOpacity(slider.value));
  }

  one("outlines")?.addEventListener("change", (event) => {
    document.body.classList.toggle("no-outlines", !event.target.checked);
  });

  // Filters hide what does not match; values are positions, never names.
  const filter = () => {
    const label = one("filter-label").value, model = one("filter-model").value;
    const verdict = one("filter-verdict").value;
    const shown = new Set(all(".methods input:checked").map((box) => box.value));
    for (const cell of all(".cell[data-method]")) cell.hidden = !shown.has(cell.dataset.method);
    let left = 0;
    for (const panel of all(".panel")) {
      let rows = 0;
      for (const row of all(".row", panel)) {
        row.hidden = (model !== "" && row.dataset.model !== model)
          || (verdict !== "" && row.dataset.right !== verdict);
        rows += row.hidden ? 0 : 1;
      }
      panel.hidden = rows === 0 || (label !== "" && panel.dataset.label !== label);
      left += panel.hidden ? 0 : 1;
    }
    one("nothing-left").hidden = left > 0;
  };
  for (const control of all(".controls select, .methods input")) {
    control.addEventListener("change", filter);
  }
  if (one("filter-label")) {  // a reloaded page keeps its controls
    filter();
    setOpacity(one("opacity").value);
  }

  // A click enlarges a picture; the slider keeps working on it.
  const dialog = one("enlarged");
  document.addEventListener("click", (event) => {
    const view = event.target.closest("button.view");
    if (!view || !dialog || dialog.contains(view)) return;
    const large = document.createElement("div");
    large.className = view.className;
    for (const child of view.children) large.append(child.cloneNode(true));
    one("enlarged-view").replaceChildren(large);
    one("enlarged-caption").textContent = view.getAttribute("aria-label");
    dialog.showModal();
  });
  dialog?.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.id === "enlarged-close") dialog.close();
  });

  // The table of contents follows the reader.
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const visible = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) visible.add(target.id); else visible.delete(target.id);
    }
    const here = [...links.keys()].find((id) => visible.has(id));
    if (here) for (const [id, link] of links) link.classList.toggle("here", id === here);
  }, { rootMargin: "-10% 0px -60% 0px" });
  for (const section of all("main section[id]")) watcher.observe(section);
})();
