// A figure that was chosen keeps the keys that it answers to, but for two: PageDown and PageUp, which a presenter sends, always turn
// the page. A key that the speaker's window passes on has no target; it is meant for the slides.
const FIGURE = ".kept, input, select, textarea, button";
const leave = () => document.activeElement?.closest(FIGURE) && document.activeElement.blur();
const forSlides = ({ target }) => {
  if (!target) leave(); // else reveal.js would still refuse it
  return !target?.closest?.(FIGURE);
};
const TURNS = { PageDown: () => Reveal.next(), PageUp: () => Reveal.prev() };
const turn = (event) => {
  if (!TURNS[event.key] || event.altKey || event.ctrlKey || event.metaKey || forSlides(event)) return;
  event.preventDefault(); // a slider would jump
  event.stopPropagation();
  leave();
  TURNS[event.key]();
};
addEventListener("keydown", turn, true);

// Starts a lecture.
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
  pdfMaxPagesPerSlide: 1,
  keyboardCondition: forSlides,
  plugins: [RevealHighlight, RevealNotes],
});

// A figure that moves, or a table, of the book: as wide as it has to be to stand on the slide with the largest words.
const ROOM = { width: 1200, height: 560 };
const fit = (slide) => {
  for (const box of slide?.querySelectorAll(".kept:not([data-fits])") ?? []) {
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
const shrink = (slide) => {
  if (!slide || slide.dataset.shrunk !== undefined) return;
  slide.dataset.shrunk = "";
  for (let size = 34; size >= 20 && slide.scrollHeight > slide.clientHeight + 1; size -= 2) slide.style.fontSize = `${size}px`;
};
const arrange = (slide) => { fit(slide); shrink(slide); };
for (const name of ["ready", "slidechanged"]) Reveal.on(name, () => Reveal.isPrintView() || arrange(Reveal.getCurrentSlide()));
Reveal.on("pdf-ready", () => Reveal.getSlides().forEach(arrange)); // ?print-pdf has all slides at once
