// Starts a lecture. Keys that a figure answers to turn no slide.
Reveal.initialize({
  width: 1280,
  height: 720,
  margin: 0.05,
  center: false,
  hash: true,
  slideNumber: "c/t",
  transition: "none",
  backgroundTransition: "none",
  pdfSeparateFragments: false,
  keyboardCondition: (event) => !event.target.closest?.(".kept, input, select, textarea, button"),
  plugins: [RevealHighlight, RevealNotes],
});

// A figure that moves, or a table, of the book: as wide as it has to be to stand on the slide with the largest words.
const ROOM = { width: 1200, height: 560 };
const fit = () => {
  for (const box of Reveal.getCurrentSlide()?.querySelectorAll(".kept:not([data-fits])") ?? []) {
    const part = box.querySelector(".dalib-touch, .dalib-divider, table");
    box.dataset.fits = "";
    if (!part) continue;
    const factor = (width) => {
      part.style.zoom = "";
      if (part.tagName !== "TABLE") part.style.maxWidth = part.style.width = `${width}px`;
      return Math.min(1, ROOM.height / box.scrollHeight, ROOM.width / Math.max(part.scrollWidth, width));
    };
    const widths = part.tagName === "TABLE" ? [0] : [1200, 1050, 900, 750, 620];
    const best = widths.reduce((one, other) => (factor(other) > factor(one) + 0.01 ? other : one));
    part.style.zoom = factor(best).toFixed(3);
  }
};
// Sentences that are computed may be long: smaller letters, where they would leave the slide.
const shrink = () => {
  const slide = Reveal.getCurrentSlide();
  if (!slide || slide.dataset.shrunk !== undefined) return;
  slide.dataset.shrunk = "";
  for (let size = 34; size >= 20 && slide.scrollHeight > slide.clientHeight + 1; size -= 2) slide.style.fontSize = `${size}px`;
};
for (const name of ["ready", "slidechanged"]) Reveal.on(name, () => { fit(); shrink(); });
