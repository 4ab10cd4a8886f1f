// Wakes the dividers of a page (dabook/show/divider.py) that are not awake: once each, however often it is read.
(() => {
  for (const box of document.querySelectorAll(".dalib-divider:not([data-awake])")) {
    const live = box.querySelector(".dalib-divider-live");
    const stage = box.querySelector(".dalib-divider-stage");
    const range = box.querySelector("input[type=range]");
    const [left, right] = box.querySelectorAll("select");
    const stills = [...box.querySelectorAll(".dalib-divider-stills figure")];
    const title = box.getAttribute("aria-label");

    const add = (tag, name) => {
      const made = document.createElement(tag);
      made.className = name;
      made.setAttribute("aria-hidden", "true");
      if (tag === "img") { made.alt = ""; made.draggable = false; }
      stage.append(made);
      return made;
    };
    const under = add("img", "under dark-light"), over = add("img", "over dark-light");
    add("div", "line");
    const first = add("span", "name first"), second = add("span", "name second");

    const label = (choice) => choice.options[choice.selectedIndex].text;
    const place = () => {
      stage.style.setProperty("--at", range.value + "%");
      range.setAttribute("aria-valuetext", `${range.value} % ${label(left)}, the rest ${label(right)}`);
    };
    const fill = () => {
      over.src = stills[left.value].querySelector("img").src;
      under.src = stills[right.value].querySelector("img").src;
      first.textContent = label(left);
      second.textContent = label(right);
      stage.setAttribute("aria-label", `${title}: ${label(left)} left of the divider, ${label(right)} right of it`);
      place();
    };
    // a view that is chosen for one side leaves the other
    let shown = [left.value, right.value];
    const choose = (side) => {
      if (left.value === right.value) [left, right][1 - side].value = shown[side];
      shown = [left.value, right.value];
      fill();
    };
    [left, right].forEach((choice, side) => choice.addEventListener("change", () => choose(side)));

    const follow = (event) => {
      const edge = stage.getBoundingClientRect();
      range.value = Math.round(100 * (event.clientX - edge.left) / edge.width);
      place();
    };
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      stage.setPointerCapture(event.pointerId);
      follow(event);
    });
    stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) follow(event); });
    range.addEventListener("input", place);

    fill();
    live.hidden = false;
    box.dataset.awake = "";
  }
})();
