// Makes the page of the printed book (dabook/site/printed.py) ready: formulas are typeset, and what is too wide is
// made smaller. What could not be done is marked, and nothing is printed then.
(async () => {
  const main = document.querySelector("main");
  await new Promise((go) => (document.readyState === "complete" ? go() : addEventListener("load", go)));
  await window.MathJax?.startup?.promise;
  for (const formula of document.querySelectorAll(".math")) {
    if (formula.querySelector("mjx-merror, [data-mjx-error]") || !formula.querySelector("mjx-container")) {
      formula.dataset.undone = "a formula";
    }
  }

  for (const image of document.images) if (!image.naturalWidth) image.dataset.undone = `a picture, ${image.alt || "without a text"}`;

  // figures of notebooks have 144 pixels an inch; the widest is as wide as the page, and others keep the size of their text
  for (const image of main.querySelectorAll('img[src*="_images/"][src$=".png"]')) image.style.width = `${(0.8 * 96 / 144) * image.naturalWidth}px`;

  const page = 225 / 25.4 * 96; // pixels of its height
  for (const frame of document.querySelectorAll("iframe[srcdoc]")) {
    // a page within the page: as much of it as stands on one sheet
    frame.style.height = `${Math.min(page, frame.contentDocument.documentElement.scrollHeight + 2)}px`;
  }

  // first what stands inside others
  const width = (box) => {
    const style = getComputedStyle(box);
    return box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  };
  const wide = [...main.querySelectorAll("table, mjx-container[display=true] > svg, .output > div")].reverse();
  for (const part of wide) {
    let room = part.parentElement;
    while (getComputedStyle(room).display.startsWith("inline") || room.tagName === "MJX-CONTAINER") room = room.parentElement;
    const factor = width(room) / Math.max(part.scrollWidth ?? 0, part.getBoundingClientRect().width);
    if (factor < 0.995) part.style.zoom = factor.toFixed(3);
  }
  // Chromium would shrink the whole book for one thing that is wider than the page
  const edge = main.getBoundingClientRect().right + 2;
  const beyond = () =>
    [...main.querySelectorAll("*")].filter((part) => {
      if (part.closest("svg, mjx-assistive-mml, nav")) return false;
      const box = part.getBoundingClientRect();
      return box.width && box.right > edge;
    });
  for (const part of beyond()) {
    const box = part.getBoundingClientRect();
    if (box.right > edge) part.style.zoom = ((edge - 2 - box.left) / box.width) * (part.currentCSSZoom || 1);
  }
  for (const part of beyond()) part.dataset.undone = `what is wider than the page (${part.tagName.toLowerCase()})`;
  document.documentElement.dataset.ready = "";
})();
